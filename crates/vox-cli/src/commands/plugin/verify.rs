//! `vox plugin verify`: who signed a plugin, whether its files are those that were signed, and how
//! far it is trusted.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use semver::Version;
use serde::Serialize;
use vox_contract::{Carrier, MANIFEST_FILE, Manifest, PluginId};
use vox_crypto::{KeyId, PublicKey};
use vox_host::directories::RootKind;
use vox_host::inventory::Installed;
use vox_host::signing::{self, Facts, SignedFiles, SigningError, Standing, Time, TrustStore};

use super::named::{self, IdAndVersion};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{DIM, GOOD, LITERAL, WARNING, paint, plain};

/// Arguments of `vox plugin verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 0 when the signature is in order, whether or not its key is trusted; \
                        with 1 when there is none; with 4 or 5 when the plugin is to be refused."
)]
pub struct VerifyArgs {
    /// An installed plugin (redact, redact@0.1.0) or a plugin's directory (./redact)
    #[arg(value_name = "ID[@VERSION]|DIR")]
    plugin: String,
}

/// What a signature says, and what it is worth here.
#[derive(Debug, Serialize)]
struct VerifiedView {
    plugin: PluginId,
    version: Version,
    directory: PathBuf,
    /// Null where the plugin is not signed.
    signature: Option<SignatureView>,
    /// `bundled`, `trusted`, `allowed-by-name`, `pinned`, `unknown-key` or `unsigned`.
    standing: &'static str,
    /// Whether it may run native code and have every capability that it is granted.
    trusted: bool,
    #[serde(skip)]
    said: String,
}

#[derive(Debug, Serialize)]
struct SignatureView {
    key: PublicKey,
    key_id: KeyId,
    signed: Time,
    /// Null: it holds always.
    expires: Option<Time>,
    /// How many files it is over, all of which are as they were signed.
    files: usize,
}

impl View for VerifiedView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let plugin = paint(LITERAL, &self.plugin);
        let style = if self.trusted { GOOD } else { WARNING };
        let said = plain(&self.said);
        writeln!(out, "{plugin} {}: {}", self.version, paint(style, said))?;
        if let Some(signature) = &self.signature {
            let SignatureView {
                key,
                signed,
                expires,
                files,
                ..
            } = signature;
            writeln!(out, "  files:  {files}, all as they were signed")?;
            let until = expires.map(|expires| format!(", holds until {expires}"));
            writeln!(out, "  signed: {signed}{}", until.unwrap_or_default())?;
            writeln!(out, "  key:    {key}")?;
        }
        if !self.trusted {
            let what = "as a component, with low-risk capabilities only";
            writeln!(out, "  {}", paint(DIM, format!("it may run {what}")))?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &VerifyArgs) -> Result<Exit, Failure> {
    let trust = TrustStore::load(&context.directories)?;
    let view = match arguments.plugin.parse::<IdAndVersion>() {
        Ok(wanted) => installed(context, &trust, &wanted)?,
        Err(_) => directory(context, &trust, Path::new(&arguments.plugin))?,
    };
    let exit = match view.signature {
        Some(_) => Exit::Success,
        None => Exit::Failed,
    };
    context.output.show(&view)?;
    Ok(exit)
}

fn installed(
    context: &Context,
    trust: &TrustStore,
    wanted: &IdAndVersion,
) -> Result<VerifiedView, Failure> {
    let host = context.host()?;
    let plugin = match &wanted.version {
        None => host.plugin(&wanted.id)?,
        Some(version) => {
            let found = host.inventory().get(&wanted.id, version).cloned();
            found.ok_or_else(|| {
                let message = format!("{} {version} is not installed", wanted.id);
                Failure::new(Exit::NotFound, message).hint("`vox plugin list` shows what is")
            })?
        }
    };
    let component = Carrier::Component;
    let admission = signing::admit(trust, &context.directories, &plugin, component, Time::now())?;
    let Installed {
        manifest,
        directory,
        ..
    } = &*plugin;
    let signed = admission.signed.as_ref();
    Ok(view(
        manifest,
        directory.clone(),
        signed,
        &admission.standing,
    ))
}

/// A directory, judged as it would be once it is installed.
fn directory(context: &Context, trust: &TrustStore, path: &Path) -> Result<VerifiedView, Failure> {
    let directory = named::usable(path)?;
    if directory.is_file() {
        let message = format!("{} is not a directory", directory.display());
        return Err(Failure::usage(message)
            .hint("an archive is verified when it is installed; unpack it to look at it before"));
    }
    let manifest = Manifest::load(&directory.join(MANIFEST_FILE))?;
    let signed = match signing::verify(&directory) {
        Ok(signed) => Some(signed),
        Err(SigningError::NotSigned { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let facts = Facts {
        plugin: &manifest.id,
        version: &manifest.version,
        root: RootKind::User,
        place: signing::resolved(&context.directories.installed()),
        native: false,
        signature: signed.as_ref(),
    };
    let standing = trust
        .judge(&facts, Time::now())
        .map_err(SigningError::from)?;
    Ok(view(&manifest, directory, signed.as_ref(), &standing))
}

fn view(
    manifest: &Manifest,
    directory: PathBuf,
    signed: Option<&SignedFiles>,
    standing: &Standing,
) -> VerifiedView {
    let signature = signed.map(|signed| SignatureView {
        key: signed.key(),
        key_id: signed.key().id(),
        signed: signed.signed(),
        expires: signed.expires(),
        files: signed.files().count(),
    });
    VerifiedView {
        plugin: manifest.id.clone(),
        version: manifest.version.clone(),
        directory,
        signature,
        standing: standing.name(),
        trusted: standing.is_trusted(),
        said: standing.to_string(),
    }
}
