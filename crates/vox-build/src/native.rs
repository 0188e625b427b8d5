//! The native carrier: a dynamic library for this machine, straight from cargo.

use std::env::consts::DLL_EXTENSION;
use std::path::PathBuf;

use vox_contract::Carrier;

use crate::cargo::Project;
use crate::{BuildError, BuildOptions, Profile};

/// Builds the package's native library in the directories that cargo uses anyway, so that what the
/// user compiled before is used again; answers where the library is.
pub(crate) fn build(project: &Project, options: &BuildOptions) -> Result<PathBuf, BuildError> {
    let mut command = project.build_command();
    command
        .env("CARGO_TARGET_DIR", &project.target_dir)
        .env("CARGO_BUILD_BUILD_DIR", &project.build_dir);
    if options.profile == Profile::Release {
        command.arg("--release");
    }
    options.configure(&mut command);
    project.run(command, Carrier::Native, DLL_EXTENSION, options.quiet)
}
