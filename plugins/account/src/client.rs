//! Requests to the authorization server.
//!
//! What must stay true: nothing goes over an unencrypted connection but to this machine, and no redirect
//! is followed, so that a secret reaches nobody but the address that was checked.

use std::time::Duration;

use oauth2::url::{Host, Url};
use oauth2::{HttpRequest, HttpResponse, SyncHttpClient};
use ureq::Agent;
use ureq::http::{Request, Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use vox_plugin::{Error, Result};

/// Bytes of an answer at most.
const MOST_BYTES: u64 = 1024 * 1024;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client.
pub struct Client {
    agent: Agent,
}

impl Client {
    /// A client with the roots of trust of the system.
    pub fn new() -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .build();
        Self {
            agent: config.new_agent(),
        }
    }

    /// What stands at an address; none where there is nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the server does not answer.
    pub fn get(&self, address: &Url) -> Result<Option<Vec<u8>>> {
        let request = Request::get(address.as_str())
            .header(header::ACCEPT, "application/json")
            .body(Vec::new())
            .map_err(|error| Error::Invalid(format!("{address}: {error}")))?;
        let response = self
            .send(request)
            .map_err(|error| unreachable(address, &error))?;
        match response.status().as_u16() {
            200 => Ok(Some(response.into_body())),
            404 => Ok(None),
            status => Err(Error::Unavailable(format!(
                "{address} answers with status {status}"
            ))),
        }
    }

    /// Sends a form; answers the status.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the server does not answer.
    pub fn post(&self, address: &Url, form: String) -> Result<u16> {
        let request = Request::post(address.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into_bytes())
            .map_err(|error| Error::Invalid(format!("{address}: {error}")))?;
        let response = self
            .send(request)
            .map_err(|error| unreachable(address, &error))?;
        Ok(response.status().as_u16())
    }

    fn send(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, ureq::Error> {
        let (parts, mut body) = self.agent.run(request)?.into_parts();
        let bytes = body.with_config().limit(MOST_BYTES).read_to_vec()?;
        Ok(Response::from_parts(parts, bytes))
    }
}

impl SyncHttpClient for Client {
    type Error = ureq::Error;

    fn call(&self, request: HttpRequest) -> Result<HttpResponse, ureq::Error> {
        self.send(request)
    }
}

/// The server at `address` cannot be reached.
pub fn unreachable(address: &Url, error: &ureq::Error) -> Error {
    Error::Unavailable(format!("{address} cannot be reached: {error}"))
}

/// Reads an address that secrets may be sent to; `what` is what it is of.
///
/// # Errors
///
/// [`Error::Invalid`] when it is none.
pub fn address(what: &str, text: &str) -> Result<Url> {
    let wrong = |why: &str| {
        Error::Invalid(format!(
            "the address of the {what}, `{}`, {why}",
            text.escape_debug()
        ))
    };
    let url = Url::parse(text).map_err(|error| wrong(&format!("is none: {error}")))?;
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(wrong("names no host")),
    };
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(wrong("may have neither a user nor a fragment"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if here => Ok(url),
        _ => Err(wrong("must begin with `https://`: secrets are sent there")),
    }
}
