//! Where a request goes: the URL that the plan names, and those that redirects lead to.
//!
//! What must stay true: a target has a host that can be granted, and no name or password, which would
//! stand in records and messages. What is shown of a target leaves its query out, where tokens stand.

use std::fmt;

use fluent_uri::{Uri, UriRef};

/// A place that can be asked.
#[derive(Debug, Clone)]
pub struct Target {
    uri: Uri<String>,
    /// Whether it is `https`.
    pub encrypted: bool,
    /// Host and port, the port only where it is not the scheme's own.
    pub authority: String,
    /// From the first `/` on.
    pub path_with_query: String,
    /// The host alone; an IPv6 address in brackets.
    host: String,
    port: u16,
}

impl Target {
    /// The target that a plan names.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL, and what to write instead.
    pub fn parse(url: &str) -> Result<Self, String> {
        let uri = Uri::parse(url).map_err(|error| {
            format!("`url` is not a URL: {error}; other characters are written as `%` and two hexadecimal digits")
        })?;
        Self::of(
            Uri::parse(uri.strip_fragment().as_str().to_owned())
                .map_err(|(error, _)| error.to_string())?,
        )
    }

    fn of(uri: Uri<String>) -> Result<Self, String> {
        let encrypted = match uri.scheme().as_str().to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            other => return Err(format!("`{other}` is not fetched; `https` and `http` are")),
        };
        let Some(authority) = uri
            .authority()
            .filter(|authority| !authority.host().is_empty())
        else {
            return Err("the URL names no host; write `https://host/path`".to_owned());
        };
        if authority.has_userinfo() {
            return Err(
                "the URL has a name or password before its host, which would stand in records; put it in `headers`"
                    .to_owned(),
            );
        }
        let host = authority.host().to_ascii_lowercase();
        if host.contains('%') {
            return Err(format!(
                "`{host}` is no host: write its name in ASCII, in the `xn--` form"
            ));
        }
        let own = if encrypted { 443 } else { 80 };
        let port = authority
            .port_to_u16()
            .map_err(|_| "the URL's port is none: it is a number up to 65535".to_owned())?
            .unwrap_or(own);
        let authority = if port == own {
            host.clone()
        } else {
            format!("{host}:{port}")
        };
        let path = match uri.path().as_str() {
            "" => "/",
            path => path,
        };
        let path_with_query = match uri.query() {
            Some(query) => format!("{path}?{}", query.as_str()),
            None => path.to_owned(),
        };
        Ok(Self {
            encrypted,
            authority,
            path_with_query,
            host,
            port,
            uri,
        })
    }

    /// The target that a `Location` header of this one's answer leads to.
    ///
    /// # Errors
    ///
    /// Why it cannot or must not be followed.
    pub fn redirected(&self, location: &[u8]) -> Result<Self, String> {
        let location = escaped(location);
        let reference = UriRef::parse(location.as_str())
            .map_err(|error| format!("`Location` is not a URL: {error}"))?;
        let uri = reference
            .resolve_against(&self.uri)
            .map_err(|error| format!("`Location` is not a URL: {error}"))?;
        let uri = Uri::parse(uri.strip_fragment().as_str().to_owned())
            .map_err(|(error, _)| error.to_string())?;
        let target = Self::of(uri)?;
        if self.encrypted && !target.encrypted {
            return Err(format!(
                "it leads from https to {target}, where anybody on the way could change what comes"
            ));
        }
        Ok(target)
    }

    /// Whether the same server would be asked, in the same way: then it may see the same headers.
    pub fn is_at(&self, other: &Self) -> bool {
        (self.encrypted, &self.host, self.port) == (other.encrypted, &other.host, other.port)
    }

    /// Host and port as a grant of `network` names them.
    pub fn scope(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The target, with `…` in the place of its query.
impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.encrypted { "https" } else { "http" };
        let (path, query) = match self.path_with_query.split_once('?') {
            Some((path, _)) => (path, "?…"),
            None => (self.path_with_query.as_str(), ""),
        };
        write!(formatter, "{scheme}://{}{path}{query}", self.authority)
    }
}

