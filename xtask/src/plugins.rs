//! Building the workspace's plugins into a root, as a host would find them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use vox_build::{BuildOptions, Destination, Event, Profile, Toolchain};
use vox_contract::{MANIFEST_FILE, Manifest};

use crate::workspace::{Workspace, announce, entries};

/// Where first-party plugins stand.
pub const FIRST_PARTY: &str = "plugins";
/// Where the plugins of the tests stand.
pub const FOR_TESTS: &str = "tests/plugins";

/// A plugin of the workspace.
pub struct Plugin {
    /// Its directory.
    pub directory: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

impl Plugin {
    /// Whether `vox plugin build` makes its payloads. The others are a crate with features for hardware that not
    /// every machine has; they have commands of their own.
    pub fn is_built_everywhere(&self) -> bool {
        !self.manifest.payload.has_code() || self.directory.join("Cargo.toml").is_file()
    }
}

/// The plugins in a directory of the checkout, in the order of their directories. A crate that becomes several
/// plugins has the manifests of the others in directories of its own.
pub fn plugins_in(workspace: &Workspace, group: &str) -> anyhow::Result<Vec<Plugin>> {
    let mut plugins = Vec::new();
    for directory in entries(&workspace.root.join(group))? {
        let others = entries(&directory)?;
        for directory in [directory].into_iter().chain(others) {
            let file = directory.join(MANIFEST_FILE);
            if file.is_file() {
                let manifest = Manifest::load(&file)?;
                plugins.push(Plugin {
                    directory,
                    manifest,
                });
            }
        }
    }
    Ok(plugins)
}

/// Builds every payload of these plugins into `root`, and takes away what other plugins left
/// there. What is fresh is not compiled again: cargo decides.
pub fn build(
    workspace: &Workspace,
    plugins: &[Plugin],
    toolchain: &Toolchain,
    profile: Profile,
    root: &Path,
) -> anyhow::Result<()> {
    for plugin in plugins {
        let mut options = BuildOptions::new(Destination::Root(root.to_owned()));
        options.profile = profile;
        options.toolchain = Some(toolchain.clone());
        let id = &plugin.manifest.id;
        vox_build::build(&plugin.directory, &options, &mut |event| {
            if let Event::Compiling { carrier, .. } = event {
                announce(format_args!("Building plugin {id} ({carrier})"));
            }
        })
        .with_context(|| format!("plugin {id}, in {}", workspace.name(&plugin.directory)))?;
    }
    remove_others(plugins, root)
}

/// Removes from a root what is none of these plugins, in none of these versions.
fn remove_others(plugins: &[Plugin], root: &Path) -> anyhow::Result<()> {
    let places: Vec<PathBuf> = plugins
        .iter()
        .map(|plugin| vox_build::directory_in_root(root, &plugin.manifest))
        .collect();
    for of_plugin in entries(root)? {
        for version in entries(&of_plugin)? {
            if !places.contains(&version) {
                fs::remove_dir_all(&version)
                    .with_context(|| format!("cannot remove {}", version.display()))?;
            }
        }
        // Only a directory without a version left can be removed so, and only that should be.
        let _ = fs::remove_dir(&of_plugin);
    }
    Ok(())
}
