//! The words of the command line: what clap parses, and nothing that acts on it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use vox_contract::{Bytes, QuantityError};

use crate::commands::cache::CacheCommand;
use crate::commands::log::LogCommand;
use crate::commands::ml::{chat, embed, generate, probe, serve, train};
use crate::commands::model::ModelCommand;
use crate::commands::plugin::PluginCommand;
use crate::commands::runs::RunsCommand;
use crate::commands::{completions, dist, run};
use crate::exit::Exit;
use crate::output::style;

/// The verbs that Vox serves itself; no plugin may have one of them.
pub const BUILT_IN_VERBS: [&str; 15] = [
    "plugin",
    "run",
    "runs",
    "cache",
    "model",
    "train",
    "generate",
    "chat",
    "embed",
    "serve",
    "probe",
    "log",
    "dist",
    "completions",
    "help",
];

/// A number of bytes as a word of the command line.
pub(crate) fn number_of_bytes(word: &str) -> Result<Bytes, String> {
    word.parse()
        .map_err(|error: QuantityError| format!("{error}; {}", error.hint()))
}

/// Runs AI work out of plugins.
#[derive(Debug, Parser)]
#[command(
    name = "vox",
    version,
    styles = style::CLAP,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub verb: TopLevel,
}

/// Options of every command. `VOX_LOG` stands in for `--log`; clap is not told of it, because for
/// clap a variable that is set is an argument, and `vox` alone would no longer show its help.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalOptions {
    /// Print data for people (human) or for programs (json)
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub format: Format,
    /// When to use colours: auto (on a terminal), always or never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    pub color: Color,
    /// What to log to standard error: a level, or levels by target (vox_host=debug)
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// Work in this directory
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum TopLevel {
    /// Write, build, install and look at plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Run a pipeline
    Run(run::RunArgs),
    /// List, look at, replay, cancel and repeat runs
    #[command(subcommand)]
    Runs(RunsCommand),
    /// Look at results that runs take over, and let them go
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Import, look at and keep models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Train a model, or go on with a training
    Train(train::TrainArgs),
    /// Let a model go on after a text
    Generate(generate::GenerateArgs),
    /// Talk to a model
    Chat(chat::ChatArgs),
    /// Turn texts into vectors
    Embed(embed::EmbedArgs),
    /// Serve a model to programs that speak OpenAI's API
    Serve(serve::ServeArgs),
    /// Show the hardware that models can be on
    Probe(probe::ProbeArgs),
    /// Read, verify and hand on what was recorded
    #[command(subcommand)]
    Log(LogCommand),
    /// List and build distributions
    #[command(subcommand)]
    Dist(dist::DistCommand),
    /// Print a shell's completion script, with the commands of plugins
    Completions(completions::CompletionsArgs),
    /// A verb of a plugin, with its arguments.
    #[command(external_subcommand)]
    External(Vec<OsString>),
}

/// The whole command line without the verbs of plugins.
pub fn command() -> clap::Command {
    Cli::command().after_help(after_help(""))
}

/// What stands below the help of `vox`: `verbs` are the commands of plugins, one a line.
pub fn after_help(verbs: &str) -> String {
    let heading = style::HEADING;
    let literal = style::LITERAL;
    let mut text = String::new();
    if !verbs.is_empty() {
        // Writing to a `String` cannot fail, here and below.
        let _ = write!(text, "{heading}Commands of plugins:{heading:#}\n{verbs}\n");
    }
    let _ = writeln!(text, "{heading}Exit codes:{heading:#}");
    for (exit, meaning) in Exit::ALL {
        let _ = writeln!(text, "  {literal}{:<4}{literal:#} {meaning}", exit.code());
    }
    let _ = writeln!(text, "\n{heading}Environment:{heading:#}");
    for (name, meaning) in VARIABLES {
        let _ = writeln!(text, "  {literal}{name:<16}{literal:#} {meaning}");
    }
    text
}

/// The variables that Vox reads.
const VARIABLES: [(&str, &str); 7] = [
    (
        "VOX_DATA",
        "where plugins, grants, models and the log are kept",
    ),
    ("VOX_CACHE", "where compiled components are kept"),
    (
        "VOX_PLUGIN_PATH",
        "more places to find plugins in, before all others",
    ),
    (
        "VOX_SDK",
        "the crate `vox-plugin` that new plugins depend on",
    ),
    ("VOX_LOG", "as --log"),
    (
        "VOX_SERVE_KEYS",
        "keys that may ask `vox serve`, separated by commas",
    ),
    (
        "NO_COLOR",
        "when set, no colours are used unless --color says so",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    /// clap takes two arguments of one id for one and the same, without a word.
    #[test]
    fn no_command_has_an_argument_by_the_id_of_a_global_option() {
        fn check(command: &clap::Command, global: &[&str]) {
            for argument in command
                .get_arguments()
                .filter(|argument| !argument.is_global_set())
            {
                let id = argument.get_id().as_str();
                assert!(!global.contains(&id), "{}: {id}", command.get_name());
            }
            command
                .get_subcommands()
                .for_each(|command| check(command, global));
        }
        check(&command(), &["format", "color", "log", "directory"]);
    }

    #[test]
    fn the_verbs_that_plugins_may_not_have_are_those_that_are_served() {
        let mut command = command();
        command.build();
        let verbs: Vec<_> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(verbs, BUILT_IN_VERBS);
    }
}
