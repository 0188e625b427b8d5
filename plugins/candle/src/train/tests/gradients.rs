//! Gradients: that there are some, and that they are right.

use super::*;
use crate::ops::frozen::Format;
use crate::ops::host;

#[test]
fn every_weight_of_every_family_has_a_gradient() {
    for family in DECODERS {
        let bundle = bundle(family);
        let mut session = load(bundle.path(), &spec());
        session
            .forward_backward(&Owned::drawn(0, 2, 12).batch())
            .unwrap();
        let names: Vec<String> = session
            .trainable()
            .into_iter()
            .map(|tensor| tensor.name)
            .collect();
        let wanted = crate::architecture::Architecture::read(bundle.path())
            .unwrap()
            .tensors();
        assert_eq!(names.len(), wanted.len());
        for (name, gradient) in gradients(&mut session) {
            assert!(gradient.iter().all(|x| x.is_finite()), "{family:?}: {name}");
            assert!(gradient.iter().any(|&x| x != 0.0), "{family:?}: {name}");
        }
    }
}

#[test]
fn every_adapter_of_every_family_has_a_gradient_and_what_is_frozen_has_none() {
    for family in DECODERS {
        for base in [
            Format::F32,
            Format::Bf16,
            Format::Q8_0,
            Format::Q4_0,
            Format::Nf4,
        ] {
            let bundle = bundle(family);
            let spec = Spec {
                base,
                ..lora(&["all-linear"])
            };
            let mut session = load(bundle.path(), &spec);
            // B is nothing at first, and then A has no gradient.
            steps(&mut session, 1, 2);
            session
                .forward_backward(&Owned::drawn(0, 2, 12).batch())
                .unwrap();
            let all = gradients(&mut session);
            assert_eq!(all.len(), 3 * 7 * 2);
            for (name, gradient) in all {
                assert!(name.contains(".lora_"), "{name}");
                assert!(
                    gradient.iter().all(|x| x.is_finite()),
                    "{family:?}, {base:?}: {name}"
                );
                assert!(
                    gradient.iter().any(|&x| x != 0.0),
                    "{family:?}, {base:?}: {name}"
                );
            }
        }
    }
}

/// Compares the gradient of every tensor along a direction with central differences of the loss.
fn check_along_directions(family: Family, spec: &Spec) {
    let bundle = bundle(family);
    let mut session = load(bundle.path(), spec);
    steps(&mut session, 1, 2);
    let owned = Owned::drawn(0, 2, 12);
    session.forward_backward(&owned.batch()).unwrap();
    for (number, (name, gradient)) in gradients(&mut session).into_iter().enumerate() {
        let random = Random::new(3, number as u64);
        let norm = gradient.iter().map(|x| x * x).sum::<f32>().sqrt();
        // Half along the gradient, so that the difference stands out of the rounding.
        let size = (gradient.len() as f32).sqrt();
        let direction =
            |at: usize| 0.5 * gradient[at] / norm + 0.5 * random.normal(at as u64) as f32 / size;
        let direction: Vec<f32> = (0..gradient.len()).map(direction).collect();
        let products = direction.iter().zip(&gradient);
        let found: f64 = products.map(|(d, g)| f64::from(*d) * f64::from(*g)).sum();
        let step = 4e-3_f32;
        let loss = |by: f32| {
            let value = &session.parameters()[number].value;
            let move_by = |by: f32| {
                host::change(value, |value| {
                    for (value, direction) in value.iter_mut().zip(&direction) {
                        *value += direction * by;
                    }
                })
                .unwrap();
            };
            move_by(by);
            let loss = session.eval_step(&owned.batch()).unwrap().loss;
            move_by(-by);
            loss
        };
        let wanted = (loss(step) - loss(-step)) / (2.0 * f64::from(step));
        let error = (found - wanted).abs() / wanted.abs().max(0.05);
        assert!(
            error < 0.02,
            "{family:?}: {name}: {found}, and differences say {wanted}"
        );
    }
}

