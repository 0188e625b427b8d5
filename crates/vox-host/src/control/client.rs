//! Finding the processes that are at work, and asking them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vox_contract::PluginId;

use super::error::ControlError;
use super::lines::{Lines, NoLine, is_time_out, send};
use super::platform;
use super::protocol::{
    Done, MAX_REPLY, PROTOCOL_VERSION, ProcessReport, Reply, Request, Versioned,
};
use crate::directories::Directories;

/// How the file of a socket ends.
const EXTENSION: &str = "sock";

/// How long a process may take to say how it is.
const STATUS_WAIT: Duration = Duration::from_secs(2);

/// How long a process may take to do something: a reload compiles.
const ACTION_WAIT: Duration = Duration::from_secs(120);

/// A process that listens, or did so a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pid: u32,
    socket: PathBuf,
}

/// The processes of this user that are at work with plugins, by id. What dead ones left behind is
/// removed.
///
/// # Errors
///
/// The directory of the sockets is open to others, or cannot be read.
pub fn processes(directories: &Directories) -> Result<Vec<Process>, ControlError> {
    let directory = &directories.runtime;
    match platform::is_private(directory) {
        Ok(true) => {}
        Ok(false) => {
            return Err(ControlError::NotPrivate {
                directory: directory.clone(),
            });
        }
        // Nobody has ever listened.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(directory, error)),
    }
    sweep(directory);
    let mut found = sockets(directory).map_err(|error| unreadable(directory, error))?;
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

fn unreadable(directory: &Path, source: io::Error) -> ControlError {
    ControlError::Directory {
        action: "read",
        directory: directory.to_owned(),
        source,
    }
}

impl Process {
    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it does, and what its plugins cost.
    ///
    /// # Errors
    ///
    /// It is not there any more, does not answer, or answers something else.
    pub fn status(&self) -> Result<ProcessReport, ControlError> {
        match self.ask(&Request::Status, STATUS_WAIT)? {
            Reply::Status(report) => Ok(*report),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Holds a plugin's calls back.
    ///
    /// # Errors
    ///
    /// As [`Process::status`]; and the process refuses, or does not use the plugin
    /// ([`ControlError::Refused`]).
    pub fn pause(&self, plugin: &PluginId) -> Result<Done, ControlError> {
        let plugin = plugin.clone();
        self.act(&Request::Pause { plugin })
    }

    /// Lets a paused plugin's calls go on.
    ///
    /// # Errors
    ///
    /// As [`Process::pause`].
    pub fn resume(&self, plugin: &PluginId) -> Result<Done, ControlError> {
        let plugin = plugin.clone();
        self.act(&Request::Resume { plugin })
    }

    /// Has a plugin's files as they are now take over.
    ///
    /// # Errors
    ///
    /// As [`Process::pause`]. Where the new version does not do, the old one goes on.
    pub fn reload(&self, plugin: &PluginId) -> Result<Done, ControlError> {
        let plugin = plugin.clone();
        self.act(&Request::Reload { plugin })
    }

    /// Lets a plugin go once its calls are over.
    ///
    /// # Errors
    ///
    /// As [`Process::pause`].
    pub fn unload(&self, plugin: &PluginId) -> Result<Done, ControlError> {
        let plugin = plugin.clone();
        self.act(&Request::Unload { plugin })
    }

    fn act(&self, request: &Request) -> Result<Done, ControlError> {
        match self.ask(request, ACTION_WAIT)? {
            Reply::Done(done) => Ok(done),
            other => Err(self.unexpected(&other)),
        }
    }

    fn ask(&self, request: &Request, wait: Duration) -> Result<Reply, ControlError> {
        let pid = self.pid;
        let failed = |error: io::Error| match error.kind() {
            _ if is_time_out(&error) => ControlError::NoAnswer { pid, wait },
            io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => ControlError::Gone { pid },
            _ => ControlError::Talk { pid, source: error },
        };
        let stream = platform::connect(&self.socket).map_err(failed)?;
        if !platform::is_same_user(&stream).map_err(failed)? {
            return Err(ControlError::OtherUser { pid });
        }
        // Who is hung up on while it writes may have been told why.
        let sent = send(&stream, &Versioned::new(request).line(), wait);
        let line = match Lines::new(&stream).next(MAX_REPLY, wait) {
            Ok(line) => line,
            Err(NoLine::End) => {
                return Err(sent.map_or_else(failed, |()| ControlError::Gone { pid }));
            }
            Err(NoLine::TimedOut) => return Err(ControlError::NoAnswer { pid, wait }),
            Err(NoLine::Broken(error)) => return Err(failed(error)),
            Err(NoLine::TooLong) => {
                return Err(self.malformed(format!("more than {MAX_REPLY} bytes")));
            }
        };
        let reply: Versioned<Reply> =
            serde_json::from_slice(&line).map_err(|error| self.malformed(error.to_string()))?;
        match reply.said {
            Reply::Error(refusal) => Err(ControlError::Refused { pid, refusal }),
            _ if reply.version != PROTOCOL_VERSION => {
                Err(self.malformed(format!("version {} of the protocol", reply.version)))
            }
            reply => Ok(reply),
        }
    }

    fn unexpected(&self, reply: &Reply) -> ControlError {
        self.malformed(format!("an answer to something else: {reply:?}"))
    }

    fn malformed(&self, detail: String) -> ControlError {
        let pid = self.pid;
        ControlError::Malformed { pid, detail }
    }
}

/// The socket of a process.
pub(super) fn socket_of(directory: &Path, pid: u32) -> PathBuf {
    directory.join(format!("{pid}.{EXTENSION}"))
}

/// Makes the directory of the sockets, or sees that the one that is there is private.
pub(super) fn make_directory(directory: &Path) -> Result<(), ControlError> {
    let failed = |source| ControlError::Directory {
        action: "make",
        directory: directory.to_owned(),
        source,
    };
    platform::make_private(directory).map_err(failed)?;
    if platform::is_private(directory).map_err(failed)? {
        return Ok(());
    }
    Err(ControlError::NotPrivate {
        directory: directory.to_owned(),
    })
}

/// Removes the sockets that dead processes left. Somebody's socket whom nobody can be asked about
/// stays: the process may be about to listen.
pub(super) fn sweep(directory: &Path) {
    for process in sockets(directory).unwrap_or_default() {
        if !platform::lives(process.pid) {
            remove_if_dead(&process.socket);
        }
    }
}

/// Removes a socket on which nobody listens. Of a process of another container, which has the same
/// ids as one here, somebody does.
pub(super) fn remove_if_dead(socket: &Path) {
    let connected = platform::connect(socket);
    if connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        tracing::debug!(socket = %socket.display(), "a dead process left it");
        let _ = std::fs::remove_file(socket);
    }
}

/// The sockets in a directory, whoever left them.
fn sockets(directory: &Path) -> io::Result<Vec<Process>> {
    let entries = std::fs::read_dir(directory)?;
    let paths = entries.flatten().map(|entry| entry.path());
    let processes = paths.filter_map(|socket| {
        let is_socket = socket.extension().is_some_and(|end| end == EXTENSION);
        let pid = socket.file_stem()?.to_str()?.parse().ok()?;
        is_socket.then_some(Process { pid, socket })
    });
    Ok(processes.collect())
}
