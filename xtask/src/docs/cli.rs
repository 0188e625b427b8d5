//! The pages on the command line, from what `vox` itself prints.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::Page;
use crate::workspace::{Workspace, output_of};

/// The pages of this `vox`.
pub fn pages(workspace: &Workspace, vox: &Path) -> anyhow::Result<Vec<Page>> {
    let mut text = "# Command line\n\n\
        The commands of Vox itself. Plugins add verbs of their own: `vox --help` lists those that \
        are installed.\n"
        .to_owned();
    describe(workspace, vox, &[], &mut text)?;
    Ok(vec![Page {
        file: "cli.md",
        source: "`vox --help`",
        text,
    }])
}

/// Adds what a command and then each of its subcommands print for `--help`.
fn describe(
    workspace: &Workspace,
    vox: &Path,
    path: &[&str],
    text: &mut String,
) -> anyhow::Result<()> {
    let help = output_of(&mut bare(workspace, vox, path))?;
    let name = [&["vox"], path].concat().join(" ");
    let level = "#".repeat((path.len() + 2).min(4));
    let help = help
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n");
    // Writing to a `String` cannot fail.
    let _ = write!(text, "\n{level} {name}\n\n```text\n{}\n```\n", help.trim());
    for subcommand in subcommands(&help) {
        describe(workspace, vox, &[path, &[subcommand]].concat(), text)?;
    }
    Ok(())
}

/// `vox <path> --help` as on a machine without plugins, on a terminal of one width everywhere.
fn bare(workspace: &Workspace, vox: &Path, path: &[&str]) -> Command {
    let nothing = workspace.target.join("vox-docs");
    let mut command = Command::new(vox);
    command
        .args(path)
        .arg("--help")
        .current_dir(&workspace.root)
        .env("VOX_DATA", nothing.join("data"))
        .env("VOX_CACHE", nothing.join("cache"))
        .env_remove("VOX_PLUGIN_PATH")
        .env("COLUMNS", "90")
        .env("NO_COLOR", "1");
    command
}

/// The names in the section `Commands:` of a help text, but `help`.
fn subcommands(help: &str) -> Vec<&str> {
    let section = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    section
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_are_those_that_the_help_lists() {
        let help = "Does.\n\nUsage: vox\n\nCommands:\n  run   Runs\n        a plan\n  help  Help\n\nOptions:\n  -h\n";
        assert_eq!(subcommands(help), ["run"]);
        assert!(subcommands("Options:\n  -h\n").is_empty());
    }
}
