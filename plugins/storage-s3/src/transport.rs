//! HTTP: one request, one answer, and an end as soon as the run is cancelled.
//!
//! A request runs on a thread of its own while the calling thread asks whether the run is cancelled,
//! so that neither a large part nor a silent server keeps a cancelled run. A request that nobody waits
//! for any more ends by its own time limit.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http;
use url::Url;

/// How often the host is asked whether the run is cancelled.
const TICK: Duration = Duration::from_millis(50);

/// The most of an answer that is read where nothing else is said: errors and listings.
const LONGEST_ANSWER: u64 = 16 << 20;

/// Bytes that are made room for before any have been read.
const FIRST_ROOM: u64 = 8 << 20;

/// A request, signed.
pub struct Request {
    pub method: rusty_s3::Method,
    pub url: Url,
    pub headers: Vec<(&'static str, String)>,
    pub body: Arc<Vec<u8>>,
    /// The most of the answer that is read.
    pub longest_answer: u64,
}

impl Request {
    pub fn new(method: rusty_s3::Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: Arc::default(),
            longest_answer: LONGEST_ANSWER,
        }
    }
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there was no answer.
pub enum Fault {
    Cancelled,
    TimedOut,
    /// The connection failed; the text says how, without the address.
    Broken(String),
}

/// Asks whether the run is cancelled.
pub type Cancel = Box<dyn Fn() -> bool + Send>;

/// The way to the server.
pub struct Transport {
    agent: ureq::Agent,
    cancel: Cancel,
}

impl Transport {
    /// `timeout` is the longest time without progress.
    pub fn new(timeout: Duration, cancel: Cancel) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A redirect leads to an address that the signature is not for.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("vox-storage-s3/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(timeout))
            .timeout_connect(Some(timeout))
            .timeout_send_request(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout))
            .build();
        Self {
            agent: config.new_agent(),
            cancel,
        }
    }

    /// Sends a request and waits for the whole answer, or until the run is cancelled.
    pub fn send(&self, request: Request) -> Result<Answer, Fault> {
        self.wait(request, || (self.cancel)().then_some(Fault::Cancelled))
    }

    /// Sends a request also for a cancelled run, and waits for a while.
    pub fn send_within(&self, request: Request, patience: Duration) -> Result<Answer, Fault> {
        let begin = Instant::now();
        self.wait(request, || {
            (begin.elapsed() > patience).then_some(Fault::TimedOut)
        })
    }

    /// Sends a request and waits until there is an answer or a reason to give up.
    fn wait(
        &self,
        request: Request,
        given_up: impl Fn() -> Option<Fault>,
    ) -> Result<Answer, Fault> {
        let (sender, receiver) = sync_channel(1);
        let agent = self.agent.clone();
        thread::Builder::new()
            .name("storage-s3".to_owned())
            .spawn(move || {
                // Nobody listens any more where the caller has given up.
                let _ = sender.send(exchange(&agent, &request));
            })
            .map_err(|error| Fault::Broken(format!("no thread could be started: {error}")))?;
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(fault) = given_up() {
                        return Err(fault);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fault::Broken("the request's thread panicked".to_owned()));
                }
            }
        }
    }

    /// Waits before a request is repeated.
    pub fn pause(&self, time: Duration) -> Result<(), Fault> {
        let end = Instant::now() + time;
        loop {
            if (self.cancel)() {
                return Err(Fault::Cancelled);
            }
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            thread::sleep(rest.min(TICK));
        }
    }
}

/// One exchange, on the request's own thread.
fn exchange(agent: &ureq::Agent, request: &Request) -> Result<Answer, Fault> {
    let mut builder = http::Request::builder()
        .method(request.method.to_str())
        .uri(request.url.as_str());
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    let has_body = matches!(
        request.method,
        rusty_s3::Method::Put | rusty_s3::Method::Post
    );
    let invalid =
        |error: http::Error| Fault::Broken(format!("the request cannot be sent: {error}"));
    let answer = if has_body {
        agent.run(builder.body(request.body.as_slice()).map_err(invalid)?)
    } else {
        agent.run(builder.body(()).map_err(invalid)?)
    };
    let (parts, body) = answer.map_err(fault)?.into_parts();
    let announced = body.content_length();
    let room = announced
        .unwrap_or_default()
        .min(request.longest_answer)
        .min(FIRST_ROOM);
    let mut data = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
    if request.method != rusty_s3::Method::Head {
        body.into_reader()
            .take(request.longest_answer)
            .read_to_end(&mut data)
            .map_err(|error| fault(error.into()))?;
        let expected = announced.map(|length| length.min(request.longest_answer));
        if expected.is_some_and(|length| length != data.len() as u64) {
            return Err(Fault::Broken("the answer ended too early".to_owned()));
        }
    }
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: data,
    })
}

fn fault(error: ureq::Error) -> Fault {
    match error {
        ureq::Error::Timeout(_) => Fault::TimedOut,
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Fault::TimedOut,
        // It would tell the address, and that is signed.
        ureq::Error::BadUri(_) => Fault::Broken("the address is not one of HTTP".to_owned()),
        error => Fault::Broken(error.to_string()),
    }
}
