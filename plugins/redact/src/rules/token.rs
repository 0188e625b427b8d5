//! Secrets that their own form gives away: tokens of services, and private keys.

use super::assignment::blanks;
use super::{Class, Found, Kind, Rest, is_word};

/// What opens the first line of a private key.
pub const KEY_BEGINS: &[u8] = b"-----BEGIN ";

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

pub(super) fn token(text: &[u8]) -> Option<Found> {
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
pub(super) fn jwt(text: &[u8]) -> Option<Found> {
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
pub(super) fn bearer(text: &[u8]) -> Option<Found> {
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
pub(super) fn scheme(text: &[u8], name: &[u8]) -> Option<usize> {
    let spaces = blanks(text.get(name.len()..)?);
    (spaces > 0 && text[..name.len()].eq_ignore_ascii_case(name)).then_some(name.len() + spaces)
}

/// `-----BEGIN … PRIVATE KEY-----`.
pub(super) fn private_key(text: &[u8]) -> Option<Found> {
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
