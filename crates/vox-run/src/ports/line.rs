//! One stream: the stages of the plan, one behind the other, and the channel at their end.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tracing::Span;
use vox_contract::{HookPoint, Modality, PluginId, StageEntry};
use vox_host::contract::{Chunk, ChunkHead, Error, stage};
use vox_host::{CallError, CancelToken, HOST_SAMPLES, Host, Instance, InstanceOptions, Ports};

use super::{ChunkChannel, Interruption, contract_error, deadline};
use crate::engine::{Answer, Hooks, Reporter};
use crate::plan::{Input, PortRef};
use crate::report::{PluginMetrics, StreamReport};

/// What a stream is opened with.
pub(crate) struct Opening<'a> {
    pub host: &'a Host,
    pub run: &'a str,
    /// The port that reads.
    pub to: PortRef,
    pub input: &'a Input,
    pub channel: Arc<ChunkChannel>,
    pub hooks: &'a Arc<Hooks>,
    /// Cancels the writing step, in whose thread the stages run.
    pub cancel: CancelToken,
    pub reporter: &'a Reporter,
    /// For each stage, what its manifest says that it takes; nothing said when shorter.
    pub accepts: &'a [Option<StageEntry>],
    /// Chunks at the beginning that the reader is done with already.
    pub skip: u64,
}

/// A stream from the side of its writer.
pub(crate) struct Line {
    from: PortRef,
    stages: Vec<Arc<Link>>,
    tail: Arc<Tail>,
    /// The first stage, or the tail when there is none.
    entrance: Arc<dyn Accept>,
    chunks: AtomicU64,
    bytes: AtomicU64,
    span: Span,
}

/// A place in a stream that takes chunks.
trait Accept: Send + Sync {
    fn accept(&self, head: ChunkHead, data: &[u8], deadline: Option<Instant>) -> Result<(), Error>;
}

