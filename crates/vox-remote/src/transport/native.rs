//! The system's network.
//!
//! The connection is ureq's, over a socket that is read and written in ticks, so that the thread of the
//! call itself can ask between them whether the run is cancelled. There is no other thread but one that
//! connects, and that ends by its own time limit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use ureq::http;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    RustlsConnector, Transport as Socket,
};

use super::{Answer, Body, CONNECTING, Fault, Request};
use crate::address::Address;

/// How often the host is asked whether the run is cancelled.
pub const TICK: Duration = Duration::from_millis(50);

/// The most bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// Asks whether the run is cancelled.
pub type Cancel = Arc<dyn Fn() -> bool + Send + Sync>;

/// The way to a server.
#[derive(Clone)]
pub struct Transport {
    address: Address,
    agent: String,
    cancel: Cancel,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// The way to the server at an address, for a plugin.
    pub fn new(address: Address, plugin: &str) -> Self {
        let cancel = Arc::new(vox_plugin::host::cancel::should_cancel);
        Self::with_cancel(address, plugin, cancel)
    }

    /// As [`Transport::new`], with another who is asked whether the run is cancelled.
    pub fn with_cancel(address: Address, plugin: &str, cancel: Cancel) -> Self {
        Self {
            address,
            agent: format!("vox-{plugin}/{}", env!("CARGO_PKG_VERSION")),
            cancel,
        }
    }

    /// Sends a request; answers once the headers of its answer are there.
    ///
    /// # Errors
    ///
    /// See [`Fault`]. A status that tells of an error is an answer.
    pub fn send(&self, request: &Request) -> Result<Answer, Fault> {
        let fault = |error: ureq::Error| fault(error, request.silence);
        let url = format!("{}{}", self.address, request.path);
        let mut builder = http::Request::builder().uri(url);
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        let invalid = |error: http::Error| Fault::Broken(format!("it cannot be asked: {error}"));
        let agent = self.agent(request.silence);
        let answer = match &request.body {
            Some(body) => {
                let builder = builder.method("POST");
                agent.run(builder.body(body.as_slice()).map_err(invalid)?)
            }
            None => agent.run(builder.method("GET").body(()).map_err(invalid)?),
        };
        let (parts, body) = answer.map_err(fault)?.into_parts();
        let kind = parts.headers.get(http::header::CONTENT_TYPE);
        Ok(Answer::new(
            parts.status.as_u16(),
            kind.map_or(&[][..], |kind| kind.as_bytes()),
            Box::new(Reading {
                body: Box::new(body.into_reader()),
                silence: request.silence,
            }),
        ))
    }

    fn agent(&self, silence: Duration) -> ureq::Agent {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .accept_encoding("identity")
            .user_agent(&self.agent)
            .timeout_resolve(Some(CONNECTING));
        if self.address.is_local() {
            config = config.proxy(None);
        }
        let watch = Watch {
            silence,
            cancel: Arc::clone(&self.cancel),
        };
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(watch)
                .chain(RustlsConnector::default());
        ureq::Agent::with_parts(config.build(), connector, DefaultResolver::default())
    }
}

/// A body that is being read.
struct Reading {
    body: Box<dyn Read + Send>,
    silence: Duration,
}

impl Body for Reading {
    fn read(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let mut piece = vec![0; PIECE];
        let length = loop {
            match self.body.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(|error| fault(error.into(), self.silence))?,
            }
        };
        piece.truncate(length);
        Ok((length > 0).then_some(piece))
    }
}

/// Stands in an error for the cancelled run.
#[derive(Debug)]
struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the run was cancelled")
    }
}

impl std::error::Error for Cancelled {}

fn cancelled() -> io::Error {
    io::Error::other(Cancelled)
}

fn fault(error: ureq::Error, silence: Duration) -> Fault {
    match error {
        ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<Cancelled>()) => {
            Fault::Cancelled
        }
        ureq::Error::Io(error) if error.kind() == ErrorKind::TimedOut => Fault::Silent(silence),
        ureq::Error::Timeout(_) => Fault::Broken(format!(
            "it could not be reached within {} s",
            CONNECTING.as_secs()
        )),
        error => Fault::Broken(error.to_string()),
    }
}

/// Makes connections that are [watched](Watched).
#[derive(Clone)]
struct Watch {
    silence: Duration,
    cancel: Cancel,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl<In: Socket> Connector<In> for Watch {
    type Out = Either<In, Watched>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        if let Some(through_proxy) = chained {
            return Ok(Some(Either::A(through_proxy)));
        }
        let stream = self.connect_to(details.addrs.to_vec())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TICK))?;
        stream.set_write_timeout(Some(TICK))?;
        let config = details.config;
        Ok(Some(Either::B(Watched {
            stream,
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            watch: self.clone(),
        })))
    }
}

impl Watch {
    /// Connects to the first of the addresses that answers.
    fn connect_to(&self, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
        let (sender, receiver) = sync_channel(1);
        thread::Builder::new()
            .name("vox-remote".to_owned())
            .spawn(move || {
                // Nobody listens any more where the run was cancelled.
                let _ = sender.send(connect(&addresses));
            })?;
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(stream) => return stream,
                Err(RecvTimeoutError::Timeout) if (self.cancel)() => return Err(cancelled()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the thread that connects panicked"));
                }
            }
        }
    }

    /// Repeats what ends at every tick until it is done, the time is up, or the run is cancelled.
    fn repeat<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let begin = Instant::now();
        loop {
            match work() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if begin.elapsed() >= self.silence {
                        return Err(ErrorKind::TimedOut.into());
                    }
                }
                done => return done,
            }
            if (self.cancel)() {
                return Err(cancelled());
            }
        }
    }
}

fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let end = Instant::now() + CONNECTING;
    let mut failure = io::Error::new(ErrorKind::NotFound, "its name has no address");
    for (index, address) in addresses.iter().enumerate() {
        // Each address has its part of the time that is left.
        let left = end.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let part = (left / others).max(Duration::from_millis(10));
        match TcpStream::connect_timeout(address, part) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                failure = io::Error::other(format!(
                    "it could not be reached within {} s",
                    CONNECTING.as_secs()
                ));
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A connection that ends with the run.
struct Watched {
    stream: TcpStream,
    buffers: LazyBuffers,
    watch: Watch,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}

impl Socket for Watched {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let mut rest = &self.buffers.output()[..amount];
        let mut stream = &self.stream;
        while !rest.is_empty() {
            match self.watch.repeat(|| stream.write(rest))? {
                0 => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                written => rest = &rest[written..],
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let mut stream = &self.stream;
        let input = self.buffers.input_append_buf();
        let amount = self.watch.repeat(|| stream.read(input))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // Connections are not used again.
        false
    }
}
