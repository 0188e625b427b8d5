//! The life of a program: started in a process group of its own, watched until it has ended, and
//! never left behind.
//!
//! One loop waits for what the threads tell: that the program has ended, that a pipe is drained,
//! that the input is written. What must stay true:
//!
//! - When [`run`] returns, nothing of the process group lives. The leader is not reaped before
//!   that, so its id cannot have become another's.
//! - Cancellation is asked for every [`TICK`]; it ends the group with SIGTERM, and with SIGKILL
//!   after [`GRACE`].
//! - A process that has left the group and holds a pipe open delays the end by twice [`GRACE`].

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use vox_plugin::{Error, Result};

use crate::arguments::Program;
use crate::pump::{Drain, Drained, LastLines, Streams, fill};

/// How often cancellation is asked for.
const TICK: Duration = Duration::from_millis(50);
/// How long processes have to end by themselves.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 2000 });

/// How a program has ended.
#[derive(Debug)]
pub struct Ended {
    /// What the system says.
    pub status: ExitStatus,
    /// Whether a stream of its output was closed because nobody took it any more.
    pub unwanted: bool,
    /// The last lines that it wrote to `stderr`.
    pub last_words: Vec<String>,
}

/// What the threads tell.
enum Notice {
    /// The program has ended.
    Exited,
    /// A pump has ended.
    Output(Result<Drained>),
    /// The input is written.
    Input(Result<()>),
}

/// Runs a program to its end. It reads port `stdin` where `has_input`, otherwise nothing.
///
/// # Errors
///
/// The program cannot be started, a stream of it cannot be moved, or [`Error::Cancelled`].
pub fn run(program: &Program, has_input: bool, streams: &Arc<dyn Streams>) -> Result<Ended> {
    let mut group = Group::start(program, has_input)?;
    let (notices, told) = mpsc::channel();
    let mut watch = Watch::default();
    let last_words = Arc::new(Mutex::new(LastLines::default()));

    let leader = group.leader;
    spawn(&notices, move || {
        while let Err(rustix::io::Errno::INTR) = waitid(
            WaitId::Pid(leader),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        ) {}
        Notice::Exited
    })?;
    if let Some(pipe) = group.child.stdin.take() {
        let (streams, ended) = (Arc::clone(streams), Arc::clone(&watch.ended));
        spawn(&notices, move || {
            Notice::Input(fill(pipe, "stdin", &*streams, &ended))
        })?;
        watch.inputs += 1;
    }
    if let Some(pipe) = group.child.stdout.take() {
        let (streams, drain) = (Arc::clone(streams), watch.drain());
        spawn(&notices, move || {
            Notice::Output(drain.run(pipe, "stdout", &*streams, |_| {}))
        })?;
    }
    if let Some(pipe) = group.child.stderr.take() {
        let (streams, drain, last) = (Arc::clone(streams), watch.drain(), Arc::clone(&last_words));
        let listen = move |bytes: &[u8]| {
            last.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(bytes)
        };
        spawn(&notices, move || {
            Notice::Output(drain.run(pipe, "stderr", &*streams, listen))
        })?;
    }
    drop(notices);

    while !watch.is_over() {
        match told.recv_timeout(TICK) {
            Ok(notice) => watch.take(notice),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if streams.should_cancel() {
            watch.failure.get_or_insert(Error::Cancelled);
        }
        if let Some(signal) = watch.signal() {
            group.signal(signal);
        }
    }
    let status = group
        .reap()
        .map_err(|error| Error::Failed(format!("`{}`: {error}", program.name)))?;
    if let Some(error) = watch.failure {
        return Err(error);
    }
    let last_words =
        std::mem::take(&mut *last_words.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Ended {
        status,
        unwanted: watch.unwanted,
        last_words: last_words.finish(),
    })
}

fn spawn(notices: &Sender<Notice>, work: impl FnOnce() -> Notice + Send + 'static) -> Result<()> {
    let notices = notices.clone();
    let body = move || {
        // Nobody listens once the step has given up on this thread.
        let _ = notices.send(work());
    };
    match thread::Builder::new().name("exec".to_owned()).spawn(body) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Unavailable(format!(
            "no thread can be started: {error}"
        ))),
    }
}

