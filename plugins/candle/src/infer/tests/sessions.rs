//! What is answered, and when an answer ends.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::Error;

fn options() -> LoadOptions {
    LoadOptions {
        device: Some("cpu".to_owned()),
        ..LoadOptions::default()
    }
}

fn bundle(config: &Value) -> TempDir {
    let directory = TempDir::new().unwrap();
    tiny::write(directory.path(), config);
    directory
}

fn open(directory: &Path) -> Session {
    Session::load(directory, &options()).unwrap()
}

/// A configuration whose answers end at no token.
fn endless(family: Family) -> Value {
    let mut config = tiny::config(family);
    config["eos_token_id"] = Value::Null;
    config
}

fn answer(session: &mut Session, request: &Request) -> (Finished, Vec<Piece>) {
    let mut pieces = Vec::new();
    let finished = session.predict(request, &mut |piece| {
        pieces.push(piece);
        true
    });
    (finished.unwrap(), pieces)
}

fn chosen(pieces: &[Piece]) -> Vec<u32> {
    pieces.iter().filter_map(|piece| piece.token).collect()
}

fn warm(prompt: &str, max_tokens: usize) -> Request {
    Request {
        sampling: Sampling {
            temperature: 1.0,
            seed: 9,
            ..Sampling::default()
        },
        ..Request::greedy(prompt, max_tokens)
    }
}

#[test]
fn an_answer_without_temperature_is_the_most_probable_token_each_time() {
    for family in DECODERS {
        let directory = bundle(&endless(family));
        let mut session = open(directory.path());
        let (finished, pieces) = answer(&mut session, &Request::greedy("the rain in", 12));
        let engine = load(directory.path(), None);
        let mut sequence = session.tokens().encode("the rain in").unwrap();
        assert_eq!(finished.prompt_tokens, sequence.len());
        for token in chosen(&pieces) {
            let logits = whole(&engine, &sequence).pop().unwrap();
            let highest = logits.iter().copied().fold(f32::MIN, f32::max);
            assert!(highest - logits[token as usize] < 1e-4, "{family:?}");
            sequence.push(token);
        }
        assert_eq!(
            (finished.reason, finished.answer_tokens),
            (Finish::Length, 12)
        );
    }
}

#[test]
fn an_answer_ends_at_the_token_at_which_it_is_told_to() {
    let directory = bundle(&endless(Family::Llama));
    let mut session = open(directory.path());
    let (_, all) = answer(&mut session, &warm("the", 10));
    let mut pieces = Vec::new();
    let finished = session
        .predict(&warm("the", 10), &mut |piece| {
            pieces.push(piece);
            pieces.len() < 4
        })
        .unwrap();
    assert_eq!(finished.reason, Finish::Cancelled);
    assert_eq!(finished.answer_tokens, 4);
    assert_eq!(pieces, all[..4]);
}

#[test]
fn a_prompt_that_begins_like_the_last_is_answered_as_if_it_were_the_first() {
    for family in DECODERS {
        let directory = bundle(&endless(family));
        let mut kept = open(directory.path());
        answer(&mut kept, &warm("the rain in spain stays", 8));
        for prompt in [
            "the rain in spain stays",
            "the rain in france",
            "the rain",
            "else",
        ] {
            let request = Request {
                alternatives: Some(2),
                ..Request::greedy(prompt, 6)
            };
            let (finished, found) = answer(&mut kept, &request);
            let (fresh, wanted) = answer(&mut open(directory.path()), &request);
            assert_eq!(chosen(&found), chosen(&wanted), "{family:?} {prompt}");
            let logs = |pieces: &[Piece]| -> Vec<f32> {
                pieces
                    .iter()
                    .filter_map(|piece| piece.log_probability)
                    .collect()
            };
            assert_eq!(logs(&found).len(), 6);
            for (found, wanted) in logs(&found).iter().zip(logs(&wanted)) {
                let difference = found - wanted;
                assert!(difference.abs() < 1e-4, "{family:?} {prompt}: {difference}");
            }
            assert_eq!(fresh.cached_tokens, 0);
            assert_eq!(finished.cached_tokens > 0, prompt != "else", "{prompt}");
        }
    }
}

#[test]
fn an_answer_that_broke_off_goes_on_as_if_it_had_not() {
    let directory = bundle(&endless(Family::Llama));
    let mut session = open(directory.path());
    let mut resumed = 0;
    for prompt in ["the", "in the end", "an hour", "rest"] {
        let (_, pieces) = answer(&mut session, &warm(prompt, 10));
        let all = chosen(&pieces);
        // Where the text of a part of the answer is that part again.
        for count in 1..10 {
            let text: String = pieces[..count]
                .iter()
                .map(|piece| piece.text.as_str())
                .collect();
            if session.tokens().encode_part(&text).unwrap() != all[..count] {
                continue;
            }
            let request = Request {
                answered: text,
                ..warm(prompt, 10 - count)
            };
            let (finished, rest) = answer(&mut open(directory.path()), &request);
            assert_eq!(chosen(&rest), all[count..], "{prompt} after {count}");
            assert_eq!(finished.answer_tokens, 10 - count);
            resumed += 1;
        }
    }
    assert!(resumed > 0);
}

