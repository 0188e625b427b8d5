//! A training that is saved, found again, and gone on with.
//!
//! To save is, in this order: the files of the training go into the store; the signed manifest, which
//! links to them, becomes a node; an op of kind `training.checkpoint`, which links to the manifest, is
//! appended to the log and made durable. Only then is the checkpoint acknowledged. A crash before that
//! leaves files that nothing needs, which garbage collection takes; a crash after it leaves a checkpoint.
//!
//! To resume is the same way back: find the newest op of the run, fetch its manifest by hash, verify that
//! whoever appended the op also signed the manifest, and write the files out, each verified.

use std::path::Path;

use vox_crypto::{Digest, SigningKey, canonical};
use vox_oplog::{Class, NewOp, OpLog, Query, Reader};
use vox_store::{Link, Store};

use crate::bundle::{
    Bundle as _, BundleError, Checkpoint, Format, Hashes, Kind, MANIFEST_VERSION, Manifest,
    Provenance, SignedManifest, TrainingState,
};
use crate::import::{ImportError, files};
use crate::library::Library;
use crate::progress::Progress;
use crate::record::{CheckpointRecord, TRAINING_CHECKPOINT};

/// A checkpoint to be saved.
#[derive(Debug, Clone)]
pub struct NewCheckpoint<'a> {
    /// The directory with its files: weights or adapter and the optimizer's state as SafeTensors
    /// (`optimizer*.safetensors`), tokenizer and configuration. All of them are taken.
    pub directory: &'a Path,
    /// What the training goes on from, beside these.
    pub state: TrainingState,
    /// The bundle that the training started from, by its `bundle_hash`.
    pub derived_from: Option<Digest>,
    /// The time, in microseconds since 1970.
    pub time: i64,
}

/// A checkpoint that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Its signed manifest.
    pub manifest: Digest,
    /// The bundle.
    pub bundle_hash: Digest,
    /// The op that names it.
    pub seq: u64,
}

/// Saves a checkpoint. It is durable once this answers.
///
/// # Errors
///
/// What is wrong with the files, and what store and log refuse; the training then goes on from the
/// checkpoint before.
pub fn save(
    store: &Store,
    log: &OpLog,
    key: &SigningKey,
    new: NewCheckpoint<'_>,
    progress: &dyn Progress,
) -> Result<Saved, ImportError> {
    let _span = tracing::info_span!(
        "vox.train.checkpoint",
        run = new.state.run,
        step = new.state.step
    )
    .entered();
    let taken = files::of_checkpoint(new.directory)?;
    let stored = files::store(store, &taken, Link::Copy, progress)?;
    let hashes = Hashes::of(Kind::Checkpoint, &stored.files);
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        kind: Kind::Checkpoint,
        bundle_hash: hashes.bundle,
        weights_hash: hashes
            .weights
            .ok_or_else(|| ImportError::no_weights(new.directory))?,
        tokenizer_hash: hashes.tokenizer,
        config_hash: hashes.config,
        files: stored.files,
        format: Format::SafeTensors,
        architecture: stored.architecture,
        parameters: stored.parameters,
        quantisation: stored.quantisation,
        licence: None,
        provenance: Provenance {
            signer: key.public(),
            time: new.time,
            source: format!("run:{}", new.state.run),
            source_digest: None,
            derived_from: new.derived_from,
            made_by: crate::MADE_BY.to_owned(),
        },
        training: Some(new.state),
    };
    let signed = SignedManifest::sign(manifest, key)?;
    let digest = store.put_node(&signed)?;
    let SignedManifest { manifest, .. } = signed;
    let Some(state) = manifest.training else {
        return Err(ImportError::no_weights(new.directory));
    };
    let record = CheckpointRecord {
        manifest: digest,
        bundle_hash: hashes.bundle,
        step: state.step,
    };
    let payload = canonical::encode(&record).map_err(BundleError::from)?;
    let op = NewOp::new(TRAINING_CHECKPOINT, payload)?
        .class(Class::Kept)
        .run(state.run);
    let receipt = log.append(op)?;
    Ok(Saved {
        manifest: digest,
        bundle_hash: hashes.bundle,
        seq: receipt.seq,
    })
}

/// The newest checkpoint that the log names, of one run or of all; none when there is none.
///
/// # Errors
///
/// What is wrong with the log, the manifest, or its signature.
pub fn newest(
    log: &Reader,
    store: &Store,
    run: Option<&str>,
) -> Result<Option<Checkpoint>, BundleError> {
    let query = Query {
        kinds: vec![TRAINING_CHECKPOINT.parse()?],
        run: run.map(str::to_owned),
        ..Query::latest(1)
    };
    let Some(op) = log.ops(query).next().transpose()? else {
        return Ok(None);
    };
    let record: CheckpointRecord = canonical::decode(&op.payload)?;
    let entry = Library::new(store.clone()).entry(None, record.manifest)?;
    let signer = entry.manifest.provenance.signer;
    // Somebody else's checkpoint, with a signature of their own, is not what the log's author saved.
    if signer != op.author || entry.manifest.bundle_hash != record.bundle_hash {
        return Err(BundleError::Signature {
            digest: record.manifest,
            signer: op.author.id(),
        });
    }
    let found = entry.manifest.kind;
    Checkpoint::of(entry.digest, entry.manifest)
        .map(Some)
        .ok_or(BundleError::WrongKind {
            name: record.manifest.to_string(),
            found,
            expected: Kind::Checkpoint,
        })
}

/// Writes the files of a checkpoint to a new directory, each verified; it appears once all are in it.
///
/// # Errors
///
/// As [`Library::export`].
pub fn restore(
    store: &Store,
    checkpoint: &Checkpoint,
    directory: &Path,
    progress: &dyn Progress,
) -> Result<(), BundleError> {
    let _span = tracing::info_span!("vox.train.restore", step = checkpoint.state().step).entered();
    Library::new(store.clone()).export(checkpoint.manifest(), directory, progress)
}
