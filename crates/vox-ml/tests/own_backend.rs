//! A backend of one's own over the boundary: the plugin `bigram`, which is the example of how to write one.

use std::fs;
use std::sync::{Arc, Mutex};

use vox_host::contract::compute::WeightFormat;
use vox_host::contract::ml_backend::{AdamW, Batch, Beginning, Spec, Update};
use vox_host::contract::{Error, ml_backend::Tensor};
use vox_host::{CancelToken, Reduction};
use vox_ml::backend::{Rows, Training};
use vox_testkit::World;

/// Multiplies gradients, and notes which tensors they are of.
struct Scaling {
    factor: f32,
    seen: Mutex<Vec<Tensor>>,
}

impl Reduction for Scaling {
    fn exchange(&self, name: &str, shape: &[u64], gradient: &mut [f32]) -> Result<(), Error> {
        assert_eq!(gradient.len() as u64, shape.iter().product::<u64>());
        let tensor = Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
        };
        self.seen.lock().unwrap().push(tensor);
        gradient
            .iter_mut()
            .for_each(|number| *number *= self.factor);
        Ok(())
    }
}

fn spec() -> Spec {
    Spec {
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
    }
}

/// The norm of the gradients of one batch after they were handed out and multiplied, what was handed out, and what
/// is trained.
fn norm_after(factor: f32) -> (f64, Vec<Tensor>, Vec<Tensor>) {
    let world = World::with(&["bigram"]);
    let host = world.host("");
    let bundle = world.path().join("bundle");
    let config = r#"{"architectures": ["BigramForCausalLM"], "vocab_size": 8, "max_position_embeddings": 4}"#;
    fs::create_dir(&bundle).unwrap();
    fs::write(bundle.join("config.json"), config).unwrap();
    let scaling = Arc::new(Scaling {
        factor,
        seen: Mutex::default(),
    });
    let reduction = Arc::clone(&scaling) as Arc<dyn Reduction>;
    let id = "bigram".parse().unwrap();
    let mut training = Training::start(&host, &id, Some(reduction), CancelToken::new()).unwrap();
    training.load(&bundle, &spec()).unwrap();
    let rows = Rows {
        batch: Batch {
            position: 0,
            rows: 1,
            columns: 4,
        },
        tokens: &[1, 2, 3, 4],
        targets: &[2, 3, 4, -1],
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
    let norm = applied.unwrap().gradient_norm;
    (norm, seen, training.trainable().unwrap())
}

#[test]
fn the_example_hands_its_gradients_out_in_order_and_takes_them_as_they_come_back() {
    let (norm, seen, trainable) = norm_after(1.0);
    assert!(norm > 0.0);
    let names: Vec<_> = seen.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["bigram.weight", "bigram.bias"]);
    assert_eq!(seen, trainable);
    let (doubled, ..) = norm_after(2.0);
    assert!((doubled / norm - 2.0).abs() < 1e-6, "{doubled} of {norm}");
}
