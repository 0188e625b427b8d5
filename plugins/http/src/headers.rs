//! What the headers of an answer say.

use std::str;

/// Headers, names in lower case.
pub type Headers = [(String, Vec<u8>)];

/// What is handed on where the server does not say, or says nothing that is a modality.
pub const BYTES: &str = "application/octet-stream";

/// The longest name of a modality, in bytes.
const LONGEST_MODALITY: usize = 64;
/// The longest value of a header that is handed on, in bytes.
const LONGEST_VALUE: usize = 256;

/// The bytes of a header; the first one's where it stands several times.
pub fn bytes<'h>(headers: &'h Headers, name: &str) -> Option<&'h [u8]> {
    let (_, value) = headers.iter().find(|(other, _)| other == name)?;
    Some(value.trim_ascii())
}

/// A header as text, unless it is none, is empty, or is too long to be told.
pub fn text<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    let value = str::from_utf8(bytes(headers, name)?).ok()?;
    let fits = !value.is_empty() && value.len() <= LONGEST_VALUE;
    (fits && !value.chars().any(char::is_control)).then_some(value)
}

/// How many bytes the server announces.
pub fn length(headers: &Headers) -> Option<u64> {
    text(headers, "content-length")?.parse().ok()
}

/// The modality of what comes: `text` for plain text in UTF-8, otherwise what `Content-Type` names.
pub fn modality(headers: &Headers) -> String {
    let Some(written) = text(headers, "content-type") else {
        return BYTES.to_owned();
    };
    let mut parts = written.split(';');
    let kind = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "text/plain" {
        let unicode = parts
            .filter_map(|parameter| parameter.split_once('='))
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
            .all(|(_, charset)| {
                let charset = charset.trim().trim_matches('"');
                ["utf-8", "utf8", "us-ascii"]
                    .iter()
                    .any(|known| charset.eq_ignore_ascii_case(known))
            });
        return if unicode { "text" } else { BYTES }.to_owned();
    }
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-+._".contains(&byte)
            })
    };
    match kind.split_once('/') {
        Some((a, b)) if is_word(a) && is_word(b) && kind.len() <= LONGEST_MODALITY => kind,
        _ => BYTES.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &str, value: &str) -> Vec<(String, Vec<u8>)> {
        vec![(name.to_owned(), value.as_bytes().to_vec())]
    }

    #[test]
    fn the_modality_is_what_the_server_names() {
        for (written, expected) in [
            ("application/json", "application/json"),
            ("Application/LD+JSON; charset=utf-8", "application/ld+json"),
            ("text/plain", "text"),
            ("text/plain; charset=\"UTF-8\"", "text"),
            ("text/plain; charset=iso-8859-1", BYTES),
            ("text/csv; charset=utf-8", "text/csv"),
            ("image/*", BYTES),
            ("json", BYTES),
            ("", BYTES),
            (
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
                BYTES,
            ),
        ] {
            assert_eq!(
                modality(&headers("content-type", written)),
                expected,
                "{written}"
            );
        }
        assert_eq!(modality(&[]), BYTES);
    }

    #[test]
    fn a_length_is_a_number() {
        assert_eq!(length(&headers("content-length", " 12 ")), Some(12));
        assert_eq!(length(&headers("content-length", "-1")), None);
        assert_eq!(length(&[]), None);
    }

    #[test]
    fn a_header_that_is_no_short_text_is_not_told() {
        assert_eq!(text(&headers("etag", "\"a\""), "etag"), Some("\"a\""));
        assert_eq!(text(&headers("etag", "\u{1b}[2J"), "etag"), None);
        assert_eq!(text(&headers("etag", &"x".repeat(257)), "etag"), None);
    }
}
