//! A model that answers one request after the other.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::decoder::{Decoder, Engine, Input};
use super::device::{DeviceInfo, DeviceKind};
use super::embed::{Embedded, Embedder};
use super::format::WeightFormat;
use super::request::{Finish, Finished, Piece, Prompt, Request};
use super::sample::Sampler;
use super::shared::{self, Model, SharedModel};
use crate::architecture::{Architecture, Family};
use crate::error::{Error, Result};
use crate::tokens::Tokens;

/// Tokens of a prompt that are computed at once, between which an answer can be cancelled.
const PART: usize = 256;

/// The same on a GPU.
const GPU_PART: usize = 512;

/// Most threads that one loaded model computes with.
const MOST_THREADS: usize = 1024;

/// How a model is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// A device's id; `None` for the best that it fits on.
    pub device: Option<String>,
    /// Threads on the processor; 0 for as many as there are cores.
    pub threads: usize,
    /// How weights are held; `None` for as the bundle has them.
    pub format: Option<WeightFormat>,
    /// Most tokens of a prompt and its answer together; `None` for the model's own.
    pub context: Option<usize>,
    /// Directory of an adapter in the layout of PEFT that changes the model.
    pub adapter: Option<PathBuf>,
}

/// A model that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Where it is.
    pub device: DeviceInfo,
    /// How most of its weights are held, such as `f32` or `q4_1`.
    pub format: String,
    /// Most tokens of a prompt and its answer together.
    pub context: usize,
    /// Tokens that it embeds.
    pub vocabulary: usize,
    /// Its layers.
    pub layers: usize,
    /// Bytes in use on the device: weights, which sessions share, and this session's keys and values.
    pub memory: u64,
    /// Length of an embedding.
    pub dimensions: usize,
    /// It answers prompts; an encoder does not.
    pub answers: bool,
}

/// A model that answers one request after the other, and remembers the tokens of the last: a prompt that begins
/// like it is computed from where it differs.
pub struct Session {
    shared: Arc<SharedModel>,
    context: usize,
    pool: Option<ThreadPool>,
    /// `None` where the model is an encoder.
    sequence: Option<Sequence>,
    embedder: Option<Embedder>,
    /// What computes a range of layers alone.
    part: Option<Box<dyn Decoder>>,
}

/// A decoder, and the tokens whose keys and values it keeps.
struct Sequence {
    engine: Arc<dyn Engine>,
    decoder: Box<dyn Decoder>,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

impl Session {
    /// Loads the model of the bundle in a directory. Sessions with the same adapter, device and format share its weights.
    ///
    /// # Errors
    ///
    /// Those of [`Architecture::read`], [`Weights`](crate::weights::Weights) and [`Tokens::read`] for a bundle that
    /// is not whole, or whose adapter does not fit; [`Error::Device`]; [`Error::Memory`] for a model that does not fit; [`Error::Request`] for a
    /// context that the model does not have.
    pub fn load(directory: &Path, options: &LoadOptions) -> Result<Self> {
        if options.threads > MOST_THREADS {
            let why = format!(
                "it should be at most {MOST_THREADS}, and is {}",
                options.threads
            );
            return Err(Error::request("threads", why));
        }
        let shared = shared::load(directory, options)?;
        let own = shared.architecture.context();
        let context = options.context.unwrap_or(own);
        if context == 0 || context > own {
            let why =
                format!("it should be from 1 to the {own} tokens of the model, and is {context}");
            return Err(Error::request("context", why));
        }
        let pool = match options.threads {
            0 => None,
            threads => Some(pool(threads)?),
        };
        let sequence = match &shared.model {
            Model::Encoder(_) => None,
            Model::Decoder(engine) => Some(Sequence {
                engine: Arc::clone(engine),
                decoder: Arc::clone(engine).decoder(context),
                tokens: Vec::new(),
                logits: Vec::new(),
            }),
        };
        Ok(Self {
            shared,
            context,
            pool,
            sequence,
            embedder: None,
            part: None,
        })
    }

    /// What was loaded.
    pub fn loaded(&self) -> Loaded {
        let sequence = self
            .sequence
            .as_ref()
            .map_or(0, |sequence| sequence.decoder.bytes());
        let embedder = self.embedder.as_ref().map_or(0, Embedder::bytes);
        let part = self.part.as_ref().map_or(0, |part| part.bytes());
        Loaded {
            device: self.shared.device().clone(),
            format: self.shared.format(),
            context: self.context,
            vocabulary: self.shared.architecture.vocabulary(),
            layers: self.shared.architecture.layers(),
            memory: self.shared.bytes() + sequence + embedder + part,
            dimensions: self.shared.architecture.hidden(),
            answers: self.sequence.is_some(),
        }
    }

