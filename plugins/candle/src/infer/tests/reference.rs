//! What `transformers` computes with models that it built itself (`tests/reference/programs/models.py`).

use std::path::PathBuf;

use super::*;
use crate::architecture::Architecture;
use crate::infer::encoder::EncoderModel;

fn model(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/reference/models").join(name)
}

fn expected(name: &str) -> Weights {
    Weights::open_file(&model(name).join("expected.safetensors")).unwrap()
}

/// Rows of whole numbers of 64 bits.
fn rows(expected: &Weights, name: &str) -> Vec<Vec<u32>> {
    let width = expected.info(name).unwrap().shape[1];
    let (numbers, _) = expected.stored(name).unwrap().as_chunks::<8>();
    let numbers: Vec<u32> = numbers
        .iter()
        .map(|bytes| u32::try_from(i64::from_le_bytes(*bytes)).unwrap())
        .collect();
    numbers.chunks(width).map(<[u32]>::to_vec).collect()
}

#[test]
fn decoders_give_the_logits_of_transformers() {
    for name in ["llama", "llama-tied", "mistral", "qwen2", "qwen3", "gemma3"] {
        let engine = load(&model(name), None);
        let expected = expected(name);
        let logits = expected.floats("logits").unwrap();
        let sequences = rows(&expected, "tokens");
        let each = logits.len() / sequences.len();
        let highest = logits.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        for (tokens, wanted) in sequences.iter().zip(logits.chunks(each)) {
            let found = whole(&engine, tokens).concat();
            assert_close(&found, wanted, 2e-5 * highest.max(1.0), name);
        }
    }
}

#[test]
fn encoders_give_the_states_and_the_mean_of_transformers() {
    let directory = model("bert");
    let Architecture::Encoder(architecture) = Architecture::read(&directory).unwrap() else {
        panic!("BERT is an encoder");
    };
    let weights = Weights::open(&directory).unwrap();
    let device = open_device(Some("cpu")).unwrap();
    let encoder = EncoderModel::load(&architecture, &weights, device, None).unwrap();
    let expected = expected("bert");
    let hidden = expected.floats("hidden").unwrap();
    let embeddings = expected.floats("embedding").unwrap();
    let masks = rows(&expected, "attention_mask");
    for (number, tokens) in rows(&expected, "tokens").iter().enumerate() {
        let length = masks[number].iter().sum::<u32>() as usize;
        let mut states = Vec::new();
        encoder.states(&tokens[..length], &mut states).unwrap();
        let wanted = &hidden[number * tokens.len() * 64..][..length * 64];
        assert_close(&states, wanted, 2e-5, "states");
        let mut embedding = Vec::new();
        Pooling::Mean.pool(&states, 64, &mut embedding);
        assert_close(
            &embedding,
            &embeddings[number * 64..][..64],
            1e-5,
            "embedding",
        );
    }
}

#[test]
fn tokens_are_those_of_the_tokenizers_library() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference/tokenizer");
    let tokens = crate::tokens::Tokens::read(&directory, usize::MAX).unwrap();
    let text = std::fs::read(directory.join("strings.json")).unwrap();
    let strings: Vec<Value> = serde_json::from_slice(&text).unwrap();
    assert!(strings.len() > 30);
    for string in strings {
        let text = string["text"].as_str().unwrap();
        let ids = string["tiny"].as_array().unwrap().iter();
        let ids: Vec<u32> = ids
            .map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
            .collect();
        assert_eq!(tokens.encode_part(text).unwrap(), ids, "{text:?}");
    }
}
