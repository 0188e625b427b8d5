//! Streams of events, as servers send them (HTML Living Standard, section 9.2, "Server-sent events").

use crate::line::{Ends, Lines, TooLong};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty where the server names none.
    pub kind: String,
    /// Its lines of data, with LF between them.
    pub data: String,
}

/// Makes events of bytes.
#[derive(Debug)]
pub struct Events {
    lines: Lines,
    kind: String,
    data: Option<String>,
    /// Nothing was read yet: a byte order mark may come.
    at_start: bool,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            lines: Lines::new(Ends::LfOrCr),
            kind: String::new(),
            data: None,
            at_start: true,
        }
    }
}

impl Events {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`TooLong`], as [`Lines::push`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.lines.push(bytes)
    }

    /// The next whole event. Comments, and events without data, are none.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(line) = self.lines.next_line() {
            if let Some(event) = self.take(&line) {
                return Some(event);
            }
        }
        None
    }

    /// The last event of a stream that ended without the blank line after it. The standard drops it;
    /// servers that forget the line meant it.
    pub fn last_event(&mut self) -> Option<Event> {
        let rest = self.lines.rest();
        rest.and_then(|line| self.take(&line))
            .or_else(|| self.take(""))
    }

    fn take(&mut self, line: &str) -> Option<Event> {
        let line = match std::mem::take(&mut self.at_start) {
            true => line.strip_prefix('\u{feff}').unwrap_or(line),
            false => line,
        };
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            return self.data.take().map(|data| Event { kind, data });
        }
        // A comment has an empty name.
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.kind),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                none => *none = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str, piece: usize) -> Vec<(String, String)> {
        let mut events = Events::default();
        let mut all = Vec::new();
        for bytes in text.as_bytes().chunks(piece) {
            events.push(bytes).unwrap();
            while let Some(event) = events.next_event() {
                all.push(event);
            }
        }
        all.extend(events.last_event());
        all.into_iter()
            .map(|event| (event.kind, event.data))
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(kind, data)| ((*kind).to_owned(), (*data).to_owned()))
            .collect()
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_cut_and_its_lines_end() {
        let text = "\u{feff}: hello\n\ndata: {\"a\":\"\u{1f980}\"}\n\nevent: error\nid: 7\ndata:x\ndata: y\n\n\
                    retry: 5\n\ndata: [DONE]\n\n";
        let expected = pairs(&[
            ("", "{\"a\":\"\u{1f980}\"}"),
            ("error", "x\ny"),
            ("", "[DONE]"),
        ]);
        for ends in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', ends);
            for piece in 1..=text.len() {
                assert_eq!(events(&text, piece), expected, "{ends:?} {piece}");
            }
        }
    }

    #[test]
    fn the_last_event_counts_without_the_line_after_it() {
        assert_eq!(
            events("data: a\n\ndata: b", 3),
            pairs(&[("", "a"), ("", "b")])
        );
        assert_eq!(
            events("data: a\n\ndata: b\n", 3),
            pairs(&[("", "a"), ("", "b")])
        );
        assert_eq!(events("data: a\n\n: bye", 3), pairs(&[("", "a")]));
    }
}
