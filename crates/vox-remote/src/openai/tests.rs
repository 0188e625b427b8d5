//! Answers of a scripted server, over real sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vox_plugin::inference_backend::{Message, Prompt, Sampling};

use super::*;
use crate::address::Address;
use crate::scripted::{End, Reply, Scripted, deserted};
use crate::transport::Transport;

fn client(url: &str) -> OpenAi {
    cancellable(url, Arc::default())
}

fn cancellable(url: &str, cancelled: Arc<AtomicBool>) -> OpenAi {
    let address = Address::parse(&format!("{url}/v1")).unwrap();
    let cancel = Arc::new(move || cancelled.load(Ordering::SeqCst));
    let transport = Transport::with_cancel(address.clone(), "test", cancel);
    OpenAi {
        server: Server::new(address, transport, None, Duration::from_secs(30)),
        dialect: Dialect::default(),
    }
}

fn asking(prompt: Prompt) -> Request {
    Request {
        prompt,
        answered: String::new(),
        sampling: Sampling {
            temperature: 0.8,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 7,
        },
        max_tokens: 16,
        stop: Vec::new(),
        alternatives: None,
    }
}

fn conversation() -> Request {
    asking(Prompt::Conversation(vec![Message {
        role: "user".to_owned(),
        content: "hello?".to_owned(),
    }]))
}

/// The texts of an answer's pieces, and how it ended.
fn answer(client: &OpenAi, request: &Request) -> (Vec<String>, Result<Finished>) {
    let mut texts = Vec::new();
    let finished = client.predict("m", request, &mut |piece| {
        texts.push(piece.text.clone());
        true
    });
    (texts, finished)
}

fn delta(text: &str) -> String {
    json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }).to_string()
}

const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#;

#[test]
fn an_answer_comes_piece_by_piece_with_its_numbers() {
    let server = Scripted::new(|_| {
        let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
        Reply::events(&[role, &delta("Hel"), &delta("lo"), STOP, USAGE, "[DONE]"])
    });
    let (texts, finished) = answer(&client(&server.url), &conversation());
    assert_eq!(texts, ["Hel", "lo"]);
    let finished = finished.unwrap();
    assert_eq!(finished.reason, Finish::Stop);
    assert_eq!(
        (
            finished.prompt_tokens,
            finished.cached_tokens,
            finished.answer_tokens
        ),
        (9, 4, 2)
    );
    let seen = server.next();
    assert_eq!(seen.line, "POST /v1/chat/completions");
    assert_eq!(
        seen.member("messages"),
        json!([{ "role": "user", "content": "hello?" }])
    );
    assert_eq!(seen.member("temperature"), json!(0.8));
    assert_eq!(
        (seen.member("max_tokens"), seen.member("seed")),
        (json!(16), json!(7))
    );
    for unknown in [
        "top_k",
        "min_p",
        "repetition_penalty",
        "top_p",
        "stop",
        "logprobs",
    ] {
        assert!(seen.member(unknown).is_null(), "{unknown}");
    }
}

#[test]
fn an_answer_is_the_same_however_its_stream_is_cut() {
    let stream = format!(
        ": a comment\r\n\r\ndata: {}\r\n\r\ndata: {}\r\n\r\ndata: {STOP}\r\n\r\ndata: [DONE]\r\n\r\n",
        delta("gr\u{fc}\u{df} \u{1f980}"),
        delta("!")
    );
    for size in [1, 2, 3, 7, 1000] {
        let bytes = stream.clone().into_bytes();
        let server = Scripted::new(move |_| {
            Reply::parts("text/event-stream", bytes.chunks(size).map(<[u8]>::to_vec))
        });
        let (texts, finished) = answer(&client(&server.url), &conversation());
        assert_eq!(texts, ["gr\u{fc}\u{df} \u{1f980}", "!"]);
        assert_eq!(finished.unwrap().answer_tokens, 2);
    }
}

#[test]
fn an_answer_that_is_cut_short_says_how_far_it_came() {
    for (end, how) in [(End::Cut, ""), (End::Whole, "ended before the answer did")] {
        let server =
            Scripted::new(move |_| Reply::events(&[&delta("Hel"), &delta("lo")]).ending(end));
        let (texts, finished) = answer(&client(&server.url), &conversation());
        assert_eq!(texts, ["Hel", "lo"]);
        let Err(Error::Unavailable(why)) = finished else {
            panic!("{finished:?}")
        };
        assert!(why.contains(&server.url), "{why}");
        assert!(
            why.contains("after 2 tokens with 5 characters") && why.contains(how),
            "{why}"
        );
    }
}

