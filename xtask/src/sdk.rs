//! The SDK as a distribution carries it: the sources that a plugin's crate depends on, in a
//! workspace of their own.
//!
//! ```text
//! sdk/Cargo.toml                 what the crates inherit, cut down to what they use
//! sdk/Cargo.lock                 the versions that Vox was tested with
//! sdk/wit/                       the contract, also for other languages
//! sdk/crates/vox-plugin/         what a plugin depends on
//! sdk/crates/vox-plugin-macros/
//! sdk/crates/vox-abi/
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;
use toml::{Table, Value};

use crate::workspace::{Workspace, announce, copy_directory, read, run, write};

/// The crates of the SDK.
const CRATES: &[&str] = &["vox-abi", "vox-plugin", "vox-plugin-macros"];

/// Lays the SDK out in `directory`, in place of what is there.
pub fn lay_out(workspace: &Workspace, directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    copy_directory(&workspace.root.join("wit"), &directory.join("wit"))?;
    let mut manifests = Vec::new();
    for name in CRATES {
        let (from, to) = (
            workspace.root.join("crates").join(name),
            directory.join("crates").join(name),
        );
        copy_directory(&from.join("src"), &to.join("src"))?;
        let manifest = read(&from.join("Cargo.toml"))?;
        write(&to.join("Cargo.toml"), &manifest)?;
        manifests.push(manifest);
    }
    let root = read(&workspace.root.join("Cargo.toml"))?;
    write(
        &directory.join("Cargo.toml"),
        &workspace_manifest(&root, &manifests)?,
    )?;
    write(
        &directory.join("Cargo.lock"),
        &read(&workspace.root.join("Cargo.lock"))?,
    )
}

/// Checks that the SDK compiles where there is nothing else of Vox.
pub fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let directory = workspace.target.join("vox-sdk");
    lay_out(workspace, &directory)?;
    let mut command = workspace.cargo(["check", "--lib", "--manifest-path"]);
    command.arg(directory.join("crates/vox-plugin/Cargo.toml"));
    run(&mut command).context("the SDK does not compile outside of the checkout")?;
    announce("The SDK compiles on its own");
    Ok(())
}

/// A workspace manifest from which these crates inherit what they inherit from `root`.
fn workspace_manifest(root: &str, crates: &[String]) -> anyhow::Result<String> {
    let mut root: Table = root.parse().context("the workspace's Cargo.toml")?;
    let mut workspace = match root.remove("workspace") {
        Some(Value::Table(workspace)) => workspace,
        _ => Table::new(),
    };
    let mut inherited = BTreeSet::new();
    for manifest in crates {
        let manifest: Table = manifest.parse().context("a crate's Cargo.toml")?;
        for section in ["dependencies", "build-dependencies"] {
            let dependencies = manifest
                .get(section)
                .and_then(Value::as_table)
                .into_iter()
                .flatten();
            inherited.extend(dependencies.map(|(name, _)| name.clone()));
        }
    }
    if let Some(Value::Table(dependencies)) = workspace.get_mut("dependencies") {
        dependencies.retain(|name, _| inherited.contains(name));
    }
    workspace.remove("exclude");
    workspace.insert("members".into(), vec!["crates/*".to_owned()].into());
    let table = Table::from_iter([("workspace".to_owned(), Value::Table(workspace))]);
    Ok(toml::to_string(&table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_cut_down_to_what_the_crates_inherit() {
        let root = "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\"]\nexclude = [\"c\"]\n\
            [workspace.package]\nedition = \"2024\"\n[workspace.dependencies]\nserde = \"1\"\nheavy = \"2\"\n\
            [workspace.lints.rust]\nmissing_docs = \"warn\"\n[profile.dev]\nopt-level = 1\n";
        let manifest =
            "[package]\nedition.workspace = true\n[dependencies]\nserde.workspace = true\n";
        let text = workspace_manifest(root, &[manifest.to_owned()]).unwrap();
        let table: Table = text.parse().unwrap();
        let workspace = table["workspace"].as_table().unwrap();
        assert_eq!(table.len(), 1, "{text}");
        assert_eq!(workspace["members"], vec!["crates/*".to_owned()].into());
        assert_eq!(workspace["package"]["edition"].as_str(), Some("2024"));
        assert_eq!(
            workspace["dependencies"].as_table().unwrap().len(),
            1,
            "{text}"
        );
        assert!(
            workspace.contains_key("lints") && !workspace.contains_key("exclude"),
            "{text}"
        );
    }
}
