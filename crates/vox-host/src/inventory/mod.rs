//! Which plugins are there.
//!
//! Owns the layouts of a root, the precedence among roots, and the record of everything that was
//! not taken, each with its reason ([`PassedOver`]): nothing in a root is silently skipped.
//!
//! **Layouts.** A plugin's directory is one that holds a `Plugin.toml`. It is looked for as the
//! root itself, as `<root>/<id>`, and as `<root>/<id>/<version>`; in the last case both names must
//! be those of the manifest, since that is how `vox plugin remove` finds it again. Names that begin
//! with a dot, and files, are no plugins.
//!
//! **Two plugins with one id and version.** In two roots, the one of the earlier root serves and
//! the other is [`Reason::Shadowed`]: this is how a project or `VOX_PLUGIN_PATH` puts a work in
//! progress before what is installed. In one root, where nothing says which was meant, the one
//! whose path sorts first serves and the other is [`Reason::Duplicate`], which is a fault. Other
//! versions stand side by side; [`crate::resolution`] chooses.
//!
//! **Invariant.** Scanning reads directories and manifests. It opens no payload, runs nothing and
//! writes nothing, so that the cost of a plugin that is never used is one small file.

mod finding;
mod reason;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use semver::Version;
use vox_contract::{Carrier, MANIFEST_FILE, Manifest, ManifestError, PluginId};

use crate::directories::{Directories, Root, RootKind};
use crate::requirements;
pub use finding::{Finding, Severity};
pub use reason::{PassedOver, Reason};

/// A plugin that can be used on this machine with this host, as far as its manifest tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Installed {
    /// What the plugin says of itself.
    pub manifest: Manifest,
    /// The directory that holds its manifest.
    pub directory: PathBuf,
    /// Who placed it there.
    pub root: RootKind,
    /// The component, when the manifest names one and the file is there.
    pub component: Option<PathBuf>,
    /// The native library for this platform, when the manifest names one and the file is there.
    pub native: Option<PathBuf>,
    /// The `SKILL.md`, when the manifest names one and the file is there.
    pub skill: Option<PathBuf>,
    /// Files that the manifest names for this platform and that are not there, such as the
    /// component of a plugin that was built as a native library only.
    pub missing: Vec<PathBuf>,
}

impl Installed {
    /// The plugin's id.
    pub fn id(&self) -> &PluginId {
        &self.manifest.id
    }

    /// The plugin's version.
    pub fn version(&self) -> &Version {
        &self.manifest.version
    }

    /// The file that a carrier loads, when there is one for this platform.
    pub fn payload(&self, carrier: Carrier) -> Option<&Path> {
        match carrier {
            Carrier::Component => self.component.as_deref(),
            Carrier::Native => self.native.as_deref(),
        }
    }

    /// Judges the manifest that stands in `directory`; the error says why it cannot be used here.
    fn judge(manifest: Manifest, directory: &Path, root: RootKind) -> Result<Self, Rejected> {
        let reject = |manifest, reason| Err(Box::new((manifest, reason)));
        if !manifest.host.matches(&requirements::HOST_VERSION) {
            let wanted = manifest.host.clone();
            return reject(manifest, Reason::WrongHost { wanted });
        }
        if let Err(error) = requirements::check_platform(&manifest) {
            return reject(manifest, Reason::WrongPlatform(error));
        }
        let mut missing = Vec::new();
        let mut present = |file: Option<&Path>| {
            let path = directory.join(file?);
            if path.is_file() {
                return Some(path);
            }
            missing.push(path);
            None
        };
        let component = present(manifest.payload.file_for(Carrier::Component));
        let native = present(manifest.payload.file_for(Carrier::Native));
        let skill = present(manifest.payload.skill.as_deref());
        if component.is_none()
            && native.is_none()
            && (manifest.payload.has_code() || skill.is_none())
        {
            let reason = if missing.is_empty() {
                let built_for = manifest.payload.native.keys().cloned().collect();
                Reason::NoPayload { built_for }
            } else {
                Reason::PayloadMissing { files: missing }
            };
            return reject(manifest, reason);
        }
        let directory = directory.to_path_buf();
        Ok(Self {
            manifest,
            directory,
            root,
            component,
            native,
            skill,
            missing,
        })
    }
}

/// A manifest that was read, and why its plugin cannot be used.
type Rejected = Box<(Manifest, Reason)>;

/// Judges whether the plugin in `directory` could be used here if it stood in a root of `kind`.
pub(crate) fn judge(
    manifest: Manifest,
    directory: &Path,
    kind: RootKind,
) -> Result<Installed, Reason> {
    Installed::judge(manifest, directory, kind).map_err(|rejected| rejected.1)
}

/// The plugins that a scan found, and what it passed over.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// By id, and of each id the highest version first.
    found: Vec<Arc<Installed>>,
    passed_over: Vec<PassedOver>,
}

impl Inventory {
    /// Reads the manifests in all roots.
    ///
    /// Never fails: what cannot be read is passed over, and the rest is served.
    pub fn scan(directories: &Directories) -> Self {
        let mut scan = Scan::default();
        for root in &directories.roots {
            scan.root(root);
        }
        let Scan {
            mut found,
            passed_over,
            ..
        } = scan;
        found.sort_by(|a, b| (a.id(), b.version()).cmp(&(b.id(), a.version())));
        Self { found, passed_over }
    }

    /// Every plugin that can be used, by id, the highest version of each first.
    pub fn found(&self) -> &[Arc<Installed>] {
        &self.found
    }

