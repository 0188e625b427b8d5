//! What a step of the tests does with files: it tells by them what it has done, and makes outputs.
//!
//! Files are reached as native code reaches them. The component reaches none, and answers an error.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use vox_plugin::step::Invocation;
use vox_plugin::{Attribute, Error, Result, attribute, failed, host};

/// Appends a line to a file of the run's directory, in one write, so that whoever kills the process
/// finds all of it or nothing. `{step}`, `{attempt}` and `{key}` in it stand for what the step is
/// told of itself.
pub fn note(invocation: &Invocation, file: &str, line: &str) -> Result<()> {
    let path = Path::new(&invocation.directory).join(file);
    let line = line
        .replace("{step}", &invocation.step)
        .replace("{attempt}", &invocation.attempt.to_string())
        .replace("{key}", &invocation.idempotency_key);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
        .map_err(|error| failed(format!("{}: {error}", path.display())))
}

/// Waits until a file of the run's directory is there.
pub fn wait(invocation: &Invocation, file: &str) -> Result<()> {
    let path = Path::new(&invocation.directory).join(file);
    while !path.exists() {
        if host::cancel::should_cancel() {
            return Err(Error::Cancelled);
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Makes an output, or a member of one that is a directory.
pub fn make(
    invocation: &Invocation,
    output: &str,
    member: Option<&str>,
    text: &str,
    executable: bool,
) -> Result<()> {
    let mut path = place(invocation, output)?;
    if let Some(member) = member {
        path.push(member);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent)
            .map_err(|error| failed(format!("{}: {error}", parent.display())))?;
    }
    write(&path, text.as_bytes())?;
    if executable {
        allow_to_execute(&path)?;
    }
    Ok(())
}

/// Makes an output of all files that the step is given, one after the other.
pub fn join(invocation: &Invocation, output: &str) -> Result<()> {
    let mut all = Vec::new();
    for given in &invocation.input_files {
        let read = fs::read(&given.path);
        all.extend(read.map_err(|error| failed(format!("{}: {error}", given.path)))?);
    }
    write(&place(invocation, output)?, &all)
}

/// The files that the step is given, each by the name of its input, with its path below the run's
/// directory.
pub fn given(invocation: &Invocation) -> Vec<Attribute> {
    let files = invocation.input_files.iter();
    files
        .map(|given| {
            let path = Path::new(&given.path);
            let below = path.strip_prefix(&invocation.directory).unwrap_or(path);
            attribute(&given.name, below.display().to_string())
        })
        .collect()
}

fn place(invocation: &Invocation, output: &str) -> Result<PathBuf> {
    let mut outputs = invocation.output_files.iter();
    outputs
        .find(|made| made.name == output)
        .map(|made| PathBuf::from(&made.path))
        .ok_or_else(|| Error::NotFound(format!("output `{output}`")))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|error| failed(format!("{}: {error}", path.display())))
}

#[cfg(unix)]
fn allow_to_execute(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed)
}

#[cfg(not(unix))]
fn allow_to_execute(_: &Path) -> Result<()> {
    Ok(())
}
