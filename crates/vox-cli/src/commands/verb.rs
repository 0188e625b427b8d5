//! From a plugin's description of a verb to a clap command.
//!
//! The description comes from a plugin, so nothing in it is taken on trust: clap panics on a
//! command that contradicts itself, and [`command`] refuses it first.

use std::collections::BTreeSet;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};
use vox_host::contract::command::{Argument, Arity, Node};

use crate::output::style;

/// The id of the option that shows help; the dot keeps it apart from every id of a plugin.
const HELP: &str = ".help";

/// Why a description cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A clap command for `verb`, from its description.
///
/// # Errors
///
/// [`Malformed`] names the argument or the subcommand that cannot be.
pub(crate) fn command(verb: &str, nodes: &[Node]) -> Result<Command, Malformed> {
    let Some((root, _)) = nodes.split_first().filter(|(root, _)| root.path.len() == 1) else {
        return Err(Malformed(
            "it does not begin with the verb itself".to_owned(),
        ));
    };
    let mut paths = BTreeSet::new();
    for node in nodes {
        let parent = &node.path[..node.path.len().saturating_sub(1)];
        if !parent.is_empty() && !paths.contains(parent) {
            return Err(Malformed(format!(
                "`{}` comes before its parent",
                node.path.join(" ")
            )));
        }
        if node.path.iter().any(|name| !is_word(name)) || !paths.insert(node.path.as_slice()) {
            return Err(Malformed(format!(
                "`{}` is no name, or comes twice",
                node.path.join(" ")
            )));
        }
        if node.path[0] != root.path[0] {
            return Err(Malformed(format!(
                "`{}` is not below the verb",
                node.path.join(" ")
            )));
        }
    }
    build(verb, root, nodes)
}

/// The command of a node with all below it.
fn build(name: &str, node: &Node, nodes: &[Node]) -> Result<Command, Malformed> {
    let mut command = Command::new(name.to_owned())
        .about(style::plain(&node.about))
        .styles(style::CLAP)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .subcommand_required(node.subcommand_required);
    for argument in checked(&node.arguments)? {
        command = command.arg(argument);
    }
    command = command.arg(help_option(&node.arguments));
    let depth = node.path.len();
    let children = nodes
        .iter()
        .filter(|child| child.path.len() == depth + 1 && child.path.starts_with(&node.path));
    for child in children {
        command = command.subcommand(build(&child.path[depth], child, nodes)?);
    }
    Ok(command)
}

/// `--help`, and `-h` where the plugin has no other use for it.
fn help_option(arguments: &[Argument]) -> Arg {
    let mut help = Arg::new(HELP).action(ArgAction::Help).help("Print help");
    if arguments.iter().all(|argument| argument.short != Some('h')) {
        help = help.short('h');
    }
    if arguments
        .iter()
        .all(|argument| argument.long.as_deref() != Some("help"))
    {
        help = help.long("help");
    }
    // clap wants an option to have a name; one that has none left is not shown.
    let nameless = help.get_short().is_none() && help.get_long().is_none();
    if nameless {
        help.long(HELP).hide(true)
    } else {
        help
    }
}

/// The arguments of a node, after everything was checked that clap takes for granted.
fn checked(arguments: &[Argument]) -> Result<Vec<Arg>, Malformed> {
    let mut ids = BTreeSet::new();
    let mut shorts = BTreeSet::new();
    let mut longs = BTreeSet::new();
    let mut last_positional: Option<&Argument> = None;
    for argument in arguments {
        let refuse = |why: &str| Err(Malformed(format!("argument `{}` {why}", argument.id)));
        let Argument {
            id,
            short,
            long,
            arity,
            ..
        } = argument;
        if !is_word(id) || !ids.insert(id.as_str()) {
            return refuse("has no proper id, or comes twice");
        }
        if short.is_some_and(|short| {
            short == '-' || short.is_whitespace() || short.is_control() || !shorts.insert(short)
        }) {
            return refuse("has a short name that another one has, or that cannot be typed");
        }
        if long
            .as_deref()
            .is_some_and(|long| !is_word(long) || !longs.insert(long))
        {
            return refuse("has a long name that another one has, or that cannot be typed");
        }
        let takes_value = matches!(arity, Arity::Single | Arity::Many);
        if !takes_value && !argument.default_values.is_empty() {
            return refuse("takes no value and has a default");
        }
        if *arity == Arity::Single && argument.default_values.len() > 1 {
            return refuse("takes one value and has several defaults");
        }
        let possible = &argument.possible_values;
        if !possible.is_empty()
            && argument
                .default_values
                .iter()
                .any(|value| !possible.contains(value))
        {
            return refuse("has a default that it does not allow");
        }
        if argument.required && !argument.default_values.is_empty() {
            return refuse("is required and has a default");
        }
        if short.is_none() && long.is_none() {
            if !takes_value {
                return refuse("is positional and takes no value");
            }
            if let Some(before) = last_positional {
                if before.arity == Arity::Many {
                    return refuse("follows a positional argument that takes all values");
                }
                if argument.required && !before.required {
                    return refuse("is required and follows a positional argument that is not");
                }
            }
            last_positional = Some(argument);
        }
    }
    let conflicts = |argument: &Argument| -> Vec<String> {
        argument
            .conflicts
            .iter()
            .filter(|other| **other != argument.id)
            .cloned()
            .collect()
    };
    let unknown = arguments.iter().find_map(|argument| {
        let other = conflicts(argument)
            .into_iter()
            .find(|other| !ids.contains(other.as_str()))?;
        Some(Malformed(format!(
            "argument `{}` excludes `{other}`, which is not there",
            argument.id
        )))
    });
    match unknown {
        Some(malformed) => Err(malformed),
        None => Ok(arguments
            .iter()
            .map(|argument| arg(argument, conflicts(argument)))
            .collect()),
    }
}

