//! What a step writes to a port that nobody reads, as lines of text.

use std::collections::BTreeMap;

/// A line is handed on before its end once it is this long, in bytes.
const LONGEST_LINE: usize = 64 << 10;

/// Gathers the chunks of each port into whole lines, so that the output of several steps can be
/// shown together without tearing.
#[derive(Debug, Default)]
pub(crate) struct Lines(BTreeMap<String, Vec<u8>>);

impl Lines {
    /// Takes a chunk; answers the lines that are whole now, with their ends.
    pub fn push(&mut self, port: &str, data: &[u8]) -> Option<String> {
        if !self.0.contains_key(port) {
            self.0.insert(port.to_owned(), Vec::new());
        }
        let held = self.0.get_mut(port)?;
        held.extend_from_slice(data);
        let whole = match held.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if held.len() >= LONGEST_LINE => whole_characters(held),
            None => return None,
        };
        let rest = held.split_off(whole);
        Some(text(&std::mem::replace(held, rest)))
    }

    /// What is left at the end, by port.
    pub fn finish(&mut self) -> impl Iterator<Item = (String, String)> {
        let held = std::mem::take(&mut self.0);
        held.into_iter()
            .filter(|(_, rest)| !rest.is_empty())
            .map(|(port, rest)| (port, text(&rest)))
    }
}

/// The length of `bytes` without a character that has only begun at their end.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_were_cut() {
        let mut lines = Lines::default();
        assert_eq!(lines.push("stdout", b"one\ntw"), Some("one\n".into()));
        assert_eq!(lines.push("stderr", b"oops\n"), Some("oops\n".into()));
        assert_eq!(lines.push("stdout", b"o"), None);
        assert_eq!(
            lines.push("stdout", b"\nthree\nfo"),
            Some("two\nthree\n".into())
        );
        let rest: Vec<_> = lines.finish().collect();
        assert_eq!(rest, [("stdout".to_owned(), "fo".to_owned())]);
    }

    #[test]
    fn a_line_without_end_is_handed_on_between_characters() {
        let mut lines = Lines::default();
        let mut long = "é".repeat(LONGEST_LINE / 2).into_bytes();
        long.push(0xc3);
        let told = lines.push("stdout", &long).unwrap();
        assert!(told.chars().all(|c| c == 'é'));
        assert_eq!(lines.push("stdout", &[0xa9, b'\n']), Some("é\n".into()));
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(
            Lines::default().push("stdout", b"\xff\n"),
            Some("\u{fffd}\n".into())
        );
    }
}
