//! Which tests were skipped, and why: read from what a run of `cargo test` says on standard error.
//!
//! A test that cannot be run here says so in a line of its own, by `tests/skipped.rs`. Which program the test is of,
//! cargo has said before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// What the line of a test that is skipped begins with.
const MARK: &str = "skipped: ";

/// Tests with the programs that they are of, by the reason why they were skipped.
#[derive(Debug, Default)]
pub struct Skips(BTreeMap<String, BTreeSet<String>>);

impl Skips {
    /// Reads them from the lines that were said.
    pub fn of(lines: &[String]) -> Self {
        let mut skips = Self::default();
        let mut program = "";
        for line in lines {
            let skipped = line.strip_prefix(MARK);
            if let Some((test, why)) = skipped.and_then(|rest| rest.split_once(": ")) {
                let tests = skips.0.entry(why.to_owned()).or_default();
                tests.insert(format!("{program} {test}"));
            } else if let Some(running) = running(line) {
                program = running;
            }
        }
        skips
    }
}

/// The program of a line such as `     Running tests/runs.rs (target/debug/deps/runs-0123456789abcdef)`.
fn running(line: &str) -> Option<&str> {
    let (source, path) = line.strip_suffix(')')?.rsplit_once('(')?;
    if !source.contains("Running") {
        return None;
    }
    let file = Path::new(path).file_stem()?.to_str()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _)| name))
}

impl fmt::Display for Skips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.values().map(BTreeSet::len).sum::<usize>() {
            0 => write!(f, "No test was skipped")?,
            1 => write!(f, "1 test was skipped")?,
            count => write!(f, "{count} tests were skipped")?,
        }
        for (why, tests) in &self.0 {
            write!(f, "\n  {why}")?;
            for test in tests {
                write!(f, "\n    {test}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> String {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        Skips::of(&lines).to_string()
    }

    #[test]
    fn tests_are_told_once_by_their_reason_with_the_program_that_they_are_of() {
        let lines = [
            "     Running unittests src/lib.rs (target/debug/deps/container-0123456789abcdef)",
            "skipped: tests::pulling::a: no Podman can be had here: it takes root, on Linux",
            "skipped: tests::b: no Podman can be had here: it takes root, on Linux",
            "skipped: tests::b: no Podman can be had here: it takes root, on Linux",
            "     Running tests/real_plugins/main.rs (target/debug/deps/real_plugins-0123456789abcdef)",
            "skipped: faults::c: this system does not let this user mount (unshare -rm)",
            "thread 'd' panicked",
        ];
        let expected = "3 tests were skipped\n  \
                        no Podman can be had here: it takes root, on Linux\n    \
                        container tests::b\n    container tests::pulling::a\n  \
                        this system does not let this user mount (unshare -rm)\n    \
                        real_plugins faults::c";
        assert_eq!(told(&lines), expected);
    }

    #[test]
    fn where_all_were_run_that_is_told() {
        assert_eq!(told(&["test result: ok"]), "No test was skipped");
    }
}
