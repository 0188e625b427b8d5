//! The component carrier: WebAssembly components in wasmtime, sandboxed.
//!
//! What bounds a thing's life: the [`Runtime`] (engine, linker, epoch ticker) is made at the first
//! component that is used and lives as long as the host; a [`Payload`] is compiled once and shared
//! by all instances; an [`Instance`] owns its store, so dropping it frees everything that the
//! guest ever held.
//!
//! What must stay true: a store that trapped is never entered again (its [`crate::Instance`] marks
//! itself crashed), and the guest gets at the host only through [`State`]'s services.

mod cache;
#[cfg(test)]
mod conformance;
mod limiter;
mod runtime;
pub(crate) mod wasi;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use vox_contract::{EffectiveLimits, LimitName};
use wasmtime::component::InstancePre;
use wasmtime::{Engine, Store, Trap, UpdateDeadline};

use runtime::guest_stack;
pub(crate) use runtime::{Runtime, Runtimes};

use self::limiter::Limiter;
use super::{Answer, Failure};
use crate::account::Account;
use crate::clock::CANCEL_GRACE;
use crate::contract::{self, ComponentExports, ComponentIndices, EXPORTS, IMPORTS};
use crate::error::{LimitExceeded, LoadError};
use crate::services::Services;

/// What a store holds of the host.
pub(crate) struct State {
    services: Arc<Services>,
    limiter: Limiter,
    /// When the guest was first seen running although its run was cancelled.
    cancelled: Option<Instant>,
    /// Made when the guest first uses WASI.
    wasi: Option<Box<wasi::Wasi>>,
}

impl State {
    /// The host's side of the contract, for this instance.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// The guest's view of WASI. Once a grant that it was made with is taken away it is made anew,
    /// without any file or connection that was open.
    fn wasi(&mut self) -> &mut wasi::Wasi {
        if self.wasi.as_mut().is_some_and(|wasi| wasi.is_revoked()) {
            self.wasi = None;
        }
        self.wasi
            .get_or_insert_with(|| Box::new(wasi::Wasi::new(Arc::clone(&self.services))))
    }
}

/// A compiled component, checked against the contract.
pub(crate) struct Payload {
    pre: InstancePre<State>,
    indices: ComponentIndices,
    exported: [bool; EXPORTS.len()],
}

impl Payload {
    /// Compiles the component whose `bytes` stand in `file` (or finds it in the cache) and checks
    /// its imports and exports.
    pub(crate) fn load(runtime: &Runtime, file: &Path, bytes: &[u8]) -> Result<Self, LoadError> {
        recognise(file, bytes)?;
        let component = runtime.compile(file, bytes)?;
        let kind = component.component_type();

        let mut uses_wasi = false;
        for (name, _) in kind.imports(runtime.engine()) {
            if wasi::offers(name) {
                uses_wasi = true;
            } else if !IMPORTS
                .iter()
                .any(|known| compatible(known.full_name, name))
                && !is_types(name)
            {
                return Err(LoadError::UnknownImport {
                    file: file.to_owned(),
                    import: name.to_owned(),
                });
            }
        }
        let mut exported = [false; EXPORTS.len()];
        for (name, _) in kind.exports(runtime.engine()) {
            if let Some(index) = EXPORTS
                .iter()
                .position(|known| compatible(known.full_name, name))
            {
                exported[index] = true;
            } else if let Some(known) = EXPORTS
                .iter()
                .find(|known| same_interface(known.full_name, name))
            {
                return Err(LoadError::ContractVersion {
                    file: file.to_owned(),
                    found: name.to_owned(),
                    wanted: known.full_name,
                });
            }
        }
        let linker = if uses_wasi {
            runtime.linker_with_wasi()
        } else {
            Ok(runtime.linker())
        };
        let pre = linker
            .and_then(|linker| linker.instantiate_pre(&component))
            .map_err(|error| LoadError::Signature {
                file: file.to_owned(),
                detail: format!("{error:#}"),
            })?;
        let indices = ComponentIndices::new(&pre, |index| exported[index]).map_err(
            |(interface, error)| LoadError::Signature {
                file: file.to_owned(),
                detail: format!("{interface}: {error:#}"),
            },
        )?;
        Ok(Self {
            pre,
            indices,
            exported,
        })
    }

