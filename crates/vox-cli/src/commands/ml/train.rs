//! `vox train`: a training, from its configuration to its end.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use vox_contract::PluginId;
use vox_ml::config::{Overrides, TrainConfig};
use vox_ml::train::{Event, Kept, Prepared, Report, Surroundings};
use vox_probe::{Probe as _, SystemProbe};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::style::{DIM, GOOD, HEADING, LITERAL, WARNING, paint, plain};
use crate::output::{self, Output, View, bytes};
use crate::record::now;

/// Arguments of `vox train`.
#[derive(Debug, Args)]
#[command(
    after_help = "A configuration is TOML; relative paths in it count from its own directory. Flags take the place of\n\
                  what it says, and without a file they say everything. Any key can be set by --set, such as\n\
                  `--set method.rank=16`. Ctrl-C ends the step, saves a checkpoint and stops; `--resume` goes on,\n\
                  also after a crash, from the newest checkpoint to the same bytes."
)]
pub struct TrainArgs {
    /// The configuration [default: train.toml where it is there]
    config: Option<PathBuf>,
    /// Go on with the training that is in the output directory
    #[arg(long)]
    resume: bool,
    /// Where to compute: cuda, cuda:N, metal, or cpu for small trainings and tests
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// The plugin that computes [default: any that has the device and can; with --resume, as before]
    #[arg(long, value_name = "PLUGIN")]
    backend: Option<PluginId>,
    /// The model to train: a name, or a directory
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// A file or directory to learn from
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// What of the model is changed: full, lora or qlora
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Steps in all
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = whole)]
    steps: Option<u64>,
    /// The highest learning rate
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// Rows of a batch
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    batch_rows: Option<u32>,
    /// Tokens of a row
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    context: Option<u32>,
    /// From which all randomness comes
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = whole)]
    seed: Option<u64>,
    /// Threads on the processor [default: as many as there are cores; with --resume, as before]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    threads: Option<u32>,
    /// Where checkpoints, the loss curve and the model go
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Any key of the configuration
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Stop after this many steps, with a checkpoint
    #[arg(long, value_name = "STEPS", allow_negative_numbers = true, value_parser = whole)]
    stop_after: Option<u64>,
    /// Print the JSON Schema of a configuration, and train nothing
    #[arg(long, conflicts_with_all = ["config", "resume"])]
    schema: bool,
}

/// A number that is not negative. One that is, is taken as a value too, so that it can be told what is wrong with it.
fn whole(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_| "write a whole number, 0 or more")
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl TrainArgs {
    fn overrides(&self) -> Overrides {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let number = |number: Option<u32>| number.map(i64::from);
        let whole = |number: Option<u64>| number.and_then(|number| i64::try_from(number).ok());
        let mut overrides = Overrides::new();
        overrides
            .set_if("machine.device", self.device.clone())
            .set_if("model.base", self.model.clone())
            .set_if("method.kind", self.method.clone())
            .set_if("optimisation.steps", whole(self.steps))
            .set_if("optimisation.learning-rate", self.learning_rate)
            .set_if("optimisation.batch-rows", number(self.batch_rows))
            .set_if("optimisation.seed", whole(self.seed))
            .set_if("data.context", number(self.context))
            .set_if("machine.threads", number(self.threads))
            .set_if("output", self.output.as_ref().map(path));
        if !self.data.is_empty() {
            let files: Vec<String> = self.data.iter().map(path).collect();
            overrides.set("data.files", files);
        }
        for (key, value) in &self.set {
            overrides.set_typed(key, value);
        }
        overrides
    }

    fn config(&self) -> Result<TrainConfig, Failure> {
        let overrides = self.overrides();
        let usual = PathBuf::from("train.toml");
        let file = match &self.config {
            Some(file) => Some(file.clone()),
            None => usual.exists().then_some(usual),
        };
        Ok(match file {
            Some(file) => TrainConfig::load(&file, &overrides)?,
            None => TrainConfig::of_flags(&overrides)?,
        })
    }
}

/// What a training came to.
#[derive(Debug, Serialize)]
struct Ended {
    event: &'static str,
    run: String,
    finished: bool,
    step: u64,
    steps: u64,
    loss: Option<f64>,
    eval_loss: Option<f64>,
    checkpoint: Option<String>,
    manifest: Option<String>,
    best: Option<Best>,
    model: Option<PathBuf>,
    table: PathBuf,
    picture: PathBuf,
}

/// The checkpoint that is kept for its loss on the evaluation split.
#[derive(Debug, Serialize)]
struct Best {
    step: u64,
    eval_loss: Option<f64>,
    checkpoint: String,
    manifest: String,
}

