//! The pages on the command line, from what `vox` itself prints.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::{Page, schema};
use crate::workspace::{Workspace, output_of};

/// The pages of this `vox`.
pub fn pages(workspace: &Workspace, vox: &Path) -> anyhow::Result<Vec<Page>> {
    let mut text = "# Command line\n\n\
        The commands of Vox itself. Plugins add verbs of their own: `vox --help` lists those that \
        are installed.\n"
        .to_owned();
    describe(workspace, vox, &[], &mut text)?;
    let help = output_of(bare(workspace, vox).arg("--help"))?;
    let codes = section(&help, "Exit codes:");
    if codes.is_empty() {
        bail!("`vox --help` lists no exit codes: xtask/src/docs/cli.rs looks for `Exit codes:`");
    }
    let plan = output_of(bare(workspace, vox).args(["plugin", "schema", "pipeline"]))?;
    let plan =
        serde_json::from_str(&plan).context("`vox plugin schema pipeline` printed no JSON")?;
    let training = output_of(bare(workspace, vox).args(["train", "--schema"]))?;
    let training =
        serde_json::from_str(&training).context("`vox train --schema` printed no JSON")?;
    Ok(vec![
        schema::pipeline(&plan),
        schema::training(&training),
        Page {
            file: "cli.md",
            source: "`vox --help`",
            text,
        },
        Page {
            file: "exit-codes.md",
            source: "`vox --help`",
            text: exit_codes(&codes),
        },
    ])
}

fn exit_codes(lines: &[&str]) -> String {
    let mut text = "# Exit codes\n\n\
        How `vox` tells the shell what became of it. A code never changes its meaning. The verb of \
        a plugin may end with any other code as well.\n\n| code | meaning |\n|---|---|\n"
        .to_owned();
    for (code, meaning) in lines.iter().filter_map(|line| line.trim().split_once(' ')) {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "| {code} | {} |", meaning.trim());
    }
    text
}

/// Adds what a command and then each of its subcommands print for `--help`.
fn describe(
    workspace: &Workspace,
    vox: &Path,
    path: &[&str],
    text: &mut String,
) -> anyhow::Result<()> {
    let help = output_of(bare(workspace, vox).args(path).arg("--help"))?;
    let name = [&["vox"], path].concat().join(" ");
    let level = "#".repeat((path.len() + 2).min(4));
    let mut help: Vec<&str> = help.lines().map(str::trim_end).collect();
    if !path.is_empty() {
        help = without_section(&help, "Global options:");
    }
    let help = help.join("\n");
    // Writing to a `String` cannot fail.
    let _ = write!(text, "\n{level} {name}\n\n```text\n{}\n```\n", help.trim());
    for subcommand in subcommands(&help) {
        describe(workspace, vox, &[path, &[subcommand]].concat(), text)?;
    }
    Ok(())
}

/// `vox` as on a machine without plugins.
fn bare(workspace: &Workspace, vox: &Path) -> Command {
    let nothing = workspace.target.join("vox-docs");
    let mut command = Command::new(vox);
    command
        .current_dir(&workspace.root)
        .env("VOX_DATA", nothing.join("data"))
        .env("VOX_CACHE", nothing.join("cache"))
        .env_remove("VOX_PLUGIN_PATH")
        .env("NO_COLOR", "1");
    command
}

/// The names in the section `Commands:` of a help text, but `help`.
fn subcommands(help: &str) -> Vec<&str> {
    section(help, "Commands:")
        .into_iter()
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

/// A help text without a section: what is the same everywhere is on the page once.
fn without_section<'h>(help: &[&'h str], heading: &str) -> Vec<&'h str> {
    let Some(start) = help.iter().position(|line| *line == heading) else {
        return help.to_vec();
    };
    let below = &help[start + 1..];
    let is_outside = |line: &&str| !line.is_empty() && !line.starts_with(' ');
    let after = below
        .iter()
        .position(is_outside)
        .map_or(&below[..0], |end| &below[end..]);
    [&help[..start], after].concat()
}

/// The indented lines below a heading of a help text.
fn section<'h>(help: &'h str, heading: &str) -> Vec<&'h str> {
    let below = help.lines().skip_while(|line| *line != heading).skip(1);
    below.take_while(|line| line.starts_with("  ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_taken_out_up_to_what_is_not_indented() {
        let help = [
            "Usage",
            "",
            "Global options:",
            "  -x",
            "",
            "      Text",
            "",
            "After",
            "  more",
        ];
        assert_eq!(
            without_section(&help, "Global options:"),
            ["Usage", "", "After", "  more"]
        );
        assert_eq!(
            without_section(&help[..6], "Global options:"),
            ["Usage", ""]
        );
        assert_eq!(without_section(&help, "Other:"), help);
    }

    #[test]
    fn subcommands_are_those_that_the_help_lists() {
        let help = "Does.\n\nUsage: vox\n\nCommands:\n  run   Runs\n        a plan\n  help  Help\n\nOptions:\n  -h\n";
        assert_eq!(subcommands(help), ["run"]);
        assert!(subcommands("Options:\n  -h\n").is_empty());
    }
}
