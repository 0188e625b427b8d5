//! The same bytes for the same calls: over threads, memory, and files.

use std::fs;

use super::*;
use crate::Error;
use crate::ops::frozen::Format;

fn dropped() -> Spec {
    let mut spec = lora(&["all-linear"]);
    if let Some(adapter) = &mut spec.adapter {
        adapter.dropout = 0.2;
    }
    spec
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    let bundle = bundle(Family::Gemma3);
    for spec in [
        dropped(),
        Spec {
            beginning: Beginning::Random,
            ..spec()
        },
    ] {
        let run = |spec: &Spec| steps(&mut load(bundle.path(), spec), 1, 5);
        let once = run(&spec);
        assert_eq!(once, run(&spec));
        assert_eq!(
            once,
            run(&Spec {
                threads: 1,
                ..spec.clone()
            })
        );
        assert_eq!(
            once,
            run(&Spec {
                threads: 3,
                ..spec.clone()
            })
        );
        assert_ne!(
            once,
            run(&Spec {
                seed: 10,
                ..spec.clone()
            })
        );
    }
}

#[test]
fn ranks_begin_alike_and_drop_differently() {
    let bundle = bundle(Family::Llama);
    let ranks = [0, 1].map(|rank| Spec { rank, ..dropped() });
    let [mut first, mut second] = ranks.map(|spec| load(bundle.path(), &spec));
    let owned = Owned::drawn(1, 2, 12);
    let evaluated = [&first, &second].map(|session| session.eval_step(&owned.batch()).unwrap());
    assert_eq!(evaluated[0], evaluated[1]);
    first.forward_backward(&owned.batch()).unwrap();
    second.forward_backward(&owned.batch()).unwrap();
    assert_ne!(gradients(&mut first), gradients(&mut second));
}

#[test]
fn batches_drop_differently() {
    let bundle = bundle(Family::Llama);
    let owned = Owned::drawn(0, 2, 12);
    let at = |spec: &Spec, position| {
        let batch = Batch {
            position,
            ..owned.batch()
        };
        let mut session = load(bundle.path(), spec);
        session.forward_backward(&batch).unwrap();
        gradients(&mut session)
    };
    assert_ne!(at(&dropped(), 0), at(&dropped(), 1));
    // Nothing else differs by where a batch stands.
    let whole = lora(&["all-linear"]);
    assert_eq!(at(&whole, 0), at(&whole, 1));
}

#[test]
fn gradient_checkpointing_changes_no_bit() {
    for family in DECODERS {
        let bundle = bundle(family);
        for spec in [spec(), dropped()] {
            let run = |gradient_checkpointing| {
                let spec = Spec {
                    gradient_checkpointing,
                    ..spec.clone()
                };
                let mut session = load(bundle.path(), &spec);
                steps(&mut session, 1, 3);
                session
                    .forward_backward(&Owned::drawn(3, 2, 12).batch())
                    .unwrap();
                (gradients(&mut session), session.memory().activations)
            };
            let ((kept, more), (again, less)) = (run(false), run(true));
            assert_eq!(kept, again, "{family:?}");
            assert!(less * 5 < more, "{less} bytes instead of {more}");
        }
    }
}

#[test]
fn a_training_goes_on_from_its_checkpoint_bit_by_bit() {
    for spec in [
        spec(),
        dropped(),
        Spec {
            base: Format::Nf4,
            ..dropped()
        },
    ] {
        let bundle = bundle(Family::Qwen2);
        let mut session = load(bundle.path(), &spec);
        steps(&mut session, 1, 4);
        let saved = bundle.path().join("checkpoint");
        let files = session.save_checkpoint(&saved).unwrap();
        for file in &files {
            assert!(saved.join(file).is_file(), "{file}");
        }
        let wanted = steps(&mut session, 4, 8);
        let mut other = load(bundle.path(), &spec);
        steps(&mut other, 1, 2);
        other.restore_checkpoint(&saved).unwrap();
        assert_eq!(steps(&mut other, 4, 8), wanted);
        let (one, two) = (bundle.path().join("one"), bundle.path().join("two"));
        session.save_checkpoint(&one).unwrap();
        other.save_checkpoint(&two).unwrap();
        for file in &files {
            assert_eq!(
                fs::read(one.join(file)).unwrap(),
                fs::read(two.join(file)).unwrap()
            );
        }
    }
}

