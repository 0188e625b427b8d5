//! The Hugging Face hub, or a server that speaks like it.
//!
//! The hub says at which commit a revision stands and which files there are; everything is then fetched
//! from that commit, so that a push in between changes nothing.

use std::path::Path;

use serde::Deserialize;
use vox_crypto::Digest;

use super::address::Address;
use super::client::{Client, Token};
use super::download::{Download, Downloaded, Watch};
use super::{Error, path_fault};

const ENDPOINT: &str = "https://huggingface.co";
/// Files of a repository at most.
const MAX_FILES: usize = 100_000;
/// What stands beside the weights and is worth having, in the root of a repository.
const COMPANIONS: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "LICENSE",
];

/// A hub and the token for it.
#[derive(Debug, Clone)]
pub struct Hub {
    endpoint: Address,
    token: Option<Token>,
}

/// A repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubModel {
    /// `org/name`.
    pub id: String,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// All its files.
    pub files: Vec<HubFile>,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubFile {
    /// Its path in the repository, safe to use below a folder.
    pub path: String,
    /// Its length in bytes, as far as the hub says it.
    pub size: Option<u64>,
    /// Its SHA-256, which the hub says of large files.
    pub digest: Option<Digest>,
}

impl Hub {
    /// The hub at this address. The token is sent to it and to nobody else.
    ///
    /// # Errors
    ///
    /// [`Error::Address`].
    pub fn new(endpoint: &str, token: Option<&str>) -> Result<Self, Error> {
        let endpoint = endpoint.trim_end_matches('/');
        Ok(Self {
            endpoint: Address::parse(endpoint)?,
            token: token.map(|token| Token::new(token, endpoint)).transpose()?,
        })
    }

    /// The hub at `HF_ENDPOINT`, huggingface.co if that is not set, with the token in `HF_TOKEN`.
    ///
    /// # Errors
    ///
    /// [`Error::Address`].
    pub fn from_env() -> Result<Self, Error> {
        let set = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        let endpoint = set("HF_ENDPOINT");
        Self::new(
            endpoint.as_deref().unwrap_or(ENDPOINT),
            set("HF_TOKEN").as_deref(),
        )
    }

    /// What is in a repository at a revision; `None` stands for `main`.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; [`Error::UnsafePath`] when a file's path leads elsewhere.
    pub fn model(
        &self,
        client: &Client,
        id: &str,
        revision: Option<&str>,
        watch: &mut dyn Watch,
    ) -> Result<HubModel, Error> {
        let revision = revision.unwrap_or("main").replace('/', "%2F");
        let url = self.at(&format!("/api/models/{id}/revision/{revision}?blobs=true"))?;
        let answer: Answer = client.json(&url, "application/json", self.token.as_ref(), watch)?;
        let fault = |why: &str| Error::Answer {
            url: url.shown(),
            why: why.to_owned(),
        };
        let is_commit = answer.sha.len() == 40
            && answer
                .sha
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !is_commit {
            return Err(fault("it names no commit"));
        }
        if answer.siblings.len() > MAX_FILES {
            return Err(fault("it lists more than 100,000 files"));
        }
        let files = answer.siblings.into_iter().map(|file| file.check(id));
        Ok(HubModel {
            id: id.to_owned(),
            commit: answer.sha,
            files: files.collect::<Result<_, _>>()?,
        })
    }

    /// Fetches one file to the same path below `folder`.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; [`Error::Digest`] when it is not what the hub announced.
    pub fn fetch(
        &self,
        client: &Client,
        model: &HubModel,
        file: &HubFile,
        folder: &Path,
        max_bytes: u64,
        watch: &mut dyn Watch,
    ) -> Result<Downloaded, Error> {
        if let Some(why) = path_fault(&file.path) {
            return Err(unsafe_path(&model.id, &file.path, why));
        }
        let path = encoded(&file.path);
        let url = self.at(&format!("/{}/resolve/{}/{path}", model.id, model.commit))?;
        let what = Download {
            url: &url.full(),
            to: &folder.join(&file.path),
            len: file.size,
            digest: file.digest,
            max_bytes,
            token: self.token.as_ref(),
        };
        client.download(&what, watch)
    }