    /// What the model is made of.
    pub fn architecture(&self) -> &Architecture {
        &self.shared.architecture
    }

    /// The model's tokenizer.
    pub fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// Answers a request: `emit` gets a piece for each token, and ends the answer with `false`. It is also asked
    /// between the parts of a long prompt, with a piece without token and text. A prompt that leaves no room for an
    /// answer ends at once, as the [context](Finish::Context) is full.
    ///
    /// # Errors
    ///
    /// [`Error::WrongKind`] for an encoder; [`Error::Request`] for a prompt without tokens, and for sampling that has
    /// no meaning; [`Error::Tokens`]; [`Error::Compute`].
    pub fn predict(
        &mut self,
        request: &Request,
        emit: &mut dyn FnMut(Piece) -> bool,
    ) -> Result<Finished> {
        let Some(sequence) = &mut self.sequence else {
            return Err(wrong_kind());
        };
        let answer = Answer {
            tokens: &self.shared.tokens,
            pool: self.pool.as_ref(),
            part: match self.shared.device().kind {
                DeviceKind::Cpu => PART,
                DeviceKind::Cuda | DeviceKind::Metal => GPU_PART,
            },
            context: self.context,
            request,
            sequence,
        };
        answer.run(emit)
    }

    /// The embeddings of texts.
    ///
    /// # Errors
    ///
    /// Those of [`Embedder::embed`].
    pub fn embed<T: AsRef<str> + Sync>(&mut self, texts: &[T]) -> Result<Embedded> {
        let embedder = self
            .embedder
            .get_or_insert_with(|| Embedder::new(&self.shared, self.context));
        on(self.pool.as_ref(), || embedder.embed(texts))
    }

    /// Computes a range of layers for places from `position` on: the model is then split over several sessions,
    /// each of which computes its range alone. What comes back are the hidden states after these layers, or after
    /// the last of the model the logits, place by place.
    ///
    /// # Errors
    ///
    /// Those of [`Decoder::forward_layers`]; [`Error::WrongKind`] for an encoder.
    pub fn forward_layers(
        &mut self,
        layers: Range<usize>,
        input: Input<'_>,
        position: usize,
    ) -> Result<Vec<f32>> {
        let Some(sequence) = &self.sequence else {
            return Err(wrong_kind());
        };
        let part = self
            .part
            .get_or_insert_with(|| Arc::clone(&sequence.engine).decoder(self.context));
        let mut out = Vec::new();
        on(self.pool.as_ref(), || {
            part.forward_layers(layers, input, position, &mut out)
        })?;
        Ok(out)
    }

    /// Whether two sessions hold one copy of their weights.
    pub fn shares_weights_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Forgets the tokens of the last request.
    pub fn forget(&mut self) {
        if let Some(sequence) = &mut self.sequence {
            sequence.keep(0);
        }
    }
}

impl Sequence {
    /// Forgets the tokens from `len` on.
    fn keep(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.decoder.truncate(len);
    }
}

/// The work for one request.
struct Answer<'a> {
    tokens: &'a Tokens,
    pool: Option<&'a ThreadPool>,
    /// Tokens of a prompt that are computed at once.
    part: usize,
    context: usize,
    request: &'a Request,
    sequence: &'a mut Sequence,
}

