//! What the contract asks of a backend, tried without a host.

use std::fs;

use super::*;

const VOCABULARY: u32 = 5;

/// A batch of two rows, in which one place foretells nothing.
const TOKENS: [u32; 6] = [0, 1, 2, 3, 1, 4];
const TARGETS: [i32; 6] = [1, 2, -1, 1, 4, 0];
const SEGMENTS: [u32; 6] = [0; 6];

fn batch() -> Batch {
    Batch {
        position: 0,
        rows: 2,
        columns: 3,
    }
}

fn update(step: u64) -> Update {
    Update {
        step,
        learning_rate: 0.1,
        scale: 0.2,
        clip: Some(1.0),
    }
}

fn spec() -> Spec {
    Spec {
        device: CPU.to_owned(),
        threads: 0,
        beginning: Beginning::Random,
        base: WeightFormat::F32,
        adapter: None,
        optimizer: AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
        },
        gradient_checkpointing: false,
        seed: 7,
        rank: 0,
    }
}

fn write_config(bundle: &Path, architecture: &str, vocabulary: u32) {
    let config = format!(
        r#"{{"architectures": ["{architecture}"], "vocab_size": {vocabulary}, "max_position_embeddings": 4}}"#
    );
    fs::create_dir_all(bundle).unwrap();
    fs::write(bundle.join("config.json"), config).unwrap();
}

/// A training that began at random.
fn loaded(place: &Path, vocabulary: u32) -> BigramBackend {
    let bundle = place.join(format!("bundle-{vocabulary}"));
    write_config(&bundle, files::ARCHITECTURE, vocabulary);
    let mut backend = BigramBackend::default();
    backend.load(bundle.to_str().unwrap(), spec()).unwrap();
    backend
}

fn train(backend: &mut BigramBackend, step: u64) -> Stepped {
    let stepped = backend.train_step(batch(), &TOKENS, &TARGETS, &SEGMENTS, update(step));
    stepped.unwrap()
}

/// All that is trained, as bits.
fn bits(backend: &mut BigramBackend) -> Vec<u32> {
    let parameters = backend.training().unwrap().model.parameters.iter();
    let numbers = parameters.flat_map(|one| one.value.iter().chain(&one.first).chain(&one.second));
    numbers.map(|number| number.to_bits()).collect()
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let mut model = Bigram::random(VOCABULARY, 3);
    model.learn(&TOKENS, &TARGETS);
    for which in 0..2 {
        for at in 0..model.parameters[which].value.len() {
            let mut loss_at = |by: f32| {
                let before = model.parameters[which].value[at];
                model.parameters[which].value[at] = before + by;
                let loss = model.evaluate(&TOKENS, &TARGETS).loss;
                model.parameters[which].value[at] = before;
                loss
            };
            let slope = (loss_at(0.01) - loss_at(-0.01)) / 0.02;
            let gradient = f64::from(model.parameters[which].gradient[at]);
            assert!(
                (slope - gradient).abs() < 1e-3,
                "{which}, {at}: {slope} and {gradient}"
            );
        }
    }
}

#[test]
fn a_training_that_goes_on_from_a_checkpoint_makes_the_same_bits() {
    let place = tempfile::tempdir().unwrap();
    let checkpoint = place.path().join("checkpoint");
    let checkpoint = checkpoint.to_str().unwrap();
    let mut whole = loaded(place.path(), VOCABULARY);
    for step in 1..=3 {
        train(&mut whole, step);
    }
    let names = whole.save_checkpoint(checkpoint).unwrap();
    assert_eq!(names, ["model.safetensors", "optimizer.safetensors"]);
    let again = whole.save_checkpoint(checkpoint).unwrap_err();
    assert!(again.to_string().contains("not empty"), "{again}");

    let mut resumed = loaded(place.path(), VOCABULARY);
    train(&mut resumed, 1);
    resumed.restore_checkpoint(checkpoint).unwrap();
    for step in 4..=6 {
        assert_eq!(train(&mut whole, step), train(&mut resumed, step));
    }
    assert_eq!(bits(&mut whole), bits(&mut resumed));
}

