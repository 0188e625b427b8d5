//! A program as a process group: started under its limits, signalled as one, and reaped with what
//! it leaves behind.
//!
//! What must stay true:
//!
//! - A [`Group`] that is dropped leaves nothing of its own running. The leader is not reaped before
//!   the group has been killed, so its id cannot have become another's.
//! - Limits hold before the first instruction of the program. They cannot be set in the child
//!   without `unsafe`, so a shell is started first: it stops itself, is given the limits, goes on,
//!   and becomes the program.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, waitid, waitpgid,
};
use vox_plugin::{Error, Result};
use wait4::Wait4;

#[cfg(target_os = "linux")]
use crate::arguments::Limits;
use crate::arguments::Program;
use crate::guard::{self, Guarded};
use crate::mark::{self, Mark};

/// How long members of a group that were killed may take to end.
const KILLED: Duration = Duration::from_secs(1);

/// A process group and its leader.
pub struct Group {
    /// The leader, with its pipes.
    pub child: Child,
    leader: Pid,
    mark: Mark,
    reaped: bool,
    /// Told last, when nothing of the group is left.
    _guarded: Guarded,
}

/// How a group has ended.
#[derive(Debug)]
pub struct Reaped {
    /// What the system says of the leader.
    pub status: ExitStatus,
    /// Processor time of the leader and the processes that it waited for.
    pub cpu: Duration,
    /// The most memory that one of them had, in bytes.
    pub memory: u64,
    /// Processes that were still running and were ended.
    pub strays: usize,
}

impl Group {
    /// Starts a program. Its standard input is a pipe where `has_input`, otherwise empty.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when it cannot be started, [`Error::Invalid`] when its limits cannot be set,
    /// [`Error::Unavailable`] when no guard can be had.
    pub fn start(program: &Program, has_input: bool) -> Result<Self> {
        mark::adopt_orphans();
        guard::ready()?;
        let mark = Mark::new();
        let child = command(program)
            .env_clear()
            .envs(program.environment.iter().map(|(key, value)| (key, value)))
            .env(mark::NAME, mark.value())
            .current_dir(&program.directory)
            .stdin(if has_input {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                let file = program.file.display();
                Error::Failed(format!(
                    "`{}` ({file}) cannot be started: {error}",
                    program.name
                ))
            })?;
        let leader = Pid::from_child(&child);
        let guarded = match guard::enter(leader) {
            Ok(guarded) => guarded,
            Err(error) => {
                let _ = kill_process_group(leader, Signal::KILL);
                let _ = child.wait4();
                return Err(error);
            }
        };
        let group = Self {
            child,
            leader,
            mark,
            reaped: false,
            _guarded: guarded,
        };
        #[cfg(target_os = "linux")]
        if program.limits != Limits::default() {
            limits::set(group.leader, &program.limits)?;
            group.signal(Signal::CONT);
        }
        Ok(group)
    }

    /// Becomes readable, or is hung up, when the leader has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the system has no more descriptors or threads.
    pub fn ending(&self) -> Result<OwnedFd> {
        #[cfg(target_os = "linux")]
        if let Ok(process) =
            rustix::process::pidfd_open(self.leader, rustix::process::PidfdFlags::empty())
        {
            return Ok(process);
        }
        wait_on_a_thread(self.leader)
            .map_err(|error| Error::Unavailable(format!("no program can be waited for: {error}")))
    }