    fn at(&self, path: &str) -> Result<Address, Error> {
        Address::parse(&format!(
            "{}{path}",
            self.endpoint.full().trim_end_matches('/')
        ))
    }
}

impl HubModel {
    /// The files that make up the model: SafeTensors if there are any, else PyTorch's, else the one GGUF
    /// file; and the configuration and tokenizer files beside them.
    ///
    /// # Errors
    ///
    /// [`Error::NoModel`] when there are no weights, or several and no way to tell which.
    pub fn choose(&self) -> Result<Vec<&HubFile>, Error> {
        let fault = |why| Error::NoModel {
            id: self.id.clone(),
            why,
        };
        let weights = self
            .weights("model", ".safetensors")
            .or_else(|| self.weights("pytorch_model", ".bin"));
        let mut chosen = match weights {
            Some(weights) => weights,
            None => {
                let root = |ending: &str| -> Vec<&HubFile> {
                    let files = self.files.iter();
                    files
                        .filter(|file| !file.path.contains('/') && file.path.ends_with(ending))
                        .collect()
                };
                let found = [root(".safetensors"), root(".gguf")];
                match found.into_iter().find(|found| !found.is_empty()) {
                    Some(found) if found.len() == 1 => found,
                    Some(_) => return Err(fault("there are several files of weights; name one")),
                    None => {
                        return Err(fault("it has neither SafeTensors, PyTorch nor GGUF files"));
                    }
                }
            }
        };
        let companion = |file: &&HubFile| COMPANIONS.contains(&file.path.as_str());
        chosen.extend(self.files.iter().filter(companion));
        Ok(chosen)
    }

    /// The file of this path.
    ///
    /// # Errors
    ///
    /// [`Error::NoModel`] when there is none.
    pub fn file(&self, path: &str) -> Result<&HubFile, Error> {
        let found = self.files.iter().find(|file| file.path == path);
        found.ok_or_else(|| Error::NoModel {
            id: self.id.clone(),
            why: "it has no file of the name that is asked for",
        })
    }

    /// `<stem><ending>`, or its index and the shards `<stem>-00001-of-00002<ending>`.
    fn weights(&self, stem: &str, ending: &str) -> Option<Vec<&HubFile>> {
        let named = |name: &str| self.files.iter().find(|file| file.path == name);
        if let Some(single) = named(&format!("{stem}{ending}")) {
            return Some(vec![single]);
        }
        let index = named(&format!("{stem}{ending}.index.json"))?;
        let is_shard = |file: &&HubFile| {
            let middle = file.path.strip_prefix(stem);
            let middle = middle.and_then(|path| path.strip_suffix(ending));
            middle.is_some_and(|middle| middle.starts_with('-') && !middle.contains('/'))
        };
        let mut files: Vec<&HubFile> = self.files.iter().filter(is_shard).collect();
        files.push(index);
        Some(files)
    }
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Sibling {
    fn check(self, id: &str) -> Result<HubFile, Error> {
        if let Some(why) = path_fault(&self.rfilename) {
            return Err(unsafe_path(id, &self.rfilename, why));
        }
        let sha256 = self.lfs.as_ref().and_then(|large| large.sha256.as_deref());
        let digest = sha256.map(|hex| format!("sha256:{hex}").parse::<Digest>());
        let digest = digest.transpose().map_err(|error| Error::Answer {
            url: self.rfilename.clone(),
            why: error.to_string(),
        })?;
        Ok(HubFile {
            size: self.lfs.and_then(|large| large.size).or(self.size),
            path: self.rfilename,
            digest,
        })
    }
}

fn unsafe_path(of: &str, path: &str, why: &'static str) -> Error {
    Error::UnsafePath {
        of: of.to_owned(),
        path: path.to_owned(),
        why,
    }
}

/// The path as it stands in an address.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}
