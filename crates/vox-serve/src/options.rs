//! Every limit of a server, with its default.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::error::ServeError;
use crate::keys::Keys;

/// The least of [`Options::head_bytes`] that hyper works with.
const LEAST_HEAD_BYTES: usize = 8 << 10;

/// The longest of all times.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A limit that is set by its name.
enum Limit<'a> {
    Size(&'a mut usize),
    Count(&'a mut u32),
    Time(&'a mut Duration),
}

/// How a server behaves, and what it bounds.
///
/// What is above a limit is refused with a status, and a text that names the limit. See each field for
/// both.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where [`crate::Server::bind`] listens. 127.0.0.1:8080; port 0 for any that is free.
    pub listen: SocketAddr,
    /// Who may ask. Without any, everybody may.
    pub keys: Keys,
    /// Lets a server without keys listen where other machines reach it. False.
    pub open: bool,
    /// The origins of web pages that may ask, as `https://example.org`, or `*` for all. None: a request
    /// that a browser sends from any page is refused with 403.
    pub origins: Vec<String>,
    /// Requests that are answered at once: how many the engine has instances for. 1.
    pub served: usize,
    /// Requests that wait beyond those. One more is refused with 429 and `Retry-After`. 32.
    pub queue: usize,
    /// How long a request waits; then it is refused with 503 and `Retry-After`. 2 minutes.
    pub queue_time: Duration,
    /// Connections at once. Others wait, in the system's queue, until one closes. 256.
    pub connections: usize,
    /// Bytes of a request's line and headers, 8 KiB or more. Then 431. 64 KiB.
    pub head_bytes: usize,
    /// Bytes of a request's body. Then 413. 4 MiB.
    pub body_bytes: usize,
    /// Bytes of a prompt, or of all texts to be embedded together. Then 400. 1 MiB.
    pub prompt_bytes: usize,
    /// Most that `max_tokens` may be, where the model's context is not less. Then 400. 32,768.
    pub answer_tokens: u32,
    /// Texts in `stop`. Then 400. 16.
    pub stop_strings: usize,
    /// Bytes of each of them. Then 400. 256.
    pub stop_bytes: usize,
    /// Log-probabilities of alternatives to each token. Then 400. 20.
    pub alternatives: u32,
    /// Texts to be embedded by one request. Then 400. 2,048.
    pub inputs: usize,
    /// How long the head of a request may take, and how long a connection may be idle before one. Then it
    /// is closed. 10 seconds.
    pub head_time: Duration,
    /// How long the body of a request may take, from its head to its end. Then 408. 60 seconds.
    pub body_time: Duration,
    /// How long the rest of a request that is refused is read, so that its client, which is still sending,
    /// reads the refusal instead of an error of the connection. 5 seconds.
    pub linger: Duration,
    /// How long nothing of an answer can be sent because the client does not read. Then the connection is
    /// closed. 30 seconds.
    pub write_time: Duration,
    /// Bytes of a streamed answer that are kept for a client that reads more slowly than the model
    /// answers. 1 MiB.
    pub kept_bytes: usize,
    /// How long an answer waits for its client, all times together in which `kept_bytes` were full. Then it
    /// is cancelled. 30 seconds.
    pub reader_time: Duration,
    /// How long answers may go on after [`crate::Stopper::drain`]. Then they are cancelled. 30 seconds.
    pub drain_time: Duration,
    /// How long answers that were cancelled have until they are left behind. 5 seconds.
    pub cancel_time: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            keys: Keys::default(),
            open: false,
            origins: Vec::new(),
            served: 1,
            queue: 32,
            queue_time: Duration::from_secs(120),
            connections: 256,
            head_bytes: 64 << 10,
            body_bytes: 4 << 20,
            prompt_bytes: 1 << 20,
            answer_tokens: 32_768,
            stop_strings: 16,
            stop_bytes: 256,
            alternatives: 20,
            inputs: 2048,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(60),
            linger: Duration::from_secs(5),
            write_time: Duration::from_secs(30),
            kept_bytes: 1 << 20,
            reader_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(30),
            cancel_time: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// Sets a limit by the name of its field: to a whole number, or for a time to a number with its unit, such as
    /// `90s` or `500ms`. Whether the value makes sense is found when a server starts.
    ///
    /// ```
    /// let mut options = vox_serve::Options::default();
    /// options.set_limit("prompt_bytes", "8388608")?;
    /// options.set_limit("queue_time", "5min")?;
    /// assert_eq!(options.queue_time.as_secs(), 300);
    /// # Ok::<(), vox_serve::ServeError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ServeError::Limit`]: there is no such limit, or the text is no value of it.
    pub fn set_limit(&mut self, name: &str, value: &str) -> Result<(), ServeError> {
        let refused = |reason| ServeError::Limit {
            name: name.to_owned(),
            reason,
        };
        let mut limits = self.limits();
        let Some((_, limit)) = limits.iter_mut().find(|(known, _)| *known == name) else {
            let names: Vec<_> = limits
                .iter()
                .map(|(known, _)| format!("`{known}`"))
                .collect();
            return Err(refused(format!(
                "is no limit; there are {}",
                names.join(", ")
            )));
        };
        let no_number = || {
            refused(format!(
                "is `{}`, which is no whole number",
                value.escape_debug()
            ))
        };
        match limit {
            Limit::Size(size) => **size = value.parse().map_err(|_| no_number())?,
            Limit::Count(count) => **count = value.parse().map_err(|_| no_number())?,
            Limit::Time(time) => {
                **time = humantime::parse_duration(value).map_err(|error| {
                    let shown = value.escape_debug();
                    refused(format!(
                        "is `{shown}`, which is no time such as `90s`: {error}"
                    ))
                })?;
            }
        }
        Ok(())
    }

    /// Every limit by its name.
    fn limits(&mut self) -> [(&'static str, Limit<'_>); 20] {
        [
            ("served", Limit::Size(&mut self.served)),
            ("queue", Limit::Size(&mut self.queue)),
            ("queue_time", Limit::Time(&mut self.queue_time)),
            ("connections", Limit::Size(&mut self.connections)),
            ("head_bytes", Limit::Size(&mut self.head_bytes)),
            ("body_bytes", Limit::Size(&mut self.body_bytes)),
            ("prompt_bytes", Limit::Size(&mut self.prompt_bytes)),
            ("answer_tokens", Limit::Count(&mut self.answer_tokens)),
            ("stop_strings", Limit::Size(&mut self.stop_strings)),
            ("stop_bytes", Limit::Size(&mut self.stop_bytes)),
            ("alternatives", Limit::Count(&mut self.alternatives)),
            ("inputs", Limit::Size(&mut self.inputs)),
            ("head_time", Limit::Time(&mut self.head_time)),
            ("body_time", Limit::Time(&mut self.body_time)),
            ("linger", Limit::Time(&mut self.linger)),
            ("write_time", Limit::Time(&mut self.write_time)),
            ("kept_bytes", Limit::Size(&mut self.kept_bytes)),
            ("reader_time", Limit::Time(&mut self.reader_time)),
            ("drain_time", Limit::Time(&mut self.drain_time)),
            ("cancel_time", Limit::Time(&mut self.cancel_time)),
        ]
    }

    /// Refuses what makes no sense, and a server at `address` that is open by mistake. A server does it before it
    /// starts; whoever has much to do before that may do it first.
    ///
    /// # Errors
    ///
    /// [`ServeError::Option`] and [`ServeError::Open`].
    pub fn check(&self, address: SocketAddr) -> Result<(), ServeError> {
        let refused = |name, reason: String| Err(ServeError::Option { name, reason });
        if self.head_bytes < LEAST_HEAD_BYTES {
            let reason = format!("is {}; give {LEAST_HEAD_BYTES} or more", self.head_bytes);
            return refused("head_bytes", reason);
        }
        for (name, value) in [
            ("served", self.served),
            ("connections", self.connections),
            ("body_bytes", self.body_bytes),
            ("prompt_bytes", self.prompt_bytes),
            ("answer_tokens", self.answer_tokens as usize),
        ] {
            if value == 0 {
                return refused(name, "is 0, so nothing could be answered".to_owned());
            }
        }
        for (name, time) in [
            ("head_time", self.head_time),
            ("body_time", self.body_time),
            ("write_time", self.write_time),
        ] {
            if time.is_zero() {
                return refused(name, "is 0, so nothing could be answered".to_owned());
            }
        }
        for (name, time) in [
            ("queue_time", self.queue_time),
            ("head_time", self.head_time),
            ("body_time", self.body_time),
            ("linger", self.linger),
            ("write_time", self.write_time),
            ("reader_time", self.reader_time),
            ("drain_time", self.drain_time),
            ("cancel_time", self.cancel_time),
        ] {
            if time > LONGEST {
                return refused(name, "is more than a year; give less".to_owned());
            }
        }
        for (name, value) in [("served", self.served), ("connections", self.connections)] {
            if value > tokio::sync::Semaphore::MAX_PERMITS {
                return refused(name, format!("is {value}, which nothing could hold"));
            }
        }
        for origin in &self.origins {
            let is_origin = origin.split_once("://").is_some_and(|(scheme, host)| {
                !scheme.is_empty() && !host.is_empty() && !host.contains('/')
            });
            if origin != "*" && !is_origin {
                let shown = origin.escape_debug();
                let reason = format!("has `{shown}`; an origin is like `https://example.org:8443`");
                return refused("origins", reason);
            }
        }
        if self.keys.is_empty() && !self.open && !address.ip().is_loopback() {
            return Err(ServeError::Open { address });
        }
        Ok(())
    }
}
