//! What transformers and PEFT compute, from files that they wrote.

use std::path::PathBuf;

use serde_json::Value;

use super::*;
use crate::weights::Weights;

fn reference(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference")).join(path)
}

/// A tensor of numbers of 64 bits.
fn numbers(file: &Weights, name: &str) -> Vec<u32> {
    let (words, _) = file.stored(name).unwrap().as_chunks::<8>();
    words
        .iter()
        .map(|&word| u64::from_le_bytes(word) as u32)
        .collect()
}

/// Compares numbers by their greatest difference, relative to the greatest of them.
fn assert_near(what: &str, found: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let most = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        let error = (found - wanted).abs() / most;
        assert!(
            error < tolerance,
            "{what}, element {at}: {found}, and the reference says {wanted}"
        );
    }
}

/// Compares logits, loss and gradients with those that were computed for the same tokens.
fn check(session: &mut Session, expected: &Weights) {
    let columns = expected.info("tokens").unwrap().shape[1];
    let owned = Owned::of_rows(&numbers(expected, "tokens"), columns);
    let logits = session
        .logits(&owned.batch())
        .unwrap()
        .flatten_all()
        .unwrap();
    let logits: Vec<f32> = logits.to_vec1().unwrap();
    assert_near("logits", &logits, &expected.floats("logits").unwrap(), 1e-4);
    let statistics = session.forward_backward(&owned.batch()).unwrap();
    let loss = (statistics.loss / statistics.targets as f64) as f32;
    assert_near("loss", &[loss], &expected.floats("loss").unwrap(), 1e-5);
    let mut checked = 0;
    for (name, gradient) in gradients(session) {
        let name = format!("grad.{name}");
        if !expected.contains(&name) {
            continue;
        }
        let mean: Vec<f32> = gradient
            .iter()
            .map(|x| x / statistics.targets as f32)
            .collect();
        assert_near(&name, &mean, &expected.floats(&name).unwrap(), 1e-3);
        checked += 1;
    }
    let wanted = expected
        .names()
        .filter(|name| name.starts_with("grad."))
        .count();
    assert_eq!(checked, wanted);
}

fn expected(directory: &str) -> Weights {
    Weights::open_file(&reference(directory).join("expected.safetensors")).unwrap()
}

#[test]
fn logits_losses_and_gradients_are_those_of_transformers() {
    for model in ["llama", "llama-tied", "mistral", "qwen2", "qwen3", "gemma3"] {
        let directory = format!("models/{model}");
        let mut session = load(&reference(&directory), &spec());
        check(&mut session, &expected(&directory));
    }
}

/// A training of adapters that PEFT wrote.
fn with_adapter(adapter: &str) -> Session {
    let spec = Spec {
        beginning: Beginning::Adapter(reference(adapter)),
        ..spec()
    };
    load(&reference("models/llama"), &spec)
}

#[test]
fn adapters_of_peft_give_its_logits_losses_gradients_and_merged_weights() {
    for adapter in ["lora/qv", "lora/all-linear-rslora"] {
        let (mut session, expected) = (with_adapter(adapter), expected(adapter));
        check(&mut session, &expected);
        let directory = TempDir::new().unwrap();
        session.merge(directory.path()).unwrap();
        let merged = Weights::open(directory.path()).unwrap();
        for name in expected
            .names()
            .filter_map(|name| name.strip_prefix("merged."))
        {
            let wanted = expected.floats(&format!("merged.{name}")).unwrap();
            assert_near(name, &merged.floats(name).unwrap(), &wanted, 1e-5);
        }
    }
}

/// Trains as the reference did, and compares losses, norms and, at the end, weights.
fn check_training(session: &mut Session, kind: &str, tolerance: f64) {
    let text = std::fs::read_to_string(reference("lora/train.json")).unwrap();
    let training: Value = serde_json::from_str(&text).unwrap();
    let training = &training[kind];
    let list = |name: &str| -> Vec<f64> {
        training[name]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap())
            .collect()
    };
    let file = Weights::open_file(&reference("lora/train.safetensors")).unwrap();
    let columns = file.info("batches").unwrap().shape[2];
    let size = file.info("batches").unwrap().shape[1] * columns;
    let batches = numbers(&file, "batches");
    let wanted = list("losses").into_iter().zip(list("gradient_norms"));
    let batches = batches.chunks(size).zip(list("learning_rates")).zip(wanted);
    for (at, ((tokens, learning_rate), (loss, norm))) in batches.enumerate() {
        let owned = Owned::of_rows(tokens, columns);
        let targets = owned.targets.iter().filter(|&&target| target != -1).count() as f64;
        let update = Update {
            step: at as u64 + 1,
            learning_rate,
            scale: 1.0 / targets,
            clip: Some(1.0),
        };
        let stepped = session.train_step(&owned.batch(), &update).unwrap();
        let found = stepped.statistics.loss / targets;
        assert!(
            (found / loss - 1.0).abs() < tolerance,
            "step {at}: {found}, and the reference has {loss}"
        );
        let found = stepped.applied.gradient_norm;
        assert!(
            (found / norm - 1.0).abs() < 10.0 * tolerance,
            "step {at}: {found} and {norm}"
        );
    }
    for parameter in session.parameters() {
        let name = format!("{kind}.{}", parameter.name);
        if file.contains(&name) {
            let found: Vec<f32> = parameter.value.flatten_all().unwrap().to_vec1().unwrap();
            assert_near(&name, &found, &file.floats(&name).unwrap(), 0.02);
        }
    }
}

#[test]
fn a_training_of_adapters_takes_the_way_of_peft() {
    check_training(&mut with_adapter("lora/qv"), "lora", 1e-3);
}

#[test]
fn a_training_of_all_weights_takes_the_way_of_pytorch() {
    // There the weights of norms decay too; over these steps that is less than the tolerance.
    check_training(&mut load(&reference("models/llama"), &spec()), "full", 2e-3);
}
