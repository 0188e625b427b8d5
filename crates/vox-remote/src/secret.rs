//! The key of a server, which a configuration names and never contains.
//!
//! What must stay true: no message, log record or `Debug` text has a key in it.

use std::fmt;
use std::path::Path;

use vox_plugin::{Error, Result};

/// The longest key that is read, in bytes.
const LONGEST: usize = 16 * 1024;

/// A key. What shows it is [`Secret::expose`] alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// A key that was made here.
    pub fn new(key: String) -> Self {
        Self(key)
    }

    /// The key, for the header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Reads the key from where a configuration says that it is; none where it says nothing.
    ///
    /// A component finds a file only by its full path, and below a directory that it is granted; it has
    /// no environment.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`]: there is none, others may read it, or what is there is no key.
    pub fn read(key_file: Option<&Path>, key_env: Option<&str>) -> Result<Option<Self>> {
        match (key_file, key_env) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Error::Invalid(
                "there are both `key-file` and `key-env`; leave one of them out".to_owned(),
            )),
            (Some(path), None) => {
                let refuse =
                    |why: String| Error::Invalid(format!("`key-file` {}: {why}", path.display()));
                let text = file::read(path).map_err(refuse)?;
                Self::of(&text).map(Some).map_err(refuse)
            }
            (None, Some(name)) => {
                if !is_variable(name) {
                    // It may be the key itself, so it is not repeated.
                    return Err(Error::Invalid(
                        "`key-env` is not the name of an environment variable; write the name, such as \
                         `OPENAI_API_KEY`, and put the key into the variable"
                            .to_owned(),
                    ));
                }
                let refuse = |why: &str| Error::Invalid(format!("`key-env` names {name}: {why}"));
                let value = variable(name).map_err(refuse)?;
                Self::of(&value).map(Some).map_err(|why| refuse(&why))
            }
        }
    }

    fn of(text: &str) -> Result<Self, String> {
        let key = text.trim();
        if key.is_empty() {
            return Err("it is empty; put the key into it".to_owned());
        }
        if key.len() > LONGEST || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "it holds something else than a key, which is one word of ASCII".to_owned(),
            );
        }
        Ok(Self(key.to_owned()))
    }
}

/// Whether this is what a variable is called, as shells have it.
fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_uppercase() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(not(target_family = "wasm"))]
fn variable(name: &str) -> Result<String, &'static str> {
    std::env::var(name).map_err(|_| "it is not set; set it, or name a file with `key-file`")
}

#[cfg(target_family = "wasm")]
fn variable(_name: &str) -> Result<String, &'static str> {
    Err(
        "a component has no environment; name a file with `key-file`, or take the native payload \
         with `prefer = \"native\"`",
    )
}

#[cfg(not(target_family = "wasm"))]
mod file {
    use std::fs::File;
    use std::io::Read as _;
    use std::path::{Path, PathBuf};

    use super::LONGEST;

    /// The text of a file that nobody else may read.
    pub fn read(path: &Path) -> Result<String, String> {
        let file = File::open(below_home(path)).map_err(|error| error.to_string())?;
        check(&file, path)?;
        let mut text = String::new();
        file.take(LONGEST as u64 + 1)
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
        Ok(text)
    }

    fn below_home(path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), std::env::home_dir()) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        }
    }

    /// Refuses a file that others can read or change.
    #[cfg(unix)]
    fn check(file: &File, path: &Path) -> Result<(), String> {
        use std::os::unix::fs::MetadataExt;

        let metadata = file.metadata().map_err(|error| error.to_string())?;
        let owner = metadata.uid();
        if owner != rustix::process::geteuid().as_raw() && owner != 0 {
            return Err(format!(
                "it belongs to user {owner}, who can change it; use a file of your own"
            ));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(format!(
                "others may read or change it (mode {:o}); keep it to yourself with `chmod 600 {}`",
                metadata.mode() & 0o777,
                path.display()
            ));
        }
        Ok(())
    }

    /// Who may read a file is not asked here: homes are private on Windows.
    #[cfg(not(unix))]
    fn check(_file: &File, _path: &Path) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(target_family = "wasm")]
mod file {
    use std::path::Path;

    use wasip2::filesystem::preopens::get_directories;
    use wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

    use super::LONGEST;

    /// The text of a file below a directory that is granted. Who else may read it cannot be asked here.
    pub fn read(path: &Path) -> Result<String, String> {
        let closed = || {
            "it is in no directory that is granted; write its full path, and grant its directory with \
             `vox plugin grant <plugin> file_read=<directory>`"
                .to_owned()
        };
        let directories = get_directories();
        let (directory, rest) = directories
            .iter()
            .filter_map(|(directory, name)| Some((directory, path.strip_prefix(name).ok()?)))
            .min_by_key(|(_, rest)| rest.as_os_str().len())
            .ok_or_else(closed)?;
        let rest = rest.to_str().ok_or_else(closed)?;
        let file = directory
            .open_at(
                PathFlags::SYMLINK_FOLLOW,
                rest,
                OpenFlags::empty(),
                DescriptorFlags::READ,
            )
            .map_err(|code| code.message().to_owned())?;
        let (bytes, _) = file
            .read(LONGEST as u64 + 1, 0)
            .map_err(|code| code.message().to_owned())?;
        String::from_utf8(bytes).map_err(|_| "it is no text".to_owned())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn refusal(answer: Result<Option<Secret>>) -> String {
        match answer {
            Err(Error::Invalid(text)) => text,
            _ => panic!("the key was not refused"),
        }
    }

    #[test]
    fn a_key_is_the_word_in_a_file_that_nobody_else_can_read() {
        let (_directory, path) = file("  sk-hunter2\n", 0o600);
        let key = Secret::read(Some(&path), None).unwrap().unwrap();
        assert_eq!(key.expose(), "sk-hunter2");
        assert!(!format!("{key:?}").contains("hunter2"));
        assert_eq!(Secret::read(None, None), Ok(None));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let (_directory, path) = file("sk-hunter2", 0o640);
        let why = refusal(Secret::read(Some(&path), None));
        assert!(
            why.contains("chmod 600") && !why.contains("hunter2"),
            "{why}"
        );
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        for text in ["", " \n", "hunter2 hunter2", "hunter2\r\nx: y", "hunter2ß"] {
            let (_directory, path) = file(text, 0o600);
            let why = refusal(Secret::read(Some(&path), None));
            assert!(
                why.contains("`key-file`") && !why.contains("hunter2"),
                "{why}"
            );
        }
    }

    #[test]
    fn a_key_in_place_of_a_variables_name_is_not_repeated() {
        let why = refusal(Secret::read(None, Some("sk-hunter2")));
        assert!(
            why.contains("`key-env`") && !why.contains("hunter2"),
            "{why}"
        );
        let why = refusal(Secret::read(None, Some("VOX_NO_SUCH_KEY")));
        assert!(
            why.contains("VOX_NO_SUCH_KEY") && why.contains("not set"),
            "{why}"
        );
    }
}
