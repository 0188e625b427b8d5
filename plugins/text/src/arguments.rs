//! What is asked of a file: the arguments, checked, and what a file's name says of it.

use serde::Deserialize;
use vox_plugin::{Error, Result, from_json};

use crate::encoding::{Encoding, Invalid};
use crate::lines::By;

/// Bytes of a chunk of text, of a row or of a line of JSON that may be asked for at most. A chunk of
/// this size still passes the default limits of a plugin.
const MOST: u32 = 16 * 1024 * 1024;
/// Rows of a chunk at most.
const MOST_ROWS: u32 = 4096;

/// The arguments as they are written.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Arguments {
    modality: Option<String>,
    encoding: Encoding,
    invalid: Invalid,
    by: Option<By>,
    chunk: Option<u32>,
    header: Option<bool>,
    delimiter: Option<String>,
    quote: Option<String>,
    rows: Option<u32>,
    longest: Option<u32>,
}

/// What is to be done with a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// How its characters are written.
    pub encoding: Encoding,
    /// What happens to bytes that are none.
    pub invalid: Invalid,
    /// What the characters make.
    pub kind: Kind,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Plain text.
    Text(TextPlan),
    /// Rows of fields.
    Rows(RowsPlan),
    /// A JSON value on each line of at most `longest` bytes.
    JsonLines {
        /// Bytes of a line at most.
        longest: usize,
    },
}

/// How text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPlan {
    /// What makes a chunk.
    pub by: By,
    /// Bytes of a chunk at most.
    pub chunk: usize,
}

/// How rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsPlan {
    /// Whether the first row names the columns.
    pub header: bool,
    /// What stands between fields.
    pub delimiter: u8,
    /// What stands around a field, if anything does.
    pub quote: Option<u8>,
    /// Rows of a chunk.
    pub rows: usize,
    /// Bytes of a row at most.
    pub longest: usize,
}

impl Kind {
    /// What a file of this name is, if it is text at all.
    pub fn of_name(name: &str) -> Self {
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Self::Rows(RowsPlan::separated_by(b',')),
            "tsv" | "tab" => Self::Rows(RowsPlan::separated_by(b'\t')),
            "jsonl" | "ndjson" => Self::JsonLines {
                longest: RowsPlan::LONGEST,
            },
            _ => Self::Text(TextPlan::DEFAULT),
        }
    }

    fn of_modality(modality: &str) -> Result<Self> {
        Ok(Self::of_name(match modality {
            "text" => ".txt",
            "text/csv" => ".csv",
            "text/tab-separated-values" => ".tsv",
            "application/jsonl" => ".jsonl",
            _ => {
                return Err(Error::Invalid(format!(
                    "`modality` is `{modality}`, and this plugin reads `text`, `text/csv`, \
                     `text/tab-separated-values` and `application/jsonl`"
                )));
            }
        }))
    }

    /// The modality of such a file.
    pub fn modality(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Rows(rows) if rows.delimiter == b'\t' => "text/tab-separated-values",
            Self::Rows(_) => "text/csv",
            Self::JsonLines { .. } => "application/jsonl",
        }
    }
}

impl TextPlan {
    /// What holds when nothing is asked for.
    pub const DEFAULT: Self = Self {
        by: By::Size,
        chunk: 64 * 1024,
    };
}

impl RowsPlan {
    /// Bytes of a row at most when nothing else is asked for.
    pub const LONGEST: usize = 1024 * 1024;

    /// What holds when nothing but the delimiter is asked for.
    pub const fn separated_by(delimiter: u8) -> Self {
        Self {
            header: true,
            delimiter,
            quote: Some(b'"'),
            rows: 1,
            longest: Self::LONGEST,
        }
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
        let modality = written.modality.as_deref().unwrap_or("text");
        let mut kind = Kind::of_modality(modality)?;
        written.refuse_strangers(&kind, modality)?;
        let longest = written
            .longest
            .map(|longest| within("longest", longest, 1, MOST))
            .transpose()?;
        match &mut kind {
            Kind::Text(text) => {
                text.by = written.by.unwrap_or(text.by);
                if let Some(chunk) = written.chunk {
                    text.chunk = within("chunk", chunk, 16, MOST)?;
                }
            }
            Kind::Rows(rows) => {
                rows.header = written.header.unwrap_or(rows.header);
                if let Some(delimiter) = &written.delimiter {
                    rows.delimiter = character("delimiter", delimiter)?;
                }
                rows.quote = match written.quote.as_deref() {
                    None => rows.quote,
                    Some("") => None,
                    Some(quote) => Some(character("quote", quote)?),
                };
                if rows.quote == Some(rows.delimiter) {
                    return Err(Error::Invalid(
                        "`delimiter` and `quote` are the same character".to_owned(),
                    ));
                }
                if let Some(count) = written.rows {
                    rows.rows = within("rows", count, 1, MOST_ROWS)?;
                }
                rows.longest = longest.unwrap_or(rows.longest);
            }
            Kind::JsonLines { longest: most } => *most = longest.unwrap_or(*most),
        }
        Ok(Self {
            encoding: written.encoding,
            invalid: written.invalid,
            kind,
        })
    }
}