#[test]
fn an_answer_whose_end_was_told_is_whole_without_what_follows() {
    for end in [End::Cut, End::Whole] {
        let server = Scripted::new(move |_| Reply::events(&[&delta("a"), STOP]).ending(end));
        let (_, finished) = answer(&client(&server.url), &conversation());
        assert_eq!(finished.unwrap().reason, Finish::Stop);
    }
}

#[test]
fn an_error_in_the_middle_of_an_answer_is_told() {
    for event in [
        "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n",
        "data: {\"error\":\"out of memory\"}\n\n",
        "event: error\ndata: {\"message\":\"out of memory\"}\n\n",
        "event: error\ndata: out of memory\n\n",
        "data: {\"object\":\"error\",\"message\":\"out of memory\"}\n\n",
    ] {
        let server = Scripted::new(move |_| {
            let first = format!("data: {}\n\n", delta("a"));
            Reply::parts("text/event-stream", [first, event.to_owned()])
        });
        let (_, finished) = answer(&client(&server.url), &conversation());
        let Err(Error::Unavailable(why)) = finished else {
            panic!("{finished:?}")
        };
        assert!(
            why.contains("after 1 token") && why.ends_with("out of memory"),
            "{why}"
        );
    }
}

#[test]
fn what_is_no_answer_is_told() {
    for (events, expected) in [
        (vec!["{\"choices\":"], "no JSON"),
        (vec!["{\"choices\":7}"], "not what it should be"),
    ] {
        let server = Scripted::new(move |_| Reply::events(&events));
        let (_, finished) = answer(&client(&server.url), &conversation());
        let Err(Error::Failed(why)) = finished else {
            panic!("{finished:?}")
        };
        assert!(why.contains(expected), "{why}");
    }
    let server = Scripted::new(|_| Reply::json(200, json!({ "choices": [] })));
    let (_, finished) = answer(&client(&server.url), &conversation());
    assert!(matches!(finished, Err(Error::Failed(why)) if why.contains("`application/json`")));
}

#[test]
fn a_status_is_an_error_of_its_kind_with_what_the_server_says() {
    let error = |status: u16| {
        let server = Scripted::new(move |_| {
            Reply::json(status, json!({ "error": { "message": "so\nit is" } }))
        });
        let (texts, finished) = answer(&client(&server.url), &conversation());
        assert!(texts.is_empty());
        finished.unwrap_err()
    };
    assert!(matches!(error(400), Error::Invalid(why) if why.ends_with("answered 400: so it is")));
    assert!(matches!(error(404), Error::NotFound(_)));
    assert!(matches!(error(401), Error::Failed(why) if why.contains("key-file")));
    assert!(matches!(error(307), Error::Failed(why) if why.contains("redirect")));
    assert!(matches!(error(429), Error::Unavailable(_)));
    assert!(matches!(error(503), Error::Unavailable(why) if why.contains("so it is")));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let url = deserted();
    let Err(Error::Unavailable(why)) = client(&url).models() else {
        panic!("nobody listens")
    };
    assert!(why.contains(&url) && why.contains("refused"), "{why}");
}

#[test]
fn when_no_more_is_wanted_the_connection_is_closed_at_once() {
    let server = Scripted::new(|_| Reply::events(&[&delta("a"), &delta("b")]).ending(End::Silence));
    let mut taken = 0;
    let finished = client(&server.url).predict("m", &conversation(), &mut |_| {
        taken += 1;
        false
    });
    assert_eq!((finished.unwrap().reason, taken), (Finish::Cancelled, 1));
    assert!(server.is_left());
}

