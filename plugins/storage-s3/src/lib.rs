//! The extension point `storage` over a bucket of any store that speaks the S3 API.
//!
//! ```toml
//! [plugin.storage-s3.config]
//! endpoint = "https://s3.example.org"
//! bucket = "runs"
//! credentials = { file = "~/.aws/credentials" }
//! ```
//!
//! | setting | default | meaning |
//! |---|---|---|
//! | `bucket` | | the bucket, which must exist |
//! | `endpoint` | AWS's in the region | the store's address |
//! | `region` | `"us-east-1"` | the region that requests are signed for |
//! | `path-style` | `true` where there is an `endpoint` | the bucket is in the path, not in the host name |
//! | `prefix` | `""` | what every key in the bucket begins with |
//! | `credentials.file`, `.profile` | none, `"default"` | a file in the form of `~/.aws/credentials` that only you can read |
//! | `credentials.access-key-variable`, `.secret-key-variable`, `.session-token-variable` | `AWS_ACCESS_KEY_ID` and so on | the environment variables that are read otherwise |
//! | `timeout` | `"30 s"` | the longest time without progress |
//! | `part-size` | `"8 MiB"` | what is held in memory of an upload, and sent at a time: 5 MiB to 1 GiB |
//! | `retries` | `4` | how often a request is repeated while the store cannot answer, at most 10 |
//! | `uploads` | `16` | uploads that are open at a time in one instance |
//!
//! - **Whole or not at all.** An object of one part is one request; of a larger one nothing can be seen
//!   before the store has made it of its parts. A failed commit can be repeated; a failed append ends
//!   its upload, and so do cancellation and shutdown.
//! - **Keys** have at most 1,024 bytes of any text, prefix included, without `.` and `..` between
//!   slashes, which addresses of the web cannot carry.
//! - **Credentials** are read when an instance starts. They are sent nowhere, only used to sign.

mod config;
mod credentials;
mod keys;
mod refusal;
#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
mod store;
#[cfg(test)]
mod tests;
mod transport;
mod upload;

use std::collections::BTreeMap;

use vox_plugin::host::log::{self, Level};
use vox_plugin::storage::Entry;
use vox_plugin::{Error, Exceeded, Lifecycle, Result, Storage, attribute, host, plugin};

use crate::config::Config;
use crate::store::Store;
use crate::transport::Cancel;
use crate::upload::Upload;

/// The plugin: a bucket, and what is being written to it.
#[plugin(storage, lifecycle)]
struct S3 {
    store: Store,
    uploads: BTreeMap<u64, Upload>,
    last_upload: u64,
}

impl Lifecycle for S3 {
    fn init(config: &str) -> Result<Self> {
        let config = Config::read(config)?;
        let credentials = config.credentials.read()?;
        Ok(Self::new(
            config,
            credentials,
            Box::new(host::cancel::should_cancel),
        ))
    }

    fn shutdown(&mut self) -> Result<()> {
        let mut answer = Ok(());
        while let Some((_, mut upload)) = self.uploads.pop_first() {
            answer = answer.and(upload.abort(&self.store));
        }
        answer
    }
}

impl S3 {
    fn new(config: Config, credentials: rusty_s3::Credentials, cancel: Cancel) -> Self {
        Self {
            store: Store::new(config, credentials, cancel),
            uploads: BTreeMap::new(),
            last_upload: 0,
        }
    }

    /// The key in the bucket.
    fn key(&self, key: &str) -> Result<String> {
        keys::in_bucket(&self.store.config.prefix, key)
    }
}

impl Storage for S3 {
    fn stat(&mut self, key: &str) -> Result<Option<u64>> {
        self.store.stat(&self.key(key)?)
    }

    fn read(&mut self, key: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
        self.store.read(&self.key(key)?, offset, length)
    }

    fn begin(&mut self, key: &str) -> Result<u64> {
        let key = self.key(key)?;
        let most = self.store.config.uploads;
        if self.uploads.len() >= most {
            return Err(Error::Exceeded(Exceeded {
                limit: "uploads".to_owned(),
                value: most as u64,
                remedy:
                    "commit or abort some, or raise `uploads` under `[plugin.storage-s3.config]`"
                        .to_owned(),
            }));
        }
        self.last_upload += 1;
        self.uploads.insert(self.last_upload, Upload::new(key));
        Ok(self.last_upload)
    }

    fn append(&mut self, upload: u64, data: &[u8]) -> Result<()> {
        let open = self.uploads.get_mut(&upload).ok_or_else(|| none(upload))?;
        let Err(error) = open.append(&self.store, data) else {
            return Ok(());
        };
        // Part of the data may be in the store already.
        if let Some(mut ended) = self.uploads.remove(&upload)
            && let Err(left) = ended.abort(&self.store)
        {
            log::write(
                Level::Warn,
                "an upload could not be ended in the store; its parts stay until a rule of the bucket \
                 removes them",
                &[attribute("error", format!("{left:?}"))],
            );
        }
        Err(error)
    }

    fn commit(&mut self, upload: u64) -> Result<()> {
        let open = self.uploads.get_mut(&upload).ok_or_else(|| none(upload))?;
        open.commit(&self.store)?;
        self.uploads.remove(&upload);
        Ok(())
    }

    fn abort(&mut self, upload: u64) -> Result<()> {
        let ended = self.uploads.remove(&upload);
        ended.ok_or_else(|| none(upload))?.abort(&self.store)
    }

    fn remove(&mut self, key: &str) -> Result<bool> {
        self.store.remove(&self.key(key)?)
    }

    fn enumerate(&mut self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Entry>> {
        let own = &self.store.config.prefix;
        let after = match after {
            "" => String::new(),
            after => format!("{own}{after}"),
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut entries = self.store.list(&format!("{own}{prefix}"), &after, limit)?;
        for entry in &mut entries {
            entry.key.drain(..own.len().min(entry.key.len()));
        }
        Ok(entries)
    }
}

fn none(upload: u64) -> Error {
    Error::NotFound(format!(
        "there is no upload {upload}; it has ended, or another instance began it"
    ))
}
