//! What the host tells a backend of a step, by what comes of it where that can be calculated.
//!
//! The text is one letter over and over, and the model of V tokens begins with zeros. So the gradient of the mean
//! loss is the same in the bias and in the letter's row of the weight: 1/V for each token, less 1 for the letter. At
//! a rate as small as [`RATE`] it stays so, and Adam, corrected by the number of the step, goes by exactly the rate
//! in each step. The text's first token and its last are none of the letter, and are in a batch of 128 targets or
//! not: that is what [`TOLERANCE`] is for, of which they take no more than 0.013.

use serde_json::Value;
use vox_ml::scratch::BpeTrainer;

use super::{Outcome, Trainer};

/// With the token before them and the one after, they fill 32 rows.
const LETTERS: usize = 1023;

/// The highest rate of a training.
const RATE: f64 = 1e-6;

/// How far a figure may be from what is calculated, as a part of it.
const TOLERANCE: f64 = 0.02;

fn trainer() -> Trainer {
    let trainer = Trainer::new();
    trainer.place.write("text.txt", &"a".repeat(LETTERS));
    trainer
}

/// What some steps come to.
fn trained(trainer: &Trainer, output: &str, more: &[&str]) -> Outcome {
    let rate = RATE.to_string();
    let usual = [
        "--learning-rate",
        rate.as_str(),
        "--set",
        "optimisation.schedule=constant",
    ];
    let more = [&usual[..], more].concat();
    trainer.train("bigram", output, &more).succeeded();
    trainer.outcome(output)
}

/// The bias of the letter, which was 0.
fn bias(outcome: &Outcome) -> f64 {
    let (length, rest) = outcome.weights.split_first_chunk().unwrap();
    let (header, numbers) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header: Value = serde_json::from_slice(header).unwrap();
    let begin = header["bigram.bias"]["data_offsets"][0].as_u64().unwrap();
    let (floats, _) = numbers[begin as usize..].as_chunks();
    let token = BpeTrainer::default().train(257).encode("a")[0];
    f64::from(f32::from_le_bytes(floats[token as usize]))
}

#[track_caller]
fn assert_near(found: f64, wanted: f64) {
    assert!(
        (found - wanted).abs() < TOLERANCE * wanted,
        "{found} in place of {wanted}"
    );
}

/// The norm of the gradient of the mean loss: in both tables (1 - 1/V)² + (V - 1)/V², which is 1 - 1/V.
fn norm(trainer: &Trainer) -> f64 {
    (2.0 * (1.0 - 1.0 / trainer.vocabulary as f64)).sqrt()
}

#[test]
fn gradients_are_scaled_by_the_targets_of_all_micro_batches_of_a_step() {
    let trainer = trainer();
    for micro in ["1", "4"] {
        let accumulation = format!("optimisation.accumulation={micro}");
        let outcome = trained(&trainer, micro, &["--steps", "1", "--set", &accumulation]);
        assert_near(outcome.number(1, "grad_norm"), norm(&trainer));
    }
}

#[test]
fn gradients_are_scaled_down_to_the_bound_that_is_configured() {
    let trainer = trainer();
    // One as small as Adam's epsilon, so that the step is smaller than the rate: g / (g + epsilon) of it.
    let bound = ["--steps", "1", "--set", "optimisation.clip=1e-8"];
    let outcome = trained(&trainer, "bound", &bound);
    let gradient = 1e-8 * (1.0 - 1.0 / trainer.vocabulary as f64) / norm(&trainer);
    assert_near(bias(&outcome), RATE * gradient / (gradient + 1e-8));
}

#[test]
fn every_step_is_made_with_the_rate_of_the_schedule() {
    let rising = ["--steps", "5", "--set", "optimisation.warmup-steps=4"];
    let outcome = trained(&trainer(), "rising", &rising);
    let rates = [0.25, 0.5, 0.75, 1.0, 1.0].map(|part| part * RATE);
    for (step, rate) in (1..).zip(rates) {
        assert_near(outcome.number(step, "learning_rate"), rate);
    }
    assert_near(bias(&outcome), rates.iter().sum());
}

#[test]
fn the_optimizer_is_told_the_number_of_the_step() {
    let outcome = trained(&trainer(), "two", &["--steps", "2"]);
    // 2.34 times the rate where the second step is corrected as the first.
    assert_near(bias(&outcome), 2.0 * RATE);
}
