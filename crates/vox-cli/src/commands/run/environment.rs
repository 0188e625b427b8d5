//! The environment of steps.
//!
//! A step is the code of a plugin or a program that a pipeline names, so it does not see what
//! happens to stand in the caller's environment: tokens and keys among other things. It sees what
//! programs need in order to run, and what the user passes on by name. A component runs no programs, and
//! a container has the former of its image: both see the latter alone.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::Failure;
use crate::exit::Exit;

/// What programs need in order to run; those that end in `*` stand for all that begin so.
const PASSED_ON: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_*",
    "TZ",
    "TERM",
    "TMPDIR",
    // Windows.
    "SystemRoot",
    "SYSTEMROOT",
    "PATHEXT",
    "TEMP",
    "TMP",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
];

/// A variable that the user passes on or sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    name: String,
    /// None: as it is here.
    value: Option<String>,
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name.is_empty() || name.contains('\0') {
            return Err("write the name of a variable, or `NAME=VALUE`".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            value,
        })
    }
}

/// What steps of native runners inherit of the environment here.
pub(super) fn of_steps() -> BTreeMap<String, String> {
    passed_on(&here())
}

/// The variables that the user passes on or sets.
///
/// # Errors
///
/// One that is to be passed on is not set.
pub(super) fn asked(variables: &[Variable]) -> Result<BTreeMap<String, String>, Failure> {
    chosen(&here(), variables)
}

fn here() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn passed_on(here: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_passed_on = |name: &str| {
        PASSED_ON.iter().any(|known| match known.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *known == name,
        })
    };
    here.iter()
        .filter(|(name, _)| is_passed_on(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn chosen(
    here: &BTreeMap<String, String>,
    asked: &[Variable],
) -> Result<BTreeMap<String, String>, Failure> {
    let value_of = |Variable { name, value }: &Variable| {
        let value = value.as_ref().or_else(|| here.get(name)).ok_or_else(|| {
            Failure::new(
                Exit::NotFound,
                format!("the variable `{name}` is not set here, or is not UTF-8"),
            )
            .hint(format!("set it for the run: `--env {name}=<value>`"))
        })?;
        Ok((name.clone(), value.clone()))
    };
    asked.iter().map(value_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_see_what_programs_need_and_what_is_named() {
        let here = [
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("TOKEN", "secret"),
            ("KEY", "k"),
        ];
        let here = here
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let asked = ["KEY", "MODE=fast", "PATH=/opt"].map(|text| text.parse().unwrap());
        let named = |variables: BTreeMap<String, String>| -> Vec<String> {
            let named = variables.iter();
            named
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        };
        assert_eq!(named(passed_on(&here)), ["LC_ALL=C", "PATH=/bin"]);
        let asked = chosen(&here, &asked).unwrap();
        assert_eq!(named(asked), ["KEY=k", "MODE=fast", "PATH=/opt"]);
        let missing = chosen(&here, &["NOPE".parse().unwrap()]).unwrap_err();
        assert_eq!(missing.exit(), Exit::NotFound);
    }
}
