//! What differs between systems: local sockets, whose they are, and whether a process lives.
//!
//! Where there are no Unix sockets nobody listens and nothing is found; everything else works.

#[cfg(unix)]
pub(super) use self::unix::{
    Listener, Stream, Waker, connect, is_private, is_same_user, lives, make_private,
};

#[cfg(not(unix))]
pub(super) use self::elsewhere::{
    Listener, Stream, Waker, connect, is_private, is_same_user, lives, make_private,
};

#[cfg(unix)]
mod unix {
    use std::io;
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    use rustix::process::{Pid, geteuid, test_kill_process};

    pub(crate) type Stream = UnixStream;

    /// A socket that is listened on, until its waker is dropped.
    #[derive(Debug)]
    pub(crate) struct Listener {
        socket: UnixListener,
        woken: UnixStream,
    }

    /// Dropping it ends the wait for connections.
    #[derive(Debug)]
    pub(crate) struct Waker {
        _end: UnixStream,
    }

    impl Listener {
        pub fn bind(path: &Path) -> io::Result<(Self, Waker)> {
            let (woken, end) = UnixStream::pair()?;
            let socket = UnixListener::bind(path)?;
            // Whoever connected may be gone again when it comes to accepting.
            socket.set_nonblocking(true)?;
            Ok((Self { socket, woken }, Waker { _end: end }))
        }

        /// Waits for the next connection; none when the waker was dropped.
        pub fn next(&self) -> io::Result<Option<Stream>> {
            loop {
                let mut watched = [
                    PollFd::new(&self.woken, PollFlags::IN),
                    PollFd::new(&self.socket, PollFlags::IN),
                ];
                match poll(&mut watched, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    waited => waited?,
                };
                if !watched[0].revents().is_empty() {
                    return Ok(None);
                }
                match self.socket.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false)?;
                        return Ok(Some(stream));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Connects without ever waiting: a process that is stopped accepts nobody, and once enough
    /// wait for it the next would wait for ever. Then the error is `WouldBlock`.
    pub(crate) fn connect(path: &Path) -> io::Result<Stream> {
        let address = SocketAddrUnix::new(path)?;
        let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        rustix::net::connect(&stream, &address)?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    /// Whether this user's process is at the other end. Where the system does not tell, the
    /// directory alone keeps others out.
    pub(crate) fn is_same_user(stream: &Stream) -> io::Result<bool> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            Ok(rustix::net::sockopt::socket_peercred(stream)?.uid == geteuid())
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            let _ = stream;
            Ok(true)
        }
    }

    /// Makes a directory that only its owner may enter, if there is none.
    pub(crate) fn make_private(directory: &Path) -> io::Result<()> {
        if let Some(parent) = directory.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    /// Whether only this user may enter a directory. A link is nobody's.
    pub(crate) fn is_private(directory: &Path) -> io::Result<bool> {
        let metadata = directory.symlink_metadata()?;
        Ok(metadata.is_dir()
            && metadata.uid() == geteuid().as_raw()
            && metadata.mode() & 0o077 == 0)
    }

    /// Whether there is a process of this id.
    pub(crate) fn lives(pid: u32) -> bool {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
    }

    #[cfg(all(test, target_os = "linux"))]
    mod tests {
        use std::os::unix::fs::PermissionsExt as _;

        use rustix::process::{Uid, getuid};

        use super::*;

        /// Only root may become somebody else; without that there is just the user to be let in.
        #[test]
        fn a_peer_of_another_user_is_told_from_ones_own() {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("s");
            let (listener, _waker) = Listener::bind(&path).unwrap();
            let own = connect(&path).unwrap();
            let accepted = listener.next().unwrap().unwrap();
            assert!(is_same_user(&accepted).unwrap() && is_same_user(&own).unwrap());
            if !getuid().is_root() {
                return;
            }
            for open in [place.path(), &path] {
                let everybody = std::fs::Permissions::from_mode(0o777);
                std::fs::set_permissions(open, everybody).unwrap();
            }
            let as_nobody = std::thread::spawn(move || {
                let nobody = Uid::from_raw(65_534);
                // Of this thread alone, which ends here.
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
                connect(&path).unwrap()
            });
            let _connected = as_nobody.join().unwrap();
            let accepted = listener.next().unwrap().unwrap();
            assert!(!is_same_user(&accepted).unwrap());
        }
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::convert::Infallible;
    use std::io::{self, Read, Write};
    use std::net::Shutdown;
    use std::path::Path;
    use std::time::Duration;

    /// There are none.
    #[derive(Debug)]
    pub(crate) struct Stream(Infallible);

    /// There are none.
    #[derive(Debug)]
    pub(crate) struct Listener(Infallible);

    /// There are none.
    #[derive(Debug)]
    pub(crate) struct Waker(#[expect(dead_code, reason = "nothing is ever in it")] Infallible);

    impl Stream {
        pub fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            match self.0 {}
        }

        pub fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            match self.0 {}
        }

        pub fn shutdown(&self, _: Shutdown) -> io::Result<()> {
            match self.0 {}
        }

        pub fn try_clone(&self) -> io::Result<Self> {
            match self.0 {}
        }
    }

    impl Read for &Stream {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            match self.0 {}
        }
    }

    impl Write for &Stream {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            match self.0 {}
        }

        fn flush(&mut self) -> io::Result<()> {
            match self.0 {}
        }
    }

    impl Listener {
        pub fn bind(_: &Path) -> io::Result<(Self, Waker)> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub fn next(&self) -> io::Result<Option<Stream>> {
            match self.0 {}
        }
    }

    pub(crate) fn connect(_: &Path) -> io::Result<Stream> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn is_same_user(stream: &Stream) -> io::Result<bool> {
        match stream.0 {}
    }

    pub(crate) fn make_private(_: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn is_private(_: &Path) -> io::Result<bool> {
        Ok(true)
    }

    pub(crate) fn lives(_: u32) -> bool {
        true
    }
}
