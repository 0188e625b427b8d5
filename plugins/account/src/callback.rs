//! The place on this machine that the browser comes back to (RFC 8252, section 7.3).
//!
//! What must stay true: only an answer that carries the `state` of this very login ends the wait.
//! Whoever else finds the port is told no and changes nothing. No answer ends it early, and waiting
//! ends within [`TURN`] of being cancelled.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use oauth2::url::Url;
use tiny_http::{Header, Method, Request, Response, Server};
use vox_plugin::{Error, Result, failed};

/// How long to wait before looking whether the user wants to end.
const TURN: Duration = Duration::from_millis(50);

/// A listening port.
pub struct Callback {
    server: Server,
    port: u16,
}

/// What an answer must carry.
pub struct Expected<'a> {
    /// The state of this login.
    pub state: &'a str,
    /// The server's name.
    pub issuer: &'a str,
    /// Whether the answer must name the server.
    pub names_issuer: bool,
}

impl Callback {
    /// Listens on a port of the loopback interface, any free one for 0.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the port is in use.
    pub fn bind(port: u16) -> Result<Self> {
        let server = Server::http(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(|error| {
            Error::Unavailable(format!(
                "cannot wait for the browser at port {port} of 127.0.0.1: {error}; choose another \
                 with `--port`, or leave it out"
            ))
        })?;
        let port = server
            .server_addr()
            .to_ip()
            .map(|address| address.port())
            .ok_or_else(|| failed("the callback's address has no port"))?;
        Ok(Self { server, port })
    }

    /// The address that the browser is to come back to.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/callback", self.port)
    }

    /// Waits for the answer, at most `timeout`; answers the code.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when the user or the server said no, [`Error::TimedOut`] when nobody came back,
    /// [`Error::Cancelled`].
    pub fn wait(
        &self,
        expected: &Expected<'_>,
        timeout: Duration,
        should_cancel: impl Fn() -> bool,
    ) -> Result<String> {
        let begun = Instant::now();
        let mut strangers = 0;
        loop {
            if should_cancel() {
                return Err(Error::Cancelled);
            }
            let Some(left) = timeout.checked_sub(begun.elapsed()) else {
                return Err(Error::TimedOut(format!(
                    "nobody came back from the login within {} s{}; try again, with a longer \
                     `--timeout` if need be",
                    timeout.as_secs(),
                    match strangers {
                        0 => String::new(),
                        count => format!(
                            ", and {count} answers were refused that were not to this login (wrong \
                             `state`)"
                        ),
                    }
                )));
            };
            let Some(request) = self.server.recv_timeout(TURN.min(left)).map_err(failed)? else {
                continue;
            };
            match read(&request, expected) {
                Answer::Stranger(status, text) => {
                    strangers += usize::from(status == 400);
                    respond(request, status, text);
                }
                Answer::Refusal(error) => {
                    let text = "You are not signed in. You can close this window.";
                    respond(request, 200, text);
                    return Err(error);
                }
                Answer::Code(code) => {
                    let text = "Vox goes on in the terminal. You can close this window.";
                    respond(request, 200, text);
                    return Ok(code);
                }
            }
        }
    }
}

/// What a request at the port is.
enum Answer {
    /// Nothing of this login's.
    Stranger(u16, &'static str),
    /// The login has failed.
    Refusal(Error),
    /// The user agreed.
    Code(String),
}

fn read(request: &Request, expected: &Expected<'_>) -> Answer {
    let url = Url::parse(&format!("http://127.0.0.1{}", request.url()));
    let Ok(url) = url.as_ref().map_err(drop).and_then(|url| match url.path() {
        "/callback" if *request.method() == Method::Get => Ok(url),
        _ => Err(()),
    }) else {
        return Answer::Stranger(404, "There is nothing here.");
    };
    let parameter = |name: &str| {
        url.query_pairs()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    };
    if parameter("state").is_none_or(|state| state != expected.state) {
        return Answer::Stranger(400, "This answers another login, and was not taken.");
    }
    let issuer = parameter("iss");
    let foreign = match &issuer {
        Some(issuer) => issuer.trim_end_matches('/') != expected.issuer.trim_end_matches('/'),
        None => expected.names_issuer,
    };
    if foreign {
        let named: Cow<'_, str> = issuer.unwrap_or("nobody".into());
        return Answer::Refusal(Error::Denied(format!(
            "the answer comes from `{}` and not from `{}`; it was not taken",
            named.escape_debug(),
            expected.issuer
        )));
    }
    if let Some(error) = parameter("error") {
        let why = parameter("error_description")
            .map(|text| format!(" ({})", text.escape_debug()))
            .unwrap_or_default();
        let told = if error == "access_denied" {
            format!("the login was denied{why}")
        } else {
            format!(
                "the server has refused the login: {}{why}",
                error.escape_debug()
            )
        };
        return Answer::Refusal(Error::Denied(told));
    }
    match parameter("code").filter(|code| !code.is_empty()) {
        Some(code) => Answer::Code(code.into_owned()),
        None => Answer::Refusal(Error::Denied(
            "the server's answer carries neither a code nor an error".to_owned(),
        )),
    }
}

/// Answers the browser; it does not matter whether it still listens.
fn respond(request: Request, status: u16, text: &str) {
    let page = format!("<!doctype html><title>Vox</title><p>{text}</p>\n");
    let mut response = Response::from_string(page).with_status_code(status);
    for (name, value) in [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        ("Connection", "close"),
    ] {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    let _ = request.respond(response);
}
