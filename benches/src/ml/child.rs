//! A program that is told what to do: it answers each line, a JSON object, with one.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::Value;

/// The program; it ends with this value.
pub struct Child {
    name: String,
    process: Process,
    told: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What it answers.
#[derive(Debug, Deserialize)]
pub struct Answer {
    /// How long the work took.
    pub seconds: f64,
    /// Of a step of training, summed over the targets.
    pub loss: Option<f64>,
}

impl Child {
    /// Starts a program; what it complains about is shown.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let told = process.stdin.take();
        let answers = process.stdout.take().context("standard output")?;
        Ok(Self {
            name,
            process,
            told,
            answers: BufReader::new(answers).lines(),
        })
    }

    /// Has it obey a command.
    pub fn tell(&mut self, command: &Value) -> anyhow::Result<Answer> {
        let told = self.told.as_mut().context("standard input")?;
        let sent = writeln!(told, "{command}");
        let line = self.answers.next().transpose()?.filter(|_| sent.is_ok());
        let line = line.with_context(|| format!("{} ended; it says why above", self.name))?;
        serde_json::from_str(&line).with_context(|| format!("{} says {line:?}", self.name))
    }

    /// Lets it end.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.told = None;
        let status = self.process.wait()?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nothing is left to do where it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
