//! The extension point `inference-backend` by any server that speaks OpenAI's protocol: vLLM, Vox's own
//! `vox serve`, OpenAI, and many others.
//!
//! ```toml
//! [plugin.openai.config]
//! url = "http://127.0.0.1:8000"
//! models = { "llama-3" = "meta-llama/Llama-3.1-8B-Instruct" }
//! ```
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `url` | | the server's address; `/v1` is added where it has no path |
//! | `key-file` | none | the file with the server's key, which only you can read |
//! | `key-env` | none | the environment variable with the key; for the native payload |
//! | `models` | `{}` | Vox's names of models, to the server's; others are asked for by Vox's name |
//! | `embeddings` | `[]` | Vox's names of those that make embeddings, and are not asked for answers |
//! | `context` | what the server says | most tokens of a prompt and its answer together, whatever the model |
//! | `tier` | none | its tier among the devices, 1 to 100 on the scale of `vox probe`; without one, servers come last |
//! | `timeout` | `300` | the longest time without a byte, in seconds, as before the first token |
//! | `continues` | `false` | how the server goes on with a conversation's answer that was begun: `true` by vLLM's fields, `"prefix"` by Mistral's, `"always"` without being told |
//! | `extensions` | `false` | whether it knows `top_k`, `min_p` and `repetition_penalty`; they are not sent otherwise |
//! | `max-tokens` | `"max_tokens"` | what it calls the most tokens of an answer; OpenAI's newest models want `"max_completion_tokens"` |
//!
//! - **It serves** what the server lists, and what `models` names even if the server does not list it.
//! - **Answers** are handed on as they come. One that breaks off is an error that says how far it came;
//!   nothing is asked twice.
//! - **Going on** with an answer that was begun: always after a text, for a conversation as `continues`
//!   says.
//! - **Cancelling** closes the connection at once.
//! - **The seed** is sent without its highest bit. At most four texts that end an answer are sent, as more
//!   are not taken everywhere; the host looks for all of them. What a model thinks before it answers is
//!   left out.

mod config;
#[cfg(test)]
mod tests;

use vox_plugin::host::generation::{self, Piece};
use vox_plugin::inference_backend::{
    Abilities, Embedded, Finished, Loaded, Model, Options, Request, Verdict,
};
use vox_plugin::{Error, InferenceBackend, Lifecycle, Result, plugin};
use vox_remote::openai::Listed;
use vox_remote::remote;

use crate::config::Config;

/// The plugin: a server, and a model of it once one is loaded.
#[plugin(lifecycle, inference_backend)]
struct OpenAiServer {
    config: Config,
    /// What the server has listed.
    listed: Option<Vec<Listed>>,
    /// The server's name of the model that is loaded.
    loaded: Option<String>,
}

impl Lifecycle for OpenAiServer {
    fn init(config: &str) -> Result<Self> {
        Ok(Self {
            config: Config::read(config)?,
            listed: None,
            loaded: None,
        })
    }
}

/// A model that the server serves.
struct Found {
    /// What the server says of it; its name alone where it does not list it.
    model: Listed,
    reason: String,
}

impl OpenAiServer {
    /// Looks a model up.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] where the server has none of the name, or as the server's list.
    fn find(&mut self, name: &str) -> Result<Found> {
        let mapped = self.config.models.get(name);
        let wanted = mapped.map_or(name, String::as_str);
        let address = self.config.client.server.address().clone();
        let known = self
            .listed
            .iter()
            .flatten()
            .find(|model| model.id == wanted);
        let listed = match known {
            Some(model) => Some(model.clone()),
            None => match self.config.client.models() {
                Ok(models) => {
                    let model = models.iter().find(|model| model.id == wanted).cloned();
                    self.listed = Some(models);
                    model
                }
                // It has no such list, which it need not.
                Err(Error::NotFound(_) | Error::Invalid(_)) if mapped.is_some() => None,
                Err(error) => return Err(error),
            },
        };
        match listed {
            Some(model) => Ok(Found {
                reason: format!("{address} has `{wanted}`"),
                model,
            }),
            None if mapped.is_some() => Ok(Found {
                model: Listed {
                    id: wanted.to_owned(),
                    ..Listed::default()
                },
                reason: format!(
                    "`models` says that {address} has `{wanted}`, which it does not list"
                ),
            }),
            None => {
                let names = self.listed.iter().flatten();
                let names = remote::some_of(names.map(|model| model.id.as_str()));
                Err(Error::NotFound(format!(
                    "{address} has no model `{wanted}`: {names}; `models` maps Vox's names to the server's"
                )))
            }
        }
    }

