//! Limits: what one plugin may use up, each a number with a default, a ceiling and a place in the
//! files.
//!
//! One table (the `limits!` below) says all of it; the keys under `[limits]`, their descriptions
//! in the JSON Schemas, what `vox plugin info` prints and what the documentation lists come from
//! there.
//!
//! Three parties speak: the host has a default, a plugin asks in its Plugin.toml for as much as
//! the ceiling allows, and the user sets in Vox.toml whatever the user wants. What must stay true:
//! the last word is the user's, and no manifest alone gets past a ceiling.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::{Bytes, CpuTime, PluginId, UnknownWord, document::Table, points::word_traits};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How a value of each kind is written, for the descriptions of the keys.
macro_rules! written {
    (Bytes) => {
        "a whole number and B, KiB, MiB or GiB."
    };
    (CpuTime) => {
        "a whole number and ns, us, ms or s, or `unlimited`."
    };
    (u32) => {
        "a whole number."
    };
}

/// What code compares with, for each kind of value.
macro_rules! plain_type {
    (Bytes) => { u64 };
    (CpuTime) => { Option<Duration> };
    (u32) => { u32 };
}

/// Whether `0` may be written: where nothing is a sensible amount.
macro_rules! may_be_zero {
    (zero) => {
        true
    };
    (some) => {
        false
    };
}

macro_rules! limits {
    ($(
        $name:ident $field:ident $key:literal: $kind:ident,
        $default:expr => $ceiling:expr, $least:ident, $bounds:literal;
    )*) => {
        /// A limit, by the name that files and errors give it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum LimitName {
            $(#[doc = concat!("`", $key, "`: ", $bounds, ".")] $name,)*
        }

        impl LimitName {
            /// Every limit, in the order in which they are documented.
            pub const ALL: [Self; [$($key),*].len()] = [$(Self::$name),*];

            /// The key under `[limits]`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $key,)* }
            }

            /// One line: what it bounds.
            pub const fn bounds(self) -> &'static str {
                match self { $(Self::$name => $bounds,)* }
            }

            /// What holds when nobody says anything.
            pub fn default(self) -> LimitValue {
                match self { $(Self::$name => LimitValue::from($default),)* }
            }

            /// The most that a plugin gets by asking. The user may set more.
            pub fn ceiling(self) -> LimitValue {
                match self { $(Self::$name => LimitValue::from($ceiling),)* }
            }

            /// True where a limit of nothing makes sense, such as no log records.
            pub const fn may_be_zero(self) -> bool {
                match self { $(Self::$name => may_be_zero!($least),)* }
            }
        }

        /// Limits as they are written under `[limits]`: in a Plugin.toml what the plugin asks for,
        /// in a Vox.toml what the user sets. What is left out is left to the host.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Limits {
            $(
                #[doc = concat!($bounds, ": ", written!($kind))]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$kind>,
            )*
        }

        impl Limits {
            pub(crate) const KEYS: &[&str] = &[$($key),*];

            /// What is written for a limit.
            pub fn get(&self, name: LimitName) -> Option<LimitValue> {
                match name { $(LimitName::$name => self.$field.map(LimitValue::from),)* }
            }

            pub(crate) fn read(table: &Table<'_, '_>) -> Self {
                Self { $($field: read(table, LimitName::$name),)* }
            }
        }

        /// The limits that hold for one plugin.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct EffectiveLimits {
            $(
                #[doc = concat!($bounds, ".")]
                pub $field: plain_type!($kind),
            )*
        }

        impl EffectiveLimits {
            /// What holds for a plugin that asks for `asked` where the user has set `set`: what is
            /// set, else what is asked for but at most the ceiling, else the default.
            pub fn of(asked: &Limits, set: &Limits) -> Self {
                Self {
                    $($field: plain(set.$field, asked.$field, $default, $ceiling),)*
                }
            }

            /// One of them.
            pub fn get(&self, name: LimitName) -> LimitValue {
                match name {
                    $(LimitName::$name => {
                        LimitValue::from(<$kind as Amount>::from_plain(self.$field))
                    })*
                }
            }
        }
    };
}

