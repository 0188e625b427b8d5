//! Moments, to the second, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// The last second that has a written form: the end of the year 9999.
const LAST: u64 = 253_402_300_799;

/// A moment to the second, written as `2026-11-21T07:30:00Z` (RFC 3339, in UTC) and in no other
/// way. The order is that of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// Why a text is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a time; write it as `2026-11-21T07:30:00Z`", text.escape_debug())]
pub struct TimeError {
    text: String,
}

impl Time {
    /// The moment so many seconds after 1970 began, at most the end of the year 9999.
    pub fn from_seconds(seconds: u64) -> Self {
        Self(seconds.min(LAST))
    }

    /// This moment, by the machine's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self::from_seconds(since.map_or(0, |since| since.as_secs()))
    }

    /// The moment that much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self::from_seconds(self.0.saturating_add(duration.as_secs()))
    }

    /// When something is over: as `2026-11-21T07:30:00Z`, as a day, `2026-11-21`, which it lasts
    /// to the beginning of, or as a time from `now` on, `90days`.
    ///
    /// # Errors
    /// [`TimeError`] when it is written in none of these ways.
    pub fn end(text: &str, now: Self) -> Result<Self, TimeError> {
        let day = || format!("{text}T00:00:00Z").parse().ok();
        let span = || Some(now.after(humantime::parse_duration(text).ok()?));
        text.parse()
            .or_else(|error| day().or_else(span).ok_or(error))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_secs(self.0);
        write!(f, "{}", humantime::format_rfc3339_seconds(time))
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let parse = || {
            // The library slices bytes, and takes more than one way to write a moment.
            let time = humantime::parse_rfc3339(text.is_ascii().then_some(text)?).ok()?;
            let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
            (seconds <= LAST && Self(seconds).to_string() == text).then_some(Self(seconds))
        };
        parse().ok_or_else(|| TimeError { text: text.into() })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_one_written_form() {
        let time: Time = "2026-11-21T07:30:00Z".parse().unwrap();
        assert_eq!(time, Time(1_795_246_200));
        assert_eq!(time.to_string(), "2026-11-21T07:30:00Z");
        for other in [
            "2026-11-21T07:30:00.0Z",
            "2026-11-21T07:30:00+00:00",
            "2026-11-21 07:30:00Z",
            "2026-11-21",
            "2026-13-21T07:30:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-2éT07:30:00Z",
            "",
        ] {
            assert!(other.parse::<Time>().is_err(), "{other}");
        }
    }

    #[test]
    fn an_end_is_a_moment_a_day_or_a_time_from_now() {
        let now = Time(0);
        let end = |text| Time::end(text, now).map(|time| time.to_string());
        assert_eq!(end("2026-11-21T07:30:00Z").unwrap(), "2026-11-21T07:30:00Z");
        assert_eq!(end("2026-11-21").unwrap(), "2026-11-21T00:00:00Z");
        assert_eq!(end("2days").unwrap(), "1970-01-03T00:00:00Z");
        assert_eq!(end("90000years").unwrap(), "9999-12-31T23:59:59Z");
        assert!(end("soon").unwrap_err().to_string().contains("`soon`"));
    }
}
