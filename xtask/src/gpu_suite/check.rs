//! `check gpu-check`: what is tried in a suite's folder, on the machine that it was carried to.
//!
//! Every check compares the device with `candle-cpu` on the processor, or with itself. Trainings begin with the
//! same numbers on both and see the same batches, so their curves differ by the order in which sums are rounded,
//! and by what steps make of that: the more steps, the more. The tolerances say how far they may.
//!
//! What must stay true: what there is no time for is skipped and said to be; the report is written in any case.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use super::report::{Check, Figure, Outcome, Report};
use super::vox::{Answer, Step, Vox, answer, curve, output_until};
use crate::workspace::{announce, read, write};

/// How far a first loss may be from the processor's, as a part of it: the same weights, summed in another order.
const FIRST_LOSS: f64 = 1e-4;
/// How far any later loss may be.
const CURVE: f64 = 1e-2;
/// How far the loss after a resume may be from that of a training that never stopped, on the same device.
const RESUME: f64 = 1e-3;
/// How far apart the two most probable tokens may be, as logarithms, where the device takes the second.
const LEAD: f64 = 0.02;
/// How far apart a first token's log-probabilities may be with quantised weights, whose kernels round the states that
/// they multiply in ways of their own.
const QUANTISED: f64 = 0.25;

/// Steps of the trainings that are compared.
const STEPS: u64 = 24;
/// The step after which one of them is stopped.
const STOPPED: u64 = 12;
/// Tokens of the answers that are compared.
const ANSWER: u32 = 48;

const PROMPTS: [&str; 4] = [
    "The weather in the village was",
    "Emma was not able to",
    "1, 2, 3, 4,",
    "My dear sir, I am",
];

/// The model that is made from scratch on a GPU, of about 20 million parameters.
const LARGE: &str = "[scratch]\nlayers = 6\nhidden = 512\nheads = 8\nkv-heads = 4\nintermediate = 1536\n\
    vocabulary = 1024\n";
/// The same where there is none.
const SMALL: &str = "[scratch]\nlayers = 2\nhidden = 256\nheads = 4\nkv-heads = 2\nintermediate = 512\n\
    vocabulary = 512\n";

/// What is run.
struct Suite {
    folder: PathBuf,
    vox: Vox,
    /// `cuda` or `cpu`.
    device: String,
    plugin: &'static str,
    /// Where trainings put what they make.
    work: PathBuf,
    end: Instant,
    report: Report,
}

