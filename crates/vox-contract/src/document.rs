//! Reads a TOML document with the place of everything in it.
//!
//! A [`Document`] collects what is wrong instead of stopping at the first fault, so that a file is
//! mended in one round. The readers of [`Table`] answer `None` both for a key that is absent and
//! for one whose value was refused; in the second case the refusal is already noted. What must
//! stay true: a value built from `None` that was refused never leaves [`Document::read`], which
//! fails as soon as anything was noted.
//!
//! The reader is public for the other files of Vox, so that all of them are refused in one way:
//!
//! ```
//! use std::path::Path;
//! use vox_contract::document::Document;
//!
//! let text = "name = \"quickstart\"\nretires = 3\n";
//! let error = Document::read(text, Path::new("job.toml"), &["name", "retries"], |root| {
//!     root.required("name", root.sentence("name"), "name = \"my-job\"")
//! })
//! .unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "job.toml:2:1: unknown key `retires`\n  hint: did you mean `retries`?"
//! );
//! ```
//!
//! The walk borrows from the text and computes lines only for problems: manifests of all installed
//! plugins are read at every start.

mod json;
mod table;

use std::{
    cell::RefCell,
    fmt::Display,
    fs::File,
    io::{self, Read as _},
    ops::Range,
    path::Path,
    sync::Arc,
};

use toml::de::DeTable;

pub use self::table::Table;

use crate::{
    error::{Finding, ManifestError, invalid},
    names::NameError,
    points::UnknownWord,
    quantities::QuantityError,
};

/// The largest file that is read: 1 MiB. A manifest is some kilobytes; what is larger is a mistake
/// or an attack.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a file of the contract as text.
///
/// # Errors
/// [`ManifestError::Unreadable`], also for a file larger than [`MAX_FILE_BYTES`];
/// [`ManifestError::Invalid`] when the file is not UTF-8.
pub fn read_text(file: &Path) -> Result<String, ManifestError> {
    read_text_within(file, MAX_FILE_BYTES)
}

/// Reads a file as text that may have so many bytes, for one of a kind that may be larger.
///
/// # Errors
/// As [`read_text`], with `most` in the place of [`MAX_FILE_BYTES`].
pub fn read_text_within(file: &Path, most: u64) -> Result<String, ManifestError> {
    let unreadable = |source: io::Error| ManifestError::Unreadable {
        file: file.into(),
        source: Arc::new(source),
    };
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(most.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > most {
        let most = most >> 20;
        return Err(unreadable(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {most} MiB, which no file of this kind needs"),
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let finding = Finding {
            span: at..at + '\u{fffd}'.len_utf8(),
            message: "the file is not UTF-8 text".into(),
            hint: Some("save it as UTF-8".into()),
        };
        invalid(file, &text, vec![finding])
    })
}

/// A fault that can say what to write instead.
pub trait Hinted: Display {
    /// What to write instead.
    fn way_out(&self) -> Option<String>;
}

impl Hinted for NameError {
    fn way_out(&self) -> Option<String> {
        Some(self.hint().into())
    }
}

impl Hinted for UnknownWord {
    fn way_out(&self) -> Option<String> {
        Some(self.hint().into())
    }
}

impl Hinted for QuantityError {
    fn way_out(&self) -> Option<String> {
        Some(self.hint().into())
    }
}

/// What is being read, and what was found wrong with it so far.
pub struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    findings: RefCell<Vec<Finding>>,
}

impl<'a> Document<'a> {
    /// Reads `text` as TOML and hands its root to `read`.
    ///
    /// `known` are the keys of the root, and `file` is only named in errors. `read` answers none
    /// only when it noted why.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with a syntax error alone, or with all that was noted.
    pub fn read<T>(
        text: &'a str,
        file: &'a Path,
        known: &'static [&'static str],
        read: impl FnOnce(&Table<'_, 'a>) -> Option<T>,
    ) -> Result<T, ManifestError> {
        let document = Self {
            file,
            text,
            findings: RefCell::default(),
        };
        let root = match DeTable::parse(text) {
            Ok(root) => root,
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                document.note(span, format!("not valid TOML: {}", error.message()), None);
                return Err(document.refuse());
            }
        };
        let value = read(&Table::new(&document, root.get_ref(), 0..0, "", known));
        let faultless = document.findings.borrow().is_empty();
        match value {
            Some(value) if faultless => Ok(value),
            None if faultless => {
                document.note(0..0, "something that is needed is missing", None);
                Err(document.refuse())
            }
            _ => Err(document.refuse()),
        }
    }

    fn refuse(self) -> ManifestError {
        invalid(self.file, self.text, self.findings.into_inner())
    }

    /// Notes a problem.
    pub fn note(&self, span: Range<usize>, message: impl Into<String>, hint: Option<String>) {
        self.findings.borrow_mut().push(Finding {
            span,
            message: message.into(),
            hint,
        });
    }
}
