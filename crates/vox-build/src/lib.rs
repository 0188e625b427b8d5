//! Makes the payloads of a plugin from its crate, and packages them.
//!
//! One crate goes in; out come a component, a native library for this machine, or both, in a
//! directory that a host can find the plugin in. `vox plugin build` and the project's own automation
//! both do it through [`build`].
//!
//! | step | does |
//! |---|---|
//! | [`Toolchain::find`] | finds a compiler for WebAssembly, or says what to install |
//! | [`build`] | runs cargo for each carrier, wraps the core module as a component, packages |
//! | [`package`] | puts `Plugin.toml` and the payloads that it names into place, whole or not at all |
//! | [`archive`] | makes one file of a package, the same bytes for the same contents |
//! | [`scaffold`](fn@scaffold) | writes a new plugin's crate |
//!
//! What must stay true: this crate knows the plugin's manifest and cargo, and nothing of the host
//! or the SDK; a component that it hands out is valid; and it changes nothing on the machine beside
//! the directories that it is given, except that [`Toolchain::find`] may ask `rustup` for a target
//! and [`install_debian_packages`] does what it says.

mod archive;
mod build;
mod cargo;
mod component;
mod debian;
mod error;
mod native;
mod package;
mod scaffold;
mod toolchain;

pub use archive::{ARCHIVE_EXTENSION, archive};
pub use build::{BuildOptions, Built, Destination, Event, Profile, build};
pub use component::componentize;
pub use debian::install_debian_packages;
pub use error::BuildError;
pub use package::{Package, directory_in_root, package};
pub use scaffold::{NewPlugin, Sdk, Template, scaffold};
pub use toolchain::{PassedOver, Source, TARGET, Toolchain};
