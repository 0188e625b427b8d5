//! HTTP for components: one request through WASI, and its answer piece by piece.
//!
//! It needs the feature `http`, and the capability `network` for the host that is asked; the host
//! looks the name up, checks the address and encrypts. No redirect is followed, nothing is tried
//! again, and nothing is decompressed: what comes is what the server sent.
//!
//! A native plugin is answered [`Failure::Unsupported`]: it has the system's network, and a library
//! of its own to use it with.
//!
//! ```
//! use vox_plugin::http::{Failure, Request, send};
//!
//! # fn inside_a_call() -> Result<(), Failure> {
//! let mut answer = send(&Request::new("GET", true, "api.example.org", "/v1/state"))?;
//! if answer.status == 200 {
//!     while let Some(piece) = answer.read()? {
//!         // …
//!         # let _: Vec<u8> = piece;
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme, http_error_code,
};
use wasip2::io::streams::{InputStream, StreamError};

/// The most bytes that [`Response::read`] answers at once.
pub const LONGEST_PIECE: usize = 64 * 1024;

/// The most bytes that WASI takes in one blocking write.
const LONGEST_WRITE: usize = 4096;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …, in capitals.
    pub method: String,
    /// Whether it is `https` rather than `http`.
    pub encrypted: bool,
    /// The host, with `:port` where that is not the scheme's own.
    pub authority: String,
    /// What is asked for there, from its `/` on.
    pub path_with_query: String,
    /// Headers besides `Host` and `Content-Length`, which are added.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body; none for a request that has none at all.
    pub body: Option<Vec<u8>>,
    /// How long connecting may take, and then how long the first byte of the answer. A minute each
    /// when left out.
    pub timeout: Option<Duration>,
}

impl Request {
    /// A request without headers and body.
    pub fn new(
        method: impl Into<String>,
        encrypted: bool,
        authority: impl Into<String>,
        path_with_query: impl Into<String>,
    ) -> Self {
        Self {
            method: method.into(),
            encrypted,
            authority: authority.into(),
            path_with_query: path_with_query.into(),
            headers: Vec::new(),
            body: None,
            timeout: None,
        }
    }
}

/// Why there is no answer, or no more of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// `network` is not granted for the host.
    Denied,
    /// The host is granted, and its name stands for addresses of this machine or its network, which
    /// are not.
    AddressDenied,
    /// The request makes no sense; the text says what of it.
    Invalid(String),
    /// Nobody answered in time.
    TimedOut,
    /// The server could not be reached or understood, or broke off; the text says how. Trying again
    /// may help.
    Broken(String),
    /// This is no component.
    Unsupported,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => formatter.write_str("`network` is not granted for this host"),
            Self::AddressDenied => formatter.write_str(
                "the host stands for an address of this machine or its network, for which \
                 `network` is not granted",
            ),
            Self::Invalid(what) => write!(formatter, "the request makes no sense: {what}"),
            Self::TimedOut => formatter.write_str("nobody answered in time"),
            Self::Broken(how) => formatter.write_str(how),
            Self::Unsupported => formatter.write_str(
                "requests through WASI are for components; a native plugin uses a library of its \
                 own",
            ),
        }
    }
}

impl std::error::Error for Failure {}

/// An answer, whose body is read piece by piece.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case, as often as the server sent them.
    pub headers: Vec<(String, Vec<u8>)>,
    // WASI wants the stream dropped before the body that it is of.
    stream: InputStream,
    _body: IncomingBody,
}

impl Response {
    /// The next piece of the body, at most [`LONGEST_PIECE`] bytes and never empty; none at its end.
    ///
    /// It waits as long as the server does; when the run is cancelled, the call ends.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`] when the connection ended before the body did.
    pub fn read(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            match self.stream.blocking_read(LONGEST_PIECE as u64) {
                Ok(piece) if piece.is_empty() => {}
                Ok(piece) => return Ok(Some(piece)),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(match http_error_code(&error) {
                        Some(code) => failure(code),
                        None => Failure::Broken(error.to_debug_string()),
                    });
                }
            }
        }
    }
}

/// Makes a request; answers once the headers of its answer are there.
///
/// # Errors
///
/// See [`Failure`]. A status that tells of an error is an answer, and no failure.
pub fn send(request: &Request) -> Result<Response, Failure> {
    if !cfg!(target_family = "wasm") {
        return Err(Failure::Unsupported);
    }
    let outgoing = outgoing(request)?;
    let body = match &request.body {
        Some(body) if !body.is_empty() => Some((
            outgoing
                .body()
                .map_err(|()| Failure::Invalid("its body".to_owned()))?,
            body,
        )),
        _ => None,
    };
    let pending = outgoing_handler::handle(outgoing, options(request.timeout)).map_err(failure)?;
    if let Some((stream, bytes)) = body {
        write(stream, bytes);
    }
    answer(&pending)
}

