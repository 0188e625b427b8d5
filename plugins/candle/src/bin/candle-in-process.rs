//! A training without the boundary: the code of the plugin, linked into a program of its own that is told
//! what to do, so that `cargo xtask bench ml.boundary` can say what the boundary costs.
//!
//! Each line of standard input is a command, as a JSON object with one member; each is answered by a line:
//!
//! | command | what it does | answer |
//! |---|---|---|
//! | `{"load": …}` | loads a model, as [`Load`] says | `{"seconds": …}` |
//! | `{"step": …}` | one step of training, as [`Step`] says | `{"seconds": …, "loss": …}`, the loss summed |
//! | `{"save": "directory"}` | saves a checkpoint | `{"seconds": …}` |
//!
//! It ends at the end of its input, and with a message at the first thing that goes wrong.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use candle::ops::frozen::Format;
use candle::train::{AdapterSpec, Batch, Beginning, Session, Spec, Update};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Command {
    Load(Load),
    Step(Step),
    Save(PathBuf),
}

/// What is trained: on the processor, in f32.
#[derive(Deserialize)]
struct Load {
    bundle: PathBuf,
    threads: usize,
    seed: u64,
    /// Begins with random weights.
    random: bool,
    /// Rank of an adapter of `q_proj` and `v_proj`, with twice the rank as alpha; without one, all is trained.
    rank: Option<usize>,
}

/// A batch, and what is done with its gradients.
#[derive(Deserialize)]
struct Step {
    rows: usize,
    columns: usize,
    tokens: Vec<u32>,
    targets: Vec<i32>,
    segments: Vec<u32>,
    /// Counted from 1.
    step: u64,
    learning_rate: f64,
    scale: f64,
    clip: f64,
}

#[derive(Serialize)]
struct Answer {
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    loss: Option<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut session = None;
    for line in io::stdin().lines() {
        let command = serde_json::from_str(&line?)?;
        let begin = Instant::now();
        let loss = obey(command, &mut session)?;
        let seconds = begin.elapsed().as_secs_f64();
        let answer = serde_json::to_string(&Answer { seconds, loss })?;
        writeln!(io::stdout(), "{answer}")?;
    }
    Ok(())
}

/// Does what a command says; of a step it answers the loss.
fn obey(command: Command, session: &mut Option<Session>) -> Result<Option<f64>, Box<dyn Error>> {
    let step = match command {
        Command::Load(load) => {
            *session = Some(Session::load(&load.bundle, &load.spec())?);
            return Ok(None);
        }
        Command::Save(directory) => {
            loaded(session)?.save_checkpoint(&directory)?;
            return Ok(None);
        }
        Command::Step(step) => step,
    };
    let batch = Batch {
        position: step.step - 1,
        rows: step.rows,
        columns: step.columns,
        tokens: &step.tokens,
        targets: &step.targets,
        segments: &step.segments,
    };
    let update = Update {
        step: step.step,
        learning_rate: step.learning_rate,
        scale: step.scale,
        clip: Some(step.clip),
    };
    let stepped = loaded(session)?.train_step(&batch, &update)?;
    Ok(Some(stepped.statistics.loss))
}

fn loaded(session: &mut Option<Session>) -> Result<&mut Session, &'static str> {
    session.as_mut().ok_or("`load` comes first")
}

impl Load {
    fn spec(&self) -> Spec {
        Spec {
            threads: self.threads,
            seed: self.seed,
            beginning: match self.random {
                true => Beginning::Random,
                false => Beginning::Weights,
            },
            base: Format::F32,
            adapter: self.rank.map(|rank| AdapterSpec {
                rank,
                alpha: 2.0 * rank as f32,
                dropout: 0.0,
                rank_stabilised: false,
                targets: vec!["q_proj".to_owned(), "v_proj".to_owned()],
            }),
            ..Spec::default()
        }
    }
}
