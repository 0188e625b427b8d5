//! `cargo xtask dist`: a distribution, made by the host that goes into it.

use std::path::{Path, PathBuf};
use std::process::Command;

use vox_build::Profile;
use vox_contract::Catalog;

use crate::guest;
use crate::plugins::{FIRST_PARTY, build, plugins_in};
use crate::workspace::{Workspace, announce, run as run_command};

/// A distribution that is to be laid out.
pub struct Distribution<'a> {
    /// Its name in the catalogue.
    pub name: &'a str,
    /// How the host and the native libraries are compiled.
    pub profile: Profile,
    /// Whether it is packed too, beside its directory.
    pub archive: bool,
}

/// Builds the distribution of that name in `target/dist`, and its archive beside it.
pub fn run(workspace: &Workspace, name: &str, release: bool) -> anyhow::Result<()> {
    let distribution = Distribution {
        name,
        profile: if release {
            Profile::Release
        } else {
            Profile::Dev
        },
        archive: true,
    };
    let directory = lay_out(workspace, &distribution, &workspace.target.join("dist"))?;
    announce(format_args!("{name} is in {}", workspace.name(&directory)));
    Ok(())
}

/// Builds the host and the plugins of a distribution, sets up the guest toolchain for that where it
/// is missing, and lays the distribution out in `<out>/<name>`; answers that directory.
pub fn lay_out(
    workspace: &Workspace,
    distribution: &Distribution<'_>,
    out: &Path,
) -> anyhow::Result<PathBuf> {
    let Distribution {
        name,
        profile,
        archive,
    } = *distribution;
    let catalog = Catalog::load(&workspace.root.join("catalog.toml"))?;
    let wanted = catalog.distribution(name)?;
    let mut plugins = plugins_in(workspace, FIRST_PARTY)?;
    plugins.retain(|plugin| wanted.iter().any(|wanted| wanted.id == plugin.manifest.id));

    let toolchain = guest::ensure(workspace)?;
    announce("Building the host");
    let vox = workspace.build_program("vox", profile == Profile::Release)?;
    let root = out.join("plugins");
    build(workspace, &plugins, &toolchain, profile, &root)?;

    announce(format_args!("Laying out the distribution {name}"));
    let directory = out.join(name);
    let mut command = Command::new(vox);
    command
        .current_dir(&workspace.root)
        .args(["dist", "build", name]);
    command
        .arg("--plugins")
        .arg(&root)
        .arg("--out")
        .arg(&directory);
    if archive {
        command.arg("--archive");
    }
    run_command(&mut command)?;
    Ok(directory)
}
