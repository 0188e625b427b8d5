//! Streams in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use vox_plugin::{Error, Result};

use crate::streams::Streams;

/// What comes out of port `stdin` when the chunks have.
enum Input {
    End,
    Nothing,
}

/// The streams of one container.
#[derive(Default)]
pub struct Memory {
    pushed: Mutex<BTreeMap<String, Vec<Vec<u8>>>>,
    /// What every push is answered with.
    refusal: Option<fn() -> Error>,
    input: Option<(Mutex<VecDeque<Vec<u8>>>, Input)>,
    /// How long every push takes.
    delay: Duration,
    /// What is done at the first push.
    at_output: Mutex<Option<Box<dyn FnOnce() + Send>>>,
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

    /// The step is cancelled when the container writes something.
    pub fn cancelled_by_output() -> Self {
        Self {
            cancelled_by_output: true,
            ..Self::default()
        }
    }

    /// Something is done when the container writes something.
    pub fn doing_at_output(work: impl FnOnce() + Send + 'static) -> Self {
        Self {
            at_output: Mutex::new(Some(Box::new(work))),
            ..Self::default()
        }
    }

    /// Whoever takes the output takes their time.
    pub fn slow(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Cancels the step from the beginning.
    pub fn cancelled() -> Self {
        Self {
            cancelled: AtomicBool::new(true),
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

    /// What was pushed to a port, as one text.
    pub fn text(&self, port: &str) -> String {
        String::from_utf8_lossy(&self.chunks(port).concat()).into_owned()
    }
}

impl Streams for Memory {
    fn push(&self, port: &str, sequence: u64, data: &[u8]) -> Result<()> {
        if let Some(refusal) = self.refusal {
            return Err(refusal());
        }
        if self.cancelled_by_output {
            self.cancelled.store(true, Ordering::Release);
        }
        if let Some(work) = self.at_output.lock().unwrap().take() {
            work();
        }
        thread::sleep(self.delay);
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
            (None, Input::Nothing) => {
                thread::sleep(timeout);
                Err(Error::TimedOut(port.to_owned()))
            }
        }
    }

    fn should_cancel(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    fn warn(&self, text: &str) {
        eprintln!("warning: {text}");
    }
}
