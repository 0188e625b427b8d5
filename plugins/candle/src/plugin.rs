//! The plugin: one instance trains a model, or serves one.

use vox_plugin::inference_backend as inference;
use vox_plugin::ml_backend as training;
use vox_plugin::{InferenceBackend, MlBackend, Result};

use crate::infer::Serving;
use crate::train::Training;

/// What the host makes instances of.
#[vox_plugin::plugin(ml_backend, inference_backend)]
#[derive(Default)]
pub struct Candle {
    training: Training,
    serving: Serving,
}

/// Serves an extension point by a field.
macro_rules! serve {
    ($point:ident by $field:ident { $(fn $name:ident($($argument:ident: $type:ty),*) -> $value:ty;)* }) => {
        impl $point for Candle {
            $(fn $name(&mut self, $($argument: $type),*) -> Result<$value> {
                self.$field.$name($($argument),*)
            })*
        }
    };
}

serve!(MlBackend by training {
    fn devices() -> Vec<vox_plugin::compute::Device>;
    fn estimate(bundle: &str, spec: training::Spec, rows: u32, columns: u32) -> training::Memory;
    fn encode(bundle: &str, text: &str, special: bool) -> Vec<u32>;
    fn load(bundle: &str, spec: training::Spec) -> training::Model;
    fn trainable() -> Vec<training::Tensor>;
    fn forward_backward(batch: training::Batch, tokens: &[u32], targets: &[i32], segments: &[u32]) -> training::Statistics;
    fn gradients() -> ();
    fn apply(update: training::Update) -> training::Applied;
    fn train_step(batch: training::Batch, tokens: &[u32], targets: &[i32], segments: &[u32], update: training::Update) -> training::Stepped;
    fn eval_step(batch: training::Batch, tokens: &[u32], targets: &[i32], segments: &[u32]) -> training::Statistics;
    fn save_checkpoint(directory: &str) -> Vec<String>;
    fn restore_checkpoint(directory: &str) -> ();
    fn merge(directory: &str) -> Vec<String>;
    fn memory_report() -> training::Memory;
    fn unload() -> ();
});

serve!(InferenceBackend by serving {
    fn capabilities() -> inference::Abilities;
    fn can_serve(model: inference::Model, options: inference::Options) -> inference::Verdict;
    fn load(model: inference::Model, options: inference::Options) -> inference::Loaded;
    fn ready() -> ();
    fn predict(request: inference::Request) -> inference::Finished;
    fn embed(texts: Vec<String>) -> inference::Embedded;
    fn forward_layers(first: u32, end: u32, position: u32, tokens: &[u32], hidden: &[f32]) -> Vec<f32>;
    fn unload() -> ();
});
