//! The guard: a process that ends what a host leaves running when it dies, by whatever means.
//!
//! It is `/bin/sh` with the script `guard.sh`, started with the first program and told of process
//! groups as they begin and end through a pipe whose other end only this process holds. When that
//! closes, the host is gone; the guard kills the groups that are open, then every process that
//! carries a [mark](crate::mark) of the host, and ends. A shell is on every system that programs
//! are run on, so this needs neither code of our own in another process nor `unsafe`. A signal at
//! the death of the parent (`PR_SET_PDEATHSIG`) would need both, reaches only the program itself,
//! and comes with the death of the *thread* that started it. What must stay true:
//!
//! - No program is started without a guard.
//! - Nothing that happens to the host happens to the guard: it is in a group of its own, so that a
//!   terminal's Ctrl-C does not reach it, ignores the signals that a terminal sends, and carries no
//!   mark itself, so that a Vox around the host does not end it before it has done its work.
//! - It has neither the host's streams nor its directory, so that nobody waits for it.
//!
//! There is no moment in which a program is not covered: the guard knows its mark before it is
//! started, and finds its group by that until it is told. Only a program that changes its environment
//! in the moment between its start and that telling is not found.

use std::collections::BTreeSet;
use std::io::{self, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::process::Pid;
use vox_plugin::{Error, Result};

use crate::environment::DEFAULT_PATH;
use crate::mark;

/// The guard of this process. The lock guards its pipe and the list of groups, and is held while a
/// guard is started, so that there is one.
static GUARD: Mutex<Option<Guard>> = Mutex::new(None);

struct Guard {
    process: Child,
    line: PipeWriter,
    /// The groups that were told and have not ended.
    open: BTreeSet<i32>,
}

/// A process group that the guard knows, until this is dropped.
#[derive(Debug)]
pub struct Guarded(Pid);

/// Sees to it that there is a guard. Called before a program is started.
///
/// # Errors
///
/// [`Error::Unavailable`] when none can be started.
pub fn ready() -> Result<()> {
    with_guard(|_| Ok(()))
}

/// Tells the guard of a process group that has begun.
///
/// # Errors
///
/// [`Error::Unavailable`] when there is no guard and none can be started.
pub fn enter(group: Pid) -> Result<Guarded> {
    let id = group.as_raw_pid();
    with_guard(|guard| {
        guard.open.insert(id);
        guard.tell('+', id)
    })?;
    Ok(Guarded(group))
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let id = self.0.as_raw_pid();
        // Without a guard there is nobody who had to be told.
        let _ = with_guard(|guard| {
            guard.open.remove(&id);
            guard.tell('-', id)
        });
    }
}

/// The guard's process.
#[cfg(target_os = "linux")]
pub fn id() -> Option<Pid> {
    let guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    guard.as_ref().map(|guard| Pid::from_child(&guard.process))
}

/// Works with the guard. One that has ended is replaced, and the new one is told what is open.
fn with_guard(work: impl FnOnce(&mut Guard) -> io::Result<()>) -> Result<()> {
    let mut slot = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    let unavailable = |error: io::Error| {
        Error::Unavailable(format!(
            "/bin/sh, which ends the programs of a run that is killed, cannot be started: {error}"
        ))
    };
    let guard = match &mut *slot {
        Some(guard) => guard,
        empty => empty.insert(Guard::start(BTreeSet::new()).map_err(unavailable)?),
    };
    let told = match guard.process.try_wait() {
        Ok(None) => work(guard),
        _ => {
            // What `work` changes in the list of groups holds; whoever is started next is told all.
            let _ = work(guard);
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    if told.is_err() {
        let _ = guard.process.kill();
        let _ = guard.process.wait();
        let open = std::mem::take(&mut guard.open);
        *slot = None;
        *slot = Some(Guard::start(open).map_err(unavailable)?);
    }
    Ok(())
}

impl Guard {
    fn start(open: BTreeSet<i32>) -> io::Result<Self> {
        let (end, line) = io::pipe()?;
        let process = Command::new("/bin/sh")
            .args(["-c", include_str!("guard.sh"), "vox-guard", mark::host()])
            .env_clear()
            .env("PATH", DEFAULT_PATH)
            .current_dir("/")
            .stdin(end)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let mut guard = Self {
            process,
            line,
            open,
        };
        for id in guard.open.clone() {
            guard.tell('+', id)?;
        }
        Ok(guard)
    }

    fn tell(&mut self, what: char, group: i32) -> io::Result<()> {
        // One write, so that the guard reads whole lines only.
        self.line.write_all(format!("{what}{group}\n").as_bytes())
    }
}