    /// Sends a signal to every process of the group. One that has none left is no error.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.leader, signal);
    }

    /// Whether a process of the group besides its leader is known to run.
    pub fn has_members(&self) -> bool {
        mark::has_members(&self.mark, self.leader)
    }

    /// Kills the group and what has left it, and answers how many processes had left it.
    pub fn kill(&self) -> usize {
        self.signal(Signal::KILL);
        mark::end_strays(&self.mark, self.leader, true)
    }

    /// Ends what is left of the group and of what has left it, and answers how its leader ended.
    /// `thorough` where the group was ended before its time.
    ///
    /// # Errors
    ///
    /// The leader cannot be waited for.
    pub fn reap(&mut self, thorough: bool) -> io::Result<Reaped> {
        self.signal(Signal::KILL);
        self.reaped = true;
        let leader = loop {
            match self.child.try_wait4()? {
                Some(ended) => break ended,
                None => wait_for_the_end_of(self.leader),
            }
        };
        let strays = self.reap_members() + mark::end_strays(&self.mark, self.leader, thorough);
        Ok(Reaped {
            status: leader.status,
            cpu: leader.rusage.utime + leader.rusage.stime,
            memory: leader.rusage.maxrss,
            strays,
        })
    }

    /// Waits for orphans of the group, which are children of this process where it adopts them.
    /// Answers how many of them were running.
    fn reap_members(&self) -> usize {
        let until = Instant::now() + KILLED;
        let mut nap = Duration::from_micros(50);
        let mut killed = 0;
        while Instant::now() < until {
            match waitpgid(self.leader, WaitOptions::NOHANG) {
                Ok(Some((_, status))) => {
                    let signal = status.terminating_signal();
                    killed += usize::from(signal == Some(Signal::KILL.as_raw()));
                }
                Ok(None) => {
                    thread::sleep(nap);
                    nap *= 2;
                }
                Err(_) => break,
            }
        }
        killed
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.reap(true);
        }
    }
}

/// The program itself, or a shell that becomes it once its limits are set.
fn command(program: &Program) -> Command {
    let mut steps = String::new();
    if let Some(umask) = &program.umask {
        // Checked: octal digits.
        steps.push_str(&format!("umask {umask}; "));
    }
    #[cfg(target_os = "linux")]
    if program.limits != Limits::default() {
        steps.push_str("kill -STOP $$; ");
    }
    if steps.is_empty() {
        let mut command = Command::new(&program.file);
        command.args(&program.arguments);
        return command;
    }
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("{steps}exec \"$@\""))
        .arg("sh")
        .arg(&program.file)
        .args(&program.arguments);
    command
}

fn wait_for_the_end_of(leader: Pid) {
    while let Err(rustix::io::Errno::INTR) = waitid(
        WaitId::Pid(leader),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    ) {}
}

/// For systems without pidfds.
fn wait_on_a_thread(leader: Pid) -> io::Result<OwnedFd> {
    let (end, held) = io::pipe()?;
    thread::Builder::new()
        .name("exec-wait".to_owned())
        .spawn(move || {
            wait_for_the_end_of(leader);
            drop(held);
        })?;
    Ok(end.into())
}

#[cfg(target_os = "linux")]
mod limits {
    use rustix::process::{Pid, Resource, Rlimit, WaitId, WaitIdOptions, prlimit, waitid};
    use vox_plugin::{Error, Result};

    use crate::arguments::Limits;

    /// Seconds between the signal that says that the processor time is used up, and SIGKILL.
    const LAST_SECONDS: u64 = 5;

    /// Limits a process once it has stopped itself.
    pub fn set(process: Pid, limits: &Limits) -> Result<()> {
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(process), stopped) {}
        for (name, resource, limit, room) in [
            ("cpu", Resource::Cpu, limits.cpu, LAST_SECONDS),
            ("memory", Resource::As, limits.memory, 0),
            ("file-size", Resource::Fsize, limits.file_size, 0),
            ("files", Resource::Nofile, limits.files, 0),
            ("processes", Resource::Nproc, limits.processes, 0),
        ] {
            let Some(limit) = limit else { continue };
            let both = Rlimit {
                current: Some(limit),
                maximum: Some(limit.saturating_add(room)),
            };
            prlimit(Some(process), resource, both).map_err(|error| {
                Error::Invalid(format!(
                    "`limits.{name}` cannot be {limit}: {error}; the most that this system allows \
                     is told by `ulimit -H -a`"
                ))
            })?;
        }
        Ok(())
    }
}