fn arg(argument: &Argument, conflicts: Vec<String>) -> Arg {
    let Argument {
        id,
        short,
        long,
        value_name,
        help,
        arity,
        required,
        hidden,
        ..
    } = argument;
    let positional = short.is_none() && long.is_none();
    let mut arg = Arg::new(id.clone())
        .help(style::plain(help))
        .required(*required)
        .hide(*hidden)
        .conflicts_with_all(conflicts)
        .action(match arity {
            Arity::Switch => ArgAction::SetTrue,
            Arity::Count => ArgAction::Count,
            Arity::Single => ArgAction::Set,
            Arity::Many => ArgAction::Append,
        });
    if let Some(short) = short {
        arg = arg.short(*short);
    }
    if let Some(long) = long {
        arg = arg.long(long.clone());
    }
    if matches!(arity, Arity::Switch | Arity::Count) {
        return arg;
    }
    if *arity == Arity::Many && positional {
        arg = arg.num_args(1..);
    }
    if let Some(name) = value_name {
        arg = arg.value_name(style::plain(name));
    }
    if !argument.default_values.is_empty() {
        arg = arg.default_values(argument.default_values.clone());
    }
    if !argument.possible_values.is_empty() {
        arg = arg.value_parser(PossibleValuesParser::new(argument.possible_values.clone()));
    }
    arg
}

/// Whether a name can be typed as one word that is no option.
fn is_word(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name
            .chars()
            .all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(id: &str) -> Argument {
        Argument {
            id: id.to_owned(),
            short: None,
            long: Some(id.to_owned()),
            value_name: None,
            help: String::new(),
            arity: Arity::Single,
            required: false,
            default_values: Vec::new(),
            possible_values: Vec::new(),
            conflicts: Vec::new(),
            hidden: false,
        }
    }

    fn node(path: &[&str], arguments: Vec<Argument>) -> Node {
        Node {
            path: path.iter().map(ToString::to_string).collect(),
            about: String::new(),
            arguments,
            subcommand_required: false,
        }
    }

    fn refusal(arguments: Vec<Argument>) -> String {
        command("x", &[node(&["x"], arguments)])
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn subcommands_and_arguments_are_those_of_the_description() {
        let user = Argument {
            short: Some('u'),
            required: true,
            ..argument("user")
        };
        let files = Argument {
            long: None,
            arity: Arity::Many,
            ..argument("files")
        };
        let nodes = [
            node(&["registry"], vec![]),
            node(&["registry", "login"], vec![user, files]),
        ];
        let mut built = command("registry", &nodes).unwrap();
        built.clone().debug_assert();
        let words = ["registry", "login", "-u", "me", "a", "b"];
        built.try_get_matches_from_mut(words).unwrap();
        let error = built
            .try_get_matches_from_mut(["registry", "login"])
            .unwrap_err();
        assert_eq!(
            error.kind(),
            clap::error::ErrorKind::MissingRequiredArgument
        );
    }

    #[test]
    fn a_description_that_clap_would_panic_on_is_refused() {
        let positional = |id: &str| Argument {
            long: None,
            ..argument(id)
        };
        assert!(refusal(vec![argument("a"), argument("a")]).contains("comes twice"));
        assert!(
            refusal(vec![Argument {
                conflicts: vec!["b".into()],
                ..argument("a")
            }])
            .contains("not there")
        );
        assert!(
            refusal(vec![Argument {
                long: Some("--a".into()),
                ..argument("a")
            }])
            .contains("cannot be typed")
        );
        assert!(
            refusal(vec![
                positional("a"),
                Argument {
                    required: true,
                    ..positional("b")
                }
            ])
            .contains("is required and follows")
        );
        assert!(
            refusal(vec![
                Argument {
                    arity: Arity::Many,
                    ..positional("a")
                },
                positional("b")
            ])
            .contains("takes all values")
        );
        assert!(
            refusal(vec![Argument {
                default_values: vec!["x".into()],
                possible_values: vec!["y".into()],
                ..argument("a")
            }])
            .contains("does not allow")
        );
        assert!(command("x", &[]).is_err());
        assert!(command("x", &[node(&["x", "y"], vec![])]).is_err());
        assert!(command("x", &[node(&["x"], vec![]), node(&["x", "y", "z"], vec![])]).is_err());
    }

    #[test]
    fn a_plugin_may_have_its_own_h_and_help() {
        let h = Argument {
            short: Some('h'),
            ..argument("host")
        };
        command("x", &[node(&["x"], vec![h, argument("help")])])
            .unwrap()
            .debug_assert();
    }
}