fn outgoing(request: &Request) -> Result<OutgoingRequest, Failure> {
    let mut headers = request.headers.clone();
    if let Some(body) = &request.body {
        headers.push((
            "content-length".to_owned(),
            body.len().to_string().into_bytes(),
        ));
    }
    let headers = Fields::from_list(&headers)
        .map_err(|error| Failure::Invalid(format!("its headers: {error:?}")))?;
    let outgoing = OutgoingRequest::new(headers);
    let method = match request.method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        other => Method::Other(other.to_owned()),
    };
    let scheme = if request.encrypted {
        Scheme::Https
    } else {
        Scheme::Http
    };
    let invalid = |what: &'static str| move |()| Failure::Invalid(what.to_owned());
    outgoing
        .set_method(&method)
        .map_err(invalid("its method"))?;
    outgoing
        .set_scheme(Some(&scheme))
        .map_err(invalid("its scheme"))?;
    outgoing
        .set_authority(Some(&request.authority))
        .map_err(invalid("its host"))?;
    outgoing
        .set_path_with_query(Some(&request.path_with_query))
        .map_err(invalid("its path"))?;
    Ok(outgoing)
}

fn options(timeout: Option<Duration>) -> Option<RequestOptions> {
    let timeout = u64::try_from(timeout?.as_nanos()).unwrap_or(u64::MAX);
    let options = RequestOptions::new();
    // A host that has no such time-out has one of its own.
    let _ = options.set_connect_timeout(Some(timeout));
    let _ = options.set_first_byte_timeout(Some(timeout));
    Some(options)
}

/// Writes a request's body. Where the server does not want all of it, its answer says why.
fn write(body: OutgoingBody, bytes: &[u8]) {
    let Ok(stream) = body.write() else { return };
    for piece in bytes.chunks(LONGEST_WRITE) {
        if stream.blocking_write_and_flush(piece).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

fn answer(pending: &FutureIncomingResponse) -> Result<Response, Failure> {
    let broken = || Failure::Broken("the host gave no answer".to_owned());
    let answer = loop {
        match pending.get() {
            Some(answer) => break answer.map_err(|()| broken())?.map_err(failure)?,
            None => pending.subscribe().block(),
        }
    };
    let headers = answer.headers().entries();
    let body = answer.consume().map_err(|()| broken())?;
    let stream = body.stream().map_err(|()| broken())?;
    Ok(Response {
        status: answer.status(),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect(),
        stream,
        _body: body,
    })
}

/// What WASI's error means for whoever asked.
fn failure(code: ErrorCode) -> Failure {
    match code {
        ErrorCode::HttpRequestDenied => Failure::Denied,
        ErrorCode::DestinationIpProhibited => Failure::AddressDenied,
        ErrorCode::HttpRequestUriInvalid => Failure::Invalid("its host".to_owned()),
        ErrorCode::HttpRequestMethodInvalid => Failure::Invalid("its method".to_owned()),
        ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout
        | ErrorCode::DnsTimeout => Failure::TimedOut,
        ErrorCode::DnsError(error) => Failure::Broken(match error.rcode {
            Some(why) => format!("its name could not be looked up: {why}"),
            None => "its name could not be looked up".to_owned(),
        }),
        ErrorCode::DestinationNotFound => Failure::Broken("its name has no address".to_owned()),
        ErrorCode::ConnectionRefused => Failure::Broken("it refused the connection".to_owned()),
        ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => {
            Failure::Broken("it ended the connection before its answer was complete".to_owned())
        }
        ErrorCode::TlsCertificateError => {
            Failure::Broken("its certificate proves nothing about it".to_owned())
        }
        ErrorCode::InternalError(Some(why)) => Failure::Broken(why),
        other => Failure::Broken(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_plugin_is_told_that_requests_through_wasi_are_for_components() {
        let request = Request::new("GET", true, "api.example.org", "/");
        let failure = send(&request).expect_err("there is no WASI here");
        assert_eq!(failure, Failure::Unsupported);
        assert!(failure.to_string().contains("for components"));
    }

    #[test]
    fn refusals_time_outs_and_broken_connections_are_told_apart() {
        assert_eq!(failure(ErrorCode::HttpRequestDenied), Failure::Denied);
        assert_eq!(
            failure(ErrorCode::DestinationIpProhibited),
            Failure::AddressDenied
        );
        assert_eq!(failure(ErrorCode::ConnectionTimeout), Failure::TimedOut);
        let Failure::Broken(why) = failure(ErrorCode::TlsProtocolError) else {
            panic!("it is broken");
        };
        assert!(!why.is_empty());
    }
}
