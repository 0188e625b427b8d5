//! `vox plugin install`: shows what a plugin asks for, asks, and installs it.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use semver::Version;
use serde::Serialize;
use vox_contract::{Carrier, Grant, Grants, Manifest, PluginId};
use vox_host::install::{Decision, GrantStore, InstallError, Installer, Outcome, Proposal};
use vox_host::signing::Standing;

use super::grants::{self, Granting, NATIVE_IS_TRUSTED, Request};
use super::named::{self, Named};
use super::view::{Granted, listed};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, GOOD, LITERAL, WARNING, paint, plain};
use crate::output::{Output, View};

/// Arguments of `vox plugin install`.
#[derive(Debug, Args)]
#[command(
    after_help = "A capability is written as its name, for as much as the plugin asks for, or \
                        with a scope:\nnetwork=api.example.org. On a terminal you are asked; \
                        elsewhere --grant or --yes says what is granted."
)]
pub struct InstallArgs {
    /// A plugin's directory (./redact), an archive (redact.vox), or an id from the catalogue (redact)
    #[arg(value_name = "PATH|ID")]
    source: String,
    /// What to grant: `all`, `none`, or capabilities separated by commas
    #[arg(long, value_delimiter = ',', value_name = "CAPABILITIES")]
    grant: Vec<Granting>,
    /// Agree to all that it asks for, unless --grant says otherwise
    #[arg(short, long)]
    yes: bool,
    /// Replace the same version when it is there with other files
    #[arg(long)]
    force: bool,
    /// Trust it by its name, whoever signed it: its native code may run, and it may have whatever
    /// it is granted
    #[arg(long)]
    allow_native: bool,
    /// Install a signed plugin in a lower version than the highest that was installed
    #[arg(long)]
    allow_downgrade: bool,
}

/// What was installed.
#[derive(Debug, Serialize)]
struct Receipt {
    id: PluginId,
    version: Version,
    directory: PathBuf,
    /// `installed`, `replaced` or `unchanged`.
    outcome: &'static str,
    /// All that the plugin is granted now.
    granted: Vec<Granted>,
    /// How far it is trusted: `trusted`, `allowed-by-name`, `pinned` or `unsigned`.
    standing: &'static str,
    #[serde(skip)]
    said: Option<String>,
    /// Payloads that the manifest names and that did not come with it.
    missing: Vec<PathBuf>,
}

impl View for Receipt {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            id,
            version,
            directory,
            outcome,
            ..
        } = self;
        let done = if *outcome == "unchanged" {
            "already there:"
        } else {
            outcome
        };
        writeln!(
            out,
            "{} {} {version} in {}",
            paint(GOOD, done),
            paint(LITERAL, id),
            directory.display()
        )?;
        writeln!(out, "  granted: {}", plain(&listed(&self.granted)))?;
        if let Some(said) = &self.said {
            writeln!(out, "  trust: {}", plain(said))?;
        }
        for file in &self.missing {
            writeln!(
                out,
                "  {}",
                paint(DIM, format!("without {}", file.display()))
            )?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &InstallArgs) -> Result<Exit, Failure> {
    let source = match Named::new(&arguments.source) {
        Named::Path(path) => named::usable(&path)?,
        Named::Id(id) => from_catalogue(context, &id)?,
    };
    let store = GrantStore::open(&context.directories);
    let grants_before = store.load()?;
    let mut cannot_ask = None;
    let installer = Installer::new(&context.directories)
        .replace(arguments.force)
        .allow_downgrade(arguments.allow_downgrade);
    let result = installer.install(&source, |proposal| {
        let had = grants_before.of(&proposal.manifest.id);
        let had = had.cloned().unwrap_or_default();
        decide(context.output, arguments, proposal, &had).unwrap_or_else(|failure| {
            cannot_ask = Some(failure);
            Decision::Refuse
        })
    });
    let receipt = match (result, cannot_ask) {
        (Err(InstallError::Refused { .. }), Some(failure)) => return Err(failure),
        (result, _) => result?,
    };
    let id = receipt.manifest.id;
    let granted = store.load()?.of(&id).map(Granted::all).unwrap_or_default();
    let standing = receipt.standing;
    warn_of_untrusted(context.output, &id, &granted, &standing);
    context.output.show(&Receipt {
        id,
        version: receipt.manifest.version,
        directory: receipt.directory,
        outcome: match receipt.outcome {
            Outcome::Installed => "installed",
            Outcome::Replaced => "replaced",
            Outcome::Unchanged => "unchanged",
        },
        granted,
        standing: standing.name(),
        said: (standing != Standing::Unsigned).then(|| standing.to_string()),
        missing: receipt.missing,
    })?;
    Ok(Exit::Success)
}

