//! `cargo xtask bench`: the package `vox-bench`, built for release, and what it runs besides.

use std::process::Command;

use crate::workspace::{Workspace, run as run_command};

/// The bench that compares the plugin `candle-cpu` with the same code in a program.
const BOUNDARY: &str = "ml.boundary";

/// Builds the benchmarks for release and takes these measurements, or all.
pub fn run(workspace: &Workspace, names: &[String], json: bool) -> anyhow::Result<()> {
    let bench = workspace.build_program("vox-bench", true)?;
    if names.is_empty() || names.iter().any(|name| BOUNDARY.starts_with(name.as_str())) {
        // As the plugin is built: by itself, so that the features of what it depends on are the same.
        let mut build = workspace.cargo(["build", "--release", "--bin", "candle-in-process"]);
        let manifest = workspace.root.join("plugins/candle/Cargo.toml");
        run_command(build.arg("--manifest-path").arg(manifest))?;
    }
    let mut command = Command::new(bench);
    command.current_dir(&workspace.root).args(names);
    if json {
        command.arg("--json");
    }
    run_command(&mut command)
}
