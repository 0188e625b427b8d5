//! API keys: who may ask.
//!
//! Keys come from a file that is its owner's alone, or from the environment; never from a command line,
//! which every user of the machine can read. Only their hashes are kept, and a hash is compared with all
//! of them in a time that says nothing of where they differ.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use vox_crypto::{equal_secrets, sha3_256};

use crate::error::KeyError;

/// The shortest key that is taken, in bytes: shorter ones can be guessed.
pub const SHORTEST_KEY: usize = 16;
/// The largest file of keys that is read: 64 KiB.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Hashes of the keys that are known. Without any, everybody may ask.
#[derive(Clone, Default)]
pub struct Keys {
    hashes: Vec<[u8; 32]>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.hashes.len())
    }
}

impl Keys {
    /// Reads keys from a file: one a line; empty lines, and those that begin with `#`, mean nothing.
    ///
    /// # Errors
    ///
    /// It cannot be read, others than its owner may open it, or a line of it is no key.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::Read {
            path: path.to_owned(),
            source,
        };
        let refused = |reason| KeyError::NotKeys {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(failed)?;
        private(&file, path)?;
        let mut bytes = Vec::new();
        (&file)
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(refused(
                "it is larger than 64 KiB, so it is no file of keys",
            ));
        }
        let text = String::from_utf8(bytes).map_err(|_| refused("it is no text in UTF-8"))?;
        let lines = text
            .lines()
            .enumerate()
            .map(|(at, line)| (line.trim(), format!("{}:{}", path.display(), at + 1)))
            .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        Self::collect(lines, || path.display().to_string())
    }

    /// Takes keys from the text of an environment variable, which are parted by commas. `variable` is its
    /// name, for errors.
    ///
    /// # Errors
    ///
    /// One of them is no key, or there are none.
    pub fn from_variable(variable: &str, text: &str) -> Result<Self, KeyError> {
        let parts = text.split(',').map(str::trim);
        let keys = parts
            .filter(|key| !key.is_empty())
            .map(|key| (key, format!("the environment variable {variable}")));
        Self::collect(keys, || format!("the environment variable {variable}"))
    }

    /// These and those of another set.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.hashes.extend(other.hashes);
        self
    }

    /// Whether there are none, so that everybody may ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether a key is one of them. All are looked at, each in constant time.
    #[must_use]
    pub fn know(&self, key: &[u8]) -> bool {
        let hash = sha3_256(key);
        let known = self.hashes.iter().map(|known| equal_secrets(known, &hash));
        known.fold(false, |known, equal| known | equal)
    }

    fn collect<'a>(
        keys: impl Iterator<Item = (&'a str, String)>,
        place: impl FnOnce() -> String,
    ) -> Result<Self, KeyError> {
        let mut hashes = Vec::new();
        for (key, place) in keys {
            let reason = match key {
                _ if key.len() < SHORTEST_KEY => "a key is too short",
                _ if !key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                    "a key has a space or a character that is not ASCII"
                }
                _ => {
                    hashes.push(sha3_256(key.as_bytes()));
                    continue;
                }
            };
            return Err(KeyError::Key { place, reason });
        }
        if hashes.is_empty() {
            return Err(KeyError::None { place: place() });
        }
        Ok(Self { hashes })
    }
}

/// Refuses what is no file, or one that others than its owner may open. Asked of the open file, so that it
/// is the one that is read.
fn private(file: &File, path: &Path) -> Result<(), KeyError> {
    let metadata = file.metadata().map_err(|source| KeyError::Read {
        path: path.to_owned(),
        source,
    })?;
    if !metadata.is_file() {
        return Err(KeyError::NotKeys {
            path: path.to_owned(),
            reason: "it is no file",
        });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Open {
                path: path.to_owned(),
                mode,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef";

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
        }
        #[cfg(not(unix))]
        let _ = mode;
        file
    }

    #[test]
    fn a_file_has_a_key_on_each_line_that_is_no_comment() {
        let file = file(&format!("# ours\n{KEY}\n\n  {KEY}2\n"), 0o600);
        let keys = Keys::from_file(file.path()).unwrap();
        assert!(keys.know(KEY.as_bytes()));
        assert!(keys.know(b"0123456789abcdef2"));
        assert!(!keys.know(b"# ours"));
        assert!(!keys.know(b""));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused_with_its_mode() {
        let file = file(KEY, 0o640);
        let told = Keys::from_file(file.path()).unwrap_err().to_string();
        assert!(
            told.contains("mode 640") && told.contains("chmod 600"),
            "{told}"
        );
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_line_and_never_shown() {
        let short = file(&format!("{KEY}\nsecret-1\n"), 0o600);
        let told = Keys::from_file(short.path()).unwrap_err().to_string();
        assert!(told.contains(":2: a key is too short"), "{told}");
        assert!(!told.contains("secret-1"), "{told}");
        let empty = file("# none\n", 0o600);
        let told = Keys::from_file(empty.path()).unwrap_err().to_string();
        assert!(told.contains("there are no keys"), "{told}");
    }

    #[test]
    fn a_variable_has_keys_between_commas() {
        let keys = Keys::from_variable("VOX_SERVE_KEYS", &format!("{KEY}, {KEY}2,")).unwrap();
        assert!(keys.know(KEY.as_bytes()) && keys.know(b"0123456789abcdef2"));
        assert_eq!(format!("{keys:?}"), "Keys(2)");
        let told = Keys::from_variable("VOX_SERVE_KEYS", "with a space in it")
            .unwrap_err()
            .to_string();
        assert!(
            told.starts_with("the environment variable VOX_SERVE_KEYS"),
            "{told}"
        );
    }
}