#[test]
fn a_long_prompt_is_cancelled_between_its_parts() {
    let mut config = endless(Family::Llama);
    config["max_position_embeddings"] = 2048.into();
    let directory = bundle(&config);
    let mut session = open(directory.path());
    let prompt = "x".repeat(1000);
    let mut asked = 0;
    let finished = session
        .predict(&Request::greedy(prompt.clone(), 5), &mut |piece| {
            assert_eq!((piece.token, piece.text.as_str()), (None, ""));
            asked += 1;
            asked < 3
        })
        .unwrap();
    assert_eq!(finished.reason, Finish::Cancelled);
    assert_eq!((finished.answer_tokens, asked), (0, 3));
    // What was computed is kept.
    let request = Request::greedy(prompt, 5);
    let (again, found) = answer(&mut session, &request);
    assert_eq!(again.cached_tokens, 768);
    let (_, wanted) = answer(&mut open(directory.path()), &request);
    assert_eq!(chosen(&found), chosen(&wanted));
}

#[test]
fn an_answer_ends_where_the_context_does() {
    let directory = bundle(&endless(Family::Llama));
    let options = LoadOptions {
        context: Some(20),
        ..options()
    };
    let mut session = Session::load(directory.path(), &options).unwrap();
    let prompt = Request {
        prompt: Prompt::Tokens(tokens(15)),
        ..Request::greedy("", usize::MAX)
    };
    let (finished, _) = answer(&mut session, &prompt);
    assert_eq!(
        (finished.reason, finished.answer_tokens),
        (Finish::Context, 5)
    );
    let full = Request {
        prompt: Prompt::Tokens(tokens(20)),
        ..prompt
    };
    let (finished, pieces) = answer(&mut session, &full);
    assert_eq!(
        (finished.reason, finished.prompt_tokens, pieces.len()),
        (Finish::Context, 20, 0)
    );
    let none = Request::greedy("", 5);
    let error = session.predict(&none, &mut |_| true).unwrap_err();
    assert_eq!(error.to_string(), "`prompt`: it has no tokens");
    let huge = Request::greedy("z".repeat(100_000_000), 5);
    let (finished, _) = answer(&mut session, &huge);
    assert_eq!(finished.reason, Finish::Context);
    assert!(finished.prompt_tokens >= 20, "{}", finished.prompt_tokens);
}

#[test]
fn an_answer_ends_at_the_token_that_ends_it_and_at_a_text_that_does() {
    let directory = bundle(&endless(Family::Qwen2));
    let mut session = open(directory.path());
    let (_, all) = answer(&mut session, &warm("the", 20));
    let end = chosen(&all)[6];
    let first = chosen(&all).iter().position(|&token| token == end).unwrap();
    let mut config = endless(Family::Qwen2);
    config["eos_token_id"] = json!([end]);
    let ending = bundle(&config);
    let (finished, pieces) = answer(&mut open(ending.path()), &warm("the", 20));
    assert_eq!(finished.reason, Finish::Stop);
    assert_eq!(chosen(&pieces), chosen(&all)[..first]);
    let text: String = all.iter().map(|piece| piece.text.as_str()).collect();
    let stop: String = text.chars().skip(2).take(3).collect();
    let request = Request {
        stop: vec![String::new(), "not there".to_owned(), stop.clone()],
        ..warm("the", 20)
    };
    let (finished, pieces) = answer(&mut session, &request);
    assert_eq!(finished.reason, Finish::Stop);
    let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert!(text.contains(&stop), "{text} {stop}");
    let before: String = pieces[..pieces.len() - 1]
        .iter()
        .map(|piece| piece.text.as_str())
        .collect();
    assert!(!before.contains(&stop));
}

#[test]
fn a_text_that_ends_an_answer_may_begin_in_what_was_answered_before() {
    let directory = bundle(&endless(Family::Llama));
    let request = Request {
        answered: "so ends".to_owned(),
        ..warm("the", 60)
    };
    let (_, all) = answer(&mut open(directory.path()), &request);
    let first = all.iter().position(|piece| !piece.text.is_empty()).unwrap();
    let next = all[first].text.chars().next().unwrap();
    let request = Request {
        stop: vec![format!("ends{next}")],
        ..request
    };
    let (finished, pieces) = answer(&mut open(directory.path()), &request);
    assert_eq!(finished.reason, Finish::Stop);
    assert_eq!(pieces, all[..=first]);
}

