//! Addresses: as much of them as redirects and secrets call for.

use super::Error;

/// An `http` or `https` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    secure: bool,
    /// Host and port as written, in lower case.
    authority: String,
    /// Path and query, with the slash that they start with.
    path: String,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let (secure, rest) = if let Some(rest) = strip(text, "https://") {
            (true, rest)
        } else if let Some(rest) = strip(text, "http://") {
            (false, rest)
        } else {
            return Err(fault(text, "it starts with neither https:// nor http://"));
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            // The text holds a password, so it is not shown.
            return Err(fault("https://…@…", "it holds a user or a password"));
        }
        let host = host(authority);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if host.is_empty() || !authority.chars().all(plain) {
            return Err(fault(text, "it names no host"));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fault(
                text,
                "it has spaces, control characters or letters that are not ASCII",
            ));
        }
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            secure,
            authority: authority.to_ascii_lowercase(),
            path: format!("{slash}{path}"),
        })
    }

    /// The address that `text` means in a document at this one.
    pub(super) fn join(&self, text: &str) -> Result<Self, Error> {
        let scheme = if self.secure { "https" } else { "http" };
        if text.contains("://") && !text.starts_with(['/', '?', '.']) {
            return Self::parse(text);
        }
        if let Some(rest) = text.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let base = self.path.split('?').next().unwrap_or_default();
        let path = if text.starts_with('/') {
            text.to_owned()
        } else if text.starts_with('?') {
            format!("{base}{text}")
        } else {
            let folder = base
                .rfind('/')
                .map_or("/", |slash| base.get(..=slash).unwrap_or("/"));
            normal(&format!("{folder}{text}"))
        };
        Self::parse(&format!("{scheme}://{}{path}", self.authority))
    }

    pub(super) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether it is this machine itself.
    pub(super) fn is_loopback(&self) -> bool {
        let host = host(&self.authority);
        let number = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || number
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// Whether a secret for the one may go to the other.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.secure == other.secure && self.port() == other.port()
    }

    fn port(&self) -> (&str, &str) {
        let host = host(&self.authority);
        let port = self.authority.get(host.len()..).unwrap_or_default();
        match port.trim_start_matches(':') {
            "" if self.secure => (host, "443"),
            "" => (host, "80"),
            port => (host, port),
        }
    }

    /// With the query, for the request itself.
    pub(super) fn full(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }

    /// Without the query, for people.
    pub(super) fn shown(&self) -> String {
        let full = self.full();
        full.split('?').next().unwrap_or_default().to_owned()
    }

    /// The last part of the path.
    pub(super) fn file_name(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

fn fault(url: &str, why: &'static str) -> Error {
    Error::Address {
        url: url.split('?').next().unwrap_or_default().to_owned(),
        why,
    }
}

fn strip<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// The authority without its port.
fn host(authority: &str) -> &str {
    match authority.rfind(']') {
        Some(end) => authority.get(..=end).unwrap_or(authority),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// The path without `.` and `..`.
fn normal(path: &str) -> String {
    let (path, query) = match path.find('?') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_redirect_means_depends_on_where_it_is() {
        let base = Address::parse("https://Example.org/a/b?c=d").unwrap();
        let joined = |text| base.join(text).unwrap().full();
        assert_eq!(joined("e"), "https://example.org/a/e");
        assert_eq!(joined("../e?f"), "https://example.org/e?f");
        assert_eq!(joined("/e"), "https://example.org/e");
        assert_eq!(joined("//other.org/e"), "https://other.org/e");
        assert_eq!(joined("http://other.org"), "http://other.org/");
        assert_eq!(joined("?g=http://x"), "https://example.org/a/b?g=http://x");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        let loopback = |text| Address::parse(text).unwrap().is_loopback();
        for text in [
            "http://127.0.0.1:80/",
            "http://[::1]/",
            "http://localhost/x",
        ] {
            assert!(loopback(text), "{text}");
        }
        for text in [
            "http://127.0.0.1.example.org/",
            "http://10.0.0.1/",
            "http://localhost.org/",
        ] {
            assert!(!loopback(text), "{text}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_shown() {
        let error = Address::parse("https://me:secret@example.org/").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_secret_stays_with_its_host_its_port_and_its_encryption() {
        let home = Address::parse("https://hub.example/a").unwrap();
        let same = |text| home.same_place(&Address::parse(text).unwrap());
        assert!(same("https://hub.example:443/b"));
        assert!(!same("https://hub.example:444/b"));
        assert!(!same("http://hub.example/b"));
        assert!(!same("https://hub.example.evil/b"));
    }
}
