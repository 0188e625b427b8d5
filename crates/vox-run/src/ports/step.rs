//! The ports of one running step.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vox_host::Ports;
use vox_host::contract::{Chunk, ChunkHead, Error};

use super::output::Lines;
use super::{ChunkChannel, Interruption, Line, contract_error, deadline};
use crate::engine::Reporter;

/// Where a step's pushes go and its pulls come from.
///
/// A push to a port that no step reads and no file takes is output for people: it becomes
/// [`StepOutput`](crate::event::EventKind::StepOutput) events and never fails.
pub(crate) struct StepPorts {
    inputs: BTreeMap<String, InputPort>,
    outputs: BTreeMap<String, Output>,
    /// Guards what was written to unread ports and is not a whole line yet. The events are told
    /// under it, so that lines of one port keep their order.
    unread: Mutex<Lines>,
    reporter: Reporter,
}

/// A port that the step reads.
pub(crate) struct InputPort {
    pub channel: Arc<ChunkChannel>,
    /// Told how many chunks the step is done with, where somebody wants to know.
    pub acknowledge: Option<Box<dyn Fn(u64) + Send + Sync>>,
    /// Chunks that were pulled.
    pulled: AtomicU64,
}

impl InputPort {
    pub fn new(channel: Arc<ChunkChannel>) -> Self {
        Self {
            channel,
            acknowledge: None,
            pulled: AtomicU64::new(0),
        }
    }

    fn pull(&self, port: &str, deadline: Option<Instant>) -> Result<Option<Chunk>, Error> {
        if let Some(acknowledge) = &self.acknowledge {
            acknowledge(self.pulled.load(Ordering::Relaxed));
        }
        let chunk = self
            .channel
            .pull(deadline)
            .map_err(|interruption| contract_error(interruption, &format!("input `{port}`")))?;
        if chunk.is_some() {
            self.pulled.fetch_add(1, Ordering::Relaxed);
        }
        Ok(chunk)
    }
}

/// A port that at least one step reads, or that becomes a file.
#[derive(Default)]
struct Output {
    lines: Vec<Line>,
    file: Option<Sink>,
    /// Held during a push, so that every reader sees chunks in one order, and the room that one
    /// push has waited for is not taken by another.
    turn: Mutex<()>,
}

/// A file that is made of a port's chunks.
pub(crate) struct Sink {
    path: PathBuf,
    file: Mutex<BufWriter<File>>,
}

impl Sink {
    /// Begins the file.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = BufWriter::with_capacity(128 << 10, File::create(&path)?);
        Ok(Self {
            path,
            file: Mutex::new(file),
        })
    }

    fn write(&self, data: &[u8]) -> Result<(), Error> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(data).map_err(|error| self.failed(&error))
    }

    fn flush(&self) -> Result<(), Error> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.flush().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::Failed(format!("cannot write {}: {error}", self.path.display()))
    }
}

impl StepPorts {
    pub fn new(
        inputs: BTreeMap<String, InputPort>,
        lines: Vec<(String, Line)>,
        files: Vec<(String, Sink)>,
        reporter: Reporter,
    ) -> Self {
        let mut outputs: BTreeMap<String, Output> = BTreeMap::new();
        for (port, line) in lines {
            outputs.entry(port).or_default().lines.push(line);
        }
        for (port, file) in files {
            outputs.entry(port).or_default().file = Some(file);
        }
        Self {
            inputs,
            outputs,
            unread: Mutex::default(),
            reporter,
        }
    }

    /// Names of the ports that can be pulled.
    pub fn inputs(&self) -> Vec<String> {
        self.inputs.keys().cloned().collect()
    }

    /// Names of the ports that somebody reads.
    pub fn outputs(&self) -> Vec<String> {
        self.outputs.keys().cloned().collect()
    }

