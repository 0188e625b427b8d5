//! What lies at a path: which files of it belong to a bundle, and what each of them is for.
//!
//! A directory is read as Hugging Face lays models and adapters out; a file by its first bytes, whatever
//! it is called. What must stay true: every file of a directory is either taken with a role or named
//! among those that were left out, with the reason; and files below a directory are looked at where they
//! lie, never through a link out of it.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::error::ImportError;
use crate::bundle::{Role, is_safe_path};

/// The most files of a directory that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// A directory with a model or an adapter.
    Directory(Directory),
    /// One SafeTensors file.
    SafeTensors(PathBuf),
    /// One GGUF file.
    Gguf(PathBuf),
    /// One PyTorch file.
    PyTorch(PathBuf),
}

/// The files of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Those that are taken as they are, with their paths in the bundle.
    pub taken: Vec<Taken>,
    /// PyTorch files that the weights are read from, where there are no others.
    pub pytorch: Vec<PathBuf>,
    /// The index of these files, which says which of them holds what.
    pub pytorch_index: Option<PathBuf>,
    /// Whether it holds an adapter.
    pub is_adapter: bool,
    /// What is left out.
    pub left_out: Vec<LeftOut>,
}

/// A file that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its path in the bundle.
    pub path: String,
    /// Where it lies.
    pub file: PathBuf,
    /// What it is for.
    pub role: Role,
}

/// Something that an import leaves out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// What: a file, a tensor, a setting.
    pub what: String,
    /// Why.
    pub why: String,
}

impl LeftOut {
    /// Something with the reason.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
        }
    }
}

