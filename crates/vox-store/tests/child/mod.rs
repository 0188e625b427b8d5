//! The test program run once more as another process, with which a test talks through pipes.
//!
//! The other process runs one test, `plays_the_other_process`, which does nothing unless a role is
//! named. It speaks on its standard error, where the harness says nothing, and hears on its input.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

const ROLE: &str = "VOX_STORE_TEST_ROLE";
const ROOT: &str = "VOX_STORE_TEST_ROOT";

/// The role and the directory of the store, in the other process.
pub fn role() -> Option<(String, PathBuf)> {
    let root = std::env::var_os(ROOT)?;
    Some((std::env::var(ROLE).ok()?, root.into()))
}

/// Says a line to the process that started this one.
pub fn say(line: &str) {
    // When nobody listens any more, there is nobody to tell that.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Another process.
pub struct Other {
    process: Child,
    said: BufReader<ChildStderr>,
}

impl Other {
    pub fn start(role: &str, root: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "plays_the_other_process", "--nocapture"])
            .env(ROLE, role)
            .env(ROOT, root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stderr.take().unwrap());
        Self { process, said }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line that it says; `None` when it is gone.
    pub fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// Closes its input, hears it to its end, and returns what it said last and how it ended.
    #[allow(dead_code, reason = "not every test program lets it end by itself")]
    pub fn finish(mut self) -> (Vec<String>, ExitStatus) {
        drop(self.process.stdin.take());
        let lines = std::iter::from_fn(|| self.hear()).collect();
        (lines, self.process.wait().unwrap())
    }

    /// Kills it at once, and returns what it had said and was not heard yet.
    pub fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        let lines = std::iter::from_fn(|| self.hear()).collect();
        self.process.wait().unwrap();
        lines
    }
}
