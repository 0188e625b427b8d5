//! The component carrier: a core module from cargo, wrapped as a component.

use std::fs;
use std::path::{Path, PathBuf};

use vox_contract::Carrier;
use wit_component::ComponentEncoder;

use crate::cargo::Project;
use crate::{BuildError, BuildOptions, Toolchain};

/// Builds the package's component; answers where it is.
///
/// Components are always built for release: unoptimised guest code is many times larger and slower,
/// and a debugger of the host does not see into it anyway. Guests have target and build directories
/// of their own beside the host's, as two compilers that share one would undo each other's work.
pub(crate) fn build(
    project: &Project,
    toolchain: &Toolchain,
    options: &BuildOptions,
) -> Result<PathBuf, BuildError> {
    let target_dir = project.target_dir.join("guest");
    let mut command = project.build_command();
    command
        .arg("--release")
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("CARGO_BUILD_BUILD_DIR", project.build_dir.join("guest"));
    toolchain.configure(&mut command);
    options.configure(&mut command);
    let module = project.run(command, Carrier::Component, "wasm", options.quiet)?;

    let core = fs::read(&module).map_err(BuildError::io("read", &module))?;
    let component = componentize(&core, &module)?;
    let directory = target_dir.join("components");
    fs::create_dir_all(&directory).map_err(BuildError::io("create", &directory))?;
    let path = directory.join(&project.name).with_extension("wasm");
    fs::write(&path, component).map_err(BuildError::io("write", &path))?;
    Ok(path)
}

/// Wraps a core module as a component, whose imports and exports are those that the SDK recorded in
/// the module. The component is validated. `module` is where the bytes came from, for the error.
///
/// # Errors
/// [`BuildError::Component`]: the bytes are no core module, or one that imports what no interface
/// declares.
pub fn componentize(core: &[u8], module: &Path) -> Result<Vec<u8>, BuildError> {
    let mut encoder = ComponentEncoder::default();
    encoder
        .validate(true)
        .module(core)
        .and_then(ComponentEncoder::encode)
        .map_err(|error| BuildError::Component {
            module: module.into(),
            // With all its causes: the first alone says little.
            detail: format!("{error:#}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a core module with nothing in it.
    const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn a_core_module_becomes_a_component() {
        let component = componentize(EMPTY_MODULE, Path::new("empty.wasm")).unwrap();
        assert!(wasmparser::Parser::is_component(&component));
    }

    #[test]
    fn what_is_no_core_module_is_refused_by_name() {
        let component = componentize(EMPTY_MODULE, Path::new("empty.wasm")).unwrap();
        for bytes in [&b"ELF"[..], &component] {
            let error = componentize(bytes, Path::new("odd.wasm")).unwrap_err();
            assert!(
                error.to_string().starts_with("odd.wasm cannot be made"),
                "{error}"
            );
        }
    }

    /// A module that imports function `now` of `env`, which no interface declares.
    #[test]
    fn an_import_that_no_interface_declares_is_named() {
        let types = b"\x01\x04\x01\x60\0\0";
        let imports = b"\x02\x0b\x01\x03env\x03now\0\0";
        let module = [EMPTY_MODULE, types, imports].concat();
        let message = componentize(&module, Path::new("odd.wasm"))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("env") && message.contains("now"),
            "{message}"
        );
    }
}
