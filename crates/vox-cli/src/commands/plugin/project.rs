//! `vox plugin grant --project` and `vox plugin revoke --project`: what the Vox.toml of a project
//! may grant.
//!
//! What must stay true: what is allowed is what was shown, whatever happens to the file meanwhile.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use vox_contract::PluginId;
use vox_host::install::{Allowance, GrantStore, ProjectGrants};

use super::grants::{Extent, agreed};
use super::view::Granted;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{GOOD, LITERAL, paint, plain};

/// What a project grants after a change.
#[derive(Debug, Serialize)]
struct ProjectView {
    project: PathBuf,
    /// Whether its grants count.
    allowed: bool,
    grants: BTreeMap<PluginId, Vec<Granted>>,
}

impl View for ProjectView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let place = plain(&self.project.display().to_string());
        match (self.grants.is_empty(), self.allowed) {
            (true, _) => writeln!(out, "Vox.toml in {place} grants nothing"),
            (false, true) => writeln!(
                out,
                "{} what Vox.toml in {place} grants counts until it changes",
                paint(GOOD, "allowed:")
            ),
            (false, false) => writeln!(out, "what Vox.toml in {place} grants does not count"),
        }
    }
}

impl ProjectView {
    fn new(project: &Path, grants: Option<&ProjectGrants>) -> Self {
        let plugins = grants.iter().flat_map(|project| project.grants.iter());
        Self {
            project: project.into(),
            allowed: grants.is_some_and(|project| project.allowance == Allowance::Allowed),
            grants: plugins
                .map(|(id, grants)| (id.clone(), Granted::all(grants)))
                .collect(),
        }
    }
}

/// Shows what the project grants, asks, and records that it is allowed.
pub(super) fn allow(context: &Context, yes: bool) -> Result<Exit, Failure> {
    let (store, directory, project) = granted(context)?;
    let Some(mut project) = project else {
        context.output.show(&ProjectView::new(&directory, None))?;
        return Ok(Exit::Success);
    };
    present(context, &project);
    if project.allowance != Allowance::Allowed {
        if !yes && !context.output.can_ask() {
            let message = format!("{project}, and there is nobody to ask whether they may");
            return Err(Failure::new(Exit::Refused, message)
                .hint("look at them, and write `vox plugin grant --project --yes`"));
        }
        if !yes && !agreed(context.output, "Allow this?") {
            return Err(Failure::new(Exit::Refused, project.to_string())
                .hint("nothing was changed; remove them from Vox.toml to be asked no more"));
        }
        store.allow_project(&project)?;
        project.allowance = Allowance::Allowed;
    }
    context
        .output
        .show(&ProjectView::new(&directory, Some(&project)))?;
    Ok(Exit::Success)
}

/// Takes back what the project was allowed.
pub(super) fn forget(context: &Context) -> Result<Exit, Failure> {
    let store = GrantStore::open(&context.directories);
    // Also a project whose Vox.toml is gone or broken can lose what it was allowed.
    let directory = directory(context)?;
    if !store.forget_project(directory)? {
        let place = plain(&directory.display().to_string());
        let note = format_args!("note: the project in {place} was allowed nothing");
        context.output.note(note);
    }
    let (_, directory, project) = granted(context)?;
    context
        .output
        .show(&ProjectView::new(&directory, project.as_ref()))?;
    Ok(Exit::Success)
}

/// What the project grants; none when nothing.
fn granted(context: &Context) -> Result<(GrantStore, PathBuf, Option<ProjectGrants>), Failure> {
    let directory = directory(context)?.to_path_buf();
    let settings = vox_host::settings::of_project(&context.directories)?;
    let store = GrantStore::open(&context.directories);
    let project = store.project(&settings, Some(&directory))?;
    Ok((store, directory, project))
}

fn directory(context: &Context) -> Result<&Path, Failure> {
    context.directories.project.as_deref().ok_or_else(|| {
        Failure::new(Exit::NotFound, "this is no project")
            .hint("go to a directory with a Vox.toml, or to one below it")
    })
}

/// Tells people what the project grants.
fn present(context: &Context, project: &ProjectGrants) {
    let place = plain(&project.directory.display().to_string());
    let output = context.output;
    output.note(format_args!("Vox.toml in {place} grants"));
    for (id, grants) in project.grants.iter() {
        output.note(format_args!("  {}", paint(LITERAL, id)));
        for (capability, scope) in grants.iter() {
            output.note(format_args!("    {}", Extent(capability, scope)));
        }
    }
}
