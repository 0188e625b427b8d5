//! What components see of WASI 0.2: files, connections, requests, clocks and random numbers, each
//! as granted, and nothing of the host's own environment.
//!
//! | module | serves |
//! |---|---|
//! | `directories`, `files` | `wasi:filesystem`: directories opened from `file_read` and `file_write` |
//! | `network`, `names` | `wasi:sockets`: TCP to what `network` covers |
//! | `http` | `wasi:http`: requests to what `network` covers |
//! | `clocks` | `wasi:clocks` and `wasi:random`, by `clocks` and `random` |
//! | `io` | `wasi:io`, so that whoever waits is woken when the run is cancelled |
//! | `log` | standard output and error as the plugin's log, and the record of refusals |
//!
//! [`Wasi`] belongs to one store and is made at the guest's first use of WASI, so a store without
//! WASI costs nothing. It works with the grants of that moment. When one of them is taken away
//! ([`Wasi::is_revoked`]) it is dropped at the guest's next use of WASI, with all that is open, and
//! made anew; a guest that goes on to use what was open crashes. What is granted meanwhile is had
//! by the next instance.
//!
//! What must stay true: refusing is an answer of the interface, comes before any effect and never
//! traps; a path is reached from an opened directory, never by name from the root; the address that
//! was checked is the address that is connected to. Environment, arguments and standard input are
//! empty.

mod clocks;
mod directories;
mod files;
mod http;
mod io;
mod link;
mod log;
mod names;
mod network;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use vox_contract::{Capability, Grant, Grants, Scope};
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::WasiHttpCtx;

pub(super) use link::{add_to_linker, offers};
pub use network::{Resolver, SystemResolver};

use crate::contract::log::Level;
use crate::services::Services;
use directories::Directory;
use log::{Lines, Refusals};
use network::Network;

/// Most random bytes that one call may ask for.
const MAX_RANDOM_BYTES: u64 = 1 << 20;

/// What the grants of an instance are read against.
pub(crate) struct Surroundings {
    /// The project's directory, from which relative paths count.
    pub(crate) project: Option<PathBuf>,
    /// The user's home, for `~`.
    pub(crate) home: Option<PathBuf>,
    /// How names are looked up.
    pub(crate) resolver: Arc<dyn Resolver>,
}

/// One store's view of WASI.
pub(crate) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    requests: http::Requests,
    services: Arc<Services>,
    /// What everything here was opened with.
    grants: Grants,
    /// The plugin's grants as they were last compared with those.
    compared: Arc<Grants>,
    refusals: Arc<Refusals>,
    network: Arc<Network>,
    /// What the guest finds opened.
    directories: Vec<Directory>,
    /// Where opened directories lie, by handle, for what is said of a refusal.
    places: HashMap<u32, PathBuf>,
    /// Whether a directory that may only be written holds one that may be read too; see `files`.
    nested: bool,
    /// The stream of numbers that stands in for random ones.
    numbers: clocks::Numbers,
}

impl Wasi {
    /// Opens what the grants of an instance give, without any effect on it.
    pub(crate) fn new(services: Arc<Services>) -> Self {
        let compared = Arc::clone(&services.permits.load());
        let grants = usable(&compared, services.trusted);
        let Surroundings {
            project,
            home,
            resolver,
        } = &services.surroundings;
        let withheld = compared.iter().map(|(capability, _)| capability);
        let withheld = withheld.filter(|capability| grants.scope(*capability).is_none());
        let refusals = Refusals::new(services.plugin.clone(), withheld.collect());
        let refusals = Arc::new(refusals);
        let network = Arc::new(Network::new(
            grants.scope(Capability::Network),
            Arc::clone(resolver),
            Arc::clone(&refusals),
        ));
        let directories = directories::open(
            &grants,
            project.as_deref(),
            home.as_deref(),
            &services.plugin,
        );
        let mut builder = WasiCtx::builder();
        let checked = Arc::clone(&network);
        builder
            .allow_blocking_current_thread(true)
            .stdout(Lines::new(Arc::clone(&services), Level::Info))
            .stderr(Lines::new(Arc::clone(&services), Level::Warn))
            .max_random_size(MAX_RANDOM_BYTES)
            .allow_ip_name_lookup(false)
            .allow_tcp(true)
            .allow_udp(false)
            .socket_addr_check(move |address, purpose| {
                let allowed = checked.allows(address, purpose);
                Box::pin(async move { allowed })
            });
        let mut table = ResourceTable::new();
        table.set_max_capacity(services.limits.resources as usize);
        Self {
            ctx: builder.build(),
            table,
            http: WasiHttpCtx::new(),
            requests: http::Requests::new(Arc::clone(&network)),
            services,
            grants,
            compared,
            refusals,
            network,
            nested: directories::nested(&directories),
            directories,
            places: HashMap::new(),
            numbers: clocks::Numbers::default(),
        }
    }

