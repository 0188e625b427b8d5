//! `cargo xtask arch-check`: the crates' dependencies against the layers in ARCHITECTURE.md, and the files with unsafe
//! code against its list of them.
//!
//! Both are read from that page, so that they are written once.

mod layers;
mod rules;
mod unsafe_code;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use self::rules::Member;
use crate::workspace::{Workspace, announce, entries, read};

/// Checks every edge between members of the workspace, the rules on crates from elsewhere, and where unsafe code
/// stands.
pub fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let page = read(&workspace.root.join("ARCHITECTURE.md"))?;
    check_dependencies(workspace, &page)?;
    check_unsafe_code(workspace, &page)
}

fn check_dependencies(workspace: &Workspace, page: &str) -> anyhow::Result<()> {
    let layers = layers::parse(page)?;
    let members = members(workspace)?;
    let wrong = rules::check(&members, &layers);
    if !wrong.is_empty() {
        bail!(
            "the dependencies are not those of ARCHITECTURE.md:\n{}\n\
             mend the Cargo.toml that is named, or, where the design changed, ARCHITECTURE.md",
            list(&wrong)
        );
    }
    announce(format_args!(
        "{} crates in {} layers: every dependency is allowed",
        members.len(),
        layers.len()
    ));
    Ok(())
}

fn check_unsafe_code(workspace: &Workspace, page: &str) -> anyhow::Result<()> {
    let places = unsafe_code::parse(page)?;
    let mut sources = Vec::new();
    sources_in(&workspace.root, &mut sources)?;
    let mut files = Vec::new();
    for source in sources {
        if unsafe_code::is_in(&read(&source)?) {
            files.push(workspace.name(&source).to_string().replace('\\', "/"));
        }
    }
    let wrong = unsafe_code::check(&files, &places);
    if !wrong.is_empty() {
        bail!(
            "unsafe code does not stand where ARCHITECTURE.md says:\n{}",
            list(&wrong)
        );
    }
    announce(format_args!(
        "{} files with unsafe code: all are of tests, or at one of {} places",
        files.len(),
        places.len()
    ));
    Ok(())
}

/// A line for each.
fn list(wrong: &[impl std::fmt::Display]) -> String {
    let lines: Vec<String> = wrong.iter().map(|wrong| format!("  - {wrong}")).collect();
    lines.join("\n")
}

/// Adds every Rust source below a directory, but for hidden ones and what cargo made.
fn sources_in(directory: &Path, sources: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in entries(directory)? {
        let name = entry.file_name().unwrap_or_default();
        if name == "target" || name.as_encoded_bytes().starts_with(b".") || entry.is_symlink() {
            continue;
        }
        if entry.is_dir() {
            sources_in(&entry, sources)?;
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            sources.push(entry);
        }
    }
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
