//! `llama-server`, with one model: started once for all instances that ask for the same, and ended with
//! the last of them.
//!
//! What must stay true: who else is on the machine cannot use it, as it listens on loopback and wants a
//! random key; and an error says whether the server is gone, and what it said last.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use vox_plugin::host::log::{self, Level};
use vox_plugin::native::HostHandle;
use vox_plugin::serde_json::Value;
use vox_plugin::{Error, Result, host};
use vox_remote::openai::{Continues, Dialect, Extensions, OpenAi};
use vox_remote::transport::Transport;
use vox_remote::{Address, Secret, Server};

use crate::process::Process;

/// How often another port is tried where somebody took the one that was free.
const TRIES: usize = 3;
/// Between two looks at whether it is ready.
const NAP: Duration = Duration::from_millis(50);
/// How long an answer about its health may take; while it loads it answers at once.
const HEALTH: Duration = Duration::from_secs(5);
/// How long a process whose connection broke off is waited for, to say how it ended.
const ENDING: Duration = Duration::from_secs(2);

/// What a server is started with. Equal ones are served by one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, without those that say where it listens.
    pub arguments: Vec<OsString>,
    /// How long a start may take.
    pub start: Duration,
    /// The longest time without a byte of an answer.
    pub silence: Duration,
}

/// A server that runs.
#[derive(Debug)]
pub struct LlamaServer {
    /// How it is asked.
    pub client: OpenAi,
    /// What runs.
    pub process: Process,
}

/// A server of a specification, if one runs. The lock is held while one is started.
type Place = Arc<Mutex<Weak<LlamaServer>>>;

/// The places of all servers of this process. The lock is held while one is looked up, and no longer.
static PLACES: LazyLock<Mutex<HashMap<Spec, Place>>> = LazyLock::new(Mutex::default);

impl LlamaServer {
    /// The server of a specification, started where none runs.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where it ends before it is ready, or is not ready in time;
    /// [`Error::Cancelled`].
    pub fn of(spec: &Spec) -> Result<Arc<Self>> {
        let place = {
            let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry(spec.clone()).or_default())
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = place.upgrade()
            && running.process.ended().is_none()
        {
            return Ok(running);
        }
        let server = Arc::new(Self::start(spec)?);
        *place = Arc::downgrade(&server);
        Ok(server)
    }

    fn start(spec: &Spec) -> Result<Self> {
        let end = Instant::now() + spec.start;
        let mut tries = 1;
        loop {
            let server = Self::start_at(spec, free_port()?)?;
            match server.wait(end) {
                Ok(()) => return Ok(server),
                Err(ended) if ended.is_taken_port && tries < TRIES => tries += 1,
                Err(ended) => return Err(ended.error),
            }
        }
    }

    fn start_at(spec: &Spec, port: u16) -> Result<Self> {
        let key = random_key()?;
        let mut arguments = spec.arguments.clone();
        arguments.extend(["--host", "127.0.0.1", "--port"].map(OsString::from));
        arguments.push(port.to_string().into());
        let host = HostHandle::current();
        let hear = move |line: &str| {
            if let Some(host) = &host {
                host.enter(|| log::write(Level::Debug, line, &[]));
            }
        };
        let process = Process::start(&spec.program, &arguments, &key, hear)?;
        let address = Address::parse(&format!("http://127.0.0.1:{port}/v1"))?;
        let transport = Transport::new(address.clone(), "llama-cpp");
        let server = Server::new(address, transport, Some(Secret::new(key)), spec.silence);
        let dialect = Dialect {
            continues: Continues::Always,
            extensions: Extensions::LlamaCpp,
            stops: usize::MAX,
            ..Dialect::default()
        };
        Ok(Self {
            client: OpenAi { server, dialect },
            process,
        })
    }

    /// Waits until it is ready.
    fn wait(&self, end: Instant) -> Result<(), Unready> {
        let address = self.client.server.address().clone();
        let transport = Transport::new(address.clone(), "llama-cpp");
        let server = Server::new(address, transport, None, HEALTH);
        loop {
            if let Some(how) = self.process.ended() {
                return Err(Unready {
                    is_taken_port: how.contains("bind"),
                    error: Error::Unavailable(format!(
                        "llama-server ended before it was ready: {how}"
                    )),
                });
            }
            match server.get::<Value>("/health") {
                Ok(_) => return Ok(()),
                Err(Error::Cancelled) => return Err(Unready::of(Error::Cancelled)),
                Err(_) => {}
            }
            if host::cancel::should_cancel() {
                return Err(Unready::of(Error::Cancelled));
            }
            if Instant::now() >= end {
                let last = self.process.last_lines();
                return Err(Unready::of(Error::Unavailable(format!(
                    "llama-server was not ready in time; `start-timeout` gives it more{last}"
                ))));
            }
            thread::sleep(NAP);
        }
    }

    /// An error of a request, which says what became of the server where it is gone.
    pub fn explain(&self, error: Error) -> Error {
        let (Error::Unavailable(text) | Error::Failed(text)) = &error else {
            return error;
        };
        match self.process.ended_within(ENDING) {
            Some(how) => Error::Unavailable(format!("llama-server is gone: {how}\n{text}")),
            None => error,
        }
    }
}

/// Why a server is not ready.
struct Unready {
    error: Error,
    /// Whether another port may help.
    is_taken_port: bool,
}

impl Unready {
    fn of(error: Error) -> Self {
        Self {
            error,
            is_taken_port: false,
        }
    }
}

/// A port that nobody listens at. Somebody may, until the server does; that is noticed.
fn free_port() -> Result<u16> {
    let bound = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let address = bound.map_err(|error| {
        Error::Unavailable(format!("there is no free port for llama-server: {error}"))
    })?;
    Ok(address.port())
}

/// A key of 256 bits, in hexadecimal digits.
fn random_key() -> Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Unavailable(format!("there are no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
