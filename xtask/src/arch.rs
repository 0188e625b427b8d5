//! `cargo xtask arch-check`: the crates' dependencies against the layers in ARCHITECTURE.md.
//!
//! The order of the layers is read from that page, so that it is written once.

mod layers;
mod rules;

use anyhow::{Context, bail};

use self::rules::Member;
use crate::workspace::{Workspace, announce, read};

/// Checks every edge between members of the workspace, and the rules on crates from elsewhere.
pub fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let layers = layers::parse(&read(&workspace.root.join("ARCHITECTURE.md"))?)?;
    let members = members(workspace)?;
    let wrong = rules::check(&members, &layers);
    if !wrong.is_empty() {
        let list: Vec<String> = wrong.iter().map(|wrong| format!("  - {wrong}")).collect();
        bail!(
            "the dependencies are not those of ARCHITECTURE.md:\n{}\n\
             mend the Cargo.toml that is named, or, where the design changed, ARCHITECTURE.md",
            list.join("\n")
        );
    }
    announce(format_args!(
        "{} crates in {} layers: every dependency is allowed",
        members.len(),
        layers.len()
    ));
    Ok(())
}

/// The members of the workspace with what they depend on directly.
fn members(workspace: &Workspace) -> anyhow::Result<Vec<Member>> {
    workspace
        .metadata
        .packages
        .iter()
        .map(|package| {
            let directory = package
                .manifest_path
                .parent()
                .context("a package without a directory")?;
            let directory = directory.strip_prefix(&workspace.metadata.workspace_root)?;
            Ok(Member {
                name: package.name.to_string(),
                directory: directory.to_string().replace('\\', "/"),
                dependencies: package
                    .dependencies
                    .iter()
                    .map(|dependency| rules::Dependency {
                        name: dependency.name.clone(),
                        for_tests: dependency.kind == cargo_metadata::DependencyKind::Development,
                    })
                    .collect(),
            })
        })
        .collect()
}
