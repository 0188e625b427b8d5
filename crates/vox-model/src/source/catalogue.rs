//! The models that Vox knows by name.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;
use vox_crypto::Digest;

use super::path_fault;
use super::spec::{Spec, is_catalogue_name, nearest};

/// The list of `models.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    models: Vec<Entry>,
}

/// A model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Entry {
    /// What it is called here.
    pub name: String,
    /// What it is, in one line.
    pub description: String,
    /// Its licence as an SPDX id.
    pub licence: String,
    /// Its architecture by the name in `config.json`, such as `llama`.
    pub architecture: String,
    /// Number of its parameters.
    pub parameters: u64,
    /// Where it is, the preferred place first.
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
}

/// A place where a model of the catalogue is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Source {
    /// The place.
    #[serde(deserialize_with = "spec")]
    pub spec: Spec,
    /// The one file of it to take; whatever makes up the model if it is not said.
    pub file: Option<String>,
    /// Bytes of that file.
    pub size: Option<u64>,
    /// Digest of that file. A source without one is taken only when the user accepts what is unpinned.
    pub digest: Option<Digest>,
    /// Digest of the wheel that the file is in.
    pub archive_digest: Option<Digest>,
}

impl Source {
    /// Whether everything that is taken has a digest here.
    pub const fn is_pinned(&self) -> bool {
        self.digest.is_some()
    }
}

/// What is wrong with a catalogue, or with a name that is looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// Not a catalogue.
    #[error("the catalogue cannot be read: {0}")]
    Syntax(String),
    /// An entry is wrong.
    #[error("line {line} of the catalogue: {why}")]
    Entry {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// No model of that name.
    #[error(
        "the catalogue has no model `{}`{}; `./{}` would be a file here",
        name.escape_debug(), hint(near.as_deref()), name.escape_debug()
    )]
    Unknown {
        /// The name.
        name: String,
        /// What may have been meant.
        near: Option<String>,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!(", did you mean `{near}`?"))
        .unwrap_or_default()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "model")]
    models: Vec<Spanned<Entry>>,
}

impl Catalogue {
    /// The catalogue that comes with this version of Vox.
    ///
    /// # Errors
    ///
    /// None, as a test sees to.
    pub fn builtin() -> Result<Self, CatalogueError> {
        Self::parse(include_str!("../../../../models.toml"))
    }

    /// Reads a catalogue.
    ///
    /// # Errors
    ///
    /// [`CatalogueError`], with the place of the fault.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let file: File =
            toml::from_str(text).map_err(|error| CatalogueError::Syntax(error.to_string()))?;
        let mut names = BTreeSet::new();
        for model in &file.models {
            let fault = |why| CatalogueError::Entry {
                line: line(text, model.span()),
                why,
            };
            let entry = model.get_ref();
            entry.check().map_err(fault)?;
            if !names.insert(&*entry.name) {
                return Err(fault(format!("there are two models `{}`", entry.name)));
            }
        }
        let models = file.models.into_iter().map(Spanned::into_inner).collect();
        Ok(Self { models })
    }

    /// The models in the order of the file.
    pub fn models(&self) -> &[Entry] {
        &self.models
    }

    /// The model of this name.
    ///
    /// # Errors
    ///
    /// [`CatalogueError::Unknown`], with the nearest name.
    pub fn find(&self, name: &str) -> Result<&Entry, CatalogueError> {
        let found = self.models.iter().find(|model| model.name == name);
        found.ok_or_else(|| CatalogueError::Unknown {
            name: name.to_owned(),
            near: nearest(name, self.models.iter().map(|model| &*model.name)).map(str::to_owned),
        })
    }
}

impl Entry {
    fn check(&self) -> Result<(), String> {
        if !is_catalogue_name(&self.name) {
            return Err(format!(
                "`{}` cannot be the name of a model: small letters, digits, `-`, `.` and `_`",
                self.name.escape_debug()
            ));
        }
        if self.sources.is_empty() {
            return Err(format!("`{}` has no source", self.name));
        }
        for source in &self.sources {
            let why = source.fault();
            if let Some(why) = why {
                return Err(format!(
                    "the source `{}` of `{}` {why}",
                    source.spec, self.name
                ));
            }
        }
        Ok(())
    }
}

impl Source {
    fn fault(&self) -> Option<&'static str> {
        match self.spec {
            Spec::Path(_) => return Some("is a path, which means something else on every machine"),
            Spec::Catalogue(_) => return Some("is itself a name of a catalogue"),
            _ => {}
        }
        if let Some(why) = self.file.as_deref().and_then(path_fault) {
            return Some(why);
        }
        let single = self.file.is_some() || matches!(self.spec, Spec::Url(_));
        if !single && (self.digest.is_some() || self.size.is_some()) {
            return Some("has a digest or a size but does not say of which `file`");
        }
        if self.archive_digest.is_some() && !matches!(self.spec, Spec::Package { .. }) {
            return Some("has an `archive-digest`, which only packages have");
        }
        (self.size == Some(0)).then_some("has the size 0")
    }
}

fn spec<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Spec, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(de::Error::custom)
}

fn line(text: &str, span: Range<usize>) -> usize {
    let before = text.get(..span.start).unwrap_or_default();
    before.matches('\n').count() + 1
}
