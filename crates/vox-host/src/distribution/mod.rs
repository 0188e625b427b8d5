//! Distributions: the host with a chosen set of plugins, in one directory that runs where it is.
//!
//! ```text
//! <out>/vox                           the host
//! <out>/plugins/<id>/<version>/…      the plugins, found as those beside the executable
//! <out>/catalog.toml                  what can be installed besides
//! <out>/grants.toml                   what the plugins of the distribution are granted
//! <out>/README.txt                    what this is and how to begin
//! ```
//!
//! **What a distribution grants.** Whoever unpacks a distribution trusts it as a whole, so its
//! plugins are granted what the catalogue lists for them, within the scopes that their manifests
//! ask for, and nothing that either does not name.
//!
//! **Who vouches for it.** What lies beside the executable is trusted as the executable is, native
//! code included. A plugin that is signed is therefore taken only when it is what was signed.
//!
//! The directory is built up beside its place and renamed, so that `<out>` is whole or is what it
//! was. A directory that is there already is replaced when it is a distribution, and otherwise left
//! alone.

mod pack;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use semver::Version;
use vox_contract::{
    CapabilityRequest, Catalog, CatalogPlugin, Grant, GrantsFile, MANIFEST_FILE, Manifest,
    ManifestError, Platform, PluginId,
};

use crate::directories::RootKind;
use crate::install::{self, InstallError};
use crate::inventory::{self, Reason};
use crate::platform;
use crate::signing;

/// Why a distribution could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DistributionError {
    /// The catalogue or a manifest is refused, or the catalogue has no such distribution.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A plugin of the distribution is not built.
    #[error(
        "the distribution `{distribution}` needs the plugin `{plugin}`, which is not built; build \
         it with `vox plugin build` in {plugin_source}"
    )]
    NotBuilt {
        /// The distribution.
        distribution: String,
        /// The plugin.
        plugin: PluginId,
        /// Where the catalogue says that it comes from.
        plugin_source: String,
    },
    /// A plugin that was built is another one, or cannot be used.
    #[error("{} cannot be the plugin `{plugin}`: {why}", path.display())]
    Unfit {
        /// The plugin that is needed.
        plugin: PluginId,
        /// The directory that was given for it.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Something that is no distribution lies where it is to be built.
    #[error("{} is there and is no distribution; remove it, or name another place", path.display())]
    Occupied {
        /// The place.
        path: PathBuf,
    },
    /// A plugin could not be copied, or an archive not be written.
    #[error(transparent)]
    Copy(#[from] InstallError),
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl DistributionError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// What a distribution is built from.
pub struct Parts<'a> {
    /// The `catalog.toml`, which is copied.
    pub catalog: &'a Path,
    /// The distribution's name in the catalogue.
    pub name: &'a str,
    /// The host's executable.
    pub host: &'a Path,
    /// Finds the directory of a plugin that was built; `None` when it was not.
    pub plugin: &'a dyn Fn(&PluginId) -> Option<PathBuf>,
    /// More files, each with its place in the distribution: licences, examples.
    pub extra: &'a [(PathBuf, PathBuf)],
}

/// A distribution that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Built {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// The executable in it.
    pub executable: PathBuf,
    /// Its plugins, those of the distributions that it extends first.
    pub plugins: Vec<(PluginId, Version)>,
}

/// Builds a distribution in `out`.
///
/// # Errors
///
/// [`DistributionError`]; `out` is then as it was.
pub fn build(parts: &Parts<'_>, out: &Path) -> Result<Built, DistributionError> {
    let catalog = Catalog::load(parts.catalog)?;
    let plugins = catalog.distribution(parts.name)?;
    if out.exists() && !is_distribution(out) && !is_empty(out) {
        return Err(DistributionError::Occupied {
            path: out.to_path_buf(),
        });
    }
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(DistributionError::io("create", parent))?;
    let staged = Staged::beside(out, parent)?;

    let executable = platform::executable_name("vox");
    copy_file(parts.host, &staged.0.join(&executable))?;
    copy_file(parts.catalog, &staged.0.join("catalog.toml"))?;
    for (source, place) in parts.extra {
        let target = staged.0.join(place);
        if source.is_dir() {
            install::copy_directory(source, &target)?;
        } else {
            copy_file(source, &target)?;
        }
    }
    let mut grants = GrantsFile::default();
    let mut manifests = Vec::new();
    for listed in plugins {
        let manifest = place_plugin(parts, listed, &staged.0)?;
        let own = grants.of_mut(&manifest.id);
        granted(listed, &manifest).for_each(|grant| own.add(grant));
        manifests.push(manifest);
    }
    write(&staged.0.join("grants.toml"), &grants.to_toml())?;
    write(
        &staged.0.join("README.txt"),
        &readme(&catalog, parts.name, &executable, &manifests),
    )?;
    // A bare distribution has no plugins, and still a place for them.
    let place = staged.0.join("plugins");
    fs::create_dir_all(&place).map_err(DistributionError::io("create", &place))?;
    staged.take_place_of(out)?;
    Ok(Built {
        name: parts.name.to_owned(),
        directory: out.to_path_buf(),
        executable: out.join(executable),
        plugins: manifests
            .into_iter()
            .map(|manifest| (manifest.id, manifest.version))
            .collect(),
    })
}

