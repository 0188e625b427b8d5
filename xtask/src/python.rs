//! Python in environments of its own, for what only Python packages have.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{announce, run as run_command};

/// A Python of its own with the pinned packages.
pub fn python(environment: &Path, requirements: &Path) -> anyhow::Result<PathBuf> {
    let own = environment_python(environment)?;
    run_command(
        pip(&own)
            .args(["install", "--quiet", "--requirement"])
            .arg(requirements),
    )?;
    Ok(own)
}

/// A Python of its own, with no packages yet.
pub fn environment_python(environment: &Path) -> anyhow::Result<PathBuf> {
    let own = if cfg!(windows) {
        environment.join("Scripts/python.exe")
    } else {
        environment.join("bin/python")
    };
    if !own.is_file() {
        announce("Making a virtual environment for Python");
        let system = if cfg!(windows) { "python" } else { "python3" };
        run_command(Command::new(system).args(["-m", "venv"]).arg(environment))?;
    }
    Ok(own)
}

/// The installer of packages of a Python.
pub fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "--disable-pip-version-check"]);
    command
}

/// One of the programs in a directory, which leaves nothing beside itself.
pub fn program(python: &Path, programs: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg(programs.join(name))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
