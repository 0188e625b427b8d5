//! Names of references, and how they become names of files.
//!
//! A name may be any text. In a file's name its bytes stand as they are where that is safe on every
//! file system, also on one that does not tell `A` from `a`, and as `%` and two digits elsewhere. What
//! would become too long for a file's name stands as `%~` and its hash; the name itself is in the file.
//!
//! What must stay true: two names never have the same file, and no name's file is `.`, `..` or in
//! another directory.

use std::fmt;

use crate::error::Error;

/// The longest name of a reference in bytes.
pub const MAX_NAME_BYTES: usize = 4096;

/// The longest namespace in bytes: encoded, it is at most three times as long and still a file's name.
pub const MAX_NAMESPACE_BYTES: usize = 64;

/// Bytes of a file's name that every file system takes.
const MAX_FILE_NAME_BYTES: usize = 200;

/// A namespace and a name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName {
    namespace: String,
    name: String,
}

impl RefName {
    /// A name, checked.
    ///
    /// # Errors
    /// [`Error::BadRefName`] when one part is empty or too long.
    pub fn new(namespace: &str, name: &str) -> Result<Self, Error> {
        for (part, limit) in [(namespace, MAX_NAMESPACE_BYTES), (name, MAX_NAME_BYTES)] {
            if part.is_empty() || part.len() > limit {
                return Err(Error::BadRefName { name: part.into() });
            }
        }
        Ok(Self {
            namespace: namespace.into(),
            name: name.into(),
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name in it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// For people: what is not printable is shown and not printed.
impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (space, name) = (self.namespace.escape_debug(), self.name.escape_debug());
        write!(f, "{space}/{name}")
    }
}

/// The file's name of a name.
pub(crate) fn file_name(name: &str) -> String {
    let written = encode(name);
    if written.len() <= MAX_FILE_NAME_BYTES {
        written
    } else {
        format!("%~{}", vox_crypto::hash(name.as_bytes()).to_hex())
    }
}

/// The name in ASCII without spaces.
pub(crate) fn encode(name: &str) -> String {
    let mut written = String::new();
    for (at, byte) in name.bytes().enumerate() {
        let safe = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => true,
            // Nothing hidden, no `.` or `..`, and no dot at the end, which some systems drop.
            b'.' => at > 0 && at + 1 < name.len(),
            _ => false,
        };
        if safe {
            written.push(char::from(byte));
        } else {
            written.push_str(&format!("%{byte:02x}"));
        }
    }
    written
}

/// The name that [`encode`] wrote.
pub(crate) fn decode(written: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = written.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    (encode(&name) == written).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_reads_back_as_itself(name: String) {
            prop_assert_eq!(decode(&encode(&name)), Some(name));
        }

        #[test]
        fn no_name_leaves_its_directory(name in "[./\\\\\0a-cA-Cäß%~ ]{1,300}") {
            let file = file_name(&name);
            prop_assert!(file.len() <= 255 && !file.is_empty());
            prop_assert!(!file.starts_with('.') && !file.ends_with('.'), "{file}");
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit()
                || b"-_.%~".contains(&byte);
            prop_assert!(file.bytes().all(plain), "{file}");
        }

        #[test]
        fn different_names_have_different_files(a in "[aA%.~]{0,120}", b in "[aA%.~]{0,120}") {
            // Also where a file system does not tell upper case from lower case.
            let (file_a, file_b) = (file_name(&a), file_name(&b));
            prop_assert_eq!(a == b, file_a.eq_ignore_ascii_case(&file_b));
        }

        #[test]
        fn what_was_not_encoded_is_not_decoded(written: String) {
            if let Some(name) = decode(&written) {
                prop_assert_eq!(encode(&name), written);
            }
        }
    }
}
