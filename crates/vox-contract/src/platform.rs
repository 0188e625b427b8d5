//! Platforms and carriers: what a native library is built for, and how code is carried in.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    nearest,
    points::{UnknownWord, word_traits},
};

/// Operating systems by the names of [`std::env::consts::OS`].
pub(crate) const SYSTEMS: &[&str] = &[
    "android",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "linux",
    "macos",
    "netbsd",
    "openbsd",
    "solaris",
    "windows",
];

/// Processors by the names of [`std::env::consts::ARCH`].
pub(crate) const ARCHITECTURES: &[&str] = &[
    "aarch64",
    "arm",
    "loongarch64",
    "mips64",
    "powerpc64",
    "riscv64",
    "s390x",
    "x86",
    "x86_64",
];

/// Names that other tools give to systems and processors, and ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("darwin", "macos"),
    ("osx", "macos"),
    ("win32", "windows"),
    ("win64", "windows"),
    ("amd64", "x86_64"),
    ("x64", "x86_64"),
    ("i686", "x86"),
    ("i386", "x86"),
    ("arm64", "aarch64"),
];

/// An operating system on a processor, written `linux-x86_64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// As in [`std::env::consts::OS`]: `linux`, `macos`, `windows`, …
    pub os: Cow<'static, str>,
    /// As in [`std::env::consts::ARCH`]: `x86_64`, `aarch64`, …
    pub arch: Cow<'static, str>,
}

impl Platform {
    /// The platform that this program was built for.
    pub const fn current() -> Self {
        Self {
            os: Cow::Borrowed(std::env::consts::OS),
            arch: Cow::Borrowed(std::env::consts::ARCH),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.os, self.arch))
    }
}

impl FromStr for Platform {
    type Err = UnknownWord;

    fn from_str(value: &str) -> Result<Self, UnknownWord> {
        let Some((os, arch)) = value.split_once('-') else {
            return Err(UnknownWord::with_hint(
                "platform",
                value,
                format!("write system and processor, such as `{}`", Self::current()),
            ));
        };
        Ok(Self {
            os: system(os)?.into(),
            arch: architecture(arch)?.into(),
        })
    }
}

/// The known operating system of that name.
pub(crate) fn system(value: &str) -> Result<&'static str, UnknownWord> {
    known("operating system", value, SYSTEMS)
}

/// The known processor architecture of that name.
pub(crate) fn architecture(value: &str) -> Result<&'static str, UnknownWord> {
    known("architecture", value, ARCHITECTURES)
}

fn known(
    kind: &'static str,
    value: &str,
    names: &'static [&'static str],
) -> Result<&'static str, UnknownWord> {
    if let Some(name) = names.iter().find(|name| **name == value) {
        return Ok(name);
    }
    let synonym = SYNONYMS
        .iter()
        .find(|(other, name)| *other == value && names.contains(name));
    let hint = match synonym {
        Some((_, name)) => format!("it is called `{name}` here"),
        None => nearest::hint(value, names),
    };
    Err(UnknownWord::with_hint(kind, value, hint))
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for Platform {
    fn schema_name() -> Cow<'static, str> {
        "Platform".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = format!("^({})-({})$", SYSTEMS.join("|"), ARCHITECTURES.join("|"));
        json_schema!({ "type": "string", "pattern": pattern })
    }
}

/// How code is carried into the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Carrier {
    /// A WebAssembly component: sandboxed.
    Component,
    /// A native library: trusted, at full speed.
    Native,
}

impl Carrier {
    /// Both carriers.
    pub const ALL: [Self; 2] = [Self::Component, Self::Native];

    /// The name that files and options write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Native => "native",
        }
    }
}

/// What a plugin may ship: code for one of the carriers, or text for agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PayloadKind {
    /// A WebAssembly component.
    Component,
    /// Native libraries, one for each platform.
    Native,
    /// A `SKILL.md`.
    Skill,
}

impl PayloadKind {
    /// Every kind of payload.
    pub const ALL: [Self; 3] = [Self::Component, Self::Native, Self::Skill];

    /// The name that files write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Native => "native",
            Self::Skill => "skill",
        }
    }
}

impl FromStr for Carrier {
    type Err = UnknownWord;

    fn from_str(value: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|carrier| carrier.name() == value)
            .ok_or_else(|| UnknownWord::new("carrier", value, &Self::ALL.map(Self::name)))
    }
}

impl FromStr for PayloadKind {
    type Err = UnknownWord;

    fn from_str(value: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == value)
            .ok_or_else(|| UnknownWord::new("kind of payload", value, &Self::ALL.map(Self::name)))
    }
}

word_traits!(Carrier);
word_traits!(PayloadKind);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_platform_is_one_that_a_manifest_can_name() {
        let current = Platform::current();
        assert_eq!(current.to_string().parse(), Ok(current));
    }

    #[test]
    fn names_of_other_tools_are_translated_in_the_hint() {
        let hint = |text: &str| text.parse::<Platform>().unwrap_err().hint().to_owned();
        assert_eq!(hint("darwin-aarch64"), "it is called `macos` here");
        assert_eq!(hint("linux-amd64"), "it is called `x86_64` here");
        assert_eq!(hint("lnux-x86_64"), "did you mean `linux`?");
        assert!(hint("linux").starts_with("write system and processor"));
    }
}
