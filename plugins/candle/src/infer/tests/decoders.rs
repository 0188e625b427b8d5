//! The same numbers, however the places of a sequence are computed.

use std::collections::HashMap;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use super::*;
use crate::weights::Element;

const CLOSE: f32 = 1e-4;

#[test]
fn places_one_by_one_are_those_computed_at_once() {
    for family in DECODERS {
        let (_directory, engine) = engine_of(&tiny::config(family), None);
        let tokens = tokens(24);
        let wanted = whole(&engine, &tokens);
        let mut decoder = engine.decoder(128);
        let mut logits = Vec::new();
        for (position, &token) in tokens.iter().enumerate() {
            decoder.forward(&[token], position, &mut logits).unwrap();
            let what = format!("{family:?}, place {position}");
            assert_close(&logits, &wanted[position], CLOSE, &what);
        }
        assert_eq!(decoder.len(), 24);
    }
}

#[test]
fn a_prompt_in_parts_is_the_prompt_as_a_whole() {
    for family in DECODERS {
        let (_directory, engine) = engine_of(&tiny::config(family), None);
        let tokens = tokens(40);
        let wanted = whole(&engine, &tokens);
        let mut decoder = engine.decoder(128);
        let mut logits = Vec::new();
        let mut position = 0;
        for part in [3, 1, 17, 2, 11, 6] {
            let end = position + part;
            decoder
                .forward(&tokens[position..end], position, &mut logits)
                .unwrap();
            let what = format!("{family:?}, places {position} to {end}");
            assert_close(&logits, &wanted[end - 1], CLOSE, &what);
            position = end;
        }
    }
}

#[test]
fn what_was_beyond_a_position_is_forgotten() {
    for family in DECODERS {
        let (_directory, engine) = engine_of(&tiny::config(family), None);
        let tokens = tokens(30);
        let mut decoder = Arc::clone(&engine).decoder(128);
        let mut logits = Vec::new();
        decoder.forward(&tokens[..20], 0, &mut logits).unwrap();
        let other = [&tokens[..8], &tokens[20..]].concat();
        decoder.forward(&tokens[20..], 8, &mut logits).unwrap();
        assert_eq!(decoder.len(), 18);
        let wanted = whole(&engine, &other);
        assert_close(&logits, &wanted[17], CLOSE, &format!("{family:?}"));
    }
}

#[test]
fn a_sequence_outgrows_its_first_room() {
    let mut config = tiny::config(Family::Qwen3);
    config["max_position_embeddings"] = 1024.into();
    let (_directory, engine) = engine_of(&config, None);
    let tokens = tokens(600);
    let wanted = whole(&engine, &tokens);
    let mut decoder = engine.decoder(1024);
    let mut logits = Vec::new();
    for (part, tokens) in tokens.chunks(100).enumerate() {
        let before = decoder.bytes();
        decoder.forward(tokens, part * 100, &mut logits).unwrap();
        assert!(decoder.bytes() >= before);
        assert_close(&logits, &wanted[part * 100 + 99], CLOSE, "after growing");
    }
}

#[test]
fn a_query_sees_the_tokens_of_its_window_and_no_others() {
    let mut config = tiny::config(Family::Mistral);
    config["num_hidden_layers"] = 1.into();
    let (_directory, engine) = engine_of(&config, None);
    let tokens = tokens(20);
    let last = whole(&engine, &tokens)[19].clone();
    let with_other = |at: usize| {
        let mut others = tokens.clone();
        others[at] = (others[at] + 1) % 200;
        whole(&engine, &others)[19].clone()
    };
    // Of a window of 7, the first is 6 before the query.
    assert_close(&with_other(12), &last, 1e-6, "before the window");
    let difference: f32 = with_other(13)
        .iter()
        .zip(&last)
        .map(|(a, b)| (a - b).abs())
        .sum();
    assert!(difference > 1e-3, "{difference}");
}

#[test]
fn layers_apart_are_the_layers_together() {
    for family in DECODERS {
        let (_directory, engine) = engine_of(&tiny::config(family), None);
        let tokens = tokens(12);
        let wanted = whole(&engine, &tokens);
        let mut first = Arc::clone(&engine).decoder(128);
        let mut second = Arc::clone(&engine).decoder(128);
        let (mut hidden, mut logits) = (Vec::new(), Vec::new());
        for (start, end) in [(0, 5), (5, 6), (6, 12)] {
            let input = Input::Tokens(&tokens[start..end]);
            first
                .forward_layers(0..1, input, start, &mut hidden)
                .unwrap();
            assert_eq!(hidden.len(), (end - start) * 32);
            second
                .forward_layers(1..3, Input::Hidden(&hidden), start, &mut logits)
                .unwrap();
            let what = format!("{family:?}, places {start} to {end}");
            assert_close(&logits, &wanted[start..end].concat(), CLOSE, &what);
        }
    }
}

#[test]
fn places_that_there_cannot_be_are_refused() {
    let (_directory, engine) = engine_of(&tiny::config(Family::Llama), None);
    let mut decoder = engine.decoder(16);
    let mut out = Vec::new();
    let mut refusal = |tokens: &[u32], position| {
        decoder
            .forward(tokens, position, &mut out)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refusal(&[], 0), "`tokens`: there are none");
    assert!(refusal(&[1], 3).contains("it is 3, and only 0 places are known"));
    assert!(refusal(&[1; 17], 0).contains("beyond the context of 16"));
    assert!(refusal(&[288], 0).contains("token 288 is none of the 288"));
    let mut refusal = |layers, input| {
        decoder
            .forward_layers(layers, input, 0, &mut out)
            .unwrap_err()
            .to_string()
    };
    assert!(
        refusal(0..4, Input::Tokens(&[1])).contains("0..4 are no layers of a model that has 3")
    );
    assert!(refusal(1..2, Input::Tokens(&[1])).contains("layer 0 reads tokens"));
    assert!(refusal(0..2, Input::Hidden(&[1.0; 32])).contains("layer 0 reads tokens"));
    assert!(refusal(1..2, Input::Hidden(&[1.0; 31])).contains("31 numbers are no states of 32"));
}