#[test]
fn a_training_that_is_restored_has_no_gradients_of_before() {
    let bundle = bundle(Family::Llama);
    let mut session = load(bundle.path(), &spec());
    let saved = bundle.path().join("checkpoint");
    session.save_checkpoint(&saved).unwrap();
    let owned = Owned::drawn(0, 2, 12);
    session.forward_backward(&owned.batch()).unwrap();
    session.restore_checkpoint(&saved).unwrap();
    for (name, gradient) in gradients(&mut session) {
        assert!(gradient.iter().all(|&x| x == 0.0), "{name}");
    }
}

#[test]
fn a_checkpoint_of_another_training_is_refused_by_the_tensor_that_differs() {
    let bundle = bundle(Family::Llama);
    let saved = bundle.path().join("checkpoint");
    load(bundle.path(), &lora(&["q_proj"]))
        .save_checkpoint(&saved)
        .unwrap();
    let mut session = load(bundle.path(), &lora(&["q_proj", "v_proj"]));
    let before = steps(&mut load(bundle.path(), &lora(&["q_proj", "v_proj"])), 1, 3);
    let message = session.restore_checkpoint(&saved).unwrap_err().to_string();
    assert!(
        message.contains("v_proj.lora_A.weight` is missing"),
        "{message}"
    );
    assert_eq!(steps(&mut session, 1, 3), before);
    let mut spec = lora(&["q_proj"]);
    if let Some(adapter) = &mut spec.adapter {
        adapter.rank = 2;
    }
    let message = load(bundle.path(), &spec)
        .restore_checkpoint(&saved)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`r`: it is 4, and the training is of rank 2"),
        "{message}"
    );
    let mut config = tiny::config(Family::Llama);
    config["intermediate_size"] = 96.into();
    let other = TempDir::new().unwrap();
    tiny::write(other.path(), &config);
    let full = other.path().join("checkpoint");
    load(other.path(), &super::spec())
        .save_checkpoint(&full)
        .unwrap();
    let mut session = load(bundle.path(), &super::spec());
    let message = session.restore_checkpoint(&full).unwrap_err().to_string();
    assert!(
        message.contains("gate_proj.weight` is of shape [96, 32]"),
        "{message}"
    );
    assert!(message.contains("the training's of [64, 32]"), "{message}");
}

#[test]
fn a_checkpoint_is_not_written_over_another() {
    let bundle = bundle(Family::Llama);
    let session = load(bundle.path(), &lora(&["q_proj"]));
    let saved = bundle.path().join("checkpoint");
    session.save_checkpoint(&saved).unwrap();
    let message = session.save_checkpoint(&saved).unwrap_err().to_string();
    assert!(
        message.contains("checkpoint: there is something in it"),
        "{message}"
    );
}

#[test]
fn a_loss_that_is_no_number_is_answered_and_not_applied() {
    let bundle = bundle(Family::Llama);
    let mut session = load(bundle.path(), &spec());
    let saved = bundle.path().join("before");
    session.save_checkpoint(&saved).unwrap();
    let mut poison = true;
    session
        .forward_backward(&Owned::drawn(0, 2, 12).batch())
        .unwrap();
    let mut visit = |_: &str, _: &[usize], floats: &mut [f32]| {
        if std::mem::take(&mut poison) {
            floats[0] = f32::NAN;
        }
        Ok(())
    };
    session.gradients(&mut visit).unwrap();
    assert!(session.apply(&update(1, 1)).unwrap().gradient_norm.is_nan());
    let after = bundle.path().join("after");
    session.save_checkpoint(&after).unwrap();
    for file in ["model.safetensors", "optimizer.safetensors"] {
        assert_eq!(
            fs::read(saved.join(file)).unwrap(),
            fs::read(after.join(file)).unwrap()
        );
    }
    let value = &session.parameters()[0].value;
    crate::ops::host::change(value, |value| value.fill(f32::NAN)).unwrap();
    let stepped = session
        .train_step(&Owned::drawn(0, 2, 12).batch(), &update(1, 1))
        .unwrap();
    assert!(stepped.statistics.loss.is_nan() && stepped.applied.gradient_norm.is_nan());
    assert_eq!(stepped.statistics.targets, 20);
}