    /// The streams that the step writes.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.outputs.values().flat_map(|output| &output.lines)
    }

    /// The first input that ended before its time, and why.
    pub fn broken_input(&self) -> Option<(&str, String)> {
        self.inputs
            .iter()
            .find_map(|(port, input)| match input.channel.interruption() {
                Some(Interruption::Broken(reason)) => Some((port.as_str(), reason)),
                _ => None,
            })
    }

    /// Whether a stream of the step, in or out, ended before its time.
    pub fn are_interrupted(&self) -> bool {
        let outputs = self.lines().map(Line::channel);
        let mut channels = self
            .inputs
            .values()
            .map(|input| &*input.channel)
            .chain(outputs);
        channels.any(|channel| channel.interruption().is_some())
    }

    /// The step reads no more.
    pub fn hang_up(&self) {
        self.inputs
            .values()
            .for_each(|input| input.channel.hang_up());
    }

    /// Tells what was written to unread ports without an end of line, and writes out what files
    /// hold back.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn flush(&self) -> Result<(), Error> {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        for (port, text) in unread.finish() {
            self.reporter.output(&port, text);
        }
        let mut files = self
            .outputs
            .values()
            .filter_map(|output| output.file.as_ref());
        files.try_for_each(Sink::flush)
    }
}

impl Ports for StepPorts {
    fn push(
        &self,
        port: &str,
        head: ChunkHead,
        data: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        if let Some(output) = self.outputs.get(port) {
            return output.push(head, data, deadline(timeout));
        }
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = unread.push(port, data) {
            self.reporter.output(port, text);
        }
        Ok(())
    }

    fn pull(&self, port: &str, timeout: Option<Duration>) -> Result<Option<Chunk>, Error> {
        let Some(input) = self.inputs.get(port) else {
            return Err(Error::NotFound(format!(
                "the plan connects nothing to port `{port}`; add it to the step's `inputs`"
            )));
        };
        input.pull(port, deadline(timeout))
    }
}

