//! Verbs of plugins: `vox hello`.
//!
//! Which verbs there are is in the manifests, so `vox --help` loads nothing. A verb that is asked
//! for loads its plugin, whose description says which arguments there are; they are parsed here,
//! and the plugin runs only with arguments that fit.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use vox_host::registry::RegistryError;
use vox_host::{CallError, Host, Instance, InstanceOptions, contract};

use super::verb;
use crate::cli::BUILT_IN_VERBS;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{LITERAL, plain};
use crate::streams::StandardStreams;
use crate::{interrupt, output};

/// The verbs of the installed plugins with their summaries, one a line.
pub(crate) fn verbs(context: &Context) -> Result<String, Failure> {
    let host = context.host()?;
    let mut text = String::new();
    for (verb, summary, _) in host.registry().verbs() {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "  {LITERAL}{verb:<12}{LITERAL:#} {}", plain(summary));
    }
    Ok(text)
}

/// Runs a verb: its name and what the user wrote after it.
pub(crate) fn run(context: &Context, words: &[OsString]) -> Result<ExitCode, Failure> {
    let mut words = words.iter().map(|word| {
        word.to_str().ok_or_else(|| {
            Failure::usage(format!(
                "`{}` is not UTF-8, which arguments of plugins must be",
                word.display()
            ))
        })
    });
    let verb = words
        .next()
        .ok_or_else(|| Failure::usage("no verb was given"))??;
    let arguments: Vec<String> = words
        .map(|word| word.map(str::to_owned))
        .collect::<Result<_, _>>()?;

    let host = context.host()?;
    let cancel = interrupt::token();
    let streams = Arc::new(StandardStreams::new(cancel.clone()));
    let mut options = InstanceOptions::default();
    options.ports = Arc::clone(&streams) as _;
    options.cancel = cancel;
    let _listening = context.listen(&host, verb);
    let mut instance = instance(&host, verb, options)?;
    let parser = describe(&mut instance, verb)?;
    if let Err(error) = parse(parser, &arguments) {
        return crate::print_clap(context.output, &error);
    }
    match instance.command()?.run(verb, &arguments) {
        Ok(code) => Ok(code.into()),
        Err(_) if streams.is_closed() => Err(Failure::closed()),
        Err(CallError::Refused {
            error: contract::Error::Invalid(text),
            plugin,
            ..
        }) => Err(Failure::usage(format!("{plugin}: {text}"))),
        Err(error) => Err(error.into()),
    }
}

/// An instance of the plugin that serves a verb.
fn instance(host: &Host, verb: &str, options: InstanceOptions) -> Result<Instance, Failure> {
    let plugin = host
        .registry()
        .verb(verb)
        .map_err(|error| unknown(host, verb, error))?;
    Ok(host.instance(plugin.id(), options)?)
}

/// The parser of a verb, as its plugin describes it.
pub(crate) fn describe(instance: &mut Instance, verb: &str) -> Result<clap::Command, Failure> {
    let plugin = instance.plugin().clone();
    let nodes = instance.command()?.describe(verb)?;
    let command = verb::command(verb, &nodes).map_err(|malformed| {
        let message =
            format!("the plugin `{plugin}` describes its verb `{verb}` wrongly: {malformed}");
        Failure::new(Exit::Failed, message)
            .hint("its author can mend that; install another version")
    })?;
    Ok(command.bin_name(format!("vox {verb}")))
}

fn parse(parser: clap::Command, arguments: &[String]) -> Result<(), clap::Error> {
    parser
        .no_binary_name(true)
        .try_get_matches_from(arguments)
        .map(drop)
}

/// A verb that nobody serves may be a built-in one, misspelt.
fn unknown(host: &Host, verb: &str, error: RegistryError) -> Failure {
    let RegistryError::Missing(missing) = &error else {
        return error.into();
    };
    let served = host.registry().verbs().map(|(verb, _, _)| verb.as_str());
    // Of two that are equally near, `vox helo` means `hello` rather than `help`.
    let near = vox_contract::nearest(verb, served.chain(BUILT_IN_VERBS));
    let message = format!("there is no command `{}`", plain(verb));
    match near {
        _ if !missing.known.is_empty() || !missing.unusable.is_empty() => error.into(),
        Some(near) => {
            Failure::new(Exit::NotFound, message).hint(format!("did you mean `vox {near}`?"))
        }
        None => Failure::new(Exit::NotFound, message).hint(
            "`vox --help` lists the commands, `vox plugin search <words>` those that plugins bring",
        ),
    }
}

/// Every verb of the installed plugins with its arguments. One whose plugin cannot be loaded has
/// none, and is told of.
pub(crate) fn commands(context: &Context) -> Result<Vec<clap::Command>, Failure> {
    let host = context.host()?;
    let verbs = host.registry().verbs();
    let commands = verbs.map(|(verb, summary, plugin)| {
        let instance = host.instance(plugin.id(), InstanceOptions::default());
        let described = instance
            .map_err(Failure::from)
            .and_then(|mut instance| describe(&mut instance, verb.as_str()));
        described.unwrap_or_else(|failure| {
            output::complain(format_args!(
                "warning: no arguments of `{verb}`: {}\n",
                failure.message()
            ));
            clap::Command::new(verb.as_str().to_owned()).about(plain(summary))
        })
    });
    Ok(commands.collect())
}
