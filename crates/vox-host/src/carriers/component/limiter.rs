//! What bounds the memory of one store.
//!
//! Linear memories and tables of an instance count together against the plugin's limit, and
//! against the memory that all plugins share. Growth beyond either ends the call: a guest that is
//! told "no" by `memory.grow` traps somewhere in its allocator, with a message that names neither
//! the limit nor the place where it can be raised.

use std::sync::Arc;

use vox_contract::{EffectiveLimits, LimitName};
use wasmtime::ResourceLimiter;

use crate::account::Account;
use crate::error::LimitExceeded;

/// Bytes that an element of a table takes in the host.
const ELEMENT: u64 = size_of::<usize>() as u64;
/// Core instances, tables and memories that one component may be made of. A component that a
/// toolchain makes has fewer than ten of each. What an instance takes besides memories and tables,
/// such as 16 bytes for each global, is not counted, so their number is kept low.
const PARTS: usize = 32;

/// Counts a store's memory; what it holds goes back to the budget with it.
pub(super) struct Limiter {
    account: Arc<Account>,
    limits: EffectiveLimits,
    used: u64,
}

impl Limiter {
    pub(super) fn new(account: Arc<Account>, limits: EffectiveLimits) -> Self {
        Self {
            account,
            limits,
            used: 0,
        }
    }

    fn grow(&mut self, more: u64) -> wasmtime::Result<bool> {
        let wanted = self.used.saturating_add(more);
        if wanted > self.limits.memory {
            return Err(LimitExceeded::new(LimitName::Memory, &self.limits).into());
        }
        if !self.account.share().take(more) {
            return Err(LimitExceeded::budget(self.account.share().budget()).into());
        }
        self.used = wanted;
        Ok(true)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current) as u64)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow((desired.saturating_sub(current) as u64).saturating_mul(ELEMENT))
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.account.share().give_back(self.used);
    }
}
