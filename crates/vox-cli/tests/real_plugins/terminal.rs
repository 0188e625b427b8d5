//! `vox run` on a terminal: what stands there in the end, and what is typed at it.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::runs::{Quickstart, wait_for_the_end_of};

/// `vox` on a terminal of its own, which `script` makes, without colours.
pub(crate) struct Terminal {
    script: Child,
    /// Kept until the end: for `script` the end of its input is one of the terminal's.
    keyboard: ChildStdin,
    screen: ChildStdout,
    /// Everything that was written until now.
    written: Vec<u8>,
}

impl Terminal {
    /// Starts `vox` with these words, on a terminal of this kind.
    pub(crate) fn start(quickstart: &Quickstart, kind: &str, words: &str) -> Self {
        let vox = quickstart.vox();
        // In the place of the shell, which Ctrl-C would end before it.
        let line = format!("exec '{}' {words}", env!("CARGO_BIN_EXE_vox"));
        let variables = vox
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let mut script = Command::new("script")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .env_clear()
            .envs(variables)
            .env("TERM", kind)
            .env("NO_COLOR", "1")
            .current_dir(quickstart.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` makes a terminal");
        Self {
            keyboard: script.stdin.take().unwrap(),
            screen: script.stdout.take().unwrap(),
            script,
            written: Vec::new(),
        }
    }

    /// Waits until this was written.
    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) {
        let mut byte = [0];
        while !String::from_utf8_lossy(&self.written).contains(text) {
            let read = self.screen.read(&mut byte).unwrap();
            assert_eq!(
                read,
                1,
                "{text}: {}",
                String::from_utf8_lossy(&self.written)
            );
            self.written.extend(byte);
        }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end: the exit code, and everything that was written.
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        self.screen.read_to_end(&mut self.written).unwrap();
        let ended = self.script.wait().unwrap();
        let written = std::mem::take(&mut self.written);
        (ended.code(), String::from_utf8(written).unwrap())
    }
}

/// A test that fails leaves no run behind.
impl Drop for Terminal {
    fn drop(&mut self) {
        if let Ok(None) = self.script.try_wait() {
            let _ = self.script.kill();
            let _ = self.script.wait();
        }
    }
}

/// What stands on a terminal once this was written, of the sequences that the view of a run has.
fn standing(written: &str) -> String {
    let mut lines = vec![String::new()];
    let mut row = 0;
    let mut rest = written;
    while let Some(letter) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\x1b[") {
            let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap();
            match &sequence[end..=end] {
                "A" => row -= sequence[..end].parse::<usize>().unwrap(),
                // The cursor stands at the beginning of its line.
                "J" => {
                    lines.truncate(row);
                    lines.push(String::new());
                }
                other => panic!("the sequence {other} in {written:?}"),
            }
            rest = &sequence[end + 1..];
            continue;
        }
        match letter {
            '\r' => {}
            '\n' => {
                row += 1;
                if row == lines.len() {
                    lines.push(String::new());
                }
            }
            letter => lines[row].push(letter),
        }
        rest = &rest[letter.len_utf8()..];
    }
    lines.join("\n")
}

/// Writes `pipeline.toml`.
fn write(quickstart: &Quickstart, steps: &str) {
    let pipeline = format!("[pipeline]\nname = \"shown\"\n{steps}");
    quickstart.0.write("pipeline.toml", &pipeline);
}

const CTRL_C: &str = "\x03";

#[test]
fn ctrl_c_is_told_above_the_view_and_the_second_one_says_how_to_go_on() {
    let quickstart = Quickstart::new();
    write(
        &quickstart,
        r#"
        [[step]]
        key = "wait"
        uses = "exec"
        with = { shell = "trap '' INT TERM; echo $$ > process; echo waits; exec sleep 1000", stop = { grace = "5min" } }
        "#,
    );
    let mut terminal = Terminal::start(&quickstart, "xterm", "run pipeline.toml");
    terminal.shows("| waits");
    terminal.types(CTRL_C);
    terminal.shows("interrupted; once more ends it at once");
    terminal.types(CTRL_C);
    let (code, written) = terminal.ends();
    assert_eq!(code, Some(130), "{written:?}");
    let shown = standing(&written);
    let told = "interrupted; once more ends it at once";
    assert_eq!(shown.matches(told).count(), 1, "{shown}");
    assert!(!shown.contains('━'), "the view is taken away: {shown}");
    let listed = quickstart.0.json(&["runs", "ls"]);
    let run = listed[0]["id"].as_str().unwrap();
    let way_on = format!("ended at once; go on with it: vox run --resume {run}");
    assert!(shown.contains(&way_on), "{shown}");
    let step = std::fs::read_to_string(quickstart.0.path().join("process")).unwrap();
    wait_for_the_end_of(step.trim());
}

#[test]
fn a_terminal_that_knows_no_movements_gets_lines() {
    let quickstart = Quickstart::new();
    write(
        &quickstart,
        r#"
        [[step]]
        key = "say"
        uses = "exec"
        with = { command = ["echo", "hello"] }
        "#,
    );
    let (code, written) = Terminal::start(&quickstart, "dumb", "run pipeline.toml").ends();
    assert_eq!(code, Some(0), "{written:?}");
    assert!(!written.contains('\x1b'), "{written:?}");
    assert!(written.contains("\nsay | hello\r\n"), "{written:?}");
}

#[test]
fn what_a_step_printed_stands_on_the_terminal_in_the_end() {
    let quickstart = Quickstart::new();
    write(
        &quickstart,
        r#"
        [[step]]
        key = "greet"
        uses = "exec"
        with = { command = ["echo", "hello, plugins"] }
        [[step]]
        key = "show"
        uses = "exec"
        with = { command = ["cat"] }
        inputs = { stdin = { from = "greet.stdout" } }
        "#,
    );
    let (code, written) = Terminal::start(&quickstart, "xterm", "run pipeline.toml").ends();
    assert_eq!(code, Some(0), "{written:?}");
    let shown = standing(&written);
    assert!(
        shown.contains("\nshow | hello, plugins\n\nSTEP "),
        "{shown}"
    );
    assert!(shown.contains("\nshown succeeded in "), "{shown}");
}
