//! Round trips, and text that comes in pieces.

use std::fs;

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::architecture::Family;
use crate::tiny;

/// Text that tokenizers have fallen over: other scripts, marks that combine, joined emoji, right-to-left,
/// controls, blanks of all kinds, unusual planes, and special tokens within words.
const STRESS: &[&str] = &[
    "",
    " ",
    "Hello, world!",
    "  two  blanks \n\n\n and\ttabs\r\n",
    "naïve café — e\u{301}\u{327}",
    "日本語とカタカナ、한국어、中文。",
    "שלום עולם مرحبا بالعالم",
    "👩‍👩‍👧‍👦🏳️‍🌈👍🏽",
    "हिन्दी ไทย မြန်မာ",
    "\u{0}\u{1}\u{7f}\u{85}\u{a0}\u{200b}\u{2028}\u{feff}\u{fffd}",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀 \u{10ffff}",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘",
    "1234567890 3.14159 0x1F 1,000,000",
    "fn main() { println!(\"{}\", 'x'); }",
];

fn tokens() -> (TempDir, Tokens) {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), &tiny::config(Family::Llama));
    let tokens = Tokens::read(directory.path(), tiny::VOCABULARY).unwrap();
    (directory, tokens)
}

fn streamed(tokens: &Tokens, ids: &[u32]) -> Vec<String> {
    let mut stream = tokens.stream(&[]).unwrap();
    let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    pieces
}

#[test]
fn stress_text_comes_back_as_it_was() {
    let (_directory, tokens) = tokens();
    for text in STRESS {
        let ids = tokens.encode(text).unwrap();
        assert_eq!(&tokens.decode(&ids).unwrap(), text);
        assert_eq!(&streamed(&tokens, &ids).concat(), text);
    }
}

#[test]
fn the_real_tokenizer_makes_of_stress_text_what_the_library_does_and_gives_it_back() {
    let Some(bundle) = crate::smollm2::bundle() else {
        return;
    };
    let tokens = bundle.tokens();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/reference/tokenizer/strings.json"
    );
    let strings: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    for string in strings.as_array().unwrap() {
        let text = string["text"].as_str().unwrap();
        let ids = tokens.encode_part(text).unwrap();
        assert_eq!(ids, crate::smollm2::ids(&string["smollm2"]), "{text:?}");
        // The text of special tokens is left out.
        if !text.contains("|>") {
            assert_eq!(tokens.decode(&ids).unwrap(), text);
            assert_eq!(streamed(&tokens, &ids).concat(), text);
        }
    }
    for text in STRESS {
        let ids = tokens.encode_part(text).unwrap();
        assert_eq!(&tokens.decode(&ids).unwrap(), text);
        assert_eq!(&streamed(&tokens, &ids).concat(), text);
    }
}

proptest! {
    #[test]
    fn any_text_comes_back_as_it_was(text in "\\PC{0,40}|[\\x00-\\x{10ffff}]{0,12}") {
        let (_directory, tokens) = tokens();
        let ids = tokens.encode_part(&text).unwrap();
        prop_assert_eq!(&tokens.decode(&ids).unwrap(), &text);
        prop_assert_eq!(&streamed(&tokens, &ids).concat(), &text);
    }

    #[test]
    fn any_tokens_are_streamed_as_they_are_decoded_at_once(ids in prop::collection::vec(0_u32..288, 0..24)) {
        let (_directory, tokens) = tokens();
        let whole = tokens.decode(&ids).unwrap();
        // Where bytes are no text, how many U+FFFD stand for them depends on where decoding begins.
        let text = |text: &str| text.replace(char::REPLACEMENT_CHARACTER, "");
        prop_assert_eq!(text(&streamed(&tokens, &ids).concat()), text(&whole));
    }
}

#[test]
fn text_comes_out_only_as_whole_characters() {
    let (_directory, tokens) = tokens();
    let ids = tokens.encode("é👍").unwrap();
    assert_eq!(ids.len(), 6);
    assert_eq!(streamed(&tokens, &ids), ["", "é", "", "", "", "👍", ""]);
    assert_eq!(streamed(&tokens, &ids[..4]).concat(), "é\u{fffd}");
}

#[test]
fn the_text_of_special_tokens_becomes_them_and_is_not_decoded() {
    let (_directory, tokens) = tokens();
    let ids = tokens.encode("<|start|>the<|end|>").unwrap();
    assert_eq!(ids, [tiny::END - 1, 257, tiny::END]);
    assert_eq!(tokens.decode(&ids).unwrap(), "the");
    assert_eq!(tokens.name(tiny::END).as_deref(), Some("<|end|>"));
}

#[test]
fn a_continuation_keeps_its_own_seam() {
    let (_directory, tokens) = tokens();
    let alone = tokens.encode("th").unwrap();
    let (continued, seam) = tokens.encode_continued("th", "e").unwrap();
    assert_eq!(seam, alone.len());
    assert_eq!(continued, [alone, tokens.encode("e").unwrap()].concat());
    assert_ne!(continued, tokens.encode("the").unwrap());
}

#[test]
fn answers_end_at_every_token_that_a_file_names() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    tiny::write(path, &tiny::config(Family::Llama));
    fs::write(
        path.join("generation_config.json"),
        json!({ "eos_token_id": [3, 5] }).to_string(),
    )
    .unwrap();
    let named = json!({ "eos_token": { "content": "<|start|>" }, "bos_token": "the" });
    fs::write(path.join("tokenizer_config.json"), named.to_string()).unwrap();
    let tokens = Tokens::read(path, tiny::VOCABULARY).unwrap();
    assert_eq!(
        tokens.ends().collect::<Vec<_>>(),
        [3, 5, tiny::END - 1, tiny::END]
    );
    assert_eq!(tokens.begin(), Some(257));
    fs::write(
        path.join("generation_config.json"),
        r#"{"eos_token_id": "x"}"#,
    )
    .unwrap();
    let message = Tokens::read(path, tiny::VOCABULARY)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("generation_config.json: `eos_token_id`"),
        "{message}"
    );
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), &tiny::config(Family::Llama));
    let message = Tokens::read(directory.path(), 200).unwrap_err().to_string();
    assert!(
        message.contains("tokens up to number 285, and the model embeds 200"),
        "{message}"
    );
    // Special tokens of models with more than text may be beyond the embedding, and are refused in a text.
    let tokens = Tokens::read(directory.path(), 286).unwrap();
    let message = tokens.encode("<|end|>").unwrap_err().to_string();
    assert!(
        message.contains("does not embed token 287, `<|end|>`"),
        "{message}"
    );
}

#[test]
fn a_tokenizer_that_is_no_json_is_named() {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), &tiny::config(Family::Llama));
    fs::write(directory.path().join("tokenizer.json"), b"{\xff").unwrap();
    let message = Tokens::read(directory.path(), 288).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
}