    /// Which of [`EXPORTS`] the component has.
    pub(crate) fn exported(&self) -> &[bool; EXPORTS.len()] {
        &self.exported
    }

    /// Makes an instance, not yet initialised. A start function runs here, under the same limits
    /// as every call.
    pub(crate) fn instantiate(
        &self,
        runtime: &Runtime,
        services: Arc<Services>,
        account: &Arc<Account>,
        limits: &EffectiveLimits,
    ) -> Result<Instance, Failure> {
        let state = State {
            services,
            limiter: Limiter::new(Arc::clone(account), *limits),
            cancelled: None,
            wasi: None,
        };
        let mut store = bounded_store(runtime.engine(), state, limits);
        let limits = *limits;
        let stack = guest_stack(limits.stack);
        // Start functions run.
        let instance = with_stack(stack, || self.pre.instantiate(&mut store))
            .map_err(|error| failure(error, &limits))?;
        let exports = self
            .indices
            .load(&mut store, &instance)
            .map_err(|error| Failure::Protocol(format!("{error:#}")))?;
        Ok(Instance {
            store,
            exports,
            limits,
            stack,
        })
    }
}

/// What a store holds so that it can be bounded.
trait Bounded: Send + 'static {
    /// What counts the store's memory.
    fn limiter(&mut self) -> &mut Limiter;
    /// Asked at every tick while the guest runs.
    fn may_go_on(&mut self) -> Result<(), Stop>;
}

/// A store with everything that bounds what a guest does in it.
fn bounded_store<T: Bounded>(engine: &Engine, state: T, limits: &EffectiveLimits) -> Store<T> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.limiter());
    store.set_hostcall_fuel(usize::try_from(limits.result).unwrap_or(usize::MAX));
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| match store.data_mut().may_go_on() {
        Ok(()) => Ok(UpdateDeadline::Continue(1)),
        Err(stop) => Err(stop.into()),
    });
    store
}

impl Bounded for State {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }

    fn may_go_on(&mut self) -> Result<(), Stop> {
        let services = &self.services;
        let used = services.clock.tick();
        if services.clock.is_late() {
            return Err(Stop::Late);
        }
        let used_up = services.limits.cpu.is_some_and(|allowed| used > allowed);
        if !services.is_cancelled() {
            self.cancelled = None;
            return if used_up { Err(Stop::Exceeded) } else { Ok(()) };
        }
        // The guest asks `should-cancel` itself; it is cut off only when it does not. It is not to
        // blame for what it computes until it asks.
        let since = *self.cancelled.get_or_insert_with(Instant::now);
        if used_up || since.elapsed() >= CANCEL_GRACE {
            return Err(Stop::Cancelled);
        }
        Ok(())
    }
}

/// Why a running guest was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Stop {
    #[error("the call was cancelled")]
    Cancelled,
    #[error("the call took too long")]
    Late,
    #[error("the call used up its processor time")]
    Exceeded,
}

/// A store with its exports.
pub(crate) struct Instance {
    store: Store<State>,
    exports: ComponentExports,
    limits: EffectiveLimits,
    /// Bytes of stack that the guest may use.
    stack: u64,
}

/// Stack for host functions that a guest calls; the start of another plugin is among them.
const HOST_STACK: usize = 512 << 10;

/// Runs what enters a guest where the guest may use all of its stack. Guests that are inside each
/// other share a thread, and what is left of its stack may be too little: then they go on with
/// another.
#[inline]
fn with_stack<R>(guest: u64, enter: impl FnOnce() -> R) -> R {
    let needed = guest as usize + HOST_STACK;
    stacker::maybe_grow(needed, needed + HOST_STACK, enter)
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("component::Instance")
    }
}

impl Instance {
    /// Runs what enters the guest, with as much stack as it may use.
    #[inline]
    pub(crate) fn with_stack<R>(&mut self, enter: impl FnOnce(&mut Self) -> R) -> R {
        with_stack(self.stack, || enter(self))
    }

