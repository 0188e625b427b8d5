//! `cargo xtask cuda` and `cargo xtask metal`: the plugins that the crate `candle` becomes with its features.
//!
//! Their manifests stand in `plugins/candle/cuda` and `plugins/candle/metal`. What is made lies below them, where
//! `vox plugin install candle-cuda` looks for what was built.
//!
//! What must stay true: nothing that is made here is needed by a test; a package of `candle-cuda` was linked
//! whole: each function that it calls is in a library that it names.

pub mod toolkit;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use vox_build::ARCHIVE_EXTENSION;
use vox_contract::{Carrier, MANIFEST_FILE, Manifest, Platform};

use self::toolkit::Toolkit;
use crate::workspace::{Workspace, announce, output_of, run as run_command, write};

/// The crate's directory.
const CRATE: &str = "plugins/candle";

/// A package, and what it was made with.
pub struct Cuda {
    /// The plugin's directory.
    pub package: PathBuf,
    /// Where its libraries come from.
    pub toolkit: Toolkit,
}

/// Builds `candle-cuda` for GPUs of a compute capability such as `90`, with the toolkit in a directory, or else
/// with NVIDIA's wheels.
///
/// The plugin has kernels for GPUs of that capability alone.
pub fn cuda(
    workspace: &Workspace,
    capability: &str,
    toolkit: Option<&Path>,
) -> anyhow::Result<Cuda> {
    if !cfg!(target_os = "linux") {
        bail!("candle-cuda is for Linux, and built there");
    }
    let toolkit = match toolkit {
        Some(root) => Toolkit::installed(workspace, root)?,
        None => Toolkit::of_wheels(workspace)?,
    };
    announce(format_args!(
        "Building candle-cuda for compute capability {capability}; its kernels take some minutes"
    ));
    let mut command = compile(workspace, "cuda");
    toolkit.configure(&mut command)?;
    run_command(command.env("CUDA_COMPUTE_CAP", capability))?;
    let library = workspace.target.join("release/libcandle.so");
    check_linked(&library, &toolkit)?;
    let package = pack(workspace, "cuda", &library)?;
    Ok(Cuda { package, toolkit })
}

/// Builds `candle-metal`.
pub fn metal(workspace: &Workspace) -> anyhow::Result<()> {
    if !cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        bail!("candle-metal is for Macs with Apple's processors, and built there");
    }
    announce("Building candle-metal");
    run_command(&mut compile(workspace, "metal"))?;
    let library = workspace.target.join("release/libcandle.dylib");
    pack(workspace, "metal", &library)?;
    Ok(())
}

/// Cargo, for the crate with a feature.
fn compile(workspace: &Workspace, feature: &str) -> Command {
    let mut command = workspace.cargo(["build", "--release", "--lib", "--package", "candle"]);
    command.args(["--features", feature]);
    command
}

/// Has the dynamic linker look up all that a library calls. The driver is a stand-in, so no machine needs one.
fn check_linked(library: &Path, toolkit: &Toolkit) -> anyhow::Result<()> {
    let directories = [toolkit.libraries(), toolkit.driver()];
    let looked_up = output_of(
        Command::new("ldd")
            .arg("-r")
            .arg(library)
            .env("LD_LIBRARY_PATH", env::join_paths(directories)?)
            .stderr(std::process::Stdio::piped()),
    )?;
    let missing = missing(&looked_up);
    if !missing.is_empty() {
        bail!(
            "{} would not load:\n  {}",
            library.display(),
            missing.join("\n  ")
        );
    }
    Ok(())
}

/// The lines in which `ldd -r` says what it does not find.
fn missing(printed: &str) -> Vec<&str> {
    let lines = printed.lines().map(str::trim);
    lines
        .filter(|line| line.contains("not found") || line.starts_with("undefined symbol"))
        .collect()
}

/// Puts a library into the place of its plugin's package, and an archive of it into `target/candle`.
fn pack(workspace: &Workspace, feature: &str, library: &Path) -> anyhow::Result<PathBuf> {
    let source = workspace.root.join(CRATE).join(feature);
    let manifest = Manifest::load(&source.join(MANIFEST_FILE))?;
    let root = source.join("target/plugins");
    write(&root.join(".gitignore"), "*\n")?;
    let directory = vox_build::directory_in_root(&root, &manifest);
    let built = [(Carrier::Native, library.to_owned())].into();
    vox_build::package(&source, &manifest, &built, &directory)?;
    let archive = workspace.target.join("candle").join(format!(
        "{}-{}-{}.{ARCHIVE_EXTENSION}",
        manifest.id,
        manifest.version,
        Platform::current()
    ));
    vox_build::archive(&directory, &archive)?;
    let size = fs::metadata(library)
        .with_context(|| format!("cannot look at {}", library.display()))?
        .len();
    announce(format_args!(
        "{} is in {}, {} MB, and packed in {}",
        manifest.id,
        workspace.name(&directory),
        size / 1_000_000,
        workspace.name(&archive)
    ));
    announce(format_args!("next: vox plugin install {}", manifest.id));
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_lacks_is_found_in_what_ldd_prints() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibcuda.so.1 => not found\n\
            \tlibc.so.6 => /lib/libc.so.6 (0x00007f)\nundefined symbol: cuInit\t(./libcandle.so)\n";
        assert_eq!(
            missing(printed),
            [
                "libcuda.so.1 => not found",
                "undefined symbol: cuInit\t(./libcandle.so)"
            ]
        );
        assert!(missing("\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n").is_empty());
    }
}
