//! E-mail addresses, those beyond ASCII (RFC 6531) included.

use super::{Found, Kind, Rest};

/// The longest local part and the longest domain of an e-mail address, in bytes. RFC 5321 allows 64
/// and 255; the former is exceeded in practice.
const ADDRESS_PART: usize = 255;

/// An address, of which any run of the characters of a local part may be the beginning.
pub(super) fn email(text: &[u8], previous: u8) -> Option<Found> {
    if is_local(previous) {
        return None;
    }
    let run = text
        .iter()
        .take(ADDRESS_PART + 1)
        .take_while(|byte| is_local(**byte))
        .count();
    let domain = text.get(run..)?.strip_prefix(b"@")?;
    // Quotes and dashes from beyond ASCII end what stands before the address in the same run.
    let mut keep = 0;
    let mut at = 0;
    while at < run {
        let length = character(&text[at..run]);
        at += length;
        if length > 1 && !is_letter(text[at - length], text[at - length + 1]) {
            keep = at;
        }
    }
    keep += text[keep..run]
        .iter()
        .take_while(|byte| b".%+-'".contains(byte))
        .count();
    let masked = run - keep + 1 + domain_length(domain)?;
    (keep < run).then_some(Found {
        kind: Kind::Email,
        keep,
        masked,
        rest: Rest::Nothing,
    })
}

/// The length of the domain at the beginning of `text`: two labels or more, the last of letters. A
/// dash may follow it, as in `jane@example.org--she said`.
fn domain_length(text: &[u8]) -> Option<usize> {
    let text = &text[..text.len().min(ADDRESS_PART)];
    let mut length = None;
    let mut at = 0;
    for labels in 1.. {
        let label = &text[at..at + label_length(&text[at..])];
        if label.is_empty() {
            break;
        }
        let is_letter = |byte: &&u8| byte.is_ascii_alphabetic() || **byte >= 0x80;
        let letters = label.iter().take_while(is_letter).count();
        if labels >= 2 && label.starts_with(b"xn--") {
            length = Some(at + label.len());
        } else if labels >= 2 && letters >= 2 && matches!(label.get(letters), None | Some(b'-')) {
            length = Some(at + letters);
        }
        at += label.len();
        if text.get(at) != Some(&b'.') {
            break;
        }
        at += 1;
    }
    length
}

/// The length of the label of a domain at the beginning of `text`.
fn label_length(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let length = character(&text[at..]);
        let belongs = match length {
            1 => byte.is_ascii_alphanumeric() || *byte == b'-',
            _ => is_letter(*byte, text[at + 1]),
        };
        if !belongs {
            break;
        }
        at += length;
    }
    at
}

/// The length of the UTF-8 character at the beginning of `text`, which is not empty; 1 for a byte
/// that begins none.
fn character(text: &[u8]) -> usize {
    let length = match text[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let whole = text.len() >= length && text[1..length].iter().all(|byte| byte & 0xc0 == 0x80);
    if whole { length } else { 1 }
}

/// Whether a character beyond ASCII that begins with these bytes may be a letter, and not one of
/// the blocks of punctuation and symbols: U+0080, U+2000 to U+2FFF, U+3000.
fn is_letter(first: u8, second: u8) -> bool {
    !matches!((first, second), (0xc2 | 0xe2, _) | (0xe3, 0x80))
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80 || b"._%+-'".contains(&byte)
}
