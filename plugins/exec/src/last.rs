//! The last lines that a program wrote, for the message that tells of its failure.

/// Lines that are kept.
const LINES: usize = 20;
/// Bytes of a line that are kept.
const LINE: usize = 512;
/// Bytes in which the last lines are looked for.
const WINDOW: usize = LINES * LINE;

/// The end of a stream. It is copied and no more until the lines are asked for.
#[derive(Debug, Default)]
pub struct LastLines {
    /// At most twice the window.
    end: Vec<u8>,
    /// Something was dropped before that.
    cut: bool,
}

impl LastLines {
    /// Takes what the program wrote.
    pub fn take(&mut self, bytes: &[u8]) {
        let news = &bytes[bytes.len().saturating_sub(WINDOW)..];
        if self.end.len() + news.len() > 2 * WINDOW {
            self.cut = true;
            let kept = WINDOW.min(self.end.len()).min(2 * WINDOW - news.len());
            self.end.drain(..self.end.len() - kept);
        }
        self.cut |= news.len() < bytes.len();
        if news.len() < bytes.len() {
            self.end.clear();
        }
        self.end.extend_from_slice(news);
    }

    /// The lines that are not empty, the last one also without its end.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<&[u8]> = self.end.split(|byte| *byte == b'\n').collect();
        if self.cut && lines.len() > 1 {
            // Its beginning is not known.
            lines.remove(0);
        }
        let mut lines: Vec<String> = lines
            .iter()
            .rev()
            .map(|line| {
                String::from_utf8_lossy(&line[..line.len().min(LINE)])
                    .trim_end()
                    .to_owned()
            })
            .filter(|line| !line.is_empty())
            .take(LINES)
            .collect();
        lines.reverse();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_last_twenty_lines() {
        let mut last = LastLines::default();
        for number in 0..30 {
            last.take(format!("line {number}\r\n\n").as_bytes());
        }
        last.take(&b"y".repeat(2 * LINE));
        let lines = last.lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[0], "line 11");
        assert_eq!(lines[19], "y".repeat(LINE));
    }

    #[test]
    fn however_much_was_written_the_end_of_it_is_known() {
        let text: String = (0..100_000)
            .map(|number| format!("line {number}\n"))
            .collect();
        for piece in [1, 7, 1000, WINDOW, 3 * WINDOW, text.len()] {
            let mut last = LastLines::default();
            text.as_bytes()
                .chunks(piece)
                .for_each(|bytes| last.take(bytes));
            let lines = last.lines();
            assert_eq!(lines.len(), LINES, "in pieces of {piece}");
            assert_eq!(
                (lines[0].as_str(), lines[19].as_str()),
                ("line 99980", "line 99999")
            );
            assert!(last.end.len() <= 2 * WINDOW);
        }
    }
}