    /// What was not taken, in the order of the roots and of the paths in each.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// The versions of a plugin, the highest first; empty when there is none.
    pub fn versions(&self, id: &PluginId) -> &[Arc<Installed>] {
        let start = self.found.partition_point(|plugin| plugin.id() < id);
        let length = self.found[start..].partition_point(|plugin| plugin.id() == id);
        &self.found[start..start + length]
    }

    /// One version of a plugin.
    pub fn get(&self, id: &PluginId, version: &Version) -> Option<&Arc<Installed>> {
        self.versions(id)
            .iter()
            .find(|plugin| plugin.version() == version)
    }

    /// The ids of all plugins that can be used, in their order.
    pub fn ids(&self) -> impl Iterator<Item = &PluginId> {
        self.found
            .chunk_by(|a, b| a.id() == b.id())
            .map(|versions| versions[0].id())
    }

    /// What the scan has to say: everything passed over, and files that are missing from plugins
    /// that can be used without them.
    pub fn findings(&self) -> Vec<Finding> {
        let passed_over = self.passed_over.iter().cloned().map(Finding::PassedOver);
        let missing = self.found.iter().flat_map(|plugin| {
            plugin.missing.iter().map(|path| Finding::PayloadMissing {
                plugin: plugin.id().clone(),
                version: plugin.version().clone(),
                path: path.clone(),
            })
        });
        passed_over.chain(missing).collect()
    }
}

/// A scan in progress.
#[derive(Default)]
struct Scan {
    found: Vec<Arc<Installed>>,
    /// Where in `found` each id and version stands, and the number of the root it came from.
    places: HashMap<(PluginId, Version), (usize, usize)>,
    passed_over: Vec<PassedOver>,
    roots: usize,
}

impl Scan {
    fn root(&mut self, root: &Root) {
        self.roots += 1;
        if self.plugin(&root.path, root.kind, None) {
            return;
        }
        let entries = match sorted_entries(&root.path) {
            Ok(entries) => entries,
            // Most roots do not exist; one that somebody named should.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && root.kind != RootKind::Environment =>
            {
                return;
            }
            Err(error) => return self.pass_over(&root.path, root.kind, Reason::unreadable(error)),
        };
        for name in entries {
            self.entry(&root.path.join(&name), &name, root.kind);
        }
    }

    /// What stands in a root: a plugin, or the versions of one.
    fn entry(&mut self, path: &Path, id: &str, kind: RootKind) {
        if self.plugin(path, kind, None) {
            return;
        }
        let versions = match sorted_entries(path) {
            Ok(versions) => versions,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                if path
                    .extension()
                    .is_some_and(|extension| extension == crate::install::EXTENSION)
                {
                    self.pass_over(path, kind, Reason::Archive);
                }
                return;
            }
            Err(error) => return self.pass_over(path, kind, Reason::unreadable(error)),
        };
        for version in versions {
            let directory = path.join(&version);
            if !self.plugin(&directory, kind, Some((id, &version))) && directory.is_dir() {
                self.pass_over(&directory, kind, Reason::NoManifest);
            }
        }
    }

    /// Takes the plugin in a directory, or says why not; false when there is no manifest in it.
    /// `place` is the id and version that the directory's path names, where it does.
    fn plugin(&mut self, directory: &Path, kind: RootKind, place: Option<(&str, &str)>) -> bool {
        let manifest = match Manifest::load(&directory.join(MANIFEST_FILE)) {
            Ok(manifest) => manifest,
            Err(ManifestError::Unreadable { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return false;
            }
            Err(ManifestError::Unreadable { source, .. }) => {
                self.pass_over(directory, kind, Reason::Unreadable(source));
                return true;
            }
            Err(error) => {
                self.pass_over(directory, kind, Reason::BadManifest(error));
                return true;
            }
        };
        if let Some((id, version)) = place
            && (manifest.id != *id || manifest.version.to_string() != version)
        {
            self.reject(directory, kind, manifest, Reason::Misplaced);
            return true;
        }
        match Installed::judge(manifest, directory, kind) {
            Ok(plugin) => self.take(plugin),
            Err(rejected) => {
                let (manifest, reason) = *rejected;
                self.reject(directory, kind, manifest, reason);
            }
        }
        true
    }

    fn take(&mut self, plugin: Installed) {
        match self
            .places
            .entry((plugin.id().clone(), plugin.version().clone()))
        {
            Entry::Vacant(place) => {
                place.insert((self.found.len(), self.roots));
                self.found.push(Arc::new(plugin));
            }
            Entry::Occupied(place) => {
                let (serving, root) = *place.get();
                let by = self.found[serving].directory.clone();
                let reason = if root == self.roots {
                    Reason::Duplicate { of: by }
                } else {
                    Reason::Shadowed { by }
                };
                let Installed {
                    manifest,
                    directory,
                    root,
                    ..
                } = plugin;
                self.reject(&directory, root, manifest, reason);
            }
        }
    }

    fn reject(&mut self, directory: &Path, root: RootKind, manifest: Manifest, reason: Reason) {
        let path = directory.to_path_buf();
        let manifest = Some(Arc::new(manifest));
        self.passed_over.push(PassedOver {
            path,
            root,
            manifest,
            reason,
        });
    }

    fn pass_over(&mut self, path: &Path, root: RootKind, reason: Reason) {
        let path = path.to_path_buf();
        self.passed_over.push(PassedOver {
            path,
            root,
            manifest: None,
            reason,
        });
    }
}

/// The names in a directory that do not begin with a dot, sorted. A name that is not Unicode is
/// none that a plugin or a version can have; it is written with replacement characters, so that
/// the look-up fails and is reported.
fn sorted_entries(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') {
            names.push(name.into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
