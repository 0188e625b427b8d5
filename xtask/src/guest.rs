//! The guest toolchain: found, or set up where this program may.

use anyhow::Context;
use vox_build::{BuildError, Event, Toolchain};

use crate::workspace::{Workspace, announce};

/// Finds a compiler for components, and installs one where there is none and it can be had: for
/// root on Debian and its like with `apt-get`, which is what the project's own machines have, and
/// elsewhere through `rustup`.
pub fn ensure(workspace: &Workspace) -> anyhow::Result<Toolchain> {
    let mut found = Toolchain::find_installed(&workspace.root);
    if matches!(found, Err(BuildError::NoGuestToolchain { .. })) {
        announce("No compiler for components here: installing Debian's with apt-get");
        found = match vox_build::install_debian_packages() {
            Ok(()) => Ok(Toolchain::find_installed(&workspace.root)
                .context("the packages are installed and make no guest toolchain")?),
            Err(refused) => {
                eprintln!("{refused}");
                Toolchain::find(&workspace.root, &mut |event| {
                    if matches!(event, Event::AddingTarget) {
                        announce(format_args!("`rustup target add {}`", vox_build::TARGET));
                    }
                })
            }
        };
    }
    let toolchain = found?;
    announce(format_args!(
        "Components are compiled by {}",
        toolchain.describe()
    ));
    Ok(toolchain)
}
