//! Training: LoRA against PEFT, the memory of QLoRA, and what the boundary costs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vox_host::CancelToken;
use vox_host::contract::compute::WeightFormat;
use vox_host::contract::ml_backend::{AdamW, Adapter, Batch, Beginning, Spec, Update};
use vox_ml::backend::{Rows, Training};

use super::child::Child;
use super::place::{Place, of_target, plugin, text, threads};
use crate::fixture::on_disk;
use crate::measure::median;
use crate::report::Row;

/// Variable that makes this program train, and tell how much memory it took: a [`Task`] as JSON.
pub const CHILD: &str = "VOX_BENCH_TRAINING";

/// Steps of each contender after the first, which warms up.
const STEPS: usize = 7;
/// Steps of each side of the boundary, which are short.
const BOUNDARY_STEPS: usize = 101;
/// Rank of adapters.
const RANK: u32 = 8;
/// Size of a batch of SmolLM2.
const ROWS: usize = 4;
const COLUMNS: usize = 128;
/// Tokens of SmolLM2.
const VOCABULARY: usize = 49_152;

/// A model of 3 million parameters, as that of the quickstart.
const SMALL: &str = r#"{
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 256,
    "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-05, "rope_theta": 10000, "hidden_act": "silu",
    "tie_word_embeddings": true, "initializer_range": 0.02
}"#;

/// What a training is measured with: as many steps as are wanted.
struct Batches {
    rows: usize,
    columns: usize,
    vocabulary: usize,
}

/// The numbers of a step.
struct Numbers {
    step: u64,
    tokens: Vec<u32>,
    targets: Vec<i32>,
    segments: Vec<u32>,
}

impl Batches {
    /// Tokens that look random, and after each the next.
    fn step(&self, step: u64) -> Numbers {
        let size = self.rows * self.columns;
        let token = |at: usize| ((step as usize * size + at) * 7919) % self.vocabulary;
        Numbers {
            step,
            tokens: (0..size).map(|at| token(at) as u32).collect(),
            targets: (1..=size).map(|at| token(at) as i32).collect(),
            segments: vec![0; size],
        }
    }

    fn tokens(&self) -> f64 {
        (self.rows * self.columns) as f64
    }

    fn update(&self, step: u64) -> Update {
        Update {
            step,
            learning_rate: 1e-3,
            scale: 1.0 / self.tokens(),
            clip: Some(1.0),
        }
    }

    /// A step as a child is told it.
    fn told(&self, numbers: &Numbers) -> Value {
        let update = self.update(numbers.step);
        json!({ "step": {
            "rows": self.rows,
            "columns": self.columns,
            "tokens": numbers.tokens,
            "targets": numbers.targets,
            "segments": numbers.segments,
            "step": update.step,
            "learning_rate": update.learning_rate,
            "scale": update.scale,
            "clip": update.clip,
        }})
    }

    /// A step in the plugin: its seconds, and the sum of its losses.
    fn take(&self, training: &mut Training, numbers: &Numbers) -> anyhow::Result<(f64, f64)> {
        let rows = Rows {
            batch: Batch {
                position: numbers.step - 1,
                rows: self.rows as u32,
                columns: self.columns as u32,
            },
            tokens: &numbers.tokens,
            targets: &numbers.targets,
            segments: &numbers.segments,
        };
        let begin = Instant::now();
        let stepped = training.train_step(rows, self.update(numbers.step))?;
        Ok((begin.elapsed().as_secs_f64(), stepped.statistics.loss))
    }
}

/// A training of the plugin, behind the host.
fn training(place: &Place, bundle: &Path, spec: &Spec) -> anyhow::Result<Training> {
    let host = place.host()?;
    let mut training = Training::start(&host, &plugin()?, None, CancelToken::new())?;
    training.load(bundle, spec)?;
    Ok(training)
}

