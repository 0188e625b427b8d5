//! What is masked: for each kind of secret, how it is recognised at the place where it begins.
//!
//! Every rule looks forward only, from the first byte of what it recognises, and at no more than
//! [`LOOKAHEAD`] bytes of one line. That is what lets the [scanner](crate::scanner) decide about a
//! byte as soon as it sees that many bytes behind it, with the same answer however the text
//! arrives. A secret may well be longer: what follows the part that gives it away is described by
//! [`Rest`].

use std::{fmt, iter};

/// Bytes, counted from where a secret begins, within which it must be recognised.
pub const LOOKAHEAD: usize = 1024;

/// The longest local part and the longest domain of an e-mail address, in bytes. RFC 5321 allows 64
/// and 255; the former is exceeded in practice.
const ADDRESS_PART: usize = 255;

/// What opens the first line of a private key.
pub const KEY_BEGINS: &[u8] = b"-----BEGIN ";

/// What is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// The id of an AWS access key.
    AwsKey,
    /// A token of GitHub.
    GithubToken,
    /// A personal access token of GitLab.
    GitlabToken,
    /// A token of Slack.
    SlackToken,
    /// A JSON web token.
    Jwt,
    /// A private key in PEM.
    PrivateKey,
    /// What follows `Bearer` in an HTTP header.
    BearerToken,
    /// The value that is assigned to a name such as `password`.
    Secret,
    /// The number of a payment card.
    Card,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Email,
        Self::AwsKey,
        Self::GithubToken,
        Self::GitlabToken,
        Self::SlackToken,
        Self::Jwt,
        Self::PrivateKey,
        Self::BearerToken,
        Self::Secret,
        Self::Card,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Email => "email",
            Self::AwsKey => "aws-key",
            Self::GithubToken => "github-token",
            Self::GitlabToken => "gitlab-token",
            Self::SlackToken => "slack-token",
            Self::Jwt => "jwt",
            Self::PrivateKey => "private-key",
            Self::BearerToken => "bearer-token",
            Self::Secret => "secret",
            Self::Card => "card",
        })
    }
}

/// A set of bytes. None holds the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Upper-case letters and digits.
    Upper,
    /// Letters, digits and `_`.
    Word,
    /// Letters, digits, `_` and `-`.
    Dashed,
    /// What a JSON web token is made of: three parts in base 64, joined by dots.
    Jwt,
    /// RFC 6750's `b64token`.
    Bearer,
    /// A value without quotes: ends at white space, a quote, or what separates the parameters of
    /// an address.
    Value,
    /// A value in quotes that are escaped: ends at the backslash, too.
    EscapedValue,
}

impl Class {
    /// Whether the class holds `byte`.
    pub fn contains(self, byte: u8) -> bool {
        match self {
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Word => is_word(byte),
            Self::Dashed => is_word(byte) || byte == b'-',
            Self::Jwt => is_word(byte) || matches!(byte, b'-' | b'.' | b'='),
            Self::Bearer => {
                byte.is_ascii_alphanumeric()
                    || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
            }
            Self::Value => byte > b' ' && !matches!(byte, b'"' | b'\'' | b'`' | b'&' | b'<' | b'>'),
            Self::EscapedValue => byte != b'\\' && Self::Value.contains(byte),
        }
    }

    /// How many bytes at the beginning of `text` belong to the class.
    pub fn leading(self, text: &[u8]) -> usize {
        text.iter().take_while(|byte| self.contains(**byte)).count()
    }
}

/// What goes on being masked behind what a rule has looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// Bytes of a class.
    While(Class),
    /// Everything up to this quote, or the end of the line.
    Quoted(u8),
    /// The body of a private key.
    PrivateKey,
}

/// Something to be masked, relative to where its rule was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// Bytes in front of it that stay, such as the name in `name=value`.
    pub keep: usize,
    /// Bytes that are masked at least.
    pub masked: usize,
    /// What follows them.
    pub rest: Rest,
}

/// Which groups of rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// E-mail addresses.
    pub emails: bool,
    /// Everything else.
    pub secrets: bool,
}

