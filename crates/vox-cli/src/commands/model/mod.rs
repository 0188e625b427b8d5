//! `vox model`: bundles in the store, one file for each verb.

mod catalogue;
mod export;
mod gc;
mod import;
mod info;
mod ls;
mod pin;
mod rm;
mod scrub;
mod verify;

use clap::Subcommand;
use serde_json::json;
use vox_crypto::canonical;
use vox_model::bundle::{BundleError, Manifest};
use vox_model::import::ImportError;
use vox_model::record::ModelRecord;
use vox_oplog::{Class, NewOp};

use crate::commands::ml::merge::{self, MergeArgs};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::plain;

/// The verbs of `vox model`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// List the models and adapters that are here
    Ls,
    /// Show what a model is, where it came from, and who needs it
    Info(info::InfoArgs),
    /// Import a model from a directory, a file, the hub, a package, an address or the catalogue
    Import(import::ImportArgs),
    /// Read every byte of a model, or of the whole store, and compare the hashes
    Verify(verify::VerifyArgs),
    /// Let the name of a model go
    Rm(rm::RmArgs),
    /// Keep a model whatever the store needs room for
    Pin(pin::PinArgs),
    /// Let a pinned model go when room is needed
    Unpin(pin::PinArgs),
    /// Remove what nothing needs, and with a budget what was used longest ago
    Gc(gc::GcArgs),
    /// Write a model to a directory, as programs for the hub's layout read it
    Export(export::ExportArgs),
    /// Make a plain model of an adapter and the model that it changes
    Merge(MergeArgs),
}

/// Carries out a verb of `vox model`.
pub(crate) fn run(context: &Context, command: ModelCommand) -> Result<Exit, Failure> {
    match command {
        ModelCommand::Ls => ls::run(context),
        ModelCommand::Info(arguments) => info::run(context, &arguments),
        ModelCommand::Import(arguments) => import::run(context, &arguments),
        ModelCommand::Verify(arguments) => verify::run(context, &arguments),
        ModelCommand::Rm(arguments) => rm::run(context, &arguments),
        ModelCommand::Pin(arguments) => pin::pin(context, &arguments),
        ModelCommand::Unpin(arguments) => pin::unpin(context, &arguments),
        ModelCommand::Gc(arguments) => gc::run(context, &arguments),
        ModelCommand::Export(arguments) => export::run(context, &arguments),
        ModelCommand::Merge(arguments) => merge::run(context, &arguments),
    }
}

/// Records what became of a model.
fn record(context: &Context, kind: &str, name: &str, manifest: &Manifest) -> Result<(), Failure> {
    let record = ModelRecord {
        name: name.to_owned(),
        bundle_hash: manifest.bundle_hash,
        source: manifest.provenance.source.clone(),
        bytes: manifest.len(),
    };
    let payload = canonical::encode(&record).map_err(BundleError::from)?;
    context
        .log()?
        .append(NewOp::new(kind, payload)?.class(Class::Kept))?;
    Ok(())
}

/// Records what was done to free the store. It is done by then: what keeps the log from being written, such as the
/// disk that is to be freed, is told and no more.
fn record_or_tell(context: &Context, kind: &str, name: &str, manifest: &Manifest) {
    if let Err(failure) = record(context, kind, name, manifest) {
        let text = format!(
            "`{kind}` of `{}` is not recorded: {}",
            plain(name),
            failure.message()
        );
        context.output.warn(&text, &json!({ "message": text }));
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let exit = match error {
            BundleError::Store(error) => return error.into(),
            BundleError::Log(error) => return error.into(),
            BundleError::Io {
                action,
                path,
                source,
            } => return Self::io(action, &path, &source),
            BundleError::Unknown { .. } | BundleError::MissingFile { .. } => Exit::NotFound,
            BundleError::Ambiguous { .. } | BundleError::Name { .. } => Exit::Usage,
            BundleError::NameTaken { .. }
            | BundleError::Pinned { .. }
            | BundleError::Exists { .. } => Exit::Refused,
            BundleError::Cancelled => Exit::Interrupted,
            _ => Exit::InvalidInput,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let exit = match error {
            ImportError::Bundle(error) => return error.into(),
            ImportError::Io {
                action,
                path,
                source,
            } => return Self::io(action, &path, &source),
            ImportError::NoBase { .. } => Exit::Usage,
            ImportError::Cancelled => Exit::Interrupted,
            _ => Exit::InvalidInput,
        };
        Self::new(exit, error.to_string())
    }
}