impl From<Kept> for Best {
    fn from(kept: Kept) -> Self {
        Self {
            step: kept.step,
            eval_loss: kept.eval_loss,
            checkpoint: kept.bundle_hash.to_string(),
            manifest: kept.manifest.to_string(),
        }
    }
}

impl From<Report> for Ended {
    fn from(report: Report) -> Self {
        Self {
            event: "ended",
            run: report.run,
            finished: report.is_finished,
            step: report.step,
            steps: report.total,
            loss: report.loss,
            eval_loss: report.eval_loss,
            checkpoint: report
                .checkpoint
                .as_ref()
                .map(|kept| kept.bundle_hash.to_string()),
            manifest: report
                .checkpoint
                .as_ref()
                .map(|kept| kept.manifest.to_string()),
            best: report.best.map(Best::from),
            model: report.model,
            table: report.table,
            picture: report.picture,
        }
    }
}

impl View for Ended {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let what = if self.finished {
            paint(GOOD, "trained")
        } else {
            paint(WARNING, "stopped")
        };
        write!(out, "{what} after step {} of {}", self.step, self.steps)?;
        if let Some(loss) = self.loss {
            write!(out, ", loss {loss:.4}")?;
        }
        if let Some(loss) = self.eval_loss {
            write!(out, ", evaluation {loss:.4}")?;
        }
        writeln!(out)?;
        if let Some(checkpoint) = &self.checkpoint {
            writeln!(out, "  checkpoint  {}", paint(DIM, checkpoint))?;
        }
        if let Some(best) = &self.best {
            let loss = best.eval_loss.unwrap_or(f64::NAN);
            writeln!(
                out,
                "  best        step {}, evaluation {loss:.4}",
                best.step
            )?;
            writeln!(out, "              {}", paint(DIM, &best.manifest))?;
        }
        writeln!(out, "  loss curve  {}", self.picture.display())?;
        if let Some(model) = &self.model {
            writeln!(out, "  model       {}", model.display())?;
        }
        if !self.finished {
            writeln!(out, "  {} goes on with it", paint(LITERAL, "--resume"))?;
        }
        Ok(())
    }
}

/// Shows how far a training is.
struct Display {
    output: Output,
    bar: Option<ProgressBar>,
    /// Where there is no bar, a line comes after so many steps.
    every: u64,
}

impl Display {
    fn new(output: Output) -> Self {
        Self {
            output,
            bar: None,
            every: 0,
        }
    }

    fn line(&self, text: std::fmt::Arguments<'_>) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::complain(text)),
            None => output::complain(text),
        }
    }

    fn tell(&mut self, event: Event<'_>) -> Result<(), Failure> {
        if !self.output.is_human() {
            return self.tell_programs(event);
        }
        match event {
            Event::Preflight(preflight) => {
                let memory = &preflight.memory;
                let text = format!(
                    "about {} of memory on {} (weights {}, gradients {}, optimizer {}, activations {})",
                    bytes(memory.peak),
                    preflight.device,
                    bytes(memory.weights),
                    bytes(memory.gradients),
                    bytes(memory.optimizer),
                    bytes(memory.activations)
                );
                self.line(format_args!("{}\n", paint(DIM, text)));
            }
            Event::Step {
                point,
                total,
                epochs,
                left,
                memory,
            } => {
                let time = left
                    .map(|left| humantime::format_duration(Duration::from_secs(left.as_secs())));
                let time = time.map_or_else(String::new, |time| format!("{time} left"));
                let text = format!(
                    "loss {:.4}  {:.0} tokens/s  {}  epoch {epochs:.2}  {time}",
                    point.loss,
                    point.tokens_per_second,
                    bytes(memory.peak)
                );
                if io::stderr().is_terminal() {
                    let bar = self.bar.get_or_insert_with(|| begin(total));
                    bar.set_position(point.step);
                    bar.set_message(text);
                } else {
                    self.every = if self.every == 0 {
                        (total / 20).max(1)
                    } else {
                        self.every
                    };
                    if point.step.is_multiple_of(self.every) || point.step == total {
                        self.line(format_args!("step {} of {total}  {text}\n", point.step));
                    }
                }
            }
            Event::Evaluated { step, loss } => {
                self.line(format_args!("step {step}: evaluation loss {loss:.4}\n"));
            }
            Event::Checkpoint(kept) => {
                let hash = kept.bundle_hash.to_string();
                let short = hash.get(..24).unwrap_or(&hash);
                let text = format!("step {}: checkpoint {short}…", kept.step);
                self.line(format_args!("{}\n", paint(DIM, text)));
            }
            _ => {}
        }
        Ok(())
    }

    fn tell_programs(&self, event: Event<'_>) -> Result<(), Failure> {
        let value = match event {
            Event::Preflight(preflight) => serde_json::json!({
                "event": "preflight", "device": preflight.device, "memory": preflight.memory,
            }),
            Event::Resumed { step, differences } => serde_json::json!({
                "event": "resumed", "step": step, "differences": differences,
            }),
            Event::Step { point, total, .. } => serde_json::json!({
                "event": "step", "step": point.step, "steps": total, "loss": point.loss,
                "learning_rate": point.learning_rate, "gradient_norm": point.grad_norm,
                "tokens": point.tokens, "tokens_per_second": point.tokens_per_second,
            }),
            Event::Evaluated { step, loss } => serde_json::json!({
                "event": "evaluated", "step": step, "loss": loss,
            }),
            Event::Checkpoint(kept) => serde_json::json!({
                "event": "checkpoint", "step": kept.step,
                "bundle": kept.bundle_hash.to_string(), "manifest": kept.manifest.to_string(),
            }),
            _ => return Ok(()),
        };
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        output::print(&line)
    }
}

