//! What the user granted, kept in `<data>/grants.toml`.
//!
//! Two files count, and add up: the user's, which only this module writes, and the one that came
//! with the distribution, which nobody writes. Changes happen under a lock and replace the file in
//! one step, so that no grant is lost and none is half written. A file that cannot be read is an
//! error and is never overwritten. What a project grants is the third source, which counts only as
//! far as the user's file allows it: see `project`.

mod project;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use vox_contract::{Capability, Grant, Grants, GrantsFile, ManifestError, PluginId};

use super::InstallError;
use crate::directories::Directories;
use crate::platform;

pub use project::{Allowance, ProjectGrants};

/// The grants that a host honours.
#[derive(Debug, Clone)]
pub struct GrantStore {
    /// The user's file.
    own: PathBuf,
    /// Every file that counts, the user's first.
    all: Vec<PathBuf>,
}

/// What taking capabilities away came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Revoked {
    /// Those that the user had granted, and has not any more.
    pub revoked: Vec<Capability>,
    /// Those that are still granted, by the distribution's file.
    pub kept: Vec<(Capability, PathBuf)>,
}

impl GrantStore {
    /// The grants of a host with these directories. Reads nothing yet.
    pub fn open(directories: &Directories) -> Self {
        let all: Vec<PathBuf> = directories.grants().collect();
        Self {
            own: directories.data.join("grants.toml"),
            all,
        }
    }

    /// All that is granted, the files taken together.
    ///
    /// # Errors
    ///
    /// When one of the files is there and cannot be read, or is refused.
    pub fn load(&self) -> Result<GrantsFile, InstallError> {
        let mut all = GrantsFile::default();
        for file in &self.all {
            all.merge(load(file)?);
        }
        Ok(all)
    }

    /// Grants a plugin more.
    ///
    /// # Errors
    ///
    /// When the user's file cannot be read or written, or is refused.
    pub fn grant(
        &self,
        id: &PluginId,
        grants: impl IntoIterator<Item = Grant>,
    ) -> Result<(), InstallError> {
        let mut grants = grants.into_iter().peekable();
        if grants.peek().is_none() {
            return Ok(());
        }
        self.change(|file| {
            let own = file.of_mut(id);
            grants.for_each(|grant| own.add(grant));
        })
    }

    /// Takes capabilities from a plugin, or all of them when `capabilities` is empty.
    ///
    /// # Errors
    ///
    /// When one of the files cannot be read or written, or is refused.
    pub fn revoke(
        &self,
        id: &PluginId,
        capabilities: &[Capability],
    ) -> Result<Revoked, InstallError> {
        let capabilities = if capabilities.is_empty() {
            &Capability::ALL[..]
        } else {
            capabilities
        };
        let mut outcome = Revoked::default();
        self.change(|file| {
            let own = file.of_mut(id);
            let revoked = capabilities
                .iter()
                .filter(|capability| own.revoke(**capability));
            outcome.revoked.extend(revoked);
        })?;
        for path in self.all.iter().filter(|path| **path != self.own) {
            let file = load(path)?;
            let granted = |capability: &&Capability| {
                file.of(id)
                    .is_some_and(|grants: &Grants| grants.scope(**capability).is_some())
            };
            let kept = capabilities.iter().filter(granted);
            outcome
                .kept
                .extend(kept.map(|capability| (*capability, path.clone())));
        }
        Ok(outcome)
    }

    fn change(&self, change: impl FnOnce(&mut GrantsFile)) -> Result<(), InstallError> {
        let directory = self.own.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(InstallError::io("create", directory))?;
        let lock_path = directory.join(".grants.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path);
        let lock = lock.map_err(InstallError::io("open", &lock_path))?;
        lock.lock().map_err(InstallError::io("lock", &lock_path))?;

        let mut file = load(&self.own)?;
        change(&mut file);
        let staged = directory.join(".grants.toml.new");
        let write = |text: &str| {
            let mut output = File::create(&staged)?;
            output.write_all(text.as_bytes())?;
            output.sync_all()
        };
        write(&file.to_toml()).map_err(InstallError::io("write", &staged))?;
        fs::rename(&staged, &self.own).map_err(InstallError::io("write", &self.own))?;
        platform::sync_directory(directory).map_err(InstallError::io("write", directory))
    }
}

/// The grants in a file; none when there is no file.
fn load(file: &Path) -> Result<GrantsFile, InstallError> {
    match GrantsFile::load(file) {
        Err(ManifestError::Unreadable { source, .. })
            if source.kind() == io::ErrorKind::NotFound =>
        {
            Ok(GrantsFile::default())
        }
        result => Ok(result?),
    }
}
