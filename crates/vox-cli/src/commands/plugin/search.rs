//! `vox plugin search`: plugins in the catalogue, or skills of installed plugins.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use semver::Version;
use serde::Serialize;
use vox_contract::{CatalogPlugin, PluginId, Skill};
use vox_host::skills;

use super::view::listed;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{DIM, GOOD, LITERAL, paint, plain};
use crate::output::table::{Cell, Table};

/// Arguments of `vox plugin search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Words that all must fit; all there is without them
    words: Vec<String>,
    /// Look through the skills of the installed plugins instead
    #[arg(long)]
    skills: bool,
}

/// Plugins of the catalogue, the best first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Plugins<'a>(Vec<Found<'a>>);

/// A plugin of the catalogue.
#[derive(Debug, Serialize)]
struct Found<'a> {
    /// What the catalogue says; the keys are those of catalog.toml.
    #[serde(flatten)]
    listed: &'a CatalogPlugin,
    /// The version that is used here; null when there is none.
    installed: Option<Version>,
}

impl View for Plugins<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.is_empty() {
            return writeln!(out, "the catalogue lists no such plugin");
        }
        let mut table = Table::new(["ID", "INSTALLED", "PAYLOADS", "PROVIDES", "DESCRIPTION"]);
        for Found {
            listed: plugin,
            installed,
        } in &self.0
        {
            table.row([
                Cell::styled(LITERAL, &plugin.id),
                Cell::styled(
                    GOOD,
                    installed
                        .as_ref()
                        .map(Version::to_string)
                        .unwrap_or_default(),
                ),
                listed(&plugin.payloads).into(),
                listed(&plugin.extension_points).into(),
                Cell::styled(DIM, &plugin.description),
            ]);
        }
        write!(out, "{table}")
    }
}

/// Skills of installed plugins, the best first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Skills<'a>(Vec<FoundSkill<'a>>);

/// A skill of an installed plugin.
#[derive(Debug, Serialize)]
struct FoundSkill<'a> {
    plugin: &'a PluginId,
    version: &'a Version,
    path: &'a PathBuf,
    /// The name, description, tools and text of the skill.
    #[serde(flatten)]
    skill: &'a Skill,
}

impl View for Skills<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.is_empty() {
            return writeln!(out, "no installed plugin brings such a skill");
        }
        for FoundSkill {
            plugin,
            version,
            path,
            skill,
        } in &self.0
        {
            let from = format!("{plugin} {version}, {}", path.display());
            writeln!(out, "{} {}", paint(LITERAL, &skill.name), paint(DIM, from))?;
            writeln!(out, "  {}", plain(&skill.description))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &SearchArgs) -> Result<Exit, Failure> {
    let words = arguments.words.join(" ");
    let host = context.host()?;
    if arguments.skills {
        let (entries, _) = skills::skills(host.selection());
        let found = skills::search(&entries, &words)
            .into_iter()
            .map(|entry| FoundSkill {
                plugin: &entry.plugin,
                version: &entry.version,
                path: &entry.path,
                skill: &entry.skill,
            });
        context.output.show(&Skills(found.collect()))?;
    } else {
        let catalogue = context.catalogue()?;
        let found = catalogue
            .catalog
            .search(&words)
            .into_iter()
            .map(|listed| Found {
                listed,
                installed: host
                    .selection()
                    .get(&listed.id)
                    .map(|plugin| plugin.version().clone()),
            });
        context.output.show(&Plugins(found.collect()))?;
    }
    Ok(Exit::Success)
}
