//! The kinds of bundles, each with what it has beside weights.

use vox_crypto::Digest;

use super::manifest::{FileEntry, Kind, Manifest, Role};
use super::training::TrainingState;

/// A bundle whose manifest was verified.
pub trait Bundle: Sized {
    /// What bundles of this type are.
    const KIND: Kind;

    /// The bundle of a manifest that was verified; none when it is of another kind.
    fn of(digest: Digest, manifest: Manifest) -> Option<Self>;

    /// The digest of the signed manifest: what refs and ops name.
    fn digest(&self) -> Digest;

    /// The manifest.
    fn manifest(&self) -> &Manifest;

    /// The files with weights, and their index where there are several.
    fn weights(&self) -> impl Iterator<Item = &FileEntry> {
        self.manifest().files_of(Role::Weights)
    }
}

/// Declares a kind of bundle that holds its digest and its manifest.
macro_rules! kind {
    ($(#[$doc:meta])* $name:ident = $kind:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            digest: Digest,
            manifest: Manifest,
        }

        impl Bundle for $name {
            const KIND: Kind = $kind;

            fn of(digest: Digest, manifest: Manifest) -> Option<Self> {
                (manifest.kind == Self::KIND).then_some(Self { digest, manifest })
            }

            fn digest(&self) -> Digest {
                self.digest
            }

            fn manifest(&self) -> &Manifest {
                &self.manifest
            }
        }
    };
}

kind! {
    /// Weights that stand for themselves.
    Model = Kind::Model
}

kind! {
    /// Weights that change those of another bundle.
    Adapter = Kind::Adapter
}

/// A training at one of its steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    digest: Digest,
    manifest: Manifest,
    state: TrainingState,
}

impl Bundle for Checkpoint {
    const KIND: Kind = Kind::Checkpoint;

    fn of(digest: Digest, manifest: Manifest) -> Option<Self> {
        let state = manifest.training.clone()?;
        (manifest.kind == Self::KIND).then_some(Self {
            digest,
            manifest,
            state,
        })
    }

    fn digest(&self) -> Digest {
        self.digest
    }

    fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

impl Checkpoint {
    /// What the training goes on from, beside weights and optimizer.
    pub fn state(&self) -> &TrainingState {
        &self.state
    }

    /// The files with the optimizer's state.
    pub fn optimizer(&self) -> impl Iterator<Item = &FileEntry> {
        self.manifest.files_of(Role::Optimizer)
    }
}

impl Adapter {
    /// The bundle whose weights it changes, by its `bundle_hash`.
    pub fn base(&self) -> Option<Digest> {
        self.manifest.provenance.derived_from
    }
}
