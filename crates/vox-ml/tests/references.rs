//! Against what the `tokenizers` and `transformers` libraries made of the same inputs
//! (`xtask/reference/training_data.py`).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vox_ml::data::template::{Template, TemplateSource};
use vox_ml::data::{Chat, Format, Message, Source};
use vox_ml::scratch::{Bpe, learn_tokenizer};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

fn learnt() -> Bpe {
    let source = Source::open(&[fixture("text.txt")], Format::Plain).unwrap();
    learn_tokenizer(&source, 390, false).unwrap()
}

#[test]
fn the_tokenizer_that_is_learnt_is_the_one_that_the_library_learns_and_writes() {
    let (ours, theirs) = (learnt().to_json(), json("tokenizer.json"));
    assert_eq!(ours["model"]["merges"], theirs["model"]["merges"]);
    assert_eq!(ours, theirs);
}

#[test]
fn texts_become_the_tokens_that_the_library_makes() {
    let bpe = learnt();
    let cases = json("encodings.json");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 5);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let tokens = bpe.encode(text);
        assert_eq!(serde_json::json!(tokens), case["tokens"], "{text:?}");
    }
}

#[test]
fn conversations_become_the_texts_that_transformers_makes() {
    let cases = fs::read(fixture("conversations.json")).unwrap();
    // Read as templates' own values, which keep the order of keys.
    let cases: Vec<minijinja::Value> = serde_json::from_slice(&cases).unwrap();
    assert!(cases.len() > 20);
    let mut wrong = Vec::new();
    for case in &cases {
        let of = |key: &str| case.get_attr(key).unwrap();
        let text = of("template").as_str().unwrap().to_owned();
        let specials = [("bos_token", "<s>"), ("eos_token", "</s>")];
        let template = Template::new(&TemplateSource::of_text(text, &specials), 0).unwrap();
        let messages = of("messages").try_iter().unwrap();
        let chat = Chat {
            messages: messages
                .map(|message| Message::of(message).unwrap())
                .collect(),
            tools: Some(of("tools")).filter(|tools| !tools.is_none()),
            ..Chat::default()
        };
        let rendered = template.render(&chat, of("prompt").is_true());
        let expected = of("text");
        let right = match (&rendered, expected.as_str()) {
            (Ok(text), Some(expected)) => text == expected,
            (Err(fault), None) => fault.to_string().contains(of("raises").as_str().unwrap()),
            _ => false,
        };
        if !right {
            wrong.push(format!(
                "{}: {rendered:?}\nexpected {expected:?}",
                of("name")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
