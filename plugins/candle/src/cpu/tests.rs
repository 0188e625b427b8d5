use std::fs;
use std::num::NonZeroUsize;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use vox_model::TensorSource as _;
use vox_model::formats::safetensors::{SafeTensors, WritePlan};
use vox_model::quantise::Quantised;
use vox_quant::Mix;

use super::*;
use crate::architecture::{Architecture, Family};
use crate::infer::{CandleEngine, Decoder, Engine, Input, WeightFormat, open_device};
use crate::kernels::attention::CacheFormat;
use crate::kernels::simd::tests::levels;
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

/// A bundle of a family.
fn bundle(config: &Value) -> TempDir {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), config);
    directory
}

fn load(directory: &TempDir, format: Option<WeightFormat>, threads: usize) -> Arc<CpuEngine> {
    let architecture = Architecture::read(directory.path()).unwrap();
    let weights = Weights::open(directory.path()).unwrap();
    let (info, _) = open_device(Some("cpu")).unwrap();
    let decoder = architecture.decoder().unwrap();
    Arc::new(CpuEngine::load(decoder, &weights, info, format, threads).unwrap())
}

/// The same bundle, computed by Candle.
fn candle(directory: &TempDir, format: Option<WeightFormat>) -> Arc<CandleEngine> {
    let architecture = Architecture::read(directory.path()).unwrap();
    let weights = Weights::open(directory.path()).unwrap();
    let device = open_device(Some("cpu")).unwrap();
    let decoder = architecture.decoder().unwrap();
    Arc::new(CandleEngine::load(decoder, &weights, device, format).unwrap())
}

fn tokens(count: usize) -> Vec<u32> {
    let random = crate::random::Random::new(3, 0);
    (0..count as u64)
        .map(|at| (random.uniform(at) * 250.0) as u32)
        .collect()
}

/// The logits of all places.
fn whole(decoder: &mut dyn Decoder, tokens: &[u32]) -> Vec<f32> {
    let mut out = Vec::new();
    decoder
        .forward_layers(0..3, Input::Tokens(tokens), 0, &mut out)
        .unwrap();
    out
}

/// The size of a difference over that of what is wanted.
fn difference(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let square = |x: f32| f64::from(x) * f64::from(x);
    let missed: f64 = found.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
    (missed / wanted.iter().map(|&x| square(x)).sum::<f64>()).sqrt()
}

#[test]
fn every_family_computes_what_candle_computes() {
    let tokens = tokens(50);
    for family in DECODERS {
        let directory = bundle(&tiny::config(family));
        let wanted = whole(&mut *candle(&directory, None).decoder(128), &tokens);
        let engine = load(&directory, None, 2);
        assert_eq!(engine.format(), "f32");
        let found = whole(&mut *engine.decoder(128), &tokens);
        let difference = difference(&found, &wanted);
        assert!(difference < 1e-5, "{family:?}: {difference}");
    }
}

#[test]
fn shorter_weights_compute_nearly_what_plain_ones_do() {
    // Random weights enlarge differences from layer to layer, more than learned ones.
    let formats = [
        (WeightFormat::BF16, 0.1),
        (WeightFormat::F16, 0.03),
        (WeightFormat::Q8_0, 0.25),
    ];
    let tokens = tokens(40);
    for family in DECODERS {
        let mut config = tiny::config(family);
        config["hidden_size"] = 256.into();
        config["intermediate_size"] = 256.into();
        config["head_dim"] = 64.into();
        let directory = bundle(&config);
        let wanted = whole(&mut *load(&directory, None, 2).decoder(64), &tokens);
        for (format, allowed) in formats {
            let engine = load(&directory, Some(format), 2);
            let found = whole(&mut *engine.decoder(64), &tokens);
            let difference = difference(&found, &wanted);
            assert!(difference < allowed, "{family:?} in {format}: {difference}");
        }
    }
}

/// A bundle of the same model whose weights went through what `vox model import --quant` does with them.
fn quantised(bundle: &TempDir, mix: Mix) -> TempDir {
    let directory = TempDir::new().unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(bundle.path().join(name), directory.path().join(name)).unwrap();
    }
    let source = SafeTensors::open(&bundle.path().join("model.safetensors")).unwrap();
    let quantised = Quantised::new(&source, mix);
    let plan = WritePlan::new(quantised.tensors(), &quantised.notes().collect()).unwrap();
    let mut file = fs::File::create(directory.path().join("model.safetensors")).unwrap();
    plan.write(&quantised, &mut file, &mut |_| {}).unwrap();
    directory
}

#[test]
fn what_was_quantised_at_import_computes_what_is_quantised_at_load() {
    let tokens = tokens(20);
    for family in DECODERS {
        // Rows of whole large blocks, and rows that have small ones in their place.
        for hidden in [256, 96] {
            let mut config = tiny::config(family);
            config["hidden_size"] = hidden.into();
            config["intermediate_size"] = 256.into();
            config["head_dim"] = 64.into();
            let plain = bundle(&config);
            for (mix, format) in [
                (Mix::Q8_0, WeightFormat::Q8_0),
                (Mix::Q4_0, WeightFormat::Q4_0),
                (Mix::Q4KM, WeightFormat::Q4KM),
            ] {
                let directory = quantised(&plain, mix);
                let wanted = whole(&mut *load(&plain, Some(format), 2).decoder(64), &tokens);
                let found = whole(&mut *load(&directory, None, 2).decoder(64), &tokens);
                assert!(found == wanted, "{family:?} of {hidden} in {mix}");
            }
        }
    }
}

