//! `vox hello`: greets someone. The smallest command there is, and a pattern for larger ones.

use std::io::Write;

use vox_plugin::clap::{self, CommandFactory, Parser};
use vox_plugin::{Command, Error, Output, Result, command::Node, describe_command, plugin};

/// Greets someone.
#[derive(Parser)]
#[command(name = "hello", no_binary_name = true)]
struct Arguments {
    /// Who is greeted.
    #[arg(default_value = "world")]
    name: String,
    /// How often.
    #[arg(short, long, default_value_t = 1, value_name = "TIMES")]
    repeat: u32,
    /// In capitals.
    #[arg(short, long)]
    loud: bool,
}

impl Arguments {
    fn greeting(&self) -> String {
        let greeting = format!("Hello, {}!", self.name);
        if self.loud {
            greeting.to_uppercase()
        } else {
            greeting
        }
    }
}

/// The plugin: it keeps nothing.
#[plugin(command)]
#[derive(Default)]
struct Hello;

impl Command for Hello {
    fn describe(&mut self, _verb: &str) -> Result<Vec<Node>> {
        Ok(describe_command(&Arguments::command()))
    }

    fn run(&mut self, _verb: &str, arguments: Vec<String>) -> Result<u8> {
        let arguments = Arguments::try_parse_from(arguments)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let mut stdout = Output::new("stdout");
        for _ in 0..arguments.repeat {
            writeln!(stdout, "{}", arguments.greeting())?;
        }
        stdout.flush()?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(arguments: &[&str]) -> String {
        Arguments::try_parse_from(arguments).unwrap().greeting()
    }

    #[test]
    fn the_world_is_greeted_unless_somebody_is_named() {
        assert_eq!(greeting(&[]), "Hello, world!");
        assert_eq!(greeting(&["Emma"]), "Hello, Emma!");
        assert_eq!(greeting(&["--loud", "Emma"]), "HELLO, EMMA!");
    }

    #[test]
    fn the_verb_is_described_with_its_arguments() {
        let nodes = Hello.describe("hello").unwrap();
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes[0].path, ["hello"]);
        let ids = nodes[0]
            .arguments
            .iter()
            .map(|argument| argument.id.as_str());
        assert_eq!(ids.collect::<Vec<_>>(), ["name", "repeat", "loud"]);
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        let refused = Hello.run("hello", vec!["--repeat".to_owned(), "often".to_owned()]);
        assert!(matches!(refused, Err(Error::Invalid(text)) if text.contains("often")));
    }
}