/// What is known of the program and its pumps.
#[derive(Default)]
struct Watch {
    /// Set when the program has ended; the pump of the input looks at it.
    ended: Arc<AtomicBool>,
    /// When that was.
    ended_at: Option<Instant>,
    /// Pumps of the input that still run.
    inputs: usize,
    /// Pumps of the output, and how many of them have ended.
    drains: Vec<Arc<Drain>>,
    drained: usize,
    unwanted: bool,
    /// Why the program has to end before its time.
    failure: Option<Error>,
    /// When SIGTERM was sent, and SIGKILL.
    terminated_at: Option<Instant>,
    killed_at: Option<Instant>,
}

impl Watch {
    fn drain(&mut self) -> Arc<Drain> {
        let drain = Drain::new();
        self.drains.push(Arc::clone(&drain));
        drain
    }

    fn take(&mut self, notice: Notice) {
        let failure = match notice {
            Notice::Exited => {
                self.ended.store(true, Ordering::Release);
                self.ended_at = Some(Instant::now());
                None
            }
            Notice::Output(result) => {
                self.drained += 1;
                self.unwanted |= result == Ok(Drained::Unwanted);
                result.err()
            }
            Notice::Input(result) => {
                self.inputs -= 1;
                result.err()
            }
        };
        if let Some(error) = failure {
            self.failure.get_or_insert(error);
        }
    }

    /// The signal that is due, once.
    fn signal(&mut self) -> Option<Signal> {
        if self.killed_at.is_none()
            && (is_over_grace(self.terminated_at) || is_over_grace(self.ended_at))
        {
            self.killed_at = Some(Instant::now());
            return Some(Signal::KILL);
        }
        if self.failure.is_some() && self.terminated_at.is_none() {
            self.terminated_at = Some(Instant::now());
            return Some(Signal::TERM);
        }
        None
    }

    /// Whether nothing is left to wait for: the program has ended, and each pump has, or waits for
    /// a process that could not be ended.
    fn is_over(&self) -> bool {
        let pumped = self.inputs == 0 && self.drained == self.drains.len();
        let stuck = || {
            self.drains
                .iter()
                .filter(|drain| drain.is_waiting())
                .count()
        };
        let given_up =
            || is_over_grace(self.killed_at) && self.drained + stuck() >= self.drains.len();
        self.ended_at.is_some() && (pumped || given_up())
    }
}

fn is_over_grace(since: Option<Instant>) -> bool {
    since.is_some_and(|since| since.elapsed() > GRACE)
}

/// A process group and its leader.
struct Group {
    child: Child,
    leader: Pid,
    reaped: bool,
}

impl Group {
    fn start(program: &Program, has_input: bool) -> Result<Self> {
        let child = Command::new(&program.file)
            .args(&program.arguments)
            .env_clear()
            .envs(program.environment.iter().map(|(key, value)| (key, value)))
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
        Ok(Self {
            child,
            leader,
            reaped: false,
        })
    }

    /// Sends a signal to every process of the group. One that has none left is no error.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.leader, signal);
    }

    /// Ends what is left of the group, and answers how its leader ended.
    fn reap(&mut self) -> std::io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.reaped = true;
        self.child.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.reap();
        }
    }
}

impl Ended {
    /// The code as a shell tells it: 128 and the number of the signal for a program that one ended.
    pub fn code(&self) -> i32 {
        let signalled = || 128 + self.signal().unwrap_or_default();
        self.status.code().unwrap_or_else(signalled)
    }

