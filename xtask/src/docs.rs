//! `cargo xtask docs`: the reference pages, generated from what they describe, and the book.
//!
//! | page | made from |
//! |---|---|
//! | `contract.md` | `wit/` and the native ABI's version |
//! | `plugin-manifest.md`, `settings.md` | the JSON Schemas of `vox-contract` |
//! | `capabilities.md` | `vox-contract` |
//! | `catalog.md` | `catalog.toml` |
//! | `limits.md` | the constants that set them |
//! | `cli.md`, `exit-codes.md`, `pipeline.md`, `train-toml.md` | `vox`, built for development |
//!
//! Eight pages of the reference are written by hand: `signature.md`, `hooks.md`, `plugin-states.md`, which a
//! test of `vox-host` compares with the host's own table, `op-log.md`, `bundles.md`, `models-toml.md`,
//! `run-events.md` and `server.md`, whose defaults a test of `vox-serve` compares with the server's own.
//!
//! What must stay true: a page depends on the checkout alone, so that the check means the same on
//! every machine.

mod catalog;
mod cli;
mod contract;
mod limits;
mod schema;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

pub use self::contract::exported_interfaces;

use crate::links;
use crate::workspace::{
    Workspace, announce, entries, read, run as run_command, write as write_file,
};

/// The pages in the reference that are written by hand: they describe formats and conduct that no
/// schema does.
const WRITTEN_PAGES: [&str; 8] = [
    "signature.md",
    "hooks.md",
    "plugin-states.md",
    "op-log.md",
    "bundles.md",
    "models-toml.md",
    "run-events.md",
    "server.md",
];

/// A page in the reference.
struct Page {
    /// Its file name.
    file: &'static str,
    /// What it is made from, for the note at its top.
    source: &'static str,
    /// Its text, which begins with a heading.
    text: String,
}

impl Page {
    /// The file's text: the page below a note that it is generated.
    fn contents(&self) -> String {
        let source = self.source;
        let text = self.text.trim_end();
        format!(
            "<!-- Generated from {source} by `cargo xtask docs`: change that, not this. -->\n\n{text}\n"
        )
    }
}

/// Writes every generated page; those that need no `vox` first, so that they are there also while
/// it does not compile.
pub fn write(workspace: &Workspace) -> anyhow::Result<()> {
    let write_all = |pages: &[Page]| {
        let place = |page: &Page| reference(workspace).join(page.file);
        pages
            .iter()
            .try_for_each(|page| write_file(&place(page), &page.contents()))
    };
    write_all(&pages_of_sources(workspace)?)?;
    let vox = workspace.build_program("vox", false)?;
    write_all(&cli::pages(workspace, &vox)?)?;
    announce(format_args!(
        "The pages are in {}",
        workspace.name(&reference(workspace))
    ));
    Ok(())
}

/// Fails when a generated page is not what would be generated, or when there is another page
/// beside them.
pub fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let vox = workspace.build_program("vox", false)?;
    let mut pages = pages_of_sources(workspace)?;
    pages.extend(cli::pages(workspace, &vox)?);
    compare(workspace, &pages)?;
    for file in entries(&reference(workspace))? {
        let is_known = |name: &str| file.ends_with(name);
        if !pages.iter().any(|page| is_known(page.file)) && !WRITTEN_PAGES.into_iter().any(is_known)
        {
            bail!(
                "{} is not generated: move it or remove it",
                workspace.name(&file)
            );
        }
    }
    Ok(())
}

/// Like [`check`], for the pages that can be generated without building Vox.
pub fn check_pages_of_sources(workspace: &Workspace) -> anyhow::Result<()> {
    compare(workspace, &pages_of_sources(workspace)?)
}

fn compare(workspace: &Workspace, pages: &[Page]) -> anyhow::Result<()> {
    let differs = |page: &&Page| {
        let file = reference(workspace).join(page.file);
        !file.is_file() || read(&file).is_ok_and(|text| text != page.contents())
    };
    let stale: Vec<&str> = pages.iter().filter(differs).map(|page| page.file).collect();
    if !stale.is_empty() {
        bail!(
            "no longer what they describe, in {}: {}; mend with `cargo xtask docs`",
            workspace.name(&reference(workspace)),
            stale.join(", ")
        );
    }
    Ok(())
}

fn pages_of_sources(workspace: &Workspace) -> anyhow::Result<Vec<Page>> {
    Ok(vec![
        contract::page(workspace)?,
        schema::plugin_manifest(),
        schema::settings(),
        catalog::capabilities(),
        catalog::page(workspace)?,
        limits::page(workspace)?,
    ])
}

/// Checks that the book's summary lists every page, and that no page of the book or beside it has
/// a link that leads nowhere or includes what is not there.
pub fn check_links(workspace: &Workspace) -> anyhow::Result<()> {
    let book = workspace.root.join("docs/src");
    let mut pages = Vec::new();
    markdown_in(&book, &mut pages)?;
    let summary = links::Page::parse(&read(&book.join("SUMMARY.md"))?);
    let mut wrong: Vec<String> = pages
        .iter()
        .filter_map(|page| page.strip_prefix(&book).ok())
        .map(|page| page.to_string_lossy().replace('\\', "/"))
        .filter(|page| page != "SUMMARY.md" && !summary.links.iter().any(|(_, link)| link == page))
        .map(|page| format!("docs/src/SUMMARY.md: does not list {page}"))
        .collect();
    pages.extend(
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|page| workspace.root.join(page)),
    );
    wrong.extend(links::broken(&pages, &workspace.root)?);
    if !wrong.is_empty() {
        bail!(
            "links that lead nowhere, mend them by hand:\n  {}",
            wrong.join("\n  ")
        );
    }
    Ok(())
}

/// Builds the book, where mdBook is installed.
pub fn book(workspace: &Workspace) -> anyhow::Result<()> {
    check_links(workspace)?;
    let mut command = std::process::Command::new("mdbook");
    let out = workspace.target.join("book");
    command
        .arg("build")
        .arg(workspace.root.join("docs"))
        .arg("--dest-dir")
        .arg(&out);
    run_command(&mut command).context("the book needs mdBook: `cargo install mdbook`")?;
    announce(format_args!(
        "The book begins at {}",
        workspace.name(&out.join("index.html"))
    ));
    Ok(())
}

fn reference(workspace: &Workspace) -> PathBuf {
    workspace.root.join("docs/src/reference")
}

/// Adds every Markdown file below a directory.
fn markdown_in(directory: &Path, pages: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in entries(directory)? {
        if entry.is_dir() {
            markdown_in(&entry, pages)?;
        } else if entry.extension().is_some_and(|extension| extension == "md") {
            pages.push(entry);
        }
    }
    Ok(())
}

/// Text on one line, fit for a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// Names as code, joined by commas.
fn code_list(names: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    names
        .into_iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
