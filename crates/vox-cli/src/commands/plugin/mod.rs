//! `vox plugin`: everything around plugins, one file for each verb.
//!
//! | module | owns |
//! |---|---|
//! | `named` | what a word on the command line names: a plugin's id, a directory, an archive |
//! | `grants` | capabilities as they are typed, shown and agreed to |
//! | `project` | what a project's Vox.toml grants, shown and agreed to |
//! | `view` | plugins, grants and limits as they are printed |

mod build;
mod call;
mod doctor;
mod grant;
mod grants;
mod info;
mod install;
mod keygen;
mod list;
mod named;
mod new;
mod project;
mod remove;
mod schema;
mod search;
mod sign;
mod steer;
mod top;
mod trust;
mod verify;
mod view;

use clap::Subcommand;

use self::steer::Deed;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

pub(crate) use named::BUILD_ROOT;

/// The verbs of `vox plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Write a new plugin: a crate that builds and passes its own test
    New(new::NewArgs),
    /// Build the payloads of a plugin from its crate
    Build(build::BuildArgs),
    /// Install a plugin from a directory, an archive, or the catalogue
    Install(install::InstallArgs),
    /// Remove an installed plugin, or one version of it
    Remove(remove::RemoveArgs),
    /// List the plugins that can be used
    List,
    /// Show all about one plugin
    Info(info::InfoArgs),
    /// Say what is wrong with the installed plugins, and what to do about it
    Doctor(doctor::DoctorArgs),
    /// Print the JSON Schema of a file
    Schema(schema::SchemaArgs),
    /// Call one function of a plugin, to try it by hand
    Call(call::CallArgs),
    /// Grant capabilities to a plugin, or allow what a project grants
    Grant(grant::GrantArgs),
    /// Take capabilities from a plugin, or what a project was allowed
    Revoke(grant::RevokeArgs),
    /// Make a key to sign plugins with
    Keygen(keygen::KeygenArgs),
    /// Sign the files of a plugin
    Sign(sign::SignArgs),
    /// Say who signed a plugin, and whether its files are those that were signed
    Verify(verify::VerifyArgs),
    /// List and change whom you trust: keys, and plugins by name
    Trust(trust::TrustArgs),
    /// Show what the plugins of running processes cost
    Top(top::TopArgs),
    /// Hold a plugin's calls back in running processes
    Pause(steer::SteerArgs),
    /// Let the calls of a paused plugin go on
    Resume(steer::SteerArgs),
    /// Have running processes take a plugin from disk anew
    Reload(steer::SteerArgs),
    /// Have running processes let a plugin go once its calls are over
    Unload(steer::SteerArgs),
    /// Look for plugins in the catalogue, or for installed skills
    Search(search::SearchArgs),
}

/// Carries out a verb of `vox plugin`.
pub(crate) fn run(context: &Context, command: PluginCommand) -> Result<Exit, Failure> {
    match command {
        PluginCommand::New(arguments) => new::run(context, &arguments),
        PluginCommand::Build(arguments) => build::run(context, &arguments),
        PluginCommand::Install(arguments) => install::run(context, &arguments),
        PluginCommand::Remove(arguments) => remove::run(context, &arguments),
        PluginCommand::List => list::run(context),
        PluginCommand::Info(arguments) => info::run(context, &arguments),
        PluginCommand::Doctor(arguments) => doctor::run(context, &arguments),
        PluginCommand::Schema(arguments) => schema::run(arguments),
        PluginCommand::Call(arguments) => call::run(context, &arguments),
        PluginCommand::Grant(arguments) => grant::grant(context, &arguments),
        PluginCommand::Revoke(arguments) => grant::revoke(context, &arguments),
        PluginCommand::Keygen(arguments) => keygen::run(context, &arguments),
        PluginCommand::Sign(arguments) => sign::run(context, &arguments),
        PluginCommand::Verify(arguments) => verify::run(context, &arguments),
        PluginCommand::Trust(arguments) => trust::run(context, arguments),
        PluginCommand::Top(arguments) => top::run(context, &arguments),
        PluginCommand::Pause(arguments) => steer::run(context, &arguments, Deed::Pause),
        PluginCommand::Resume(arguments) => steer::run(context, &arguments, Deed::Resume),
        PluginCommand::Reload(arguments) => steer::run(context, &arguments, Deed::Reload),
        PluginCommand::Unload(arguments) => steer::run(context, &arguments, Deed::Unload),
        PluginCommand::Search(arguments) => search::run(context, &arguments),
    }
}
