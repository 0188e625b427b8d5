//! The extension point `inference-backend` by llama.cpp: a `llama-server` that this plugin starts, watches
//! and ends.
//!
//! ```toml
//! [plugin.llama-cpp.config]
//! models = { "smollm2" = "~/models/smollm2-135m-q8_0.gguf" }
//! ```
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `program` | `"llama-server"` | the program: a name in `PATH`, or a path |
//! | `models` | `{}` | Vox's names of models, to GGUF files; others have one beside their bundle |
//! | `threads` | as the host says | threads on the processor |
//! | `context` | as the host says, or the model's own | most tokens of a prompt and its answer together |
//! | `gpu-layers` | what fits | layers on the graphics processor (`-ngl`) |
//! | `rpc` | `[]` | `rpc-server`s that compute with it, as `host:port`; of the same build of llama.cpp |
//! | `parallel` | `1` | answers at a time, each with a whole context |
//! | `arguments` | `[]` | further arguments of `llama-server` |
//! | `start-timeout` | `300` | how long a start may take, in seconds |
//! | `timeout` | `300` | the longest time without a byte of an answer, in seconds |
//!
//! | module | owns |
//! |---|---|
//! | `config` | the settings |
//! | `gguf` | what a file says of its model |
//! | `devices` | the program, and what it can compute on |
//! | `model` | which file a model is, and what the server is told to do with it |
//! | `process` | the process, which is never left behind |
//! | `server` | the server: its port, its key, its readiness, and who shares it |
//!
//! - **One server for each model**, on loopback with a random key. Instances that load the same share it;
//!   it ends with the last of them, and with the host however that ends.
//! - **A server that dies** is noticed: the answer is an error that says how it ended and what it said
//!   last. A `load` starts another.
//! - **What it says** goes to the log, at level `debug`.
//! - **Conversations** become text by the template in the file.
//! - **Penalties** count the prompt's tokens too, also those for presence and frequency.

mod config;
mod devices;
mod gguf;
mod model;
mod process;
mod server;
#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use vox_plugin::host::generation::{self, Piece};
use vox_plugin::inference_backend::{
    Abilities, Embedded, Finished, Loaded, Model, Options, Request, Verdict,
};
use vox_plugin::lifecycle::Condition;
use vox_plugin::{Error, InferenceBackend, Lifecycle, Result, plugin};
use vox_remote::remote;

use crate::config::Config;
use crate::model::Plan;
use crate::server::LlamaServer;

/// What the server is asked for; it has one model, whatever its name.
const MODEL: &str = "default";

/// The plugin, and its server once a model is loaded.
#[plugin(lifecycle, inference_backend)]
#[derive(Debug)]
struct LlamaCpp {
    config: Config,
    server: Option<Arc<LlamaServer>>,
}

impl Lifecycle for LlamaCpp {
    fn init(config: &str) -> Result<Self> {
        Ok(Self {
            config: Config::read(config)?,
            server: None,
        })
    }

    fn health(&mut self) -> Condition {
        match self
            .server
            .as_ref()
            .and_then(|server| server.process.ended())
        {
            Some(how) => Condition::Failing(format!("llama-server is gone: {how}")),
            None => Condition::Ready,
        }
    }

    fn shutdown(&mut self) -> Result<()> {
        self.server = None;
        Ok(())
    }
}

impl LlamaCpp {
    fn server(&self) -> Result<&LlamaServer> {
        self.server.as_deref().ok_or_else(remote::not_loaded)
    }

    fn answer(&self, request: &Request, emit: &mut dyn FnMut(&Piece) -> bool) -> Result<Finished> {
        let server = self.server()?;
        let finished = server.client.predict(MODEL, request, emit);
        finished.map_err(|error| server.explain(error))
    }
}

impl InferenceBackend for LlamaCpp {
    fn capabilities(&mut self) -> Result<Abilities> {
        let program = devices::program(&self.config.program).map_err(Error::Unavailable)?;
        let devices = devices::list(&program).into_iter();
        Ok(Abilities {
            devices: devices.map(|known| known.device).collect(),
            tier: None,
            formats: Vec::new(),
            context: None,
            streaming: true,
            embeddings: true,
            log_probabilities: true,
            conversations: true,
            splitting: false,
        })
    }

    fn can_serve(&mut self, model: Model, options: Options) -> Result<Verdict> {
        Ok(match Plan::new(&self.config, &model, &options) {
            Ok(plan) => Verdict {
                serves: true,
                reason: plan.reason(),
                device: Some(plan.on.device),
                memory: plan.memory,
            },
            Err(why) => remote::refuses(why),
        })
    }

    fn load(&mut self, model: Model, options: Options) -> Result<Loaded> {
        if self.server.is_some() {
            return Err(remote::is_loaded());
        }
        let plan = Plan::new(&self.config, &model, &options).map_err(Error::Unavailable)?;
        self.server = Some(LlamaServer::of(&plan.spec)?);
        Ok(Loaded {
            device: plan.on.device,
            format: None,
            context: plan.context,
            vocabulary: plan.head.vocabulary(),
            layers: plan.head.layers(),
            memory: plan.memory,
            dimensions: plan.head.dimensions(),
            answers: !plan.head.embeds(),
        })
    }

    fn ready(&mut self) -> Result<()> {
        let server = self.server()?;
        if let Some(how) = server.process.ended() {
            return Err(Error::Unavailable(format!("llama-server is gone: {how}")));
        }
        let models = server.client.models().map(|_| ());
        models.map_err(|error| server.explain(error))
    }

    fn predict(&mut self, request: Request) -> Result<Finished> {
        self.answer(&request, &mut generation::emit)
    }

    fn embed(&mut self, texts: Vec<String>) -> Result<Embedded> {
        let server = self.server()?;
        let embeddings = server.client.embed(MODEL, &texts);
        embeddings.map_err(|error| server.explain(error))
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
        self.server = None;
        Ok(())
    }
}
