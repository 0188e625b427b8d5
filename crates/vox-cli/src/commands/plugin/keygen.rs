//! `vox plugin keygen`: a new key to sign plugins with.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vox_crypto::{KeyFile, KeyId, PublicKey, SigningKey};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{GOOD, LITERAL, paint, plain};

/// Arguments of `vox plugin keygen`.
#[derive(Debug, Args)]
#[command(
    after_help = "Two files are made: FILE with the secret, which nobody else may read, and \
                        FILE.pub, which is for those who shall trust you."
)]
pub struct KeygenArgs {
    /// The file of the key [default: signing.key in Vox's data directory]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Whose key it is, for those who are to trust it
    #[arg(long, default_value = "my key")]
    name: String,
}

/// A key that was made.
#[derive(Debug, Serialize)]
struct KeyView {
    name: String,
    key: PublicKey,
    key_id: KeyId,
    /// The file with the secret.
    file: PathBuf,
    /// The file for others.
    public_file: PathBuf,
}

impl View for KeyView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} key {} of {} in {}",
            paint(GOOD, "made"),
            paint(LITERAL, self.key_id),
            plain(&self.name),
            self.file.display()
        )?;
        writeln!(out, "  others trust it with {}", self.public_file.display())
    }
}

/// Where the user's key is kept unless another place is named.
pub(super) fn default_key(context: &Context) -> PathBuf {
    context.directories.data.join("signing.key")
}

pub(super) fn run(context: &Context, arguments: &KeygenArgs) -> Result<Exit, Failure> {
    let file = arguments
        .out
        .clone()
        .unwrap_or_else(|| default_key(context));
    let mut public_file = file.clone().into_os_string();
    public_file.push(".pub");
    let public_file = PathBuf::from(public_file);
    let key = KeyFile::new(&arguments.name, SigningKey::generate()?)?;
    for path in [&file, &public_file] {
        if path.exists() {
            let message = format!(
                "{} is there already, and no key is overwritten",
                path.display()
            );
            return Err(Failure::new(Exit::Failed, message)
                .hint("name another file: `vox plugin keygen --out <file>`"));
        }
    }
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Failure::io("create", parent, &error))?;
    }
    key.create(&file)?;
    key.public().create(&public_file)?;
    context.output.show(&KeyView {
        name: arguments.name.clone(),
        key: key.key().public(),
        key_id: key.key().public().id(),
        file,
        public_file,
    })?;
    Ok(Exit::Success)
}
