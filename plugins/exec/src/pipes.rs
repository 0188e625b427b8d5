//! The child's three streams, each on a thread of its own.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};

use vox_plugin::{ChunkHead, Error, host, text_chunk};

/// Port that the child reads.
pub const STDIN: &str = "stdin";
/// Port of the child's output.
pub const STDOUT: &str = "stdout";
/// Port of the child's messages.
pub const STDERR: &str = "stderr";

/// Most bytes of a chunk.
const CHUNK: usize = 64 * 1024;
/// Lines of `stderr` that explain a failure.
const LAST_LINES: usize = 20;
/// Longest of these lines that is kept, in bytes.
const LONGEST_LINE: usize = 400;
/// How often a writer that waits for input looks whether the child is gone, in milliseconds.
const LOOK_UP_MS: u32 = 50;

/// Writes port `stdin` to the child until the stream, or the child, ends.
pub fn write_input(mut stdin: ChildStdin, child_is_gone: &AtomicBool) {
    while !child_is_gone.load(Ordering::Acquire) {
        match host::stream::pull(STDIN, Some(LOOK_UP_MS)) {
            Ok(Some(chunk)) => {
                // A child that reads no further is no error: `head` does so.
                if stdin.write_all(&chunk.data).is_err() {
                    return;
                }
            }
            Err(Error::TimedOut(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// Hands the child's output on until it ends, or nobody takes it; answers its last lines.
pub fn read_output(mut pipe: impl Read, port: &str) -> LastLines {
    let mut last = LastLines::default();
    let mut buffer = vec![0; CHUNK];
    let mut filled = 0;
    let mut sequence = 0;
    loop {
        let read = match pipe.read(&mut buffer[filled..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        filled += read;
        // Whole lines go on at once; a line that is longer than a chunk goes on in pieces.
        let ready = match buffer[..filled].iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if read == 0 || filled == CHUNK => filled,
            None => 0,
        };
        let ready = if read == 0 { filled } else { ready };
        if ready > 0 {
            last.add(&buffer[..ready]);
            let head: ChunkHead = text_chunk(sequence);
            match host::stream::push(port, &head, &buffer[..ready], None) {
                // Nothing is connected: the output is read all the same, so that the child can go on.
                Ok(()) | Err(Error::NotFound(_)) => sequence += 1,
                // The readers have left, or the run was cancelled: closing the pipe tells the child.
                Err(_) => return last,
            }
            buffer.copy_within(ready..filled, 0);
            filled -= ready;
        }
        if read == 0 {
            return last;
        }
    }
}

/// The end of an output.
#[derive(Debug, Default)]
pub struct LastLines {
    lines: VecDeque<String>,
    /// The last line has not ended yet.
    open: bool,
}

impl LastLines {
    fn add(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for line in text.split_inclusive('\n') {
            if !self.open {
                if self.lines.len() == LAST_LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(String::new());
            }
            self.open = !line.ends_with('\n');
            if let Some(last) = self.lines.back_mut() {
                let room = LONGEST_LINE.saturating_sub(last.len());
                last.push_str(&line.trim_end()[..line.trim_end().floor_char_boundary(room)]);
            }
        }
    }

    /// The lines, oldest first.
    pub fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_however_they_arrive() {
        let mut last = LastLines::default();
        for number in 0..30 {
            last.add(format!("line {number}").as_bytes());
            last.add(b"!\n");
        }
        last.add("ü".repeat(LONGEST_LINE).as_bytes());
        let text = last.text();
        let lines = text.lines().collect::<Vec<_>>();
        assert_eq!(lines.len(), LAST_LINES);
        assert_eq!((lines[0], lines[18]), ("line 11!", "line 29!"));
        assert_eq!(lines[19].len(), LONGEST_LINE);
    }
}