impl Answer<'_> {
    fn run(mut self, emit: &mut dyn FnMut(Piece) -> bool) -> Result<Finished> {
        if let Some(tokens) = self.fewest().filter(|&tokens| tokens >= self.context) {
            return Ok(full(tokens));
        }
        let (prompt, answered_from) = self.prompt()?;
        if prompt.len() >= self.context {
            return Ok(full(prompt.len()));
        }
        let (asked, answered) = prompt.split_at(answered_from);
        let mut sampler = Sampler::new(self.request.sampling.clone(), asked, answered)?;
        let known = self.sequence.tokens.iter().zip(&prompt);
        let common = known.take_while(|(a, b)| a == b).count();
        // The last place is computed in any case, for its logits.
        let cached = common.min(prompt.len() - 1);
        self.sequence.keep(cached);
        let mut finished = Finished {
            reason: Finish::Cancelled,
            prompt_tokens: prompt.len(),
            cached_tokens: cached,
            answer_tokens: 0,
        };
        let mut parts = prompt[cached..].chunks(self.part).peekable();
        while let Some(part) = parts.next() {
            self.forward(part)?;
            if parts.peek().is_some() && !emit(Piece::of_text(String::new())) {
                return Ok(finished);
            }
        }
        self.generate(&prompt, &mut sampler, &mut finished, emit)?;
        Ok(finished)
    }

    /// The tokens of prompt and answer so far, and where the answer begins.
    fn prompt(&self) -> Result<(Vec<u32>, usize)> {
        let answered = &self.request.answered;
        let (tokens, answered_from) = match &self.request.prompt {
            Prompt::Text(text) => self.tokens.encode_continued(text, answered)?,
            Prompt::Tokens(tokens) => {
                let mut all = tokens.clone();
                all.extend(self.tokens.encode_part(answered)?);
                (all, tokens.len())
            }
        };
        if tokens.is_empty() {
            return Err(Error::request("prompt", "it has no tokens"));
        }
        Ok((tokens, answered_from))
    }

    /// How many tokens a text has at least, so that a huge one is not split into them first.
    fn fewest(&self) -> Option<usize> {
        match &self.request.prompt {
            Prompt::Text(text) => {
                let bytes = text.len() + self.request.answered.len();
                Some(self.tokens.fewest(bytes))
            }
            Prompt::Tokens(_) => None,
        }
    }

    /// Computes places at the end of the sequence.
    fn forward(&mut self, tokens: &[u32]) -> Result<()> {
        let Sequence {
            decoder,
            tokens: known,
            logits,
            ..
        } = &mut *self.sequence;
        let position = known.len();
        let done = on(self.pool, || decoder.forward(tokens, position, logits));
        match done {
            Ok(()) => known.extend_from_slice(tokens),
            Err(_) => self.sequence.keep(0),
        }
        done
    }

    fn generate(
        &mut self,
        prompt: &[u32],
        sampler: &mut Sampler,
        finished: &mut Finished,
        emit: &mut dyn FnMut(Piece) -> bool,
    ) -> Result<()> {
        let mut stream = self.tokens.stream(prompt)?;
        let mut stops = Stops::new(&self.request.stop, &self.request.answered);
        finished.reason = loop {
            if finished.answer_tokens >= self.request.max_tokens {
                break Finish::Length;
            }
            let position = prompt.len() + finished.answer_tokens;
            if position >= self.context {
                break Finish::Context;
            }
            // The first token comes from the prompt's last logits, every other one from its predecessor's.
            let chosen =
                sampler.choose(&self.sequence.logits, position, self.request.alternatives)?;
            if self.tokens.is_end(chosen.token) {
                break Finish::Stop;
            }
            let alternatives = Sampler::alternatives(&chosen, |token| stream.peek(token))?;
            let text = stream.push(chosen.token)?;
            let is_stopped = stops.push(&text);
            finished.answer_tokens += 1;
            let piece = Piece {
                token: Some(chosen.token),
                text,
                log_probability: chosen.log_probability,
                alternatives,
            };
            if !emit(piece) {
                finished.reason = Finish::Cancelled;
                return Ok(());
            }
            if is_stopped {
                break Finish::Stop;
            }
            let is_last = finished.answer_tokens >= self.request.max_tokens;
            if !is_last && position + 1 < self.context {
                self.forward(&[chosen.token])?;
            }
        };
        let rest = stream.finish()?;
        if !rest.is_empty() && !emit(Piece::of_text(rest)) {
            finished.reason = Finish::Cancelled;
        }
        Ok(())
    }
}

/// A prompt of so many tokens does not fit.
fn full(tokens: usize) -> Finished {
    Finished {
        reason: Finish::Context,
        prompt_tokens: tokens,
        cached_tokens: 0,
        answer_tokens: 0,
    }
}

/// Looks for the texts that end an answer.
struct Stops<'r> {
    texts: Vec<&'r str>,
    /// Bytes of the longest.
    longest: usize,
    answer: String,
}

impl<'r> Stops<'r> {
    fn new(texts: &'r [String], answered: &str) -> Self {
        let texts: Vec<&str> = texts
            .iter()
            .map(String::as_str)
            .filter(|text| !text.is_empty())
            .collect();
        Self {
            longest: texts.iter().map(|text| text.len()).max().unwrap_or(0),
            texts,
            answer: answered.to_owned(),
        }
    }

    /// Whether one of them is complete with this text.
    fn push(&mut self, text: &str) -> bool {
        if self.texts.is_empty() || text.is_empty() {
            return false;
        }
        let before = self.answer.len().saturating_sub(self.longest);
        let from = self.answer.floor_char_boundary(before);
        self.answer.push_str(text);
        let new = &self.answer[from..];
        self.texts.iter().any(|stop| new.contains(stop))
    }
}

fn wrong_kind() -> Error {
    Error::WrongKind {
        found: Family::Bert.name(),
        wanted: "generate text",
    }
}

/// Threads for one session.
fn pool(threads: usize) -> Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| Error::request("threads", format!("{threads} cannot be started: {error}")))
}

/// Runs work on the threads of a pool, or on those of the process.
fn on<R: Send>(pool: Option<&ThreadPool>, work: impl FnOnce() -> R + Send) -> R {
    match pool {
        Some(pool) => pool.install(work),
        None => work(),
    }
}
