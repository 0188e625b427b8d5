//! A server's process: started, listened to, and never left behind.
//!
//! It is the child of a shell with the script `guard.sh`, which ends it when the host is gone by whatever
//! means. A signal at the death of the parent (`PR_SET_PDEATHSIG`) would need `unsafe` code in the child,
//! and comes with the death of the *thread* that started it. What must stay true:
//!
//! - There is no moment in which the server runs and nobody would end it: the shell that starts it is the
//!   one that watches.
//! - A [`Process`] that is dropped leaves nothing running. Its group's leader is not reaped before the
//!   group has been killed, so its id cannot have become another's.
//! - A terminal's Ctrl-C does not reach it: it is in a group of its own, and the host ends it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use vox_plugin::{Error, Result};

/// Lines that are kept for the message about an end.
const LAST_LINES: usize = 12;
/// The longest line that is kept, in bytes.
const LONGEST_LINE: u64 = 4096;
/// The longest that what an ended process said is waited for; something that it left behind may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Between two looks at a process that is about to end.
const NAP: Duration = Duration::from_millis(5);

/// A process that runs, or has ended by itself.
#[derive(Debug)]
pub struct Process {
    /// Guards the shell, which is waited for under it and nowhere else.
    shell: Mutex<Child>,
    group: Pid,
    last: Arc<Mutex<VecDeque<String>>>,
    listener: Option<JoinHandle<()>>,
    /// The pipe that tells the shell that the host lives.
    line: Option<ChildStdin>,
}

impl Process {
    /// Starts a program with these arguments, and a key in its environment; `hear` gets what it says, line
    /// by line, on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when `/bin/sh` cannot be started.
    pub fn start(
        program: &Path,
        arguments: &[OsString],
        key: &str,
        hear: impl Fn(&str) + Send + 'static,
    ) -> Result<Self> {
        let unavailable = |error: std::io::Error| {
            Error::Unavailable(format!("{} cannot be started: {error}", program.display()))
        };
        let mut shell = Command::new("/bin/sh")
            .args(["-c", include_str!("guard.sh"), "vox-llama-cpp"])
            .arg(program)
            .args(arguments)
            // Arguments are seen by everybody on the machine, the environment is not.
            .env("LLAMA_API_KEY", key)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(unavailable)?;
        let group = Pid::from_child(&shell);
        let line = shell.stdin.take();
        let said = shell.stderr.take();
        let last = Arc::<Mutex<VecDeque<String>>>::default();
        let mut process = Self {
            shell: Mutex::new(shell),
            group,
            last: Arc::clone(&last),
            listener: None,
            line,
        };
        if let Some(said) = said {
            // Where this fails, the process is dropped and so ended.
            let listener = thread::Builder::new()
                .name("llama-cpp-log".to_owned())
                .spawn(move || listen(said, &last, hear));
            process.listener = Some(listener.map_err(unavailable)?);
        }
        Ok(process)
    }

    /// How it ended, with the last it said; none while it runs.
    pub fn ended(&self) -> Option<String> {
        let status = {
            let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
            shell.try_wait().ok().flatten()?
        };
        self.hear_out();
        Some(format!("{}{}", describe(status), self.last_lines()))
    }

    /// As [`Process::ended`], for a process that is seen to be ending.
    pub fn ended_within(&self, patience: Duration) -> Option<String> {
        let begin = Instant::now();
        loop {
            let ended = self.ended();
            if ended.is_some() || begin.elapsed() >= patience {
                return ended;
            }
            thread::sleep(NAP);
        }
    }

    /// Waits until all is heard that it said before it ended: that may still lie in the pipe.
    fn hear_out(&self) {
        let begin = Instant::now();
        let listens = || {
            let listener = self.listener.as_ref();
            listener.is_some_and(|listener| !listener.is_finished())
        };
        while listens() && begin.elapsed() < LAST_WORDS {
            thread::sleep(NAP);
        }
    }

    /// The last that it said, for the end of a message; empty where it said nothing.
    pub fn last_lines(&self) -> String {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = last.iter().map(String::as_str).collect();
        format!("; it said last:\n  {}", lines.join("\n  "))
    }

    /// Kills all of it, as a fault would.
    #[cfg(test)]
    pub fn kill(&self) {
        assert!(self.ended().is_none(), "its group may be another's");
        kill_process_group(self.group, Signal::KILL).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let shell = self.shell.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Once it was waited for, its id may be another's.
        if matches!(shell.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.group, Signal::KILL);
            let _ = shell.wait();
        }
        // Where somebody killed the shell alone, its watcher ends the server now.
        self.line = None;
        if let Some(listener) = self.listener.take() {
            // What it listens to is closed with the last of the group.
            let _ = listener.join();
        }
    }
}

fn listen(said: impl Read, last: &Mutex<VecDeque<String>>, hear: impl Fn(&str)) {
    let mut reader = BufReader::new(said);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            continue;
        }
        {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(text.to_owned());
        }
        hear(text);
    }
}

/// How a shell tells that its program ended: by a code, or by 128 and a signal.
fn describe(status: ExitStatus) -> String {
    match status.code() {
        Some(code @ 129..) => format!("it was ended by signal {}", code - 128),
        Some(code) => format!("it ended with code {code}"),
        None => "it was killed".to_owned(),
    }
}