fn begin(total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    // The template is a constant that parses; were it not to, there is the default.
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar
}

/// Trains.
pub(crate) fn run(context: &Context, arguments: &TrainArgs) -> Result<Exit, Failure> {
    if arguments.schema {
        let mut text = Vec::new();
        output::json(&TrainConfig::schema(), &mut text)?;
        output::print(&text)?;
        return Ok(Exit::Success);
    }
    let config = arguments.config()?;
    let host = context.host()?;
    let (log, store, key) = (context.log()?, context.store()?, context.node_key()?);
    let hardware = SystemProbe::default().probe();
    let surroundings = Surroundings {
        host: &host,
        log: &log,
        store: &store,
        key: &key,
        hardware: &hardware,
        backend: arguments.backend.clone(),
        cancel: interrupt::token(),
        version: env!("CARGO_PKG_VERSION"),
        now,
    };
    let mut display = Display::new(context.output);
    let mut closed = None;
    let mut tell = |event: Event<'_>| {
        if let Err(failure) = display.tell(event) {
            closed.get_or_insert(failure);
        }
    };
    let prepared = Prepared::new(surroundings, config, arguments.resume, &mut tell)?;
    if context.output.is_human() {
        introduce(&prepared);
    }
    let report = prepared.run(arguments.stop_after, &mut tell)?;
    if let Some(bar) = display.bar.take() {
        bar.finish_and_clear();
    }
    if let Some(failure) = closed {
        return Err(failure);
    }
    let exit = match report.is_finished || arguments.stop_after.is_some() {
        true => Exit::Success,
        false => Exit::Interrupted,
    };
    let ended = Ended::from(report);
    if context.output.is_human() {
        context.output.show(&ended)?;
    } else {
        let mut line = serde_json::to_vec(&ended).map_err(io::Error::from)?;
        line.push(b'\n');
        output::print(&line)?;
    }
    Ok(exit)
}

/// Says what is trained on what, and where.
fn introduce(prepared: &Prepared<'_>) {
    let model = prepared.model();
    let part = prepared.dataset().training();
    let kinds = prepared.dataset().kinds().iter().map(|kind| kind.name());
    let kinds: Vec<&str> = kinds.collect();
    output::complain(format_args!(
        "{} {}: {} of {} weights, on {} ({} threads, {})\n{} {} examples in {} rows, of {}\n",
        paint(HEADING, "model"),
        plain(&model.architecture),
        model.trainable,
        model.parameters,
        plain(&model.device.name),
        model.threads,
        plain(&model.features),
        paint(HEADING, "data "),
        part.examples(),
        part.rows(),
        kinds.join(", "),
    ));
    let skipped = prepared.dataset().summary();
    if skipped.skipped > 0 {
        output::complain(format_args!(
            "{} {} lines were left out, such as {}\n",
            paint(WARNING, "note:"),
            skipped.skipped,
            plain(skipped.first_skipped.first().map_or("", String::as_str))
        ));
    }
    if prepared.done() > 0 {
        output::complain(format_args!(
            "{} after step {}\n",
            paint(GOOD, "going on"),
            prepared.done()
        ));
    }
    for difference in prepared.differences() {
        output::complain(format_args!(
            "{} {}: the steps from here on may differ in their last digits from those that it would have made there\n",
            paint(WARNING, "note:"),
            plain(difference)
        ));
    }
}
