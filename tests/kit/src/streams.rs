//! Streams that remember what went through them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use vox_contract::PluginId;
use vox_host::contract::{Chunk, ChunkHead, Error};
use vox_host::{EventSink, InstanceOptions, Ports};

/// What an instance said to the world, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// A chunk that it pushed.
    Chunk {
        /// To this port.
        port: String,
        /// The chunk.
        chunk: Chunk,
    },
    /// An event that it emitted.
    Event {
        /// Name of the event.
        name: String,
        /// Its payload.
        payload: String,
    },
}

/// Takes everything that is pushed to any port but `closed`, and gives what was queued.
#[derive(Debug, Default)]
pub struct Recorder {
    inputs: Mutex<HashMap<String, VecDeque<Chunk>>>,
    recorded: Mutex<Vec<Recorded>>,
    listener: Mutex<Option<mpsc::Sender<String>>>,
}

impl Recorder {
    /// A recorder with no inputs.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Queues a chunk on an input port.
    pub fn feed(&self, port: &str, chunk: Chunk) {
        self.inputs
            .lock()
            .expect("no test panics inside")
            .entry(port.to_owned())
            .or_default()
            .push_back(chunk);
    }

    /// What was recorded so far, which is forgotten.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.recorded.lock().expect("no test panics inside"))
    }

    /// A channel that gets the name of every event as it is emitted.
    pub fn listen(&self) -> mpsc::Receiver<String> {
        let (sender, receiver) = mpsc::channel();
        *self.listener.lock().expect("no test panics inside") = Some(sender);
        receiver
    }

    /// Options that connect an instance to this recorder.
    pub fn options(self: &Arc<Self>) -> InstanceOptions {
        let mut options = InstanceOptions::default();
        options.ports = Arc::clone(self) as Arc<dyn Ports>;
        options.events = Arc::clone(self) as Arc<dyn EventSink>;
        options
    }

    fn record(&self, what: Recorded) {
        self.recorded
            .lock()
            .expect("no test panics inside")
            .push(what);
    }
}

impl Ports for Recorder {
    fn push(
        &self,
        port: &str,
        head: ChunkHead,
        data: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        match port {
            "closed" => Err(Error::NotFound("port `closed`".to_owned())),
            "full" => Err(Error::TimedOut(format!("{timeout:?}"))),
            _ => {
                let chunk = Chunk {
                    head,
                    data: data.to_vec(),
                };
                self.record(Recorded::Chunk {
                    port: port.to_owned(),
                    chunk,
                });
                Ok(())
            }
        }
    }

    fn pull(&self, port: &str, _timeout: Option<Duration>) -> Result<Option<Chunk>, Error> {
        let mut inputs = self.inputs.lock().expect("no test panics inside");
        Ok(inputs.get_mut(port).and_then(VecDeque::pop_front))
    }
}

impl EventSink for Recorder {
    fn emit(&self, _plugin: &PluginId, name: &str, payload: &str) {
        self.record(Recorded::Event {
            name: name.to_owned(),
            payload: payload.to_owned(),
        });
        if let Some(listener) = &*self.listener.lock().expect("no test panics inside") {
            let _ = listener.send(name.to_owned());
        }
    }
}
