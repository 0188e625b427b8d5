//! Stop strings over text that comes in pieces.
//!
//! A generation ends where one of its stop strings is complete; of several, the one that is complete
//! first, and of those the longest. Neither it nor anything after it is handed out. What must stay
//! true: how the text was cut into pieces, even within a character, makes no difference to what is
//! handed out in all; and no more is held back than may still become a stop string or a character.

use std::mem;

/// Watches text for stop strings.
#[derive(Debug, Clone)]
pub struct StopStrings {
    stops: Vec<Vec<u8>>,
    /// What was not handed out yet.
    held: Vec<u8>,
    stopped: Option<usize>,
}

impl StopStrings {
    /// Watches for any of `stops`; empty ones are never found.
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            stops: stops
                .into_iter()
                .map(|stop| stop.into().into_bytes())
                .collect(),
            held: Vec::new(),
            stopped: None,
        }
    }

    /// Takes the next piece and answers the text that is certain now. Bytes that are no UTF-8 come
    /// out as U+FFFD. After a stop string, nothing comes any more.
    pub fn push(&mut self, piece: impl AsRef<[u8]>) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        let looked_at = self.held.len();
        self.held.extend_from_slice(piece.as_ref());
        if let Some((stop, start)) = self.first_stop(looked_at) {
            self.stopped = Some(stop);
            self.held.truncate(start);
            return text(mem::take(&mut self.held));
        }
        let certain = self.held.len() - self.uncertain();
        let rest = self.held.split_off(certain);
        text(mem::replace(&mut self.held, rest))
    }

    /// What was held back, when no more comes.
    pub fn finish(&mut self) -> String {
        text(mem::take(&mut self.held))
    }

    /// The number of the stop string that was found.
    pub fn stopped(&self) -> Option<usize> {
        self.stopped
    }

    /// The stop string that is complete first, and where it begins. None is complete within the
    /// first `looked_at` bytes.
    fn first_stop(&self, looked_at: usize) -> Option<(usize, usize)> {
        (looked_at + 1..=self.held.len()).find_map(|end| {
            let head = &self.held[..end];
            let complete = (0..).zip(&self.stops);
            complete
                .filter(|(_, stop)| !stop.is_empty() && head.ends_with(stop))
                .max_by_key(|(at, stop)| (stop.len(), usize::MAX - at))
                .map(|(at, stop)| (at, end - stop.len()))
        })
    }

    /// How many bytes at the end may still become a stop string, or part of a character.
    fn uncertain(&self) -> usize {
        let partial = self.stops.iter().map(|stop| {
            let longest = self.held.len().min(stop.len().saturating_sub(1));
            (1..=longest)
                .rev()
                .find(|length| self.held.ends_with(&stop[..*length]))
                .unwrap_or(0)
        });
        let held = partial.max().unwrap_or(0);
        let certain = &self.held[..self.held.len() - held];
        held + unfinished_character(certain)
    }
}

/// Bytes at the end that begin a character and do not end it.
fn unfinished_character(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(4);
    // Continuation bytes are no place to begin at.
    let start = (tail..bytes.len()).find(|at| bytes[*at] & 0xc0 != 0x80);
    let Some(start) = start else { return 0 };
    let mut at = start;
    loop {
        match str::from_utf8(&bytes[at..]) {
            Ok(_) => return 0,
            Err(error) => match error.error_len() {
                Some(length) => at += error.valid_up_to() + length,
                None => return bytes.len() - at - error.valid_up_to(),
            },
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&[u8]]) -> (String, Option<usize>) {
        let mut watch = StopStrings::new(stops.iter().copied());
        let mut all = String::new();
        for piece in pieces {
            all += &watch.push(piece);
        }
        all += &watch.finish();
        (all, watch.stopped())
    }

    #[test]
    fn text_ends_before_a_stop_string_that_came_in_pieces() {
        assert_eq!(
            run(&["\nUser:"], &[b"Hi", b" you\nUs", b"er", b": x", b"more"]),
            ("Hi you".into(), Some(0))
        );
    }

    #[test]
    fn what_only_looked_like_a_stop_string_is_handed_out() {
        let mut watch = StopStrings::new(["END"]);
        assert_eq!(watch.push("an E"), "an ");
        assert_eq!(watch.push("N"), "");
        assert_eq!(watch.push("E"), "EN");
        assert_eq!(watch.push("x"), "Ex");
        assert_eq!(watch.finish(), "");
        assert_eq!(watch.stopped(), None);
    }

    #[test]
    fn what_is_held_back_at_the_end_is_handed_out() {
        let mut watch = StopStrings::new(["END"]);
        assert_eq!(watch.push("EN"), "");
        assert_eq!(watch.finish(), "EN");
    }

    #[test]
    fn the_stop_string_that_is_complete_first_counts() {
        assert_eq!(run(&["abc", "b"], &[b"xabc"]), ("xa".into(), Some(1)));
        assert_eq!(run(&["c", "abc"], &[b"xabc"]), ("x".into(), Some(1)));
    }

    #[test]
    fn without_stop_strings_everything_comes_at_once() {
        let mut watch = StopStrings::new([""]);
        assert_eq!(watch.push("abc"), "abc");
        assert_eq!(run(&[], &[b"a"]), ("a".into(), None));
    }

    #[test]
    fn a_character_that_comes_in_pieces_is_handed_out_whole() {
        let mut watch = StopStrings::new(["x"]);
        let bytes = "é🦀".as_bytes();
        let out: Vec<String> = bytes.iter().map(|byte| watch.push([*byte])).collect();
        assert_eq!(out, ["", "é", "", "", "", "🦀"]);
    }

    #[test]
    fn bytes_that_are_no_characters_are_replaced() {
        assert_eq!(
            run(&["x"], &[b"a\xff", b"b\xe2\x82"]).0,
            "a\u{fffd}b\u{fffd}"
        );
    }

    proptest! {
        #[test]
        fn how_the_text_was_cut_makes_no_difference(
            text in "[abé🦀]{0,30}",
            stops in proptest::collection::vec("[abé]{1,4}", 0..4),
            cuts in proptest::collection::vec(0_usize..100, 0..8),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let whole = run(&stops, &[bytes]);
            prop_assert_eq!(run(&stops, &pieces), whole.clone());
            prop_assert!(text.starts_with(&whole.0));
            for stop in stops {
                prop_assert!(!whole.0.contains(stop));
            }
        }
    }
}
