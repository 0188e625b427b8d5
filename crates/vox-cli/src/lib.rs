//! The `vox` command.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | the words of the command line |
//! | [`exit`], [`error`] | exit codes, and which error has which |
//! | [`output`] | what is printed, for people and for programs |
//! | `commands` | one file for each command |
//! | `context`, `catalogue`, `sdk` | where things are: directories, the catalogue, the SDK |
//! | `record` | the log, the store, and the key that both are signed with |
//! | `progress` | how far a long work is |
//! | `streams`, `interrupt` | the process as a plugin sees it: its streams, and Ctrl-C |
//!
//! What must stay true: a command that looks at plugins without using them costs no payload and no
//! engine, the verbs of plugins included until one of them is asked for; every failure goes through
//! [`error::Failure`], which gives it its exit code; and nothing that a user, a file or a plugin
//! says makes the command panic.

mod catalogue;
pub mod cli;
mod commands;
mod context;
pub mod error;
pub mod exit;
mod interrupt;
pub mod output;
mod progress;
mod record;
pub mod sdk;
mod streams;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args as _, FromArgMatches as _};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use cli::{Cli, GlobalOptions, TopLevel};
use commands::external;
use context::Context;
use error::Failure;
use exit::Exit;
use output::{Output, report};

/// Runs the command line of this process and answers its exit code.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let parsed = cli::command().try_get_matches_from(&words);
    let parsed = parsed.and_then(|matches| Cli::from_arg_matches(&matches));
    let (global, result) = match parsed {
        Ok(Cli { global, verb }) => {
            output::choose_colors(global.color);
            let result = begin(&global).and_then(|context| commands::run(&context, verb));
            (global, result)
        }
        Err(error) => {
            let global = global_options(&words);
            output::choose_colors(global.color);
            let result = explain(error, &global, &words);
            (global, result)
        }
    };
    result.unwrap_or_else(|failure| {
        report::failure(Output::new(global.format), &failure);
        failure.exit().into()
    })
}

/// Does what the global options say.
fn begin(global: &GlobalOptions) -> Result<Context, Failure> {
    let variable = std::env::var("VOX_LOG").ok();
    log(global.log.as_deref().or(variable.as_deref()))?;
    if let Some(directory) = &global.directory {
        change_to(directory)?;
    }
    Context::from_environment(Output::new(global.format))
}

fn change_to(directory: &Path) -> Result<(), Failure> {
    std::env::set_current_dir(directory)
        .map_err(|error| Failure::io("change to the directory", directory, &error))
}

/// Starts logging to standard error: warnings, unless a filter says what.
fn log(filter: Option<&str>) -> Result<(), Failure> {
    let colors = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // It would be told on standard error that this cannot be written to, which panics.
        .log_internal_errors(false)
        .with_ansi(colors);
    let started = match filter.filter(|filter| !filter.is_empty()) {
        None => log
            .with_max_level(LevelFilter::WARN)
            .without_time()
            .try_init(),
        Some(filter) => {
            let filter = EnvFilter::try_new(filter).map_err(|error| {
                Failure::usage(format!("`{filter}` is no filter for the log: {error}"))
                    .hint("write a level such as `info`, or levels by target: `vox_host=debug`")
            })?;
            log.with_env_filter(filter).try_init()
        }
    };
    // Whoever runs this as a library may log in a way of their own.
    let _ = started;
    Ok(())
}

/// The global options of a command line that does not parse; the default where there is none.
fn global_options(words: &[OsString]) -> GlobalOptions {
    let lenient = GlobalOptions::augment_args(clap::Command::new("vox"))
        .disable_help_flag(true)
        .ignore_errors(true)
        .allow_external_subcommands(true);
    let matches = lenient.try_get_matches_from(words);
    let options = matches.and_then(|matches| GlobalOptions::from_arg_matches(&matches));
    options.unwrap_or_else(|_| GlobalOptions {
        format: cli::Format::default(),
        color: cli::Color::default(),
        log: None,
        directory: None,
    })
}

/// Answers a command line that asks for help, or that clap refuses.
fn explain(
    error: clap::Error,
    global: &GlobalOptions,
    words: &[OsString],
) -> Result<ExitCode, Failure> {
    let output = Output::new(global.format);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // The same help again, now with the verbs of plugins. Without them if they cannot be
            // found: help is what somebody whose files are broken may be looking for.
            let verbs = begin(global).and_then(|context| external::verbs(&context));
            let command = cli::command().after_help(cli::after_help(&verbs.unwrap_or_default()));
            let again = command.try_get_matches_from(words);
            print_clap(output, &again.err().unwrap_or(error))
        }
        ErrorKind::InvalidSubcommand => match help_for_verb(words) {
            Some(words) => commands::run(&begin(global)?, TopLevel::External(words)),
            None => print_clap(output, &error),
        },
        _ => print_clap(output, &error),
    }
}

/// `vox help <verb> …` for a verb that is not built in, as `<verb> … --help`.
fn help_for_verb(words: &[OsString]) -> Option<Vec<OsString>> {
    let at = words.iter().position(|word| word == "help")?;
    let verb = words[at + 1..]
        .iter()
        .map(OsString::clone)
        .collect::<Vec<_>>();
    let first = verb.first()?.to_str()?;
    if first.starts_with('-') || cli::BUILT_IN_VERBS.contains(&first) {
        return None;
    }
    Some(verb.into_iter().chain(["--help".into()]).collect())
}

/// Prints what clap has to say, to the stream that it belongs to.
fn print_clap(output: Output, error: &clap::Error) -> Result<ExitCode, Failure> {
    let text = error.render();
    if !error.use_stderr() {
        output::print(text.ansi().to_string().as_bytes())?;
        return Ok(Exit::Success.into());
    }
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if !is_help && !output.is_human() {
        return Err(usage_for_programs(&text.to_string()));
    }
    output::complain(format_args!("{}", text.ansi()));
    Ok(Exit::Usage.into())
}

/// What clap says in paragraphs, of which the first is the message and one may be a tip.
fn usage_for_programs(text: &str) -> Failure {
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let message = paragraphs.next().unwrap_or_default();
    let failure = Failure::usage(message.strip_prefix("error: ").unwrap_or(message));
    match paragraphs.find_map(|paragraph| paragraph.strip_prefix("tip: ")) {
        Some(tip) => failure.hint(tip),
        None => failure,
    }
}
