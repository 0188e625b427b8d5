//! Gradients over the boundary: where a reduction over several nodes is going to stand.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use vox_host::contract::compute::WeightFormat;
use vox_host::contract::ml_backend::{AdamW, Batch, Beginning, Spec, Update};
use vox_host::contract::{Error, ml_backend::Tensor};
use vox_host::{CancelToken, Reduction};
use vox_ml::backend::{Rows, Training};
use vox_ml::scratch::{BpeTrainer, Dimensions, write_model};
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

/// The norm of the gradients of one batch after they were handed out and multiplied, what was handed out, and what
/// is trained; by a plugin, of the model that is written into a directory.
fn norm_after(plugin: &str, write: fn(&Path), factor: f32) -> (f64, Vec<Tensor>, Vec<Tensor>) {
    let world = World::with(&[plugin]);
    let host = world.host("");
    let bundle = world.path().join("bundle");
    write(&bundle);
    let scaling = Arc::new(Scaling {
        factor,
        seen: Mutex::default(),
    });
    let reduction = Arc::clone(&scaling) as Arc<dyn Reduction>;
    let id = plugin.parse().unwrap();
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

fn write_llama(bundle: &Path) {
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
    write_model(bundle, &dimensions, &BpeTrainer::default().train(257)).unwrap();
}

fn write_bigram(bundle: &Path) {
    let config = r#"{"architectures": ["BigramForCausalLM"], "vocab_size": 8, "max_position_embeddings": 4}"#;
    fs::create_dir(bundle).unwrap();
    fs::write(bundle.join("config.json"), config).unwrap();
}

#[test]
fn gradients_are_handed_out_in_order_and_are_what_they_were_changed_to() {
    let (norm, seen, trainable) = norm_after("candle-cpu", write_llama, 1.0);
    assert!(norm > 0.0);
    assert_eq!(seen, trainable);
    let (doubled, ..) = norm_after("candle-cpu", write_llama, 2.0);
    assert!((doubled / norm - 2.0).abs() < 1e-6, "{doubled} of {norm}");
    assert_eq!(norm_after("candle-cpu", write_llama, 0.0).0, 0.0);
}

/// The plugin `bigram` is the example of how to write a backend of one's own.
#[test]
fn the_example_hands_its_gradients_out_in_order_and_takes_them_as_they_come_back() {
    let (norm, seen, trainable) = norm_after("bigram", write_bigram, 1.0);
    assert!(norm > 0.0);
    let names: Vec<_> = seen.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["bigram.weight", "bigram.bias"]);
    assert_eq!(seen, trainable);
    let (doubled, ..) = norm_after("bigram", write_bigram, 2.0);
    assert!((doubled / norm - 2.0).abs() < 1e-6, "{doubled} of {norm}");
}