impl Line {
    /// Makes and opens the stages, the last one first.
    ///
    /// # Errors
    ///
    /// A stage cannot be made, or refuses to be opened; the text names it.
    pub fn open(opening: &Opening<'_>) -> Result<Self, String> {
        let Input { from, through, .. } = opening.input;
        let from = from.as_ref().ok_or("it is no stream")?;
        let to = &opening.to;
        let span = tracing::info_span!("vox.run.stream", %from, %to);
        let entered = span.clone().entered();
        let tail = Arc::new(Tail {
            from: from.clone(),
            to: to.clone(),
            channel: Arc::clone(&opening.channel),
            hooks: Arc::clone(opening.hooks),
            skip: AtomicU64::new(opening.skip),
            chunks: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let mut entrance: Arc<dyn Accept> = Arc::clone(&tail) as _;
        let mut stages = Vec::with_capacity(through.len());
        for (at, transform) in through.iter().enumerate().rev() {
            let plugin = transform.stage.clone();
            let failed = |error: &dyn std::fmt::Display| format!("stage `{plugin}`: {error}");
            let mut options = InstanceOptions::default();
            options.ports = Arc::new(StagePorts { next: entrance });
            options.cancel = opening.cancel.clone();
            options.events = Arc::new(opening.reporter.clone());
            let mut instance = opening
                .host
                .instance(&plugin, options)
                .map_err(|error| failed(&error))?;
            let arguments = serde_json::Value::Object(transform.arguments.clone()).to_string();
            let place = stage::Opening {
                run: opening.run.to_owned(),
                step: to.step.clone(),
                arguments,
            };
            instance
                .stage()
                .and_then(|mut stage| stage.open(&place))
                .map_err(|error| failed(&error))?;
            let link = Arc::new(Link {
                plugin,
                accepts: opening.accepts.get(at).cloned().flatten(),
                instance: Mutex::new(Some(instance)),
                tail: Arc::clone(&tail),
            });
            entrance = Arc::clone(&link) as _;
            stages.push(link);
        }
        stages.reverse();
        drop(entered);
        let from = from.clone();
        let (chunks, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self {
            from,
            stages,
            tail,
            entrance,
            chunks,
            bytes,
            span,
        })
    }

    /// Waits until the channel behind the stages has room for a chunk of `bytes` bytes.
    pub fn wait_for_room(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<(), Interruption> {
        self.tail.channel.wait_for_room(bytes, deadline)
    }

    /// Sends a chunk through the stages.
    ///
    /// # Errors
    ///
    /// The stream has ended, or this chunk broke it.
    pub fn push(&self, head: ChunkHead, data: &[u8]) -> Result<(), Error> {
        count(&self.chunks, &self.bytes, data.len());
        self.entrance.accept(head, data, None)
    }

    /// Lets every stage push what it holds back, from the first to the last. A stage that fails
    /// breaks the stream; one that is broken already is left alone.
    pub fn finish(&self) {
        let _entered = self.span.enter();
        for stage in &self.stages {
            if stage.call(|instance| instance.stage()?.finish()).is_err() {
                return;
            }
        }
    }

    /// Asks every stage that still lives for its measurements, and ends its instance.
    pub fn close_stages(&self) -> Vec<PluginMetrics> {
        let _entered = self.span.enter();
        let measured = self.stages.iter().filter_map(|stage| {
            let mut instance = stage.lock().take()?;
            let samples = measure(&mut instance)?;
            let Tail { to, .. } = &*self.tail;
            let (step, port) = (Some(to.step.clone()), Some(to.port.clone()));
            Some(PluginMetrics {
                plugin: stage.plugin.clone(),
                step,
                port,
                samples,
            })
        });
        measured.collect()
    }

    /// The channel at the end.
    pub fn channel(&self) -> &ChunkChannel {
        &self.tail.channel
    }

    /// What its ends are called in messages.
    pub fn name(&self) -> String {
        self.tail.name()
    }

    /// What went through. `failure` says why the writer is about to break the stream off, if it
    /// is; how the stream has ended already goes before it.
    pub fn report(&self, failure: Option<&str>) -> StreamReport {
        let broken = match self.tail.channel.interruption() {
            Some(Interruption::Broken(reason)) => Some(reason),
            Some(Interruption::ReaderGone | Interruption::TimedOut) => None,
            // That it was cancelled is told with its steps.
            Some(Interruption::Cancelled) | None => failure.map(str::to_owned),
        };
        StreamReport {
            from: self.from.to_string(),
            to: self.tail.to.to_string(),
            through: self
                .stages
                .iter()
                .map(|stage| stage.plugin.clone())
                .collect(),
            chunks_in: self.chunks.load(Ordering::Relaxed),
            bytes_in: self.bytes.load(Ordering::Relaxed),
            chunks_out: self.tail.chunks.load(Ordering::Relaxed),
            bytes_out: self.tail.bytes.load(Ordering::Relaxed),
            broken,
        }
    }
}

/// What a plugin measured, if it measures at all and can still be asked. Names that begin with
/// [`HOST_SAMPLES`] are the host's, and no plugin's word for what it costs.
pub(crate) fn measure(instance: &mut Instance) -> Option<Vec<vox_host::contract::metrics::Sample>> {
    if !instance.is_alive() || !instance.exports("metrics") {
        return None;
    }
    let collected = instance.metrics().and_then(|mut metrics| metrics.collect());
    collected
        .inspect_err(|error| tracing::warn!(plugin = %instance.plugin(), %error, "no measurements"))
        .ok()
        .map(|mut samples| {
            samples.retain(|sample| !sample.name.starts_with(HOST_SAMPLES));
            samples
        })
}

/// A stage in its place.
struct Link {
    plugin: PluginId,
    /// What its manifest says that it takes.
    accepts: Option<StageEntry>,
    /// Held while the stage is called, and with it everything behind it in the stream; the order
    /// of the stages is the order of locking. None once the stream is closed.
    instance: Mutex<Option<Instance>>,
    tail: Arc<Tail>,
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, Option<Instance>> {
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the stage unless the stream has ended; what fails here breaks the stream.
    fn call(&self, call: impl FnOnce(&mut Instance) -> Result<(), CallError>) -> Result<(), Error> {
        let tail = &self.tail;
        if let Some(interruption) = tail.channel.interruption() {
            return Err(contract_error(interruption, &tail.name()));
        }
        let mut instance = self.lock();
        let Some(instance) = instance.as_mut() else {
            return Err(Error::Cancelled);
        };
        call(instance).map_err(|error| match error {
            CallError::Cancelled { .. } => {
                tail.channel.cancel();
                Error::Cancelled
            }
            // When the stream ended behind the stage, that is why the stage failed, and the first
            // ending stands.
            error => tail.break_off(format!("stage `{}`: {error}", self.plugin)),
        })
    }
}

impl Accept for Link {
    fn accept(&self, head: ChunkHead, data: &[u8], _: Option<Instant>) -> Result<(), Error> {
        if let Some(accepts) = &self.accepts
            && !accepts.takes(&head.modality)
        {
            let accepted: Vec<_> = accepts.accepts.iter().map(Modality::as_str).collect();
            return Err(self.tail.break_off(format!(
                "stage `{}` takes {}, and a chunk of modality {} came",
                self.plugin,
                accepted.join(", "),
                head.modality.escape_debug()
            )));
        }
        self.call(|instance| instance.stage()?.process(&head, data))
    }
}

/// The port of a stage: what it pushes goes to the next place.
struct StagePorts {
    next: Arc<dyn Accept>,
}

impl Ports for StagePorts {
    fn push(
        &self,
        port: &str,
        head: ChunkHead,
        data: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        if port != "out" {
            return Err(Error::NotFound(format!(
                "a stage pushes to port `out`, not to `{port}`"
            )));
        }
        self.next.accept(head, data, deadline(timeout))
    }

    fn pull(&self, port: &str, _: Option<Duration>) -> Result<Option<Chunk>, Error> {
        Err(Error::NotFound(format!(
            "a stage has no port `{port}` to pull: its chunks come to `stage.process`"
        )))
    }
}

/// The end of the stages, where chunks wait for the reader.
struct Tail {
    from: PortRef,
    to: PortRef,
    channel: Arc<ChunkChannel>,
    hooks: Arc<Hooks>,
    /// Chunks that are still to be passed over.
    skip: AtomicU64,
    chunks: AtomicU64,
    bytes: AtomicU64,
}

impl Tail {
    fn name(&self) -> String {
        format!("the stream from `{}` to `{}`", self.from, self.to)
    }

    /// Breaks the stream, unless it has ended; answers how it ended.
    fn break_off(&self, reason: String) -> Error {
        self.channel.break_off(reason);
        let ended = self
            .channel
            .interruption()
            .unwrap_or(Interruption::Cancelled);
        contract_error(ended, &self.name())
    }

    /// The bytes that go on: the chunk's, or what the hooks put in their place; none when they drop
    /// the chunk.
    fn ask_hooks<'d>(
        &self,
        head: &ChunkHead,
        data: &'d [u8],
    ) -> Result<Option<Cow<'d, [u8]>>, Error> {
        if !self.hooks.watch(&HookPoint::PostChunk) {
            return Ok(Some(data.into()));
        }
        let detail = json!({
            "from": self.from.to_string(),
            "to": self.to.to_string(),
            "modality": head.modality,
            "sequence": head.sequence,
            "timestamp": head.timestamp,
        });
        match self
            .hooks
            .ask(&HookPoint::PostChunk, &self.to.step, &detail, data)
        {
            Answer::Continue => Ok(Some(data.into())),
            Answer::Replace(data) => Ok(Some(data.into())),
            Answer::Drop => Ok(None),
            Answer::Abort(abort) => Err(self.break_off(abort.to_string())),
        }
    }
}

impl Accept for Tail {
    fn accept(&self, head: ChunkHead, data: &[u8], deadline: Option<Instant>) -> Result<(), Error> {
        let refused = |interruption| contract_error(interruption, &self.name());
        // Before the hooks are asked: a chunk that is not taken was not there.
        self.channel
            .wait_for_room(data.len(), deadline)
            .map_err(refused)?;
        let Some(data) = self.ask_hooks(&head, data)? else {
            return Ok(());
        };
        // The reader counts what the hooks have let through. A stream is written by one thread at a
        // time.
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            self.skip.store(skip - 1, Ordering::Relaxed);
            return Ok(());
        }
        let data = data.into_owned();
        let length = data.len();
        self.channel
            .push(Chunk { head, data }, length, None)
            .map_err(refused)?;
        count(&self.chunks, &self.bytes, length);
        Ok(())
    }
}

fn count(chunks: &AtomicU64, bytes: &AtomicU64, length: usize) {
    chunks.fetch_add(1, Ordering::Relaxed);
    bytes.fetch_add(length as u64, Ordering::Relaxed);
}
