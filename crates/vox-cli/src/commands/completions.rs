//! `vox completions`: a script that teaches a shell to complete, plugins' verbs included.

use clap::Args;
use clap_complete::Shell;

use super::external;
use crate::cli;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output;

/// Arguments of `vox completions`.
#[derive(Debug, Args)]
#[command(
    after_help = "The script knows the plugins that are installed now; print it again after \
                        installing one.\n\nbash: vox completions bash > \
                        ~/.local/share/bash-completion/completions/vox"
)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script. Loads the plugins that have verbs, to know their arguments.
pub(crate) fn run(context: &Context, arguments: &CompletionsArgs) -> Result<Exit, Failure> {
    let mut command = cli::command().subcommands(external::commands(context)?);
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "vox", &mut script);
    output::print(&script)?;
    Ok(Exit::Success)
}
