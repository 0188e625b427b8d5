//! Streams in memory, for the tests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use vox_plugin::{Error, Result};

use crate::pump::Streams;

/// What comes out of port `stdin` when the chunks have.
enum Input {
    End,
    Nothing,
    Break(fn() -> Error),
}

/// The streams of one program.
#[derive(Default)]
pub struct Memory {
    pushed: Mutex<BTreeMap<String, Vec<Vec<u8>>>>,
    /// What every push is answered with.
    refusal: Option<fn() -> Error>,
    input: Option<(Mutex<VecDeque<Vec<u8>>>, Input)>,
    cancelled_by_output: bool,
    cancelled: AtomicBool,
}

impl Memory {
    pub fn refusing(refusal: fn() -> Error) -> Self {
        Self {
            refusal: Some(refusal),
            ..Self::default()
        }
    }

    pub fn with_input(chunks: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            input: Some((Mutex::new(chunks.into_iter().collect()), Input::End)),
            ..Self::default()
        }
    }

    pub fn with_endless_input() -> Self {
        Self {
            input: Some((Mutex::default(), Input::Nothing)),
            ..Self::default()
        }
    }

    pub fn with_broken_input(error: fn() -> Error) -> Self {
        Self {
            input: Some((Mutex::default(), Input::Break(error))),
            ..Self::default()
        }
    }

    /// The step is cancelled when the program writes something.
    pub fn cancelled_by_output() -> Self {
        Self {
            cancelled_by_output: true,
            ..Self::default()
        }
    }

    pub fn has_input(&self) -> bool {
        self.input.is_some()
    }

    /// What was pushed to a port.
    pub fn chunks(&self, port: &str) -> Vec<Vec<u8>> {
        self.pushed
            .lock()
            .unwrap()
            .get(port)
            .cloned()
            .unwrap_or_default()
    }
}

impl Streams for Memory {
    fn push(&self, port: &str, sequence: u64, data: &[u8]) -> Result<()> {
        if let Some(refusal) = self.refusal {
            return Err(refusal());
        }
        self.cancelled
            .store(self.cancelled_by_output, Ordering::Release);
        let mut pushed = self.pushed.lock().unwrap();
        let chunks = pushed.entry(port.to_owned()).or_default();
        assert_eq!(
            sequence,
            chunks.len() as u64,
            "chunks are counted without gaps"
        );
        chunks.push(data.to_vec());
        Ok(())
    }

    fn pull(&self, port: &str, timeout: Duration) -> Result<Option<Vec<u8>>> {
        let (chunks, end) = self.input.as_ref().expect("an input");
        match (chunks.lock().unwrap().pop_front(), end) {
            (Some(chunk), _) => Ok(Some(chunk)),
            (None, Input::End) => Ok(None),
            (None, Input::Break(error)) => Err(error()),
            (None, Input::Nothing) => {
                thread::sleep(timeout);
                Err(Error::TimedOut(port.to_owned()))
            }
        }
    }

    fn should_cancel(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}
