//! The commands, one file each. Every one of them takes its parsed arguments and the
//! [`Context`], and answers an exit code or a [`Failure`].

pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod dist;
pub(crate) mod external;
pub(crate) mod log;
pub(crate) mod ml;
pub(crate) mod model;
pub(crate) mod plugin;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod verb;

use std::process::ExitCode;

use crate::cli::TopLevel;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

/// Carries a command out.
pub(crate) fn run(context: &Context, verb: TopLevel) -> Result<ExitCode, Failure> {
    match verb {
        TopLevel::Plugin(command) => plugin::run(context, command).map(Exit::into),
        TopLevel::Run(arguments) => run::run(context, &arguments).map(Exit::into),
        TopLevel::Runs(command) => runs::run(context, command).map(Exit::into),
        TopLevel::Cache(command) => cache::run(context, command).map(Exit::into),
        TopLevel::Model(command) => model::run(context, command).map(Exit::into),
        TopLevel::Train(arguments) => ml::train::run(context, &arguments).map(Exit::into),
        TopLevel::Generate(arguments) => ml::generate::run(context, &arguments).map(Exit::into),
        TopLevel::Chat(arguments) => ml::chat::run(context, &arguments).map(Exit::into),
        TopLevel::Embed(arguments) => ml::embed::run(context, &arguments).map(Exit::into),
        TopLevel::Serve(arguments) => ml::serve::run(context, &arguments).map(Exit::into),
        TopLevel::Probe(arguments) => ml::probe::run(context, &arguments).map(Exit::into),
        TopLevel::Log(command) => log::run(context, command).map(Exit::into),
        TopLevel::Dist(command) => dist::run(context, command).map(Exit::into),
        TopLevel::Completions(arguments) => completions::run(context, &arguments).map(Exit::into),
        TopLevel::External(words) => external::run(context, &words),
    }
}
