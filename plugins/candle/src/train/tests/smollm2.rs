//! An adapter of SmolLM2, trained as PEFT trains it (`tests/reference/programs/smollm2_lora.py`).

use serde_json::Value;

use super::*;
use crate::smollm2::{bundle, fixture, ids, json, numbers};

/// The most that a loss may be from PEFT's, as a part of it.
const LOSS: f64 = 0.01;

#[test]
fn the_loss_curve_of_an_adapter_of_the_real_model_is_that_of_peft() {
    let Some(bundle) = bundle() else {
        return;
    };
    let curve = json("lora/train.json");
    let setting = |name: &str| curve["settings"][name].as_f64().unwrap();
    let spec = Spec {
        beginning: Beginning::Adapter(fixture("lora")),
        optimizer: AdamW {
            beta1: setting("beta1"),
            beta2: setting("beta2"),
            epsilon: setting("epsilon"),
            weight_decay: setting("weight_decay"),
        },
        ..Spec::default()
    };
    let mut session = load(&bundle.directory, &spec);
    let batches: Vec<&Value> = curve["batches"].as_array().unwrap().iter().collect();
    let (losses, norms) = (numbers(&curve["losses"]), numbers(&curve["gradient_norms"]));
    assert_eq!((losses.len(), norms.len(), batches.len()), (50, 50, 50));
    let (mut most, mut most_norm): (f64, f64) = (0.0, 0.0);
    for (at, (batch, (loss, norm))) in batches.iter().zip(losses.iter().zip(&norms)).enumerate() {
        let tokens = ids(batch);
        let owned = Owned::of_rows(&tokens, tokens.len());
        let update = Update {
            step: at as u64 + 1,
            learning_rate: setting("learning_rate"),
            scale: 1.0 / (tokens.len() - 1) as f64,
            clip: Some(setting("clip_norm")),
        };
        let stepped = session.train_step(&owned.batch(), &update).unwrap();
        let found = stepped.statistics.loss / stepped.statistics.targets as f64;
        let difference = (found / loss - 1.0).abs();
        assert!(difference < LOSS, "step {at}: {found} for {loss}");
        most = most.max(difference);
        let difference = (stepped.applied.gradient_norm / norm - 1.0).abs();
        assert!(difference < 10.0 * LOSS, "step {at}: a norm for {norm}");
        most_norm = most_norm.max(difference);
    }
    println!("losses are within {most:.2e} of PEFT's, norms of gradients within {most_norm:.2e}");
}
