//! `vox account`: signs in to a service with OAuth 2.0, and keeps the tokens.
//!
//! A pattern for commands with subcommands inside subcommands, with a login in the browser, and with
//! secrets in a file.
//!
//! ```sh
//! vox account login --issuer https://login.example.org
//! vox account status
//! curl --header "Authorization: Bearer $(vox account token print)" https://api.example.org/
//! vox account profile use work
//! vox account logout
//! ```
//!
//! | configuration | default | meaning |
//! |---|---|---|
//! | `directory` | `$XDG_DATA_HOME/vox/account` | where `credentials.toml` is kept |
//! | `issuer` | | the server that `login` asks when none is named |
//! | `client-id` | `"vox"` | the name under which the server knows this program |
//!
//! The login is the authorization code flow with PKCE (RFC 7636, S256) and a loopback redirect (RFC
//! 8252). The server is described by its metadata (RFC 8414, or OpenID Connect Discovery). What must stay true:
//! a token is never printed but by `token print`, and never written but to a file that its owner alone
//! can read; and neither a secret nor a code goes over an unencrypted connection, except to this
//! machine.

mod arguments;
mod callback;
mod client;
mod commands;
mod credentials;
mod login;
mod provider;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command as Program, Stdio};

use serde::Deserialize;
use vox_plugin::clap::{CommandFactory, Parser};
use vox_plugin::command::Node;
use vox_plugin::{
    Command, Error, Lifecycle, Output, Result, describe_command, from_json, host, plugin,
};

use crate::arguments::Arguments;
use crate::commands::Session;
use crate::credentials::{Credentials, default_directory};

/// The plugin's configuration.
#[derive(Deserialize, Default, Debug)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    directory: Option<PathBuf>,
    issuer: Option<String>,
    client_id: Option<String>,
}

/// The plugin: it keeps its configuration alone.
#[plugin(lifecycle, command)]
struct Account {
    config: Config,
}

impl Lifecycle for Account {
    fn init(config: &str) -> Result<Self> {
        Ok(Self {
            config: from_json(config)?,
        })
    }
}

impl Command for Account {
    fn describe(&mut self, _verb: &str) -> Result<Vec<Node>> {
        Ok(describe_command(&Arguments::command()))
    }

    fn run(&mut self, _verb: &str, arguments: Vec<String>) -> Result<u8> {
        let arguments = Arguments::try_parse_from(arguments)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let directory = match &self.config.directory {
            Some(directory) => directory.clone(),
            None => default_directory()?,
        };
        let session = Session {
            credentials: Credentials::new(directory),
            issuer: self.config.issuer.clone(),
            client_id: self.config.client_id.clone(),
            surroundings: &Host::default(),
        };
        session.run(arguments.command)?;
        Ok(0)
    }
}

/// What a command needs of whoever runs it.
trait Surroundings {
    /// Prints a line of what was asked for.
    fn print(&self, line: &str) -> Result<()>;

    /// Tells the user something on the way.
    fn tell(&self, line: &str) -> Result<()>;

    /// Opens an address in the user's browser; false where there is none.
    fn open(&self, address: &str) -> bool;

    /// Whether the user wants to end.
    fn should_cancel(&self) -> bool;
}

/// The host, and the machine that it runs on.
#[derive(Default)]
struct Host {
    /// What opens the browser, and may go on as long as that does.
    opener: RefCell<Option<Child>>,
}

impl Surroundings for Host {
    fn print(&self, line: &str) -> Result<()> {
        write_line("stdout", line)
    }

    fn tell(&self, line: &str) -> Result<()> {
        write_line("stderr", line)
    }

    fn open(&self, address: &str) -> bool {
        let program = if cfg!(target_os = "macos") {
            "open"
        } else {
            "xdg-open"
        };
        let started = Program::new(program)
            .arg(address)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        *self.opener.borrow_mut() = started.ok();
        self.opener.borrow().is_some()
    }

    fn should_cancel(&self) -> bool {
        host::cancel::should_cancel()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(opener) = self.opener.get_mut() {
            // Only so that no trace of it is left where it has ended.
            let _ = opener.try_wait();
        }
    }
}

fn write_line(port: &'static str, line: &str) -> Result<()> {
    let mut output = Output::new(port);
    writeln!(output, "{line}")?;
    output.flush()?;
    Ok(())
}
