//! `vox plugin grant` and `vox plugin revoke`: what a plugin may do.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vox_contract::{Capability, Grants, PluginId};
use vox_host::install::GrantStore;

use super::grants::Wanted;
use super::named::plugin_id;
use super::project;
use super::view::{Granted, listed};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{GOOD, LITERAL, WARNING, paint, plain};

/// Arguments of `vox plugin grant`.
#[derive(Debug, Args)]
#[command(
    after_help = "A capability without a scope is granted for as much as the plugin asks for; \
                        `=*` grants all of it. Grants are kept in grants.toml in Vox's data \
                        directory, and add up.\n\nWhat a project grants in its Vox.toml counts \
                        once you have looked at it and agreed, with --project, and only until it \
                        changes."
)]
pub struct GrantArgs {
    /// The plugin
    #[arg(value_parser = plugin_id, required_unless_present = "project")]
    id: Option<PluginId>,
    /// What to grant: kv, network=api.example.org, agent_spawn=3
    #[arg(required_unless_present = "project", value_name = "CAPABILITY[=SCOPE]")]
    capabilities: Vec<Wanted>,
    /// Allow what this project's Vox.toml grants
    #[arg(long, conflicts_with_all = ["id", "capabilities"])]
    project: bool,
    /// With --project: agree without being asked
    #[arg(short, long, requires = "project", conflicts_with_all = ["id", "capabilities"])]
    yes: bool,
}

/// Arguments of `vox plugin revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The plugin
    #[arg(value_parser = plugin_id, required_unless_present = "project")]
    id: Option<PluginId>,
    /// What to take away, with every scope [default: everything]
    #[arg(value_name = "CAPABILITY")]
    capabilities: Vec<Wanted>,
    /// Take back what this project's Vox.toml was allowed
    #[arg(long, conflicts_with_all = ["id", "capabilities"])]
    project: bool,
}

/// What a plugin is granted after a change.
#[derive(Debug, Serialize)]
struct GrantsView {
    plugin: PluginId,
    granted: Vec<Granted>,
    /// Capabilities that were taken away.
    revoked: Vec<Capability>,
    /// Capabilities that the distribution's own file still grants.
    kept: Vec<Kept>,
}

/// A grant that comes from elsewhere.
#[derive(Debug, Serialize)]
struct Kept {
    capability: Capability,
    file: PathBuf,
}

impl View for GrantsView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let plugin = paint(LITERAL, &self.plugin);
        if !self.revoked.is_empty() {
            writeln!(
                out,
                "{} {}",
                paint(GOOD, "taken away:"),
                listed(&self.revoked)
            )?;
        }
        for Kept { capability, file } in &self.kept {
            let warning = paint(WARNING, "warning:");
            writeln!(
                out,
                "{warning} {capability} is still granted, in {}",
                file.display()
            )?;
        }
        writeln!(
            out,
            "{plugin} is granted: {}",
            plain(&listed(&self.granted))
        )
    }
}

/// Grants capabilities to a plugin, or allows a project what it grants.
pub(super) fn grant(context: &Context, arguments: &GrantArgs) -> Result<Exit, Failure> {
    let GrantArgs {
        id: Some(id),
        capabilities,
        ..
    } = arguments
    else {
        return project::allow(context, arguments.yes);
    };
    let host = context.host()?;
    let plugin = host.inventory().versions(id).first();
    let manifest = plugin.map(|plugin| &plugin.manifest);
    match manifest {
        None => context.output.note(format_args!(
            "note: {id} is not installed; this holds when it is"
        )),
        Some(manifest) => {
            for wanted in capabilities
                .iter()
                .filter(|wanted| manifest.request(wanted.capability()).is_none())
            {
                context.output.note(format_args!(
                    "note: {id} does not ask for {}",
                    wanted.capability()
                ));
            }
        }
    }
    let store = GrantStore::open(&context.directories);
    store.grant(id, capabilities.iter().map(|wanted| wanted.grant(manifest)))?;
    show(context, &store, id, Vec::new(), Vec::new())
}

/// Takes capabilities away from a plugin, or what a project was allowed.
pub(super) fn revoke(context: &Context, arguments: &RevokeArgs) -> Result<Exit, Failure> {
    let RevokeArgs {
        id: Some(id),
        capabilities,
        ..
    } = arguments
    else {
        return project::forget(context);
    };
    let capabilities: Vec<Capability> = capabilities.iter().map(Wanted::capability).collect();
    let store = GrantStore::open(&context.directories);
    let changed = store.revoke(id, &capabilities)?;
    if changed.revoked.is_empty() && changed.kept.is_empty() {
        context
            .output
            .note(format_args!("note: nothing of that was granted to {id}"));
    }
    let kept = changed
        .kept
        .into_iter()
        .map(|(capability, file)| Kept { capability, file })
        .collect();
    show(context, &store, id, changed.revoked, kept)
}

fn show(
    context: &Context,
    store: &GrantStore,
    id: &PluginId,
    revoked: Vec<Capability>,
    kept: Vec<Kept>,
) -> Result<Exit, Failure> {
    let file = store.load()?;
    let granted = Granted::all(file.of(id).unwrap_or(&Grants::none()));
    context.output.show(&GrantsView {
        plugin: id.clone(),
        granted,
        revoked,
        kept,
    })?;
    Ok(Exit::Success)
}
