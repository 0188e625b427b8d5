//! From bytes to characters: UTF-8 and UTF-16, in pieces that end anywhere.
//!
//! What must stay true: the characters are the same however the bytes are cut into pieces, and no more
//! than four bytes are ever held back.

use std::borrow::Cow;
use std::str;

use serde::Deserialize;
use vox_plugin::{Error, Result};

/// How characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// By the byte order mark, and UTF-8 where there is none.
    #[default]
    Auto,
    /// UTF-8.
    #[serde(rename = "utf-8")]
    Utf8,
    /// UTF-16, the least significant byte first.
    #[serde(rename = "utf-16le")]
    Utf16Le,
    /// UTF-16, the most significant byte first.
    #[serde(rename = "utf-16be")]
    Utf16Be,
}

/// What happens to bytes that are no characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Invalid {
    /// The file is refused.
    #[default]
    Refuse,
    /// U+FFFD stands in for them.
    Replace,
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Auto | Self::Utf8 => "UTF-8",
            Self::Utf16Le => "UTF-16 (little-endian)",
            Self::Utf16Be => "UTF-16 (big-endian)",
        }
    }

    /// The byte order mark.
    fn mark(self) -> &'static [u8] {
        match self {
            Self::Auto | Self::Utf8 => b"\xEF\xBB\xBF",
            Self::Utf16Le => b"\xFF\xFE",
            Self::Utf16Be => b"\xFE\xFF",
        }
    }

    fn of_mark(bytes: &[u8]) -> Option<Self> {
        [Self::Utf16Le, Self::Utf16Be, Self::Utf8]
            .into_iter()
            .find(|encoding| bytes.starts_with(encoding.mark()))
    }
}

