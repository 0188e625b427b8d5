//! `vox plugin trust`: the keys that are trusted, the keys that plugins are bound to, and the
//! plugins that are trusted by name.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use semver::Version;
use serde::Serialize;
use vox_contract::PluginId;
use vox_crypto::{KeyFile, KeyId, PublicKey, PublicKeyFile};
use vox_host::directories::Root;
use vox_host::signing::{Allowed, Pin, Time, TrustStore, TrustedKey};

use super::named::plugin_id;
use super::sign::end;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{DIM, LITERAL, WARNING, paint};
use crate::output::table::{Cell, Table};

/// Arguments of `vox plugin trust`.
#[derive(Debug, Args)]
#[command(
    after_help = "Trust is kept in trust.toml in Vox's data directory. A project has no say in it."
)]
pub struct TrustArgs {
    #[command(subcommand)]
    command: Option<TrustCommand>,
}

/// The verbs of `vox plugin trust`.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// List what is trusted
    List,
    /// Trust whatever a key signs, native code included
    Add(AddArgs),
    /// Trust a key no longer
    Remove {
        /// The key, its id, or its name
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Trust a plugin by its name where it is found, whoever signed it
    Allow(AllowArgs),
    /// Trust a plugin by its name no longer
    Disallow(AllowArgs),
    /// Bind a plugin to a key: no other may sign it
    Pin {
        /// The plugin
        #[arg(value_parser = plugin_id)]
        id: PluginId,
        /// The key: ed25519:…, a file of one, or the id or name of a trusted one
        #[arg(value_name = "KEY|FILE")]
        key: String,
    },
    /// Free a plugin from the key that it is bound to
    Unpin {
        /// The plugin
        #[arg(value_parser = plugin_id)]
        id: PluginId,
    },
}

/// Arguments of `vox plugin trust add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The key: ed25519:…, or the file that its owner gave away
    #[arg(value_name = "KEY|FILE")]
    key: String,
    /// Whose it is [default: what the file says]
    #[arg(long)]
    name: Option<String>,
    /// Until when it is trusted: 2027-11-21, or a time from now on (90days) [default: always]
    #[arg(long, value_name = "TIME", value_parser = end)]
    expires: Option<Time>,
}