    /// The number of the signal that ended the program.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Whether the program has done what was wanted of it. One that went on writing after its
    /// reader had enough ends with SIGPIPE, and has; so has a shell that tells this of a command.
    pub fn is_success(&self) -> bool {
        self.status.success() || self.unwanted && self.code() == 128 + Signal::PIPE.as_raw()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use vox_plugin::serde_json::json;
    use vox_plugin::{Attribute, attribute};

    use super::*;
    use crate::testing::Memory;

    fn shell_in(script: &str, environment: &[Attribute]) -> Program {
        let arguments = json!({ "shell": script }).to_string();
        Program::new(&arguments, environment, Path::new("/")).unwrap()
    }

    /// Runs a script whose streams are `streams`.
    fn run_with(script: &str, streams: Memory) -> (Result<Ended>, Arc<Memory>) {
        let has_input = streams.has_input();
        let streams = Arc::new(streams);
        let ended = run(
            &shell_in(script, &[]),
            has_input,
            &(Arc::clone(&streams) as _),
        );
        (ended, streams)
    }

    #[test]
    fn output_goes_to_the_port_of_its_name() {
        let (ended, streams) = run_with("echo out; echo err >&2", Memory::default());
        assert!(ended.unwrap().is_success());
        assert_eq!(streams.chunks("stdout").concat(), b"out\n");
        assert_eq!(streams.chunks("stderr").concat(), b"err\n");
    }

    #[test]
    fn input_of_any_length_comes_out_again() {
        let chunk = b"0123456789abcde\n".repeat(4096);
        let input = vec![chunk.clone(); 50];
        let (ended, streams) = run_with("cat", Memory::with_input(input));
        assert!(ended.unwrap().is_success());
        assert!(streams.chunks("stdout").concat() == chunk.repeat(50));
    }

    #[test]
    fn without_input_there_is_nothing_to_read() {
        let (ended, streams) = run_with("wc -c", Memory::default());
        assert!(ended.unwrap().is_success());
        assert_eq!(streams.chunks("stdout").concat().trim_ascii(), b"0");
    }

    #[test]
    fn input_that_is_not_read_does_not_keep_the_step_from_ending() {
        let (ended, _) = run_with("exit 0", Memory::with_endless_input());
        assert!(ended.unwrap().is_success());
    }

    #[test]
    fn the_environment_is_the_one_that_was_given() {
        let streams = Arc::new(Memory::default());
        let program = shell_in("/usr/bin/env", &[attribute("GREETING", "hello world")]);
        run(&program, false, &(Arc::clone(&streams) as _)).unwrap();
        let output = String::from_utf8(streams.chunks("stdout").concat()).unwrap();
        assert!(output.contains("GREETING=hello world\n"), "{output}");
        // A shell adds these.
        let added = ["GREETING", "PATH", "PWD", "OLDPWD", "SHLVL", "_"];
        for name in output
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
        {
            assert!(added.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_failure_has_its_code_and_last_words() {
        let (ended, _) = run_with(
            "echo first >&2; echo no such luck >&2; exit 3",
            Memory::default(),
        );
        let ended = ended.unwrap();
        assert!(!ended.is_success());
        assert_eq!(ended.code(), 3);
        assert_eq!(ended.last_words, ["first", "no such luck"]);
    }

    #[test]
    fn a_signal_is_told_as_a_shell_does() {
        let (ended, _) = run_with("kill -USR1 $$", Memory::default());
        let ended = ended.unwrap();
        assert_eq!(ended.code(), 128 + Signal::USR1.as_raw());
        assert_eq!(ended.signal(), Some(Signal::USR1.as_raw()));
    }

    #[test]
    fn cancellation_ends_the_whole_group() {
        let began = Instant::now();
        let (ended, _) = run_with("sleep 1000 & echo; wait", Memory::cancelled_by_output());
        assert_eq!(ended.unwrap_err(), Error::Cancelled);
        // Both had to be gone for the pipes to close; nothing was given up.
        assert!(began.elapsed() < Duration::from_secs(100));
    }

    #[test]
    fn a_program_that_does_not_heed_cancellation_is_killed() {
        let script = "trap '' TERM; echo; while :; do sleep 1000; done";
        let (ended, _) = run_with(script, Memory::cancelled_by_output());
        assert_eq!(ended.unwrap_err(), Error::Cancelled);
    }

    #[test]
    fn what_a_program_leaves_running_is_ended_with_it() {
        let (ended, streams) = run_with("sleep 1000 & echo done", Memory::default());
        assert!(ended.unwrap().is_success());
        assert_eq!(streams.chunks("stdout").concat(), b"done\n");
    }

    #[test]
    fn a_writer_whose_reader_had_enough_has_succeeded() {
        let refusing = || Memory::refusing(|| Error::Unavailable("enough".to_owned()));
        let (ended, _) = run_with("exec yes", refusing());
        assert!(ended.unwrap().is_success());
        let (ended, _) = run_with("yes; exit $?", refusing());
        assert!(ended.unwrap().is_success());
    }

    #[test]
    fn a_stream_that_breaks_ends_the_program() {
        let broken = || Error::Unavailable("the stream broke".to_owned());
        let (ended, _) = run_with("cat", Memory::with_broken_input(broken));
        assert_eq!(ended.unwrap_err(), broken());
        let (ended, _) = run_with(
            "echo; sleep 1000",
            Memory::refusing(|| Error::Invalid("no".into())),
        );
        assert_eq!(ended.unwrap_err(), Error::Invalid("no".into()));
    }
}