fn spec(beginning: Beginning, base: WeightFormat, rank: Option<u32>) -> Spec {
    Spec {
        device: "cpu".to_owned(),
        threads: threads(),
        beginning,
        base,
        adapter: rank.map(|rank| Adapter {
            rank,
            alpha: 2.0 * rank as f32,
            dropout: 0.0,
            rank_stabilised: false,
            targets: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        }),
        optimizer: AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        },
        gradient_checkpointing: false,
        seed: 0,
        rank: 0,
    }
}

/// Tokens a second of LoRA at f32, against PyTorch and PEFT with the same weights and batches.
pub fn lora(name: &'static str) -> anyhow::Result<Row> {
    let place = Place::new()?;
    let bundle = place.bundle()?;
    let mut command = Command::new(of_target("reference/ml/python/bin/python")?);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/pytorch/lora.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONWARNINGS", "ignore");
    let mut peer = Child::start(command)?;
    peer.tell(&json!({ "load": {
        "bundle": text(&bundle), "threads": threads(), "rank": RANK,
    }}))?;
    let spec = spec(Beginning::Weights, WeightFormat::F32, Some(RANK));
    let mut ours = training(&place, &bundle, &spec)?;
    let batches = Batches {
        rows: ROWS,
        columns: COLUMNS,
        vocabulary: VOCABULARY,
    };
    let (mut our_times, mut peer_times) = (Vec::new(), Vec::new());
    for step in 0..=STEPS {
        let numbers = batches.step(step as u64 + 1);
        let (seconds, loss) = batches.take(&mut ours, &numbers)?;
        let answer = peer.tell(&batches.told(&numbers))?;
        let theirs = answer.loss.context("a loss")?;
        if step == 0 {
            // Adapters begin as none, so this is what the model itself loses.
            let difference = (loss / theirs - 1.0).abs();
            ensure!(
                difference < 1e-3,
                "{loss} is lost, and PyTorch loses {theirs}"
            );
            continue;
        }
        our_times.push(seconds);
        peer_times.push(answer.seconds);
    }
    peer.end()?;
    let value = batches.tokens() / median(our_times);
    let peer = batches.tokens() / median(peer_times);
    let ratio = value / peer;
    Ok(Row {
        name,
        value,
        unit: "tok/s",
        peer,
        peer_name: "PyTorch and PEFT",
        ratio,
        goal: "at least 0.9",
        met: ratio >= 0.9,
        detail: None,
    })
}

/// A training whose memory is measured.
#[derive(Serialize, Deserialize)]
struct Task {
    place: PathBuf,
    bundle: PathBuf,
    is_quantised: bool,
    checkpointing: bool,
}