#[test]
fn a_run_that_is_cancelled_does_not_wait_for_the_first_token() {
    for reply in [
        Reply::events(&[]).ending(End::Silence),
        Reply::events(&[]).ending(End::Mute),
    ] {
        let cancelled = Arc::new(AtomicBool::new(false));
        let cancel = Arc::clone(&cancelled);
        let server = Scripted::new(move |_| {
            // The request is there, and its client waits.
            cancel.store(true, Ordering::SeqCst);
            reply.clone()
        });
        let (_, finished) = answer(&cancellable(&server.url, cancelled), &conversation());
        assert_eq!(finished, Err(Error::Cancelled));
        assert!(server.is_left());
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let server = Scripted::new(|_| Reply::events(&[&delta("a")]).ending(End::Silence));
    let mut client = client(&server.url);
    let address = client.server.address().clone();
    let transport = Transport::with_cancel(address.clone(), "test", Arc::new(|| false));
    client.server = Server::new(address, transport, None, Duration::from_secs(1));
    let (texts, finished) = answer(&client, &conversation());
    assert_eq!(texts, ["a"]);
    assert!(matches!(finished, Err(Error::Unavailable(why)) if why.contains("`timeout`")));
    assert!(server.is_left());
}

#[test]
fn log_probabilities_come_token_by_token() {
    let server = Scripted::new(|_| {
        let chunk = json!({ "choices": [{ "index": 0, "delta": { "content": "ab" }, "logprobs": { "content": [
            { "token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [
                { "token": "x", "logprob": -2.0 }, { "token": "a", "logprob": -0.5 }, { "token": "y", "logprob": -3.0 }] },
            { "token": "b", "id": 5, "logprob": -0.25, "top_logprobs": [] }] } }] });
        let half = json!({ "choices": [{ "index": 0, "delta": { "content": "" }, "logprobs": { "content": [
            { "token": "\u{fffd}", "logprob": -1.0, "top_logprobs": [] }] } }] });
        let other = json!({ "choices": [{ "index": 0, "delta": { "content": "\u{df}" }, "logprobs": { "content": [
            { "token": "\u{fffd}", "logprob": -1.5, "top_logprobs": [] }] } }] });
        Reply::events(&[
            &chunk.to_string(),
            &half.to_string(),
            &other.to_string(),
            STOP,
            "[DONE]",
        ])
    });
    let mut request = conversation();
    request.alternatives = Some(2);
    let mut pieces = Vec::new();
    let finished = client(&server.url).predict("m", &request, &mut |piece| {
        pieces.push(piece.clone());
        true
    });
    assert_eq!(finished.unwrap().answer_tokens, 4);
    let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert_eq!(texts, ["a", "b", "", "\u{df}"]);
    let own: Vec<_> = pieces.iter().map(|piece| piece.log_probability).collect();
    assert_eq!(own, [Some(-0.5), Some(-0.25), Some(-1.0), Some(-1.5)]);
    assert_eq!(pieces[1].token, Some(5));
    let first = pieces[0].alternatives.iter();
    let first: Vec<_> = first
        .map(|other| (other.text.as_str(), other.log_probability))
        .collect();
    assert_eq!(first, [("a", -0.5), ("x", -2.0)]);
    let seen = server.next();
    assert_eq!(
        (seen.member("logprobs"), seen.member("top_logprobs")),
        (json!(true), json!(2))
    );
}

#[test]
fn a_text_goes_on_after_what_was_answered_before() {
    let server = Scripted::new(|_| {
        let chunk = json!({ "choices": [{ "index": 0, "text": " two", "logprobs": {
            "tokens": [" two"], "token_logprobs": [-0.5], "top_logprobs": [{ " 2": -1.0, " two": -0.5 }] } }] });
        let end = r#"{"choices":[{"index":0,"text":"","finish_reason":"length"}]}"#;
        Reply::events(&[&chunk.to_string(), end, "[DONE]"])
    });
    let mut request = asking(Prompt::Text("zero,".to_owned()));
    " one,".clone_into(&mut request.answered);
    request.alternatives = Some(1);
    request.max_tokens = 1;
    let mut pieces = Vec::new();
    let finished = client(&server.url).predict("m", &request, &mut |piece| {
        pieces.push(piece.clone());
        true
    });
    assert_eq!(finished.unwrap().reason, Finish::Length);
    assert_eq!(pieces[0].log_probability, Some(-0.5));
    assert_eq!(pieces[0].alternatives[0].text, " two");
    let seen = server.next();
    assert_eq!(seen.line, "POST /v1/completions");
    assert_eq!(seen.member("prompt"), json!("zero, one,"));
    assert_eq!(seen.member("logprobs"), json!(1));
}

#[test]
fn a_conversation_goes_on_only_where_the_server_is_known_to() {
    let server = Scripted::new(|_| Reply::events(&[&delta("x"), STOP, "[DONE]"]));
    let mut client = client(&server.url);
    let mut request = conversation();
    "hel".clone_into(&mut request.answered);
    let (_, finished) = answer(&client, &request);
    assert!(matches!(finished, Err(Error::Invalid(why)) if why.contains("`continues`")));
    assert!(server.rest().is_empty());
    for (continues, fields, prefix) in [
        (Continues::Fields, json!(true), json!(null)),
        (Continues::Prefix, json!(null), json!(true)),
        (Continues::Always, json!(null), json!(null)),
    ] {
        client.dialect.continues = continues;
        answer(&client, &request).1.unwrap();
        let seen = server.next();
        let last = seen.member("messages")[1].clone();
        assert_eq!(
            (&last["role"], &last["content"]),
            (&json!("assistant"), &json!("hel"))
        );
        assert_eq!(last["prefix"], prefix);
        assert_eq!(seen.member("continue_final_message"), fields);
    }
}