    /// Whether a grant that something here was opened with was taken away since.
    pub(crate) fn is_revoked(&mut self) -> bool {
        let now = self.services.permits.load();
        if Arc::ptr_eq(&now, &self.compared) {
            return false;
        }
        self.compared = Arc::clone(&now);
        !self
            .grants
            .iter()
            .all(|(capability, used)| still_has(now.scope(capability), used))
    }

    /// Whether a capability without a scope is granted; a refusal is noted.
    fn has(&self, capability: Capability) -> bool {
        let granted = self.grants.scope(capability).is_some();
        if !granted {
            self.refusals.tell(capability, "");
        }
        granted
    }
}

/// What WASI knows of, of all that is granted; a plugin for which nobody vouches has no more than
/// capabilities of low risk.
fn usable(grants: &Grants, trusted: bool) -> Grants {
    const KNOWN: [Capability; 5] = [
        Capability::FileRead,
        Capability::FileWrite,
        Capability::Network,
        Capability::Clocks,
        Capability::Random,
    ];
    grants
        .iter()
        .filter(|(capability, _)| KNOWN.contains(capability))
        .filter(|(capability, _)| trusted || capability.is_low_risk())
        .map(|(capability, scope)| Grant {
            capability,
            scope: scope.clone(),
        })
        .collect()
}

/// Whether all of a scope that was used is still granted.
fn still_has(now: Option<&Scope>, used: &Scope) -> bool {
    match (now, used) {
        (Some(Scope::All), _) => true,
        (Some(Scope::Only(now)), Scope::Only(used)) => used.iter().all(|entry| now.contains(entry)),
        (now, used) => now == Some(used),
    }
}

impl WasiView for Wasi {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.ctx,
            table: &mut self.table,
        }
    }
}

/// Says to the linker that the interfaces are served by [`Wasi`] itself.
struct HasWasi;

impl HasData for HasWasi {
    type Data<'a> = &'a mut Wasi;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(entries: &[&str]) -> Scope {
        Scope::Only(entries.iter().map(|entry| (*entry).to_owned()).collect())
    }

    #[test]
    fn a_plugin_for_which_nobody_vouches_has_neither_files_nor_network() {
        let all = Capability::ALL.map(|capability| Grant {
            capability,
            scope: Scope::All,
        });
        let all = Grants::from_iter(all);
        let names = |trusted| {
            let usable = usable(&all, trusted);
            let names = usable.iter().map(|(capability, _)| capability.name());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["clocks", "random"]);
        assert_eq!(
            names(true),
            ["file_read", "file_write", "network", "clocks", "random"]
        );
    }

    #[test]
    fn a_scope_is_still_had_when_all_of_it_is_granted() {
        let used = only(&["a", "b"]);
        assert!(still_has(Some(&Scope::All), &used));
        assert!(still_has(Some(&only(&["c", "b", "a"])), &used));
        assert!(!still_has(Some(&only(&["a"])), &used));
        assert!(!still_has(None, &used));
        assert!(!still_has(Some(&used), &Scope::All));
    }
}
