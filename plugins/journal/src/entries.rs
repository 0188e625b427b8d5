//! The journal itself: lines of JSON, the newest last, in bounded space.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use vox_plugin::hook::Event;
use vox_plugin::serde_json::{self, Value, json};

/// The longest detail that is written down whole, in bytes of JSON.
const LONGEST_DETAIL: usize = 4 * 1024;

/// The longest journal in bytes, half of what a plugin may keep by default; it goes before the
/// number of entries.
const LONGEST_JOURNAL: usize = 512 * 1024;

/// Something that happened in a run.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The entry's position among those that one instance wrote, counted from 1.
    pub number: u64,
    /// The hook point.
    pub point: String,
    /// Id of the run.
    pub run: String,
    /// Key of the step; empty when the entry concerns the whole run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub step: String,
    /// Nanoseconds since the Unix epoch.
    pub timestamp: u64,
    /// What the hook point tells besides. One that is very long is left out, and its length in
    /// bytes stands there as `omitted`.
    pub detail: Value,
}

impl Entry {
    /// The entry for an event.
    pub fn new(number: u64, event: Event) -> Self {
        let Event {
            point,
            run,
            step,
            timestamp,
            detail,
        } = event;
        let detail = if detail.len() > LONGEST_DETAIL {
            json!({ "omitted": detail.len() })
        } else {
            serde_json::from_str(&detail).unwrap_or(Value::String(detail))
        };
        Self {
            number,
            point,
            run,
            step,
            timestamp,
            detail,
        }
    }
}

/// The journal with one more line; of the older ones, as many as `entries` allows, and the bound
/// on its length.
pub fn with_line(journal: &[u8], line: &str, entries: NonZeroUsize) -> Vec<u8> {
    let room = LONGEST_JOURNAL.saturating_sub(line.len() + 1);
    let mut from = journal.len();
    let older = journal.split_inclusive(|byte| *byte == b'\n').rev();
    for line in older.take(entries.get() - 1) {
        if journal.len() - from + line.len() > room {
            break;
        }
        from -= line.len();
    }
    [&journal[from..], line.as_bytes(), b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(detail: &str) -> Event {
        Event {
            point: "pre_step".into(),
            run: "r".into(),
            step: "read".into(),
            timestamp: 5,
            detail: detail.into(),
        }
    }

    fn lines(journal: &[u8]) -> Vec<&str> {
        std::str::from_utf8(journal).unwrap().lines().collect()
    }

    #[test]
    fn an_entry_says_what_happened_where_and_when() {
        let entry = Entry::new(3, event(r#"{"runner":"exec"}"#));
        assert_eq!(
            serde_json::to_string(&entry).unwrap(),
            r#"{"number":3,"point":"pre_step","run":"r","step":"read","timestamp":5,"detail":{"runner":"exec"}}"#
        );
        let whole_run = Entry::new(
            1,
            Event {
                step: String::new(),
                ..event("{}")
            },
        );
        assert!(
            !serde_json::to_string(&whole_run)
                .unwrap()
                .contains("step\":")
        );
    }

    #[test]
    fn a_very_long_detail_is_left_out() {
        let detail = format!(r#"{{"arguments":"{}"}}"#, "x".repeat(LONGEST_DETAIL));
        assert_eq!(
            Entry::new(1, event(&detail)).detail,
            json!({ "omitted": detail.len() })
        );
    }

    #[test]
    fn a_detail_that_is_no_json_is_kept_as_text() {
        assert_eq!(Entry::new(1, event("{")).detail, "{");
    }

    #[test]
    fn the_oldest_entries_make_room() {
        let three = NonZeroUsize::new(3).unwrap();
        let mut journal = Vec::new();
        for line in ["1", "2", "3", "4", "5"] {
            journal = with_line(&journal, line, three);
        }
        assert_eq!(lines(&journal), ["3", "4", "5"]);
        assert_eq!(lines(&with_line(&journal, "6", NonZeroUsize::MIN)), ["6"]);
    }

    #[test]
    fn the_journal_stays_within_its_bound() {
        let line = "x".repeat(LONGEST_JOURNAL / 4);
        let mut journal = Vec::new();
        for _ in 0..5 {
            journal = with_line(&journal, &line, NonZeroUsize::MAX);
            assert!(journal.len() <= LONGEST_JOURNAL);
        }
        assert_eq!(lines(&journal).len(), 3);
    }
}
