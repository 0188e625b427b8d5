//! `vox` in a sandbox, and what it prints.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::workspace::entries;

/// The program of a folder, with data and cache of its own.
pub struct Vox {
    folder: PathBuf,
    sandbox: PathBuf,
    libraries: OsString,
}

impl Vox {
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        let sandbox = folder.join("sandbox");
        fs::create_dir_all(&sandbox)
            .with_context(|| format!("cannot create {}", sandbox.display()))?;
        Ok(Self {
            libraries: library_path(folder)?,
            folder: folder.to_owned(),
            sandbox,
        })
    }

    /// `vox`, to which arguments are added.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.folder.join("vox"));
        command
            .current_dir(&self.folder)
            .env("VOX_DATA", self.sandbox.join("data"))
            .env("VOX_CACHE", self.sandbox.join("cache"))
            .env("LD_LIBRARY_PATH", &self.libraries)
            .env_remove("VOX_PLUGIN_PATH");
        command
    }

    /// Takes the sandbox away.
    pub fn remove(self) -> anyhow::Result<()> {
        fs::remove_dir_all(&self.sandbox)
            .with_context(|| format!("cannot remove {}", self.sandbox.display()))
    }
}

/// Where CUDA's libraries are looked for: in the folder, and else in those of Python packages, where the dynamic
/// linker does not look by itself; then where it was to look already.
fn library_path(folder: &Path) -> anyhow::Result<OsString> {
    let mut directories = Vec::new();
    let own = folder.join("lib");
    if own.is_dir() {
        directories.push(own);
    } else if let Some(packages) = python_packages() {
        for vendor in entries(&packages.join("nvidia"))? {
            directories.push(vendor.join("lib"));
        }
        directories.retain(|directory| directory.is_dir());
    }
    let others = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let others = env::split_paths(&others).filter(|path| !path.as_os_str().is_empty());
    Ok(env::join_paths(directories.into_iter().chain(others))?)
}

/// Where the packages of this machine's Python are.
fn python_packages() -> Option<PathBuf> {
    let place = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let output = Command::new("python3").args(["-c", place]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().into())
}

/// Runs a command until a moment at most, and answers what it prints; what it prints to standard error is part of
/// the error.
pub fn output_until(command: &mut Command, end: Instant) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{:?} cannot be started", command.get_program()))?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("a program has no output");
    };
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        let (done, text) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            let _ = done.send(String::from_utf8_lossy(&bytes).into_owned());
        });
        text
    };
    let (out, err) = (read(Box::new(out)), read(Box::new(err)));
    let left = end.saturating_duration_since(Instant::now());
    let Ok(printed) = out.recv_timeout(left) else {
        child.kill()?;
        child.wait()?;
        bail!("the time is over");
    };
    let status = child.wait()?;
    let said = err.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    if !status.success() {
        let tail: Vec<&str> = said.lines().rev().take(12).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("it ended with {status}: {}", tail.join("\n"));
    }
    Ok(printed)
}

/// A token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub number: u64,
    pub log_probability: f64,
    /// How much more probable it is than the next best, as the difference of logarithms.
    pub lead: f64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub tokens: Vec<Token>,
    pub tokens_per_second: f64,
    pub seconds_to_first: f64,
    pub backend: String,
    pub device: String,
}

/// Reads what `vox generate --format json --logprobs 2` prints.
pub fn answer(printed: &str) -> anyhow::Result<Answer> {
    let value: Value = serde_json::from_str(printed).context("an answer is no JSON")?;
    let number = |value: &Value, key: &str| {
        let number = value[key].as_f64();
        number.with_context(|| format!("an answer has no `{key}`"))
    };
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut tokens = Vec::new();
    for token in value["tokens"].as_array().into_iter().flatten() {
        // Text that a token of before held back has no token of its own.
        let Some(id) = token["token"].as_u64() else {
            continue;
        };
        let own = number(token, "log_probability")?;
        let others = token["alternatives"].as_array().into_iter().flatten();
        let others = others.filter(|other| other["token"].as_u64() != Some(id));
        let best = others.filter_map(|other| other["log_probability"].as_f64());
        let best = best.fold(f64::NEG_INFINITY, f64::max);
        tokens.push(Token {
            number: id,
            log_probability: own,
            lead: own - best,
        });
    }
    Ok(Answer {
        tokens,
        tokens_per_second: number(&value, "tokens_per_second")?,
        seconds_to_first: number(&value, "seconds_to_first_token")?,
        backend: text("backend"),
        device: text("device"),
    })
}

/// A step of a training, as `loss.csv` has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub step: u64,
    pub loss: f64,
    pub tokens_per_second: f64,
}

/// Reads the table of a loss curve.
pub fn curve(table: &str) -> anyhow::Result<Vec<Step>> {
    let mut lines = table.lines();
    let heading: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| {
        let found = heading.iter().position(|column| *column == name);
        found.with_context(|| format!("a loss curve has no column `{name}`"))
    };
    let (step, loss, speed) = (
        column("step")?,
        column("loss")?,
        column("tokens_per_second")?,
    );
    let mut steps = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
        // Evaluations between steps have no loss of a batch.
        if let Ok(loss) = cell(loss).parse() {
            steps.push(Step {
                step: cell(step).parse().context("a step is no number")?,
                loss,
                tokens_per_second: cell(speed).parse().unwrap_or_default(),
            });
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_its_tokens_with_their_lead_over_the_next_best() {
        let printed = r#"{"text": "\n", "finish": "Length", "tokens_per_second": 34.5,
            "seconds_to_first_token": 0.25, "backend": "candle-cpu", "device": "cpu", "tokens": [
            {"token": 199, "text": "\n", "log_probability": -2.5, "alternatives": [
                {"token": 199, "text": "\n", "log_probability": -2.5},
                {"token": 12, "text": ",", "log_probability": -3.0}]},
            {"token": null, "text": "x", "log_probability": 0.0, "alternatives": []}]}"#;
        let answer = answer(printed).unwrap();
        let wanted = Token {
            number: 199,
            log_probability: -2.5,
            lead: 0.5,
        };
        assert_eq!(answer.tokens, [wanted]);
        assert_eq!(
            (answer.tokens_per_second, answer.seconds_to_first),
            (34.5, 0.25)
        );
    }

    #[test]
    fn a_loss_curve_is_read_by_the_names_of_its_columns() {
        let table = "step,tokens,learning_rate,loss,eval_loss,grad_norm,tokens_per_second\n\
            1,1024,0.0003,6.5,,2.4,2037.5\n1,1024,,,6.25,,\n2,2048,0.0006,6.25,,2.5,2230\n";
        let steps = curve(table).unwrap();
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[1].step, steps[1].loss), (2, 6.25));
        assert_eq!(steps[0].tokens_per_second, 2037.5);
        assert!(curve("step,loss\n").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn what_hangs_is_ended_when_the_time_is_over() {
        let end = Instant::now() + Duration::from_millis(50);
        let error = output_until(Command::new("sleep").arg("60"), end).unwrap_err();
        assert_eq!(error.to_string(), "the time is over");
        let end = Instant::now() + Duration::from_secs(60);
        let mut failing = Command::new("sh");
        let error = output_until(failing.args(["-c", "echo why >&2; exit 3"]), end).unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }
}
