//! Texts become vectors of length 1.

use std::fs;

use serde_json::json;

use super::*;

fn session(config: &Value, prepare: impl FnOnce(&std::path::Path)) -> (TempDir, Session) {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), config);
    prepare(directory.path());
    let options = LoadOptions {
        device: Some("cpu".to_owned()),
        ..LoadOptions::default()
    };
    let session = Session::load(directory.path(), &options).unwrap();
    (directory, session)
}

#[test]
fn texts_of_one_call_are_embedded_as_each_alone() {
    for family in [Family::Bert, Family::Qwen3] {
        let (_directory, mut session) = session(&tiny::config(family), |_| {});
        let texts = [
            "the rain",
            "a much longer text, with more in it",
            "the rain",
        ];
        let Embedded {
            numbers: together,
            tokens,
        } = session.embed(&texts).unwrap();
        let each = texts.map(|text| session.embed(&[text]).unwrap().tokens);
        assert_eq!(tokens, each.iter().sum::<usize>());
        let width = session.loaded().dimensions;
        assert_eq!(together.len(), 3 * width);
        for (text, embedding) in texts.iter().zip(together.chunks(width)) {
            let length: f32 = embedding.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-5, "{length}");
            assert_close(
                &session.embed(&[text]).unwrap().numbers,
                embedding,
                0.0,
                text,
            );
        }
        assert_ne!(together[..width], together[width..2 * width]);
    }
}

#[test]
fn a_long_text_for_a_decoder_is_computed_in_parts() {
    let mut config = tiny::config(Family::Qwen3);
    config["max_position_embeddings"] = 1024.into();
    let (directory, mut session) = session(&config, |_| {});
    let text = "x".repeat(600);
    let found = session.embed(&[&text]).unwrap().numbers;
    let engine = load(directory.path(), None);
    let mut states = Vec::new();
    let ids = session.tokens().encode(&text).unwrap();
    engine.decoder(1024).states(&ids, 0, &mut states).unwrap();
    let mut wanted = Vec::new();
    Pooling::Mean.pool(&states, 32, &mut wanted);
    assert_close(&found, &wanted, 1e-5, "in parts");
}

#[test]
fn a_text_over_the_context_is_refused_unless_the_bundle_says_to_cut_it() {
    let config = tiny::config(Family::Bert);
    let long = "y".repeat(200);
    let (_directory, mut plain) = session(&config, |_| {});
    let message = plain.embed(&["short", &long]).unwrap_err().to_string();
    assert_eq!(
        message,
        "`texts`: text 1 has 200 tokens, over the context of 128"
    );
    let huge = "y".repeat(10_000_000);
    let message = plain.embed(&[huge]).unwrap_err().to_string();
    assert!(
        message.contains("text 0 of 10000000 bytes is over the context"),
        "{message}"
    );
    let message = plain.embed(&[""]).unwrap_err().to_string();
    assert!(message.contains("text 0 has no tokens"), "{message}");
    let (_directory, mut cutting) = session(&config, |path| {
        let said = json!({ "max_seq_length": 50, "do_lower_case": false });
        fs::write(path.join("sentence_bert_config.json"), said.to_string()).unwrap();
    });
    let cut = cutting.embed(&[&long]).unwrap().numbers;
    assert_close(
        &cut,
        &plain.embed(&[&long[..50]]).unwrap().numbers,
        0.0,
        "the first 50 tokens",
    );
}