/// Packs a distribution as a gzip-compressed tar archive that unpacks into one directory,
/// `<name>-<host version>-<platform>`. The same files give the same bytes.
///
/// # Errors
///
/// What the file system refuses, and what a plugin archive may not hold either.
pub fn archive(built: &Built, target: &Path) -> Result<(), DistributionError> {
    Ok(pack::pack(
        &built.directory,
        Path::new(&archive_stem(&built.name)),
        target,
    )?)
}

/// The name of a distribution's archive without its extension.
pub fn archive_stem(name: &str) -> String {
    format!(
        "{name}-{}-{}",
        env!("CARGO_PKG_VERSION"),
        Platform::current()
    )
}

fn place_plugin(
    parts: &Parts<'_>,
    listed: &CatalogPlugin,
    into: &Path,
) -> Result<Manifest, DistributionError> {
    let plugin = listed.id.clone();
    let Some(source) = (parts.plugin)(&plugin) else {
        return Err(DistributionError::NotBuilt {
            distribution: parts.name.to_owned(),
            plugin,
            plugin_source: listed.source.clone(),
        });
    };
    let manifest = Manifest::load(&source.join(MANIFEST_FILE))?;
    if manifest.id != plugin {
        let why = format!("it is `{}`", manifest.id);
        return Err(DistributionError::Unfit {
            plugin,
            path: source,
            why,
        });
    }
    let place = into
        .join("plugins")
        .join(plugin.as_str())
        .join(manifest.version.to_string());
    install::copy_directory(&source, &place)?;
    // Of the copy, and named by where it comes from.
    if let Err(error) = signing::verify_if_signed(&place) {
        return Err(DistributionError::Unfit {
            plugin,
            path: source,
            why: error.to_string(),
        });
    }
    let judged = inventory::judge(manifest, &place, RootKind::Bundled);
    let usable = judged.map_err(|reason: Reason| DistributionError::Unfit {
        plugin,
        path: source,
        why: reason.to_string(),
    })?;
    Ok(usable.manifest)
}

/// What the catalogue lists and the manifest asks for.
fn granted(listed: &CatalogPlugin, manifest: &Manifest) -> impl Iterator<Item = Grant> {
    let requests = listed
        .capabilities
        .iter()
        .filter_map(|capability| manifest.request(*capability));
    requests.map(CapabilityRequest::grant)
}

fn readme(catalog: &Catalog, name: &str, executable: &str, plugins: &[Manifest]) -> String {
    let described = catalog
        .distributions
        .iter()
        .find(|distribution| distribution.name == *name);
    let description = described.map_or("", |distribution| distribution.description.as_str());
    let mut text = format!(
        "{name} {version} for {platform}\n{description}\n\n\
         Vox runs AI work out of plugins. This directory runs where it lies:\n\n    \
         ./{executable} --help\n    ./{executable} plugin list\n",
        version = env!("CARGO_PKG_VERSION"),
        platform = Platform::current(),
    );
    if !plugins.is_empty() {
        text.push_str("\nPlugins in this distribution:\n\n");
        for Manifest {
            id,
            version,
            description,
            ..
        } in plugins
        {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "    {id} {version}: {description}");
        }
        text.push_str("\nWhat they are granted is in grants.toml.\n");
    }
    text
}

/// A directory that is built up; deleted when it is dropped before it took its place.
struct Staged(PathBuf);

impl Staged {
    fn beside(out: &Path, parent: &Path) -> Result<Self, DistributionError> {
        let name = out
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let name = format!(".{}.{}", name.unwrap_or_default(), std::process::id());
        let path = parent.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(DistributionError::io("delete", &path))?;
        }
        fs::create_dir(&path).map_err(DistributionError::io("create", &path))?;
        Ok(Self(path))
    }

    fn take_place_of(self, out: &Path) -> Result<(), DistributionError> {
        if out.exists() {
            let swapped = platform::exchange(&self.0, out);
            if swapped.map_err(DistributionError::io("replace", out))? {
                return Ok(());
            }
            fs::remove_dir_all(out).map_err(DistributionError::io("delete", out))?;
        }
        fs::rename(&self.0, out).map_err(DistributionError::io("create", out))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Holds what was replaced, or what could not be finished; in neither case is it wanted.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_distribution(directory: &Path) -> bool {
    ["catalog.toml", "grants.toml", "README.txt"]
        .iter()
        .all(|file| directory.join(file).is_file())
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

fn copy_file(from: &Path, to: &Path) -> Result<(), DistributionError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(DistributionError::io("create", parent))?;
    }
    fs::copy(from, to).map_err(DistributionError::io("copy", from))?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), DistributionError> {
    fs::write(path, text).map_err(DistributionError::io("write", path))
}
