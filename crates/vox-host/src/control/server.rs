//! Answering, in the process that is at work.
//!
//! One thread sleeps until somebody connects; each client is served by a thread of its own, which
//! ends with the client. So a reload that takes its time, or a client that says nothing, holds up
//! no other.

use std::io;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vox_contract::PluginId;

use super::client;
use super::error::ControlError;
use super::lines::{Lines, NoLine, send};
use super::platform::{self, Listener, Stream, Waker};
use super::protocol::{
    Done, MAX_REQUEST, Outcome, PROTOCOL_VERSION, PluginReport, ProcessReport, Refusal,
    RefusalKind, Reply, Request, Versioned,
};
use crate::host::Host;

/// Clients that are served at once; one more is told so and hung up on.
pub const MAX_CLIENTS: usize = 8;

/// How long a client may take for a request, and to take a reply.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long no connection is taken after the system refused one, as when files have run out.
const REST: Duration = Duration::from_millis(100);

/// Answers requests about a host until it is dropped. Then its socket is gone, its clients are
/// hung up on, and what they asked for is over.
#[derive(Debug)]
pub struct ControlServer {
    socket: PathBuf,
    /// Dropped to end the thread.
    waker: Option<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Begins to answer other processes of this user. They are told that this one is at work on
    /// `command`, in a few words and without secrets.
    ///
    /// # Errors
    ///
    /// The directory of the sockets cannot be had, or the system gives no socket or no thread.
    /// Whoever asked can do its work without.
    pub fn serve_control(&self, command: &str) -> Result<ControlServer, ControlError> {
        let directory = &self.directories().runtime;
        client::make_directory(directory)?;
        let socket = client::socket_of(directory, std::process::id());
        client::remove_if_dead(&socket);
        let bound = Listener::bind(&socket);
        let (listener, waker) = bound.map_err(|source| ControlError::Listen {
            socket: socket.clone(),
            source,
        })?;
        // From here on whatever fails takes the socket down again.
        let mut server = ControlServer {
            socket,
            waker: Some(waker),
            thread: None,
        };
        let desk = Desk {
            host: self.clone(),
            command: command.to_owned(),
            began: Instant::now(),
            clients: Mutex::default(),
        };
        let directory = directory.clone();
        let thread = thread::Builder::new()
            .name("vox-control".to_owned())
            .spawn(move || {
                client::sweep(&directory);
                desk.open(&listener);
            });
        server.thread = Some(thread.map_err(|source| ControlError::Thread { source })?);
        Ok(server)
    }
}

impl ControlServer {
    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // Nobody finds it from here on; a client that has can only be told that it is too late.
        let _ = std::fs::remove_file(&self.socket);
        self.waker = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// What the threads share.
struct Desk {
    host: Host,
    command: String,
    began: Instant,
    /// The clients that are being served, to hang up on them. Guards nothing else.
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    streams: Vec<(u64, Stream)>,
    next: u64,
}

impl Desk {
    /// Serves whoever connects, until the listener is woken and the last client's request is over.
    fn open(&self, listener: &Listener) {
        thread::scope(|scope| {
            loop {
                match listener.next() {
                    Ok(Some(stream)) => match self.admit(&stream) {
                        Ok(number) => {
                            let serve = move || {
                                self.serve(&stream);
                                self.leave(number);
                            };
                            if let Err(error) = thread::Builder::new()
                                .name("vox-control-client".to_owned())
                                .spawn_scoped(scope, serve)
                            {
                                tracing::debug!(%error, "a control client has no thread");
                                self.leave(number);
                            }
                        }
                        Err(Some(refusal)) => {
                            let _ = send(&stream, &line(Reply::Error(refusal)), REST);
                        }
                        Err(None) => {}
                    },
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "a control client could not be accepted");
                        thread::sleep(REST);
                    }
                }
            }
            for (_, stream) in &self.clients().streams {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }

    /// Counts a client in, or says why it is not served; somebody else's is told nothing.
    fn admit(&self, stream: &Stream) -> Result<u64, Option<Refusal>> {
        match platform::is_same_user(stream) {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("a process of another user wanted to control this one");
                return Err(None);
            }
            Err(error) => {
                tracing::debug!(%error, "whose a control client is could not be told");
                return Err(None);
            }
        }
        let mut clients = self.clients();
        if clients.streams.len() >= MAX_CLIENTS {
            return Err(Some(Refusal {
                kind: RefusalKind::Busy,
                message: format!("it serves {MAX_CLIENTS} clients already"),
                hint: Some("end one of them, or try again in a few seconds".to_owned()),
            }));
        }
        let stream = stream.try_clone().map_err(|_: io::Error| None)?;
        let number = clients.next;
        clients.next += 1;
        clients.streams.push((number, stream));
        Ok(number)
    }

