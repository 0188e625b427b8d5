//! The checkout that is worked on: its directories, its members, and the programs run in it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use cargo_metadata::{Metadata, MetadataCommand};

/// How long more is waited for of what a program that has ended said.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A checkout of Vox.
pub struct Workspace {
    /// Its root.
    pub root: PathBuf,
    /// Where cargo puts what it makes.
    pub target: PathBuf,
    /// Its members, without what they depend on from elsewhere.
    pub metadata: Metadata,
}

impl Workspace {
    /// Opens the checkout that cargo runs this program in, or else that it was built in.
    ///
    /// The two differ where several checkouts share a build directory: cargo takes a program that is fresh from
    /// there, whichever of them it was built in.
    pub fn open() -> anyhow::Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .parent()
            .context("xtask stands in no directory")?
            .to_owned();
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("cargo cannot read the workspace")?;
        Ok(Self {
            target: metadata.target_directory.clone().into(),
            root,
            metadata,
        })
    }

    /// The version that all crates of the workspace share.
    pub fn version(&self) -> anyhow::Result<semver::Version> {
        let own = self
            .metadata
            .packages
            .iter()
            .find(|package| *package.name == "xtask");
        Ok(own.context("the workspace has no xtask")?.version.clone())
    }

    /// Cargo in the root, as if it were called from a shell.
    ///
    /// What cargo tells this program of its own package is taken away: build scripts of dependencies read
    /// variables of the same names, and would run again whenever a command comes from another side.
    pub fn cargo<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(&self.root).args(arguments);
        for (name, _) in env::vars_os() {
            let is_told = name.to_str().is_some_and(|name| {
                name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
            });
            if is_told {
                command.env_remove(name);
            }
        }
        command
    }

    /// A path as it is called from the root; for messages.
    pub fn name<'p>(&self, path: &'p Path) -> std::path::Display<'p> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    /// Builds a program of the workspace for development, or for release; answers its executable.
    ///
    /// The whole workspace is selected, of which cargo then builds that program alone: the
    /// features of what it depends on are so the same in every command, and wasmtime is compiled
    /// once.
    pub fn build_program(&self, name: &str, release: bool) -> anyhow::Result<PathBuf> {
        let mut command = self.cargo(["build", "--workspace", "--bin", name]);
        if release {
            command.arg("--release");
        }
        run(&mut command)?;
        let profile = if release { "release" } else { "debug" };
        let file = format!("{name}{}", env::consts::EXE_SUFFIX);
        Ok(self.target.join(profile).join(file))
    }
}

/// Runs a program to its end, with its output shown; anything but success is an error that says
/// what was run.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = command_line(command);
    let status = command
        .status()
        .with_context(|| format!("`{line}` cannot be started"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// As [`run`], but for so long at most: then everything that was started with it is ended, and this
/// process too, so that what hangs is a failure with a name and not a machine that waits. What is said on
/// standard error is answered besides, line by line.
pub fn run_within(limit: Duration, command: &mut Command) -> (anyhow::Result<()>, Vec<String>) {
    let line = command_line(command);
    let (over, ends) = mpsc::channel::<()>();
    thread::spawn(move || {
        if ends.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            let minutes = limit.as_secs() / 60;
            eprintln!(
                "error: `{line}` is not over after {minutes} minutes; what it printed last hangs"
            );
            end_all();
        }
    });
    let mut said = Vec::new();
    let result = run_heard(command, &mut said);
    drop(over);
    (result, said)
}

/// As [`run`]; `said` gets what is said on standard error, line by line.
fn run_heard(command: &mut Command, said: &mut Vec<String>) -> anyhow::Result<()> {
    let line = command_line(command);
    let started = command.stderr(Stdio::piped()).spawn();
    let mut child = started.with_context(|| format!("`{line}` cannot be started"))?;
    let (hear, heard) = mpsc::channel();
    if let Some(stderr) = child.stderr.take() {
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                eprintln!("{line}");
                if hear.send(line).is_err() {
                    return;
                }
            }
        });
    }
    let status = child.wait();
    // It ends with the pipe, which something that was left behind may hold open.
    while let Ok(line) = heard.recv_timeout(LAST_WORDS) {
        said.push(line);
    }
    let status = status.with_context(|| format!("`{line}` cannot be waited for"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Ends this process and those that it started, which are of its process group.
fn end_all() -> ! {
    #[cfg(unix)]
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TERM);
    std::process::exit(1)
}

/// Runs a program and answers what it prints.
pub fn output_of(command: &mut Command) -> anyhow::Result<String> {
    let line = command_line(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{line}` cannot be started"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed no text"))
}

/// A command as a user would type it.
fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The text of a file.
pub fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file, with the directories above it.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create {}", parent.display()))?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// What is in a directory, sorted; nothing when there is no such directory.
pub fn entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut entries: Vec<PathBuf> =
        entries.with_context(|| format!("cannot read {}", directory.display()))?;
    entries.sort();
    Ok(entries)
}

/// An error with its causes, but those whose message the one before has taken up already.
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !last.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text.push_str(separator);
            text.push_str(&cause);
        }
        last = cause;
    }
    text
}

/// Says what happens next.
pub fn announce(what: impl std::fmt::Display) {
    eprintln!("==> {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_the_message_has_taken_up_is_not_said_twice() {
        let error = anyhow::anyhow!("no such file")
            .context("a.toml: no such file")
            .context("plugin a");
        assert_eq!(explain(&error), "plugin a: a.toml: no such file");
    }
}
