//! Where the SDK for plugins is, and what a distribution needs to carry it along.
//!
//! In a distribution it lies in `sdk/`, laid out as in a checkout so that the crates find each
//! other and the contract: `sdk/crates/vox-plugin`, its two companions, and `sdk/wit`.

use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut};
use vox_build::Sdk;

use crate::error::Failure;
use crate::exit::Exit;

/// The crates of the SDK; an author depends on the first.
const CRATES: [&str; 3] = ["vox-plugin", "vox-plugin-macros", "vox-abi"];

/// The variable that names the directory of the crate `vox-plugin`.
pub const VARIABLE: &str = "VOX_SDK";

/// The checkout that this command was built from, if it is still there.
pub fn checkout() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .ok()?;
    is_crate(&root.join("crates/vox-plugin")).then_some(root)
}

/// The SDK for a new plugin: what `VOX_SDK` names, the one beside the executable in `bundle`, the
/// one in the checkout, or else a version for cargo to fetch.
///
/// # Errors
///
/// `VOX_SDK` names a directory that is no crate.
pub fn find(bundle: Option<&Path>) -> Result<Sdk, Failure> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        if !is_crate(&path) {
            let message = format!(
                "{VARIABLE} names {}, which holds no Cargo.toml",
                path.display()
            );
            return Err(Failure::new(Exit::NotFound, message)
                .hint("name the directory of the crate `vox-plugin`, or unset it"));
        }
        return Ok(Sdk::Path(std::path::absolute(&path).unwrap_or(path)));
    }
    let bundled = bundle.map(|bundle| bundle.join("sdk"));
    let near = bundled.into_iter().chain(checkout());
    let near = near
        .map(|root| root.join("crates").join(CRATES[0]))
        .find(|path| is_crate(path));
    Ok(match near {
        Some(path) => Sdk::Path(path),
        None => Sdk::Version(minor_version()),
    })
}

/// What a distribution takes along for plugin authors, as files or directories with their places
/// in it; nothing when no SDK is at hand. `scratch` is a directory for what has to be written.
///
/// # Errors
///
/// The checkout cannot be read, or `scratch` not be written to.
pub fn for_distribution(
    bundle: Option<&Path>,
    scratch: &Path,
) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let place = Path::new("sdk");
    if let Some(bundled) = bundle
        .map(|bundle| bundle.join("sdk"))
        .filter(|sdk| sdk.is_dir())
    {
        return Ok(vec![(bundled, place.into())]);
    }
    let Some(root) = checkout() else {
        return Ok(Vec::new());
    };
    let workspace = scratch.join("sdk.toml");
    std::fs::write(&workspace, workspace_of_sdk(&root)?)
        .map_err(|error| Failure::io("write", &workspace, &error))?;
    let mut files = vec![
        (workspace, place.join("Cargo.toml")),
        (root.join("wit"), place.join("wit")),
    ];
    for name in CRATES {
        let part = Path::new("crates").join(name);
        // Its tests belong to the checkout.
        for inside in ["Cargo.toml", "src"] {
            files.push((
                root.join(&part).join(inside),
                place.join(&part).join(inside),
            ));
        }
    }
    Ok(files)
}

/// The checkout's `Cargo.toml` with the crates of the SDK as its only members.
fn workspace_of_sdk(root: &Path) -> Result<String, Failure> {
    let file = root.join("Cargo.toml");
    let text =
        std::fs::read_to_string(&file).map_err(|error| Failure::io("read", &file, &error))?;
    let mut manifest: DocumentMut = text.parse().map_err(|error| {
        Failure::new(Exit::InvalidInput, format!("{}: {error}", file.display()))
    })?;
    let members: Array = CRATES.iter().map(|name| format!("crates/{name}")).collect();
    manifest["workspace"]["members"] = toml_edit::value(members);
    if let Some(workspace) = manifest["workspace"].as_table_mut() {
        workspace.remove("exclude");
        let dependencies = workspace
            .get_mut("dependencies")
            .and_then(toml_edit::Item::as_table_mut);
        if let Some(dependencies) = dependencies {
            dependencies
                .retain(|name, value| CRATES.contains(&name) || value.get("path").is_none());
        }
    }
    manifest.remove("profile");
    Ok(manifest.to_string())
}

fn is_crate(directory: &Path) -> bool {
    directory.join("Cargo.toml").is_file()
}

/// This version without its last number: what any SDK that fits this host satisfies.
fn minor_version() -> String {
    format!(
        "{}.{}",
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_of_the_sdk_has_its_crates_and_no_others() {
        let root = checkout().unwrap();
        let manifest: DocumentMut = workspace_of_sdk(&root).unwrap().parse().unwrap();
        let members = manifest["workspace"]["members"].as_array().unwrap();
        assert_eq!(members.len(), CRATES.len());
        let dependencies = manifest["workspace"]["dependencies"].as_table().unwrap();
        assert!(dependencies.contains_key("vox-abi"));
        assert!(!dependencies.contains_key("vox-host"));
        assert!(dependencies.contains_key("wit-bindgen"));
    }
}