#[test]
fn places_threads_and_instructions_change_no_bit() {
    let levels = levels();
    let tokens = tokens(60);
    for (family, format) in [
        (Family::Llama, None),
        (Family::Mistral, Some(WeightFormat::Q8_0)),
        (Family::Qwen3, Some(WeightFormat::Q4_0)),
        (Family::Gemma3, Some(WeightFormat::Q8_0)),
        (Family::Qwen2, Some(WeightFormat::BF16)),
    ] {
        let directory = bundle(&tiny::config(family));
        let engine = load(&directory, format, 1);
        let wanted = whole(&mut *Arc::clone(&engine).decoder(128), &tokens);
        let vocabulary = wanted.len() / tokens.len();
        for &level in &levels {
            for (threads, part) in [(1, 1), (3, 60), (2, 7)] {
                let options = Options {
                    context: 128,
                    reserved: 16,
                    threads: NonZeroUsize::new(threads).unwrap(),
                    cache: engine.cache(),
                    level,
                };
                let mut sequence = Sequence::new(Arc::clone(&engine.model), options);
                let mut logits = Vec::new();
                let mut position = 0;
                for part in tokens.chunks(part) {
                    sequence.forward(part, position, &mut logits).unwrap();
                    position += part.len();
                    let wanted = &wanted[(position - 1) * vocabulary..position * vocabulary];
                    assert_eq!(logits, wanted, "{family:?} {threads} {}", level.name());
                }
            }
        }
    }
}

#[test]
fn layers_apart_and_states_are_those_of_the_whole() {
    let tokens = tokens(20);
    for family in DECODERS {
        let directory = bundle(&tiny::config(family));
        let engine = load(&directory, None, 2);
        let wanted = whole(&mut *Arc::clone(&engine).decoder(64), &tokens);
        let (mut hidden, mut logits) = (Vec::new(), Vec::new());
        let mut first = Arc::clone(&engine).decoder(64);
        let mut second = Arc::clone(&engine).decoder(64);
        first
            .forward_layers(0..1, Input::Tokens(&tokens), 0, &mut hidden)
            .unwrap();
        second
            .forward_layers(1..3, Input::Hidden(&hidden), 0, &mut logits)
            .unwrap();
        assert_eq!(logits, wanted, "{family:?}");
        let (mut states, mut by_candle) = (Vec::new(), Vec::new());
        first.states(&tokens, 0, &mut states).unwrap();
        candle(&directory, None)
            .decoder(64)
            .states(&tokens, 0, &mut by_candle)
            .unwrap();
        assert!(difference(&states, &by_candle) < 1e-5, "{family:?}");
    }
}

#[test]
fn places_that_were_forgotten_are_computed_anew() {
    let directory = bundle(&tiny::config(Family::Mistral));
    let tokens = tokens(40);
    let engine = load(&directory, None, 2);
    let mut decoder = Arc::clone(&engine).decoder(64);
    let (mut wanted, mut logits) = (Vec::new(), Vec::new());
    decoder.forward(&tokens, 0, &mut wanted).unwrap();
    decoder.truncate(10);
    assert_eq!(decoder.len(), 10);
    decoder.forward(&[1, 2, 3], 10, &mut logits).unwrap();
    assert_ne!(logits, wanted);
    decoder.forward(&tokens[8..], 8, &mut logits).unwrap();
    assert_eq!((logits, decoder.len()), (wanted, 40));
}

#[test]
fn impossible_requests_are_refused() {
    let directory = bundle(&tiny::config(Family::Llama));
    let mut decoder = load(&directory, None, 1).decoder(8);
    let mut logits = Vec::new();
    let mut message = |tokens: &[u32], position| {
        decoder
            .forward(tokens, position, &mut logits)
            .unwrap_err()
            .to_string()
    };
    assert!(message(&[], 0).contains("there are none"));
    assert!(message(&[1], 1).contains("only 0 places are known before it"));
    assert!(message(&[1; 9], 0).contains("beyond the context of 8"));
    assert!(message(&[288], 0).contains("token 288 is none of the 288 that are embedded"));
}

#[test]
fn an_activation_that_is_not_built_in_is_refused() {
    let mut config = tiny::config(Family::Llama);
    config["hidden_act"] = "gelu".into();
    let directory = bundle(&config);
    let architecture = Architecture::read(directory.path()).unwrap();
    let weights = Weights::open(directory.path()).unwrap();
    let decoder = architecture.decoder().unwrap();
    assert!(!CpuEngine::serves(decoder));
    let (info, _) = open_device(Some("cpu")).unwrap();
    let error = CpuEngine::load(decoder, &weights, info, None, 1).unwrap_err();
    assert!(error.to_string().contains("`hidden_act`"), "{error}");
}

#[test]
fn keys_and_values_are_held_as_exactly_as_weights() {
    let directory = bundle(&tiny::config(Family::Llama));
    assert_eq!(load(&directory, None, 1).cache(), CacheFormat::F32);
    assert_eq!(
        load(&directory, Some(WeightFormat::Q8_0), 1).cache(),
        CacheFormat::F16
    );
}
