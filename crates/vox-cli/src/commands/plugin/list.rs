//! `vox plugin list`: reads manifests, and nothing else.

use std::io::{self, Write};

use serde::Serialize;
use vox_host::inventory::Severity;

use super::view::{PluginLine, listed};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, LITERAL, paint};
use crate::output::table::{Cell, Table};
use crate::output::{View, count};

/// Every version of every plugin that can be used, by id, the highest version of each first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct List(Vec<PluginLine>);

impl View for List {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.0.is_empty() {
            let command = paint(LITERAL, "vox plugin search");
            return writeln!(
                out,
                "no plugins are installed; {command} shows what there is"
            );
        }
        let mut table = Table::new([
            "ID",
            "VERSION",
            "FROM",
            "PAYLOADS",
            "PROVIDES",
            "DESCRIPTION",
        ]);
        for plugin in &self.0 {
            let note = if plugin.serves { "" } else { " (not used)" };
            table.row([
                Cell::styled(LITERAL, &plugin.id),
                format!("{}{note}", plugin.version).into(),
                plugin.root.into(),
                listed(&plugin.payloads).into(),
                listed(&plugin.provides).into(),
                Cell::styled(DIM, &plugin.description),
            ]);
        }
        write!(out, "{table}")
    }
}

pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    let host = context.host()?;
    let serves = |plugin: &vox_host::inventory::Installed| {
        let selected = host.selection().get(plugin.id());
        selected.is_some_and(|selected| selected.directory == plugin.directory)
    };
    let found = host.inventory().found().iter();
    context.output.show(&List(
        found
            .map(|plugin| PluginLine::new(plugin, serves(plugin)))
            .collect(),
    ))?;
    let findings = host
        .findings()
        .iter()
        .filter(|finding| finding.severity() > Severity::Note)
        .count();
    if findings > 0 {
        let command = paint(LITERAL, "vox plugin doctor");
        context.output.note(format_args!(
            "{} about the plugins here; {command} lists them",
            count(findings, "finding")
        ));
    }
    Ok(Exit::Success)
}
