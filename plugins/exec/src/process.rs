//! Attending a child from its start to the end of everything that it started.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use vox_plugin::native::HostHandle;
use vox_plugin::{Error, Result, failed, host};

use crate::pipes::{LastLines, STDERR, STDOUT, read_output, write_input};

/// How often the run is asked whether it was cancelled.
const LOOK_UP: Duration = Duration::from_millis(50);
/// How long a cancelled child has to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    signal: Option<i32>,
    last_lines: String,
}

impl Ended {
    fn new(status: ExitStatus, stderr: &LastLines) -> Self {
        let signal = status.signal();
        let code = status.code().or(signal.map(|signal| 128 + signal)).unwrap_or(-1);
        Self { code, signal, last_lines: stderr.text() }
    }

    /// What happened, for people: one line, and where it failed the last lines of `stderr`.
    pub fn summary(&self, program: &str) -> String {
        let how = match (self.signal, self.code) {
            (Some(signal), _) => format!("`{program}` was ended by signal {signal}"),
            (None, 0) => return format!("`{program}` succeeded"),
            (None, code) => format!("`{program}` exited with code {code}"),
        };
        if self.last_lines.is_empty() { how } else { format!("{how}\n{}", self.last_lines) }
    }
}

/// Moves the child's streams until it ends, or the run is cancelled; then nothing of it is left.
///
/// # Errors
///
/// [`Error::Cancelled`], or the system cannot wait for the child.
pub fn attend(mut child: Child) -> Result<Ended> {
    let group = Pid::from_child(&child);
    let handle = HostHandle::current().ok_or_else(|| failed("no call is going on"))?;
    let gone = AtomicBool::new(false);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());

    thread::scope(|scope| {
        if let Some(stdin) = stdin {
            let (handle, gone) = (handle.clone(), &gone);
            scope.spawn(move || handle.enter(|| write_input(stdin, gone)));
        }
        let out = handle.clone();
        let stdout = stdout.map(|pipe| scope.spawn(move || out.enter(|| read_output(pipe, STDOUT))));
        let stderr = stderr.map(|pipe| scope.spawn(move || handle.enter(|| read_output(pipe, STDERR))));

        let waited = wait(group);
        // The child is not reaped yet, so its number still names its group and no other.
        let _ = kill_process_group(group, Signal::KILL);
        gone.store(true, Ordering::Release);
        let status = child.wait().map_err(|error| failed(format!("the child cannot be waited for: {error}")))?;
        if let Some(stdout) = stdout {
            let _ = stdout.join();
        }
        let stderr = stderr.and_then(|reader| reader.join().ok()).unwrap_or_default();
        waited?;
        Ok(Ended::new(status, &stderr))
    })
}

/// Waits for the child's end without reaping it. A cancelled run asks the whole group to end.
fn wait(group: Pid) -> Result<()> {
    thread::scope(|scope| {
        let (sender, ended) = mpsc::channel();
        scope.spawn(move || {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let result = loop {
                match waitid(WaitId::Pid(group), options) {
                    Err(rustix::io::Errno::INTR) => {}
                    result => break result,
                }
            };
            let _ = sender.send(result);
        });
        let mut asked: Option<Instant> = None;
        loop {
            match ended.recv_timeout(LOOK_UP) {
                Ok(Ok(_)) | Err(RecvTimeoutError::Disconnected) if asked.is_none() => return Ok(()),
                Ok(Ok(_)) | Err(RecvTimeoutError::Disconnected) => return Err(Error::Cancelled),
                Ok(Err(error)) => return Err(failed(format!("the child cannot be waited for: {error}"))),
                Err(RecvTimeoutError::Timeout) => match asked {
                    None if host::cancel::should_cancel() => {
                        let _ = kill_process_group(group, Signal::TERM);
                        asked = Some(Instant::now());
                    }
                    Some(since) if since.elapsed() > GRACE => {
                        let _ = kill_process_group(group, Signal::KILL);
                    }
                    _ => {}
                },
            }
        }
    })
}