#[test]
fn settings_are_sent_in_the_servers_dialect() {
    let server = Scripted::new(|_| Reply::events(&[STOP, "[DONE]"]));
    let mut client = client(&server.url);
    let mut request = conversation();
    request.sampling.top_k = 40;
    request.sampling.min_p = 0.05;
    request.sampling.repetition_penalty = 1.1;
    request.sampling.seed = u64::MAX;
    request.stop = ["a", "", "b", "c", "d", "e"].map(str::to_owned).to_vec();
    client.dialect.extensions = Extensions::Common;
    "max_completion_tokens".clone_into(&mut client.dialect.max_tokens);
    answer(&client, &request).1.unwrap();
    let seen = server.next();
    assert_eq!(seen.member("top_k"), json!(40));
    assert_eq!(seen.member("min_p"), json!(0.05));
    assert_eq!(seen.member("repetition_penalty"), json!(1.1));
    assert_eq!(seen.member("seed"), json!(i64::MAX));
    assert_eq!(seen.member("max_completion_tokens"), json!(16));
    assert_eq!(seen.member("stop"), json!(["a", "b", "c", "d"]));
    client.dialect.extensions = Extensions::LlamaCpp;
    request.prompt = Prompt::Tokens(vec![1, 2]);
    "x".clone_into(&mut request.answered);
    request.alternatives = Some(0);
    answer(&client, &request).1.unwrap();
    let seen = server.next();
    assert_eq!(seen.member("prompt"), json!([1, 2, "x"]));
    assert_eq!(seen.member("repeat_penalty"), json!(1.1));
    assert_eq!(seen.member("repeat_last_n"), json!(65_536));
    assert_eq!(seen.member("logprobs"), json!(1));
    assert_eq!(seen.member("samplers")[1], json!("temperature"));
}

#[test]
fn a_request_that_makes_no_sense_is_not_sent() {
    let server = Scripted::new(|_| Reply::events(&[]));
    let client = client(&server.url);
    let mut request = conversation();
    request.sampling.temperature = f32::NAN;
    let (_, finished) = answer(&client, &request);
    assert!(matches!(finished, Err(Error::Invalid(why)) if why.contains("`temperature`")));
    let mut request = asking(Prompt::Tokens(vec![1]));
    "x".clone_into(&mut request.answered);
    assert!(matches!(
        answer(&client, &request).1,
        Err(Error::Invalid(_))
    ));
    request.answered.clear();
    request.max_tokens = 0;
    assert_eq!(answer(&client, &request).1.unwrap().reason, Finish::Length);
    assert!(server.rest().is_empty());
}

#[test]
fn an_answer_that_ends_before_its_most_tokens_has_filled_the_context() {
    let server = Scripted::new(|_| {
        let end = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#;
        Reply::events(&[&delta("a"), &delta("b"), end, USAGE, "[DONE]"])
    });
    let (_, finished) = answer(&client(&server.url), &conversation());
    assert_eq!(finished.unwrap().reason, Finish::Context);
}

#[test]
fn embeddings_come_in_the_order_of_their_texts_and_of_length_one() {
    let server = Scripted::new(|_| {
        Reply::json(
            200,
            json!({ "data": [{ "index": 1, "embedding": [0.0, 2.0] }, { "index": 0, "embedding": [3.0, 4.0] }],
                "usage": { "prompt_tokens": 5, "total_tokens": 5 } }),
        )
    });
    let texts = ["a".to_owned(), "b".to_owned()];
    let all = client(&server.url).embed("m", &texts).unwrap();
    assert_eq!(
        (&all.numbers[..], all.tokens),
        (&[0.6, 0.8, 0.0, 1.0][..], 5)
    );
    assert_eq!(server.next().member("input"), json!(["a", "b"]));
    let too_many = client(&server.url).embed("m", &texts[..1]);
    assert!(
        matches!(too_many, Err(Error::Failed(why)) if why.contains("2 embeddings for 1 texts"))
    );
}