/// Peak memory of QLoRA as PEFT prepares it, with gradient checkpointing, over that of LoRA at f32 without it. The
/// goal is for the two with equal settings.
pub fn qlora_memory(name: &'static str) -> anyhow::Result<Row> {
    let place = Place::new()?;
    let bundle = place.bundle()?;
    let measure = |is_quantised: bool, checkpointing: bool| {
        let task = Task {
            place: place.path().to_owned(),
            bundle: bundle.clone(),
            is_quantised,
            checkpointing,
        };
        let mut command = Command::new(std::env::current_exe()?);
        let output = command.env(CHILD, serde_json::to_string(&task)?).output()?;
        ensure!(
            output.status.success(),
            "the training ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let peak: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        anyhow::Ok(peak / f64::from(1 << 20))
    };
    let (plain, quantised) = (measure(false, false)?, measure(true, true)?);
    let (kept, recomputed) = (measure(true, false)?, measure(false, true)?);
    let alike = [kept / plain, quantised / recomputed];
    Ok(Row {
        name,
        value: quantised,
        unit: "MiB",
        peer: plain,
        peer_name: "LoRA at f32",
        ratio: quantised / plain,
        goal: "at most 0.4, both alike",
        met: alike.iter().all(|ratio| *ratio <= 0.4),
        detail: Some(format!(
            "QLoRA with gradient checkpointing, LoRA without; both without it {kept:.0} and {plain:.0} MiB, \
             {:.2}; both with it {quantised:.0} and {recomputed:.0} MiB, {:.2}",
            alike[0], alike[1]
        )),
    })
}

/// Two steps of a training; prints the most bytes that this process had in memory.
pub fn child(task: &str) -> anyhow::Result<()> {
    let task: Task = serde_json::from_str(task)?;
    let base = match task.is_quantised {
        true => WeightFormat::Nf4,
        false => WeightFormat::F32,
    };
    let mut spec = spec(Beginning::Weights, base, Some(RANK));
    spec.gradient_checkpointing = task.checkpointing;
    let mut training = training(&Place::at(task.place), &task.bundle, &spec)?;
    let batches = Batches {
        rows: ROWS,
        columns: COLUMNS,
        vocabulary: VOCABULARY,
    };
    for step in 1..=2 {
        batches.take(&mut training, &batches.step(step))?;
    }
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kibibytes: u64 = kibibytes.context("the most memory")?.trim().parse()?;
    println!("{}", kibibytes * 1024);
    Ok(())
}

/// Steps of a small model from scratch through the plugin's boundary, against the same code in a program. Both
/// save what they trained, and what they save must be the same, byte for byte.
pub fn boundary(name: &'static str) -> anyhow::Result<Row> {
    let place = Place::new()?;
    let made = on_disk()?;
    let bundle = made.path().join("bundle");
    fs::create_dir(&bundle)?;
    fs::write(bundle.join("config.json"), SMALL)?;
    let program = of_target("release/candle-in-process")?;
    let mut linked = Child::start(Command::new(program))?;
    linked.tell(&json!({ "load": {
        "bundle": text(&bundle), "threads": threads(), "seed": 0, "random": true,
    }}))?;
    let spec = spec(Beginning::Random, WeightFormat::F32, None);
    let mut ours = training(&place, &bundle, &spec)?;
    let batches = Batches {
        rows: 2,
        columns: 128,
        vocabulary: 512,
    };
    let (mut our_times, mut peer_times) = (Vec::new(), Vec::new());
    for step in 1..=BOUNDARY_STEPS as u64 {
        let numbers = batches.step(step);
        let told = batches.told(&numbers);
        // Each is first in every other turn.
        let is_first = step.is_multiple_of(2);
        let before = if is_first {
            Some(linked.tell(&told)?)
        } else {
            None
        };
        let (seconds, loss) = batches.take(&mut ours, &numbers)?;
        let answer = before.map_or_else(|| linked.tell(&told), Ok)?;
        ensure!(
            answer.loss.map(f64::to_bits) == Some(loss.to_bits()),
            "in step {step} the plugin loses {loss}, and the program {:?}",
            answer.loss
        );
        our_times.push(seconds * 1e3);
        peer_times.push(answer.seconds * 1e3);
    }
    let (through, without) = (made.path().join("through"), made.path().join("without"));
    fs::create_dir(&through)?;
    fs::create_dir(&without)?;
    let files = ours.save_checkpoint(&through)?;
    linked.tell(&json!({ "save": text(&without) }))?;
    linked.end()?;
    for file in &files {
        ensure!(
            fs::read(through.join(file))? == fs::read(without.join(file))?,
            "{file} of the checkpoint is not what the program saved"
        );
    }
    let (value, peer) = (median(our_times), median(peer_times));
    let ratio = value / peer;
    Ok(Row {
        name,
        value,
        unit: "ms",
        peer,
        peer_name: "the same code linked",
        ratio,
        goal: "at most 1.01",
        met: ratio <= 1.01,
        detail: Some(format!(
            "after {BOUNDARY_STEPS} steps {} are the same, byte for byte",
            files.join(" and ")
        )),
    })
}
