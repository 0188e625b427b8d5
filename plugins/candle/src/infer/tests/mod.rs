//! Models of every family: what they compute, and what sessions make of it.

mod decoders;
mod embeddings;
mod hostile;
mod llama_cpp;
mod reference;
mod sessions;
mod smollm2;

use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::architecture::{DecoderArchitecture, Family};
use crate::tiny;
use crate::weights::Weights;

/// The families that generate text.
const DECODERS: [Family; 5] = [
    Family::Llama,
    Family::Mistral,
    Family::Qwen2,
    Family::Qwen3,
    Family::Gemma3,
];

/// A bundle with a configuration, and its engine on the processor.
fn engine_of(config: &Value, format: Option<WeightFormat>) -> (TempDir, Arc<CandleEngine>) {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), config);
    let engine = load(directory.path(), format);
    (directory, engine)
}

fn load(directory: &std::path::Path, format: Option<WeightFormat>) -> Arc<CandleEngine> {
    let architecture = crate::architecture::Architecture::read(directory).unwrap();
    let weights = Weights::open(directory).unwrap();
    weights.check(&architecture).unwrap();
    let device = open_device(Some("cpu")).unwrap();
    let decoder: &DecoderArchitecture = architecture.decoder().unwrap();
    Arc::new(CandleEngine::load(decoder, &weights, device, format).unwrap())
}

/// Tokens of a text without sense, with no end among them.
fn tokens(count: usize) -> Vec<u32> {
    let random = crate::random::Random::new(3, 0);
    let token = |at| (random.uniform(at) * f64::from(tiny::END - 1)) as u32;
    (0..count as u64).map(token).collect()
}

/// The logits of all places, computed at once.
fn whole(engine: &Arc<CandleEngine>, tokens: &[u32]) -> Vec<Vec<f32>> {
    let architecture = engine.architecture();
    let (layers, vocabulary) = (architecture.layers, architecture.vocabulary);
    let mut out = Vec::new();
    let mut decoder = Arc::clone(engine).decoder(architecture.context);
    decoder
        .forward_layers(0..layers, Input::Tokens(tokens), 0, &mut out)
        .unwrap();
    out.chunks(vocabulary).map(<[f32]>::to_vec).collect()
}

fn assert_close(found: &[f32], wanted: &[f32], bound: f32, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let differences = found.iter().zip(wanted).map(|(a, b)| (a - b).abs());
    let most = differences.fold(0.0, |most: f32, difference| {
        if difference.is_nan() {
            f32::INFINITY
        } else {
            most.max(difference)
        }
    });
    assert!(most <= bound, "{what}: {most} over {bound}");
}
