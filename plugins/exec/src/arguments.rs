//! What a step asks for: its arguments, and the program that they name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vox_plugin::serde_json::{Value, json};
use vox_plugin::{Attribute, Error, Result, from_json};

/// Where programs are looked for when the step's environment has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A step's arguments as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    command: Option<Vec<String>>,
    shell: Option<String>,
    directory: Option<PathBuf>,
}

/// A program to be started.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// What the user wrote for the program, as messages name it.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// Its environment, complete.
    pub environment: Vec<(String, String)>,
    /// The directory that it starts in.
    pub directory: PathBuf,
}

/// The JSON Schema of the arguments.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "exec",
        "description": "Runs a program.",
        "type": "object",
        "properties": {
            "command": {
                "description": "The program and its arguments. No shell reads them.",
                "type": "array",
                "items": { "type": "string" },
                "minItems": 1
            },
            "shell": {
                "description": "A script, run by `/bin/sh -c`.",
                "type": "string",
                "minLength": 1
            },
            "directory": {
                "description": "Where the program starts, relative to the run's directory.",
                "type": "string",
                "minLength": 1
            }
        },
        "additionalProperties": false,
        "oneOf": [{ "required": ["command"] }, { "required": ["shell"] }]
    })
}

impl Program {
    /// Reads a step's arguments and finds the program. `base` is the run's directory.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the arguments make no sense, [`Error::NotFound`] when there is no
    /// such program or directory.
    pub fn new(arguments: &str, environment: &[Attribute], base: &Path) -> Result<Self> {
        let Arguments {
            command,
            shell,
            directory,
        } = from_json(arguments)?;
        let mut words = match (command, shell) {
            (Some(command), None) => command.into_iter(),
            (None, Some(script)) => vec!["/bin/sh".to_owned(), "-c".to_owned(), script].into_iter(),
            _ => {
                return Err(Error::Invalid(
                    "give the step either `command`, the program and its arguments, or `shell`, a \
                     script"
                        .to_owned(),
                ));
            }
        };
        let Some(name) = words.next().filter(|name| !name.is_empty()) else {
            return Err(Error::Invalid("`command` names no program".to_owned()));
        };
        let directory = directory.map_or_else(|| base.to_owned(), |directory| base.join(directory));
        if !directory.is_dir() {
            return Err(Error::NotFound(format!(
                "`{name}` cannot start in {}: there is no such directory",
                directory.display()
            )));
        }
        let mut environment: Vec<(String, String)> = environment
            .iter()
            .map(|variable| (variable.key.clone(), variable.value.clone()))
            .collect();
        if !environment.iter().any(|(key, _)| key == "PATH") {
            environment.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let path = environment
            .iter()
            .find(|(key, _)| key == "PATH")
            .map_or("", |(_, path)| path);
        let file = find(&name, path, &directory)?;
        Ok(Self {
            name,
            file,
            arguments: words.collect(),
            environment,
            directory,
        })
    }
}

/// The file of a program: relative to `directory` when its name has a slash, otherwise from `path`.
fn find(name: &str, path: &str, directory: &Path) -> Result<PathBuf> {
    let places = || path.split(':').map(|place| directory.join(place));
    if name.contains('/') {
        let program = directory.join(name);
        return match fs::metadata(&program) {
            Ok(_) if is_program(&program) => Ok(program),
            Ok(_) => Err(Error::Invalid(format!(
                "{} is no program; allow it to be executed with `chmod +x`, or name the program \
                 that reads it",
                program.display()
            ))),
            Err(error) => Err(Error::NotFound(format!(
                "there is no program {}: {error}",
                program.display()
            ))),
        };
    }
    if let Some(program) = places()
        .map(|place| place.join(name))
        .find(|file| is_program(file))
    {
        return Ok(program);
    }
    Err(Error::NotFound(match nearest(name, places()) {
        Some(near) => format!("there is no program `{name}`; did you mean `{near}`?"),
        None => format!(
            "there is no program `{name}` in {path}; install it, or set PATH in the step's `env`"
        ),
    }))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The program whose name is most like `name`, if one is like it at all.
fn nearest(name: &str, places: impl Iterator<Item = PathBuf>) -> Option<String> {
    let allowed = name.chars().count().div_ceil(3);
    places
        .filter_map(|place| fs::read_dir(place).ok())
        .flat_map(|entries| entries.flatten())
        .filter_map(|entry| {
            let known = entry.file_name().to_str()?.to_owned();
            let distance = strsim::damerau_levenshtein(name, &known);
            (distance <= allowed && is_program(&entry.path())).then_some((distance, known))
        })
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(arguments: Value) -> Result<Program> {
        Program::new(&arguments.to_string(), &[], Path::new("/"))
    }

    fn refusal(arguments: Value) -> Error {
        program(arguments).expect_err("it was taken")
    }

    #[test]
    fn a_command_is_a_program_and_its_arguments() {
        let program =
            program(json!({ "command": ["sh", "-c", "a b"], "directory": "tmp" })).unwrap();
        assert!(program.file.ends_with("bin/sh"));
        assert_eq!(program.arguments, ["-c", "a b"]);
        assert_eq!(program.directory, Path::new("/tmp"));
    }

    #[test]
    fn a_script_is_read_by_the_shell() {
        let program = program(json!({ "shell": "a | b" })).unwrap();
        assert_eq!(program.file, Path::new("/bin/sh"));
        assert_eq!(program.arguments, ["-c", "a | b"]);
    }

    #[test]
    fn the_environment_is_the_steps_own_and_a_path() {
        let of = |variables: &[(&str, &str)]| {
            let variables: Vec<Attribute> = variables
                .iter()
                .map(|(key, value)| vox_plugin::attribute(*key, *value))
                .collect();
            Program::new(r#"{"command":["/bin/sh"]}"#, &variables, Path::new("/"))
                .unwrap()
                .environment
        };
        assert_eq!(of(&[]), [("PATH".into(), DEFAULT_PATH.into())]);
        assert_eq!(of(&[("PATH", "/x")]), [("PATH".into(), "/x".into())]);
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for arguments in [
            json!({}),
            json!({ "command": [] }),
            json!({ "command": [""] }),
            json!({ "command": ["a"], "shell": "b" }),
            json!({ "comand": ["a"] }),
        ] {
            assert!(
                matches!(refusal(arguments.clone()), Error::Invalid(_)),
                "{arguments}"
            );
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_answered_with_the_nearest() {
        let directory = tempfile::tempdir().unwrap();
        for (name, mode) in [("frobnicate", 0o755), ("frobnicated", 0o644)] {
            let file = directory.path().join(name);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = directory.path().to_str().unwrap();
        let Err(Error::NotFound(told)) = find("frobnicte", path, Path::new("/")) else {
            panic!("it was found")
        };
        assert_eq!(
            told,
            "there is no program `frobnicte`; did you mean `frobnicate`?"
        );
        let Err(Error::NotFound(told)) = find("something-else", path, Path::new("/")) else {
            panic!("it was found")
        };
        assert!(told.contains("set PATH in the step's `env`"), "{told}");
    }

    #[test]
    fn a_path_that_leads_to_no_program_is_refused_with_the_reason() {
        let told = refusal(json!({ "command": ["./none/such"] })).to_string();
        assert!(told.contains("/./none/such"), "{told}");
        let told = refusal(json!({ "command": ["/etc/passwd"] })).to_string();
        assert!(told.contains("chmod +x"), "{told}");
        let told = refusal(json!({ "command": ["sh"], "directory": "none" })).to_string();
        assert!(told.contains("/none"), "{told}");
    }
}
