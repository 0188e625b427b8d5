//! The extension point `inference-backend` by an Ollama server.
//!
//! ```toml
//! [plugin.ollama.config]
//! models = { "llama-3" = "llama3.1:8b" }
//! ```
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `url` | `"http://127.0.0.1:11434"` | the server's address |
//! | `models` | `{}` | Vox's names of models, to Ollama's; others are asked for by Vox's name |
//! | `context` | Ollama's own | most tokens of a prompt and its answer together |
//! | `tier` | none | its tier among the devices, 1 to 100 on the scale of `vox probe`; without one, servers come last |
//! | `timeout` | `300` | the longest time without a byte, in seconds, as while Ollama loads a model |
//! | `continues` | `false` | whether the models go on with a conversation's answer that was begun, which their templates decide |
//!
//! - **It serves** what the server has: nothing is pulled.
//! - **Texts** go to `/api/generate` as they are, conversations to `/api/chat`, where the model's own
//!   template is applied. Prompts of tokens are not taken.
//! - **Answers** are handed on as they come. One that breaks off is an error that says how far it came;
//!   nothing is asked twice. Log-probabilities come from Ollama 0.12.11 on.
//! - **Cancelling** closes the connection at once.
//! - **The seed** is sent with its lowest 31 bits. What a model thinks before it answers is left out.
//! - **Unloading** leaves the model in Ollama's memory, as others may use it.

mod config;
mod protocol;
#[cfg(test)]
mod tests;

use vox_plugin::host::generation::{self, Piece};
use vox_plugin::inference_backend::{
    Abilities, Embedded, Finished, Loaded, Model, Options, Request, Verdict,
};
use vox_plugin::{Error, InferenceBackend, Lifecycle, Result, plugin};
use vox_remote::remote;

use crate::config::Config;
use crate::protocol::{Asking, Shown, Tag};

/// The plugin: a server, and a model of it once one is loaded.
#[plugin(lifecycle, inference_backend)]
#[derive(Debug)]
struct Ollama {
    config: Config,
    loaded: Option<Serving>,
}

/// A model that is loaded.
#[derive(Debug)]
struct Serving {
    /// Ollama's name of it.
    model: String,
    context: Option<u32>,
}

impl Lifecycle for Ollama {
    fn init(config: &str) -> Result<Self> {
        Ok(Self {
            config: Config::read(config)?,
            loaded: None,
        })
    }
}

impl Ollama {
    /// Looks a model up.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] where the server has none of the name, or as the server's list.
    fn find(&self, name: &str) -> Result<Tag> {
        let wanted = self.config.models.get(name).map_or(name, String::as_str);
        let tags = protocol::tags(&self.config.server)?;
        // Without a tag it is the latest, as for Ollama itself.
        let latest = format!("{wanted}:latest");
        let found = tags
            .iter()
            .find(|tag| tag.name == wanted || tag.name == latest);
        found.cloned().ok_or_else(|| {
            let names = remote::some_of(tags.iter().map(|tag| tag.name.as_str()));
            Error::NotFound(format!(
                "{} has no model `{wanted}`: {names}; get it with `ollama pull`, or map Vox's names to \
                 Ollama's with `models`",
                self.config.server.address()
            ))
        })
    }

    fn device(&self) -> vox_plugin::compute::Device {
        remote::device(self.config.server.address(), "Ollama")
    }

    fn serving(&self) -> Result<&Serving> {
        self.loaded.as_ref().ok_or_else(remote::not_loaded)
    }

    fn answer(&self, request: &Request, emit: &mut dyn FnMut(&Piece) -> bool) -> Result<Finished> {
        let serving = self.serving()?;
        let asking = Asking {
            model: &serving.model,
            context: serving.context,
            continues: self.config.continues,
        };
        protocol::predict(&self.config.server, asking, request, emit)
    }
}

/// Length of a model's embeddings; 0 where it makes none.
fn dimensions(shown: &Shown) -> u32 {
    let length = shown.number("embedding_length");
    length.filter(|_| shown.can("embedding")).unwrap_or(0)
}

impl InferenceBackend for Ollama {
    fn capabilities(&mut self) -> Result<Abilities> {
        Ok(Abilities {
            devices: vec![self.device()],
            tier: self.config.tier,
            formats: Vec::new(),
            // `context` is what it takes where nothing is asked for.
            context: None,
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
            Ok(tag) => {
                let megabytes = tag.size / 1_000_000;
                let reason = format!("{} has `{}` ({megabytes} MB)", device.id, tag.name);
                Ok(remote::serves(device, reason))
            }
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
        let tag = self.find(&model.name)?;
        let shown = protocol::show(&self.config.server, &tag.name)?;
        let asked = options.context.or(self.config.context);
        let most = shown.number("context_length").unwrap_or(u32::MAX);
        let context = asked.map(|context| context.min(most));
        self.loaded = Some(Serving {
            model: tag.name,
            context,
        });
        Ok(Loaded {
            device,
            format: None,
            context: context.unwrap_or(0),
            vocabulary: shown.number("vocab_size").unwrap_or(0),
            layers: shown.number("block_count").unwrap_or(0),
            memory: 0,
            dimensions: dimensions(&shown),
            // A server that is too old to say what a model can do is believed to serve one that answers.
            answers: shown.capabilities.is_empty() || shown.can("completion"),
        })
    }

    fn ready(&mut self) -> Result<()> {
        self.serving()?;
        protocol::tags(&self.config.server).map(|_| ())
    }

    fn predict(&mut self, request: Request) -> Result<Finished> {
        self.answer(&request, &mut generation::emit)
    }

    fn embed(&mut self, texts: Vec<String>) -> Result<Embedded> {
        protocol::embed(&self.config.server, &self.serving()?.model, &texts)
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
