//! Installing and removing plugins, and what the user grants them.
//!
//! A plugin is installed from a directory or an archive into `<data>/plugins/<id>/<version>`. The
//! order of what happens is the promise:
//!
//! 1. Everything is copied or unpacked next to its place, out of sight of discovery.
//! 2. The manifest **of that copy** is read and judged as discovery would, and shown to the user.
//!    What the user agreed to is therefore what is installed, whatever happens to the source.
//! 3. Its signature, when it has one, is verified against the copy and judged by what the user
//!    trusts. A plugin that is signed is bound to its key, before anybody can see it.
//! 4. The copy is made durable and renamed to its place, in one step.
//! 5. What the user granted and allowed is written.
//!
//! A crash before the rename leaves nothing that anybody sees; one after it leaves a plugin without
//! its new grants, which can do nothing yet.

mod archive;
mod error;
mod files;
mod grants;
mod remove;
mod store;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use vox_contract::{Grant, MANIFEST_FILE, Manifest, ManifestError};

use crate::directories::{Directories, RootKind};
use crate::inventory::{self, Installed};
use crate::signing::{self, Allowed, Facts, SignedFiles, SigningError, Standing, Time, TrustStore};
pub use archive::{ArchiveFault, EXTENSION, MAX_BYTES, MAX_ENTRIES, MAX_PATH_BYTES};
pub use error::InstallError;
pub use grants::{Allowance, GrantStore, ProjectGrants, Revoked};
pub use remove::{Dependent, Removed, Which, remove};
use store::{Staging, Store};

pub(crate) use files::{Entry, copy_directory, list};

/// A plugin that is to be installed, as it is shown to the user.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Proposal<'a> {
    /// What it says of itself.
    pub manifest: &'a Manifest,
    /// Its signature, verified, if it has one.
    pub signature: Option<&'a SignedFiles>,
    /// How far it is trusted.
    pub standing: &'a Standing,
    /// Whether it has native code for this platform, which would not run.
    pub native_refused: bool,
}

/// What the user says about a plugin that is to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Install it, and grant it this. Grants of earlier installations stay.
    Install(Vec<Grant>),
    /// Install it, grant it this, and trust it by its name, whoever signed it: its native code may
    /// run, and it may have whatever it is granted.
    InstallAndAllow(Vec<Grant>),
    /// Leave everything as it is.
    Refuse,
}

/// How far an installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// Another process is changing the plugins; this one waits for it.
    Waiting,
    /// A file is copied; nobody sees it yet.
    Staged(&'a Path),
    /// All is copied and agreed to; the next step makes it visible.
    Placing,
}

/// What an installation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The version was not there and is now.
    Installed,
    /// The version was there with the same files.
    Unchanged,
    /// The version was there with other files, which are replaced.
    Replaced,
}

/// A finished installation.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Receipt {
    /// What the plugin says of itself.
    pub manifest: Manifest,
    /// Where it is.
    pub directory: PathBuf,
    /// What was done.
    pub outcome: Outcome,
    /// How far it is trusted from now on.
    pub standing: Standing,
    /// Files that the manifest names for this platform and that did not come with it, relative to
    /// the plugin's directory.
    pub missing: Vec<PathBuf>,
}

/// Installs plugins.
///
/// ```no_run
/// use vox_host::directories::Directories;
/// use vox_host::install::{Decision, Installer};
///
/// let directories = Directories::from_environment()?;
/// let receipt = Installer::new(&directories)
///     .install("redact-0.1.0.vox".as_ref(), |proposal| {
///         println!("{}: {}", proposal.manifest.name, proposal.standing);
///         Decision::Install(Vec::new())
///     })?;
/// println!("{} is in {}", receipt.manifest.id, receipt.directory.display());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Installer<'a> {
    directories: &'a Directories,
    replace: bool,
    downgrade: bool,
    watch: Watch<'a>,
}

impl<'a> Installer<'a> {
    /// Installs into the user's root of `directories`.
    pub fn new(directories: &'a Directories) -> Self {
        Self {
            directories,
            replace: false,
            downgrade: false,
            watch: Watch::silent(),
        }
    }

    /// Whether an installed version with other files is replaced; otherwise that is
    /// [`InstallError::Differs`]. Default: no.
    #[must_use]
    pub fn replace(mut self, replace: bool) -> Self {
        self.replace = replace;
        self
    }

    /// Whether a signed plugin may be installed in a lower version than the highest that was;
    /// otherwise that is refused. Default: no.
    #[must_use]
    pub fn allow_downgrade(mut self, allow: bool) -> Self {
        self.downgrade = allow;
        self
    }