impl Arguments {
    /// Refuses what is for another kind of file: it would be passed over in silence.
    fn refuse_strangers(&self, kind: &Kind, modality: &str) -> Result<()> {
        let is_text = matches!(kind, Kind::Text(_));
        let is_rows = matches!(kind, Kind::Rows(_));
        let given = [
            ("by", self.by.is_some(), is_text),
            ("chunk", self.chunk.is_some(), is_text),
            ("header", self.header.is_some(), is_rows),
            ("delimiter", self.delimiter.is_some(), is_rows),
            ("quote", self.quote.is_some(), is_rows),
            ("rows", self.rows.is_some(), is_rows),
            ("longest", self.longest.is_some(), !is_text),
        ];
        match given.iter().find(|(_, given, fits)| *given && !fits) {
            None => Ok(()),
            Some((name, ..)) => Err(Error::Invalid(format!(
                "`{name}` means nothing for a file of modality `{modality}`; leave it out, or say with \
                 `modality` what the file is"
            ))),
        }
    }
}

fn within(name: &str, value: u32, least: u32, most: u32) -> Result<usize> {
    if (least..=most).contains(&value) {
        return Ok(value as usize);
    }
    Err(Error::Invalid(format!(
        "`{name}` is {value}, and may be {least} to {most}"
    )))
}

fn character(name: &str, text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\r' | b'\n' | 0) => Ok(*byte),
        _ => Err(Error::Invalid(format!(
            "`{name}` is `{}`, and must be one ASCII character that ends no line",
            text.escape_debug()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &str) -> String {
        match Plan::new(arguments) {
            Err(Error::Invalid(text)) => text,
            other => panic!("{arguments}: {other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let plan = Plan::new("{}").unwrap();
        assert_eq!(plan.kind, Kind::Text(TextPlan::DEFAULT));
        assert_eq!(plan.encoding, Encoding::Auto);
        let plan = Plan::new(r#"{"modality":"text/tab-separated-values"}"#).unwrap();
        assert_eq!(plan.kind, Kind::Rows(RowsPlan::separated_by(b'\t')));
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for (arguments, told) in [
            (r#"{"chunks":1}"#, "unknown field `chunks`"),
            (r#"{"modality":"text/html"}"#, "`text/html`"),
            (r#"{"by":"word"}"#, "unknown variant `word`"),
            (r#"{"chunk":15}"#, "16 to 16777216"),
            (r#"{"chunk":-1}"#, "invalid value"),
            (r#"{"rows":2}"#, "`rows` means nothing"),
            (
                r#"{"modality":"text/csv","by":"line"}"#,
                "`by` means nothing",
            ),
            (r#"{"modality":"text/csv","rows":0}"#, "1 to 4096"),
            (r#"{"modality":"text/csv","delimiter":"ab"}"#, "one ASCII"),
            (r#"{"modality":"text/csv","delimiter":"\n"}"#, "one ASCII"),
            (r#"{"modality":"text/csv","delimiter":"é"}"#, "one ASCII"),
            (
                r#"{"modality":"text/csv","quote":","}"#,
                "the same character",
            ),
        ] {
            let text = refusal(arguments);
            assert!(text.contains(told), "{arguments}: {text}");
        }
    }

    #[test]
    fn a_quote_may_be_none() {
        let plan = Plan::new(r#"{"modality":"text/csv","quote":""}"#).unwrap();
        assert!(matches!(
            plan.kind,
            Kind::Rows(RowsPlan { quote: None, .. })
        ));
    }
}
