//! The code of a plugin as it stood on disk at one moment.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vox_contract::{Carrier as CarrierKind, EffectiveLimits};
use vox_crypto::Digest;

use crate::carriers::Payload;
use crate::inventory::Installed;
use crate::resolution::Selection;
use crate::services::Rate;
use crate::signing::Standing;

/// A plugin's manifest with the code that belongs to it.
pub(crate) struct Release {
    /// Counts the releases of a host; no two have the same.
    pub(crate) number: u64,
    pub(crate) installed: Arc<Installed>,
    pub(crate) limits: EffectiveLimits,
    /// Log records of all instances together.
    pub(crate) records: Arc<Rate>,
    /// Events and messages of all instances together.
    pub(crate) messages: Arc<Rate>,
    /// The plugin with all that it depends on; none until it is first needed.
    pub(crate) dependencies: Mutex<Option<Arc<Selection>>>,
    /// Code by carrier, loaded at its first use. Guards the table only.
    codes: Mutex<[Option<Arc<Code>>; CarrierKind::ALL.len()]>,
}

/// One payload, loaded.
pub(crate) struct Code {
    pub(crate) payload: Payload,
    /// Of the payload's bytes.
    pub(crate) digest: Digest,
    /// How far the plugin is trusted.
    pub(crate) standing: Standing,
    /// How long it took to load.
    pub(crate) took: Duration,
}

impl Release {
    pub(crate) fn new(number: u64, installed: Arc<Installed>, limits: EffectiveLimits) -> Self {
        Self {
            number,
            installed,
            limits,
            records: Arc::new(Rate::new(limits.log_rate)),
            messages: Arc::new(Rate::new(limits.event_rate)),
            dependencies: Mutex::default(),
            codes: Mutex::default(),
        }
    }

    /// The code for a carrier, if it was loaded.
    pub(crate) fn code(&self, carrier: CarrierKind) -> Option<Arc<Code>> {
        self.codes()[position(carrier)].clone()
    }

    /// Keeps code that was loaded.
    pub(crate) fn keep(&self, carrier: CarrierKind, code: Arc<Code>) {
        self.codes()[position(carrier)] = Some(code);
    }

    /// Carriers whose code is loaded.
    pub(crate) fn loaded(&self) -> Vec<(CarrierKind, Arc<Code>)> {
        let codes = self.codes();
        CarrierKind::ALL
            .into_iter()
            .filter_map(|carrier| Some((carrier, codes[position(carrier)].clone()?)))
            .collect()
    }

    /// Lets go of all code.
    pub(crate) fn forget(&self) {
        *self.codes() = Default::default();
    }

    fn codes(&self) -> MutexGuard<'_, [Option<Arc<Code>>; CarrierKind::ALL.len()]> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Release")
            .field("number", &self.number)
            .field("installed", &self.installed.directory)
            .finish_non_exhaustive()
    }
}

fn position(carrier: CarrierKind) -> usize {
    match carrier {
        CarrierKind::Component => 0,
        CarrierKind::Native => 1,
    }
}
