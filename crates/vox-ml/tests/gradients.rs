//! Gradients over the boundary: where a reduction over several nodes is going to stand.

use std::sync::{Arc, Mutex};

use vox_host::contract::compute::WeightFormat;
use vox_host::contract::ml_backend::{AdamW, Batch, Beginning, Spec, Update};
use vox_host::contract::{Error, ml_backend::Tensor};
use vox_host::{CancelToken, Reduction};
use vox_ml::backend::{Rows, Training};
use vox_ml::scratch::{BpeTrainer, Dimensions, write_model};
use vox_testkit::World;

/// A gradient that was handed out: its tensor, the tensor's shape, and how many numbers there were.
type Seen = (String, Vec<u64>, usize);

/// Multiplies gradients, and notes which came.
struct Scaling {
    factor: f32,
    seen: Mutex<Vec<Seen>>,
}

impl Reduction for Scaling {
    fn exchange(&self, name: &str, shape: &[u64], gradient: &mut [f32]) -> Result<(), Error> {
        let mut seen = self.seen.lock().unwrap();
        seen.push((name.to_owned(), shape.to_vec(), gradient.len()));
        for value in gradient {
            *value *= self.factor;
        }
        Ok(())
    }
}

/// The norm of the gradients of one batch after they were handed out and multiplied, what was handed out,
/// and what is trained.
fn norm_after(factor: f32) -> (f64, Vec<Seen>, Vec<Tensor>) {
    let world = World::with(&["candle-cpu"]);
    let host = world.host("");
    let bundle = world.path().join("bundle");
    let dimensions = Dimensions {
        layers: 1,
        hidden: 32,
        heads: 2,
        kv_heads: 1,
        intermediate: 64,
        context: 16,
        rope_theta: 10_000.0,
        tie_embeddings: true,
    };
    write_model(&bundle, &dimensions, &BpeTrainer::default().train(257)).unwrap();
    let scaling = Arc::new(Scaling {
        factor,
        seen: Mutex::default(),
    });
    let reduction = Arc::clone(&scaling) as Arc<dyn Reduction>;
    let id = "candle-cpu".parse().unwrap();
    let mut training = Training::start(&host, &id, Some(reduction), CancelToken::new()).unwrap();
    let spec = Spec {
        device: "cpu".to_owned(),
        threads: 1,
        beginning: Beginning::Random,
        base: WeightFormat::F32,
        adapter: None,
        optimizer: AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        },
        gradient_checkpointing: false,
        seed: 3,
        rank: 0,
    };
    training.load(&bundle, &spec).unwrap();
    let rows = Rows {
        batch: Batch {
            position: 0,
            rows: 1,
            columns: 4,
        },
        tokens: &[1, 2, 3, 4],
        targets: &[2, 3, 4, 5],
        segments: &[1; 4],
    };
    training.forward_backward(rows).unwrap();
    training.gradients().unwrap();
    let applied = training.apply(Update {
        step: 1,
        learning_rate: 1e-3,
        scale: 1.0,
        clip: None,
    });
    let seen = std::mem::take(&mut *scaling.seen.lock().unwrap());
    (
        applied.unwrap().gradient_norm,
        seen,
        training.trainable().unwrap(),
    )
}

#[test]
fn gradients_are_handed_out_in_order_and_are_what_they_were_changed_to() {
    let (norm, seen, trainable) = norm_after(1.0);
    assert!(norm > 0.0);
    assert_eq!(seen.len(), trainable.len());
    for ((name, shape, count), tensor) in seen.iter().zip(&trainable) {
        assert_eq!((name, shape), (&tensor.name, &tensor.shape));
        assert_eq!(*count as u64, shape.iter().product::<u64>());
    }
    let (doubled, _, _) = norm_after(2.0);
    assert!((doubled / norm - 2.0).abs() < 1e-6, "{doubled} of {norm}");
    assert_eq!(norm_after(0.0).0, 0.0);
}