#[test]
fn a_checkpoint_of_another_model_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let checkpoint = place.path().join("checkpoint");
    let checkpoint = checkpoint.to_str().unwrap();
    let mut other = loaded(place.path(), VOCABULARY + 1);
    other.save_checkpoint(checkpoint).unwrap();
    let mut backend = loaded(place.path(), VOCABULARY);
    let before = bits(&mut backend);
    let error = backend.restore_checkpoint(checkpoint).unwrap_err();
    assert!(error.to_string().contains("`bigram.weight`"), "{error}");
    assert_eq!(bits(&mut backend), before);
}

#[test]
fn micro_batches_add_up_to_what_they_are_in_one_batch() {
    let place = tempfile::tempdir().unwrap();
    let mut one = loaded(place.path(), VOCABULARY);
    let stepped = train(&mut one, 1);
    let mut parts = loaded(place.path(), VOCABULARY);
    let mut loss = 0.0;
    for (position, row) in [(0, 0..3), (1, 3..6)] {
        let batch = Batch {
            position,
            rows: 1,
            columns: 3,
        };
        let [tokens, segments] = [&TOKENS, &SEGMENTS].map(|all| &all[row.clone()]);
        let statistics = parts.forward_backward(batch, tokens, &TARGETS[row.clone()], segments);
        loss += statistics.unwrap().loss;
    }
    let applied = parts.apply(update(1)).unwrap();
    assert!((loss - stepped.statistics.loss).abs() < 1e-12);
    assert_eq!(applied, stepped.applied);
    assert_eq!(bits(&mut one), bits(&mut parts));
}

#[test]
fn a_loss_that_is_not_finite_is_answered_and_not_applied() {
    let place = tempfile::tempdir().unwrap();
    let mut backend = loaded(place.path(), VOCABULARY);
    backend.training().unwrap().model.parameters[1].value[0] = f32::NAN;
    let before = bits(&mut backend);
    let stepped = train(&mut backend, 1);
    assert!(stepped.statistics.loss.is_nan() && stepped.applied.gradient_norm.is_nan());
    assert_eq!(bits(&mut backend), before);
    // Nor is anything of it left for the next step.
    backend.training().unwrap().model.parameters[1].value[0] = 0.0;
    assert!(train(&mut backend, 1).applied.gradient_norm.is_finite());
}

#[test]
fn what_it_cannot_do_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    let bundle = place.path().join("llama");
    write_config(&bundle, "LlamaForCausalLM", VOCABULARY);
    let bundle = bundle.to_str().unwrap();
    let refused = |spec: Spec, wanted: &str| {
        let error = BigramBackend::default().load(bundle, spec).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    };
    refused(spec(), "LlamaForCausalLM");
    let device = "cuda:0".to_owned();
    refused(Spec { device, ..spec() }, "`cuda:0`");
    let base = WeightFormat::Nf4;
    refused(Spec { base, ..spec() }, "f32");

    let mut backend = loaded(place.path(), VOCABULARY);
    let unknown = [VOCABULARY; 6];
    let error = backend.eval_step(batch(), &unknown, &TARGETS, &SEGMENTS);
    assert!(error.unwrap_err().to_string().contains("5 is none"));
    let error = backend.eval_step(batch(), &TOKENS, &TARGETS, &SEGMENTS[..5]);
    assert!(error.unwrap_err().to_string().contains("[6, 6, 5]"));
}

#[test]
fn a_model_that_is_written_can_be_trained_further() {
    let place = tempfile::tempdir().unwrap();
    let mut first = loaded(place.path(), VOCABULARY);
    train(&mut first, 1);
    let merged = place.path().join("merged");
    let merged = merged.to_str().unwrap();
    let names = first.merge(merged).unwrap();
    assert_eq!(names, ["config.json", "model.safetensors"]);
    let mut second = BigramBackend::default();
    let beginning = Beginning::Weights;
    let model = second
        .load(
            merged,
            Spec {
                beginning,
                ..spec()
            },
        )
        .unwrap();
    assert_eq!(model.parameters, 30);
    let loss = |backend: &mut BigramBackend| {
        let statistics = backend.eval_step(batch(), &TOKENS, &TARGETS, &SEGMENTS);
        statistics.unwrap().loss
    };
    assert_eq!(loss(&mut first), loss(&mut second));
}
