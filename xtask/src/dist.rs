//! `cargo xtask dist`: a distribution, made by the host that goes into it.

use std::path::{Path, PathBuf};
use std::process::Command;

use vox_build::{Profile, Toolchain};
use vox_contract::Catalog;

use crate::guest;
use crate::plugins::{FIRST_PARTY, Plugin, build, plugins_in};
use crate::workspace::{Workspace, announce, run as run_command};

/// Builds the distribution of that name in `target/dist`, and its archive beside it.
pub fn run(workspace: &Workspace, name: &str, release: bool) -> anyhow::Result<()> {
    let catalog = Catalog::load(&workspace.root.join("catalog.toml"))?;
    let wanted = catalog.distribution(name)?;
    let mut plugins = plugins_in(workspace, FIRST_PARTY)?;
    plugins.retain(|plugin| wanted.iter().any(|wanted| wanted.id == plugin.manifest.id));

    let toolchain = guest::ensure(workspace)?;
    let out = workspace.target.join("dist");
    let profile = if release {
        Profile::Release
    } else {
        Profile::Dev
    };
    let distribution = lay_out(workspace, name, &plugins, &toolchain, profile, &out)?;
    announce(format_args!(
        "{name} is in {}",
        workspace.name(&distribution)
    ));
    Ok(())
}

/// Builds the host and these plugins, and lays the distribution out in `<out>/<name>`; answers that
/// directory.
pub fn lay_out(
    workspace: &Workspace,
    name: &str,
    plugins: &[Plugin],
    toolchain: &Toolchain,
    profile: Profile,
    out: &Path,
) -> anyhow::Result<PathBuf> {
    announce("Building the host");
    let vox = workspace.build_program("vox", profile == Profile::Release)?;
    let root = out.join("plugins");
    build(workspace, plugins, toolchain, profile, &root)?;

    announce(format_args!("Laying out the distribution {name}"));
    let distribution = out.join(name);
    let mut command = Command::new(vox);
    command
        .current_dir(&workspace.root)
        .args(["dist", "build", name, "--archive"]);
    command
        .arg("--plugins")
        .arg(&root)
        .arg("--out")
        .arg(&distribution);
    run_command(&mut command)?;
    Ok(distribution)
}
