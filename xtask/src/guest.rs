//! The guest toolchain: found, or set up where this program may.

use anyhow::Context;
use vox_build::{BuildError, Event, Toolchain};

use crate::workspace::{Workspace, announce};

/// Finds a compiler for components, and installs one where there is none and it can be had:
/// through `rustup`, or, for root on Debian and its like, with `apt-get`.
pub fn ensure(workspace: &Workspace) -> anyhow::Result<Toolchain> {
    let found = Toolchain::find(&workspace.root, &mut |event| {
        if matches!(event, Event::AddingTarget) {
            announce(format_args!(
                "No compiler for components here: `rustup target add {}`",
                vox_build::TARGET
            ));
        }
    });
    let toolchain = match found {
        Err(missing @ BuildError::NoGuestToolchain { .. }) => {
            announce("Still none: installing Debian's with apt-get");
            // Which of the two is to be mended is told by the first error: it lists both ways.
            if let Err(refused) = vox_build::install_debian_packages() {
                eprintln!("{refused}");
                return Err(missing.into());
            }
            Toolchain::find_installed(&workspace.root)
                .context("the packages are installed and make no guest toolchain")?
        }
        found => found?,
    };
    announce(format_args!(
        "Components are compiled by {}",
        toolchain.describe()
    ));
    Ok(toolchain)
}