/// Arguments of `vox plugin trust allow` and `disallow`.
#[derive(Debug, Args)]
pub struct AllowArgs {
    /// The plugin
    #[arg(value_parser = plugin_id)]
    id: PluginId,
    /// The root that it is found in [default: where it is found now]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// All that is trusted.
#[derive(Debug, Serialize)]
struct TrustView {
    keys: Vec<KeyLine>,
    pins: Vec<PinLine>,
    allowed: Vec<AllowedLine>,
}

#[derive(Debug, Serialize)]
struct KeyLine {
    key: PublicKey,
    key_id: KeyId,
    name: String,
    added: Time,
    /// Null: it is trusted always.
    expires: Option<Time>,
    expired: bool,
}

#[derive(Debug, Serialize)]
struct PinLine {
    plugin: PluginId,
    key: PublicKey,
    key_id: KeyId,
    /// The highest version that was installed.
    highest: Version,
}

#[derive(Debug, Serialize)]
struct AllowedLine {
    plugin: PluginId,
    root: PathBuf,
}

impl TrustView {
    fn new(trust: &TrustStore) -> Self {
        let now = Time::now();
        let keys = trust.keys().map(|(key, trusted)| KeyLine {
            key: *key,
            key_id: key.id(),
            name: trusted.name.clone(),
            added: trusted.added,
            expires: trusted.expires,
            expired: trusted.expires.is_some_and(|expires| expires <= now),
        });
        let pins = trust.pins().map(|(plugin, pin)| PinLine {
            plugin: plugin.clone(),
            key: pin.key,
            key_id: pin.key.id(),
            highest: pin.highest.clone(),
        });
        let allowed = trust.allowed().map(|allowed| AllowedLine {
            plugin: allowed.plugin.clone(),
            root: allowed.root.clone(),
        });
        Self {
            keys: keys.collect(),
            pins: pins.collect(),
            allowed: allowed.collect(),
        }
    }
}

impl View for TrustView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.keys.is_empty() {
            writeln!(out, "no key is trusted")?;
        } else {
            let mut table = Table::new(["KEY", "TRUSTED UNTIL", "NAME"]);
            for line in &self.keys {
                let until = match line.expires {
                    None => Cell::styled(DIM, "-"),
                    Some(time) if line.expired => Cell::styled(WARNING, format!("{time}, over")),
                    Some(time) => time.into(),
                };
                let id = Cell::styled(LITERAL, line.key_id);
                table.row([id, until, line.name.as_str().into()]);
            }
            write!(out, "{table}")?;
        }
        if !self.pins.is_empty() {
            let mut table = Table::new(["PLUGIN", "BOUND TO KEY", "HIGHEST"]);
            for PinLine {
                plugin,
                key_id,
                highest,
                ..
            } in &self.pins
            {
                let plugin = Cell::styled(LITERAL, plugin);
                table.row([plugin, key_id.into(), highest.into()]);
            }
            write!(out, "\n{table}")?;
        }
        if !self.allowed.is_empty() {
            let mut table = Table::new(["PLUGIN", "ALLOWED BY NAME IN"]);
            for AllowedLine { plugin, root } in &self.allowed {
                let plugin = Cell::styled(LITERAL, plugin);
                table.row([plugin, root.display().into()]);
            }
            write!(out, "\n{table}")?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: TrustArgs) -> Result<Exit, Failure> {
    match arguments.command.unwrap_or(TrustCommand::List) {
        TrustCommand::List => {}
        TrustCommand::Add(arguments) => add(context, arguments)?,
        TrustCommand::Remove { key } => remove(context, &key)?,
        TrustCommand::Allow(arguments) => {
            let root = root_of(context, &arguments)?;
            let allowed = Allowed::at(arguments.id, &root)?;
            change(context, |trust| trust.allow(allowed))?;
        }
        TrustCommand::Disallow(arguments) => disallow(context, &arguments)?,
        TrustCommand::Pin { id, key } => pin(context, id, &key)?,
        TrustCommand::Unpin { id } => {
            let was = change(context, |trust| trust.unpin(&id))?;
            was.then_some(())
                .ok_or_else(|| nothing(format!("{id} is bound to no key")))?;
        }
    }
    let trust = TrustStore::load(&context.directories)?;
    context.output.show(&TrustView::new(&trust))?;
    Ok(Exit::Success)
}

fn change<T>(context: &Context, change: impl FnOnce(&mut TrustStore) -> T) -> Result<T, Failure> {
    Ok(TrustStore::change(&context.directories, change)?)
}

fn nothing(message: String) -> Failure {
    Failure::new(Exit::NotFound, message).hint("`vox plugin trust` lists what is trusted")
}

fn add(context: &Context, arguments: AddArgs) -> Result<(), Failure> {
    let (key, name) = read_key(&arguments.key)?;
    let Some(name) = arguments.name.or(name) else {
        let message = "whose key is it? A key alone has no name";
        return Err(Failure::usage(message).hint("say it with `--name`"));
    };
    if name.trim().is_empty() {
        return Err(Failure::usage("the name of a key cannot be empty"));
    }
    let trusted = TrustedKey {
        name,
        added: Time::now(),
        expires: arguments.expires,
    };
    change(context, |trust| trust.trust(key, trusted))
}

/// A key that is written out, or the one in a file with the name that it has there.
fn read_key(word: &str) -> Result<(PublicKey, Option<String>), Failure> {
    if word.starts_with("ed25519:") {
        return Ok((word.parse()?, None));
    }
    let path = Path::new(word);
    if !path.exists() {
        let message = format!("`{word}` is neither a key nor the file of one");
        return Err(Failure::new(Exit::NotFound, message)
            .hint("a key is written `ed25519:` and 64 digits; `vox plugin keygen` makes files"));
    }
    let file = match PublicKeyFile::load(path) {
        Ok(file) => file,
        // One's own key may be named as well.
        Err(error) => match KeyFile::load(path) {
            Ok(own) => own.public(),
            Err(_) => return Err(error.into()),
        },
    };
    Ok((file.key(), Some(file.name().to_owned())))
}

/// The trusted key that a word names: the key, its id, or its name.
fn trusted_key(trust: &TrustStore, word: &str) -> Result<Option<PublicKey>, Failure> {
    let named = |(key, trusted): &(&PublicKey, &TrustedKey)| {
        key.to_string() == word || key.id().to_string() == word || trusted.name == word
    };
    let found: Vec<_> = trust.keys().filter(named).map(|(key, _)| *key).collect();
    match found[..] {
        [] => Ok(None),
        [key] => Ok(Some(key)),
        _ => Err(Failure::usage(format!("`{word}` names several keys"))
            .hint("name it by its id, or write it out")),
    }
}

fn remove(context: &Context, word: &str) -> Result<(), Failure> {
    let own = TrustStore::load_own(&context.directories)?;
    match trusted_key(&own, word)? {
        Some(key) => {
            change(context, |trust| trust.distrust(&key))?;
            Ok(())
        }
        None if trusted_key(&TrustStore::load(&context.directories)?, word)?.is_some() => {
            let message = format!("the key `{word}` came with vox, and is trusted as vox is");
            Err(Failure::new(Exit::Failed, message)
                .hint("it stands in trust.toml beside the executable"))
        }
        None => Err(nothing(format!("the key `{word}` is not trusted"))),
    }
}

/// The root that is meant: the one that was named, or the one that the plugin is found in.
fn root_of(context: &Context, arguments: &AllowArgs) -> Result<PathBuf, Failure> {
    if let Some(root) = &arguments.root {
        return Ok(root.clone());
    }
    let host = context.host()?;
    let plugin = host.plugin(&arguments.id)?;
    let roots = context.directories.roots.iter();
    let holds = |root: &&Root| root.kind == plugin.root && plugin.directory.starts_with(&root.path);
    let root = roots
        .filter(holds)
        .max_by_key(|root| root.path.components().count());
    Ok(root.map_or_else(|| plugin.directory.clone(), |root| root.path.clone()))
}

fn disallow(context: &Context, arguments: &AllowArgs) -> Result<(), Failure> {
    let AllowArgs { id, root } = arguments;
    let meant = root.as_ref().map(|root| Allowed::at(id.clone(), root));
    let meant = meant.transpose()?;
    let taken = change(context, |trust| {
        let all = trust.allowed().filter(|allowed| allowed.plugin == *id);
        let all: Vec<Allowed> = all
            .filter(|allowed| meant.as_ref().is_none_or(|meant| meant == *allowed))
            .cloned()
            .collect();
        all.iter().filter(|allowed| trust.disallow(allowed)).count()
    })?;
    if taken == 0 {
        return Err(nothing(format!("{id} is not allowed by name")));
    }
    Ok(())
}

fn pin(context: &Context, id: PluginId, word: &str) -> Result<(), Failure> {
    let trust = TrustStore::load(&context.directories)?;
    let key = match trusted_key(&trust, word)? {
        Some(key) => key,
        None => read_key(word)?.0,
    };
    let before = trust.pinned(&id).map(|pin| pin.highest.clone());
    let highest = before.unwrap_or(Version::new(0, 0, 0));
    change(context, |trust| trust.pin(id, Pin { key, highest }))?;
    let id = key.id();
    let note = paint(DIM, format!("note: only key {id} may sign it from now on"));
    context.output.note(note);
    Ok(())
}
