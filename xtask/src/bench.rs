//! `cargo xtask bench` and `cargo xtask peers`.
//!
//! The benchmarks are the package `vox-bench`; what they compare Vox with is a workspace of its
//! own in `benches/peers`, so that nobody who only uses Vox builds it.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::guest;
use crate::workspace::{Workspace, announce, run as run_command};

/// Builds the benchmarks for release and takes these measurements, or all.
pub fn run(workspace: &Workspace, names: &[String], json: bool) -> anyhow::Result<()> {
    let mut command = Command::new(workspace.build_program("vox-bench", true)?);
    command.current_dir(&workspace.root).args(names);
    if json {
        command.arg("--json");
    }
    run_command(&mut command)
}

/// Builds what Vox is measured against: the peers' workspace, and their guest, a core module that
/// the guest toolchain of the plugins compiles.
pub fn peers(workspace: &Workspace) -> anyhow::Result<()> {
    let directory = workspace.root.join("benches/peers");
    if !directory.join("Cargo.toml").is_file() {
        bail!(
            "there is no {}",
            workspace.name(&directory.join("Cargo.toml"))
        );
    }
    let target = directory.join("target");
    if directory.join("guest/Cargo.toml").is_file() {
        let toolchain = guest::ensure(workspace)?;
        announce("Building the peers' guest");
        let mut command = cargo_in(workspace, &directory.join("guest"));
        command.arg("--target-dir").arg(target.join("guest"));
        toolchain.configure(&mut command);
        run_command(&mut command)?;
    }
    announce("Building the peers");
    let mut command = cargo_in(workspace, &directory);
    run_command(command.arg("--target-dir").arg(&target))?;
    announce(format_args!("The peers are in {}", workspace.name(&target)));
    Ok(())
}

/// A release build of the crate or workspace in `directory`.
fn cargo_in(workspace: &Workspace, directory: &Path) -> Command {
    let mut command = workspace.cargo(["build", "--release", "--manifest-path"]);
    command.arg(directory.join("Cargo.toml"));
    command
}
