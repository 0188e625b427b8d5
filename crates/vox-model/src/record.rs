//! What the op-log says of bundles, and what it needs of the store.
//!
//! | kind | says |
//! |---|---|
//! | `model.import` | a bundle came in under a name, from where |
//! | `model.remove` | a name was let go |
//! | `model.pin`, `model.unpin` | a bundle is to be kept whatever the store needs room for |
//! | `training.checkpoint` | a training can go on from this bundle |
//! | `store.release` | the log no longer needs these nodes and blobs |
//!
//! An op *needs* what it links to: the nodes and blobs whose BLAKE3 digests stand in its payload. So
//! `training.checkpoint` names the manifest, which keeps all of the checkpoint, while `model.import` names
//! the bundle by its `bundle_hash`, which is a SHA3-512 digest and keeps nothing: there the name does. What
//! the log needs, it needs until it is released, which is an op as well.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vox_crypto::{Algorithm, Digest};
use vox_oplog::{Error, Links, Projections, Query, Reader};

/// A bundle came in.
pub const MODEL_IMPORT: &str = "model.import";
/// A name was let go.
pub const MODEL_REMOVE: &str = "model.remove";
/// A bundle was pinned.
pub const MODEL_PIN: &str = "model.pin";
/// A bundle was pinned no longer.
pub const MODEL_UNPIN: &str = "model.unpin";
/// A training can go on from here.
pub const TRAINING_CHECKPOINT: &str = "training.checkpoint";
/// The log lets go of what it linked to.
pub const STORE_RELEASE: &str = "store.release";

/// The payload of [`MODEL_IMPORT`], [`MODEL_REMOVE`], [`MODEL_PIN`] and [`MODEL_UNPIN`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The name.
    pub name: String,
    /// The bundle.
    pub bundle_hash: Digest,
    /// Where it came from.
    pub source: String,
    /// Its bytes.
    pub bytes: u64,
}

/// The payload of [`TRAINING_CHECKPOINT`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// The signed manifest of the checkpoint. A link: the log keeps it.
    pub manifest: Digest,
    /// The bundle.
    pub bundle_hash: Digest,
    /// Steps of the optimizer that are done.
    pub step: u64,
}

/// The payload of [`STORE_RELEASE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// What the log needs no longer.
    pub released: Vec<Digest>,
}

/// Gives every node and blob that the log in this directory needs to `visit`. A log that is not there
/// needs nothing.
///
/// # Errors
///
/// What is wrong with the log: then nobody knows what it needs.
pub fn needed(log: &Path, visit: &mut dyn FnMut(Digest)) -> Result<(), Error> {
    let Some(projections) = caught_up(log)? else {
        return Ok(());
    };
    let releases = releases(projections.reader())?;
    let newest = "SELECT digest, max(seq) FROM links GROUP BY digest";
    let failed = |error| projections.failed(error);
    let mut statement = projections
        .tables()
        .prepare_cached(newest)
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let (digest, seq): (String, i64) = row
            .get(0)
            .and_then(|digest| Ok((digest, row.get(1)?)))
            .map_err(failed)?;
        let is_released = u64::try_from(seq).is_ok_and(|seq| releases.contains(&seq));
        // Only what Vox wrote stands there, and it was a digest then.
        if let Ok(digest) = digest.parse::<Digest>()
            && digest.algorithm() == Algorithm::Blake3
            && !is_released
        {
            visit(digest);
        }
    }
    Ok(())
}

/// The ops that name a digest, in order.
///
/// # Errors
///
/// What is wrong with the log.
pub fn references(log: &Path, digest: &Digest) -> Result<Vec<u64>, Error> {
    match caught_up(log)? {
        Some(projections) => Links.references(&projections, digest),
        None => Ok(Vec::new()),
    }
}

/// The links of the log, up to its last op; none when there is no log. Where the tables cannot be written, as on
/// a full disk, which somebody wants to free then, they are made in memory.
fn caught_up(log: &Path) -> Result<Option<Projections>, Error> {
    let links = |opened: Result<Projections, Error>| -> Result<Option<Projections>, Error> {
        let mut projections = opened?;
        projections.catch_up(&Links)?;
        Ok(Some(projections))
    };
    match links(Projections::open(log)) {
        Err(Error::Missing { .. }) => Ok(None),
        // What is wrong with the log itself is told once more.
        Err(error @ (Error::Full { .. } | Error::ReadOnly { .. } | Error::Sqlite { .. })) => {
            tracing::info!(%error, "what the log needs is looked up without the tables that are kept of it");
            links(Projections::in_memory(log))
        }
        found => found,
    }
}

/// The ops that let go of something.
fn releases(reader: &Reader) -> Result<BTreeSet<u64>, Error> {
    let query = Query {
        kinds: vec![STORE_RELEASE.parse()?],
        ..Query::default()
    };
    reader.ops(query).map(|op| op.map(|op| op.seq)).collect()
}
