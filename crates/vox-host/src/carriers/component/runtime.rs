//! The engine that all components share, its linker, and the ticker behind cancellation.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, EngineWeak};

use super::{State, cache};
use crate::contract::bindings::EveryPlugin;
use crate::error::{Error, LoadError};

/// How often running guests are asked whether their run was cancelled.
const TICK: Duration = Duration::from_millis(10);

/// Engine and linker, made at the first use of a component.
pub(crate) struct Runtime {
    engine: Engine,
    linker: Linker<State>,
    cache: PathBuf,
}

impl Runtime {
    /// Starts the engine. Compiled code is kept under `cache`.
    pub(crate) fn start(cache: &Path) -> Result<Self, Error> {
        let start = || -> wasmtime::Result<Self> {
            let engine = Engine::new(&config())?;
            let mut linker = Linker::new(&engine);
            EveryPlugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
            tick(engine.weak())?;
            Ok(Self {
                engine,
                linker,
                cache: cache.join("components"),
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

    /// Compiles a component, or takes it from the cache.
    pub(super) fn compile(&self, file: &Path, bytes: &[u8]) -> Result<Component, LoadError> {
        cache::component(&self.engine, &self.cache, bytes).map_err(|error| LoadError::Malformed {
            file: file.to_owned(),
            detail: error.root_cause().to_string(),
        })
    }
}

/// The settings of the engine: the sync component ABI (half the cost of a call of the concurrent
/// one) and epochs, so that a running guest can be stopped.
fn config() -> Config {
    let mut config = Config::new();
    config.concurrency_support(false);
    config.epoch_interruption(true);
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
