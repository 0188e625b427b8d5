//! Secrets that the name in front of them gives away: `password = …`.

use super::token::scheme;
use super::{Class, Found, Kind, Rest};

/// Names whose values are secret, in lower case and without `_` and `-`. A longer name that ends
/// with one counts too: `DB_PASSWORD`, `clientSecret`.
const NAMES: &[&[u8]] = &[
    b"password",
    b"passwd",
    b"passphrase",
    b"pwd",
    b"privatekey",
    b"secret",
    b"secretkey",
    b"secretaccesskey",
    b"token",
    b"apikey",
    b"accesskey",
];

/// `name = value`, `name: value`, `"name": "value"` and the like, also in JSON within JSON.
pub(super) fn assignment(text: &[u8]) -> Option<Found> {
    if !matches!(
        text.first()?.to_ascii_lowercase(),
        b'a' | b'p' | b's' | b't'
    ) {
        return None;
    }
    NAMES
        .iter()
        .find_map(|name| assigned(text, leading_name(text, name)?))
}

/// The value behind a name of `length` bytes.
fn assigned(text: &[u8], length: usize) -> Option<Found> {
    let mut at = length;
    let (_, closing) = quote(&text[at..]);
    at += closing;
    at += blanks(&text[at..]);
    at += sign(&text[at..])?;
    at += blanks(&text[at..]);
    let (quoted, opening) = quote(&text[at..]);
    at += opening;
    for name in [&b"bearer"[..], b"basic", b"token"] {
        at += scheme(&text[at..], name).unwrap_or(0);
    }
    let value = &text[at..];
    let rest = match quoted {
        Quote::None => Rest::While(Class::Value),
        Quote::Plain(quote) => Rest::Quoted(quote),
        Quote::Escaped => Rest::While(Class::EscapedValue),
    };
    let begins = match rest {
        Rest::Quoted(quote) => value.first().is_some_and(|byte| *byte != quote),
        Rest::While(class) => {
            value.first().is_some_and(|byte| class.contains(*byte)) && !opens(value)
        }
        Rest::Nothing | Rest::PrivateKey => false,
    };
    // Nothing but where the value begins is known yet: what ends it may follow at once.
    begins.then_some(Found {
        kind: Kind::Secret,
        keep: at,
        masked: 0,
        rest,
    })
}

/// Whether a value is the beginning of an object, a list or a call instead.
fn opens(value: &[u8]) -> bool {
    matches!(
        value,
        [b'{' | b'[' | b'(']
            | [
                b'{' | b'[' | b'(',
                b' ' | b'\t' | b'\r' | b'"' | b'\'' | b'}' | b']' | b')',
                ..
            ]
    )
}

/// How many bytes at the beginning of `text` spell `name`, in any case and with `_` or `-` between.
fn leading_name(text: &[u8], name: &[u8]) -> Option<usize> {
    let mut at = 0;
    for letter in name {
        while at > 0 && matches!(text.get(at), Some(b'_' | b'-')) {
            at += 1;
        }
        if text.get(at)?.to_ascii_lowercase() != *letter {
            return None;
        }
        at += 1;
    }
    Some(at)
}

/// How a value is quoted.
enum Quote {
    None,
    Plain(u8),
    Escaped,
}

/// The quote at the beginning of `text`, and its length.
fn quote(text: &[u8]) -> (Quote, usize) {
    match text {
        [quote @ (b'"' | b'\'' | b'`'), ..] => (Quote::Plain(*quote), 1),
        [b'\\', b'"' | b'\'', ..] => (Quote::Escaped, 2),
        _ => (Quote::None, 0),
    }
}

/// The length of a sign of assignment. `==`, `=~` and `::` are none.
fn sign(text: &[u8]) -> Option<usize> {
    match text {
        [b'=', b'=' | b'~', ..] | [b':', b':', ..] => None,
        [b'=', b'>', ..] | [b':', b'=', ..] => Some(2),
        [b'=' | b':', ..] => Some(1),
        _ => None,
    }
}

/// The number of blanks at the beginning of `text`, of which a few are looked at.
pub(super) fn blanks(text: &[u8]) -> usize {
    text.iter()
        .take(32)
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count()
}

/// Whether a name whose value is secret ends where `text` does, as far as its last bytes tell.
pub fn ends_with_name(text: &[u8]) -> bool {
    let trimmed = text
        .iter()
        .rposition(|byte| !b" \t\"'`\\".contains(byte))
        .map_or(&[][..], |last| &text[..=last]);
    let letters = trimmed
        .iter()
        .rev()
        .filter(|byte| !matches!(byte, b'_' | b'-'));
    NAMES.iter().any(|name| {
        let backwards = letters.clone().take(name.len()).map(u8::to_ascii_lowercase);
        backwards.eq(name.iter().rev().copied())
    })
}
