//! Names that users type and plugins claim: plugin ids, runners, verbs, services.
//!
//! A value of one of these types is valid by construction, so code that holds one never asks again
//! whether it may be a file name, a TOML key or a word of a command line. What must stay true: the
//! grammar allows no character that a shell, a path or TOML's dotted keys would have to quote,
//! the dot in keys apart.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest name allowed, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Why a text is not a name of the kind wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{value}` {fault}")]
pub struct NameError {
    kind: &'static str,
    value: String,
    fault: &'static str,
    hint: String,
}

impl NameError {
    /// What to write instead.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

/// Defines a name type: lower-case words joined by single hyphens, and where `dots` is true such
/// parts joined by single dots.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, dots = $dots:literal, pattern = $pattern:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `value` and makes it a name.
            ///
            /// # Errors
            /// [`NameError`] says which rule `value` breaks and suggests what to write instead.
            pub fn new(value: &str) -> Result<Self, NameError> {
                check($kind, value, $dots)?;
                Ok(Self(value.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(value: &str) -> Result<Self, NameError> {
                Self::new(value)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&value)
                    .map_err(|error| de::Error::custom(format!("{error}; {}", error.hint())))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "maxLength": MAX_NAME_BYTES,
                })
            }
        }
    };
}

name_type!(
    /// The id of a plugin: `redact`, `acme.redact`.
    ///
    /// Lower-case words joined by `-`, such parts joined by `.`; each part begins with a letter.
    /// At most [`MAX_NAME_BYTES`] bytes.
    PluginId, "plugin id", dots = true,
    pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*(\\.[a-z][a-z0-9]*(-[a-z0-9]+)*)*$"
);
name_type!(
    /// The name of a runner, which a step writes after `uses`: `exec`. The same grammar as
    /// [`PluginId`].
    RunnerName, "runner name", dots = true,
    pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*(\\.[a-z][a-z0-9]*(-[a-z0-9]+)*)*$"
);

impl RunnerName {
    /// The runners that every Vox serves by itself; no plugin can.
    pub const BUILT_IN: [&str; 5] = ["agent", "fuse", "plugin", "read", "unfuse"];

    /// Whether Vox serves it by itself.
    pub fn is_built_in(&self) -> bool {
        Self::BUILT_IN.contains(&self.as_str())
    }
}

name_type!(
    /// A verb of the command line, as in `vox hello`. The grammar of [`PluginId`] without dots.
    Verb, "verb", dots = false, pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
);
name_type!(
    /// The name of a service that other plugins may call. The same grammar as [`PluginId`].
    ServiceName, "service name", dots = true,
    pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*(\\.[a-z][a-z0-9]*(-[a-z0-9]+)*)*$"
);

name_type!(
    /// The name of a distribution: `vox-base`. The grammar of [`PluginId`] without dots.
    DistributionName, "distribution name", dots = false, pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
);
name_type!(
    /// The name of a skill: `review-code`. The grammar of [`PluginId`] without dots.
    SkillName, "skill name", dots = false, pattern = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
);

impl PluginId {
    /// The id as one key of a TOML file: quoted when it contains dots. Nothing in an id needs an
    /// escape.
    pub fn toml_key(&self) -> Cow<'_, str> {
        if self.0.contains('.') {
            Cow::Owned(format!("\"{self}\""))
        } else {
            Cow::Borrowed(&self.0)
        }
    }
}

fn check(kind: &'static str, value: &str, dots: bool) -> Result<(), NameError> {
    let Some(fault) = fault_in(value, dots) else {
        return Ok(());
    };
    let grammar = if dots {
        "lower-case letters, digits, single `-` and `.` between them, each part starting with a letter"
    } else {
        "lower-case letters, digits and single `-` between them, starting with a letter"
    };
    let hint = match nearest_valid(value, dots) {
        Some(valid) => format!("write `{valid}`: {grammar}"),
        None => format!("use {grammar}"),
    };
    Err(NameError {
        kind,
        value: value.escape_debug().to_string(),
        fault,
        hint,
    })
}

/// The first rule that `value` breaks.
fn fault_in(value: &str, dots: bool) -> Option<&'static str> {
    if value.is_empty() {
        return Some("is empty");
    }
    if value.len() > MAX_NAME_BYTES {
        return Some("is longer than 64 bytes");
    }
    if value.contains(char::is_whitespace) {
        return Some("contains white space");
    }
    for c in value.chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' => {}
            '.' if dots => {}
            c if c.is_uppercase() => return Some("contains a capital letter"),
            _ => return Some("contains a character that is not allowed"),
        }
    }
    value.split('.').find_map(|part| {
        if !part.starts_with(|c: char| c.is_ascii_lowercase()) {
            Some("has a part that does not begin with a letter")
        } else if part.ends_with('-') || part.contains("--") {
            Some("has a hyphen that does not join two words")
        } else {
            None
        }
    })
}

/// `value` with what is not allowed turned into hyphens, when that makes a valid name.
fn nearest_valid(value: &str, dots: bool) -> Option<String> {
    let mut near = String::with_capacity(value.len().min(2 * MAX_NAME_BYTES));
    for c in value.chars().take(2 * MAX_NAME_BYTES) {
        let separator = if c == '.' && dots { '.' } else { '-' };
        if c.is_ascii_alphanumeric() {
            near.push(c.to_ascii_lowercase());
        } else if !near.ends_with(['-', '.']) {
            near.push(separator);
        }
    }
    let near = near.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    (fault_in(near, dots).is_none()).then(|| near.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_grammar_are_accepted() {
        for id in ["a", "redact", "candle-cpu", "acme.redact-2", "s3"] {
            assert_eq!(PluginId::new(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused_with_what_to_write_instead() {
        let hint = |id: &str| {
            let error = PluginId::new(id).unwrap_err();
            format!("{error}: {}", error.hint().split(':').next().unwrap())
        };
        assert_eq!(
            hint("My Plugin"),
            "plugin id `My Plugin` contains white space: write `my-plugin`"
        );
        assert_eq!(
            hint("Redact"),
            "plugin id `Redact` contains a capital letter: write `redact`"
        );
        assert_eq!(
            hint("a--b"),
            "plugin id `a--b` has a hyphen that does not join two words: write `a-b`"
        );
        assert!(hint("7zip").contains("does not begin with a letter: use lower-case"));
        assert!(hint("a.").contains("does not begin with a letter: write `a`"));
        assert!(hint("../etc").contains("contains a character that is not allowed"));
        assert!(hint("").contains("is empty"));
        assert!(hint(&"a".repeat(65)).contains("is longer than 64 bytes"));
    }

    #[test]
    fn a_verb_has_no_dots() {
        assert!(Verb::new("registry-login").is_ok());
        assert!(Verb::new("registry.login").is_err());
    }
}
