//! Tokens a second: SmolLM2-135M in `candle-cpu`, as `vox generate` has it, against `llama-bench`.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::Deserialize;
use vox_host::CancelToken;
use vox_host::contract::compute::WeightFormat;
use vox_host::contract::inference_backend::{Model as Wanted, Options, Prompt, Request, Sampling};
use vox_ml::backend::{Candidate, Model};

use super::place::{Place, llama, plugin, text, threads};
use crate::measure::median;
use crate::report::Row;

/// Turns that both take.
const TURNS: usize = 9;
/// Tokens of a prompt, and of an answer.
const PROMPT: u32 = 256;
const ANSWER: u32 = 64;
/// Tokens that mean something by themselves come before this one.
const ORDINARY: u32 = 1024;
/// What an answer goes on after; long ones follow.
const BEGINNING: &str = "Once upon a time, in a small village by the sea, there was";

/// A format: what the host and llama.cpp call it.
struct Format {
    held: WeightFormat,
    file: &'static str,
}

const Q8_0: Format = Format {
    held: WeightFormat::Q80,
    file: "model/smollm2-q8_0.gguf",
};
const Q4_0: Format = Format {
    held: WeightFormat::Q40,
    file: "model/smollm2-q4_0.gguf",
};

/// Answers in Q8_0.
pub fn generate_q8_0(name: &'static str) -> anyhow::Result<Row> {
    generate(name, &Q8_0)
}

/// Answers in Q4_0.
pub fn generate_q4_0(name: &'static str) -> anyhow::Result<Row> {
    generate(name, &Q4_0)
}

/// Prompts in Q8_0.
pub fn prompt_q8_0(name: &'static str) -> anyhow::Result<Row> {
    prompt(name, &Q8_0)
}

/// Prompts in Q4_0.
pub fn prompt_q4_0(name: &'static str) -> anyhow::Result<Row> {
    prompt(name, &Q4_0)
}

/// Tokens after the first, a second.
fn generate(name: &'static str, format: &Format) -> anyhow::Result<Row> {
    let tokens = ANSWER.to_string();
    let row = in_turns(format, ["-p", "0", "-n", &tokens], |model, _| {
        let prompt = Prompt::Text(BEGINNING.to_owned());
        let mut times = Vec::new();
        model.predict(&request(prompt, ANSWER + 1), &mut |piece| {
            if piece.token.is_some() {
                times.push(Instant::now());
            }
            true
        })?;
        let (first, last) = (times.first(), times.last());
        let (first, last) = first.zip(last).context("an answer")?;
        ensure!(
            times.len() == ANSWER as usize + 1,
            "the answer ends after {} tokens",
            times.len()
        );
        Ok(f64::from(ANSWER) / (*last - *first).as_secs_f64())
    })?;
    Ok(judged(name, row, "at least 0.9", 0.9))
}

/// Tokens until the first of the answer, a second.
fn prompt(name: &'static str, format: &Format) -> anyhow::Result<Row> {
    let tokens = PROMPT.to_string();
    let row = in_turns(format, ["-p", &tokens, "-n", "0"], |model, turn| {
        // Each prompt is another from its first token on, so that nothing of it is remembered.
        let token = |at: u32| ORDINARY + (turn * 7919 + at * 104_729) % 48_000;
        let prompt = Prompt::Tokens((0..PROMPT).map(token).collect());
        let begin = Instant::now();
        let mut first = None;
        let finished = model.predict(&request(prompt, 1), &mut |piece| {
            if piece.token.is_some() {
                first.get_or_insert_with(|| begin.elapsed());
            }
            true
        })?;
        ensure!(
            finished.cached_tokens == 0,
            "{} tokens of the prompt were known",
            finished.cached_tokens
        );
        let seconds = first.context("a first token")?.as_secs_f64();
        Ok(f64::from(PROMPT) / seconds)
    })?;
    Ok(judged(name, row, "at least 0.6", 0.6))
}

/// Medians of what `ours` answers of each turn, and what `llama-bench` does.
fn in_turns(
    format: &Format,
    test: [&str; 4],
    mut ours: impl FnMut(&mut Model, u32) -> anyhow::Result<f64>,
) -> anyhow::Result<(f64, f64)> {
    let place = Place::new()?;
    let bundle = place.bundle()?;
    let file = llama(format.file)?;
    let program = llama("build/bin/llama-bench")?;
    let host = place.host()?;
    let wanted = Wanted {
        adapter: None,
        name: "smollm2".to_owned(),
        directory: Some(text(&bundle)),
    };
    let options = Options {
        device: Some("cpu".to_owned()),
        threads: threads(),
        format: Some(format.held),
        context: Some(1024),
    };
    let candidate = Candidate::start(&host, &plugin()?, CancelToken::new())?;
    let mut model = candidate.load(&wanted, &options)?;
    // Warms up, as `llama-bench` does by itself.
    ours(&mut model, 0)?;
    let (mut our_speeds, mut peer_speeds) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        our_speeds.push(ours(&mut model, turn as u32 + 1)?);
        let mut command = Command::new(&program);
        command.arg("-m").arg(&file).args(test).args([
            "-r",
            "1",
            "-o",
            "json",
            "-t",
            &threads().to_string(),
        ]);
        peer_speeds.push(llama_bench(&mut command)?);
    }
    Ok((median(our_speeds), median(peer_speeds)))
}

/// One greedy answer.
fn request(prompt: Prompt, max_tokens: u32) -> Request {
    Request {
        prompt,
        answered: String::new(),
        sampling: Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        },
        max_tokens,
        stop: Vec::new(),
        alternatives: None,
    }
}

#[derive(Deserialize)]
struct Measured {
    /// Tokens a second.
    avg_ts: f64,
}

/// Tokens a second of one test.
fn llama_bench(command: &mut Command) -> anyhow::Result<f64> {
    let output = command.output().context("llama-bench does not start")?;
    ensure!(
        output.status.success(),
        "llama-bench: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let measured: Vec<Measured> = serde_json::from_slice(&output.stdout)?;
    Ok(measured.first().context("one test")?.avg_ts)
}

fn judged(name: &'static str, (value, peer): (f64, f64), goal: &'static str, least: f64) -> Row {
    let ratio = value / peer;
    Row {
        name,
        value,
        unit: "tok/s",
        peer,
        peer_name: "llama.cpp",
        ratio,
        goal,
        met: ratio >= least,
        detail: None,
    }
}