/// Looks at what lies at a path.
///
/// # Errors
///
/// [`ImportError::Io`] when it cannot be read, [`ImportError::NoModel`] when it is nothing that Vox can
/// import.
pub fn look(path: &Path) -> Result<Layout, ImportError> {
    let metadata = fs::metadata(path).map_err(ImportError::io("read", path))?;
    if metadata.is_dir() {
        return directory(path).map(Layout::Directory);
    }
    let mut head = [0; 16];
    let read = fs::File::open(path).and_then(|file| read_up_to(file, &mut head));
    let head = &head[..read.map_err(ImportError::io("read", path))?];
    let path_buf = path.to_path_buf();
    match head {
        [b'G', b'G', b'U' | b'M' | b'J', ..] => Ok(Layout::Gguf(path_buf)),
        [b'F', b'U', b'G', b'G', ..] => Ok(Layout::Gguf(path_buf)),
        [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => Ok(Layout::PyTorch(path_buf)),
        // The length of the header, and the brace that it begins with.
        [_, _, _, _, _, _, _, _, b'{', ..] => Ok(Layout::SafeTensors(path_buf)),
        _ if has_extension(path, "safetensors") => Ok(Layout::SafeTensors(path_buf)),
        _ if has_extension(path, "gguf") => Ok(Layout::Gguf(path_buf)),
        _ => Err(ImportError::NoModel {
            path: path_buf,
            why: "it begins like none of SafeTensors, GGUF and PyTorch files".to_owned(),
        }),
    }
}

fn read_up_to(mut file: fs::File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

fn directory(path: &Path) -> Result<Directory, ImportError> {
    let mut names = Vec::new();
    let entries = fs::read_dir(path).map_err(ImportError::io("list", path))?;
    for entry in entries {
        let entry = entry.map_err(ImportError::io("list", path))?;
        names.push(entry.path());
        if names.len() > MAX_ENTRIES {
            return Err(ImportError::NoModel {
                path: path.to_path_buf(),
                why: format!("it holds more than {MAX_ENTRIES} entries"),
            });
        }
    }
    names.sort();
    let mut found = Directory::default();
    for file in names {
        sort_in(&mut found, file)?;
    }
    settle(path, found)
}

/// Puts one entry of a directory where it belongs.
fn sort_in(found: &mut Directory, file: PathBuf) -> Result<(), ImportError> {
    let shown = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
        found
            .left_out
            .push(LeftOut::new(shown, "its name is not Unicode"));
        return Ok(());
    };
    let name = name.to_owned();
    // Links are followed: the hub's own cache is made of them, and the user named this directory.
    let metadata = fs::metadata(&file).map_err(ImportError::io("read", &file))?;
    if metadata.is_dir() {
        found.left_out.push(LeftOut::new(
            format!("{name}/"),
            "a directory within a model is not imported",
        ));
    } else if !metadata.is_file() {
        found
            .left_out
            .push(LeftOut::new(name, "it is not a regular file"));
    } else if !is_safe_path(&name) {
        found
            .left_out
            .push(LeftOut::new(name, "its name cannot be one in a bundle"));
    } else if is_pytorch(&name) {
        found.pytorch.push(file);
    } else if name.ends_with(".bin.index.json") {
        found.pytorch_index = Some(file);
    } else if let Some(role) = role_of(&name) {
        found.is_adapter |= name == "adapter_config.json";
        found.taken.push(Taken {
            path: name,
            file,
            role,
        });
    } else {
        found.left_out.push(LeftOut::new(
            name,
            "it is no part of a model that Vox knows",
        ));
    }
    Ok(())
}

/// Decides between weights in several formats.
fn settle(path: &Path, mut found: Directory) -> Result<Directory, ImportError> {
    let has_weights = found.taken.iter().any(|taken| taken.role == Role::Weights);
    if has_weights {
        let double = found.pytorch.drain(..).chain(found.pytorch_index.take());
        found.left_out.extend(double.map(|file| {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            LeftOut::new(name, "the weights are there as SafeTensors")
        }));
    } else if found.pytorch.is_empty() {
        return Err(ImportError::NoModel {
            path: path.to_path_buf(),
            why: "it holds neither `*.safetensors` nor `pytorch_model*.bin`".to_owned(),
        });
    }
    Ok(found)
}

fn is_pytorch(name: &str) -> bool {
    let stem = name
        .strip_suffix(".bin")
        .or_else(|| name.strip_suffix(".pt"))
        .or_else(|| name.strip_suffix(".pth"));
    stem.is_some_and(|stem| {
        ["pytorch_model", "adapter_model", "model", "consolidated"]
            .iter()
            .any(|known| {
                stem == *known
                    || stem.starts_with(&format!("{known}-"))
                    || stem.starts_with(&format!("{known}."))
            })
    })
}

/// What a file of this name is for.
pub fn role_of(name: &str) -> Option<Role> {
    const TOKENIZER: &[&str] = &[
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "merges.txt",
        "sentencepiece.bpe.model",
        "special_tokens_map.json",
        "spiece.model",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    ];
    const CONFIG: &[&str] = &[
        "adapter_config.json",
        "config.json",
        "config_sentence_transformers.json",
        "generation_config.json",
        "modules.json",
        "preprocessor_config.json",
        "processor_config.json",
        "sentence_bert_config.json",
    ];
    let upper = name.to_ascii_uppercase();
    if name.ends_with(".safetensors") {
        let is_optimizer = name.starts_with("optimizer");
        return Some(if is_optimizer {
            Role::Optimizer
        } else {
            Role::Weights
        });
    }
    if name.ends_with(".safetensors.index.json") {
        Some(Role::Index)
    } else if TOKENIZER.contains(&name) {
        Some(Role::Tokenizer)
    } else if CONFIG.contains(&name) {
        Some(Role::Config)
    } else if ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY", "COPYING"]
        .iter()
        .any(|known| upper.starts_with(known))
    {
        Some(Role::Licence)
    } else if upper == "README.MD" {
        Some(Role::Other)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory_with(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(directory.path().join(name), name).unwrap();
        }
        directory
    }

    #[test]
    fn every_file_of_a_directory_has_a_role_or_a_reason() {
        let names = [
            "config.json",
            "LICENSE.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "modeling_x.py",
            "pytorch_model.bin",
            "README.md",
            "tokenizer.json",
            "training_args.bin",
        ];
        let directory = directory_with(&names);
        fs::create_dir(directory.path().join("onnx")).unwrap();
        let Layout::Directory(found) = look(directory.path()).unwrap() else {
            panic!()
        };
        assert_eq!(found.taken.len() + found.left_out.len(), names.len() + 1);
        let roles: Vec<_> = found
            .taken
            .iter()
            .map(|taken| (taken.path.as_str(), taken.role))
            .collect();
        assert!(
            roles.contains(&("model.safetensors.index.json", Role::Index)),
            "{roles:?}"
        );
        assert!(found.pytorch.is_empty());
        let left: Vec<_> = found
            .left_out
            .iter()
            .map(|left| left.what.as_str())
            .collect();
        assert_eq!(
            left,
            [
                "modeling_x.py",
                "onnx/",
                "training_args.bin",
                "pytorch_model.bin"
            ]
        );
    }

    #[test]
    fn pytorch_weights_are_taken_where_there_are_no_others() {
        let directory = directory_with(&[
            "config.json",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
        ]);
        let Layout::Directory(found) = look(directory.path()).unwrap() else {
            panic!()
        };
        assert_eq!(found.pytorch.len(), 2);
    }

    #[test]
    fn a_directory_without_weights_is_refused() {
        let directory = directory_with(&["config.json"]);
        let refusal = look(directory.path()).unwrap_err().to_string();
        assert!(refusal.contains("neither"), "{refusal}");
    }

    #[test]
    fn a_file_is_told_by_its_first_bytes_whatever_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("weights");
        let look = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            look(&file)
        };
        assert!(matches!(look(b"GGUF\x03\0\0\0"), Ok(Layout::Gguf(_))));
        assert!(matches!(look(b"PK\x03\x04"), Ok(Layout::PyTorch(_))));
        assert!(matches!(look(b"\x80\x02\x8a"), Ok(Layout::PyTorch(_))));
        assert!(matches!(
            look(b"\x02\0\0\0\0\0\0\0{}"),
            Ok(Layout::SafeTensors(_))
        ));
        assert!(matches!(look(b"hello"), Err(ImportError::NoModel { .. })));
        assert!(matches!(look(b""), Err(ImportError::NoModel { .. })));
    }
}