    /// What a call needs.
    #[inline]
    pub(crate) fn parts(&mut self) -> (&mut Store<State>, &ComponentExports, &EffectiveLimits) {
        (&mut self.store, &self.exports, &self.limits)
    }
}

/// What a trap means to the caller.
#[cold]
pub(crate) fn failure(error: wasmtime::Error, limits: &EffectiveLimits) -> Failure {
    match error.downcast_ref::<Stop>() {
        Some(Stop::Cancelled) => return Failure::Cancelled,
        Some(Stop::Late) => return Failure::TimedOut,
        Some(Stop::Exceeded) => {
            return Failure::Exceeded(LimitExceeded::new(LimitName::Cpu, limits));
        }
        None => {}
    }
    if let Some(exceeded) = error.downcast_ref::<LimitExceeded>() {
        return Failure::Exceeded(exceeded.clone());
    }
    if error.downcast_ref() == Some(&Trap::StackOverflow) {
        return Failure::Exceeded(LimitExceeded::new(LimitName::Stack, limits));
    }
    // The root cause names the trap; the context above it is a backtrace of guest addresses.
    let message = error.root_cause().to_string();
    if message.contains(OUT_OF_HOSTCALL_FUEL) {
        return Failure::Exceeded(LimitExceeded::new(LimitName::Result, limits));
    }
    Failure::Crashed(message)
}

/// How wasmtime words that a guest hands over too much at once; it has no type for it. A test
/// notices when the words change.
const OUT_OF_HOSTCALL_FUEL: &str = "fuel allocated for hostcalls has been exhausted";

/// Joins a guest's error with the carrier's.
#[inline]
pub(crate) fn flatten<T>(
    result: wasmtime::Result<Result<T, contract::Error>>,
    limits: &EffectiveLimits,
) -> Answer<T> {
    match result {
        Ok(answer) => answer.map_err(|error| Box::new(Failure::Refused(error))),
        Err(error) => Err(Box::new(failure(error, limits))),
    }
}

/// Refuses what is not a component at all, saying what it is.
fn recognise(file: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let found = match bytes {
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => "a core WebAssembly module",
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', ..] => "WebAssembly of an unknown or cut-off format",
        [] => "an empty file",
        _ => "not WebAssembly",
    };
    Err(LoadError::NotAComponent {
        file: file.to_owned(),
        found,
    })
}

/// Whether two interface names are the same but for a compatible version.
fn compatible(known: &str, found: &str) -> bool {
    match (known.split_once('@'), found.split_once('@')) {
        (Some((known, version)), Some((found, other))) => {
            known == found && version.split('.').next() == other.split('.').next()
        }
        _ => known == found,
    }
}

/// Whether two interface names differ in nothing but their version.
fn same_interface(known: &str, found: &str) -> bool {
    known.split('@').next() == found.split('@').next()
}

/// Whether an interface has types alone, so that there is nothing that the host must offer.
fn is_types(name: &str) -> bool {
    let vocabularies = ["vox:plugin/types@1.", "vox:plugin/compute@1."];
    vocabularies.iter().any(|known| name.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vocabularies_are_nothing_that_the_host_must_offer() {
        assert!(is_types("vox:plugin/types@1.0.0") && is_types("vox:plugin/compute@1.2.0"));
        assert!(!is_types("vox:plugin/types@2.0.0") && !is_types("vox:plugin/stream@1.0.0"));
    }

    #[test]
    fn a_minor_version_is_compatible_and_a_major_one_is_not() {
        assert!(compatible(
            "vox:plugin/stage@1.0.0",
            "vox:plugin/stage@1.3.2"
        ));
        assert!(!compatible(
            "vox:plugin/stage@1.0.0",
            "vox:plugin/stage@2.0.0"
        ));
        assert!(same_interface(
            "vox:plugin/stage@1.0.0",
            "vox:plugin/stage@2.0.0"
        ));
        assert!(!compatible(
            "vox:plugin/stage@1.0.0",
            "vox:plugin/step@1.0.0"
        ));
    }
}
