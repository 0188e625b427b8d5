//! Where the object of a key lies: a path that is safe on every file system, and back.
//!
//! A key is cut at each `/`, and each part becomes a name: `d-` before those that lead on, `o-`
//! before the last one, the object's own. Of a part, lower-case letters, digits, `-`, `_` and `.` stand
//! for themselves and every other byte as `%` and two hexadecimal digits, so that names that differ in
//! case only are told apart everywhere. A part of [`PIECE`] bytes or more is cut further: its pieces
//! become directories marked `c-`.
//!
//! What must stay true: no two keys share a path; no path leaves the directory that it is below; and
//! all keys below a directory begin with the text that [`Name::text`] answers for it, while no other
//! key does, which is what lets a listing walk the tree in key order.

use std::path::PathBuf;

use vox_plugin::{Error, Result};

/// The longest key in bytes, which is that of S3.
const LONGEST: usize = 1024;

/// The bytes of a key's part that one name holds less one; three characters each at most, and no file
/// system takes names of more than 255.
const PIECE: usize = 80;

/// Refuses keys that one of the back ends would misread.
pub fn check(key: &str) -> Result<()> {
    let refuse = |why: &str| Err(Error::Invalid(format!("{why}; choose another key")));
    if key.is_empty() {
        return refuse("a key cannot be empty");
    }
    if key.len() > LONGEST {
        return refuse(&format!(
            "the key has {} bytes, and {LONGEST} is the most",
            key.len()
        ));
    }
    if key.split('/').any(|part| matches!(part, "." | "..")) {
        return refuse(&format!(
            "the key {key:?} has `.` or `..` between slashes, which addresses of the web cannot carry"
        ));
    }
    Ok(())
}

/// The object's path, relative to where all of them are.
pub fn path(key: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let mut parts = key.split('/').peekable();
    while let Some(part) = parts.next() {
        let mut rest = part.as_bytes();
        while let Some((piece, after)) = rest.split_at_checked(PIECE) {
            path.push(encode("c-", piece));
            rest = after;
        }
        let mark = if parts.peek().is_some() { "d-" } else { "o-" };
        path.push(encode(mark, rest));
    }
    path
}

/// A name in the tree, read.
#[derive(Debug, PartialEq, Eq)]
pub struct Name {
    /// Whether it is an object; otherwise it is a directory.
    pub is_object: bool,
    /// What the name adds to the keys of what lies there.
    pub text: Vec<u8>,
}

impl Name {
    /// Reads a file name; none for one that no key leads to.
    pub fn read(name: &str) -> Option<Self> {
        let (mark, encoded) = name.split_at_checked(2)?;
        let mut text = decode(encoded.as_bytes())?;
        if encode(mark, &text) != name {
            return None;
        }
        match mark {
            "o-" if text.len() < PIECE => {}
            "c-" if text.len() == PIECE => {}
            "d-" if text.len() < PIECE => text.push(b'/'),
            _ => return None,
        }
        Some(Self {
            is_object: mark == "o-",
            text,
        })
    }
}

fn encode(mark: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut name = mark.to_owned();
    for (position, &byte) in bytes.iter().enumerate() {
        // A dot at the end of a name is lost on Windows.
        let stands_for_itself = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => true,
            b'.' => position + 1 < bytes.len(),
            _ => false,
        };
        if stands_for_itself {
            name.push(char::from(byte));
        } else {
            name.push('%');
            name.push(char::from(DIGITS[usize::from(byte >> 4)]));
            name.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    name
}

fn decode(name: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return None;
        };
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use super::*;

    /// The key that a path stands for.
    fn key(path: &std::path::Path) -> String {
        let text = path.components().flat_map(|component| {
            let Component::Normal(name) = component else {
                panic!("{component:?} in {}", path.display());
            };
            let name = name.to_str().unwrap();
            assert!(name.len() <= 255);
            Name::read(name).unwrap().text
        });
        String::from_utf8(text.collect()).unwrap()
    }

    #[test]
    fn a_path_is_readable_where_the_key_is_plain() {
        assert_eq!(
            path("run/model-1.safetensors"),
            PathBuf::from("d-run/o-model-1.safetensors")
        );
    }

    #[test]
    fn a_path_leads_back_to_its_key() {
        let exact = "x".repeat(PIECE);
        let long = format!("{}/{}", "Ö".repeat(200), "y".repeat(300));
        for text in [
            "a", "/", "//", "a//b", "a/", "..x", "A.", "\0", &exact, &long,
        ] {
            assert_eq!(key(&path(text)), text);
        }
    }

    #[test]
    fn names_that_no_key_leads_to_are_not_read() {
        for name in [
            "o-A", "o-%61", "o-a.", "x-a", "o", "", "o-%4", "c-short", "o-é",
        ] {
            assert_eq!(Name::read(name), None, "{name}");
        }
    }
}
