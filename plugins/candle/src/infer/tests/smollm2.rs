//! SmolLM2 against `transformers`, where `VOX_SMOLLM2` names the directory of its bundle.

use std::path::PathBuf;

use super::*;

/// Between logits that are closer than this, another order of additions may choose.
const EPSILON: f64 = 0.005;

fn bundle() -> Option<PathBuf> {
    std::env::var_os("VOX_SMOLLM2").map(PathBuf::from)
}

fn reference(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/reference/smollm2").join(name)
}

#[test]
fn greedy_answers_are_those_of_transformers_until_two_logits_are_close() {
    let Some(bundle) = bundle() else { return };
    let engine = load(&bundle, None);
    let text = std::fs::read(reference("greedy.json")).unwrap();
    let entries: Value = serde_json::from_slice(&text).unwrap();
    let entries = entries
        .as_array()
        .or_else(|| entries["prompts"].as_array())
        .unwrap();
    let ids = |value: &Value| -> Vec<u32> {
        let ids = value.as_array().unwrap().iter();
        ids.map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
            .collect()
    };
    for entry in entries {
        let (prompt, answer) = (ids(&entry["prompt_ids"]), ids(&entry["ids"]));
        let mut decoder = Arc::clone(&engine).decoder(1024);
        let mut logits = Vec::new();
        decoder.forward(&prompt, 0, &mut logits).unwrap();
        let mut sampler = Sampler::new(Sampling::default(), &[], &[]).unwrap();
        for (at, &wanted) in answer.iter().enumerate() {
            let found = sampler.choose(&logits, at, None).unwrap().token;
            let gap = entry["gaps"][at].as_f64().unwrap();
            if found != wanted {
                assert!(gap < EPSILON, "{} at {at}: {gap}", entry["prompt"]);
                break;
            }
            decoder
                .forward(&[found], prompt.len() + at, &mut logits)
                .unwrap();
        }
    }
}

#[test]
fn perplexity_is_that_of_transformers() {
    let Some(bundle) = bundle() else { return };
    let engine = load(&bundle, None);
    let vocabulary = engine.architecture().vocabulary;
    let tokens = crate::tokens::Tokens::read(&bundle, vocabulary).unwrap();
    let text = std::fs::read_to_string(reference("perplexity.txt")).unwrap();
    let said = std::fs::read(reference("perplexity.json")).unwrap();
    let said: Value = serde_json::from_slice(&said).unwrap();
    let ids = tokens.encode_part(&text).unwrap();
    let (mut sum, mut count) = (0.0, 0);
    for window in ids.chunks(512) {
        let rows = whole(&engine, window);
        for (logits, &next) in rows.iter().zip(&window[1..]) {
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            let total: f64 = logits.iter().map(|&x| f64::from((x - highest).exp())).sum();
            sum -= f64::from(logits[next as usize] - highest) - total.ln();
            count += 1;
        }
    }
    let found = (sum / f64::from(count)).exp();
    let wanted = said["perplexity"].as_f64().unwrap();
    assert!((found / wanted - 1.0).abs() < 0.005, "{found} {wanted}");
}

#[test]
fn a_question_is_answered_with_text() {
    let Some(bundle) = bundle() else { return };
    let mut session = Session::load(&bundle, &LoadOptions::default()).unwrap();
    let prompt =
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
    let mut text = String::new();
    let finished = session
        .predict(&Request::greedy(prompt, 40), &mut |piece| {
            text.push_str(&piece.text);
            true
        })
        .unwrap();
    assert_eq!(finished.reason, Finish::Stop, "{text}");
    assert!(text.contains("Paris"), "{text}");
}