#[test]
fn weights_in_fewer_bits_compute_nearly_the_same() {
    for family in DECODERS {
        let (directory, engine) = engine_of(&tiny::config(family), None);
        let tokens = tokens(10);
        let wanted = whole(&engine, &tokens);
        let spread = wanted[9].iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        for (format, part) in [
            (WeightFormat::F16, 0.01),
            (WeightFormat::Q8_0, 0.05),
            (WeightFormat::Q4_0, 0.6),
        ] {
            let fewer = load(directory.path(), Some(format));
            assert_eq!(fewer.format(), format.name());
            assert!(fewer.bytes() < engine.bytes());
            let found = whole(&fewer, &tokens);
            let what = format!("{family:?} in {format}");
            assert_close(&found[9], &wanted[9], part * spread, &what);
        }
    }
}

/// Writes the matrices of a bundle as blocks, as `vox model import --keep-quantised` does.
pub(super) fn write_blocks(directory: &std::path::Path, kind: GgmlDType) {
    let weights = Weights::open(directory).unwrap();
    let mut notes = HashMap::new();
    let mut stored = Vec::new();
    for name in weights.names() {
        let shape = weights.info(name).unwrap().shape.clone();
        if let [rows, _] = shape.as_slice() {
            let plain = weights.tensor(name, DType::F32, &Device::Cpu).unwrap();
            let blocks = QTensor::quantize(&plain, kind).unwrap();
            let bytes = blocks.data().unwrap().into_owned();
            let text = format!("{} {} {}", Element::Blocks(kind), shape[0], shape[1]);
            notes.insert(format!("ggml.{name}"), text);
            stored.push((name, Dtype::U8, vec![*rows, bytes.len() / rows], bytes));
        } else {
            let bytes = weights.stored(name).unwrap().to_vec();
            stored.push((name, Dtype::F32, shape, bytes));
        }
    }
    let views = stored.iter().map(|(name, dtype, shape, bytes)| {
        (
            *name,
            TensorView::new(*dtype, shape.clone(), bytes).unwrap(),
        )
    });
    let bytes = safetensors::serialize(views, Some(notes)).unwrap();
    std::fs::write(directory.join("model.safetensors"), bytes).unwrap();
}

#[test]
fn blocks_of_a_bundle_are_computed_as_they_are() {
    for family in DECODERS {
        let (directory, _) = engine_of(&tiny::config(family), None);
        let tokens = tokens(10);
        let wanted = whole(&load(directory.path(), Some(WeightFormat::Q8_0)), &tokens);
        write_blocks(directory.path(), GgmlDType::Q8_0);
        let engine = load(directory.path(), None);
        assert_eq!(engine.format(), "q8_0");
        let found = whole(&engine, &tokens);
        assert_close(
            &found.concat(),
            &wanted.concat(),
            CLOSE,
            &format!("{family:?}"),
        );
        // Plain numbers can be asked for all the same.
        let plain = load(directory.path(), Some(WeightFormat::F32));
        assert_eq!(plain.format(), "f32");
        let spread = wanted[9].iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        let found = whole(&plain, &tokens);
        assert_close(&found[9], &wanted[9], 0.05 * spread, &format!("{family:?}"));
    }
}

#[test]
fn halves_of_a_bundle_become_whole_on_the_processor() {
    let directory = TempDir::new().unwrap();
    let config = tiny::config(Family::Qwen3);
    let tokens = tokens(10);
    let wanted = whole(&engine_of(&config, None).1, &tokens);
    tiny::write_as(directory.path(), &config, Dtype::BF16);
    let engine = load(directory.path(), None);
    assert_eq!(engine.format(), "f32");
    let spread = wanted[9].iter().fold(0.0, |most: f32, x| most.max(x.abs()));
    assert_close(
        &whole(&engine, &tokens)[9],
        &wanted[9],
        0.05 * spread,
        "bf16",
    );
}

#[test]
fn a_format_that_the_processor_does_not_compute_is_refused() {
    let directory = TempDir::new().unwrap();
    let architecture = tiny::write(directory.path(), &tiny::config(Family::Llama));
    let weights = Weights::open(directory.path()).unwrap();
    let device = open_device(Some("cpu")).unwrap();
    let format = Some(WeightFormat::BF16);
    let decoder = architecture.decoder().unwrap();
    let error = CandleEngine::load(decoder, &weights, device, format).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("bf16 is not computed on the processor"),
        "{error}"
    );
}

#[test]
fn biases_of_every_kind_are_added() {
    let mut config = tiny::config(Family::Llama);
    let plain = engine_of(&config, None);
    config["attention_bias"] = json!(true);
    config["mlp_bias"] = json!(true);
    let biased = engine_of(&config, None);
    let tokens = tokens(6);
    let of = |(_, engine): &(TempDir, Arc<CandleEngine>)| whole(engine, &tokens)[5].clone();
    let pairs = of(&plain).into_iter().zip(of(&biased));
    let difference: f32 = pairs.map(|(a, b)| (a - b).abs()).sum();
    assert!(difference > 1e-2, "{difference}");
}
