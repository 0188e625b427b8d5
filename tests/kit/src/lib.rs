//! What the tests of Vox share: real plugins, built once, and hosts over throw-away directories.
//!
//! Plugins come from the root that `VOX_TEST_PLUGINS` names (`cargo xtask test` builds it before
//! it runs the tests); without it they are built here, once a process and one process at a time,
//! which costs little when nothing has changed.

mod guest;
mod native;
mod scripts;
mod streams;
mod world;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use vox_build::{BuildOptions, Destination, Toolchain};

pub use guest::Guest;
pub use native::compile_library;
pub use scripts::component_scripts;
pub use streams::{Recorded, Recorder};
pub use world::World;

/// Root of the checkout.
pub fn checkout() -> &'static Path {
    static CHECKOUT: LazyLock<PathBuf> = LazyLock::new(|| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()
            .expect("the checkout is there")
    });
    &CHECKOUT
}

/// A root with every first-party plugin and every test plugin, each with all its payloads.
///
/// # Panics
///
/// When a plugin does not build.
pub fn plugins() -> &'static Path {
    static PLUGINS: LazyLock<PathBuf> =
        LazyLock::new(|| match std::env::var_os("VOX_TEST_PLUGINS") {
            Some(root) => root.into(),
            None => build_plugins(&checkout().join("target/vox-test/plugins")),
        });
    &PLUGINS
}

/// The directory of one built plugin.
///
/// # Panics
///
/// When there is no such plugin.
pub fn plugin(id: &str) -> PathBuf {
    let versions = std::fs::read_dir(plugins().join(id))
        .unwrap_or_else(|error| panic!("plugin {id}: {error}"));
    versions
        .flatten()
        .map(|version| version.path())
        .next()
        .unwrap_or_else(|| panic!("plugin {id} has no version"))
}

fn build_plugins(root: &Path) -> PathBuf {
    std::fs::create_dir_all(root).expect("the root can be made");
    let turn = File::create(root.with_extension("lock")).expect("the lock file can be made");
    turn.lock().expect("the lock can be had");
    let toolchain = Toolchain::find_installed(checkout()).unwrap_or_else(|error| panic!("{error}"));
    for group in ["plugins", "tests/plugins"] {
        let members = std::fs::read_dir(checkout().join(group)).expect("the plugins are there");
        for member in members
            .flatten()
            .filter(|member| member.path().join("Plugin.toml").is_file())
        {
            let mut options = BuildOptions::new(Destination::Root(root.to_owned()));
            options.quiet = true;
            options.toolchain = Some(toolchain.clone());
            vox_build::build(&member.path(), &options, &mut |_| ())
                .unwrap_or_else(|error| panic!("{}: {error}", member.path().display()));
        }
    }
    root.to_owned()
}