    fn device(&self) -> vox_plugin::compute::Device {
        remote::device(
            self.config.client.server.address(),
            "OpenAI-compatible server",
        )
    }

    fn model(&self) -> Result<&str> {
        self.loaded.as_deref().ok_or_else(remote::not_loaded)
    }

    fn answer(&self, request: &Request, emit: &mut dyn FnMut(&Piece) -> bool) -> Result<Finished> {
        self.config.client.predict(self.model()?, request, emit)
    }
}

impl InferenceBackend for OpenAiServer {
    fn capabilities(&mut self) -> Result<Abilities> {
        Ok(Abilities {
            devices: vec![self.device()],
            tier: self.config.tier,
            formats: Vec::new(),
            context: self.config.context,
            streaming: true,
            embeddings: true,
            log_probabilities: true,
            conversations: true,
            splitting: false,
        })
    }

    fn can_serve(&mut self, model: Model, options: Options) -> Result<Verdict> {
        let device = self.device();
        if let Err(why) = remote::check(&model, &options, &device) {
            return Ok(remote::refuses(why));
        }
        match self.find(&model.name) {
            Ok(found) => Ok(remote::serves(device, found.reason)),
            Err(Error::Cancelled) => Err(Error::Cancelled),
            Err(error) => Ok(remote::refuses(remote::reason(error))),
        }
    }

    fn load(&mut self, model: Model, options: Options) -> Result<Loaded> {
        if self.loaded.is_some() {
            return Err(remote::is_loaded());
        }
        let device = self.device();
        remote::check(&model, &options, &device).map_err(Error::NotFound)?;
        let found = self.find(&model.name)?.model;
        let meta = found.meta.unwrap_or_default();
        let embeds = self.config.embeddings.contains(&model.name);
        let dimensions = if embeds {
            let probe = ["a".to_owned()];
            self.config.client.embed(&found.id, &probe)?.numbers.len()
        } else {
            0
        };
        let said = found
            .max_model_len
            .or(found.context_length.filter(|&tokens| tokens > 0));
        // What a model was trained with is no more than a guess at what the server serves.
        let known = [self.config.context, said].into_iter().flatten().min();
        let context = known.or(meta.n_ctx_train);
        self.loaded = Some(found.id);
        Ok(Loaded {
            device,
            format: None,
            context: [options.context, context]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(0),
            vocabulary: meta.n_vocab.unwrap_or(0),
            layers: 0,
            memory: 0,
            dimensions: u32::try_from(dimensions).unwrap_or(u32::MAX),
            answers: !embeds,
        })
    }

    fn ready(&mut self) -> Result<()> {
        self.model()?;
        match self.config.client.models() {
            // It answers, and that is what is asked.
            Ok(_) | Err(Error::NotFound(_) | Error::Invalid(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn predict(&mut self, request: Request) -> Result<Finished> {
        self.answer(&request, &mut generation::emit)
    }

    fn embed(&mut self, texts: Vec<String>) -> Result<Embedded> {
        self.config.client.embed(self.model()?, &texts)
    }

    fn forward_layers(
        &mut self,
        _first: u32,
        _end: u32,
        _position: u32,
        _tokens: &[u32],
        _hidden: &[f32],
    ) -> Result<Vec<f32>> {
        Err(remote::whole_models_only())
    }

    fn unload(&mut self) -> Result<()> {
        self.loaded = None;
        Ok(())
    }
}
