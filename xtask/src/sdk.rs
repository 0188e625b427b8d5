//! The SDK as a distribution carries it: it compiles where there is nothing else of Vox.

use std::fs;
use std::process::Command;

use anyhow::Context;

use crate::workspace::{Workspace, announce, run as run_command};

/// Checks the SDK of a distribution that `vox` makes.
///
/// It is compiled with the versions in the checkout's `Cargo.lock`: whether newer ones fit is
/// not a question about this change.
pub fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let vox = workspace.build_program("vox", false)?;
    let distribution = workspace.target.join("vox-sdk/vox-base");
    let mut command = Command::new(vox);
    command
        .current_dir(&workspace.root)
        .args(["dist", "build", "vox-base", "--out"]);
    run_command(command.arg(&distribution))?;

    let sdk = distribution.join("sdk");
    fs::copy(workspace.root.join("Cargo.lock"), sdk.join("Cargo.lock"))
        .with_context(|| format!("{} is no SDK", sdk.display()))?;
    let mut command = workspace.cargo(["check", "--lib", "--manifest-path"]);
    command.arg(sdk.join("crates/vox-plugin/Cargo.toml"));
    run_command(&mut command).context("the SDK does not compile outside of the checkout")?;
    announce("The SDK of a distribution compiles on its own");
    Ok(())
}