/// Whether the first bytes of a file may be those of a text.
pub fn is_text(prefix: &[u8]) -> bool {
    if Encoding::of_mark(prefix).is_some() {
        return true;
    }
    let known = match str::from_utf8(prefix) {
        Ok(text) => text,
        // The prefix may end within a character.
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(&prefix[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let is_control =
        |c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\x0b' | '\x0c' | '\r' | '\x1b');
    !known.contains(is_control)
}

/// Decodes one file.
#[derive(Debug)]
pub struct Decoder {
    encoding: Encoding,
    invalid: Invalid,
    /// Whether the byte order mark is still to come.
    at_start: bool,
    /// The end of what came in, not decided yet.
    held: Vec<u8>,
    place: Place,
}

/// Where in a file.
#[derive(Debug)]
struct Place {
    /// Bytes from the beginning.
    offset: u64,
    line: u64,
    /// Characters from the beginning of the line, counted from 1.
    column: u64,
}

impl Place {
    fn pass(&mut self, text: &str, bytes: usize) {
        self.offset += bytes as u64;
        let last = match text.rfind('\n') {
            None => text,
            Some(end) => {
                self.line += text.bytes().filter(|byte| *byte == b'\n').count() as u64;
                self.column = 1;
                &text[end + 1..]
            }
        };
        self.column += last.chars().count() as u64;
    }
}

impl Decoder {
    /// A decoder at the beginning of a file.
    pub fn new(encoding: Encoding, invalid: Invalid) -> Self {
        Self {
            encoding,
            invalid,
            at_start: true,
            held: Vec::new(),
            place: Place {
                offset: 0,
                line: 1,
                column: 1,
            },
        }
    }

    /// Takes the next bytes, and adds their characters to `out`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the place of the first byte that is no character's.
    pub fn feed(&mut self, bytes: &[u8], out: &mut String) -> Result<()> {
        self.decode(bytes, false, out)
    }

    /// Takes the end of the file.
    ///
    /// # Errors
    ///
    /// As [`Decoder::feed`], when the file ends within a character.
    pub fn finish(&mut self, out: &mut String) -> Result<()> {
        self.decode(&[], true, out)
    }

    fn decode(&mut self, bytes: &[u8], ends: bool, out: &mut String) -> Result<()> {
        let mut held = std::mem::take(&mut self.held);
        let mut bytes = if held.is_empty() {
            Cow::Borrowed(bytes)
        } else {
            held.extend_from_slice(bytes);
            Cow::Owned(held)
        };
        if self.at_start {
            if bytes.len() < Encoding::Utf8.mark().len() && !ends {
                self.held = bytes.into_owned();
                return Ok(());
            }
            self.at_start = false;
            if self.encoding == Encoding::Auto {
                self.encoding = Encoding::of_mark(&bytes).unwrap_or(Encoding::Utf8);
            }
            if bytes.starts_with(self.encoding.mark()) {
                let mark = self.encoding.mark().len();
                self.place.offset += mark as u64;
                bytes.to_mut().drain(..mark);
            }
        }
        let rest = match self.encoding {
            Encoding::Auto | Encoding::Utf8 => self.decode_utf8(&bytes, ends, out)?,
            Encoding::Utf16Le => self.decode_utf16(&bytes, u16::from_le_bytes, ends, out)?,
            Encoding::Utf16Be => self.decode_utf16(&bytes, u16::from_be_bytes, ends, out)?,
        };
        self.held = bytes[rest..].to_vec();
        Ok(())
    }

    /// Answers how many bytes were decided about.
    fn decode_utf8(&mut self, bytes: &[u8], ends: bool, out: &mut String) -> Result<usize> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (valid, bad) = match str::from_utf8(rest) {
                Ok(text) => (text, 0),
                Err(error) => {
                    let valid = str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default();
                    let bad = match error.error_len() {
                        Some(bad) => bad,
                        None if ends => rest.len() - valid.len(),
                        None => {
                            out.push_str(valid);
                            self.place.pass(valid, valid.len());
                            return Ok(at + valid.len());
                        }
                    };
                    (valid, bad)
                }
            };
            out.push_str(valid);
            self.place.pass(valid, valid.len());
            at += valid.len();
            if bad > 0 {
                self.replace(&bytes[at..at + bad], out)?;
                at += bad;
            }
        }
        Ok(at)
    }

    /// Answers how many bytes were decided about.
    fn decode_utf16(
        &mut self,
        bytes: &[u8],
        unit: fn([u8; 2]) -> u16,
        ends: bool,
        out: &mut String,
    ) -> Result<usize> {
        let mut at = 0;
        let unit_at = |at: usize| Some(unit([*bytes.get(at)?, *bytes.get(at + 1)?]));
        while let Some(first) = unit_at(at) {
            let units = match (first, unit_at(at + 2)) {
                (0xD800..=0xDBFF, None) if !ends => return Ok(at),
                (0xD800..=0xDBFF, Some(second @ 0xDC00..=0xDFFF)) => vec![first, second],
                _ => vec![first],
            };
            let length = units.len() * 2;
            match char::decode_utf16(units).next() {
                Some(Ok(character)) => {
                    let from = out.len();
                    out.push(character);
                    self.place.pass(&out[from..], length);
                }
                _ => self.replace(&bytes[at..at + length], out)?,
            }
            at += length;
        }
        if ends && at < bytes.len() {
            self.replace(&bytes[at..], out)?;
            at = bytes.len();
        }
        Ok(at)
    }

    fn replace(&mut self, bad: &[u8], out: &mut String) -> Result<()> {
        if self.invalid == Invalid::Refuse {
            let shown: Vec<String> = bad.iter().map(|byte| format!("{byte:02x}")).collect();
            let Place {
                offset,
                line,
                column,
            } = self.place;
            return Err(Error::Invalid(format!(
                "the file is not {}: {} at offset {offset} (line {line}, column {column}) is no \
                 character; say what the file is with `encoding`, or write `invalid = \"replace\"`",
                self.encoding.name(),
                shown.join(" "),
            )));
        }
        let from = out.len();
        out.push(char::REPLACEMENT_CHARACTER);
        self.place.pass(&out[from..], bad.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn decoded(
        bytes: &[u8],
        cuts: &[usize],
        encoding: Encoding,
        invalid: Invalid,
    ) -> Result<String> {
        let mut decoder = Decoder::new(encoding, invalid);
        let mut out = String::new();
        let mut from = 0;
        for cut in cuts {
            let cut = (*cut).clamp(from, bytes.len());
            decoder.feed(&bytes[from..cut], &mut out)?;
            from = cut;
        }
        decoder.feed(&bytes[from..], &mut out)?;
        decoder.finish(&mut out)?;
        Ok(out)
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn a_byte_order_mark_says_the_encoding_and_is_no_character() {
        let text = "für 😀\r\n";
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xEF\xBB\xBF", text.as_bytes()].concat(),
            [b"\xFF\xFE".to_vec(), utf16(text, u16::to_le_bytes)].concat(),
            [b"\xFE\xFF".to_vec(), utf16(text, u16::to_be_bytes)].concat(),
        ] {
            let got = decoded(&bytes, &[], Encoding::Auto, Invalid::Refuse);
            assert_eq!(got.unwrap(), text, "{bytes:?}");
        }
        let bytes = utf16(text, u16::to_be_bytes);
        let got = decoded(&bytes, &[], Encoding::Utf16Be, Invalid::Refuse);
        assert_eq!(got.unwrap(), text);
    }

    #[test]
    fn the_first_bad_byte_is_named_with_its_place() {
        let refusal = |bytes: &[u8], encoding| {
            decoded(bytes, &[], encoding, Invalid::Refuse)
                .expect_err("it was taken")
                .to_string()
        };
        let told = refusal(b"\xEF\xBB\xBFa\n\xC3\xBCb\xFFc", Encoding::Auto);
        assert!(told.contains("ff at offset 8 (line 2, column 3)"), "{told}");
        let told = refusal(b"ab\xE2\x82", Encoding::Auto);
        assert!(told.contains("e2 82 at offset 2"), "{told}");
        let told = refusal(b"a\0\0\xDC", Encoding::Utf16Le);
        assert!(told.contains("00 dc at offset 2"), "{told}");
        let told = refusal(b"a\0b", Encoding::Utf16Le);
        assert!(told.contains("62 at offset 2"), "{told}");
    }

    #[test]
    fn what_is_no_text_is_recognised() {
        assert!(is_text(b"") && is_text(b"plain\r\n\ttext") && is_text("ü".as_bytes()));
        assert!(is_text(b"ends within \xE2\x82") && is_text(b"\xFF\xFEa\0"));
        assert!(!is_text(b"\x89PNG\r\n\x1a\n") && !is_text(b"a\0b\0") && !is_text(b"\x7fELF\x02"));
    }

    proptest! {
        #[test]
        fn replacing_agrees_with_the_standard_library(
            bytes in vec(prop_oneof![any::<u8>(), Just(0xE2), Just(0x82), Just(b'a')], 0..64),
            mut cuts in vec(0usize..64, 0..6),
        ) {
            cuts.sort_unstable();
            let got = decoded(&bytes, &cuts, Encoding::Utf8, Invalid::Replace).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(got, text.strip_prefix('\u{FEFF}').unwrap_or(&text));
        }

        #[test]
        fn sixteen_bit_units_agree_with_the_standard_library(
            units in vec(prop_oneof![any::<u16>(), 0xD800u16..0xE000, Just(b'a' as u16)], 0..32),
            mut cuts in vec(0usize..64, 0..6),
        ) {
            cuts.sort_unstable();
            let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let got = decoded(&bytes, &cuts, Encoding::Utf16Le, Invalid::Replace).unwrap();
            let text = String::from_utf16_lossy(&units);
            prop_assert_eq!(got, text.strip_prefix('\u{FEFF}').unwrap_or(&text));
        }
    }
}