impl Output {
    /// Hands a chunk to every stream that still takes one; fails when none does. What becomes a
    /// file is written whether anybody reads or not.
    fn push(&self, head: ChunkHead, data: &[u8], deadline: Option<Instant>) -> Result<(), Error> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut refusal = Error::Cancelled;
        let mut open = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            match line.wait_for_room(data.len(), deadline) {
                Ok(()) => open.push(line),
                Err(Interruption::Cancelled) => return Err(Error::Cancelled),
                Err(ended @ (Interruption::ReaderGone | Interruption::Broken(_))) => {
                    refusal = contract_error(ended, &line.name());
                }
                Err(Interruption::TimedOut) => {
                    return Err(contract_error(Interruption::TimedOut, &line.name()));
                }
            }
        }
        let mut taken = false;
        if let Some(file) = &self.file {
            file.write(data)?;
            taken = true;
        }
        let last = open.len();
        let mut head = Some(head);
        for (index, line) in open.into_iter().enumerate() {
            // The last reader gets the head itself.
            let head = if index + 1 == last {
                head.take()
            } else {
                head.clone()
            };
            let Some(head) = head else { break };
            match line.push(head, data) {
                Ok(()) => taken = true,
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => refusal = error,
            }
        }
        if taken { Ok(()) } else { Err(refusal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Hooks, Message};
    use crate::plan::{Input, PortRef, Restart};
    use crate::ports::{CAPACITY, Opening};
    use crossbeam_channel::{Receiver, unbounded};
    use std::thread;
    use vox_host::{CancelToken, Host, HostOptions, directories::Directories};

    const NOW: Option<Duration> = Some(Duration::ZERO);

    /// The ports of step `w`, whose port `out` has `readers` readers; and their channels.
    fn writer(readers: usize) -> (StepPorts, Vec<Arc<ChunkChannel>>, Receiver<Message>) {
        let (sender, messages) = unbounded();
        let reporter = Reporter::new(sender, Arc::default()).of_step(0);
        // Streams without stages ask nothing of the host, so it may be one without plugins.
        let nowhere = Directories::new("/nonexistent", "/nonexistent");
        let host = Host::open(nowhere, HostOptions::default()).unwrap();
        let hooks = Hooks::open(
            &host,
            "run".into(),
            &[],
            Default::default(),
            Vec::new(),
            reporter.clone(),
        );
        let hooks = hooks.unwrap();
        let from: PortRef = "w.out".parse().unwrap();
        let input = Input {
            from: Some(from),
            path: None,
            through: Vec::new(),
            restart: Restart::Beginning,
        };
        let channels: Vec<_> = (0..readers)
            .map(|_| Arc::new(ChunkChannel::new()))
            .collect();
        let lines = channels.iter().map(|channel| {
            let opening = Opening {
                host: &host,
                run: "run",
                to: "r.in".parse().unwrap(),
                input: &input,
                channel: Arc::clone(channel),
                hooks: &hooks,
                cancel: CancelToken::new(),
                reporter: &reporter,
                accepts: &[],
                skip: 0,
            };
            ("out".to_owned(), Line::open(&opening).unwrap())
        });
        let lines = lines.collect();
        (
            StepPorts::new(BTreeMap::new(), lines, Vec::new(), reporter),
            channels,
            messages,
        )
    }

    fn head(sequence: u64) -> ChunkHead {
        ChunkHead {
            modality: "text".into(),
            sequence,
            timestamp: 0,
            attributes: Vec::new(),
        }
    }

    fn waiting(channel: &ChunkChannel) -> Vec<u64> {
        channel.finish();
        std::iter::from_fn(|| channel.pull(None).unwrap())
            .map(|chunk| chunk.head.sequence)
            .collect()
    }

    #[test]
    fn every_reader_gets_every_chunk() {
        let (ports, channels, _messages) = writer(2);
        ports.push("out", head(0), b"a", None).unwrap();
        ports.push("out", head(1), b"b", None).unwrap();
        assert_eq!(ports.outputs(), ["out"]);
        for channel in &channels {
            assert_eq!(waiting(channel), [0, 1]);
        }
    }

    #[test]
    fn a_push_that_times_out_was_taken_by_no_reader() {
        let (ports, channels, _messages) = writer(2);
        for sequence in 0..CAPACITY as u64 {
            ports.push("out", head(sequence), b"a", NOW).unwrap();
        }
        channels[0].pull(None).unwrap();
        let refused = ports.push("out", head(99), b"a", NOW);
        assert!(matches!(refused, Err(Error::TimedOut(_))), "{refused:?}");
        for channel in &channels {
            assert!(!waiting(channel).contains(&99));
        }
    }

    #[test]
    fn a_reader_that_leaves_does_not_keep_chunks_from_the_others() {
        let (ports, channels, _messages) = writer(2);
        channels[0].hang_up();
        ports.push("out", head(0), b"a", None).unwrap();
        assert_eq!(waiting(&channels[1]), [0]);
    }

    #[test]
    fn a_writer_whose_readers_have_all_left_is_told_so() {
        let (ports, channels, _messages) = writer(2);
        channels.iter().for_each(|channel| channel.hang_up());
        let Err(Error::Unavailable(told)) = ports.push("out", head(0), b"a", None) else {
            panic!("the push was taken")
        };
        assert_eq!(
            told,
            "the reader of the stream from `w.out` to `r.in` takes no more"
        );
    }

    #[test]
    fn cancelling_wakes_a_writer_that_waits_for_room() {
        let (ports, channels, _messages) = writer(1);
        for sequence in 0..CAPACITY as u64 {
            ports.push("out", head(sequence), b"a", NOW).unwrap();
        }
        let pushed = thread::scope(|scope| {
            let waiting = scope.spawn(|| ports.push("out", head(99), b"a", None));
            channels[0].cancel();
            waiting.join().unwrap()
        });
        assert_eq!(pushed, Err(Error::Cancelled));
        assert!(ports.are_interrupted());
    }

    #[test]
    fn what_no_step_reads_is_told_line_by_line_and_never_fails() {
        let (ports, _, messages) = writer(0);
        ports.push("stdout", head(0), b"one\ntw", None).unwrap();
        ports.push("stdout", head(1), b"o", None).unwrap();
        ports.flush().unwrap();
        let told: Vec<_> = messages
            .try_iter()
            .map(|message| match message {
                Message::Output {
                    step: 0,
                    port,
                    text,
                } => (port, text),
                other => panic!("{other:?}"),
            })
            .collect();
        let stdout = |text: &str| ("stdout".to_owned(), text.to_owned());
        assert_eq!(told, [stdout("one\n"), stdout("two")]);
    }

    #[test]
    fn a_port_that_the_plan_does_not_connect_cannot_be_pulled() {
        let (ports, _, _messages) = writer(0);
        let refused = ports.pull("stdin", None).unwrap_err();
        assert!(
            matches!(&refused, Error::NotFound(text) if text.contains("`inputs`")),
            "{refused:?}"
        );
    }
}
