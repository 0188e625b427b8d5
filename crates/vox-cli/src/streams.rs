//! The process's standard streams as ports of a plugin: `stdin`, `stdout` and `stderr`.

use std::io::{self, Read as _, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, after, bounded, never, select};
use vox_host::contract::{Chunk, ChunkHead, Error};
use vox_host::{CancelToken, Ports};

/// Bytes that are read into one chunk.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// The streams of this process. Bytes go through as they are.
pub(crate) struct StandardStreams {
    /// What a thread of its own reads, started at the first pull: a read cannot be given up when
    /// the time is over or the work is cancelled, waiting for a thread can.
    stdin: OnceLock<Receiver<io::Result<Vec<u8>>>>,
    pulled: AtomicU64,
    closed: AtomicBool,
    cancel: CancelToken,
}

impl StandardStreams {
    /// The streams; waiting on them ends when `cancel` is cancelled.
    pub(crate) fn new(cancel: CancelToken) -> Self {
        Self {
            stdin: OnceLock::new(),
            pulled: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            cancel,
        }
    }

    /// Whether whoever read standard output went away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn write(&self, mut stream: impl Write, data: &[u8]) -> Result<(), Error> {
        match stream.write_all(data).and_then(|()| stream.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed.store(true, Ordering::Relaxed);
                Err(Error::Cancelled)
            }
            result => result.map_err(|error| Error::Failed(error.to_string())),
        }
    }
}

impl Ports for StandardStreams {
    fn push(
        &self,
        port: &str,
        _: ChunkHead,
        data: &[u8],
        _: Option<Duration>,
    ) -> Result<(), Error> {
        match port {
            "stdout" => self.write(io::stdout().lock(), data),
            "stderr" => self.write(io::stderr().lock(), data),
            _ => Err(no_port(port, "`stdout` and `stderr` can be written")),
        }
    }

    fn pull(&self, port: &str, timeout: Option<Duration>) -> Result<Option<Chunk>, Error> {
        if port != "stdin" {
            return Err(no_port(port, "`stdin` can be read"));
        }
        let stdin = self.stdin.get_or_init(read_stdin);
        let time_out = timeout.map_or_else(never, after);
        select! {
            recv(stdin) -> read => match read {
                Ok(Ok(data)) => {
                    let sequence = self.pulled.fetch_add(1, Ordering::Relaxed);
                    Ok(Some(text_chunk(sequence, data)))
                }
                Ok(Err(error)) => Err(Error::Failed(format!("standard input: {error}"))),
                // The reader is done.
                Err(_) => Ok(None),
            },
            recv(self.cancel.cancelled()) -> _ => Err(Error::Cancelled),
            recv(time_out) -> _ => Err(Error::TimedOut("nothing came from standard input".to_owned())),
        }
    }
}

/// Reads standard input to its end, two chunks ahead of whoever takes them.
fn read_stdin() -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = bounded(2);
    // Ends with the input, or with the process. Without a thread the receiver is at its end.
    let _ = thread::Builder::new()
        .name("vox-stdin".to_owned())
        .spawn(move || {
            let mut stdin = io::stdin().lock();
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let read = match stdin.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(count) => Ok(buffer[..count].to_vec()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
    receiver
}

/// A chunk of text of which only its place is known.
pub(crate) fn text_chunk(sequence: u64, data: Vec<u8>) -> Chunk {
    let head = ChunkHead {
        modality: "text".to_owned(),
        sequence,
        timestamp: 0,
        attributes: Vec::new(),
    };
    Chunk { head, data }
}

fn no_port(port: &str, there_is: &str) -> Error {
    Error::NotFound(format!(
        "no stream is connected to port `{port}`; {there_is}"
    ))
}