limits! {
    Memory memory "memory": Bytes, Bytes(16 * MIB) => Bytes(GIB), some,
        "memory of one instance, linear memories and tables together";
    Cpu cpu "cpu": CpuTime, CpuTime::Limited(Duration::from_millis(100)) => CpuTime::Unlimited, some,
        "processor time of guest code in one call, host functions not counted";
    Stack stack "stack": Bytes, Bytes(64 * KIB) => Bytes(MIB), some,
        "stack of a component";
    Kv kv "kv": Bytes, Bytes(MIB) => Bytes(64 * MIB), zero,
        "all keys and values that it keeps";
    Instances instances "instances": u32, 256 => 65_536, some,
        "live instances, and so calls at the same time";
    CallDepth call_depth "call-depth": u32, 8 => 32, some,
        "plugins inside each other through `call`";
    HookDepth hook_depth "hook-depth": u32, 4 => 8, some,
        "hooks inside each other";
    Dependencies dependencies "dependencies": u32, 8 => 32, zero,
        "plugins that it depends on";
    LogRate log_rate "log-rate": u32, 1_000 => 100_000, zero,
        "log records a second";
    EventRate event_rate "event-rate": u32, 1_000 => 100_000, zero,
        "events and messages a second";
    Message message "message": Bytes, Bytes(MIB) => Bytes(64 * MIB), some,
        "bytes of one event, one topic message or one set of call arguments";
    Result result "result": Bytes, Bytes(16 * MIB) => Bytes(GIB), some,
        "bytes of what one call answers, and of what a component hands over in one host call";
    Resources resources "resources": u32, 1_024 => 65_536, zero,
        "host objects that one instance holds, such as subscriptions, files and sockets";
}

/// The amount of a limit. Prints as the files write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitValue {
    /// Bytes.
    Bytes(Bytes),
    /// Processor time.
    Cpu(CpuTime),
    /// A number of things.
    Count(u32),
}

/// Where the limit that holds comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LimitSource {
    /// Nobody said anything.
    Default,
    /// The plugin asked for it.
    Asked,
    /// The plugin asked for more than the ceiling.
    Cut,
    /// The user set it in Vox.toml.
    Set,
}

/// A limit for which a manifest asks more than it can get by asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AboveCeiling {
    /// Which limit.
    pub name: LimitName,
    /// What was asked for.
    pub asked: LimitValue,
    /// What it is cut to unless the user sets it.
    pub ceiling: LimitValue,
}

impl LimitName {
    /// Where to raise this limit for a plugin.
    ///
    /// ```
    /// use vox_contract::LimitName;
    ///
    /// assert_eq!(
    ///     LimitName::Memory.remedy(&"acme.redact".parse()?),
    ///     "raise it with `limits.memory` under `[plugin.\"acme.redact\"]` in Vox.toml"
    /// );
    /// # Ok::<(), vox_contract::NameError>(())
    /// ```
    pub fn remedy(&self, plugin: &PluginId) -> String {
        let key = plugin.toml_key();
        format!("raise it with `limits.{self}` under `[plugin.{key}]` in Vox.toml")
    }
}

impl FromStr for LimitName {
    type Err = UnknownWord;

    fn from_str(value: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|limit| limit.name() == value)
            .ok_or_else(|| UnknownWord::new("limit", value, &Self::ALL.map(Self::name)))
    }
}

word_traits!(LimitName);

impl Limits {
    /// True when nothing is written.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is above its ceiling, and is cut when it is a manifest that asks.
    pub fn above_ceiling(&self) -> impl Iterator<Item = AboveCeiling> + use<> {
        let limits = *self;
        LimitName::ALL.into_iter().filter_map(move |name| {
            let (asked, ceiling) = (limits.get(name)?, name.ceiling());
            asked.exceeds(ceiling).then_some(AboveCeiling {
                name,
                asked,
                ceiling,
            })
        })
    }
}

impl Default for EffectiveLimits {
    fn default() -> Self {
        Self::of(&Limits::default(), &Limits::default())
    }
}

impl LimitSource {
    /// Where [`EffectiveLimits::of`] takes a limit from.
    pub fn of(name: LimitName, asked: &Limits, set: &Limits) -> Self {
        match (set.get(name), asked.get(name)) {
            (Some(_), _) => Self::Set,
            (None, Some(asked)) if asked.exceeds(name.ceiling()) => Self::Cut,
            (None, Some(_)) => Self::Asked,
            (None, None) => Self::Default,
        }
    }
}

impl LimitValue {
    /// True when this is more than `ceiling`, a value of the same limit.
    fn exceeds(self, ceiling: Self) -> bool {
        match (self, ceiling) {
            (Self::Bytes(asked), Self::Bytes(ceiling)) => asked > ceiling,
            (Self::Cpu(asked), Self::Cpu(ceiling)) => asked > ceiling,
            (Self::Count(asked), Self::Count(ceiling)) => asked > ceiling,
            _ => false,
        }
    }
}

impl fmt::Display for LimitValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Cpu(time) => time.fmt(f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

/// As the files write it: a string for bytes and time, a number for counts.
impl Serialize for LimitValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(bytes) => bytes.serialize(serializer),
            Self::Cpu(time) => time.serialize(serializer),
            Self::Count(count) => count.serialize(serializer),
        }
    }
}

