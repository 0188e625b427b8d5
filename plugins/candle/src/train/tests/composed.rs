//! The way of devices, on the processor: the same trainings but for rounding.
//!
//! What only a GPU can show, its kernels, `cargo xtask gpu-suite` looks at.

use super::*;
use crate::ops::frozen::Format;
use crate::ops::host::composing;

/// How far a loss may be from that of the other way, as a part of it.
const LOSS: f64 = 1e-4;

/// How far a gradient may be, as a part of the greatest of its tensor.
const GRADIENT: f32 = 5e-4;

fn specs() -> Vec<Spec> {
    let mut dropped = lora(&["all-linear"]);
    if let Some(adapter) = &mut dropped.adapter {
        adapter.dropout = 0.2;
    }
    let held = |base| Spec {
        base,
        ..dropped.clone()
    };
    let formats = [
        Format::Bf16,
        Format::F16,
        Format::Q8_0,
        Format::Q4_0,
        Format::Nf4,
    ];
    let mut specs = vec![
        spec(),
        Spec {
            gradient_checkpointing: true,
            ..spec()
        },
        dropped.clone(),
    ];
    specs.extend(formats.map(held));
    specs
}

/// The losses of some steps, then the gradients of a batch at a checkpoint: small differences of weights become great
/// ones of gradients, which is nothing of an operation's. Where there is no checkpoint yet, one is made.
fn run(bundle: &Path, spec: &Spec, checkpoint: &Path) -> (Vec<f64>, Vec<(String, Vec<f32>)>) {
    let mut session = load(bundle, spec);
    let losses = steps(&mut session, 1, 4);
    let losses = losses.into_iter().map(|(loss, _)| f64::from_bits(loss));
    let losses = losses.collect();
    if checkpoint.exists() {
        session.restore_checkpoint(checkpoint).unwrap();
    } else {
        session.save_checkpoint(checkpoint).unwrap();
    }
    let batch = Owned::drawn(4, 2, 12);
    session.forward_backward(&batch.batch()).unwrap();
    (losses, gradients(&mut session))
}

#[test]
fn composed_operations_give_the_losses_and_gradients_of_those_over_slices() {
    for family in DECODERS {
        let bundle = bundle(family);
        for (at, spec) in specs().into_iter().enumerate() {
            let checkpoint = bundle.path().join(format!("checkpoint-{at}"));
            let (wanted_losses, wanted) = run(bundle.path(), &spec, &checkpoint);
            let (losses, found) = composing::with(|| run(bundle.path(), &spec, &checkpoint));
            let what = format!("{family:?} with {:?}", spec.base);
            for (loss, wanted) in losses.iter().zip(&wanted_losses) {
                let difference = (loss - wanted).abs();
                assert!(
                    difference <= LOSS * wanted,
                    "{what}: {loss} instead of {wanted}"
                );
            }
            assert_eq!(found.len(), wanted.len());
            for ((name, found), (of, wanted)) in found.iter().zip(&wanted) {
                assert_eq!(name, of);
                let most = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                for (x, wanted) in found.iter().zip(wanted) {
                    assert!(
                        (x - wanted).abs() <= GRADIENT * most,
                        "{what}, {name}: {x} instead of {wanted}, where the greatest is {most}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_composed_training_goes_on_from_its_checkpoint() {
    for spec in specs() {
        let bundle = bundle(Family::Llama);
        let saved = bundle.path().join("checkpoint");
        composing::with(|| {
            let mut session = load(bundle.path(), &spec);
            steps(&mut session, 1, 3);
            session.save_checkpoint(&saved).unwrap();
            let wanted = steps(&mut session, 3, 5);
            let mut other = load(bundle.path(), &spec);
            other.restore_checkpoint(&saved).unwrap();
            assert_eq!(steps(&mut other, 3, 5), wanted, "{:?}", spec.base);
        });
    }
}

#[test]
fn what_a_device_holds_goes_on_from_the_checkpoint_of_the_processor() {
    let bundle = bundle(Family::Qwen3);
    let saved = bundle.path().join("checkpoint");
    let mut session = load(bundle.path(), &spec());
    steps(&mut session, 1, 3);
    session.save_checkpoint(&saved).unwrap();
    let wanted = steps(&mut session, 3, 5);
    let found = composing::with(|| {
        let mut other = load(bundle.path(), &spec());
        other.restore_checkpoint(&saved).unwrap();
        steps(&mut other, 3, 5)
    });
    for ((loss, norm), (wanted_loss, wanted_norm)) in found.into_iter().zip(wanted) {
        let pairs = [(loss, wanted_loss), (norm, wanted_norm)];
        for (found, wanted) in pairs.map(|(a, b)| (f64::from_bits(a), f64::from_bits(b))) {
            assert!(
                (found - wanted).abs() <= 1e-3 * wanted,
                "{found} instead of {wanted}"
            );
        }
    }
}
