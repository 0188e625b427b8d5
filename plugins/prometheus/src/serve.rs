//! Serving the metrics: `GET /metrics` by HTTP/1.1, from one thread.
//!
//! | bound | value |
//! |---|---|
//! | connections at the same time; others wait to be accepted | [`CONNECTIONS`] |
//! | from accepting a connection to its end, one request each | [`PATIENCE`] |
//! | bytes of a request's head | [`LONGEST_HEAD`] |
//!
//! What must stay true: whoever connects costs the run nothing but these, and when the [`Server`] is
//! dropped its thread has ended and its address is free.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue, VARY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{Semaphore, oneshot};

use crate::registry::Registry;
use crate::text::{Format, write};

/// Connections at the same time.
pub const CONNECTIONS: usize = 16;
/// How long a connection may last.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes.
pub const LONGEST_HEAD: usize = 16 * 1024;
/// How long nothing is accepted after accepting failed, as it does without free file descriptors.
const REST: Duration = Duration::from_millis(100);

/// Metrics that others write and this serves.
pub type Shared = Arc<Mutex<Registry>>;

/// A server that ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Begins to serve at `address`; port 0 is any that is free.
    ///
    /// # Errors
    ///
    /// The address cannot be had, or no thread.
    pub fn start(address: SocketAddr, metrics: Shared) -> io::Result<Self> {
        Self::with_patience(address, metrics, PATIENCE)
    }

    fn with_patience(address: SocketAddr, metrics: Shared, patience: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => drop(tokio::spawn(accept(listener, metrics, patience))),
                    Err(_) => return,
                }
                // Also when the sender is gone.
                let _ = stopped.await;
            });
            // Dropping the runtime ends what is still connected.
        };
        let thread = std::thread::Builder::new()
            .name("vox-prometheus".to_owned())
            .spawn(serve)?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, metrics: Shared, patience: Duration) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(REST).await;
            continue;
        };
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = respond(&request, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .keep_alive(false)
                .max_buf_size(LONGEST_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // What goes wrong between client and server is told to the client alone.
            let _ = tokio::time::timeout(patience, connection).await;
            drop(place);
        });
    }
}

fn respond(request: &Request<Incoming>, metrics: &Shared) -> Response<Full<Bytes>> {
    let refuse = |status, text: &'static str| {
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = status;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, plain);
        response
    };
    if request.uri().path() != "/metrics" {
        return refuse(StatusCode::NOT_FOUND, "the metrics are at /metrics\n");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "metrics are read with GET\n",
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let accepted = request.headers().get_all(ACCEPT).iter();
    let accepted: Vec<&str> = accepted.filter_map(|value| value.to_str().ok()).collect();
    let format = Format::accepted(&accepted.join(","));
    let text = write(
        &metrics.lock().unwrap_or_else(PoisonError::into_inner),
        format,
    );
    let mut response = Response::new(Full::new(Bytes::from(text)));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(format.content_type()),
    );
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::registry::{Kind, Labels, Metric};

    fn server(patience: Duration) -> Server {
        let mut registry = Registry::new(10);
        let words = Metric {
            name: "words",
            kind: Kind::Counter,
            help: "Words",
        };
        registry.add(words, Labels::new(), 1.0);
        let any = "127.0.0.1:0".parse().unwrap();
        Server::with_patience(any, Arc::new(Mutex::new(registry)), patience).unwrap()
    }

    /// Sends the bytes, and answers what comes until the server closes.
    fn asked(server: &Server, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        // A server that refuses early may close before it has read all.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    fn get(server: &Server, path: &str, accept: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: v\r\nAccept: {accept}\r\n\r\n");
        asked(server, request.as_bytes())
    }

    #[test]
    fn metrics_are_served_in_the_format_that_is_asked_for() {
        let server = server(PATIENCE);
        let answer = get(&server, "/metrics", "*/*");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("\nwords_total 1.0\n"), "{answer}");
        let answer = get(&server, "/metrics?x=1", "application/openmetrics-text");
        assert!(
            answer.contains("application/openmetrics-text; version=1.0.0"),
            "{answer}"
        );
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }

    #[test]
    fn nothing_else_is_served() {
        let server = server(PATIENCE);
        assert!(get(&server, "/", "*/*").starts_with("HTTP/1.1 404"));
        let post = b"POST /metrics HTTP/1.1\r\nHost: v\r\nContent-Length: 0\r\n\r\n";
        let answer = asked(&server, post);
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        assert!(
            answer.to_lowercase().contains("allow: get, head"),
            "{answer}"
        );
        let head = asked(&server, b"HEAD /metrics HTTP/1.1\r\nHost: v\r\n\r\n");
        assert!(
            head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }

    #[test]
    fn a_request_that_is_too_long_or_none_is_refused() {
        let server = server(PATIENCE);
        let long = format!(
            "GET /metrics HTTP/1.1\r\nA: {}\r\n\r\n",
            "x".repeat(LONGEST_HEAD)
        );
        for request in [long.as_bytes(), b"\0\0\0\0\r\n\r\n"] {
            let answer = asked(&server, request);
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
                "{answer}"
            );
        }
        assert!(get(&server, "/metrics", "*/*").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn clients_that_say_nothing_are_let_go_and_make_room_for_others() {
        let server = server(Duration::from_millis(500));
        let silent: Vec<TcpStream> = (0..2 * CONNECTIONS)
            .map(|_| TcpStream::connect(server.address()).unwrap())
            .collect();
        // It waits in the queue behind all of them.
        assert!(get(&server, "/metrics", "*/*").starts_with("HTTP/1.1 200"));
        for mut stream in silent {
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it was closed");
        }
    }

    #[test]
    fn a_server_that_is_dropped_has_ended_and_its_address_is_free() {
        let server = server(PATIENCE);
        let address = server.address();
        let mut idle = TcpStream::connect(address).unwrap();
        assert!(get(&server, "/metrics", "*/*").starts_with("HTTP/1.1 200"));
        drop(server);
        assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0, "it was closed");
        assert!(TcpStream::connect(address).is_err());
    }
}
