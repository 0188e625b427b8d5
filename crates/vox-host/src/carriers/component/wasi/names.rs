//! `wasi:sockets/ip-name-lookup`: looking up the names that are granted.
//!
//! Linked by hand, as wasmtime's own lookup asks the system for any name and keeps its answers to
//! itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn_blocking};

use super::Wasi;
use super::network::LookupError;
use crate::carriers::component::State;

/// The interface's name; its version is that of wasmtime's other interfaces.
const INTERFACE: &str = "wasi:sockets/ip-name-lookup@0.2.12";

/// Lookups that wait for an answer at a time, in all instances: each holds a thread.
const MAX_LOOKUPS: usize = 32;

/// Lookups that wait for an answer now.
static LOOKUPS: AtomicUsize = AtomicUsize::new(0);

/// A lookup's place among those that wait.
struct Place(());

impl Place {
    fn take() -> Option<Self> {
        LOOKUPS
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < MAX_LOOKUPS).then_some(count + 1)
            })
            .ok()
            .map(|_| Self(()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        LOOKUPS.fetch_sub(1, Ordering::AcqRel);
    }
}

type Found = Result<vec::IntoIter<IpAddr>, ErrorCode>;

/// A lookup that was asked for.
enum Addresses {
    Waiting(AbortOnDropJoinHandle<Found>),
    Found(Found),
}

impl Addresses {
    async fn found(&mut self) -> &mut Found {
        if let Self::Waiting(lookup) = self {
            *self = Self::Found(lookup.await);
        }
        match self {
            Self::Found(found) => found,
            // Replaced just above.
            Self::Waiting(_) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        self.found().await;
    }
}

impl Wasi {
    fn resolve_addresses(
        &mut self,
        network: &Resource<Network>,
        name: String,
    ) -> wasmtime::Result<Result<Resource<Addresses>, ErrorCode>> {
        self.table.get(network)?;
        let Some(place) = Place::take() else {
            return Ok(Err(ErrorCode::TemporaryResolverFailure));
        };
        let network = Arc::clone(&self.network);
        let lookup = spawn_blocking(move || {
            let found = network.look_up(&name, None);
            drop(place);
            found.map(Vec::into_iter).map_err(|error| match error {
                LookupError::Denied => ErrorCode::AccessDenied,
                LookupError::Invalid => ErrorCode::InvalidArgument,
                LookupError::Failed(_) => ErrorCode::NameUnresolvable,
            })
        });
        Ok(Ok(self.table.push(Addresses::Waiting(lookup))?))
    }

    fn next_address(
        &mut self,
        addresses: &Resource<Addresses>,
    ) -> wasmtime::Result<Result<Option<IpAddress>, ErrorCode>> {
        let addresses = self.table.get_mut(addresses)?;
        let found = wasmtime_wasi::runtime::poll_noop(std::pin::pin!(addresses.found()));
        Ok(match found {
            None => Err(ErrorCode::WouldBlock),
            Some(Ok(found)) => Ok(found.next().map(IpAddress::from)),
            Some(Err(error)) => Err(*error),
        })
    }
}

/// Adds the interface.
pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Store<'a> = StoreContextMut<'a, State>;

    let mut interface = linker.instance(INTERFACE)?;
    interface.resource(
        "resolve-address-stream",
        ResourceType::host::<Addresses>(),
        |mut store, rep| {
            let addresses = Resource::<Addresses>::new_own(rep);
            store.data_mut().wasi().table.delete(addresses)?;
            Ok(())
        },
    )?;
    interface.func_wrap(
        "resolve-addresses",
        |mut store: Store<'_>, (network, name): (Resource<Network>, String)| {
            Ok((store.data_mut().wasi().resolve_addresses(&network, name)?,))
        },
    )?;
    interface.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: Store<'_>, (addresses,): (Resource<Addresses>,)| {
            Ok((store.data_mut().wasi().next_address(&addresses)?,))
        },
    )?;
    interface.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: Store<'_>, (addresses,): (Resource<Addresses>,)| {
            let table = &mut store.data_mut().wasi().table;
            let pollable: Resource<DynPollable> = subscribe(table, addresses)?;
            Ok((pollable,))
        },
    )
}
