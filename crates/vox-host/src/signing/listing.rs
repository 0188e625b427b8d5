//! `Plugin.sig`: every file of a plugin by its hash, and a signature over that.
//!
//! ```text
//! vox plugin signature 1
//! plugin redact
//! version 0.1.0
//! key ed25519:<hex>
//! signed 2026-11-21T07:30:00Z
//! expires 2027-11-21T00:00:00Z
//! file <blake3 hex> <bytes> Plugin.toml
//! file <blake3 hex> <bytes> redact.wasm
//! signature ed25519:<hex>
//! ```
//!
//! Lines end in `\n`. The line `expires` may be left out. Files come in the byte order of their
//! paths, each once, all but `Plugin.sig` itself. The signature is of
//! [`Domain::PluginFiles`] over all bytes before its line.
//!
//! What must stay true: one listing has one written form. What is read is written again and compared
//! with what was read, so that no two files, and no two readers, can mean different things by one
//! signature.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use semver::Version;
use vox_contract::PluginId;
use vox_crypto::{Digest, Domain, PublicKey, Signature, SigningKey};

use super::{Difference, SigningError, Time};
use crate::install::{MAX_ENTRIES, MAX_PATH_BYTES};

/// The name of the signature's file in a plugin's directory.
pub const SIGNATURE_FILE: &str = "Plugin.sig";

/// The largest `Plugin.sig` that is read: 16 MiB, more than the most files with the longest paths
/// need.
pub const MAX_SIGNATURE_FILE_BYTES: u64 = 16 << 20;

const FIRST_LINE: &str = "vox plugin signature 1";

/// What was signed of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedFile {
    /// The hash of its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A signature that is that of the key in it, with the files that it is over.
///
/// It says nothing about the files that lie in a directory now (see [`verify`](super::verify) and
/// [`check`](Self::check)), and nothing about who has the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFiles {
    plugin: PluginId,
    version: Version,
    key: PublicKey,
    signed: Time,
    expires: Option<Time>,
    /// By path, with `/` between the names.
    files: BTreeMap<String, SignedFile>,
    signature: Signature,
}

impl SignedFiles {
    /// Signs a listing. The paths of `files` are [`is_plain`].
    pub(super) fn make(
        key: &SigningKey,
        (plugin, version): (PluginId, Version),
        (signed, expires): (Time, Option<Time>),
        files: BTreeMap<String, SignedFile>,
    ) -> Self {
        let mut listing = Self {
            plugin,
            version,
            key: key.public(),
            signed,
            expires,
            files,
            signature: Signature::from_bytes([0; 64]),
        };
        listing.signature = key.sign(Domain::PluginFiles, listing.body().as_bytes());
        listing
    }

    /// Reads what a `Plugin.sig` says. `file` is named in errors and not opened.
    ///
    /// # Errors
    /// [`SigningError::Malformed`] for whatever is not exactly what signing writes, and
    /// [`SigningError::Forged`] when the key in it did not sign it.
    pub fn parse(bytes: &[u8], file: &Path) -> Result<Self, SigningError> {
        let malformed = |line, what: String| SigningError::Malformed {
            file: file.to_path_buf(),
            line,
            what,
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|_| malformed(1, "it is not UTF-8 text".to_owned()))?;
        let mut lines = Lines::new(text).map_err(|what| malformed(1, what))?;
        let listing = lines
            .listing()
            .map_err(|what| malformed(lines.number, what))?;
        let written = listing.to_text();
        if written != text {
            let same = |(one, other): &(&str, &str)| one == other;
            let line = text.split('\n').zip(written.split('\n')).take_while(same);
            let what = "this is not the one way to write it".to_owned();
            return Err(malformed(line.count() + 1, what));
        }
        listing
            .key
            .verify(
                Domain::PluginFiles,
                listing.body().as_bytes(),
                &listing.signature,
            )
            .map_err(|source| SigningError::Forged {
                file: file.to_path_buf(),
                source,
            })?;
        Ok(listing)
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        format!("{}signature {}\n", self.body(), self.signature)
    }

    /// The plugin that was signed.
    pub fn plugin(&self) -> &PluginId {
        &self.plugin
    }

    /// The version that was signed.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The key that signed.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// When it was signed, as the signer says.
    pub fn signed(&self) -> Time {
        self.signed
    }

    /// From when on the signature does not hold any more.
    pub fn expires(&self) -> Option<Time> {
        self.expires
    }

    /// The files that were signed, in the order of their paths, which are relative to the plugin's
    /// directory and have `/` between the names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &SignedFile)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// What was signed of the file with this path, relative to the plugin's directory.
    pub fn file(&self, relative: &Path) -> Option<&SignedFile> {
        self.files.get(&slashed(relative)?)
    }