impl Rules {
    /// What begins at the beginning of `text`, which ends with its line or after [`LOOKAHEAD`]
    /// bytes. `previous` is the byte before it.
    pub fn find(self, text: &[u8], previous: u8) -> Option<Found> {
        let secret = || {
            assignment(text).or_else(|| match *text.first()? {
                b'-' => private_key(text),
                _ if is_word(previous) => None,
                b'b' | b'B' => bearer(text),
                b'e' => jwt(text),
                b'0'..=b'9' => card(text, previous),
                _ => token(text),
            })
        };
        self.secrets
            .then(secret)
            .flatten()
            .or_else(|| self.emails.then(|| email(text, previous)).flatten())
    }
}

/// A token that its first characters give away.
struct Token {
    kind: Kind,
    prefix: &'static [u8],
    class: Class,
    /// Characters behind the prefix at least, or exactly.
    length: usize,
    exact: bool,
}

impl Token {
    const fn new(kind: Kind, prefix: &'static [u8], class: Class, length: usize) -> Self {
        Self {
            kind,
            prefix,
            class,
            length,
            exact: false,
        }
    }

    const fn aws(prefix: &'static [u8]) -> Self {
        Self {
            exact: true,
            ..Self::new(Kind::AwsKey, prefix, Class::Upper, 16)
        }
    }

    const fn github(prefix: &'static [u8]) -> Self {
        Self::new(Kind::GithubToken, prefix, Class::Word, 36)
    }

    const fn slack(prefix: &'static [u8]) -> Self {
        Self::new(Kind::SlackToken, prefix, Class::Dashed, 10)
    }
}

/// Prefixes as their makers document them.
const TOKENS: &[Token] = &[
    Token::aws(b"AKIA"),
    Token::aws(b"ASIA"),
    Token::github(b"ghp_"),
    Token::github(b"gho_"),
    Token::github(b"ghu_"),
    Token::github(b"ghs_"),
    Token::github(b"ghr_"),
    Token::new(Kind::GithubToken, b"github_pat_", Class::Word, 22),
    Token::new(Kind::GitlabToken, b"glpat-", Class::Dashed, 20),
    Token::slack(b"xoxa-"),
    Token::slack(b"xoxb-"),
    Token::slack(b"xoxe-"),
    Token::slack(b"xoxo-"),
    Token::slack(b"xoxp-"),
    Token::slack(b"xoxr-"),
    Token::slack(b"xoxs-"),
];

fn token(text: &[u8]) -> Option<Found> {
    TOKENS.iter().find_map(|token| {
        let rest = text.strip_prefix(token.prefix)?;
        let length = token.class.leading(rest);
        let fits = if token.exact {
            length == token.length && !rest.get(length).is_some_and(|byte| is_word(*byte))
        } else {
            length >= token.length
        };
        fits.then_some(Found {
            kind: token.kind,
            keep: 0,
            masked: token.prefix.len() + length,
            rest: if token.exact {
                Rest::Nothing
            } else {
                Rest::While(token.class)
            },
        })
    })
}

/// `{"` in base 64, the rest of a header, and the beginning of a second part.
fn jwt(text: &[u8]) -> Option<Found> {
    let header = 3 + Class::Dashed.leading(text.strip_prefix(b"eyJ")?);
    let second = text[header..].strip_prefix(b".")?;
    let fits = header >= 10 && Class::Jwt.leading(second) >= 4;
    fits.then_some(Found {
        kind: Kind::Jwt,
        keep: 0,
        masked: header,
        rest: Rest::While(Class::Jwt),
    })
}

/// The word `Bearer` and a token of at least eight characters, one of them a digit; without the
/// digit it is taken for prose.
fn bearer(text: &[u8]) -> Option<Found> {
    let keep = scheme(text, b"bearer")?;
    let token = &text[keep..];
    let length = Class::Bearer.leading(token);
    let fits = length >= 8 && token[..length].iter().any(u8::is_ascii_digit);
    fits.then_some(Found {
        kind: Kind::BearerToken,
        keep,
        masked: length,
        rest: Rest::While(Class::Bearer),
    })
}

