//! Keys on disk.
//!
//! ```text
//! vox signing key 1                  vox public key 1
//! name ada                           name ada
//! public ed25519:<hex>               public ed25519:<hex>
//! secret <hex>
//! ```
//!
//! Lines end in `\n`, none is left out and none is added; what differs is refused, never guessed at.
//!
//! What must stay true: a file with a secret is made with mode `0600`, never over another file, and
//! is not used once others than its owner may open it: by then somebody may have. Where files have
//! no modes their place in the user's directory has to do.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use super::{KeyError, KeyFileFault, PublicKey, SigningKey};
use crate::hex;

/// The longest name of a key, in bytes.
pub const MAX_KEY_NAME_BYTES: usize = 64;

/// No key file is larger.
const MAX_FILE_BYTES: u64 = 4096;
const SIGNING: &str = "vox signing key 1";
const PUBLIC: &str = "vox public key 1";

/// A signing key with the name that its owner gave it, as it is kept in a file.
#[derive(Debug, Clone)]
pub struct KeyFile {
    name: String,
    key: SigningKey,
}

impl KeyFile {
    /// A key with a name for people: `Ada`, `release key of 2026`.
    ///
    /// # Errors
    /// [`KeyError::Name`] when it is not one line of 1 to [`MAX_KEY_NAME_BYTES`] bytes.
    pub fn new(name: &str, key: SigningKey) -> Result<Self, KeyError> {
        let name = checked(name)?;
        Ok(Self { name, key })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The part of it that may be known to everybody.
    pub fn public(&self) -> PublicKeyFile {
        PublicKeyFile {
            name: self.name.clone(),
            key: self.key.public(),
        }
    }

    /// Writes a new file that its owner alone may read, and makes it durable.
    ///
    /// # Errors
    /// [`KeyError::Io`], also when a file is there already.
    pub fn create(&self, path: &Path) -> Result<(), KeyError> {
        let Self { name, key } = self;
        let (public, secret) = (key.public(), key.secret_hex());
        let text = format!("{SIGNING}\nname {name}\npublic {public}\nsecret {secret}\n");
        write_new(path, &text, 0o600)
    }

    /// Reads a file that [`create`](Self::create) wrote.
    ///
    /// # Errors
    /// [`KeyError::File`] when others may open it or it is not such a file; [`KeyError::Io`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let (file, text) = read(path)?;
        private(&file, path)?;
        let malformed = |what| refuse(path, KeyFileFault::Malformed(what));
        let [name, public, secret] = fields(&text, SIGNING, ["name ", "public ", "secret "])
            .ok_or_else(|| malformed("it does not have the four lines of a signing key"))?;
        let secret = hex::decode(secret).map_err(|_| malformed("its secret is no secret"))?;
        let key = SigningKey::from_secret(&secret);
        if public != key.public().to_string() {
            return Err(refuse(path, KeyFileFault::Torn));
        }
        Self::new(name, key)
    }
}

/// A public key with the name that its owner gave it, as it is handed to others. The name is a
/// claim: it is what whoever trusts the key starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeyFile {
    name: String,
    key: PublicKey,
}

impl PublicKeyFile {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Writes a new file and makes it durable.
    ///
    /// # Errors
    /// [`KeyError::Io`], also when a file is there already.
    pub fn create(&self, path: &Path) -> Result<(), KeyError> {
        let Self { name, key } = self;
        write_new(
            path,
            &format!("{PUBLIC}\nname {name}\npublic {key}\n"),
            0o644,
        )
    }

    /// Reads a file that [`create`](Self::create) wrote.
    ///
    /// # Errors
    /// [`KeyError::File`] when it is not such a file, [`KeyError::Io`], and what is wrong with the
    /// key in it.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let (_, text) = read(path)?;
        let [name, key] = fields(&text, PUBLIC, ["name ", "public "]).ok_or_else(|| {
            let what = if text.starts_with(SIGNING) {
                "it holds a secret key; give away the file beside it that ends in `.pub`"
            } else {
                "it does not have the three lines of a public key"
            };
            refuse(path, KeyFileFault::Malformed(what))
        })?;
        let (name, key) = (checked(name)?, key.parse()?);
        Ok(Self { name, key })
    }
}

/// The values of the lines below the first, when the text has exactly these lines.
fn fields<'t, const N: usize>(text: &'t str, first: &str, keys: [&str; N]) -> Option<[&'t str; N]> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next()? != first {
        return None;
    }
    let mut values = [""; N];
    for (value, key) in values.iter_mut().zip(keys) {
        *value = lines.next()?.strip_prefix(key)?;
    }
    lines.next().is_none().then_some(values)
}

fn checked(name: &str) -> Result<String, KeyError> {
    let fits = (1..=MAX_KEY_NAME_BYTES).contains(&name.len());
    if !fits || name.contains(char::is_control) || name.trim() != name {
        return Err(KeyError::Name { name: name.into() });
    }
    Ok(name.to_owned())
}

fn refuse(path: &Path, fault: KeyFileFault) -> KeyError {
    KeyError::File {
        path: path.into(),
        fault,
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.into();
    move |source| KeyError::Io {
        action,
        path,
        source,
    }
}

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), KeyError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(mode);
    }
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path).map_err(failed("create", path))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed("write", path))
}

/// An open key file and its text.
fn read(path: &Path) -> Result<(File, String), KeyError> {
    let file = File::open(path).map_err(failed("open", path))?;
    if !file.metadata().map_err(failed("read", path))?.is_file() {
        return Err(refuse(path, KeyFileFault::NotAFile));
    }
    let mut bytes = Vec::new();
    (&file)
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed("read", path))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refuse(path, KeyFileFault::TooLarge));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| refuse(path, KeyFileFault::Malformed("it is not UTF-8 text")))?;
    Ok((file, text))
}

/// Refuses a file that others than its owner may open. Asked of the open file, so that it is the
/// one that is read.
fn private(file: &File, path: &Path) -> Result<(), KeyError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = file.metadata().map_err(failed("read", path))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(refuse(path, KeyFileFault::Open { mode }));
        }
    }
    #[cfg(not(unix))]
    let _ = (file, path);
    Ok(())
}
