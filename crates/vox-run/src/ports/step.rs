//! The ports of one running step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vox_host::Ports;
use vox_host::contract::{Chunk, ChunkHead, Error};

use super::output::Lines;
use super::{ChunkChannel, Interruption, Line, contract_error, deadline};
use crate::engine::Reporter;

/// Where a step's pushes go and its pulls come from.
///
/// A push to a port that no step reads is output for people: it becomes
/// [`StepOutput`](crate::event::EventKind::StepOutput) events and never fails.
pub(crate) struct StepPorts {
    inputs: BTreeMap<String, Arc<ChunkChannel>>,
    outputs: BTreeMap<String, Output>,
    /// Guards what was written to unread ports and is not a whole line yet. The events are told
    /// under it, so that lines of one port keep their order.
    unread: Mutex<Lines>,
    reporter: Reporter,
}

/// A port that at least one step reads.
#[derive(Default)]
struct Output {
    lines: Vec<Line>,
    /// Held during a push, so that every reader sees chunks in one order, and the room that one
    /// push has waited for is not taken by another.
    turn: Mutex<()>,
}

impl StepPorts {
    pub fn new(
        inputs: BTreeMap<String, Arc<ChunkChannel>>,
        lines: Vec<(String, Line)>,
        reporter: Reporter,
    ) -> Self {
        let mut outputs: BTreeMap<String, Output> = BTreeMap::new();
        for (port, line) in lines {
            outputs.entry(port).or_default().lines.push(line);
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

    /// Names of the ports that another step reads.
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
            .find_map(|(port, channel)| match channel.interruption() {
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
            .map(|channel| &**channel)
            .chain(outputs);
        channels.any(|channel| channel.interruption().is_some())
    }

    /// The step reads no more.
    pub fn hang_up(&self) {
        self.inputs.values().for_each(|channel| channel.hang_up());
    }

    /// Tells what was written to unread ports without an end of line.
    pub fn flush(&self) {
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        for (port, text) in unread.finish() {
            self.reporter.output(&port, text);
        }
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
        let Some(channel) = self.inputs.get(port) else {
            return Err(Error::NotFound(format!(
                "the plan connects nothing to port `{port}`; add it to the step's `inputs`"
            )));
        };
        channel
            .pull(deadline(timeout))
            .map_err(|interruption| contract_error(interruption, &format!("input `{port}`")))
    }
}

impl Output {
    /// Hands a chunk to every stream that still takes one; fails when none does.
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
        for line in open {
            match line.push(head.clone(), data) {
                Ok(()) => taken = true,
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => refusal = error,
            }
        }
        if taken { Ok(()) } else { Err(refusal) }
    }
}