/// Runs every check in a folder for so long at most, and writes `report.json` and `report.md` there.
///
/// # Errors
///
/// A check failed, or the folder is none of a suite.
pub fn run(folder: &Path, limit: Duration) -> anyhow::Result<()> {
    let folder = folder
        .canonicalize()
        .with_context(|| format!("cannot find {}", folder.display()))?;
    let about: Value = serde_json::from_str(&read(&folder.join("suite.json"))?)?;
    let text = |key: &str| about[key].as_str().unwrap_or("unknown").to_owned();
    let device = text("device");
    let work = folder.join("work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let begin = Instant::now();
    let mut suite = Suite {
        vox: Vox::new(&folder)?,
        plugin: match device.as_str() {
            "cpu" => "candle-cpu",
            _ => "candle-cuda",
        },
        work,
        end: begin + limit,
        report: Report::default(),
        device,
        folder,
    };
    let version = format!("{}, commit {}", text("version"), text("commit"));
    suite.report.about.push(("Vox", version));
    suite.all();
    suite.report.seconds = begin.elapsed().as_secs_f64();
    let page = suite.report.page();
    write(
        &suite.folder.join("report.json"),
        &format!("{:#}\n", suite.report.json()),
    )?;
    write(&suite.folder.join("report.md"), &page)?;
    println!("{page}");
    if !suite.report.is_good() {
        bail!("a check failed");
    }
    Ok(())
}

impl Suite {
    fn all(&mut self) {
        self.check("probe", Self::probe);
        self.check("train.full", |suite| suite.train("full", None));
        self.check("resume.full", |suite| suite.resume("full", None));
        let model = self.model();
        self.check("train.lora", |suite| suite.train("lora", Some(&model)));
        self.check("resume.lora", |suite| suite.resume("lora", Some(&model)));
        self.check("train.qlora.nf4", |suite| {
            suite.train("qlora", Some(&model))
        });
        self.check("generate.f32", |suite| suite.generate(&model));
        for (name, format) in [("generate.q8_0", "q8_0"), ("generate.q4_0", "q4_0")] {
            self.check(name, |suite| suite.quantised(&model, format));
        }
        self.check("speed", |suite| suite.speed(&model));
        self.check("peers", |suite| suite.peers(&model));
    }

    /// Runs a check and writes down how it ended.
    fn check(
        &mut self,
        name: &'static str,
        check: impl FnOnce(&mut Self) -> anyhow::Result<(Outcome, String)>,
    ) {
        announce(name);
        let begin = Instant::now();
        let (outcome, found) = match check(self) {
            _ if begin >= self.end => (Outcome::Skipped, "the time was over before it".to_owned()),
            Ok(result) => result,
            Err(error) if Instant::now() >= self.end => {
                (Outcome::Skipped, format!("the time is over: {error:#}"))
            }
            Err(error) => (Outcome::Failed, format!("{error:#}")),
        };
        eprintln!("    {found}");
        self.report.checks.push(Check {
            name,
            outcome,
            found,
            seconds: begin.elapsed().as_secs_f64(),
        });
    }

    /// The model that is changed and asked: the one that was packed, else the one that the first training made.
    fn model(&self) -> PathBuf {
        let packed = self.folder.join("model");
        match packed.is_dir() {
            true => packed,
            false => self.work.join("full-device/model"),
        }
    }

    fn probe(&mut self) -> anyhow::Result<(Outcome, String)> {
        let mut command = self.vox.command();
        let printed = output_until(command.args(["probe", "--json"]), self.end)?;
        let probed: Value = serde_json::from_str(&printed).context("the probe is no JSON")?;
        let processor = probed["cpu"]["model"].as_str().unwrap_or("unknown");
        self.report.about.push(("processor", processor.to_owned()));
        if self.device == "cpu" {
            let found = format!("{processor}, with the suite tried on the processor");
            return Ok((Outcome::Passed, found));
        }
        let devices = probed["cuda"]["devices"].as_array();
        let Some(device) = devices.and_then(|devices| devices.first()) else {
            bail!("no CUDA device: {}", probed["searches"]);
        };
        let name = device["name"].as_str().unwrap_or("unknown").to_owned();
        let driver = probed["cuda"]["driver-version"]
            .as_str()
            .unwrap_or("unknown");
        self.report.about.push(("device", name.clone()));
        self.report.about.push(("driver", driver.to_owned()));
        Ok((Outcome::Passed, format!("{name}, driver {driver}")))
    }

    /// Compares a training on the device with the same one on the processor.
    fn train(&mut self, kind: &str, model: Option<&Path>) -> anyhow::Result<(Outcome, String)> {
        let config = self.config(kind, model)?;
        let wanted = self.training(&config, &format!("{kind}-cpu"), "cpu", "candle-cpu", &[])?;
        let (device, plugin) = (self.device.clone(), self.plugin);
        let found = self.training(&config, &format!("{kind}-device"), &device, plugin, &[])?;
        let (first, most) = differences(&found, &wanted)?;
        let fell = found.first().map(|step| step.loss) > found.last().map(|step| step.loss);
        // An adapter changes less in so few steps than batches differ by.
        let good = first <= FIRST_LOSS && most <= CURVE && (fell || model.is_some());
        let text = format!(
            "loss {} over {} steps; from the processor's it differs by {first:.1e} at first and {most:.1e} at most \
             (allowed: {FIRST_LOSS:.0e}, {CURVE:.0e})",
            span(&found),
            found.len()
        );
        Ok((outcome(good), text))
    }

    /// Compares a training that stopped and went on with the one that did not, both on the device.
    fn resume(&mut self, kind: &str, model: Option<&Path>) -> anyhow::Result<(Outcome, String)> {
        let config = self.config(kind, model)?;
        let (device, plugin) = (self.device.clone(), self.plugin);
        let straight = self.work.join(format!("{kind}-device/loss.csv"));
        let wanted = curve(&read(&straight)?)?;
        let name = format!("{kind}-resumed");
        let stop = STOPPED.to_string();
        self.training(&config, &name, &device, plugin, &["--stop-after", &stop])?;
        let found = self.training(&config, &name, &device, plugin, &["--resume"])?;
        let (_, most) = differences(&found, &wanted)?;
        let text = match most {
            0.0 => format!(
                "after {STOPPED} of {STEPS} steps it goes on to the same losses, bit for bit"
            ),
            most => format!(
                "after {STOPPED} of {STEPS} steps it goes on to losses that differ by {most:.1e} at most (allowed: \
                 {RESUME:.0e})"
            ),
        };
        Ok((outcome(most <= RESUME), text))
    }

    /// Compares greedy answers with f32 weights.
    fn generate(&mut self, model: &Path) -> anyhow::Result<(Outcome, String)> {
        let (device, plugin) = (self.device.clone(), self.plugin);
        let (mut same, mut good) = (0, true);
        let mut parted = Vec::new();
        for prompt in PROMPTS {
            let wanted = self.answer(model, prompt, "f32", "cpu", "candle-cpu", ANSWER)?;
            let found = self.answer(model, prompt, "f32", &device, plugin, ANSWER)?;
            if found.backend != plugin {
                bail!("{} answered, on {}", found.backend, found.device);
            }
            match parting(&found, &wanted) {
                None => same += 1,
                Some((at, lead)) => {
                    good &= lead <= LEAD;
                    parted.push(format!("one at token {at}, where the lead is {lead:.1e}"));
                }
            }
        }
        let text = format!(
            "{same} of {} greedy answers of {ANSWER} tokens are the processor's; {} (allowed: a lead of {LEAD})",
            PROMPTS.len(),
            match parted.is_empty() {
                true => "none parts from it".to_owned(),
                false => parted.join(", "),
            }
        );
        Ok((outcome(good), text))
    }

    /// Compares first tokens with quantised weights, and says how far answers agree.
    fn quantised(&mut self, model: &Path, format: &str) -> anyhow::Result<(Outcome, String)> {
        let (device, plugin) = (self.device.clone(), self.plugin);
        let (mut most, mut agreed) = (0.0_f64, Vec::new());
        for prompt in PROMPTS.into_iter().take(2) {
            let wanted = self.answer(model, prompt, format, "cpu", "candle-cpu", ANSWER)?;
            let found = self.answer(model, prompt, format, &device, plugin, ANSWER)?;
            let tokens = parting(&found, &wanted).map_or(wanted.tokens.len(), |(at, _)| at);
            agreed.push(format!("{tokens} of {}", wanted.tokens.len()));
            if let (Some(found), Some(wanted)) = (found.tokens.first(), wanted.tokens.first()) {
                most = most.max((found.log_probability - wanted.log_probability).abs());
            }
        }
        let text = format!(
            "first tokens' log-probabilities differ by {most:.1e} at most (allowed: {QUANTISED}); answers agree for {} \
             tokens",
            agreed.join(" and ")
        );
        Ok((outcome(most <= QUANTISED), text))
    }

    /// Measures answers in each format, and the training.
    fn speed(&mut self, model: &Path) -> anyhow::Result<(Outcome, String)> {
        let (device, plugin) = (self.device.clone(), self.plugin);
        let formats: &[&str] = match device.as_str() {
            "cpu" => &["f32", "q8_0", "q4_0"],
            _ => &["f32", "bf16", "q8_0", "q4_0"],
        };
        for format in formats {
            let answer = self.answer(model, PROMPTS[0], format, &device, plugin, 128)?;
            self.figure(
                format!("generate.{format}"),
                answer.tokens_per_second,
                "tokens/s",
            );
            self.figure(
                format!("first-token.{format}"),
                1000.0 * answer.seconds_to_first,
                "ms",
            );
        }
        for kind in ["full", "lora", "qlora"] {
            let table = self.work.join(format!("{kind}-device/loss.csv"));
            if let Ok(table) = read(&table) {
                let speed = typical(&curve(&table)?);
                self.figure(format!("train.{kind}"), speed, "tokens/s");
            }
        }
        let text = format!("{} figures", self.report.figures.len());
        Ok((Outcome::Passed, text))
    }

    /// Has PyTorch do the same, where it is there.
    fn peers(&mut self, model: &Path) -> anyhow::Result<(Outcome, String)> {
        let mut command = Command::new("python3");
        command
            .current_dir(&self.folder)
            .arg(self.folder.join("peers.py"))
            .arg(model)
            .arg(self.folder.join("text.txt"))
            .arg(&self.device);
        let printed = match output_until(&mut command, self.end) {
            Ok(printed) => printed,
            Err(error) => return Ok((Outcome::Skipped, format!("{error:#}"))),
        };
        let mut said = Vec::new();
        for line in printed.lines() {
            let Ok(value) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            if let Some(note) = value["note"].as_str() {
                said.push(note.to_owned());
            }
            let (name, peer) = (value["name"].as_str(), value["peer"].as_str());
            let (Some(name), Some(peer), Some(speed)) = (name, peer, value["value"].as_f64())
            else {
                continue;
            };
            let mut figures = self.report.figures.iter_mut();
            if let Some(figure) = figures.find(|figure| figure.name == name) {
                figure.peer = Some((peer.to_owned(), speed));
            }
        }
        let has_peer = self
            .report
            .figures
            .iter()
            .any(|figure| figure.peer.is_some());
        let outcome = match has_peer {
            true => Outcome::Passed,
            false => Outcome::Skipped,
        };
        Ok((outcome, said.join("; ")))
    }

    fn figure(&mut self, name: String, value: f64, unit: &'static str) {
        self.report.figures.push(Figure {
            name,
            value,
            unit,
            peer: None,
        });
    }

    /// Writes the configuration of a training; without a model, of one from scratch.
    fn config(&self, kind: &str, model: Option<&Path>) -> anyhow::Result<PathBuf> {
        let begin = match model {
            Some(model) => format!("[model]\nbase = {:?}\n", model.display().to_string()),
            // A processor alone is to be done with it in minutes.
            None => match self.device.as_str() {
                "cpu" => SMALL.to_owned(),
                _ => LARGE.to_owned(),
            },
        };
        let method = match kind {
            "full" => "",
            "lora" => "[method]\nkind = \"lora\"\nrank = 8\ntargets = [\"q_proj\", \"v_proj\"]\n",
            _ => {
                "[method]\nkind = \"qlora\"\nrank = 8\ntargets = [\"all-linear\"]\nquantisation = \"nf4\"\n"
            }
        };
        let text = format!(
            "{begin}\n{method}\n[data]\nfiles = [{:?}]\ncontext = 128\n\n[optimisation]\nsteps = {STEPS}\n\
             batch-rows = 4\nlearning-rate = 3e-4\nwarmup-steps = 4\nseed = 7\n\n[cadence]\ncheckpoint-every = 100\n",
            self.folder.join("text.txt").display().to_string()
        );
        let file = self.work.join(format!("{kind}.toml"));
        write(&file, &text)?;
        Ok(file)
    }

    /// Trains, and answers the curve.
    fn training(
        &self,
        config: &Path,
        name: &str,
        device: &str,
        plugin: &str,
        arguments: &[&str],
    ) -> anyhow::Result<Vec<Step>> {
        let output = self.work.join(name);
        let mut command = self.vox.command();
        command
            .arg("train")
            .arg(config)
            .args(["--device", device, "--backend", plugin])
            .args(arguments)
            .arg("--output")
            .arg(&output);
        output_until(&mut command, self.end).with_context(|| format!("the training {name}"))?;
        curve(&read(&output.join("loss.csv"))?)
    }

    fn answer(
        &self,
        model: &Path,
        prompt: &str,
        format: &str,
        device: &str,
        plugin: &str,
        tokens: u32,
    ) -> anyhow::Result<Answer> {
        let mut command = self.vox.command();
        command
            .arg("generate")
            .arg(model)
            .args(["--prompt", prompt, "--quant", format])
            .args(["--device", device, "--backend", plugin])
            .args(["--temperature", "0", "--logprobs", "2", "--format", "json"])
            .args(["--max-tokens", &tokens.to_string()]);
        let printed = output_until(&mut command, self.end)
            .with_context(|| format!("an answer by {plugin} in {format}"))?;
        answer(&printed)
    }
}

fn outcome(good: bool) -> Outcome {
    match good {
        true => Outcome::Passed,
        false => Outcome::Failed,
    }
}

/// How far two curves are apart at the first step, and at most, as a part of the loss.
fn differences(found: &[Step], wanted: &[Step]) -> anyhow::Result<(f64, f64)> {
    if found.is_empty() || found.len() != wanted.len() {
        bail!("{} steps instead of {}", found.len(), wanted.len());
    }
    let parts = found.iter().zip(wanted);
    let parts: Vec<f64> = parts
        .map(|(found, wanted)| (found.loss - wanted.loss).abs() / wanted.loss)
        .collect();
    let most = parts.iter().copied().fold(0.0, f64::max);
    if parts.iter().any(|part| !part.is_finite()) {
        bail!("a loss is no number");
    }
    Ok((parts.first().copied().unwrap_or_default(), most))
}

/// The first token at which an answer is another than what is wanted, and the lead that the wanted one has there.
fn parting(found: &Answer, wanted: &Answer) -> Option<(usize, f64)> {
    let pairs = found.tokens.iter().zip(&wanted.tokens);
    let parted = pairs
        .enumerate()
        .find(|(_, (found, wanted))| found.number != wanted.number);
    if let Some((at, (_, wanted))) = parted {
        return Some((at, wanted.lead));
    }
    // One of them ended, by a token that is not among them.
    let (one, other) = (found.tokens.len(), wanted.tokens.len());
    (one != other).then(|| (one.min(other), f64::INFINITY))
}

/// The first loss and the last.
fn span(steps: &[Step]) -> String {
    let loss = |step: Option<&Step>| step.map_or(f64::NAN, |step| step.loss);
    format!("{:.3} to {:.3}", loss(steps.first()), loss(steps.last()))
}

/// The speed in the middle of all steps but the first ones, in which devices load their kernels.
fn typical(steps: &[Step]) -> f64 {
    let mut speeds: Vec<f64> = steps
        .iter()
        .skip(4)
        .map(|step| step.tokens_per_second)
        .collect();
    speeds.sort_by(f64::total_cmp);
    speeds.get(speeds.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::vox::Token;
    use super::*;

    fn curve_of(losses: &[f64]) -> Vec<Step> {
        let steps = losses.iter().zip(1..);
        steps
            .map(|(&loss, step)| Step {
                step,
                loss,
                tokens_per_second: 1.0,
            })
            .collect()
    }

    fn answer_of(tokens: &[(u64, f64)]) -> Answer {
        let token = |&(number, lead): &(u64, f64)| Token {
            number,
            log_probability: -1.0,
            lead,
        };
        Answer {
            tokens: tokens.iter().map(token).collect(),
            tokens_per_second: 1.0,
            seconds_to_first: 1.0,
            backend: String::new(),
            device: String::new(),
        }
    }

    #[test]
    fn curves_are_compared_by_the_greatest_part_that_they_differ_by() {
        let (first, most) = differences(&curve_of(&[4.0, 2.0]), &curve_of(&[4.0, 2.5])).unwrap();
        assert_eq!((first, most), (0.0, 0.2));
        assert!(differences(&curve_of(&[4.0]), &curve_of(&[4.0, 2.5])).is_err());
        assert!(differences(&curve_of(&[f64::NAN]), &curve_of(&[4.0])).is_err());
        assert!(differences(&[], &[]).is_err());
    }

    #[test]
    fn answers_part_where_the_tokens_differ_by_the_lead_that_was_there() {
        let wanted = answer_of(&[(1, 0.5), (2, 0.01), (3, 0.5)]);
        assert_eq!(parting(&wanted, &wanted), None);
        let other = answer_of(&[(1, 0.5), (9, 0.01), (9, 0.5)]);
        assert_eq!(parting(&other, &wanted), Some((1, 0.01)));
        let short = answer_of(&[(1, 0.5)]);
        assert_eq!(parting(&short, &wanted), Some((1, f64::INFINITY)));
    }
}
