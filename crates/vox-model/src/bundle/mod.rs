//! Bundles: weights with their tokenizer and configuration, as one unit that is known by its hash.
//!
//! | module | owns |
//! |---|---|
//! | `manifest` | what a bundle is made of, and which hash is over what |
//! | `signed` | a manifest with the signature of who vouches for it |
//! | `kinds` | [`Model`], [`Adapter`] and [`Checkpoint`], and the trait that they share |
//! | `quantisation` | how weights are stored, in one word |
//! | `training` | what a training goes on from |
//! | `error` | what is wrong with a bundle |
//!
//! A bundle exists once its signed manifest is a node of the store: all its files were there before, and
//! the manifest links to them, so nothing that keeps the bundle can lose a part of it.

mod error;
mod kinds;
mod manifest;
mod quantisation;
mod signed;
mod training;

pub use error::{BundleError, ManifestFault};
pub use kinds::{Adapter, Bundle, Checkpoint, Model};
pub use manifest::{
    FileEntry, Format, Hashes, Kind, MANIFEST_VERSION, MAX_FILES, Manifest, Provenance, Role,
    is_safe_path,
};
pub use quantisation::{Quantisation, UnknownQuantisation};
pub use signed::SignedManifest;
pub use training::{DataCursor, RandomState, ScheduleState, TrainingState};
