//! From files to bundles.
//!
//! | module | owns |
//! |---|---|
//! | `layout` | what lies at a path, and what each file is for |
//! | `files` | files that go into the store as they are, with what their headers say of the weights |
//! | `convert` | weights of other formats that become SafeTensors on their way into the store, and blocks |
//! | `config` | what configuration and description say: architecture, licence, base |
//! | `error` | why something could not be imported |
//!
//! The order of an import makes it atomic: files, then the signed manifest that links to them, then the
//! name that leads to the manifest, then the op that records it. Whatever stops it in between leaves
//! blobs that nothing needs and that garbage collection takes, and a second import goes through.

mod config;
mod convert;
mod error;
pub(crate) mod files;
mod layout;

use std::path::Path;

use vox_crypto::{Digest, SigningKey, canonical};
use vox_oplog::{Class, NewOp, OpLog};
use vox_store::Link;

use crate::bundle::{
    BundleError, Format, Hashes, Kind, MANIFEST_VERSION, Manifest, Provenance, SignedManifest,
};
use crate::library::{Library, check_name};
use crate::progress::Progress;
use crate::record::{MODEL_IMPORT, ModelRecord};

pub use crate::formats::gguf::Precision;
pub use config::licence_of;
pub use error::ImportError;
pub use layout::{Directory, Layout, LeftOut, Taken, look, role_of};
pub use vox_quant::Mix;

/// What an import works with.
pub struct Importer<'a> {
    /// Where bundles go.
    pub library: &'a Library,
    /// Where the import is recorded.
    pub log: &'a OpLog,
    /// Who vouches for the manifest.
    pub key: &'a SigningKey,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

/// What is to be imported, and how.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// A directory or a file.
    pub path: &'a Path,
    /// The name of the bundle.
    pub name: &'a str,
    /// Where it comes from, as it shall stand in the manifest.
    pub source: String,
    /// The digest of what was fetched, where it was one file.
    pub source_digest: Option<Digest>,
    /// Its licence, where the files do not say.
    pub licence: Option<String>,
    /// The bundle that an adapter changes, by its `bundle_hash`.
    pub base: Option<Digest>,
    /// How weights that are quantised in the source are stored.
    pub precision: Precision,
    /// What matrices are quantised to, in place of [`precision`](Self::precision); `None` for not at all. What is quantised
    /// in the source is dequantised first.
    pub quantise: Option<Mix>,
    /// The most bytes of one file of weights that is made here.
    pub shard_bytes: u64,
    /// Whether the files may be shared with the store by a hard link.
    pub hard_link: bool,
    /// Whether another bundle of that name is replaced.
    pub replace: bool,
    /// The time, in microseconds since 1970.
    pub time: i64,
}

impl Request<'_> {
    fn link(&self) -> Link {
        if self.hard_link {
            Link::Hardlink
        } else {
            Link::Auto
        }
    }
}

/// The most bytes of one file of weights that is made here, unless something else is asked for: what the
/// hub's own tools use.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// What was imported.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The signed manifest.
    pub digest: Digest,
    /// What it says.
    pub manifest: Manifest,
    /// What was left out, and why.
    pub left_out: Vec<LeftOut>,
    /// What a user should know: what was assumed, and what could not be carried over.
    pub notes: Vec<String>,
    /// The op that records it.
    pub seq: u64,
}

impl Importer<'_> {
    /// Imports what lies at a path.
    ///
    /// # Errors
    ///
    /// [`ImportError`]; nothing is visible then.
    pub fn import(&self, request: &Request<'_>) -> Result<Imported, ImportError> {
        let _span = tracing::info_span!(
            "vox.model.import",
            name = request.name,
            source = request.source
        )
        .entered();
        check_name(request.name)?;
        let layout = look(request.path)?;
        let store = self.library.store();
        let mut stored = match &layout {
            Layout::Directory(directory) => {
                convert::directory(store, request, directory, self.progress)?
            }
            Layout::SafeTensors(file) => convert::single(store, request, file, self.progress)?,
            Layout::Gguf(file) => convert::gguf(store, request, file, self.progress)?,
            Layout::PyTorch(file) => {
                convert::pytorch(store, request, std::slice::from_ref(file), self.progress)?
            }
        };
        stored.files.sort_by(|a, b| a.path.cmp(&b.path));
        let (kind, derived_from) = match stored.adapter {
            None => (Kind::Model, request.base),
            Some(base) => (
                Kind::Adapter,
                Some(request.base.ok_or(ImportError::NoBase { base })?),
            ),
        };
        let hashes = Hashes::of(kind, &stored.files);
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            kind,
            bundle_hash: hashes.bundle,
            weights_hash: hashes
                .weights
                .ok_or_else(|| ImportError::no_weights(request.path))?,
            tokenizer_hash: hashes.tokenizer,
            config_hash: hashes.config,
            files: stored.files,
            format: Format::SafeTensors,
            architecture: stored.architecture,
            parameters: stored.parameters,
            quantisation: stored.quantisation,
            licence: request.licence.clone().or(stored.licence),
            provenance: Provenance {
                signer: self.key.public(),
                time: request.time,
                source: request.source.clone(),
                source_digest: request.source_digest,
                derived_from,
                made_by: crate::MADE_BY.to_owned(),
            },
            training: None,
        };
        let signed = SignedManifest::sign(manifest, self.key)?;
        if self.progress.is_cancelled() {
            return Err(ImportError::Cancelled);
        }
        let digest = self
            .library
            .publish(request.name, &signed, request.replace)?;
        let SignedManifest { manifest, .. } = signed;
        let record = ModelRecord {
            name: request.name.to_owned(),
            bundle_hash: manifest.bundle_hash,
            source: request.source.clone(),
            bytes: manifest.len(),
        };
        let payload = canonical::encode(&record).map_err(BundleError::from)?;
        let receipt = self
            .log
            .append(NewOp::new(MODEL_IMPORT, payload)?.class(Class::Kept))?;
        Ok(Imported {
            digest,
            manifest,
            left_out: stored.left_out,
            notes: stored.notes,
            seq: receipt.seq,
        })
    }
}
