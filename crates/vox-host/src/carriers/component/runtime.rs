//! The engines that components share, their linkers, and the ticker behind limits and cancellation.
//!
//! How much stack a guest may use is a setting of the engine, so there is one engine for each size
//! of stack that is asked for, rounded up to a power of two; nearly all plugins keep to the
//! default and share one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, EngineWeak};

use super::{State, cache, wasi};
use crate::clock::TICK;
use crate::contract::bindings::EveryPlugin;
use crate::error::{Error, LoadError};

/// The most stack that a guest may be given: half of what a thread of Rust has by default, as host
/// functions run on the same stack.
pub(crate) const MOST_STACK: u64 = 1 << 20;

/// The stack that a guest gets whose limit is `stack`.
pub(crate) fn guest_stack(stack: u64) -> u64 {
    stack.clamp(1, MOST_STACK).next_power_of_two()
}

/// Engines by the size of a guest's stack, each made at the first use of a component that wants it.
pub(crate) struct Runtimes {
    cache: PathBuf,
    /// Held while an engine is made.
    started: Mutex<BTreeMap<u64, Arc<Runtime>>>,
}

impl Runtimes {
    /// No engine yet. Compiled code is kept under `cache`.
    pub(crate) fn new(cache: &Path) -> Self {
        Self {
            cache: cache.join("components"),
            started: Mutex::default(),
        }
    }

    /// The engine whose guests may use `stack` bytes.
    pub(crate) fn with_stack(&self, stack: u64) -> Result<Arc<Runtime>, Error> {
        let stack = guest_stack(stack);
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = started.get(&stack) {
            return Ok(Arc::clone(runtime));
        }
        let runtime = Arc::new(Runtime::start(&self.cache, stack as usize)?);
        started.insert(stack, Arc::clone(&runtime));
        Ok(runtime)
    }
}

/// Engine and linker.
pub(crate) struct Runtime {
    engine: Engine,
    linker: Linker<State>,
    /// With WASI; made for the first component that imports it.
    linker_with_wasi: OnceLock<Linker<State>>,
    cache: PathBuf,
}

impl Runtime {
    fn start(cache: &Path, stack: usize) -> Result<Self, Error> {
        let start = || -> wasmtime::Result<Self> {
            let engine = Engine::new(&config(stack))?;
            let mut linker = Linker::new(&engine);
            EveryPlugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
            tick(engine.weak())?;
            Ok(Self {
                engine,
                linker,
                linker_with_wasi: OnceLock::new(),
                cache: cache.to_owned(),
            })
        };
        start().map_err(|error| Error::Engine {
            detail: format!("{error:#}"),
        })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn linker(&self) -> &Linker<State> {
        &self.linker
    }

    /// As [`Runtime::linker`], with WASI.
    pub(super) fn linker_with_wasi(&self) -> wasmtime::Result<&Linker<State>> {
        if let Some(linker) = self.linker_with_wasi.get() {
            return Ok(linker);
        }
        let mut linker = self.linker.clone();
        wasi::add_to_linker(&mut linker)?;
        Ok(self.linker_with_wasi.get_or_init(|| linker))
    }

    /// Compiles a component, or takes it from the cache.
    pub(super) fn compile(&self, file: &Path, bytes: &[u8]) -> Result<Component, LoadError> {
        cache::component(&self.engine, &self.cache, bytes).map_err(|error| LoadError::Malformed {
            file: file.to_owned(),
            detail: error.root_cause().to_string(),
        })
    }
}

/// The settings of the engine: the sync component ABI (half the cost of a call of the concurrent
/// one), epochs, so that a running guest can be stopped, and the guest's `stack` in bytes.
pub(super) fn config(stack: usize) -> Config {
    let mut config = Config::new();
    config.concurrency_support(false);
    config.epoch_interruption(true);
    config.max_wasm_stack(stack);
    config
}

/// Advances the engine's epoch at a fixed interval for as long as the engine lives. The interval
/// is never cut short for one plugin, so its deadline cannot hit another.
fn tick(engine: EngineWeak) -> std::io::Result<()> {
    thread::Builder::new()
        .name("vox-epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(TICK);
            }
        })?;
    Ok(())
}
