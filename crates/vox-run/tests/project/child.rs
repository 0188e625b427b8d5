//! A test's own process once more, in another part.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PART: &str = "VOX_RUN_CHILD";
const DIRECTORY: &str = "VOX_RUN_DIR";

/// The part that this process was started for, with its directory.
pub fn part() -> Option<(String, PathBuf)> {
    Some((
        std::env::var(PART).ok()?,
        std::env::var_os(DIRECTORY)?.into(),
    ))
}

/// This test binary, to run its test `child` in this part.
pub fn command(part: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Says something to the process that started this one.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "said {line}")
        .and_then(|()| out.flush())
        .unwrap();
}

/// What a process says, line by line, until it ends.
pub fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| Some(line.split_once("said ")?.1.to_owned()))
}