    fn leave(&self, number: u64) {
        self.clients().streams.retain(|(other, _)| *other != number);
    }

    /// Answers one client until it has nothing more to say.
    fn serve(&self, stream: &Stream) {
        let mut lines = Lines::new(stream);
        loop {
            let (reply, is_last) = match lines.next(MAX_REQUEST, PATIENCE) {
                Ok(request) => (self.answer(&request), false),
                Err(NoLine::TooLong) => (too_long(), true),
                Err(NoLine::End | NoLine::TimedOut | NoLine::Broken(_)) => return,
            };
            let sent = send(stream, &line(reply), PATIENCE);
            if is_last || sent.is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &[u8]) -> Reply {
        let result = read(request).and_then(|request| match request {
            Request::Status => Ok(Reply::Status(Box::new(self.report()))),
            Request::Pause { plugin } => self.act(plugin, |host, plugin| {
                host.pause(plugin).map(|()| Outcome::Paused)
            }),
            Request::Resume { plugin } => self.act(plugin, |host, plugin| {
                host.resume(plugin).map(|()| Outcome::Resumed)
            }),
            Request::Reload { plugin } => self.act(plugin, |host, plugin| {
                host.reload(plugin).map(Outcome::from)
            }),
            Request::Unload { plugin } => self.act(plugin, |host, plugin| {
                host.unload(plugin).map(|()| Outcome::Unloaded)
            }),
        });
        result.unwrap_or_else(Reply::Error)
    }

    fn report(&self) -> ProcessReport {
        let plugins = self.host.plugins().into_iter().map(PluginReport::from);
        ProcessReport {
            pid: std::process::id(),
            command: self.command.clone(),
            uptime_seconds: self.began.elapsed().as_secs_f64(),
            memory_budget: self.host.memory_budget(),
            retained_bytes: self.host.retained_bytes(),
            plugins: plugins.collect(),
        }
    }

    /// Does something with a plugin that this process uses. One that it does not use is left
    /// alone: asking about it would make a place for it.
    fn act(
        &self,
        plugin: PluginId,
        act: impl FnOnce(&Host, &PluginId) -> Result<Outcome, crate::Error>,
    ) -> Result<Reply, Refusal> {
        let now = |host: &Host| {
            let mut plugins = host.plugins().into_iter();
            plugins.find(|status| status.plugin == plugin)
        };
        if now(&self.host).is_none() {
            return Err(not_here(&plugin));
        }
        tracing::debug!(%plugin, "asked over the control socket");
        let outcome = act(&self.host, &plugin).map_err(|error| Refusal {
            kind: RefusalKind::Refused,
            message: error.to_string(),
            hint: error.hint(),
        })?;
        let status = now(&self.host).ok_or_else(|| not_here(&plugin))?;
        Ok(Reply::Done(Done {
            plugin,
            running: status.version,
            state: status.state,
            outcome,
        }))
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(reply: Reply) -> Vec<u8> {
    Versioned::new(reply).line()
}

/// A request; the version is looked at first, as all else may be said otherwise in another.
fn read(request: &[u8]) -> Result<Request, Refusal> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |error: serde_json::Error| Refusal {
        kind: RefusalKind::Malformed,
        message: format!("the request makes no sense: {error}"),
        hint: Some(format!(
            r#"write {{"version":{PROTOCOL_VERSION},"request":"status"}} in one line"#
        )),
    };
    let Version { version } = serde_json::from_slice(request).map_err(malformed)?;
    if version != PROTOCOL_VERSION {
        return Err(Refusal {
            kind: RefusalKind::Version,
            message: format!(
                "the request is of version {version}, and this process speaks version \
                 {PROTOCOL_VERSION}"
            ),
            hint: Some("use the vox that started it".to_owned()),
        });
    }
    let request: Versioned<Request> = serde_json::from_slice(request).map_err(malformed)?;
    Ok(request.said)
}

fn too_long() -> Reply {
    Reply::Error(Refusal {
        kind: RefusalKind::TooLong,
        message: format!("the request has more than {MAX_REQUEST} bytes"),
        hint: None,
    })
}

fn not_here(plugin: &PluginId) -> Refusal {
    Refusal {
        kind: RefusalKind::NotHere,
        message: format!("it does not use the plugin `{plugin}`"),
        hint: Some("`vox plugin top` shows which plugins are in use".to_owned()),
    }
}