#[test]
fn log_probabilities_come_with_their_alternatives_where_they_are_asked_for() {
    let directory = bundle(&endless(Family::Gemma3));
    let mut session = open(directory.path());
    let request = Request {
        alternatives: Some(3),
        ..Request::greedy("in the", 5)
    };
    let (_, pieces) = answer(&mut session, &request);
    for piece in pieces.iter().filter(|piece| piece.token.is_some()) {
        assert_eq!(piece.alternatives.len(), 3);
        assert_eq!(piece.token, Some(piece.alternatives[0].token));
        assert_eq!(
            piece.log_probability,
            Some(piece.alternatives[0].log_probability)
        );
        assert!(piece.log_probability.is_some_and(|log| log < 0.0));
    }
    let (_, plain) = answer(&mut session, &Request::greedy("in the", 5));
    assert!(plain.iter().all(|piece| piece.log_probability.is_none()));
    assert_eq!(chosen(&plain), chosen(&pieces));
}

#[test]
fn the_text_of_pieces_is_the_text_of_their_tokens() {
    let directory = bundle(&endless(Family::Mistral));
    let mut session = open(directory.path());
    let (_, pieces) = answer(&mut session, &warm("the", 60));
    let streamed: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    let text = |text: &str| text.replace(char::REPLACEMENT_CHARACTER, "");
    let whole = session.tokens().decode(&chosen(&pieces)).unwrap();
    assert_eq!(text(&streamed), text(&whole));
}

#[test]
fn sessions_of_one_bundle_share_its_weights() {
    let directory = bundle(&endless(Family::Llama));
    let (mut one, mut two) = (open(directory.path()), open(directory.path()));
    assert!(one.shares_weights_with(&two));
    let other = LoadOptions {
        format: Some(WeightFormat::Q8_0),
        threads: 1,
        ..options()
    };
    let mut other = Session::load(directory.path(), &other).unwrap();
    assert!(!one.shares_weights_with(&other));
    assert_eq!(other.loaded().format, "q8_0");
    let request = Request::greedy("the", 5);
    assert_eq!(answer(&mut one, &request), answer(&mut two, &request));
    assert_eq!(answer(&mut other, &request).0.answer_tokens, 5);
}

#[test]
fn a_model_split_over_two_sessions_gives_its_logits() {
    let directory = bundle(&endless(Family::Gemma3));
    let (mut first, mut second) = (open(directory.path()), open(directory.path()));
    let tokens = tokens(9);
    let hidden = first
        .forward_layers(0..2, Input::Tokens(&tokens), 0)
        .unwrap();
    let logits = second
        .forward_layers(2..3, Input::Hidden(&hidden), 0)
        .unwrap();
    let wanted = whole(&load(directory.path(), None), &tokens).concat();
    assert_close(&logits, &wanted, 1e-4, "split");
}

#[test]
fn an_encoder_answers_no_request() {
    let directory = bundle(&tiny::config(Family::Bert));
    let mut session = open(directory.path());
    let error = session
        .predict(&Request::greedy("the", 5), &mut |_| true)
        .unwrap_err();
    assert!(matches!(error, Error::WrongKind { .. }), "{error}");
}

#[test]
fn a_context_that_the_model_does_not_have_is_refused() {
    let directory = bundle(&tiny::config(Family::Llama));
    for context in [0, 129] {
        let options = LoadOptions {
            context: Some(context),
            ..options()
        };
        let error = Session::load(directory.path(), &options).err().unwrap();
        assert!(
            error
                .to_string()
                .contains("from 1 to the 128 tokens of the model"),
            "{error}"
        );
    }
}

#[test]
fn a_verdict_says_why_and_what_it_takes() {
    let directory = bundle(&tiny::config(Family::Llama));
    let verdict = can_serve(directory.path(), &options());
    assert!(verdict.serves, "{}", verdict.reason);
    assert_eq!(verdict.device.as_ref().unwrap().id, "cpu");
    let architecture = tiny::architecture(&tiny::config(Family::Llama)).unwrap();
    // Three layers of keys and values of two heads of eight, 128 tokens.
    assert_eq!(
        verdict.memory,
        architecture.parameters() * 4 + 3 * 2 * 16 * 128 * 4
    );
    let fewer = LoadOptions {
        format: Some(WeightFormat::Q8_0),
        context: Some(16),
        ..options()
    };
    assert!(can_serve(directory.path(), &fewer).memory < verdict.memory / 3);
    std::fs::remove_file(directory.path().join("model.safetensors")).unwrap();
    let verdict = can_serve(directory.path(), &options());
    assert!(!verdict.serves);
    assert!(
        verdict
            .reason
            .contains("there is neither `model.safetensors` nor"),
        "{}",
        verdict.reason
    );
    let nowhere = can_serve(Path::new("/nowhere/at/all"), &options());
    assert!(
        nowhere
            .reason
            .contains("/nowhere/at/all/config.json: cannot read"),
        "{}",
        nowhere.reason
    );
}
