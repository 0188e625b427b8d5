//! From words to a running child.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use vox_plugin::{Attribute, Error, Result};

/// Starts a program in a process group of its own.
///
/// # Errors
///
/// There is no such program (with the nearest name that there is) or directory, or it may not be
/// executed.
pub fn start(words: &[String], environment: &[Attribute], directory: &Path, reads: bool) -> Result<Child> {
    let [program, arguments @ ..] = words else {
        return Err(Error::Invalid("no program is named".to_owned()));
    };
    if !directory.is_dir() {
        return Err(Error::NotFound(format!("the step's directory {} is not there", directory.display())));
    }
    let variables = || environment.iter().map(|variable| (&variable.key, &variable.value));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(variables())
        .current_dir(directory)
        .stdin(if reads { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let path = variables().find(|(key, _)| *key == "PATH").map_or("", |(_, value)| value.as_str());
            not_found(program, path)
        }
        _ => Error::Failed(format!("`{program}` cannot be started: {error}")),
    })
}

/// Says that there is no such program, and which there is.
fn not_found(program: &str, path: &str) -> Error {
    let nearest = std::env::split_paths(path)
        .filter_map(|directory| directory.read_dir().ok())
        .flat_map(|entries| entries.flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .map(|name| (strsim::damerau_levenshtein(program, &name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 5)
        .min();
    let hint = match nearest {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None => format!("; it is looked for in {path}"),
    };
    Error::NotFound(format!("there is no program `{program}`{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named_with_the_nearest_that_is() {
        let error = not_found("ehco", super::super::DEFAULT_PATH);
        assert_eq!(error, Error::NotFound("there is no program `ehco`; did you mean `echo`?".to_owned()));
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = start(&["ls".to_owned()], &[], Path::new("/no/such/place"), false).unwrap_err();
        assert!(matches!(error, Error::NotFound(text) if text.contains("/no/such/place")));
    }
}
