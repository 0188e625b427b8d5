//! A test's own process once more, in another part.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PART: &str = "VOX_OPLOG_CHILD";
const DIR: &str = "VOX_OPLOG_DIR";

/// The part that this process was started for, with its directory.
pub fn part() -> Option<(String, std::path::PathBuf)> {
    Some((std::env::var(PART).ok()?, std::env::var_os(DIR)?.into()))
}

/// This test binary, to run its test `child` in this part.
pub fn command(part: &str, dir: &Path) -> Command {
    set(Command::new(std::env::current_exe().unwrap()), part, dir)
}

/// The same, started by a shell whose script ends in running `"$@"`.
pub fn in_shell(script: &str, part: &str, dir: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(std::env::current_exe().unwrap());
    set(shell, part, dir)
}

fn set(mut command: Command, part: &str, dir: &Path) -> Command {
    command
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .env(DIR, dir)
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

/// What a process says, line by line.
pub fn said(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| Some(line.split_once("said ")?.1.to_owned()))
}
