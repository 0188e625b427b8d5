//! A model in a plugin, and what answers it gives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use vox_contract::PluginId;
use vox_host::contract::generation::Piece;
use vox_host::contract::inference_backend::{self as contract, InferenceBackend};
use vox_host::{CallError, CancelToken, Generation, Host, Instance, InstanceOptions};

use super::BackendError;

/// An instance of a plugin that serves `inference-backend`, before a model is loaded.
#[derive(Debug)]
pub struct Candidate {
    plugin: PluginId,
    instance: Instance,
    pieces: Arc<Pieces>,
}

/// A model that is loaded.
#[derive(Debug)]
pub struct Model {
    candidate: Candidate,
    loaded: contract::Loaded,
}

/// Where the plugin's pieces go while somebody waits for them.
#[derive(Debug, Default)]
struct Pieces {
    receiver: Mutex<Option<Sender<Piece>>>,
    stopped: AtomicBool,
}

impl Generation for Pieces {
    fn emit(&self, piece: Piece) -> bool {
        if self.stopped.load(Ordering::Acquire) {
            return false;
        }
        let receiver = self
            .receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        receiver.is_some_and(|receiver| receiver.send(piece).is_ok())
            && !self.stopped.load(Ordering::Acquire)
    }
}

impl Pieces {
    fn open(&self) -> Receiver<Piece> {
        // One piece at a time: a model is never further ahead of its reader than one token.
        let (sender, receiver) = bounded(0);
        self.stopped.store(false, Ordering::Release);
        *self.receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn close(&self) {
        *self.receiver.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Candidate {
    /// Starts a backend.
    ///
    /// # Errors
    ///
    /// The plugin cannot be started.
    pub fn start(
        host: &Host,
        plugin: &PluginId,
        cancel: CancelToken,
    ) -> Result<Self, BackendError> {
        let pieces = Arc::<Pieces>::default();
        let mut options = InstanceOptions::default();
        options.generation = Arc::clone(&pieces) as Arc<dyn Generation>;
        options.stays = true;
        options.cancel = cancel;
        let instance = host
            .instance(plugin, options)
            .map_err(|source| BackendError::Start {
                plugin: plugin.clone(),
                source: Box::new(source),
            })?;
        Ok(Self {
            plugin: plugin.clone(),
            instance,
            pieces,
        })
    }

    /// The plugin.
    pub fn plugin(&self) -> &PluginId {
        &self.plugin
    }

    /// As `inference-backend.capabilities`.
    ///
    /// # Errors
    ///
    /// What the plugin answers; so for all others.
    pub fn capabilities(&mut self) -> Result<contract::Abilities, BackendError> {
        self.call(|backend| backend.capabilities())
    }

    /// As `inference-backend.can-serve`.
    ///
    /// # Errors
    ///
    /// As [`Candidate::capabilities`].
    pub fn can_serve(
        &mut self,
        model: &contract::Model,
        options: &contract::Options,
    ) -> Result<contract::Verdict, BackendError> {
        self.call(|backend| backend.can_serve(model, options))
    }

    /// Loads a model.
    ///
    /// # Errors
    ///
    /// As [`Candidate::capabilities`].
    pub fn load(
        mut self,
        model: &contract::Model,
        options: &contract::Options,
    ) -> Result<Model, BackendError> {
        let loaded = self.call(|backend| backend.load(model, options))?;
        Ok(Model {
            candidate: self,
            loaded,
        })
    }

    fn call<T>(
        &mut self,
        work: impl FnOnce(&mut InferenceBackend<'_>) -> Result<T, CallError>,
    ) -> Result<T, BackendError> {
        let answer = self
            .instance
            .inference_backend()
            .and_then(|mut backend| work(&mut backend));
        answer.map_err(|source| BackendError::Call {
            plugin: self.plugin.clone(),
            source,
        })
    }
}

/// Embeddings of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One for each text, of length 1.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts together; 0 where a server does not say.
    pub tokens: u32,
}

impl Model {
    /// The plugin that it is in.
    pub fn plugin(&self) -> &PluginId {
        &self.candidate.plugin
    }

    /// What was loaded, and where.
    pub fn loaded(&self) -> &contract::Loaded {
        &self.loaded
    }

    /// Whether what was loaded is still there: code that crashed is gone with it, and so is a component that was
    /// cancelled in the middle of a call.
    pub fn is_alive(&self) -> bool {
        self.candidate.instance.is_alive()
    }

    /// Has it told to stop by another token from now on.
    pub fn set_cancel(&mut self, cancel: CancelToken) {
        self.candidate.instance.set_cancel(cancel);
    }

    /// Whether it can answer now.
    ///
    /// # Errors
    ///
    /// What keeps it from that.
    pub fn ready(&mut self) -> Result<(), BackendError> {
        self.candidate.call(|backend| backend.ready())
    }

    /// Answers a request; `take` gets the pieces as they come and says whether more is wanted.
    ///
    /// # Errors
    ///
    /// As [`Candidate::capabilities`]. What was taken before stays true.
    pub fn predict(
        &mut self,
        request: &contract::Request,
        take: &mut dyn FnMut(Piece) -> bool,
    ) -> Result<contract::Finished, BackendError> {
        let pieces = Arc::clone(&self.candidate.pieces);
        let arriving = pieces.open();
        let candidate = &mut self.candidate;
        let span = tracing::info_span!("vox.infer.predict", plugin = %candidate.plugin);
        // The plugin computes on a thread of its own, so that `take` may be anything.
        thread::scope(|scope| {
            let answer = scope.spawn(|| {
                let _entered = span.entered();
                let answer = candidate.call(|backend| backend.predict(request));
                pieces.close();
                answer
            });
            let mut is_wanted = true;
            for piece in arriving {
                // What the plugin says before it hears of the end is said to nobody.
                if is_wanted && !take(piece) {
                    is_wanted = false;
                    pieces.stopped.store(true, Ordering::Release);
                }
            }
            answer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// As `inference-backend.embed`: one vector for each text, and the tokens of all of them.
    ///
    /// # Errors
    ///
    /// As [`Candidate::capabilities`].
    pub fn embed(&mut self, texts: &[String]) -> Result<Embeddings, BackendError> {
        let embedded = self.candidate.call(|backend| backend.embed(texts))?;
        let numbers = embedded.numbers;
        let length = numbers.len().checked_div(texts.len()).unwrap_or_default();
        let vectors = numbers.chunks_exact(length.max(1)).map(<[f32]>::to_vec);
        Ok(Embeddings {
            vectors: vectors.collect(),
            tokens: embedded.tokens,
        })
    }
}