#[test]
fn gradients_of_all_weights_are_what_differences_say() {
    for family in DECODERS {
        check_along_directions(family, &spec());
    }
}

#[test]
fn gradients_of_adapters_are_what_differences_say() {
    for base in [Format::F32, Format::Nf4] {
        let spec = Spec {
            base,
            ..lora(&["all-linear"])
        };
        check_along_directions(Family::Qwen2, &spec);
        check_along_directions(Family::Gemma3, &spec);
    }
}

#[test]
fn targets_that_are_ignored_add_nothing() {
    let bundle = bundle(Family::Llama);
    let mut session = load(bundle.path(), &spec());
    let mut owned = Owned::drawn(0, 2, 12);
    owned.targets.fill(-1);
    let statistics = session.forward_backward(&owned.batch()).unwrap();
    assert_eq!(statistics, Statistics::default());
    assert!(
        gradients(&mut session)
            .iter()
            .all(|(_, gradient)| gradient.iter().all(|&x| x == 0.0))
    );
    owned.targets[5] = 7;
    assert_eq!(session.eval_step(&owned.batch()).unwrap().targets, 1);
}

#[test]
fn segments_do_not_see_each_other() {
    for family in DECODERS {
        let bundle = bundle(family);
        let mut session = load(bundle.path(), &spec());
        let mut owned = Owned::drawn(0, 1, 12);
        // Targets in the second segment alone.
        for column in 0..12 {
            owned.segments[column] = u32::from(column >= 5);
            owned.targets[column] = if column >= 5 { 3 } else { -1 };
        }
        let together = session.forward_backward(&owned.batch()).unwrap();
        owned.tokens[2] = (owned.tokens[2] + 1) % tiny::VOCABULARY as u32;
        assert_eq!(
            session.eval_step(&owned.batch()).unwrap().loss,
            together.loss,
            "{family:?}"
        );
        let alone = Batch {
            columns: 7,
            tokens: &owned.tokens[5..],
            targets: &owned.targets[5..],
            segments: &owned.segments[5..],
            ..owned.batch()
        };
        let alone = session.eval_step(&alone).unwrap();
        let difference = (alone.loss / together.loss - 1.0).abs();
        assert!(difference < 1e-5, "{family:?}: {alone:?} and {together:?}");
    }
}

#[test]
fn two_batches_add_up_to_the_one_of_both() {
    let bundle = bundle(Family::Qwen3);
    let mut session = load(bundle.path(), &spec());
    let whole = Owned::drawn(0, 4, 12);
    session.forward_backward(&whole.batch()).unwrap();
    let wanted = gradients(&mut session);
    session.forget_gradients();
    for half in [0..24, 24..48] {
        let part = Batch {
            rows: 2,
            tokens: &whole.tokens[half.clone()],
            targets: &whole.targets[half.clone()],
            segments: &whole.segments[half],
            ..whole.batch()
        };
        session.forward_backward(&part).unwrap();
    }
    for ((name, found), (_, wanted)) in gradients(&mut session).iter().zip(&wanted) {
        let most = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(
                (found - wanted).abs() < 1e-5 * most.max(1.0),
                "{name}: {found} and {wanted}"
            );
        }
    }
}

#[test]
fn what_a_visitor_makes_of_a_gradient_is_applied() {
    let bundle = bundle(Family::Llama);
    let mut session = load(bundle.path(), &lora(&["q_proj"]));
    session
        .forward_backward(&Owned::drawn(0, 2, 12).batch())
        .unwrap();
    let mut visit = |_: &str, _: &[usize], floats: &mut [f32]| {
        floats.fill(0.5);
        Ok(())
    };
    session.gradients(&mut visit).unwrap();
    let elements: usize = session
        .trainable()
        .iter()
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum();
    let applied = session.apply(&update(1, 1)).unwrap();
    assert!((applied.gradient_norm - 0.5 * (elements as f64).sqrt()).abs() < 1e-6);
}
