//! Bytes and lengths of time as people write them: a whole number and its unit.
//!
//! The spelling is that of Vox's own files, with minutes and hours besides.

use std::time::Duration;

use vox_plugin::{Error, Result};

/// The pattern of a number of bytes, for the schema.
pub const BYTES: &str = "^[0-9]+ *(B|KiB|MiB|GiB|TiB)$";
/// The pattern of a length of time.
pub const TIME: &str = "^[0-9]+ *(ms|s|min|h)$";

const BYTE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// In milliseconds.
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1)];

/// The number of bytes that argument `name` gives.
///
/// # Errors
///
/// [`Error::Invalid`] when it is no number of bytes.
pub fn bytes(name: &str, text: &str) -> Result<u64> {
    in_units(text, &BYTE_UNITS).ok_or_else(|| {
        Error::Invalid(format!(
            "`{name}` is `{}`, which is no number of bytes; write a whole number and one of B, KiB, \
             MiB, GiB, TiB, such as `16MiB`",
            text.escape_debug()
        ))
    })
}

/// The length of time that argument `name` gives.
///
/// # Errors
///
/// [`Error::Invalid`] when it is none.
pub fn time(name: &str, text: &str) -> Result<Duration> {
    in_units(text, &TIME_UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            Error::Invalid(format!(
                "`{name}` is `{}`, which is no length of time; write a whole number and one of ms, \
                 s, min, h, such as `10min`",
                text.escape_debug()
            ))
        })
}

/// A number of bytes in the largest unit that divides it.
pub fn in_bytes(count: u64) -> String {
    let fits = |scale: u64| count != 0 && count.is_multiple_of(scale);
    let (unit, scale) = BYTE_UNITS
        .into_iter()
        .find(|(_, scale)| fits(*scale))
        .unwrap_or(("B", 1));
    format!("{}{unit}", count / scale)
}

fn in_units(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start_matches(' ');
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_they_are_written_elsewhere() {
        assert_eq!(bytes("a", "512B"), Ok(512));
        assert_eq!(bytes("a", "16 MiB"), Ok(16 << 20));
        assert_eq!(bytes("a", "2TiB"), Ok(2 << 40));
        assert_eq!(time("a", "250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(time("a", "10min"), Ok(Duration::from_secs(600)));
        assert_eq!(time("a", "1h"), Ok(Duration::from_secs(3600)));
    }

    #[test]
    fn what_is_no_quantity_is_refused_by_the_name_of_its_argument() {
        for text in [
            "",
            "16",
            "MiB",
            "16MB",
            "-1B",
            "1.5MiB",
            "99999999TiB",
            "1B ",
        ] {
            let told = bytes("output-limit", text).unwrap_err().to_string();
            assert!(told.contains("`output-limit`"), "{told}");
        }
        for text in ["", "5", "5m", "1 day", "9999999999999999h"] {
            assert!(time("stop.grace", text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_told_in_the_largest_unit() {
        for text in ["0B", "1023B", "1KiB", "1025KiB", "3GiB"] {
            assert_eq!(in_bytes(bytes("a", text).unwrap()), text);
        }
    }
}
