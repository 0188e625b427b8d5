//! `cargo xtask gpu-suite`: what is tried on a machine with a GPU, as one folder.
//!
//! | part | owns |
//! |---|---|
//! | `check` | what is tried there, by `check gpu-check` in the folder |
//! | `vox` | `vox` in a sandbox, and what it prints |
//! | `report` | what was found, for people and programs |
//! | `peers.py` | the same work by PyTorch and transformers |
//!
//! The folder holds the host, the plugins, a model, data, CUDA's libraries and the program that checks; the machine
//! needs nothing but a driver, and no network. A lean folder leaves out the model and the libraries, which are then
//! made, and looked for, there: it is for machines that little can be carried to.
//!
//! What must stay true: no test needs it. With `--device cpu` the same checks run where there is no GPU.

pub mod check;
mod report;
mod vox;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::json;
use vox_build::{BuildOptions, Destination, Profile};

use crate::candle::{self, toolkit::Toolkit};
use crate::workspace::{Workspace, announce, entries, output_of, run as run_command, write};

/// Text to learn from, from the root.
const TEXT: &str = "examples/quickstart/data/emma.txt";
/// The model, by its name in models.toml.
const MODEL: &str = "smollm2-135m-instruct";
/// Libraries that the plugin needs, and those that these need. The driver's is the machine's own.
const LIBRARIES: [&str; 6] = [
    "libcublas.so",
    "libcublasLt.so",
    "libcudart.so",
    "libcurand.so",
    "libnvrtc-builtins.so",
    "libnvrtc.so",
];

/// What is packed.
pub struct Suite<'a> {
    /// `cuda`, or `cpu` to try the suite itself.
    pub device: &'a str,
    /// The host's program; none for one that is built for release.
    pub vox: Option<&'a Path>,
    /// Whether the model and CUDA's libraries are left out.
    pub lean: bool,
    /// Whether it is run at once.
    pub run: bool,
}

/// Packs the suite into `target/gpu-suite`, and runs it there where that is asked for.
pub fn run(
    workspace: &Workspace,
    suite: &Suite<'_>,
    cuda: impl FnOnce() -> anyhow::Result<candle::Cuda>,
) -> anyhow::Result<()> {
    let folder = workspace.target.join("gpu-suite");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let vox = match suite.vox {
        Some(vox) => vox.to_owned(),
        None => workspace.build_program("vox", true)?,
    };
    copy(&vox, &folder.join("vox"))?;
    copy(&env::current_exe()?, &folder.join("check"))?;
    let plugins = folder.join("plugins");
    candle_cpu(workspace, &plugins)?;
    if suite.device == "cuda" {
        let cuda = cuda()?;
        let place = plugins.join("candle-cuda");
        copy_all(&cuda.package, &place.join(version_of(&cuda.package)?))?;
        if !suite.lean {
            libraries(&cuda.toolkit, &folder.join("lib"))?;
        }
    }
    copy(&workspace.root.join(TEXT), &folder.join("text.txt"))?;
    write(&folder.join("peers.py"), include_str!("gpu_suite/peers.py"))?;
    if !suite.lean {
        model(&folder)?;
    }
    let about = json!({
        "device": suite.device,
        "version": workspace.version()?.to_string(),
        "commit": commit(workspace),
    });
    write(&folder.join("suite.json"), &format!("{about:#}\n"))?;
    announce(format_args!(
        "The suite is in {}; on the machine with the GPU: ./check gpu-check",
        workspace.name(&folder)
    ));
    if !suite.run {
        return Ok(());
    }
    run_command(
        Command::new(folder.join("check"))
            .arg("gpu-check")
            .current_dir(&folder),
    )
}

/// Builds candle-cpu for release.
fn candle_cpu(workspace: &Workspace, root: &Path) -> anyhow::Result<()> {
    announce("Building candle-cpu");
    let mut options = BuildOptions::new(Destination::Root(root.to_owned()));
    options.profile = Profile::Release;
    vox_build::build(
        &workspace.root.join("plugins/candle"),
        &options,
        &mut |_| {},
    )?;
    Ok(())
}

/// The name of a package's own directory.
fn version_of(package: &Path) -> anyhow::Result<&std::ffi::OsStr> {
    package
        .file_name()
        .context("a package stands in no directory")
}

fn libraries(toolkit: &Toolkit, into: &Path) -> anyhow::Result<()> {
    for file in entries(&toolkit.libraries())? {
        let name = file.file_name().unwrap_or_default();
        let text = name.to_string_lossy();
        let is_needed = LIBRARIES.iter().any(|library| {
            let version = text.strip_prefix(library);
            version.is_some_and(|version| version.starts_with('.'))
        });
        if is_needed {
            copy(&file, &into.join(name))?;
        }
    }
    Ok(())
}

/// Imports the model with the suite's own `vox`, and writes it where programs of Python read it too.
fn model(folder: &Path) -> anyhow::Result<()> {
    announce(format_args!("Importing {MODEL}"));
    let sandbox = vox::Vox::new(folder)?;
    run_command(sandbox.command().args(["model", "import", MODEL]))?;
    run_command(
        sandbox
            .command()
            .args(["model", "export", MODEL])
            .arg(folder.join("model")),
    )?;
    sandbox.remove()
}

/// The commit that is checked out; nothing where there is none.
fn commit(workspace: &Workspace) -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(&workspace.root);
    let printed = output_of(git.args(["rev-parse", "--short", "HEAD"])).ok()?;
    Some(printed.trim().to_owned())
}

/// Copies a file, links followed, and makes the directories above it.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let parent: PathBuf = to.parent().map(Path::to_owned).unwrap_or_default();
    fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// Copies the files of a directory that has no others in it.
fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    let files = entries(from)?;
    if files.is_empty() {
        bail!("there is nothing in {}", from.display());
    }
    for file in files {
        copy(&file, &to.join(file.file_name().unwrap_or_default()))?;
    }
    Ok(())
}
