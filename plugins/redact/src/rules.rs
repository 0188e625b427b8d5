//! What is masked: for each kind of secret, how it is recognised at the place where it begins.
//!
//! Every rule looks forward only, from the first byte of what it recognises, and at no more than
//! [`LOOKAHEAD`] bytes of one line. That is what lets the [scanner](crate::scanner) decide about a
//! byte as soon as it sees that many bytes behind it, with the same answer however the text
//! arrives. A secret may well be longer: what follows the part that gives it away is described by
//! [`Rest`].

mod address;
mod assignment;
mod card;
mod token;

use std::fmt;

pub use assignment::ends_with_name;
pub use card::digits;
pub use token::KEY_BEGINS;

use address::email;
use assignment::assignment;
use card::card;
use token::{bearer, jwt, private_key, token};

/// Bytes, counted from where a secret begins, within which it must be recognised.
pub const LOOKAHEAD: usize = 1024;

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

/// Letters, digits and `_`.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