/// What servers write in `Location` though no URL may hold it, percent-encoded.
fn escaped(location: &[u8]) -> String {
    let mut text = String::with_capacity(location.len());
    for byte in location.trim_ascii() {
        match byte {
            b'!' | b'#'..=b';' | b'=' | b'?'..=b'[' | b']' | b'_' | b'a'..=b'z' | b'~' => {
                text.push(char::from(*byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    fn parts(target: &Target) -> (bool, &str, &str) {
        (target.encrypted, &target.authority, &target.path_with_query)
    }

    #[test]
    fn a_url_is_a_scheme_a_host_and_what_is_asked_for_there() {
        let of = |url| {
            let target = target(url);
            let (encrypted, authority, path) = parts(&target);
            (encrypted, authority.to_owned(), path.to_owned())
        };
        assert_eq!(
            of("https://Example.ORG"),
            (true, "example.org".into(), "/".into())
        );
        assert_eq!(
            of("HTTP://e.org:80/a?b=c#d"),
            (false, "e.org".into(), "/a?b=c".into())
        );
        assert_eq!(
            of("https://[::1]:8443/a%20b"),
            (true, "[::1]:8443".into(), "/a%20b".into())
        );
        assert_eq!(target("https://e.org/").scope(), "e.org:443");
        assert_eq!(target("http://[::1]/").scope(), "[::1]:80");
    }

    #[test]
    fn what_is_no_url_of_a_host_is_refused_with_the_reason() {
        for (url, reason) in [
            ("ftp://e.org/", "`ftp` is not fetched"),
            ("/path", "is not a URL"),
            ("https:///path", "names no host"),
            ("mailto:a@e.org", "`mailto` is not fetched"),
            ("https://user:secret@e.org/", "put it in `headers`"),
            ("https://e.org:99999/", "up to 65535"),
            ("https://e.org/a b", "is not a URL"),
            ("https://ex%61mple.org/", "`xn--` form"),
        ] {
            let told = Target::parse(url).expect_err(url);
            assert!(told.contains(reason), "{url}: {told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn a_redirect_counts_from_where_it_was_answered() {
        let base = target("https://e.org/a/b?q=1");
        for (location, expected) in [
            ("c", "https://e.org/a/c"),
            ("/c?d", "https://e.org/c?…"),
            ("../../c", "https://e.org/c"),
            ("//other.org/c", "https://other.org/c"),
            ("https://other.org:8443", "https://other.org:8443/"),
            ("/with space/ü", "https://e.org/with%20space/%C3%BC"),
        ] {
            let led = base.redirected(location.as_bytes()).expect(location);
            assert_eq!(led.to_string(), expected, "{location}");
        }
    }

    #[test]
    fn a_redirect_from_https_to_http_is_not_followed() {
        let told = target("https://e.org/")
            .redirected(b"http://e.org/")
            .unwrap_err();
        assert!(told.contains("from https to http://e.org/"), "{told}");
        assert!(
            target("http://e.org/")
                .redirected(b"https://e.org/")
                .is_ok()
        );
    }

    #[test]
    fn a_redirect_to_no_place_that_can_be_asked_is_not_followed() {
        for location in [
            "file:///etc/passwd",
            "https://u:p@e.org/",
            "https://e.org:99999/",
            "%",
        ] {
            assert!(
                target("http://e.org/")
                    .redirected(location.as_bytes())
                    .is_err(),
                "{location}"
            );
        }
    }

    #[test]
    fn only_the_same_scheme_host_and_port_are_the_same_place() {
        let base = target("http://e.org/a");
        assert!(base.is_at(&target("http://E.org:80/b")));
        for other in ["https://e.org/a", "http://e.org:81/a", "http://w.e.org/a"] {
            assert!(!base.is_at(&target(other)), "{other}");
        }
    }

    #[test]
    fn a_query_is_not_shown() {
        assert_eq!(
            target("https://e.org/a?token=t").to_string(),
            "https://e.org/a?…"
        );
    }
}
