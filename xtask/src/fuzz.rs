//! `cargo xtask fuzz`: the fuzzers of `tests/fuzz`, for longer than the tests run them.

use crate::workspace::{Workspace, run as run_command};

/// Runs the fuzzers of one target, the file `tests/fuzz/tests/fuzz_<target>.rs`, or of all; each
/// for so many seconds, from `seed` where one is given.
pub fn run(
    workspace: &Workspace,
    target: Option<&str>,
    seconds: u64,
    seed: Option<u64>,
) -> anyhow::Result<()> {
    let target = format!("fuzz_{}", target.unwrap_or("*"));
    // The whole workspace, so that its dependencies have the features that the tests gave them.
    let mut command = workspace.cargo(["test", "--workspace", "--no-fail-fast", "--test"]);
    command
        .args([&target, "--", "--show-output"])
        .env("VOX_FUZZ_SECONDS", seconds.to_string());
    if let Some(seed) = seed {
        command.env("VOX_FUZZ_SEED", seed.to_string());
    }
    run_command(&mut command)
}
