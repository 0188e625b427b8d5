//! The built `vox` with plugins that were built: what a user types, and what comes of it.
//!
//! Each test has data and a home of its own. The cache of compiled components is shared, as it is
//! by all that one user runs.

#[cfg(unix)]
mod accounts;
#[cfg(unix)]
mod answers;
#[cfg(unix)]
mod backends;
mod commands;
#[cfg(unix)]
mod containers;
#[cfg(unix)]
mod failures;
#[cfg(target_os = "linux")]
mod faults;
mod fetching;
#[cfg(unix)]
mod keeping;
#[cfg(unix)]
mod names;
#[cfg(unix)]
mod offering;
#[cfg(unix)]
mod output;
mod own_backend;
#[cfg(unix)]
mod runs;
#[cfg(unix)]
mod runs_elsewhere;
#[cfg(unix)]
mod serving;
#[cfg(unix)]
#[path = "../../../../tests/skipped.rs"]
mod skipped;
#[cfg(target_os = "linux")]
mod terminal;
#[cfg(unix)]
mod training;
#[cfg(unix)]
mod watch;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use vox_testkit::World;

/// A user with no plugins, and no terminal.
struct Place(World);

/// How a command ended, and what it said.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self(World::new())
    }

    /// A user who installed these plugins, trusts them and granted all that they ask for.
    fn with(plugins: &[&str]) -> Self {
        let place = Self::new();
        for id in plugins {
            let plugin = vox_testkit::plugin(id);
            place
                .run([
                    "plugin",
                    "install",
                    path(&plugin),
                    "--grant",
                    "all",
                    "--allow-native",
                ])
                .succeeded();
        }
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn data(&self) -> &Path {
        &self.0.directories().data
    }

    fn vox(&self) -> Command {
        let mut command = self.program(Path::new(env!("CARGO_BIN_EXE_vox")));
        command
            .env("VOX_DATA", self.data())
            .env("VOX_CACHE", &self.0.directories().cache);
        command
    }

    /// A program that knows where home is, where programs are, and nothing else.
    fn program(&self, executable: &Path) -> Command {
        let mut command = Command::new(executable);
        command
            .env_clear()
            .env("HOME", self.path())
            .stdin(Stdio::null())
            .current_dir(self.path());
        if let Some(programs) = std::env::var_os("PATH") {
            command.env("PATH", programs);
        }
        command
    }

    fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
        Ended::of(self.vox().args(arguments))
    }

    /// What a command answers to programs, whatever its code.
    fn json(&self, arguments: &[&str]) -> Value {
        self.run(arguments.iter().chain(&["--format", "json"]))
            .json()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Ended {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Ended with a code and said all of `words` on standard error.
    #[track_caller]
    fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word}: {}", self.stderr);
        }
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }
}

/// A path as a word of a command line.
fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
