//! A plugin that does next to nothing, so that what is measured is the call.

use vox_plugin::hook::{Event, Outcome};
use vox_plugin::lifecycle::SavedState;
use vox_plugin::stage::Opening;
use vox_plugin::step::{Invocation, Outcome as StepOutcome};
use vox_plugin::storage::Entry;
use vox_plugin::{
    ChunkHead, Error, Hook, Lifecycle, Result, Stage, Step, Storage, host, plugin, text_chunk,
};

/// Chunks of 64 KiB that `bench-source` pushes: 1 GiB.
const CHUNKS: u64 = 16 * 1024;

/// Hands chunks on, and counts bytes.
#[plugin(lifecycle, step, stage, storage, hook)]
struct Bench {
    bytes: u64,
}

impl Lifecycle for Bench {
    fn init(_config: &str) -> Result<Self> {
        Ok(Self { bytes: 0 })
    }

    fn snapshot(&mut self) -> Result<Option<SavedState>> {
        Ok(Some(SavedState {
            version: 1,
            state: self.bytes.to_le_bytes().to_vec(),
        }))
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<()> {
        match (version, state.try_into()) {
            (1, Ok(bytes)) => {
                self.bytes = u64::from_le_bytes(bytes);
                Ok(())
            }
            _ => Err(Error::Invalid(format!("state version {version}"))),
        }
    }
}

impl Step for Bench {
    fn arguments_schema(&mut self, _runner: &str) -> Result<String> {
        Ok(r#"{ "type": "object", "additionalProperties": false }"#.to_owned())
    }

    /// Does nothing, writes a stream, or reads one.
    fn run(&mut self, invocation: Invocation) -> Result<StepOutcome> {
        match invocation.runner.as_str() {
            "bench-source" => {
                let chunk = vec![b'x'; 64 << 10];
                for sequence in 0..CHUNKS {
                    host::stream::push("out", &text_chunk(sequence), &chunk, None)?;
                }
            }
            "bench-sink" => {
                while let Some(chunk) = host::stream::pull("in", None)? {
                    self.bytes += chunk.data.len() as u64;
                }
            }
            _ => {}
        }
        Ok(StepOutcome {
            code: 0,
            summary: String::new(),
            attributes: Vec::new(),
        })
    }
}

impl Hook for Bench {
    /// Lets everything go on.
    fn handle(&mut self, _event: Event, _payload: &[u8]) -> Result<Outcome> {
        Ok(Outcome::Continue)
    }
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

    /// Whether the host refuses a value; of the key `-`, without asking.
    fn remove(&mut self, key: &str) -> Result<bool> {
        Ok(key != "-" && host::kv::get(key).is_err())
    }

    fn enumerate(&mut self, _prefix: &str, _after: &str, _limit: u32) -> Result<Vec<Entry>> {
        Ok(Vec::new())
    }
}
