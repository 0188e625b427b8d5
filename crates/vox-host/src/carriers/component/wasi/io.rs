//! `wasi:io`: reading, writing and waiting.
//!
//! What must stay true: a guest that waits is let go when its run is cancelled or its time is over,
//! within [`WAKE`]. The time is the host's and not the guest's, from where [`wait`] begins to where
//! it ends.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::io::{poll as async_poll, streams as async_streams};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::in_tokio;

use super::Wasi;
use crate::carriers::component::Stop;
use crate::services::Services;

use async_streams::{HostInputStream as AsyncInput, HostOutputStream as AsyncOutput};

/// How often a waiting guest is asked whether it is still wanted.
const WAKE: Duration = Duration::from_millis(20);

/// Waits for `future`, but not longer than the call is wanted.
fn wait<F: Future>(services: &Services, future: F) -> Result<F::Output, Stop> {
    let stay = services.leave_guest(0);
    let waited = in_tokio(async {
        let mut future = pin!(future);
        loop {
            if services.clock.is_late() {
                return Err(Stop::Late);
            }
            if services.is_cancelled() {
                return Err(Stop::Cancelled);
            }
            if let Ok(output) = tokio::time::timeout(WAKE, future.as_mut()).await {
                return Ok(output);
            }
        }
    });
    services.enter_guest(stay);
    waited
}

/// As [`wait`], for what answers a stream's error.
fn wait_stream<T>(
    services: &Services,
    future: impl Future<Output = StreamResult<T>>,
) -> StreamResult<T> {
    wait(services, future).unwrap_or_else(|stop| Err(StreamError::Trap(stop.into())))
}

impl poll::Host for Wasi {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        wait(
            &self.services,
            async_poll::Host::poll(&mut self.table, pollables),
        )?
    }
}

impl poll::HostPollable for Wasi {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        wait(
            &self.services,
            async_poll::HostPollable::ready(&mut self.table, pollable),
        )?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        wait(
            &self.services,
            async_poll::HostPollable::block(&mut self.table, pollable),
        )?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        async_poll::HostPollable::drop(&mut self.table, pollable)
    }
}

impl streams::Host for Wasi {
    fn convert_stream_error(
        &mut self,
        error: StreamError,
    ) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(&mut self.table, error)
    }
}

impl streams::HostInputStream for Wasi {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        wait(&self.services, AsyncInput::drop(&mut self.table, stream))?
    }

    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        AsyncInput::read(&mut self.table, stream, len)
    }

    fn blocking_read(
        &mut self,
        stream: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<Vec<u8>> {
        let read = AsyncInput::blocking_read(&mut self.table, stream, len);
        wait_stream(&self.services, read)
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        AsyncInput::skip(&mut self.table, stream, len)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        let skip = AsyncInput::blocking_skip(&mut self.table, stream, len);
        wait_stream(&self.services, skip)
    }

    fn subscribe(
        &mut self,
        stream: Resource<DynInputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        AsyncInput::subscribe(&mut self.table, stream)
    }
}

impl streams::HostOutputStream for Wasi {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        wait(&self.services, AsyncOutput::drop(&mut self.table, stream))?
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        AsyncOutput::check_write(&mut self.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        AsyncOutput::write(&mut self.table, stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        let write = AsyncOutput::blocking_write_and_flush(&mut self.table, stream, bytes);
        wait_stream(&self.services, write)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        let write = AsyncOutput::blocking_write_zeroes_and_flush(&mut self.table, stream, len);
        wait_stream(&self.services, write)
    }

    fn subscribe(
        &mut self,
        stream: Resource<DynOutputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        AsyncOutput::subscribe(&mut self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        AsyncOutput::write_zeroes(&mut self.table, stream, len)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        AsyncOutput::flush(&mut self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        let flush = AsyncOutput::blocking_flush(&mut self.table, stream);
        wait_stream(&self.services, flush)
    }

    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        AsyncOutput::splice(&mut self.table, to, from, len)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        let splice = AsyncOutput::blocking_splice(&mut self.table, to, from, len);
        wait_stream(&self.services, splice)
    }
}
