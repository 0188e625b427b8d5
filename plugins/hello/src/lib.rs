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
        let mut greeting = format!("Hello, {}!", arguments.name);
        if arguments.loud {
            greeting = greeting.to_uppercase();
        }
        let mut stdout = Output::new("stdout");
        for _ in 0..arguments.repeat {
            writeln!(stdout, "{greeting}")?;
        }
        stdout.flush()?;
        Ok(0)
    }
}