    /// Checks bytes that are about to be used: that they are what was signed of this file. Whoever
    /// loads a file calls this with the bytes that it loads, so that nothing can come between.
    ///
    /// # Errors
    /// [`SigningError::Changed`], which names the file, when they are not, or when the file was not
    /// signed at all.
    pub fn check(&self, relative: &Path, bytes: &[u8]) -> Result<(), SigningError> {
        let shown = || relative.display().to_string();
        let difference = match self.file(relative) {
            Some(file)
                if file.bytes == bytes.len() as u64 && file.digest == vox_crypto::hash(bytes) =>
            {
                return Ok(());
            }
            Some(_) => Difference::Changed(shown()),
            None => Difference::Added(shown()),
        };
        Err(SigningError::Changed {
            directory: format!("{} {}", self.plugin, self.version).into(),
            differences: vec![difference],
        })
    }

    /// What is signed: everything before the line `signature`.
    fn body(&self) -> String {
        use std::fmt::Write as _;
        let Self {
            plugin,
            version,
            key,
            signed,
            ..
        } = self;
        let mut text = format!(
            "{FIRST_LINE}\nplugin {plugin}\nversion {version}\nkey {key}\nsigned {signed}\n"
        );
        // Writing to a `String` cannot fail, here and below.
        if let Some(expires) = self.expires {
            let _ = writeln!(text, "expires {expires}");
        }
        for (path, SignedFile { digest, bytes }) in &self.files {
            let _ = writeln!(text, "file {} {bytes} {path}", digest.to_hex());
        }
        text
    }
}

/// True for a path that may stand in a signature: relative, with `/` between the names, and the
/// same file on every system.
pub(super) fn is_plain(path: &str) -> bool {
    let foreign = |c: char| c == '\\' || c == ':' || c.is_control();
    path.len() <= MAX_PATH_BYTES
        && !path.contains(foreign)
        && path != SIGNATURE_FILE
        && path
            .split('/')
            .all(|name| !name.is_empty() && !name.ends_with(['.', ' ']))
}

/// The path with `/` between the names, when it is a relative one that goes down only.
pub(super) fn slashed(relative: &Path) -> Option<String> {
    let names = relative.components().map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    Some(names.collect::<Option<Vec<_>>>()?.join("/"))
}

/// The lines of a listing, read one after the other.
struct Lines<'t> {
    lines: std::iter::Peekable<std::str::Split<'t, char>>,
    /// Number of the line that was read last, counted from 1.
    number: usize,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Result<Self, String> {
        let text = text
            .strip_suffix('\n')
            .ok_or("it does not end with the end of a line")?;
        Ok(Self {
            lines: text.split('\n').peekable(),
            number: 0,
        })
    }

    fn listing(&mut self) -> Result<SignedFiles, String> {
        if self.next() != Some(FIRST_LINE) {
            return Err(format!("the first line is not `{FIRST_LINE}`"));
        }
        let plugin = self.parsed("plugin ")?;
        let version = self.parsed("version ")?;
        let key = self.parsed("key ")?;
        let signed = self.parsed("signed ")?;
        let expires = match self.is_next("expires ") {
            true => Some(self.parsed("expires ")?),
            false => None,
        };
        let mut files = BTreeMap::new();
        while self.is_next("file ") {
            let (path, file) = file(self.value("file ")?)?;
            if files
                .last_key_value()
                .is_some_and(|(last, _)| path <= *last)
            {
                return Err(format!(
                    "`{path}` does not come after the file before it in byte order"
                ));
            }
            files.insert(path, file);
            if files.len() > MAX_ENTRIES {
                return Err(format!("it lists more than {MAX_ENTRIES} files"));
            }
        }
        let signature = self.parsed("signature ")?;
        if self.next().is_some() {
            return Err("something follows the signature".to_owned());
        }
        Ok(SignedFiles {
            plugin,
            version,
            key,
            signed,
            expires,
            files,
            signature,
        })
    }

    fn next(&mut self) -> Option<&'t str> {
        self.number += 1;
        self.lines.next()
    }

    fn is_next(&mut self, key: &str) -> bool {
        self.lines.peek().is_some_and(|line| line.starts_with(key))
    }

    /// The value of the next line, which begins with `key`.
    fn value(&mut self, key: &str) -> Result<&'t str, String> {
        let value = self.next().and_then(|line| line.strip_prefix(key));
        value.ok_or_else(|| format!("a line `{key}…` is expected here"))
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &mut self,
        key: &str,
    ) -> Result<T, String> {
        self.value(key)?
            .parse()
            .map_err(|error: T::Err| error.to_string())
    }
}

/// `<blake3 hex> <bytes> <path>`.
fn file(line: &str) -> Result<(String, SignedFile), String> {
    let mut parts = line.splitn(3, ' ');
    let (Some(digest), Some(bytes), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a file is written `file <blake3 hex> <bytes> <path>`".to_owned());
    };
    let digest = format!("blake3:{digest}")
        .parse()
        .map_err(|error: vox_crypto::Error| error.to_string())?;
    let bytes = bytes
        .parse()
        .map_err(|_| format!("`{}` is no number of bytes", bytes.escape_debug()))?;
    if !is_plain(path) {
        let path = path.escape_debug();
        return Err(format!(
            "`{path}` is not a plain path below the plugin's directory"
        ));
    }
    Ok((path.to_owned(), SignedFile { digest, bytes }))
}
