//! The URL of a server, checked once.
//!
//! What must stay true: an address has a host that can be granted, and neither a name nor a password
//! nor a query, as it is shown in messages, and is what users know the device by.

use std::fmt;

use fluent_uri::Uri;
use vox_plugin::{Error, Result};

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Whether it is `https`.
    pub encrypted: bool,
    /// Host, with the port where that is not the scheme's own. An IPv6 address is in brackets.
    pub authority: String,
    /// What its paths begin with: empty, or from a `/` on without one at the end.
    pub base: String,
    host: String,
    port: u16,
}

impl Address {
    /// Reads what a user has written as `url`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with what is wrong. The text is not repeated, as it may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::Invalid(format!(
                "`url` {why}; write the server's address, such as `http://127.0.0.1:8000`"
            ))
        };
        let uri = Uri::parse(url).map_err(|_| refuse("is no URL"))?;
        let encrypted = match uri.scheme().as_str().to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(refuse("is neither `http` nor `https`")),
        };
        let authority = uri.authority().ok_or_else(|| refuse("names no host"))?;
        if authority.has_userinfo() {
            return Err(refuse(
                "has a name or password before its host, which belongs into a file that `key-file` names",
            ));
        }
        if uri.query().is_some() || uri.fragment().is_some() {
            return Err(refuse("has a `?` or `#`, which no address of a server has"));
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() || host.contains('%') {
            return Err(refuse("names no host in ASCII"));
        }
        let own = if encrypted { 443 } else { 80 };
        let port = authority.port_to_u16();
        let port = port
            .map_err(|_| refuse("has a port that is no number up to 65535"))?
            .unwrap_or(own);
        Ok(Self {
            encrypted,
            authority: if port == own {
                host.clone()
            } else {
                format!("{host}:{port}")
            },
            base: uri.path().as_str().trim_end_matches('/').to_owned(),
            host,
            port,
        })
    }

    /// Host and port as a grant of `network` names them.
    pub fn scope(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "[::1]") || self.host.starts_with("127.")
    }

    /// Whether what is sent there can be read by nobody on the way.
    pub fn is_private(&self) -> bool {
        self.encrypted || self.is_local()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_was_written_without_what_says_nothing() {
        for (written, shown, scope) in [
            (
                "http://127.0.0.1:8000",
                "http://127.0.0.1:8000",
                "127.0.0.1:8000",
            ),
            (
                "HTTPS://Api.Example.org:443/v1/",
                "https://api.example.org/v1",
                "api.example.org:443",
            ),
            ("http://[::1]:80/", "http://[::1]", "[::1]:80"),
        ] {
            let address = Address::parse(written).unwrap();
            assert_eq!(
                (address.to_string(), address.scope()),
                (shown.into(), scope.into())
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for url in [
            "secret",
            "ftp://secret/",
            "http://u:secret@e.org",
            "http://e.org/?key=secret",
            "http:///secret",
            "http://e.org:99999/secret",
        ] {
            let Err(Error::Invalid(why)) = Address::parse(url) else {
                panic!("{url} was taken")
            };
            assert!(why.contains("`url`") && !why.contains("secret"), "{why}");
        }
    }
}