#[test]
fn a_batch_that_is_none_is_refused_by_what_is_wrong_with_it() {
    let bundle = bundle(Family::Llama);
    let mut session = load(bundle.path(), &lora(&["q_proj"]));
    let good = Owned::drawn(0, 2, 12);
    let mut refuse = |batch: Batch<'_>, field: &str| {
        let error = session.forward_backward(&batch).unwrap_err();
        assert!(
            matches!(&error, Error::Request { field: found, .. } if *found == field),
            "{error}"
        );
    };
    refuse(
        Batch {
            rows: 3,
            ..good.batch()
        },
        "tokens",
    );
    refuse(
        Batch {
            segments: &good.segments[1..],
            ..good.batch()
        },
        "segments",
    );
    refuse(
        Batch {
            rows: 0,
            ..good.batch()
        },
        "batch",
    );
    refuse(
        Batch {
            rows: usize::MAX,
            ..good.batch()
        },
        "batch",
    );
    let tokens = [tiny::VOCABULARY as u32; 24];
    refuse(
        Batch {
            tokens: &tokens,
            ..good.batch()
        },
        "tokens",
    );
    let targets = [-2; 24];
    refuse(
        Batch {
            targets: &targets,
            ..good.batch()
        },
        "targets",
    );
    let long = Owned::drawn(0, 1, 129);
    refuse(long.batch(), "batch");
}

#[test]
fn a_spec_that_contradicts_itself_is_refused() {
    let bundle = bundle(Family::Llama);
    let refuse = |spec: Spec, part: &str| {
        let message = Session::load(bundle.path(), &spec).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    refuse(
        Spec {
            base: Format::Nf4,
            ..spec()
        },
        "`base`: without an adapter every weight is trained",
    );
    refuse(
        lora(&["q_prok"]),
        "no linear map is named `q_prok`; there are q_proj, k_proj",
    );
    refuse(lora(&["lm_head"]), "no linear map is named `lm_head`");
    refuse(lora(&[]), "no layers are named");
    for rank in [0, 65_537, usize::MAX] {
        let mut wrong = lora(&["q_proj"]);
        if let Some(adapter) = &mut wrong.adapter {
            adapter.rank = rank;
        }
        let said = format!("`adapter.rank`: it is {rank}, and should be from 1 to 65536");
        refuse(wrong, &said);
    }
}

#[test]
fn an_estimate_is_about_what_a_training_holds() {
    let bundle = bundle(Family::Gemma3);
    for spec in [
        spec(),
        lora(&["all-linear"]),
        Spec {
            base: Format::Nf4,
            ..lora(&["q_proj"])
        },
    ] {
        let estimate = Session::estimate(bundle.path(), &spec, 2, 12).unwrap();
        let mut session = load(bundle.path(), &spec);
        session
            .forward_backward(&Owned::drawn(0, 2, 12).batch())
            .unwrap();
        let report = session.memory();
        assert_eq!(estimate.weights, report.weights);
        assert_eq!(estimate.gradients, report.gradients);
        assert_eq!(estimate.optimizer, report.optimizer);
        // The estimate also has what is computed in between.
        assert!(
            estimate.activations > report.activations,
            "{estimate:?} {report:?}"
        );
        assert!(
            estimate.activations < 3 * report.activations,
            "{estimate:?} {report:?}"
        );
    }
}

#[test]
fn an_estimate_of_what_nothing_could_hold_is_the_largest_number() {
    let bundle = bundle(Family::Llama);
    let most = u64::from(u32::MAX);
    let estimate = Session::estimate(bundle.path(), &spec(), most, most).unwrap();
    assert_eq!((estimate.activations, estimate.peak), (u64::MAX, u64::MAX));
}
