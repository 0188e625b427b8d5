//! Hosts in scopes.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::ScopeError;

/// Every port.
const ANY_PORT: RangeInclusive<u16> = 0..=u16::MAX;

/// A host that a plugin names: one value for all spellings of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name: lower case, without a trailing dot.
    Name(String),
    /// An address; an IPv4 address inside an IPv6 one is the IPv4 address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.pad(name),
            Self::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
            Self::Address(address) => address.fmt(formatter),
        }
    }
}

impl FromStr for Host {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let inside = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = inside.unwrap_or(text).parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        name(text, text).map(Self::Name)
    }
}

/// Which hosts an entry means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// This name.
    Name(String),
    /// Every name below this one, not the name itself.
    Below(String),
    /// Every address with these leading bits.
    Network { address: IpAddr, bits: u8 },
}

/// A host that can be granted: a name, `*.name`, an address or a CIDR, each with `:port` or
/// `:low-high` where not every port is meant; an IPv6 address with a port stands in brackets.
#[derive(Debug, Clone)]
pub struct HostScope {
    written: String,
    pattern: Pattern,
    ports: RangeInclusive<u16>,
}

impl HostScope {
    /// Whether the host is meant, at this port, or at some port when `port` is none. A name is
    /// never covered by an address, nor an address by a name: who looks a name up decides which
    /// addresses it stands for.
    pub fn covers(&self, host: &Host, port: Option<u16>) -> bool {
        if port.is_some_and(|port| !self.ports.contains(&port)) {
            return false;
        }
        match (&self.pattern, host) {
            (Pattern::Name(granted), Host::Name(name)) => granted == name,
            (Pattern::Below(granted), Host::Name(name)) => name
                .strip_suffix(granted.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            (Pattern::Network { address, bits }, Host::Address(asked)) => {
                leading(*address, *bits) == leading(asked.to_canonical(), *bits)
            }
            _ => false,
        }
    }

    /// Whether it means addresses, and not names.
    pub fn is_address(&self) -> bool {
        matches!(self.pattern, Pattern::Network { .. })
    }

    /// The ports that are meant.
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.ports.clone()
    }
}

impl PartialEq for HostScope {
    fn eq(&self, other: &Self) -> bool {
        (&self.pattern, &self.ports) == (&other.pattern, &other.ports)
    }
}

impl Eq for HostScope {}

impl fmt::Display for HostScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.written)
    }
}

impl FromStr for HostScope {
    type Err = ScopeError;

    fn from_str(entry: &str) -> Result<Self, ScopeError> {
        if entry.contains("://") {
            return Err(refuse(
                entry,
                "is a URL",
                "write its host, with `:port` where only one is meant",
            ));
        }
        let (host, ports) = split(entry)?;
        let ports = ports.map_or(Ok(ANY_PORT), |ports| parse_ports(entry, ports))?;
        let pattern = match host.strip_prefix("*.") {
            Some(name_below) => Pattern::Below(name(entry, name_below)?),
            None if host == "*" => {
                return Err(refuse(
                    entry,
                    "is every host",
                    "grant `network` without a scope",
                ));
            }
            None => match network(entry, host)? {
                Some(network) => network,
                None => Pattern::Name(name(entry, host)?),
            },
        };
        if let Pattern::Name(name) | Pattern::Below(name) = &pattern
            && (name == "localhost" || name.ends_with(".localhost"))
        {
            return Err(refuse(
                entry,
                "is this machine, which no name can open",
                "write its address: `127.0.0.1:PORT` or `[::1]:PORT`",
            ));
        }
        Ok(Self {
            written: entry.to_owned(),
            pattern,
            ports,
        })
    }
}

fn refuse(entry: &str, fault: &'static str, hint: &str) -> ScopeError {
    ScopeError::Host {
        entry: entry.escape_debug().to_string(),
        fault,
        hint: hint.to_owned(),
    }
}

/// Splits an entry into its host and its ports.
fn split(entry: &str) -> Result<(&str, Option<&str>), ScopeError> {
    if let Some(rest) = entry.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, "")) => Ok((host, None)),
            Some((host, rest)) if rest.starts_with(':') => Ok((host, Some(&rest[1..]))),
            _ => Err(refuse(
                entry,
                "has a bracket in the wrong place",
                "write `[2001:db8::1]:443`",
            )),
        };
    }
    // More than one colon: an IPv6 address without a port.
    match entry.split_once(':') {
        Some((host, ports)) if !ports.contains(':') => Ok((host, Some(ports))),
        _ => Ok((entry, None)),
    }
}

fn parse_ports(entry: &str, text: &str) -> Result<RangeInclusive<u16>, ScopeError> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (port(low), port(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        _ => Err(refuse(
            entry,
            "has no such port",
            "write a number from 1 to 65535, or two such as `:8000-8099`",
        )),
    }
}

/// An address or a CIDR; none when the text is neither and may be a name.
fn network(entry: &str, host: &str) -> Result<Option<Pattern>, ScopeError> {
    let (address, bits) = match host.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (host, None),
    };
    let Ok(written) = address.parse::<IpAddr>() else {
        return match bits {
            None => Ok(None),
            Some(_) => Err(refuse(
                entry,
                "has a `/`",
                "write the host alone, or an address with its bits such as `10.0.0.0/8`",
            )),
        };
    };
    let most = width(written);
    let bits = match bits {
        None => most,
        Some(bits) => bits
            .parse::<u8>()
            .ok()
            .filter(|bits| *bits <= most)
            .ok_or_else(|| {
                refuse(
                    entry,
                    "has an impossible number of bits",
                    "write `/0` to `/32` after an IPv4 address, to `/128` after an IPv6 one",
                )
            })?,
    };
    let (address, bits) = match written.to_canonical() {
        address if width(address) == most => (address, bits),
        // An IPv4 network inside IPv6; the 96 bits before it are the same for all of them.
        address if bits >= 96 => (address, bits - 96),
        _ => (written, bits),
    };
    if leading(address, bits) != number(address) {
        return Err(refuse(
            entry,
            "has bits set beyond those that count",
            "write the network's first address, or the address without `/`",
        ));
    }
    Ok(Some(Pattern::Network { address, bits }))
}

