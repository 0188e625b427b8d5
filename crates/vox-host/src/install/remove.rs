//! Removing installed plugins.
//!
//! What is removed is found by its path, not by its manifest, so that a plugin can be removed
//! however broken it is.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use semver::{Version, VersionReq};
use vox_contract::{MANIFEST_FILE, Manifest, PluginId};

use super::store::Store;
use super::{InstallError, Watch};
use crate::directories::{Directories, RootKind};
use crate::inventory::Inventory;

/// Which versions of a plugin are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One version.
    Version(Version),
    /// All that are installed.
    All,
}

/// A plugin that depends on another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dependent {
    /// The plugin.
    pub id: PluginId,
    /// Its version.
    pub version: Version,
    /// The versions of the other that it needs.
    pub needs: VersionReq,
}

impl fmt::Display for Dependent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} (in version {})",
            self.id, self.version, self.needs
        )
    }
}

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed {
    /// The directories, one for each version where they stood side by side.
    pub directories: Vec<PathBuf>,
    /// Plugins that cannot be used any more; empty unless the removal was forced.
    pub broken: Vec<Dependent>,
}

/// Removes versions of a plugin from `<data>/plugins`, each in one step. Its grants and its stored
/// values stay: they are the user's.
///
/// Plugins elsewhere are left alone: what lies in a project or came with a distribution was not put
/// there by Vox. Unless `force` is set, a plugin stays that another one would miss.
///
/// # Errors
///
/// [`InstallError::NotInstalled`], [`InstallError::Needed`], and what the file system refuses.
pub fn remove(
    directories: &Directories,
    id: &PluginId,
    which: &Which,
    force: bool,
) -> Result<Removed, InstallError> {
    let root = directories.installed();
    let what = match which {
        Which::All => id.to_string(),
        Which::Version(version) => format!("{id} {version}"),
    };
    let store = Store::open(&root, &mut Watch::silent())?;
    let inventory = Inventory::scan(directories);
    let leaving = leaving(&root, id, which);
    if leaving.is_empty() {
        let served = inventory
            .versions(id)
            .iter()
            .filter(|plugin| plugin.root != RootKind::User);
        let elsewhere = served.map(|plugin| plugin.directory.clone()).collect();
        return Err(InstallError::NotInstalled {
            what,
            root,
            elsewhere,
        });
    }
    let broken = left_without(&inventory, id, &leaving);
    if !force && !broken.is_empty() {
        return Err(InstallError::Needed {
            what,
            needed_by: broken,
        });
    }
    // All versions at once where the whole directory goes.
    if *which == Which::All {
        store.remove(&root.join(id.as_str()))?;
    } else {
        for directory in &leaving {
            store.remove(directory)?;
        }
    }
    Ok(Removed {
        directories: leaving,
        broken,
    })
}

/// The directories that are meant, of those that there are.
fn leaving(root: &Path, id: &PluginId, which: &Which) -> Vec<PathBuf> {
    let directory = root.join(id.as_str());
    let flat = directory.join(MANIFEST_FILE);
    match which {
        _ if !directory.is_dir() => Vec::new(),
        Which::All if flat.exists() => vec![directory],
        Which::All => {
            let versions = fs::read_dir(&directory).into_iter().flatten().flatten();
            let mut versions: Vec<PathBuf> = versions.map(|version| version.path()).collect();
            versions.sort();
            // An empty directory is removed as itself.
            if versions.is_empty() {
                vec![directory]
            } else {
                versions
            }
        }
        Which::Version(version) => {
            let nested = directory.join(version.to_string());
            if nested.is_dir() && !flat.exists() {
                vec![nested]
            } else if Manifest::load(&flat).is_ok_and(|manifest| manifest.version == *version) {
                vec![directory]
            } else {
                Vec::new()
            }
        }
    }
}

/// Plugins that stay and find the version that they need now, and not without `leaving`.
fn left_without(inventory: &Inventory, id: &PluginId, leaving: &[PathBuf]) -> Vec<Dependent> {
    let stays = |directory: &Path| !leaving.iter().any(|leaving| directory == leaving);
    let others = inventory
        .found()
        .iter()
        .filter(|plugin| stays(&plugin.directory));
    others
        .filter_map(|plugin| {
            let needs = plugin.manifest.dependencies.get(id)?;
            let mut fitting = inventory
                .versions(id)
                .iter()
                .filter(|other| needs.matches(other.version()));
            let found = fitting.clone().next().is_some();
            let kept = fitting.any(|other| stays(&other.directory));
            (found && !kept).then(|| Dependent {
                id: plugin.id().clone(),
                version: plugin.version().clone(),
                needs: needs.clone(),
            })
        })
        .collect()
}
