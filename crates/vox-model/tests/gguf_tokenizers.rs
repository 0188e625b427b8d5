//! Vocabularies that contradict themselves, or of kinds that are not rebuilt, are refused by name.

use std::fs;
use std::io::Write as _;

use vox_model::formats::gguf::{GgufError, GgufFault, GgufModel, Precision, Rebuilt};

/// A small model in whose bytes what follows a text is replaced by as many others.
fn changed(model: &str, after: &str, found: &[u8], other: &[u8]) -> GgufModel {
    assert_eq!(found.len(), other.len());
    let path = format!(
        "{}/tests/fixtures/gguf/{model}.gguf",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut bytes = fs::read(path).unwrap();
    let place = |bytes: &[u8], what: &[u8]| {
        let place = bytes.windows(what.len()).position(|window| window == what);
        place.unwrap()
    };
    let start = place(&bytes, after.as_bytes()) + after.len();
    let at = start + place(&bytes[start..], found);
    bytes[at..at + other.len()].copy_from_slice(other);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    GgufModel::open(file.path(), Precision::F32).unwrap()
}

fn fault(result: Result<Rebuilt, GgufError>) -> GgufFault {
    match result.unwrap_err() {
        GgufError::File { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn an_unknown_way_to_split_text_is_refused_with_those_that_are_known() {
    let model = changed("qwen2", "tokenizer.ggml.pre", b"qwen2", b"dbrx9");
    let found = fault(model.tokenizer());
    assert!(matches!(&found, GgufFault::PreTokenizer { pre, .. } if pre == "dbrx9"));
    assert!(found.to_string().contains("llama-bpe"), "{found}");
    assert!(matches!(
        fault(model.tokenizer_config()),
        GgufFault::PreTokenizer { .. }
    ));
    // The rest of the model is as good as before.
    model.config().unwrap();
}

#[test]
fn an_unknown_kind_of_tokenizer_is_refused_by_name() {
    let model = changed("qwen2", "tokenizer.ggml.model", b"gpt2", b"bert");
    let model_name = "bert".to_owned();
    let expected = GgufFault::TokenizerModel { model: model_name };
    assert_eq!(fault(model.tokenizer()), expected);
}

#[test]
fn a_file_that_does_not_say_how_it_splits_text_gets_its_familys_way_and_a_note() {
    let model = changed("qwen2", "tokenizer.gg", b"ml.pre", b"ml.prf");
    let rebuilt = model.tokenizer().unwrap();
    assert_eq!(rebuilt.notes.len(), 1);
    assert!(rebuilt.notes[0].contains("`qwen2` is assumed"));
}

#[test]
fn tokens_that_are_equal_are_refused() {
    // The first two tokens of the bytes are one character each.
    let second = "\u{101}".as_bytes();
    let model = changed(
        "qwen2",
        "tokenizer.ggml.tokens",
        second,
        "\u{100}".as_bytes(),
    );
    assert!(matches!(
        fault(model.tokenizer()),
        GgufFault::Tokenizer { .. }
    ));
}

#[test]
fn a_merge_that_makes_no_token_is_refused() {
    let model = changed("qwen2", "tokenizer.ggml.merges", b" ", b"_");
    let found = fault(model.tokenizer());
    assert!(found.to_string().contains("merge 0"), "{found}");
}

#[test]
fn an_id_that_no_token_has_is_refused_with_its_key() {
    let key = "tokenizer.ggml.eos_token_id";
    let ids = [4_u32.to_le_bytes(), 317_u32.to_le_bytes()].concat();
    let wrong = [4_u32.to_le_bytes(), 70_000_u32.to_le_bytes()].concat();
    let model = changed("qwen2", key, &ids, &wrong);
    let found = fault(model.tokenizer());
    assert!(found.to_string().contains(key), "{found}");
    assert!(matches!(found, GgufFault::Tokenizer { .. }));
}

#[test]
fn scores_that_are_no_numbers_are_refused() {
    let key = "tokenizer.ggml.scores";
    let nan = f32::NAN.to_le_bytes();
    let model = changed("llama", key, &(-1.0_f32).to_le_bytes(), &nan);
    let found = fault(model.tokenizer());
    assert!(found.to_string().contains("no number"), "{found}");
}
