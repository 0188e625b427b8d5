//! Which addresses a guest may connect to, by what `network` grants.
//!
//! The host looks names up itself and remembers which address came from which granted name; an
//! address is allowed because it is granted as such, or because a granted name led to it for that
//! port. Names lead to public addresses only: a name's owner, who may be a stranger, must not be
//! able to point it at this machine or at the network that it stands in ("DNS rebinding"). Such an
//! address is opened by its own grant.
//!
//! What must stay true: what [`Network::allows`] says of an address it says of the very address
//! that is connected to, so nothing is looked up between the check and the connection.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use vox_contract::{Capability, Host, HostScope, Scope};
use wasmtime_wasi::sockets::SocketAddrUse;

use super::log::Refusals;

/// Addresses that are remembered of lookups; the oldest is forgotten first.
const MAX_LEARNED: usize = 1024;

/// Looks names up. What it answers is checked by whoever asked.
pub trait Resolver: Send + Sync {
    /// The addresses of a host name. May block.
    ///
    /// # Errors
    ///
    /// The name has no address, or nobody could be asked.
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Looks names up as the system does.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok((name, 0)
            .to_socket_addrs()?
            .map(|address| address.ip())
            .collect())
    }
}

/// Why a name gave no address.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    #[error("the host is not granted")]
    Denied,
    #[error("this is no host name")]
    Invalid,
    #[error("the name could not be looked up: {0}")]
    Failed(#[from] io::Error),
}

/// What `network` grants one instance, and what its lookups found.
pub(super) struct Network {
    /// None: nothing.
    granted: Option<Granted>,
    resolver: Arc<dyn Resolver>,
    refusals: Arc<Refusals>,
    /// Guards nothing else; nobody is asked while it is held.
    learned: Mutex<Learned>,
}

enum Granted {
    All,
    Only(Vec<HostScope>),
}

/// Ports for which an address came from a granted name.
#[derive(Default)]
struct Learned {
    ports: HashMap<IpAddr, Vec<RangeInclusive<u16>>>,
    order: VecDeque<IpAddr>,
}

impl Learned {
    fn add(&mut self, address: IpAddr, ports: RangeInclusive<u16>) {
        if !self.ports.contains_key(&address) {
            if self.order.len() == MAX_LEARNED
                && let Some(oldest) = self.order.pop_front()
            {
                self.ports.remove(&oldest);
            }
            self.order.push_back(address);
        }
        let known = self.ports.entry(address).or_default();
        if !known.contains(&ports) {
            known.push(ports);
        }
    }
}

impl Network {
    pub(super) fn new(
        scope: Option<&Scope>,
        resolver: Arc<dyn Resolver>,
        refusals: Arc<Refusals>,
    ) -> Self {
        let granted = match scope {
            None | Some(Scope::AtMost(_)) => None,
            Some(Scope::All) => Some(Granted::All),
            // Every file of grants was checked when it was read.
            Some(Scope::Only(entries)) => Some(Granted::Only(
                entries
                    .iter()
                    .filter_map(|entry| entry.parse().ok())
                    .collect(),
            )),
        };
        Self {
            granted,
            resolver,
            refusals,
            learned: Mutex::default(),
        }
    }

    /// Whether a socket may be used so. Listening and UDP never; a socket that connects is bound
    /// to no address of its own.
    pub(super) fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        match purpose {
            SocketAddrUse::TcpConnect => self.connects(address),
            SocketAddrUse::TcpBind => {
                address.ip().to_canonical().is_unspecified() && address.port() == 0
            }
            _ => false,
        }
    }

    /// Whether a connection to this address is allowed; a refusal is noted.
    fn connects(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let allowed = self.grants_address(ip, Some(address.port())) || {
            let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            is_public(ip)
                && learned
                    .ports
                    .get(&ip)
                    .is_some_and(|ports| ports.iter().any(|ports| ports.contains(&address.port())))
        };
        if !allowed {
            let asked = SocketAddr::new(ip, address.port());
            self.refusals.tell(Capability::Network, &asked.to_string());
        }
        allowed
    }

    /// Whether an address is granted as such.
    fn grants_address(&self, ip: IpAddr, port: Option<u16>) -> bool {
        match &self.granted {
            None => false,
            Some(Granted::All) => true,
            Some(Granted::Only(entries)) => entries
                .iter()
                .any(|entry| entry.covers(&Host::Address(ip), port)),
        }
    }

    /// The ports at which a name is granted.
    fn grants_name(&self, host: &Host, port: Option<u16>) -> Vec<RangeInclusive<u16>> {
        match &self.granted {
            None => Vec::new(),
            Some(Granted::All) => vec![0..=u16::MAX],
            Some(Granted::Only(entries)) => entries
                .iter()
                .filter(|entry| entry.covers(host, port))
                .map(HostScope::ports)
                .collect(),
        }
    }

    /// The addresses of a host that may be connected to, at `port` or at some port. May block.
    pub(super) fn look_up(
        &self,
        host: &str,
        port: Option<u16>,
    ) -> Result<Vec<IpAddr>, LookupError> {
        let host = host.parse::<Host>().map_err(|_| LookupError::Invalid)?;
        let denied = |scope: &dyn std::fmt::Display| {
            let scope = match port {
                Some(port) => format!("{scope}:{port}"),
                None => scope.to_string(),
            };
            self.refusals.tell(Capability::Network, &scope);
            LookupError::Denied
        };
        let name = match &host {
            Host::Address(ip) if self.grants_address(*ip, port) => return Ok(vec![*ip]),
            Host::Address(_) => return Err(denied(&host)),
            Host::Name(name) => name,
        };
        let ports = self.grants_name(&host, port);
        if ports.is_empty() {
            return Err(denied(&host));
        }
        let mut found = Vec::new();
        let mut refused = None;
        for ip in self.resolver.resolve(name)? {
            let ip = ip.to_canonical();
            if is_public(ip) {
                let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
                ports
                    .iter()
                    .for_each(|ports| learned.add(ip, ports.clone()));
            } else if !self.grants_address(ip, port) {
                refused = Some(denied(&Host::Address(ip)));
                continue;
            }
            found.push(ip);
        }
        match refused {
            Some(refused) if found.is_empty() => Err(refused),
            _ => Ok(found),
        }
    }
}

/// Whether an address may belong to anyone on the internet: not this machine, not its network, not
/// a group, nothing reserved (IANA special-purpose registries), and no IPv6 form that carries such
/// an IPv4 address through a translator.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let reserved = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !reserved
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let embedded = |high: u16, low: u16| {
        is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
    };
    match segments {
        // NAT64, 6to4: as public as the IPv4 address inside.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and other protocol assignments, documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // Only 2000::/3 is global unicast: not loopback, unique local, link-local, multicast.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_or_its_network_is_not_public_in_any_disguise() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.18.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fd00::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "93.184.215.14",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_remembered_of_lookups_is_bounded() {
        let mut learned = Learned::default();
        for number in 0..2 * MAX_LEARNED as u32 {
            learned.add(IpAddr::V4(number.into()), 0..=9);
        }
        assert_eq!(learned.ports.len(), MAX_LEARNED);
        assert!(!learned.ports.contains_key(&IpAddr::V4(0.into())));
    }
}
