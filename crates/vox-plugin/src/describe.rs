//! From a clap command to the contract's description of a verb.

use clap::builder::ValueRange;
use clap::{Arg, ArgAction};

use crate::command::{Argument, Arity, Node};

/// Describes a clap command and its subcommands for `command.describe`, each after its parent.
///
/// ```
/// use vox_plugin::clap::{self, CommandFactory, Parser};
///
/// /// Greets someone.
/// #[derive(Parser)]
/// #[command(name = "hello")]
/// struct Hello {
///     /// Who is greeted.
///     name: Option<String>,
/// }
///
/// let nodes = vox_plugin::describe_command(&Hello::command());
/// assert_eq!(nodes[0].path, ["hello"]);
/// assert_eq!(nodes[0].arguments[0].id, "name");
/// ```
pub fn describe_command(command: &clap::Command) -> Vec<Node> {
    let mut nodes = Vec::new();
    describe_into(&mut nodes, &[], command);
    nodes
}

fn describe_into(nodes: &mut Vec<Node>, parents: &[String], command: &clap::Command) {
    let path = [parents, &[command.get_name().to_owned()]].concat();
    let arguments = command
        .get_arguments()
        .filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"))
        .map(|argument| describe_argument(command, argument))
        .collect();
    nodes.push(Node {
        path: path.clone(),
        about: command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default(),
        arguments,
        subcommand_required: command.is_subcommand_required_set(),
    });
    for subcommand in command.get_subcommands() {
        describe_into(nodes, &path, subcommand);
    }
}

fn describe_argument(command: &clap::Command, argument: &Arg) -> Argument {
    let arity = match argument.get_action() {
        ArgAction::Count => Arity::Count,
        ArgAction::Append => Arity::Many,
        action if !action.takes_values() => Arity::Switch,
        _ if argument
            .get_num_args()
            .unwrap_or(ValueRange::SINGLE)
            .max_values()
            > 1 =>
        {
            Arity::Many
        }
        _ => Arity::Single,
    };
    let takes_value = matches!(arity, Arity::Single | Arity::Many);
    let possible_values = if takes_value {
        argument
            .get_possible_values()
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect()
    } else {
        Vec::new()
    };
    let default_values = if takes_value {
        argument
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy().into_owned())
            .collect()
    } else {
        Vec::new()
    };
    Argument {
        id: argument.get_id().to_string(),
        short: argument.get_short(),
        long: argument.get_long().map(str::to_owned),
        value_name: argument
            .get_value_names()
            .and_then(<[_]>::first)
            .filter(|_| takes_value)
            .map(ToString::to_string),
        help: argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default(),
        arity,
        required: argument.is_required_set(),
        default_values,
        possible_values,
        conflicts: command
            .get_arg_conflicts_with(argument)
            .iter()
            .map(|conflict| conflict.get_id().to_string())
            .collect(),
        hidden: argument.is_hide_set(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    #[command(
        name = "registry",
        about = "Talks to a registry",
        subcommand_required = true
    )]
    enum Registry {
        /// Signs in.
        Login {
            /// Account.
            #[arg(short, long, conflicts_with = "token", default_value = "me")]
            user: String,
            /// Token.
            #[arg(long)]
            token: Option<String>,
            /// More output.
            #[arg(short, action = ArgAction::Count)]
            verbose: u8,
            /// Kind.
            #[arg(long, value_parser = ["a", "b"])]
            kind: Option<String>,
            /// Files.
            files: Vec<String>,
        },
    }

    #[test]
    fn a_clap_command_is_described_with_its_subcommands() {
        let nodes = describe_command(&Registry::command());
        assert_eq!(nodes.len(), 2);
        assert!(nodes[0].subcommand_required);
        let login = &nodes[1];
        assert_eq!(login.path, ["registry", "login"]);
        assert_eq!(login.about, "Signs in");
        let argument = |id: &str| {
            login
                .arguments
                .iter()
                .find(|argument| argument.id == id)
                .unwrap()
        };
        assert_eq!(argument("user").conflicts, ["token"]);
        assert_eq!(argument("user").default_values, ["me"]);
        assert_eq!(argument("verbose").arity, Arity::Count);
        assert_eq!(argument("kind").possible_values, ["a", "b"]);
        assert_eq!(argument("files").arity, Arity::Many);
        assert_eq!(
            (argument("files").short, &argument("files").long),
            (None, &None)
        );
    }
}
