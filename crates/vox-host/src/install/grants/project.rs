//! What a project's Vox.toml grants, and whether the user has allowed it.
//!
//! A project may be a stranger's repository, so its grants count only where the user's own
//! `grants.toml` holds the project's directory with the digest of exactly these grants. What must
//! stay true: the digest is made over the grants that are then honoured, or shown, and not over the
//! file, which may have changed since it was read; and the files of a project or a distribution
//! can allow nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use vox_contract::{GrantsFile, SETTINGS_FILE, Settings};
use vox_crypto::Digest;

use super::{GrantStore, load};
use crate::install::InstallError;

/// What a project's Vox.toml grants; never nothing. `Display` says why it does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectGrants {
    /// The project.
    pub directory: PathBuf,
    /// What it grants.
    pub grants: GrantsFile,
    /// The digest of that.
    pub digest: Digest,
    /// Whether it counts.
    pub allowance: Allowance,
}

/// Whether the grants of a project count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// The user has allowed exactly these.
    Allowed,
    /// The user has allowed others.
    Changed,
    /// The user has allowed this project nothing.
    NotAsked,
}

impl ProjectGrants {
    /// The grants of the project in `directory`, judged by what the user's file allows.
    fn judge(grants: GrantsFile, directory: PathBuf, own: &GrantsFile) -> Self {
        let digest = vox_crypto::hash(grants.canonical_text().as_bytes());
        let allowed = directory.to_str().and_then(|place| own.project(place));
        let allowance = match allowed {
            None => Allowance::NotAsked,
            Some(allowed) if allowed == digest.to_string() => Allowance::Allowed,
            Some(_) => Allowance::Changed,
        };
        Self {
            directory,
            grants,
            digest,
            allowance,
        }
    }

    /// What to do when they do not count.
    pub fn hint(&self) -> &'static str {
        "look at them and allow them: `vox plugin grant --project`; or remove them from Vox.toml"
    }
}

impl fmt::Display for ProjectGrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.directory.join(SETTINGS_FILE);
        let file = file.display();
        match self.allowance {
            Allowance::Allowed => write!(f, "the grants in {file} are allowed"),
            Allowance::Changed => write!(
                f,
                "the grants in {file} do not count: they have changed since you allowed them"
            ),
            Allowance::NotAsked => write!(
                f,
                "the grants in {file} do not count: you have not allowed them"
            ),
        }
    }
}

impl GrantStore {
    /// All that is granted in a project: the files taken together, and what the project's settings
    /// grant if that is allowed. The second is what they grant, allowed or not; none when nothing.
    ///
    /// # Errors
    ///
    /// When one of the files is there and cannot be read, or is refused.
    pub fn load_in(
        &self,
        settings: &Settings,
        project: Option<&Path>,
    ) -> Result<(GrantsFile, Option<ProjectGrants>), InstallError> {
        let mut all = self.load()?;
        let project = self.project(settings, project)?;
        if let Some(project) = &project
            && project.allowance == Allowance::Allowed
        {
            all.merge(project.grants.clone());
        }
        Ok((all, project))
    }

    /// What a project's settings grant, allowed or not; none when they grant nothing.
    ///
    /// # Errors
    ///
    /// When the user's file is there and cannot be read, or is refused.
    pub fn project(
        &self,
        settings: &Settings,
        project: Option<&Path>,
    ) -> Result<Option<ProjectGrants>, InstallError> {
        let grants = settings.grants();
        let (Some(directory), Some(_)) = (project, grants.iter().next()) else {
            return Ok(None);
        };
        let judged = ProjectGrants::judge(grants, absolute(directory)?, &load(&self.own)?);
        Ok(Some(judged))
    }

    /// Allows a project what it grants, from the next opening of a host until it grants something
    /// else.
    ///
    /// # Errors
    ///
    /// When the user's file cannot be read or written, or is refused;
    /// [`InstallError::UnnameableProject`].
    pub fn allow_project(&self, project: &ProjectGrants) -> Result<(), InstallError> {
        let directory = named(&project.directory)?;
        let digest = project.digest.to_string();
        self.change(|file| file.allow_project(directory, &digest))
    }

    /// Takes back what a project was allowed; false when it was allowed nothing.
    ///
    /// # Errors
    ///
    /// As [`allow_project`](Self::allow_project).
    pub fn forget_project(&self, project: &Path) -> Result<bool, InstallError> {
        let directory = absolute(project)?;
        let directory = named(&directory)?;
        let mut forgotten = false;
        self.change(|file| forgotten = file.forget_project(directory))?;
        Ok(forgotten)
    }
}

fn absolute(project: &Path) -> Result<PathBuf, InstallError> {
    std::path::absolute(project).map_err(InstallError::io("find", project))
}

/// A project's directory as grants.toml notes it.
fn named(directory: &Path) -> Result<&str, InstallError> {
    directory
        .to_str()
        .ok_or_else(|| InstallError::UnnameableProject {
            path: directory.into(),
        })
}