/// Shows what the plugin asks for, and finds out what the user says to it.
fn decide(
    output: Output,
    arguments: &InstallArgs,
    proposal: &Proposal<'_>,
    had: &Grants,
) -> Result<Decision, Failure> {
    let manifest = proposal.manifest;
    let open = grants::open_requests(manifest, had);
    present(output, proposal, &open);
    let Some(grants) = decide_grants(output, arguments, manifest, &open)? else {
        return Ok(Decision::Refuse);
    };
    let question = "Let its native code run, and trust it by its name?";
    let ask = || proposal.native_refused && output.can_ask() && grants::agreed(output, question);
    if arguments.allow_native || ask() {
        return Ok(Decision::InstallAndAllow(grants));
    }
    if proposal.native_refused {
        output.note(format_args!(
            "{} its native code will not run: nobody whom you trust signed it; `vox plugin trust \
             allow {}` allows it",
            paint(WARNING, "note:"),
            manifest.id
        ));
    }
    Ok(Decision::Install(grants))
}

/// What is to be granted; none when the user wants none of it all.
fn decide_grants(
    output: Output,
    arguments: &InstallArgs,
    manifest: &Manifest,
    open: &[&vox_contract::CapabilityRequest],
) -> Result<Option<Vec<Grant>>, Failure> {
    if !arguments.grant.is_empty() {
        return Ok(Some(grants::granted(&arguments.grant, manifest)));
    }
    if arguments.yes {
        return Ok(Some(grants::all(manifest)));
    }
    if open.is_empty() {
        return Ok(Some(Vec::new()));
    }
    if !output.can_ask() {
        let message = format!(
            "{} asks for {}, and there is nobody to ask whether it may",
            manifest.id,
            listed(open.iter().map(|request| request.name))
        );
        return Err(Failure::new(Exit::Refused, message).hint(
            "say what to grant: `--grant all`, `--grant none`, or `--grant <capability>,…`",
        ));
    }
    Ok(grants::ask(output, open))
}

/// Says which of the grants have no effect, and what would give them one.
fn warn_of_untrusted(output: Output, id: &PluginId, granted: &[Granted], standing: &Standing) {
    let idle = granted.iter().map(|granted| granted.capability);
    let idle: Vec<_> = idle
        .filter(|capability| !standing.may_have(*capability))
        .collect();
    if !idle.is_empty() {
        output.note(format_args!(
            "{} {} stays denied: a plugin that nobody whom you trust signed may not have it; \
             `vox plugin trust allow {id}` trusts this one",
            paint(WARNING, "note:"),
            listed(idle)
        ));
    }
}

/// Shows the plugin and what it asks for.
fn present(output: Output, proposal: &Proposal<'_>, open: &[&vox_contract::CapabilityRequest]) {
    let manifest = proposal.manifest;
    let Manifest {
        id,
        version,
        description,
        ..
    } = manifest;
    output.note(format_args!(
        "{} {version}: {}",
        paint(LITERAL, id),
        plain(description)
    ));
    if manifest.payload.file_for(Carrier::Native).is_some() {
        output.note(format_args!(
            "{} {NATIVE_IS_TRUSTED}",
            paint(WARNING, "note:")
        ));
    }
    if proposal.signature.is_some() {
        output.note(plain(&format!("it is {}", proposal.standing)));
    }
    if !open.is_empty() {
        output.note("it asks to");
        for request in open {
            output.note(Request(request));
        }
    }
}

/// Where the plugin of an id lies that the catalogue lists.
fn from_catalogue(context: &Context, id: &PluginId) -> Result<PathBuf, Failure> {
    let catalogue = context.catalogue()?;
    let Some(listed) = catalogue.catalog.plugin(id) else {
        let known = catalogue
            .catalog
            .plugins
            .iter()
            .map(|plugin| plugin.id.as_str());
        let near = vox_contract::nearest(id.as_str(), known);
        let message = format!("the catalogue lists no plugin `{id}`");
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("to install a directory or an archive, write its path: `./{id}`"),
        };
        return Err(Failure::new(Exit::NotFound, message).hint(hint));
    };
    let bundled = context.host()?.plugin(id).ok();
    match catalogue.source_of(listed) {
        Some(source) if source.join(vox_contract::MANIFEST_FILE).is_file() => {
            named::usable(&source)
        }
        _ => {
            let message = match bundled {
                Some(plugin) => {
                    let place = plugin.directory.display();
                    format!(
                        "{id} {} is there already, in {place}: nothing to install",
                        plugin.version()
                    )
                }
                None => format!(
                    "the plugin `{id}` is not on this machine: its source is {}",
                    plain(&listed.source)
                ),
            };
            Err(Failure::new(Exit::NotFound, message)
                .hint("fetch it, and install the directory or the archive by its path"))
        }
    }
}
