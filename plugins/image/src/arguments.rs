//! What is asked of a file: the arguments, checked, and the limits that hold for it.

use std::num::NonZeroU32;

use serde::Deserialize;
use vox_plugin::{Error, Exceeded, Result, from_json};

use crate::picture::Format;

/// The arguments as they are written.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Arguments {
    modality: Option<String>,
    r#as: As,
    to: Option<Format>,
    rows: Option<NonZeroU32>,
    side: Option<u32>,
    bytes: Option<u64>,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum As {
    #[default]
    Pixels,
    File,
}

/// What is to be done with a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the file must be.
    pub kind: Option<Kind>,
    /// What its chunks are.
    pub what: What,
    /// How large it may be.
    pub limits: Limits,
}

/// What the chunks are.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// Pixels: of format `to`, or as the file has them; `rows` rows to a chunk, or all.
    Pixels {
        /// The format.
        to: Option<Format>,
        /// Rows of a chunk.
        rows: Option<NonZeroU32>,
    },
    /// The file.
    File,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
}

impl Kind {
    /// By the first bytes of the file.
    pub fn of_prefix(prefix: &[u8]) -> Option<Self> {
        if prefix.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if prefix.starts_with(b"\xFF\xD8\xFF") {
            Some(Self::Jpeg)
        } else {
            None
        }
    }

    /// Its modality.
    pub fn modality(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// How large an image may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pixels in each direction.
    pub side: u32,
    /// Bytes of its pixels, or of the file.
    pub bytes: u64,
}

impl Limits {
    const DEFAULT: Self = Self {
        side: 16 * 1024,
        bytes: 128 * 1024 * 1024,
    };
    const MOST: Self = Self {
        side: 65535,
        bytes: 256 * 1024 * 1024,
    };

    /// Checks what an image says of itself; `pixel` is the bytes of a pixel.
    ///
    /// # Errors
    ///
    /// [`Error::Exceeded`] when it is too large.
    pub fn check(self, width: u32, height: u32, pixel: usize) -> Result<()> {
        let most = width.max(height);
        if most > self.side {
            return Err(Error::Exceeded(Exceeded {
                limit: "side".to_owned(),
                value: u64::from(self.side),
                remedy: format!(
                    "the image says it is {width} pixels wide and {height} high; where that is meant, \
                     raise the argument `side`"
                ),
            }));
        }
        self.check_bytes(u64::from(width) * u64::from(height) * pixel as u64)
    }

    /// Checks a number of bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Exceeded`] when they are too many.
    pub fn check_bytes(self, bytes: u64) -> Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        Err(Error::Exceeded(Exceeded {
            limit: "bytes".to_owned(),
            value: self.bytes,
            remedy: format!(
                "the image has {bytes} bytes; where that is meant, raise the argument `bytes`"
            ),
        }))
    }
}

impl Plan {
    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when they make no sense.
    pub fn new(arguments: &str) -> Result<Self> {
        let written: Arguments = from_json(arguments)?;
        let kind = match written.modality.as_deref() {
            None => None,
            Some("image/png") => Some(Kind::Png),
            Some("image/jpeg") => Some(Kind::Jpeg),
            Some(other) => {
                return Err(Error::Invalid(format!(
                    "`modality` is `{other}`, and this plugin reads `image/png` and `image/jpeg`"
                )));
            }
        };
        let what = match written.r#as {
            As::Pixels => What::Pixels {
                to: written.to,
                rows: written.rows,
            },
            As::File if written.to.is_some() || written.rows.is_some() => {
                return Err(Error::Invalid(
                    "`to` and `rows` are for pixels, and `as = \"file\"` hands the file on as it is"
                        .to_owned(),
                ));
            }
            As::File => What::File,
        };
        let side = written.side.unwrap_or(Limits::DEFAULT.side);
        let bytes = written.bytes.unwrap_or(Limits::DEFAULT.bytes);
        within("side", u64::from(side), u64::from(Limits::MOST.side))?;
        within("bytes", bytes, Limits::MOST.bytes)?;
        Ok(Self {
            kind,
            what,
            limits: Limits { side, bytes },
        })
    }
}

fn within(name: &str, value: u64, most: u64) -> Result<()> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "`{name}` is {value}, and may be 1 to {most}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for (arguments, told) in [
            (r#"{"format":"rgb8"}"#, "unknown field `format`"),
            (r#"{"modality":"image/gif"}"#, "`image/gif`"),
            (r#"{"to":"bgr8"}"#, "unknown variant `bgr8`"),
            (r#"{"as":"file","to":"rgb8"}"#, "are for pixels"),
            (r#"{"rows":0}"#, "nonzero"),
            (r#"{"side":65536}"#, "1 to 65535"),
            (r#"{"bytes":0}"#, "1 to 268435456"),
        ] {
            match Plan::new(arguments) {
                Err(Error::Invalid(text)) => assert!(text.contains(told), "{arguments}: {text}"),
                other => panic!("{arguments}: {other:?}"),
            }
        }
        assert_eq!(Plan::new("{}").unwrap().limits, Limits::DEFAULT);
    }
}
