//! `vox plugin sign`: vouches for the files of a plugin.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use semver::Version;
use serde::Serialize;
use vox_contract::PluginId;
use vox_crypto::{KeyFile, KeyId, PublicKey};
use vox_host::signing::{self, SIGNATURE_FILE, Time};

use super::{keygen, named};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{GOOD, LITERAL, paint};
use crate::output::{View, count};

/// Arguments of `vox plugin sign`.
#[derive(Debug, Args)]
#[command(
    after_help = "Every file in the directory is listed in Plugin.sig with its hash. A change \
                        to any of them makes the signature void: sign when all is built."
)]
pub struct SignArgs {
    /// The plugin's directory; of a source, what was built from it is signed
    #[arg(value_name = "DIR")]
    plugin: PathBuf,
    /// The file of the key [default: signing.key in Vox's data directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Until when the signature holds: 2027-11-21, or a time from now on (90days) [default: always]
    #[arg(long, value_name = "TIME", value_parser = end)]
    expires: Option<Time>,
}

/// A plugin that was signed.
#[derive(Debug, Serialize)]
struct SignedView {
    plugin: PluginId,
    version: Version,
    key: PublicKey,
    key_id: KeyId,
    signed: Time,
    /// Null: it holds always.
    expires: Option<Time>,
    /// How many files it is over.
    files: usize,
    /// Where the signature is.
    file: PathBuf,
}

impl View for SignedView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} {} {}: {} with key {}, in {}",
            paint(GOOD, "signed"),
            paint(LITERAL, &self.plugin),
            self.version,
            count(self.files, "file"),
            paint(LITERAL, self.key_id),
            self.file.display()
        )?;
        match self.expires {
            Some(expires) => writeln!(out, "  it holds until {expires}"),
            None => Ok(()),
        }
    }
}

/// A time from the command line at which something ends; one that is over is a mistake.
pub(super) fn end(text: &str) -> Result<Time, String> {
    let now = Time::now();
    match Time::end(text, now) {
        Ok(end) if end <= now => Err("that is over already".to_owned()),
        Ok(end) => Ok(end),
        Err(error) => Err(format!(
            "{error}, as a day or as a time from now on, `90days`"
        )),
    }
}

pub(super) fn run(context: &Context, arguments: &SignArgs) -> Result<Exit, Failure> {
    let directory = named::usable(&arguments.plugin)?;
    let key_file = arguments.key.clone();
    let key_file = key_file.unwrap_or_else(|| keygen::default_key(context));
    if !key_file.exists() {
        let message = format!("there is no key in {}", key_file.display());
        return Err(Failure::new(Exit::NotFound, message)
            .hint("`vox plugin keygen` makes one; `--key <file>` names another"));
    }
    let key = KeyFile::load(&key_file)?;
    let signed = signing::sign(&directory, key.key(), Time::now(), arguments.expires)?;
    context.output.show(&SignedView {
        plugin: signed.plugin().clone(),
        version: signed.version().clone(),
        key: signed.key(),
        key_id: signed.key().id(),
        signed: signed.signed(),
        expires: signed.expires(),
        files: signed.files().count(),
        file: directory.join(SIGNATURE_FILE),
    })?;
    Ok(Exit::Success)
}
