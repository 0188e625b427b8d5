//! The verb with its subcommands.

use vox_plugin::clap::{self, Args, Parser, Subcommand};

/// Signs in to a service, and keeps the tokens.
#[derive(Parser, Debug)]
#[command(name = "account", no_binary_name = true, subcommand_required = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What is to be done.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Signs in, with the browser.
    Login(Login),
    /// Forgets a profile's tokens, and tells the server so.
    Logout {
        /// The profile; the one in use when left out.
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
    },
    /// Says who is signed in, where, and for how long.
    Status,
    /// The access token.
    #[command(subcommand, subcommand_required = true)]
    Token(Token),
    /// Profiles: several accounts beside each other.
    #[command(subcommand, subcommand_required = true)]
    Profile(Profile),
}

/// How to sign in.
#[derive(Args, Debug, Clone)]
pub struct Login {
    /// The authorization server; the configured one when left out.
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// The name under which the server knows this program.
    #[arg(long, value_name = "ID")]
    pub client_id: Option<String>,
    /// What the token shall allow; may be repeated.
    #[arg(long, value_name = "SCOPE")]
    pub scope: Vec<String>,
    /// The profile that keeps the tokens, and is used from now on.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub profile: String,
    /// Prints the address to open, and opens no browser.
    #[arg(long)]
    pub no_browser: bool,
    /// The port of this machine that the browser comes back to; any free one for 0.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port: u16,
    /// How long to wait for the browser, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u32,
}

/// What is to be done with the token.
#[derive(Subcommand, Debug, Clone, Copy)]
pub enum Token {
    /// Prints the access token, refreshed where it is about to expire.
    Print,
    /// Gets a new access token now.
    Refresh,
}

/// What is to be done with profiles.
#[derive(Subcommand, Debug)]
pub enum Profile {
    /// Lists the profiles; a star marks the one in use.
    List,
    /// Uses another profile from now on.
    Use {
        /// The profile.
        name: String,
    },
    /// Removes a profile with its tokens, and tells the server nothing.
    Remove {
        /// The profile.
        name: String,
    },
}
