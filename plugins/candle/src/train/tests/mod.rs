//! Trainings of tiny models.

mod adapters;
mod composed;
mod exactness;
mod gradients;
mod reference;
mod smollm2;

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::architecture::Family;
use crate::random::Random;
use crate::tiny;

/// The families that go on with a text.
const DECODERS: [Family; 5] = [
    Family::Llama,
    Family::Mistral,
    Family::Qwen2,
    Family::Qwen3,
    Family::Gemma3,
];

/// A batch that owns its numbers.
struct Owned {
    rows: usize,
    columns: usize,
    tokens: Vec<u32>,
    targets: Vec<i32>,
    segments: Vec<u32>,
    position: u64,
}

impl Owned {
    /// A batch whose tokens are drawn, each row of two segments, and of whose targets some are ignored.
    fn drawn(position: u64, rows: usize, columns: usize) -> Self {
        let random = Random::new(77, position);
        let size = rows * columns;
        let token = |at: u64| random.words(at)[0] % tiny::VOCABULARY as u32;
        Self {
            rows,
            columns,
            tokens: (0..size as u64).map(token).collect(),
            targets: (0..size as u64)
                .map(|at| {
                    if at % 5 == 4 {
                        -1
                    } else {
                        token(at + 1) as i32
                    }
                })
                .collect(),
            segments: (0..size)
                .map(|at| u32::from(at % columns > columns / 3))
                .collect(),
            position,
        }
    }

    /// The batch of next tokens of rows, as one segment each.
    fn of_rows(tokens: &[u32], columns: usize) -> Self {
        let next = |at: usize| {
            if at % columns == columns - 1 {
                -1
            } else {
                tokens[at + 1] as i32
            }
        };
        Self {
            rows: tokens.len() / columns,
            columns,
            tokens: tokens.to_vec(),
            targets: (0..tokens.len()).map(next).collect(),
            segments: vec![0; tokens.len()],
            position: 0,
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            position: self.position,
            rows: self.rows,
            columns: self.columns,
            tokens: &self.tokens,
            targets: &self.targets,
            segments: &self.segments,
        }
    }
}

/// A bundle of a family in a directory.
fn bundle(family: Family) -> TempDir {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), &tiny::config(family));
    directory
}

fn spec() -> Spec {
    Spec {
        threads: 2,
        seed: 9,
        ..Spec::default()
    }
}

fn adapter(targets: &[&str]) -> AdapterSpec {
    AdapterSpec {
        rank: 4,
        alpha: 8.0,
        dropout: 0.0,
        rank_stabilised: false,
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
    }
}

fn lora(targets: &[&str]) -> Spec {
    Spec {
        adapter: Some(adapter(targets)),
        ..spec()
    }
}

fn update(step: u64, targets: u64) -> Update {
    Update {
        step,
        learning_rate: 1e-2,
        scale: 1.0 / targets as f64,
        clip: Some(1.0),
    }
}

/// All gradients, by name.
fn gradients(session: &mut Session) -> Vec<(String, Vec<f32>)> {
    let mut all = Vec::new();
    let mut visit = |name: &str, _: &[usize], floats: &mut [f32]| {
        all.push((name.to_owned(), floats.to_vec()));
        Ok(())
    };
    session.gradients(&mut visit).unwrap();
    all
}

/// The bits of losses and norms of some steps from one on.
fn steps(session: &mut Session, from: u64, to: u64) -> Vec<(u64, u64)> {
    let step = |step: u64| {
        let owned = Owned::drawn(step, 2, 12);
        let targets = owned.targets.iter().filter(|&&target| target != -1).count() as u64;
        let stepped = session
            .train_step(&owned.batch(), &update(step, targets))
            .unwrap();
        (
            stepped.statistics.loss.to_bits(),
            stepped.applied.gradient_norm.to_bits(),
        )
    };
    (from..to).map(step).collect()
}

fn load(bundle: &Path, spec: &Spec) -> Session {
    Session::load(bundle, spec).unwrap()
}
