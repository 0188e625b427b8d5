//! The file of tokens.
//!
//! `credentials.toml` holds every profile. What must stay true: it is a file of the user's own that
//! nobody else can read, or it is not read; it changes from one whole state to the next, also when
//! power is lost in between; and of two processes that change it, one waits for the other, so that
//! neither loses what the other wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use vox_plugin::{Error, Result, failed};

/// Bytes of the file at most.
const MOST_BYTES: u64 = 1024 * 1024;

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Every profile.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// The one in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All of them by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// The authorization server.
    pub issuer: String,
    /// The name under which the server knows this program.
    pub client_id: String,
    /// Where tokens are had.
    pub token_endpoint: String,
    /// Where tokens are given back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocation_endpoint: Option<String>,
    /// What the token allows.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Its tokens; none when it is signed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
}

/// The tokens of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tokens {
    /// What is shown to the service.
    pub access: Secret,
    /// What a new access token is had for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<Secret>,
    /// When the access token expires, in seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

impl Profiles {
    /// The profile that is named, or the one in use, with its name.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is none.
    pub fn get(&mut self, name: Option<&str>) -> Result<(String, &mut Profile)> {
        let Some(name) = name.or(self.current.as_deref()).map(str::to_owned) else {
            return Err(Error::NotFound(
                "nobody is signed in; sign in with `vox account login`".to_owned(),
            ));
        };
        if !self.profiles.contains_key(&name) {
            return Err(self.unknown(&name));
        }
        match self.profiles.get_mut(&name) {
            Some(profile) => Ok((name, profile)),
            None => Err(Error::NotFound(name)),
        }
    }

    /// There is no such profile.
    pub fn unknown(&self, name: &str) -> Error {
        let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
        Error::NotFound(format!(
            "there is no profile `{}`; there is {}",
            name.escape_debug(),
            if known.is_empty() {
                "none yet, make one with `vox account login`".to_owned()
            } else {
                known.join(", ")
            }
        ))
    }
}

/// Where the file is.
#[derive(Debug)]
pub struct Credentials {
    directory: PathBuf,
}

/// The directory when none is configured.
///
/// # Errors
///
/// [`Error::Unavailable`] when the environment names no home.
pub fn default_directory() -> Result<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .map(|data| data.join("vox/account"))
        .ok_or_else(|| {
            Error::Unavailable(
                "neither XDG_DATA_HOME nor HOME is set; name a directory in the plugin's \
                 configuration"
                    .to_owned(),
            )
        })
}

impl Credentials {
    /// Those in this directory, which need not exist.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.directory.join("credentials.toml")
    }

    /// Reads the profiles; none where there is no file.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when others can read or change the file.
    pub fn read(&self) -> Result<Profiles> {
        let path = self.file();
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let file = match options.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Profiles::default()),
            Err(error) => return Err(cannot("read", &path, &error)),
        };
        let about = file
            .metadata()
            .map_err(|error| cannot("read", &path, &error))?;
        if !about.is_file() {
            return Err(failed(format!("{} is no file", path.display())));
        }
        refuse_foreign(&path, &about, 0o077)?;
        let about = fs::metadata(&self.directory)
            .map_err(|error| cannot("read", &self.directory, &error))?;
        refuse_foreign(&self.directory, &about, 0o022)?;
        let mut text = String::new();
        file.take(MOST_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| cannot("read", &path, &error))?;
        // Not the parser's message, which shows what is at fault: that may be a token.
        toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| {
                1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
            });
            failed(format!(
                "{}, line {line}: this is not as `vox account` writes it; remove the file and sign in \
                 again",
                path.display(),
            ))
        })
    }

    /// Changes the profiles; nobody else changes them meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Credentials::read`], when they cannot be written, and what `change` answers; then nothing
    /// has changed.
    pub fn change<T>(&self, change: impl FnOnce(&mut Profiles) -> Result<T>) -> Result<T> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|error| cannot("make", &self.directory, &error))?;
        let path = self.directory.join("credentials.lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|lock| lock.lock().map(|()| lock))
            .map_err(|error| cannot("lock", &path, &error))?;
        let mut profiles = self.read()?;
        let answer = change(&mut profiles)?;
        self.write(&profiles)
            .map_err(|error| cannot("write", &self.file(), &error))?;
        drop(lock);
        Ok(answer)
    }

    fn write(&self, profiles: &Profiles) -> io::Result<()> {
        let text = toml::to_string(profiles).map_err(io::Error::other)?;
        // Such files belong to their owner alone from the beginning.
        let mut file = tempfile::Builder::new()
            .prefix(".credentials-")
            .tempfile_in(&self.directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(self.file())?;
        File::open(&self.directory)?.sync_all()
    }
}

/// Refuses what is somebody else's, or gives others one of the permissions in `mask`.
fn refuse_foreign(path: &Path, about: &fs::Metadata, mask: u32) -> Result<()> {
    let mode = about.mode() & 0o7777;
    let shown = path.display();
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::Denied(format!(
            "{shown} belongs to another user, who knows or chose what stands in it; remove it, and \
             sign in again"
        )));
    }
    if mode & mask == 0 {
        return Ok(());
    }
    let (what, mend) = if about.is_dir() {
        ("changed by other users", "chmod 700")
    } else {
        ("read or changed by other users", "chmod 600")
    };
    Err(Error::Denied(format!(
        "{shown} can be {what} (mode {mode:03o}), so its tokens are not used; close it with `{mend} \
         {shown}`, and sign in again if somebody may have read it"
    )))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    failed(format!("cannot {what} {}: {error}", path.display()))
}
