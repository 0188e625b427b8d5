//! Compiled components on disk, so that a warm start compiles nothing.
//!
//! An entry lies at `<cache>/<engine>/<content hash>.cwasm`, where `engine` is a hash of
//! everything that compiled code depends on (wasmtime's version, its settings, the CPU). Entries
//! appear whole, by rename, and are never written again; one that cannot be read is compiled anew
//! and replaced. The cache is as trusted as the executable: an entry is taken only where it and its
//! directory belong to the user and nobody else may write to them; elsewhere everything is compiled
//! anew.

use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::Path;

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::platform;

/// Gives the component compiled from `bytes`, from the cache where it can.
pub(super) fn component(
    engine: &Engine,
    cache: &Path,
    bytes: &[u8],
) -> wasmtime::Result<Component> {
    let directory = cache.join(fingerprint(engine));
    let entry = directory.join(format!("{}.cwasm", vox_crypto::hash(bytes).to_hex()));
    let own = platform::is_own(&directory);
    if directory.is_dir() && !own {
        tracing::warn!(
            directory = %directory.display(),
            "compiled components are not taken from here: others may write to it; `chmod go-w` mends it"
        );
    }
    if own && entry.is_file() && platform::is_own(&entry) {
        // SAFETY: entries are written by `keep` alone, whole and once, in a directory that
        // belongs to the user; their name ties them to this engine and to `bytes`.
        match unsafe { Component::deserialize_file(engine, &entry) } {
            Ok(component) => return Ok(component),
            Err(error) => {
                tracing::warn!(entry = %entry.display(), %error, "a cached component cannot be read; compiling it again");
            }
        }
    }
    let _span = tracing::info_span!("vox.plugin.compile", bytes = bytes.len()).entered();
    let component = Component::new(engine, bytes)?;
    if let Err(error) = keep(&component, &directory, &entry) {
        tracing::warn!(entry = %entry.display(), %error, "the compiled component was not kept");
    }
    Ok(component)
}

/// Writes an entry, whole or not at all.
fn keep(component: &Component, directory: &Path, entry: &Path) -> wasmtime::Result<()> {
    platform::create_private_dir(directory)?;
    if !platform::is_own(directory) {
        return Ok(());
    }
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&component.serialize()?)?;
    file.as_file().sync_data()?;
    file.persist(entry)?;
    Ok(())
}

/// Names everything besides the source that compiled code depends on.
fn fingerprint(engine: &Engine) -> String {
    let mut hasher = Blake3(vox_crypto::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let mut name = hasher.0.finish().to_hex();
    name.truncate(16);
    name
}

/// `std::hash` over a hash that is the same in every process.
struct Blake3(vox_crypto::Hasher);

impl Hasher for Blake3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
