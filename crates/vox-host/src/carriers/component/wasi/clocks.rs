//! `wasi:clocks` and `wasi:random`.
//!
//! These interfaces have no errors to answer, so without the grant they answer something harmless
//! that is the same in every run. Without `clocks` it is always 1970-01-01 00:00:00 UTC, no time
//! goes by, and every timer is due at once: a guest neither measures time nor waits. Without
//! `random` the numbers are a fixed stream, good for a hash table and useless for keys. Either is
//! told once, as any refusal is.

use vox_contract::Capability;
use wasmtime::component::Resource;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::clocks::WasiClocksView as _;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::{MAX_RANDOM_BYTES, Wasi};

impl wall_clock::Host for Wasi {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        if self.has(Capability::Clocks) {
            return wall_clock::Host::now(&mut self.clocks());
        }
        Ok(wall_clock::Datetime {
            seconds: 0,
            nanoseconds: 0,
        })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        wall_clock::Host::resolution(&mut self.clocks())
    }
}

impl monotonic_clock::Host for Wasi {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Instant> {
        if self.has(Capability::Clocks) {
            return monotonic_clock::Host::now(&mut self.clocks());
        }
        Ok(0)
    }

    fn resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        monotonic_clock::Host::resolution(&mut self.clocks())
    }

    fn subscribe_instant(
        &mut self,
        when: monotonic_clock::Instant,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        if self.has(Capability::Clocks) {
            return monotonic_clock::Host::subscribe_instant(&mut self.clocks(), when);
        }
        monotonic_clock::Host::subscribe_duration(&mut self.clocks(), 0)
    }

    fn subscribe_duration(
        &mut self,
        when: monotonic_clock::Duration,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        let when = if self.has(Capability::Clocks) {
            when
        } else {
            0
        };
        monotonic_clock::Host::subscribe_duration(&mut self.clocks(), when)
    }
}

/// A fixed stream of numbers: SplitMix64 (Steele, Lea and Flood, 2014) from zero.
#[derive(Debug, Default)]
pub(super) struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// As many bytes as asked for, of which there may be [`MAX_RANDOM_BYTES`].
    fn bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > MAX_RANDOM_BYTES {
            wasmtime::bail!(
                "{len} random bytes were asked for at once; the most is {MAX_RANDOM_BYTES}"
            );
        }
        let count = usize::try_from(len)?;
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        Ok(bytes)
    }
}

impl random::Host for Wasi {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if self.has(Capability::Random) {
            return random::Host::get_random_bytes(self.ctx().ctx.random(), len);
        }
        self.numbers.bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        if self.has(Capability::Random) {
            return random::Host::get_random_u64(self.ctx().ctx.random());
        }
        Ok(self.numbers.next())
    }
}

impl insecure::Host for Wasi {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if self.has(Capability::Random) {
            return insecure::Host::get_insecure_random_bytes(self.ctx().ctx.random(), len);
        }
        self.numbers.bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        if self.has(Capability::Random) {
            return insecure::Host::get_insecure_random_u64(self.ctx().ctx.random());
        }
        Ok(self.numbers.next())
    }
}

impl insecure_seed::Host for Wasi {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        if self.has(Capability::Random) {
            return insecure_seed::Host::insecure_seed(self.ctx().ctx.random());
        }
        Ok((self.numbers.next(), self.numbers.next()))
    }
}