/// Bits of an address.
fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// An address as a number with its kind, so that those of different kinds are never the same.
fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(address) => (false, u32::from(address).into()),
        IpAddr::V6(address) => (true, address.into()),
    }
}

/// The leading bits of an address, the others being zero.
fn leading(address: IpAddr, bits: u8) -> (bool, u128) {
    let (kind, number) = number(address);
    let others = u32::from(width(address).saturating_sub(bits));
    let kept = number.checked_shr(others).unwrap_or(0);
    (kind, kept.checked_shl(others).unwrap_or(0))
}

/// Checks a name and gives its one spelling.
fn name(entry: &str, text: &str) -> Result<String, ScopeError> {
    if !text.is_ascii() {
        return Err(refuse(
            entry,
            "has letters outside ASCII",
            "write the form that name servers know, which starts with `xn--`",
        ));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(fits) {
        return Err(refuse(
            entry,
            "is no host name",
            "write a name such as `api.example.org`, an address, or `*.example.org`",
        ));
    }
    // `127.1`, `0x7f.1` and `2130706433` are addresses to some resolvers.
    let last = name.rsplit('.').next().unwrap_or(&name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err(refuse(
            entry,
            "is an address in an odd notation",
            "write all four numbers in decimal, such as `127.0.0.1`",
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(granted: &str, asked: &str, port: u16) -> bool {
        let granted = granted.parse::<HostScope>().unwrap();
        granted.covers(&asked.parse().unwrap(), Some(port))
    }

    #[test]
    fn a_host_is_covered_in_every_spelling_of_it() {
        for (granted, asked) in [
            ("api.example.org", "API.Example.ORG."),
            ("API.example.org.", "api.example.org"),
            ("*.example.org", "a.b.example.org"),
            ("127.0.0.1", "::ffff:127.0.0.1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::ffff:10.0.0.0/104", "10.9.9.9"),
            ("10.0.0.0/8", "::ffff:10.1.2.3"),
            ("2001:db8::/32", "[2001:DB8::1]"),
            ("0.0.0.0/0", "192.0.2.1"),
            ("::/0", "2001:db8::1"),
        ] {
            assert!(covers(granted, asked, 443), "{granted} {asked}");
        }
    }

    #[test]
    fn a_host_that_only_looks_alike_is_not_covered() {
        for (granted, asked) in [
            ("example.org", "www.example.org"),
            ("example.org", "example.org.evil.net"),
            ("*.example.org", "example.org"),
            ("*.example.org", "evilexample.org"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/8", "::a00:1"),
            ("::/0", "192.0.2.1"),
            ("0.0.0.0/0", "2001:db8::1"),
        ] {
            assert!(!covers(granted, asked, 443), "{granted} {asked}");
        }
    }

    #[test]
    fn a_port_limits_what_is_covered() {
        assert!(covers("a.org:443", "a.org", 443));
        assert!(!covers("a.org:443", "a.org", 80));
        assert!(covers("a.org:8000-8099", "a.org", 8099));
        assert!(!covers("a.org:8000-8099", "a.org", 8100));
        assert!(covers("[::1]:80", "::1", 80));
        assert!(!covers("[::1]:80", "::1", 81));
        assert!(covers("10.0.0.0/8:80", "10.1.1.1", 80));
        assert!(covers("[fd00::/8]:80", "fd12::1", 80));
        let scope = "a.org:443".parse::<HostScope>().unwrap();
        assert!(scope.covers(&Host::Name("a.org".into()), None));
    }

    #[test]
    fn what_is_no_host_is_refused_with_what_to_write() {
        for text in [
            "",
            "*",
            "a.*.org",
            "*a.org",
            "a..org",
            "-a.org",
            "https://a.org",
            "a.org/x",
            "a%2eorg",
            "bücher.example",
            "user@a.org",
            "a.org:0",
            "a.org:x",
            "a.org:9-8",
            "a.org:+80",
            "a.org:65536",
            "127.1",
            "2130706433",
            "0x7f.0.0.0x1",
            "010.0.0.1",
            "1.2.3.4/33",
            "10.0.0.1/8",
            "[::1",
            "[::1]x",
            "fe80::1%eth0",
            "localhost",
            "a.localhost:80",
            " a.org",
        ] {
            let error = text.parse::<HostScope>().expect_err(text);
            assert!(!error.hint().is_empty(), "{error}");
        }
        let error = "127.1".parse::<HostScope>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the host `127.1` is an address in an odd notation"
        );
        for asked in ["127.1", "0x7f000001", "a%2eorg", "a\0.org", ""] {
            assert!(asked.parse::<Host>().is_err(), "{asked}");
        }
    }

    #[test]
    fn an_entry_prints_as_it_was_written() {
        for text in ["API.example.org:443", "::ffff:10.0.0.1", "[::1]:80-81"] {
            assert_eq!(text.parse::<HostScope>().unwrap().to_string(), text);
        }
    }
}