    /// Hears of each step before the next begins; [`ControlFlow::Break`] ends the installation with
    /// [`InstallError::Interrupted`] and leaves everything as it was.
    #[must_use]
    pub fn on_progress(
        mut self,
        progress: impl FnMut(Progress<'_>) -> ControlFlow<()> + 'a,
    ) -> Self {
        self.watch = Watch(Some(Box::new(progress)));
        self
    }

    /// Installs the plugin in `source`, a directory or an archive, if `approve` agrees to it.
    /// `approve` is asked also when the version is there already, because its grants may be about
    /// to change.
    ///
    /// # Errors
    ///
    /// [`InstallError`]; the installed plugins are then as they were.
    pub fn install(
        mut self,
        source: &Path,
        approve: impl FnOnce(&Proposal<'_>) -> Decision,
    ) -> Result<Receipt, InstallError> {
        let metadata = fs::metadata(source).map_err(InstallError::io("open", source))?;
        if metadata.is_dir() {
            // For an early answer; what counts is the manifest of the copy.
            load_manifest(source, source)?;
        }
        let store = Store::open(&self.directories.installed(), &mut self.watch)?;
        let staging = store.staging()?;
        if metadata.is_dir() {
            files::copy(source, staging.path(), &mut self.watch)?;
        } else {
            archive::unpack(source, staging.path(), &mut self.watch)?;
        }
        let manifest = load_manifest(staging.path(), source)?;
        let judged = inventory::judge(manifest, staging.path(), RootKind::User);
        let plugin = judged.map_err(|reason| InstallError::Unusable {
            path: source.to_path_buf(),
            reason,
        })?;
        let signature = signing::verify_if_signed(staging.path())?;
        let standing = self.judge(&plugin, signature.as_ref())?;
        let proposal = Proposal {
            manifest: &plugin.manifest,
            signature: signature.as_ref(),
            standing: &standing,
            native_refused: plugin.native.is_some() && !standing.is_trusted(),
        };
        let Installed {
            manifest: Manifest { id, version, .. },
            ..
        } = &plugin;
        let (granted, allow) = match approve(&proposal) {
            Decision::Install(granted) => (granted, false),
            Decision::InstallAndAllow(granted) => (granted, !standing.is_trusted()),
            Decision::Refuse => {
                return Err(InstallError::Refused {
                    id: id.clone(),
                    version: version.clone(),
                });
            }
        };
        if proposal.native_refused && !allow && plugin.component.is_none() {
            return Err(InstallError::NativeNotTrusted {
                id: id.clone(),
                version: version.clone(),
            });
        }
        let missing = plugin.missing.iter().map(|path| {
            let relative = path.strip_prefix(staging.path()).unwrap_or(path);
            relative.to_path_buf()
        });
        let missing = missing.collect();
        let (directory, outcome) = self.place(&store, staging, &plugin, signature.as_ref())?;
        GrantStore::open(self.directories).grant(id, granted)?;
        let standing = if allow {
            let allowed = Allowed::at(id.clone(), &self.directories.installed())?;
            TrustStore::change(self.directories, |trust| trust.allow(allowed))?;
            Standing::AllowedByName
        } else {
            match standing {
                // Bound to its key since.
                Standing::Unknown { key } => Standing::Pinned { key },
                standing => standing,
            }
        };
        Ok(Receipt {
            manifest: plugin.manifest,
            directory,
            outcome,
            standing,
            missing,
        })
    }

    /// How far the plugin is trusted once it is in its place; its native code is the user's to
    /// decide about.
    fn judge(
        &self,
        plugin: &Installed,
        signature: Option<&SignedFiles>,
    ) -> Result<Standing, InstallError> {
        let trust = TrustStore::load(self.directories)?;
        let (id, version) = (plugin.id(), plugin.version());
        let facts = Facts {
            plugin: id,
            version,
            root: RootKind::User,
            place: signing::resolved(&self.directories.installed()),
            native: false,
            signature,
        };
        let standing = trust
            .judge(&facts, Time::now())
            .map_err(SigningError::from)?;
        if !self.downgrade {
            trust
                .check_downgrade(id, version)
                .map_err(SigningError::from)?;
        }
        Ok(standing)
    }

    fn place(
        &mut self,
        store: &Store,
        staging: Staging,
        plugin: &Installed,
        signature: Option<&SignedFiles>,
    ) -> Result<(PathBuf, Outcome), InstallError> {
        let (id, version) = (plugin.id(), plugin.version().to_string());
        let note_key = || match signature {
            Some(signature) => TrustStore::change(self.directories, |trust| {
                trust.note_installed(id, signature.key(), plugin.version());
            }),
            None => Ok(()),
        };
        let place = store.place_of(id.as_str(), &version);
        let above = self.directories.installed().join(id.as_str());
        if above.join(MANIFEST_FILE).exists() {
            return Err(InstallError::InTheWay { path: above });
        }
        let mut outcome = Outcome::Installed;
        if place.exists() {
            if files::same(staging.path(), &place)? {
                note_key()?;
                return Ok((place, Outcome::Unchanged));
            }
            if !self.replace {
                return Err(InstallError::Differs {
                    id: id.clone(),
                    path: place,
                });
            }
            outcome = Outcome::Replaced;
        }
        self.watch.report(Progress::Placing)?;
        note_key()?;
        Ok((store.place(staging, id.as_str(), &version)?, outcome))
    }
}

/// Reads the manifest in `directory`; errors name `source`, which the user knows.
fn load_manifest(directory: &Path, source: &Path) -> Result<Manifest, InstallError> {
    let path = directory.join(MANIFEST_FILE);
    if !path.is_file() {
        return Err(InstallError::NoManifest {
            path: source.to_path_buf(),
        });
    }
    Manifest::load(&path).map_err(|error| {
        let named = match &error {
            ManifestError::Invalid(_) => {
                Manifest::parse(error.source_text(), &source.join(MANIFEST_FILE)).err()
            }
            _ => None,
        };
        InstallError::Manifest(named.unwrap_or(error))
    })
}

/// What hears of each step, and may end the work.
type Listener<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// Whoever hears of the progress, if anybody does.
struct Watch<'a>(Option<Box<Listener<'a>>>);

impl Watch<'_> {
    fn silent() -> Self {
        Self(None)
    }

    fn report(&mut self, progress: Progress<'_>) -> Result<(), InstallError> {
        match self.0.as_mut().map(|hear| hear(progress)) {
            Some(ControlFlow::Break(())) => Err(InstallError::Interrupted),
            _ => Ok(()),
        }
    }
}
