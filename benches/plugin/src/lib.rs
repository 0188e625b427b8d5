//! A plugin that does next to nothing, so that what is measured is the call.

use vox_plugin::stage::Opening;
use vox_plugin::storage::Entry;
use vox_plugin::{ChunkHead, Error, Result, Stage, Storage, host, plugin};

/// Hands chunks on, and counts bytes.
#[plugin(stage, storage)]
#[derive(Default)]
struct Bench {
    bytes: u64,
}

impl Stage for Bench {
    /// Takes a record.
    fn open(&mut self, opening: Opening) -> Result<()> {
        self.bytes += opening.arguments.len() as u64;
        Ok(())
    }

    /// Hands the caller's own bytes on.
    fn process(&mut self, head: ChunkHead, data: &[u8]) -> Result<()> {
        host::stream::push("out", &head, data, None)
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Storage for Bench {
    fn stat(&mut self, _key: &str) -> Result<Option<u64>> {
        Ok(Some(self.bytes))
    }

    fn read(&mut self, key: &str, _offset: u64, _length: u32) -> Result<Vec<u8>> {
        Err(Error::NotFound(key.to_owned()))
    }

    fn begin(&mut self, _key: &str) -> Result<u64> {
        Ok(1)
    }

    /// Takes a slice.
    fn append(&mut self, _upload: u64, data: &[u8]) -> Result<()> {
        self.bytes += data.len() as u64;
        Ok(())
    }

    fn commit(&mut self, _upload: u64) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self, _upload: u64) -> Result<()> {
        Ok(())
    }

    fn remove(&mut self, _key: &str) -> Result<bool> {
        Ok(false)
    }

    fn enumerate(&mut self, _prefix: &str, _after: &str, _limit: u32) -> Result<Vec<Entry>> {
        Ok(Vec::new())
    }
}