impl From<Bytes> for LimitValue {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<CpuTime> for LimitValue {
    fn from(time: CpuTime) -> Self {
        Self::Cpu(time)
    }
}

impl From<u32> for LimitValue {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}

/// A kind of amount: how it is read, and the plain number that code compares with.
trait Amount: Copy + Ord {
    /// What [`EffectiveLimits`] holds.
    type Plain;

    /// As code wants it.
    fn plain(self) -> Self::Plain;

    /// As the files write it.
    fn from_plain(plain: Self::Plain) -> Self;

    /// True for nothing at all.
    fn is_zero(self) -> bool;

    /// The value of a key; none when there is none, or it was refused and that is noted.
    fn read(table: &Table<'_, '_>, key: &'static str) -> Option<Self>;
}

impl Amount for Bytes {
    type Plain = u64;

    fn plain(self) -> u64 {
        self.get()
    }

    fn from_plain(plain: u64) -> Self {
        Self(plain)
    }

    fn is_zero(self) -> bool {
        self == Self(0)
    }

    fn read(table: &Table<'_, '_>, key: &'static str) -> Option<Self> {
        table.parsed(key)
    }
}

impl Amount for CpuTime {
    type Plain = Option<Duration>;

    fn plain(self) -> Option<Duration> {
        self.limit()
    }

    fn from_plain(plain: Option<Duration>) -> Self {
        plain.map_or(Self::Unlimited, Self::Limited)
    }

    fn is_zero(self) -> bool {
        self == Self::Limited(Duration::ZERO)
    }

    fn read(table: &Table<'_, '_>, key: &'static str) -> Option<Self> {
        table.parsed(key)
    }
}

impl Amount for u32 {
    type Plain = Self;

    fn plain(self) -> Self {
        self
    }

    fn from_plain(plain: Self) -> Self {
        plain
    }

    fn is_zero(self) -> bool {
        self == 0
    }

    fn read(table: &Table<'_, '_>, key: &'static str) -> Option<Self> {
        table.integer(key, table.value(key)?)
    }
}

fn plain<A: Amount>(set: Option<A>, asked: Option<A>, default: A, ceiling: A) -> A::Plain {
    set.or(asked.map(|asked| asked.min(ceiling)))
        .unwrap_or(default)
        .plain()
}

fn read<A: Amount>(table: &Table<'_, '_>, name: LimitName) -> Option<A> {
    let key = name.name();
    let amount = A::read(table, key)?;
    if amount.is_zero() && !name.may_be_zero() {
        let hint = "write what is needed, or leave it out";
        table.note(
            table.value_span(key),
            format!("`{key}` cannot be nothing"),
            hint,
        );
    }
    Some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: u64) -> Limits {
        Limits {
            memory: Some(Bytes(bytes)),
            ..Limits::default()
        }
    }

    #[test]
    fn what_the_user_sets_wins_and_what_a_plugin_asks_for_ends_at_the_ceiling() {
        let none = Limits::default();
        for (asked, set, holds, source) in [
            (none, none, 16 * MIB, LimitSource::Default),
            (memory(MIB), none, MIB, LimitSource::Asked),
            (memory(GIB), none, GIB, LimitSource::Asked),
            (memory(GIB + 1), none, GIB, LimitSource::Cut),
            (memory(GIB), memory(KIB), KIB, LimitSource::Set),
            (memory(KIB), memory(2 * GIB), 2 * GIB, LimitSource::Set),
        ] {
            assert_eq!(
                EffectiveLimits::of(&asked, &set).memory,
                holds,
                "{source:?}"
            );
            assert_eq!(LimitSource::of(LimitName::Memory, &asked, &set), source);
        }
    }

    #[test]
    fn only_what_is_above_its_ceiling_is_said_to_be_cut() {
        let asked = Limits {
            memory: Some(Bytes(2 * GIB)),
            cpu: Some(CpuTime::Unlimited),
            call_depth: Some(33),
            instances: Some(65_536),
            ..Limits::default()
        };
        let cut: Vec<_> = asked.above_ceiling().map(|above| above.name).collect();
        assert_eq!(cut, [LimitName::Memory, LimitName::CallDepth]);
    }

    #[test]
    fn no_default_is_above_its_ceiling_and_each_is_what_holds_by_default() {
        for name in LimitName::ALL {
            assert!(!name.default().exceeds(name.ceiling()), "{name}");
            assert_eq!(EffectiveLimits::default().get(name), name.default());
            assert_eq!(name.name().parse(), Ok(name));
        }
    }
}
