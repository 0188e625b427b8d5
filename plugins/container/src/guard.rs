//! A process that removes the container when the host is killed.
//!
//! A container belongs to the engine, so it lives on when the host gets SIGKILL. The guard is a
//! shell that outlives it: it waits at a pipe whose other end only this process holds, and when
//! that closes without a word, it sends the request that removes the container. The request goes
//! over a connection that was made beforehand and is the shell's standard output, so no client has
//! to be installed; programs that speak to engines are tried only when that connection has failed.
//!
//! What must stay true: from before the container is made until it is removed there is a guard, and
//! once told that the container is gone it does nothing. Dropping the [`Guard`] without telling it,
//! as a panic does, removes the container and waits until it is gone.
//!
//! Engines hang up on a connection that is silent for long (Podman, socket-activated: 10 s), so
//! while the host lives it asks for a sign of life on it every [`PULSE`], and has a fresh guard
//! when none comes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use vox_plugin::{Error, Result};

use crate::streams::spawn;

/// How often the engine is asked for a sign of life.
const PULSE: Duration = Duration::from_secs(4);
/// How long it has for one, and to remove a container.
const PATIENCE: Duration = Duration::from_secs(30);

/// `$1` is the container's name, `$2` the path of the engine's socket.
const SCRIPT: &str = r#"
trap '' HUP INT PIPE TERM
if read -r word; then exit 0; fi
path="/containers/$1?force=true&v=true"
printf 'DELETE %s HTTP/1.1\r\nHost: vox\r\nConnection: close\r\n\r\n' "$path"
while read -r line <&1; do
    case $line in 'HTTP/1.1 204'*|'HTTP/1.1 404'*) exit 0;; esac
done
exec >/dev/null
curl -sf --unix-socket "$2" -X DELETE "http://vox$path" ||
docker -H "unix://$2" rm -f -v "$1" ||
podman --url "unix://$2" rm -f -v "$1"
"#;

/// A guard on duty.
pub struct Guard {
    /// Told that the container is gone.
    gone: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Has the container of this name guarded.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when no guard can be had.
    pub fn new(socket: &Path, name: &str) -> Result<Self> {
        let (socket, name) = (socket.to_owned(), name.to_owned());
        let shell = Shell::start(&socket, &name).map_err(|error| {
            Error::Unavailable(format!(
                "no guard for the container can be started, and without one it could outlive the \
                 run: {error}"
            ))
        })?;
        let (gone, told) = mpsc::channel();
        let thread = spawn(move || watch(shell, &told, &socket, &name))?;
        Ok(Self {
            gone: Some(gone),
            thread: Some(thread),
        })
    }

    /// Ends the guard's duty: the container is gone.
    pub fn dismiss(mut self) {
        if let Some(gone) = self.gone.take() {
            // The thread is there as long as this is.
            let _ = gone.send(());
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.gone.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(mut shell: Shell, told: &mpsc::Receiver<()>, socket: &Path, name: &str) {
    loop {
        match told.recv_timeout(PULSE) {
            Ok(()) => return shell.dismiss(),
            Err(RecvTimeoutError::Disconnected) => return shell.act(),
            Err(RecvTimeoutError::Timeout) => {
                // The old guard is kept where there is no new one: it has other ways to try.
                if shell.ask().is_err()
                    && let Ok(fresh) = Shell::start(socket, name)
                {
                    std::mem::replace(&mut shell, fresh).dismiss();
                }
            }
        }
    }
}

/// The guard's process.
struct Shell {
    child: Child,
    engine: UnixStream,
}

impl Shell {
    fn start(socket: &Path, name: &str) -> io::Result<Self> {
        let mut engine = UnixStream::connect(socket)?;
        engine.set_read_timeout(Some(PATIENCE))?;
        engine.set_write_timeout(Some(PATIENCE))?;
        // Docker gives a connection five minutes to its first request, and any time after that.
        ask(&mut engine)?;
        let child = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "vox-container-guard", name])
            .arg(socket)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            )
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(std::os::fd::OwnedFd::from(engine.try_clone()?))
            .stderr(Stdio::null())
            // Out of the terminal's reach: Ctrl-C is for the host.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, engine })
    }

    fn ask(&mut self) -> io::Result<()> {
        ask(&mut self.engine)
    }

    /// Ends the guard without a deed.
    fn dismiss(mut self) {
        if let Some(mut pipe) = self.child.stdin.take() {
            let _ = pipe.write_all(b"gone\n");
        }
        let _ = self.child.wait();
    }

    /// Has the guard remove the container, and waits for that.
    fn act(mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Asks for a sign of life, whose answer has no body.
fn ask(engine: &mut UnixStream) -> io::Result<()> {
    engine.write_all(b"HEAD /_ping HTTP/1.1\r\nHost: vox\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && answer.len() < 16 * 1024 {
        if engine.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.push(byte[0]);
    }
    let is_closing = || {
        String::from_utf8_lossy(&answer)
            .to_lowercase()
            .contains("connection: close")
    };
    if answer.starts_with(b"HTTP/1.1 200") && !is_closing() {
        Ok(())
    } else {
        Err(io::Error::other("the engine gives no sign of life"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{IMAGE, Podman, podman};

    /// Starts a container, as the run `name`.
    fn start(podman: &Podman, name: &str) {
        let label = format!("dev.vox.run={name}");
        let made = podman.call(&[
            "run",
            "-d",
            "--network=none",
            "--name",
            name,
            "-l",
            &label,
            "--stop-timeout",
            "1",
            IMAGE,
            "sleep",
            "1000",
        ]);
        made.unwrap();
    }

    #[test]
    fn a_guard_that_is_dropped_has_removed_the_container() {
        let Some(podman) = podman() else { return };
        let name = format!("vox-guarded-{}", std::process::id());
        start(podman, &name);
        drop(Guard::new(&podman.socket(), &name).unwrap());
        assert!(podman.containers(&name).is_empty());
    }

    #[test]
    fn a_guard_that_is_dismissed_does_nothing() {
        let Some(podman) = podman() else { return };
        let name = format!("vox-dismissed-{}", std::process::id());
        start(podman, &name);
        Guard::new(&podman.socket(), &name).unwrap().dismiss();
        assert_eq!(podman.containers(&name).len(), 1);
        podman.call(&["rm", "-f", "-t", "0", &name]).unwrap();
    }

    #[test]
    fn the_engine_goes_on_answering_while_the_host_lives() {
        let Some(podman) = podman() else { return };
        let mut shell = Shell::start(&podman.socket(), "vox-nothing").unwrap();
        for _ in 0..3 {
            shell.ask().unwrap();
        }
        shell.dismiss();
    }
}
