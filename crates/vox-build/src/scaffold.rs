//! A new plugin: a crate that builds, passes its own test, and shows one extension point at work.
//!
//! Owns the templates. What must stay true: what is written passes `cargo test`, `cargo clippy`
//! and `vox plugin build` as it is; and nothing is ever written into a directory that is there.

use std::fs;
use std::path::{Path, PathBuf};

use vox_contract::{MANIFEST_FILE, PluginId};

use crate::BuildError;

/// The extension point that a new plugin serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Template {
    /// A stage: puts the text of a stream into capitals.
    #[default]
    Stage,
    /// A step: a runner that writes a greeting.
    Step,
    /// A hook: logs each step that ended.
    Hook,
    /// A command: a verb with arguments.
    Command,
    /// Metrics: how often it was asked.
    Metrics,
    /// A backend for inference: answers with the words of its prompt.
    InferenceBackend,
}

impl Template {
    /// Every template.
    pub const ALL: [Self; 6] = [
        Self::Stage,
        Self::Step,
        Self::Hook,
        Self::Command,
        Self::Metrics,
        Self::InferenceBackend,
    ];

    /// The name of its extension point.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Step => "step",
            Self::Hook => "hook",
            Self::Command => "command",
            Self::Metrics => "metrics",
            Self::InferenceBackend => "inference-backend",
        }
    }

    const fn source(self) -> &'static str {
        match self {
            Self::Stage => include_str!("scaffold/templates/stage.rs.in"),
            Self::Step => include_str!("scaffold/templates/step.rs.in"),
            Self::Hook => include_str!("scaffold/templates/hook.rs.in"),
            Self::Command => include_str!("scaffold/templates/command.rs.in"),
            Self::Metrics => include_str!("scaffold/templates/metrics.rs.in"),
            Self::InferenceBackend => {
                include_str!("scaffold/templates/inference-backend.rs.in")
            }
        }
    }

    /// What the manifest says besides what all manifests say.
    const fn manifest(self) -> &'static str {
        match self {
            Self::Stage => include_str!("scaffold/templates/stage.toml.in"),
            Self::Step => include_str!("scaffold/templates/step.toml.in"),
            Self::Hook => include_str!("scaffold/templates/hook.toml.in"),
            Self::Command => include_str!("scaffold/templates/command.toml.in"),
            Self::Metrics => include_str!("scaffold/templates/metrics.toml.in"),
            Self::InferenceBackend => {
                include_str!("scaffold/templates/inference-backend.toml.in")
            }
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Stage => "Puts the text of a stream into capitals",
            Self::Step => "Writes a greeting",
            Self::Hook => "Logs each step that has ended",
            Self::Command => "Greets someone",
            Self::Metrics => "Counts how often it is asked",
            Self::InferenceBackend => "Answers with the words of its prompt",
        }
    }
}

/// Where a new plugin gets the SDK from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sdk {
    /// The directory of the crate `vox-plugin`.
    Path(PathBuf),
    /// A version of `vox-plugin` in cargo's registry.
    Version(String),
}

impl Sdk {
    /// What stands behind `vox-plugin =` in a `Cargo.toml`.
    fn requirement(&self) -> String {
        match self {
            Self::Path(path) => format!("{{ path = {} }}", quoted(&path.display().to_string())),
            Self::Version(version) => quoted(version),
        }
    }
}

/// A plugin that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPlugin {
    /// Its id.
    pub id: PluginId,
    /// What it serves.
    pub template: Template,
    /// Where its SDK is.
    pub sdk: Sdk,
}

/// Writes a new plugin into `directory`, which must not exist, and answers the files, relative to
/// it.
///
/// # Errors
/// [`BuildError::Exists`] when something is in the way, and [`BuildError::Io`].
pub fn scaffold(plugin: &NewPlugin, directory: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let files = [
        (
            "Cargo.toml",
            include_str!("scaffold/templates/cargo.toml.in").to_owned(),
        ),
        (
            MANIFEST_FILE,
            include_str!("scaffold/templates/plugin.toml.in").to_owned()
                + plugin.template.manifest(),
        ),
        ("src/lib.rs", plugin.template.source().to_owned()),
        (
            "README.md",
            include_str!("scaffold/templates/readme.md.in").to_owned(),
        ),
        (".gitignore", "/target\n".to_owned()),
    ];
    if directory.symlink_metadata().is_ok() {
        return Err(BuildError::Exists {
            path: directory.into(),
        });
    }
    let mut written = Vec::new();
    for (name, template) in files {
        let path = directory.join(name);
        let parent = path.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(BuildError::io("create", parent))?;
        fs::write(&path, plugin.fill(&template)).map_err(BuildError::io("write", &path))?;
        written.push(name.into());
    }
    Ok(written)
}

impl NewPlugin {
    fn fill(&self, template: &str) -> String {
        let words: Vec<String> = self
            .id
            .as_str()
            .split(['-', '.'])
            .map(capitalised)
            .collect();
        template
            .replace("{{id}}", self.id.as_str())
            .replace("{{package}}", &self.package())
            .replace("{{crate}}", &self.package().replace('-', "_"))
            .replace("{{type}}", &words.concat())
            .replace("{{name}}", &words.join(" "))
            .replace("{{point}}", self.template.name())
            .replace("{{description}}", self.template.description())
            .replace("{{sdk}}", &self.sdk.requirement())
    }

    /// The id as cargo allows it: a verb and a package have no dots.
    fn package(&self) -> String {
        self.id.as_str().replace('.', "-")
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        if matches!(letter, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(letter);
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use vox_contract::Manifest;

    fn plugin(id: &str, template: Template) -> NewPlugin {
        NewPlugin {
            id: id.parse().unwrap(),
            template,
            sdk: Sdk::Version("0.1".into()),
        }
    }

    #[test]
    fn every_template_has_a_manifest_that_is_accepted() {
        for template in Template::ALL {
            let place = tempfile::tempdir().unwrap();
            let directory = place.path().join("new");
            scaffold(&plugin("acme.my-first", template), &directory).unwrap();
            let manifest = Manifest::load(&directory.join(MANIFEST_FILE))
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(manifest.id, "acme.my-first");
            assert_eq!(manifest.name, "Acme My First");
            let points: Vec<_> = manifest.provides.extension_points.keys().collect();
            assert_eq!(points.len(), 1);
            assert_eq!(points[0].name(), template.name());
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        for template in Template::ALL {
            let place = tempfile::tempdir().unwrap();
            let directory = place.path().join("new");
            for file in scaffold(&plugin("shout", template), &directory).unwrap() {
                let text = fs::read_to_string(directory.join(&file)).unwrap();
                assert!(!text.contains("{{"), "{}: {text}", file.display());
            }
        }
    }

    #[test]
    fn a_directory_that_is_there_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let error = scaffold(&plugin("shout", Template::Stage), place.path()).unwrap_err();
        assert!(matches!(error, BuildError::Exists { .. }), "{error}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
