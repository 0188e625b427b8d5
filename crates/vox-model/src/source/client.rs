//! Requests: where they may go, what they carry, and what is tried again.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{Response, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::address::Address;
use super::{Error, Watch};

/// Bytes of an answer in JSON at most.
const MAX_JSON_BYTES: u64 = 64 << 20;
/// Name and version, as servers see them.
const USER_AGENT: &str = concat!("vox/", env!("CARGO_PKG_VERSION"));

/// What a [`Client`] may do, and how long it tries.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Policy {
    /// Plain HTTP to other machines. To this one it is always allowed. Default: no.
    pub plain_http: bool,
    /// How often a server may send on. Default: 10.
    pub max_redirects: u32,
    /// Attempts in a row that get no further before giving up. Default: 5.
    pub attempts: u32,
    /// The wait after the first failed attempt; it doubles up to 16 times this. Default: half a second.
    pub backoff: Duration,
    /// How long a connection may take. Default: 30 seconds.
    pub connect: Duration,
    /// How long a server may be silent. Default: 60 seconds.
    pub silence: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            plain_http: false,
            max_redirects: 10,
            attempts: 5,
            backoff: Duration::from_millis(500),
            connect: Duration::from_secs(30),
            silence: Duration::from_secs(60),
        }
    }
}

/// A secret and the one place that it is for.
#[derive(Clone)]
pub struct Token {
    secret: String,
    place: Address,
}

impl Token {
    /// A bearer token for the host of this address.
    ///
    /// # Errors
    ///
    /// [`Error::Address`]; also when the secret has characters that no header can hold.
    pub fn new(secret: &str, place: &str) -> Result<Self, Error> {
        let secret = secret.trim();
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Address {
                url: place.to_owned(),
                why: "its token is empty or has characters that no token has",
            });
        }
        Ok(Self {
            secret: secret.to_owned(),
            place: Address::parse(place)?,
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token for {}", self.place.shown())
    }
}

/// Fetches over HTTP. The system's roots of trust count, and the proxy that the environment names
/// (`ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`), except for this machine itself.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    policy: Policy,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Policy::default())
    }
}

