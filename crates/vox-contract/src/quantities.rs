//! Quantities as people write them: bytes, processor time and time on the clock.
//!
//! A value prints in the largest unit that divides it, so that what is printed parses back to the
//! same value.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {wanted}")]
pub struct QuantityError {
    value: String,
    wanted: &'static str,
    hint: &'static str,
}

impl QuantityError {
    /// How to write one.
    pub fn hint(&self) -> &'static str {
        self.hint
    }
}

/// A number of bytes: `512B`, `64KiB`, `16MiB`, `2GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    const UNITS: [(&'static str, u64); 4] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
    ];

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for Bytes {
    type Err = QuantityError;

    fn from_str(value: &str) -> Result<Self, QuantityError> {
        parse_units(value, &Self::UNITS)
            .map(Self)
            .ok_or_else(|| QuantityError {
                value: value.escape_debug().to_string(),
                wanted: "a number of bytes",
                hint: "write a whole number and one of B, KiB, MiB, GiB, such as `16MiB`",
            })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_units(f, self.0, &Self::UNITS)
    }
}

/// Processor time that guest code may use in one call: `500us`, `100ms`, `2s`, `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CpuTime {
    /// At most this long.
    Limited(Duration),
    /// No limit; the call still ends when it is cancelled.
    Unlimited,
}

/// Time by the clock that something may take: `500us`, `100ms`, `2s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub Duration);

/// Units of time, in nanoseconds.
const TIME_UNITS: [(&str, u64); 4] = [
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl CpuTime {
    /// The limit; none when there is none.
    pub const fn limit(self) -> Option<Duration> {
        match self {
            Self::Limited(limit) => Some(limit),
            Self::Unlimited => None,
        }
    }
}

impl FromStr for CpuTime {
    type Err = QuantityError;

    fn from_str(value: &str) -> Result<Self, QuantityError> {
        if value == "unlimited" {
            return Ok(Self::Unlimited);
        }
        parse_units(value, &TIME_UNITS)
            .map(|nanos| Self::Limited(Duration::from_nanos(nanos)))
            .ok_or_else(|| QuantityError {
                value: value.escape_debug().to_string(),
                wanted: "an amount of processor time",
                hint: "write a whole number and one of ns, us, ms, s, such as `100ms`, or \
                       `unlimited`",
            })
    }
}

impl fmt::Display for CpuTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited(limit) => print_time(f, *limit),
            Self::Unlimited => f.pad("unlimited"),
        }
    }
}

impl FromStr for WallTime {
    type Err = QuantityError;

    fn from_str(value: &str) -> Result<Self, QuantityError> {
        parse_units(value, &TIME_UNITS)
            .map(|nanos| Self(Duration::from_nanos(nanos)))
            .ok_or_else(|| QuantityError {
                value: value.escape_debug().to_string(),
                wanted: "a length of time",
                hint: "write a whole number and one of ns, us, ms, s, such as `500ms`",
            })
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_time(f, self.0)
    }
}

/// A whole number directly followed by one of `units`, in the smallest unit. The units are tried
/// longest suffix first where one ends with another.
fn parse_units(value: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let (_, scale) = units
        .iter()
        .find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// Values above 584 years come only from code; they print as that.
fn print_time(f: &mut fmt::Formatter<'_>, time: Duration) -> fmt::Result {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    print_units(f, nanos, &TIME_UNITS)
}

fn print_units(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |scale: u64| value != 0 && value.is_multiple_of(scale);
    let (name, scale) = units
        .iter()
        .find(|(_, scale)| fits(*scale))
        .or(units.last())
        .copied()
        .unwrap_or(("", 1));
    f.pad(&format!("{}{name}", value / scale))
}

macro_rules! text_traits {
    ($type:ty, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?
                    .parse()
                    .map_err(|error: QuantityError| {
                        de::Error::custom(format_args!("{error}; {}", error.hint()))
                    })
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_traits!(Bytes, "^[0-9]+ *(B|KiB|MiB|GiB)$");
text_traits!(CpuTime, "^([0-9]+ *(ns|us|ms|s)|unlimited)$");
text_traits!(WallTime, "^[0-9]+ *(ns|us|ms|s)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_as_they_are_written() {
        for text in [
            "0B", "1B", "1023B", "1KiB", "64KiB", "16MiB", "1025KiB", "3GiB",
        ] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
        }
        assert_eq!("16 MiB".parse(), Ok(Bytes(16 << 20)));
        assert_eq!("2048KiB".parse::<Bytes>().unwrap().to_string(), "2MiB");
    }

    #[test]
    fn time_prints_as_it_is_written() {
        for text in ["1ns", "500us", "100ms", "1500ms", "2s"] {
            assert_eq!(text.parse::<CpuTime>().unwrap().to_string(), text);
            assert_eq!(text.parse::<WallTime>().unwrap().to_string(), text);
        }
        assert_eq!("unlimited".parse(), Ok(CpuTime::Unlimited));
        assert_eq!(CpuTime::Unlimited.to_string(), "unlimited");
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in [
            "",
            "16",
            "MiB",
            "16MB",
            "-1B",
            "1.5MiB",
            "99999999999GiB",
            "16MiB ",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text:?}");
        }
        for text in ["", "5", "5m", "infinite", "18446744073709551615s"] {
            assert!(text.parse::<CpuTime>().is_err(), "{text:?}");
            assert!(text.parse::<WallTime>().is_err(), "{text:?}");
        }
        assert!("unlimited".parse::<WallTime>().is_err());
    }
}
