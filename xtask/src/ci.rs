//! `cargo xtask ci`: every check that a change must pass, then every test.
//!
//! All checks run even when one fails, so that one look at the log is enough. The order keeps
//! compilation low: what only needs the types of dependencies (clippy, documentation) shares one
//! set of them, and what needs their code (pages made from `vox`, tests) shares another.

use anyhow::bail;

use crate::workspace::{Workspace, announce, explain, run as run_command};
use crate::{arch, catalog, docs, sdk, tests};

/// A check by the name that the summary calls it.
type Check = (&'static str, fn(&Workspace) -> anyhow::Result<()>);

/// The checks, in the order in which they run.
const CHECKS: &[Check] = &[
    ("format", format),
    ("architecture", arch::run),
    ("catalogue", catalog::check),
    ("links", docs::check_links),
    ("clippy", clippy),
    ("documentation", documentation),
    ("SDK on its own", sdk::check),
    ("generated pages", docs::check),
    ("tests", |workspace| tests::run(workspace, &[])),
];

/// Runs every check.
pub fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        announce(format_args!("Check: {name}"));
        if let Err(error) = check(workspace) {
            eprintln!("error: {}", explain(&error));
            failed.push(*name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    announce("All checks passed");
    Ok(())
}

fn format(workspace: &Workspace) -> anyhow::Result<()> {
    run_command(&mut workspace.cargo(["fmt", "--all", "--check"]))
        .map_err(|error| error.context("mend with `cargo fmt --all`"))
}

fn clippy(workspace: &Workspace) -> anyhow::Result<()> {
    let arguments = "clippy --workspace --all-targets --keep-going -- --deny warnings";
    run_command(&mut workspace.cargo(arguments.split(' ')))
}

fn documentation(workspace: &Workspace) -> anyhow::Result<()> {
    let mut command = workspace.cargo(["doc", "--workspace", "--no-deps", "--keep-going"]);
    run_command(command.env("RUSTDOCFLAGS", "--deny warnings"))
}