impl Client {
    /// A client with this policy.
    pub fn new(policy: Policy) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            // Redirects are followed here, where secrets and encryption are watched over.
            .max_redirects(0)
            .timeout_connect(Some(policy.connect))
            .timeout_recv_response(Some(policy.silence))
            .timeout_per_read(Some(policy.silence))
            .build();
        Self {
            agent: config.new_agent(),
            policy,
        }
    }

    /// An answer of JSON.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        url: &Address,
        accept: &str,
        token: Option<&Token>,
        watch: &mut dyn Watch,
    ) -> Result<T, Error> {
        let headers = [("accept", accept.to_owned())];
        let mut failed = 0;
        let body = loop {
            match self.try_json(url, &headers, token) {
                Ok(body) => break body,
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Transient(source)) => {
                    failed += 1;
                    self.wait(url, failed, source, watch)?;
                }
            }
        };
        serde_json::from_slice(&body).map_err(|error| Error::Answer {
            url: url.shown(),
            why: error.to_string().escape_debug().to_string(),
        })
    }

    fn try_json(
        &self,
        url: &Address,
        headers: &[(&str, String)],
        token: Option<&Token>,
    ) -> Result<Vec<u8>, Trouble> {
        let response = self.request(url, headers, token)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(Error::Status {
                url: url.shown(),
                status,
            }
            .into());
        }
        let mut body = Vec::new();
        let mut reader = response.into_body().into_reader().take(MAX_JSON_BYTES + 1);
        reader.read_to_end(&mut body)?;
        if body.len() as u64 > MAX_JSON_BYTES {
            return Err(Error::TooLarge {
                url: url.shown(),
                limit: MAX_JSON_BYTES,
            }
            .into());
        }
        Ok(body)
    }

    /// The answer to a GET once nobody sends on. An answer that says to come back later is transient.
    pub(super) fn request(
        &self,
        url: &Address,
        headers: &[(&str, String)],
        token: Option<&Token>,
    ) -> Result<Response<Body>, Trouble> {
        let mut at = url.clone();
        let mut token = token;
        for _ in 0..=self.policy.max_redirects {
            self.check(&at)?;
            // Once somebody else was asked the secret stays out, even when they send back.
            token = token.filter(|token| token.place.same_place(&at));
            let mut request = self.agent.get(at.full());
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {}", token.secret));
            }
            let response = if at.is_loopback() {
                request.config().proxy(None).build().call()
            } else {
                request.call()
            };
            let response = response.map_err(|error| trouble(error, &at))?;
            match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => {
                    let to = response.headers().get(header::LOCATION);
                    let Some(to) = to.and_then(|to| to.to_str().ok()) else {
                        return Err(Error::Answer {
                            url: at.shown(),
                            why: "it sends on without saying where".to_owned(),
                        }
                        .into());
                    };
                    at = sent_on(&at, to)?;
                }
                status @ (408 | 425 | 429 | 500 | 502 | 503 | 504) => {
                    let why = format!("{} answers {status}", at.shown());
                    return Err(Trouble::Transient(io::Error::other(why)));
                }
                _ => return Ok(response),
            }
        }
        Err(Error::Redirects {
            url: url.shown(),
            limit: self.policy.max_redirects,
        }
        .into())
    }

    fn check(&self, at: &Address) -> Result<(), Error> {
        if at.is_secure() || at.is_loopback() || self.policy.plain_http {
            Ok(())
        } else {
            Err(Error::Plain { url: at.shown() })
        }
    }

    /// Waits after failure number `failed` in a row, unless that was the last.
    pub(super) fn wait(
        &self,
        url: &Address,
        failed: u32,
        source: io::Error,
        watch: &mut dyn Watch,
    ) -> Result<(), Error> {
        if failed >= self.policy.attempts {
            return Err(Error::Network {
                url: url.shown(),
                attempts: failed,
                source,
            });
        }
        tracing::debug!(url = url.shown(), failed, %source, "trying again");
        let doublings = failed.saturating_sub(1).min(4);
        let mut left = self.policy.backoff.saturating_mul(1 << doublings);
        loop {
            if watch.cancelled() {
                return Err(Error::Cancelled { url: url.shown() });
            }
            if left.is_zero() {
                return Ok(());
            }
            let nap = left.min(Duration::from_millis(100));
            std::thread::sleep(nap);
            left = left.saturating_sub(nap);
        }
    }
}

/// Where `from` sends on to, unless encryption would end there.
fn sent_on(from: &Address, to: &str) -> Result<Address, Error> {
    let to = from.join(to)?;
    if from.is_secure() && !to.is_secure() {
        return Err(Error::Downgrade {
            from: from.shown(),
            to: to.shown(),
        });
    }
    Ok(to)
}

/// A failed attempt: whether another may succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    Transient(io::Error),
    Final(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// For reading from the network; what the file system says is never transient.
impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Transient(error)
    }
}

fn trouble(error: ureq::Error, at: &Address) -> Trouble {
    let why = match error {
        ureq::Error::Http(error) => error.to_string(),
        ureq::Error::BadUri(why) => why,
        ureq::Error::Rustls(error) => format!("no trusted connection: {error}"),
        ureq::Error::Tls(why) => format!("no trusted connection: {why}"),
        ureq::Error::InvalidProxyUrl => "the proxy's address is invalid".to_owned(),
        other => return Trouble::Transient(other.into_io()),
    };
    Trouble::Final(Error::Answer {
        url: at.shown(),
        why: why.escape_debug().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_does_not_send_on_from_https_to_http() {
        let from = Address::parse("https://hub.example/a").unwrap();
        for to in [
            "http://hub.example/a",
            "http://127.0.0.1/a",
            "HTTP://hub.example/",
        ] {
            let error = sent_on(&from, to).unwrap_err();
            assert!(matches!(error, Error::Downgrade { .. }), "{error}");
        }
        assert!(sent_on(&from, "//cdn.example/a").unwrap().is_secure());
        assert!(matches!(
            sent_on(&from, "file:///etc/passwd"),
            Err(Error::Address { .. })
        ));
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token::new("hf_secret", "https://hub.example").unwrap();
        assert!(!format!("{token:?}").contains("secret"));
        assert!(Token::new("a\r\nb: c", "https://hub.example").is_err());
    }
}
