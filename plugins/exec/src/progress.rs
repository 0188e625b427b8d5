//! Progress that a program tells on its output: lines of the form `::progress 3/10 what it does`.
//!
//! Such a line becomes an event and is not printed. Anything that does not have exactly this form
//! is output like any other, and so is every such line while the plugin may not emit events.

use std::time::{Duration, Instant};

use memchr::{memchr, memmem};
use vox_plugin::serde_json::json;
use vox_plugin::{Error, Result};

/// What such a line begins with.
const PREFIX: &[u8] = b"::progress ";
/// Progress that follows sooner is not told, unless it is the last.
const INTERVAL: Duration = Duration::from_millis(100);
/// Bytes of such a line at most.
const LINE: usize = 1024;

/// Takes progress out of a stream of output.
#[derive(Debug, Default)]
pub struct Progress {
    told: Option<Instant>,
    /// Events are not granted.
    denied: bool,
    /// The last chunk ended within a line.
    within_line: bool,
}

impl Progress {
    /// What of `text` is output; `kept` is where it is put together when something is taken out.
    /// `emit` gets the JSON of an event.
    pub fn take<'a>(
        &mut self,
        text: &'a [u8],
        kept: &'a mut Vec<u8>,
        emit: impl Fn(&str) -> Result<()>,
    ) -> &'a [u8] {
        let within_line = self.within_line;
        self.within_line = !text.ends_with(b"\n");
        if self.denied {
            return text;
        }
        let mut copied = 0;
        kept.clear();
        for start in memmem::find_iter(text, PREFIX) {
            let begins_line = match start.checked_sub(1) {
                Some(before) => text[before] == b'\n',
                None => !within_line,
            };
            let Some(length) = memchr(b'\n', &text[start..]) else {
                break;
            };
            if !begins_line || length > LINE {
                continue;
            }
            let line = &text[start + PREFIX.len()..start + length];
            if self.tell(line, &emit) {
                kept.extend_from_slice(&text[copied..start]);
                copied = start + length + 1;
            }
        }
        if copied == 0 {
            return text;
        }
        kept.extend_from_slice(&text[copied..]);
        kept
    }

    /// Whether a line is progress, and whoever watches the run is told or was told a moment ago.
    fn tell(&mut self, line: &[u8], emit: impl Fn(&str) -> Result<()>) -> bool {
        let Some((done, total, message)) = read(line) else {
            return false;
        };
        let is_news = self.told.is_none_or(|told| told.elapsed() >= INTERVAL);
        if self.denied || !is_news && done < total {
            return !self.denied;
        }
        let event = json!({ "done": done, "total": total, "message": message });
        if let Err(Error::Denied(_)) = emit(&event.to_string()) {
            self.denied = true;
            return false;
        }
        // Any other refusal is for one that follows too soon.
        self.told = Some(Instant::now());
        true
    }
}

/// `3/10 what it does`
fn read(line: &[u8]) -> Option<(u64, u64, &str)> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (numbers, message) = line.split_once(' ').unwrap_or((line, ""));
    let (done, total) = numbers.split_once('/')?;
    Some((
        done.parse().ok()?,
        total.parse().ok()?,
        message.trim_start(),
    ))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// What is left of a text, and what was told.
    fn taken(progress: &mut Progress, text: &str) -> (String, Vec<String>) {
        let told = RefCell::new(Vec::new());
        let mut kept = Vec::new();
        let left = progress.take(text.as_bytes(), &mut kept, |event| {
            told.borrow_mut().push(event.to_owned());
            Ok(())
        });
        (String::from_utf8(left.to_vec()).unwrap(), told.take())
    }

    #[test]
    fn a_line_of_progress_becomes_an_event() {
        let (left, told) = taken(
            &mut Progress::default(),
            "a\n::progress 3/10 reading é \nb\n::progress 10/10\n",
        );
        assert_eq!(left, "a\nb\n");
        assert_eq!(
            told,
            [
                r#"{"done":3,"message":"reading é","total":10}"#,
                r#"{"done":10,"message":"","total":10}"#
            ]
        );
    }

    #[test]
    fn progress_that_follows_at_once_is_told_only_when_it_is_the_last() {
        let mut progress = Progress::default();
        let text: String = (1..=100).map(|n| format!("::progress {n}/100\n")).collect();
        let (left, told) = taken(&mut progress, &text);
        assert_eq!(left, "");
        assert!(told.len() < 100, "{}", told.len());
        assert!(told.last().unwrap().contains(r#""done":100"#));
    }

    #[test]
    fn what_only_looks_like_progress_is_output() {
        for text in [
            "x::progress 1/2\n",
            "::progress 1 of 2\n",
            "::progress -1/2\n",
            "::progress\n",
            "::progress 1/2",
        ] {
            let (left, told) = taken(&mut Progress::default(), text);
            assert_eq!((left.as_str(), told.len()), (text, 0));
        }
        let mut progress = Progress::default();
        taken(&mut progress, "the beginning of a line, ");
        assert_eq!(
            taken(&mut progress, "::progress 1/2\n").0,
            "::progress 1/2\n"
        );
    }

    #[test]
    fn without_the_grant_the_lines_stay_text() {
        let mut progress = Progress::default();
        let mut kept = Vec::new();
        let text = b"::progress 1/2\n::progress 2/2\n";
        let left = progress.take(text, &mut kept, |_| Err(Error::Denied(String::new())));
        assert_eq!(left, text);
    }
}