/// The length of an authentication scheme in any case and the spaces behind it.
fn scheme(text: &[u8], name: &[u8]) -> Option<usize> {
    let spaces = blanks(text.get(name.len()..)?);
    (spaces > 0 && text[..name.len()].eq_ignore_ascii_case(name)).then_some(name.len() + spaces)
}

/// `-----BEGIN … PRIVATE KEY-----`.
fn private_key(text: &[u8]) -> Option<Found> {
    let label = text.strip_prefix(KEY_BEGINS)?;
    let length = label.iter().take(64).position(|byte| *byte == b'-')?;
    let (label, dashes) = label.split_at(length);
    let private = label.ends_with(b"PRIVATE KEY") || label.ends_with(b"PRIVATE KEY BLOCK");
    (private && dashes.starts_with(b"-----")).then_some(Found {
        kind: Kind::PrivateKey,
        keep: 0,
        masked: KEY_BEGINS.len() + length + 5,
        rest: Rest::PrivateKey,
    })
}

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
fn assignment(text: &[u8]) -> Option<Found> {
    if !matches!(
        text.first()?.to_ascii_lowercase(),
        b'a' | b'p' | b's' | b't'
    ) {
        return None;
    }
    NAMES
        .iter()
        .find_map(|name| assigned(&text[..], leading_name(text, name)?))
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
fn blanks(text: &[u8]) -> usize {
    text.iter()
        .take(32)
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count()
}

/// 13 to 19 digits, which may stand in groups, of a large network and with a right check digit.
fn card(text: &[u8], previous: u8) -> Option<Found> {
    if matches!(previous, b'.' | b'+') {
        return None;
    }
    let digits: Vec<(usize, u8)> = digits(text).take(19).collect();
    (13..=digits.len()).rev().find_map(|length| {
        let (digits, end) = (&digits[..length], digits[length - 1].0 + 1);
        let fits = is_of_a_network(digits[0].1, digits[1].1, length)
            && has_right_check_digit(digits)
            && !text.get(end).is_some_and(|byte| is_word(*byte));
        fits.then_some(Found {
            kind: Kind::Card,
            keep: 0,
            masked: end,
            rest: Rest::Nothing,
        })
    })
}

/// ISO/IEC 7812: which first digits go with which lengths, roughly.
fn is_of_a_network(first: u8, second: u8, length: usize) -> bool {
    match first {
        2 | 5 => length == 16,
        3 => matches!(
            (second, length),
            (4 | 7, 15) | (0 | 6 | 8 | 9, 14) | (5, 16)
        ),
        4 => matches!(length, 13 | 16 | 19),
        6 => (16..=19).contains(&length),
        _ => false,
    }
}

/// The formula of H. P. Luhn, ISO/IEC 7812-1 annex B.
fn has_right_check_digit(digits: &[(usize, u8)]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, (_, digit))| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) => digit * 2 % 10 + digit / 5,
        })
        .sum();
    sum % 10 == 0
}

/// An address, of which any run of the characters of a local part may be the beginning.
fn email(text: &[u8], previous: u8) -> Option<Found> {
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

/// The length of the domain at the beginning of `text`: two labels or more, the last of letters.
fn domain_length(text: &[u8]) -> Option<usize> {
    let text = &text[..text.len().min(ADDRESS_PART)];
    let mut length = None;
    let mut at = 0;
    for labels in 1.. {
        let label = label_length(&text[at..]);
        if label == 0 {
            break;
        }
        let top = &text[at..at + label];
        at += label;
        let is_name = label >= 2
            && top
                .iter()
                .all(|byte| byte.is_ascii_alphabetic() || *byte >= 0x80);
        if labels >= 2 && (is_name || top.starts_with(b"xn--")) {
            length = Some(at);
        }
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

/// Letters, digits and `_`.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
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

/// The digits at the beginning of `text` with their places, as long as at most one blank or dash
/// stands between two.
pub fn digits(text: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let mut at = 0;
    iter::from_fn(move || {
        let separated = at > 0 && matches!(text.get(at), Some(b' ' | b'-'));
        let place = at + usize::from(separated);
        let digit = text.get(place).filter(|byte| byte.is_ascii_digit())? - b'0';
        at = place + 1;
        Some((place, digit))
    })
}
