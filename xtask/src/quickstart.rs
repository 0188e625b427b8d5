//! `cargo xtask quickstart`: from a fresh checkout to a finished first pipeline.
//!
//! Everything that it makes is below `target/quickstart`, the plugins' data and the compiled
//! components included: what the user has installed or granted is neither used nor touched.

use std::env;
use std::path::Path;
use std::process::Command;

use vox_build::Profile;

use crate::dist::{self, Distribution};
use crate::workspace::{Workspace, announce, run as run_command};

/// The pipeline that is run, from the root.
const PIPELINE: &str = "examples/quickstart/pipeline.toml";

/// Builds, lays out, and runs.
pub fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let out = workspace.target.join("quickstart");
    let distribution = Distribution {
        name: "vox-run",
        profile: Profile::Dev,
        archive: false,
    };
    let distribution = dist::lay_out(workspace, &distribution, &out)?;
    let vox = distribution.join(format!("vox{}", env::consts::EXE_SUFFIX));

    announce(format_args!("vox run {PIPELINE}"));
    run_command(in_sandbox(workspace, &vox, &out).args(["run", PIPELINE]))?;
    announce("vox hello");
    run_command(in_sandbox(workspace, &vox, &out).arg("hello"))?;

    println!(
        "\nVox is in {directory}; it runs where it lies, also when moved elsewhere.\n\n\
         To try next:\n\
         \x20   {vox} plugin list\n\
         \x20   {vox} run {PIPELINE} --format json\n\
         \x20   {vox} plugin new shout --path ../shout\n\n\
         The tutorial: docs/src/tutorial.md",
        directory = workspace.name(&distribution),
        vox = workspace.name(&vox),
    );
    Ok(())
}

/// `vox` in the root, with data and cache of its own.
fn in_sandbox(workspace: &Workspace, vox: &Path, out: &Path) -> Command {
    let mut command = Command::new(vox);
    command
        .current_dir(&workspace.root)
        .env("VOX_DATA", out.join("data"))
        .env("VOX_CACHE", out.join("cache"))
        .env_remove("VOX_PLUGIN_PATH");
    command
}
