//! The endpoints: what they answer, and in which form.

mod kit;

use kit::{chat, options, serve};
use serde_json::{Value, json};
use vox_serve::{Message, Options, Prompt};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

#[test]
fn a_chat_is_answered_whole() {
    let served = serve(Options::default());
    let answer = served.post(CHAT, &chat("words", json!({})));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.headers["x-request-id"].starts_with("req-"));
    let body = answer.json();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "words");
    assert_eq!(body["system_fingerprint"], "fp_script");
    assert!(body["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(
        body["choices"],
        json!([{
            "index": 0,
            "message": {"role": "assistant", "content": "Hello, world!", "refusal": null},
            "finish_reason": "stop",
            "logprobs": null,
        }])
    );
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": 7,
            "completion_tokens": 4,
            "total_tokens": 11,
            "prompt_tokens_details": {"cached_tokens": 3},
        })
    );
}

#[test]
fn a_chat_is_streamed_in_events_that_end_with_done() {
    let served = serve(Options::default());
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let answer = served.post(CHAT, &chat("words", asked));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let kind = &answer.headers["content-type"];
    assert_eq!(kind, "text/event-stream; charset=utf-8");
    let events = answer.events();
    let text: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "Hello, world!");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let (usage, chunks) = events.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], 11);
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()));
    assert!(events.iter().all(|event| {
        event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"]
    }));
    assert_eq!(
        chunks.last().unwrap()["choices"][0]["finish_reason"],
        "stop"
    );
}

#[test]
fn usage_is_not_streamed_unless_it_is_asked_for() {
    let served = serve(Options::default());
    let answer = served.post(CHAT, &chat("words", json!({"stream": true})));
    let events = answer.events();
    assert!(events.iter().all(|event| event.get("usage").is_none()));
    assert!(events.iter().all(|event| event["choices"][0].is_object()));
}

#[test]
fn an_answer_without_a_token_is_streamed_as_well() {
    let served = serve(Options::default());
    let events = served
        .post(CHAT, &chat("silent", json!({"stream": true})))
        .events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[1]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn each_token_is_sent_when_it_is_there() {
    let served = serve(Options::default());
    let stream = served.begin(CHAT, &chat("held", json!({"stream": true})));
    served.began();
    served.step();
    let mut streamed = kit::Streamed::read(stream);
    let mut seen = String::new();
    while !seen.contains("Hello") {
        seen += &streamed.chunk().unwrap();
    }
    assert!(!seen.contains("world"), "{seen}");
    for _ in 0..3 {
        served.step();
    }
    assert!(streamed.rest().body.contains("[DONE]"));
}

#[test]
fn a_completion_is_answered_whole_and_streamed() {
    let served = serve(Options::default());
    let mut body = json!({"model": "words", "prompt": "Once", "max_tokens": 3});
    let whole = served.post(TEXT, &body).json();
    assert!(whole["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(whole["object"], "text_completion");
    assert_eq!(
        whole["choices"],
        json!([{"index": 0, "text": "Hello, world", "finish_reason": "length", "logprobs": null}])
    );
    body["stream"] = json!(true);
    let events = served.post(TEXT, &body).events();
    let texts = events
        .iter()
        .map(|event| event["choices"][0]["text"].as_str());
    assert_eq!(
        texts.map(Option::unwrap).collect::<String>(),
        "Hello, world"
    );
    assert!(
        events
            .iter()
            .all(|event| event["object"] == "text_completion")
    );
    let last = events.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "length");
}

#[test]
fn log_probabilities_of_a_chat_have_tokens_with_their_bytes() {
    let served = serve(Options::default());
    let asked = json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 1});
    let answer = served.post(CHAT, &chat("words", asked.clone())).json();
    let expected = json!({
        "content": [{
            "token": "Hello",
            "logprob": -0.5,
            "bytes": [72, 101, 108, 108, 111],
            "top_logprobs": [
                {"token": "other0", "logprob": -2.0, "bytes": [111, 116, 104, 101, 114, 48]},
                {"token": "other1", "logprob": -3.0, "bytes": [111, 116, 104, 101, 114, 49]},
            ],
        }],
        "refusal": null,
    });
    assert_eq!(answer["choices"][0]["logprobs"], expected);
    let mut streamed = chat("words", asked);
    streamed["stream"] = json!(true);
    let events = served.post(CHAT, &streamed).events();
    assert_eq!(events[1]["choices"][0]["logprobs"], expected);
}

#[test]
fn a_part_of_a_character_has_no_bytes_and_what_is_left_of_one_is_no_token() {
    let served = serve(Options::default());
    let asked = json!({"logprobs": true, "top_logprobs": 1, "max_tokens": 1});
    let answer = served.post(CHAT, &chat("cut", asked)).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], "\u{fffd}");
    assert_eq!(
        choice["logprobs"]["content"],
        json!([{
            "token": "",
            "logprob": -0.5,
            "bytes": null,
            "top_logprobs": [{"token": "\u{fffd}", "logprob": -2.0, "bytes": null}],
        }])
    );
    assert_eq!(answer["usage"]["completion_tokens"], 1);
}

#[test]
fn log_probabilities_of_a_completion_have_offsets_in_characters() {
    let served = serve(Options::default());
    let body = json!({"model": "words", "prompt": "Once", "logprobs": 1, "max_tokens": 3});
    let expected = json!({
        "tokens": ["Hello", ",", " world"],
        "token_logprobs": [-0.5, -0.5, -0.5],
        "top_logprobs": [{"other0": -2.0}, {"other0": -2.0}, {"other0": -2.0}],
        "text_offset": [0, 5, 6],
    });
    let whole = served.post(TEXT, &body).json();
    assert_eq!(whole["choices"][0]["logprobs"], expected);
    let mut streamed = body;
    streamed["stream"] = json!(true);
    let events = served.post(TEXT, &streamed).events();
    assert_eq!(
        events[2]["choices"][0]["logprobs"]["text_offset"],
        json!([6])
    );
}

#[test]
fn what_is_asked_reaches_the_engine() {
    let served = serve(Options::default());
    let body = json!({
        "model": "words",
        "messages": [
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": [
                {"type": "text", "text": "Hi"}, {"type": "text", "text": " there"},
            ]},
            {"role": "assistant", "content": "Yes?", "tool_calls": []},
        ],
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05,
        "repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": -0.3,
        "seed": 42, "max_tokens": 1, "max_completion_tokens": 2, "stop": ["\n", ""],
        "logprobs": true, "n": 1, "tools": [], "user": "u", "unknown": {"a": 1},
    });
    assert_eq!(served.post(CHAT, &body).status, 200);
    let asked = served.began();
    let message = |role: &str, content: &str| Message {
        role: role.to_owned(),
        content: content.to_owned(),
    };
    assert_eq!(
        asked.prompt,
        Prompt::Conversation(vec![
            message("system", "Be short."),
            message("user", "Hi there"),
            message("assistant", "Yes?"),
        ])
    );
    let sampling = asked.sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_p, sampling.top_k),
        (0.5, 0.9, 40)
    );
    assert_eq!((sampling.min_p, sampling.repetition_penalty), (0.05, 1.1));
    assert_eq!(sampling.presence_penalty, 0.2);
    assert_eq!(sampling.frequency_penalty, -0.3);
    assert_eq!((sampling.seed, asked.max_tokens), (42, 2));
    assert_eq!(asked.stop, ["\n"]);
    assert_eq!(asked.alternatives, Some(0));
}

#[test]
fn the_least_that_sampling_may_be_reaches_the_engine() {
    let served = serve(Options::default());
    let asked = json!({"temperature": 0, "top_p": 0, "min_p": 0});
    assert_eq!(served.post(CHAT, &chat("words", asked)).status, 200);
    let sampling = served.began().sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_p, sampling.min_p),
        (0.0, 0.0, 0.0)
    );
}

#[test]
fn what_is_not_asked_has_the_defaults_of_the_api() {
    let served = serve(Options::default());
    served.post(CHAT, &chat("words", json!({})));
    let first = served.began();
    served.ended();
    assert_eq!(first.max_tokens, kit::CONTEXT);
    assert_eq!(
        (first.sampling.temperature, first.sampling.top_p),
        (1.0, 1.0)
    );
    assert_eq!((first.sampling.top_k, first.sampling.min_p), (0, 0.0));
    assert_eq!(first.sampling.repetition_penalty, 1.0);
    assert_eq!(first.alternatives, None);
    served.post(TEXT, &json!({"model": "words", "prompt": [[1, 2, 3]]}));
    let second = served.began();
    assert_eq!(second.max_tokens, 16);
    assert_eq!(second.prompt, Prompt::Tokens(vec![1, 2, 3]));
    assert_ne!(first.sampling.seed, second.sampling.seed);
}

#[test]
fn embeddings_are_numbers_or_base64() {
    let served = serve(Options::default());
    let ask = |input: Value, encoding: &str| {
        let body = json!({"model": "org/vectors", "input": input, "encoding_format": encoding});
        served.post("/v1/embeddings", &body).json()
    };
    let answer = ask(json!(["a", "bcd"]), "float");
    assert_eq!(
        answer,
        json!({
            "object": "list",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [1.0, 0.5, -0.25]},
                {"object": "embedding", "index": 1, "embedding": [3.0, 0.5, -0.25]},
            ],
            "model": "org/vectors",
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        })
    );
    let answer = ask(json!("a"), "base64");
    // 1.0, 0.5 and -0.25 as f32, little-endian.
    assert_eq!(answer["data"][0]["embedding"], "AACAPwAAAD8AAIC+");
}

#[test]
fn models_are_listed_and_found_by_name() {
    let served = serve(Options::default());
    let list = served.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    assert_eq!(
        list["data"][0],
        json!({
            "id": "words", "object": "model", "created": 1_700_000_000, "owned_by": "tests",
            "context_length": 4096, "capabilities": ["completion"],
        })
    );
    let vectors = served.get("/v1/models/org/vectors").json();
    assert_eq!(vectors["capabilities"], json!(["embedding"]));
    for path in ["/v1/models/org/vectors", "/v1/models/org%2Fvectors"] {
        assert_eq!(served.get(path).json()["id"], "org/vectors");
    }
    let error = served.get("/v1/models/none").error(404);
    assert_eq!(error["code"], "model_not_found");
}

#[test]
fn a_model_that_is_not_there_is_told_with_those_that_are() {
    let served = serve(Options::default());
    let error = served.post(CHAT, &chat("gpt-9", json!({}))).error(404);
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(
        (&error["param"], &error["code"]),
        (&json!("model"), &json!("model_not_found"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("`gpt-9`") && message.contains("`words`, `held`"),
        "{message}"
    );
}

#[test]
fn what_is_unsupported_is_refused_and_named() {
    let served = serve(Options::default());
    let image = json!([{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:,"}},
    ]}]);
    let tool = json!([{"role": "tool", "content": "4", "tool_call_id": "a"}]);
    for (more, param, word) in [
        (
            json!({"tools": [{"type": "function"}]}),
            "tools",
            "tool calls",
        ),
        (json!({"functions": [{}]}), "functions", "function calls"),
        (
            json!({"messages": image}),
            "messages[0].content[0]",
            "no images",
        ),
        (json!({"messages": tool}), "messages[0].role", "tool calls"),
        (json!({"n": 2}), "n", "one answer"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format",
            "text",
        ),
        (
            json!({"logit_bias": {"5": 1}}),
            "logit_bias",
            "single tokens",
        ),
        (
            json!({"modalities": ["text", "audio"]}),
            "modalities",
            "text",
        ),
        (json!({"audio": {"voice": "a"}}), "audio", "not supported"),
    ] {
        let error = served.post(CHAT, &chat("words", more)).error(400);
        assert_eq!(error["type"], "invalid_request_error", "{error}");
        assert_eq!(
            (&error["param"], &error["code"]),
            (&json!(param), &json!("unsupported"))
        );
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    for (more, param) in [
        (json!({"prompt": ["a", "b"]}), "prompt"),
        (json!({"prompt": "a", "echo": true}), "echo"),
        (json!({"prompt": "a", "suffix": "b"}), "suffix"),
        (json!({"prompt": "a", "best_of": 3}), "best_of"),
    ] {
        let mut body = more;
        body["model"] = json!("words");
        assert_eq!(served.post(TEXT, &body).error(400)["param"], param);
    }
    for (more, param) in [
        (json!({"input": [1, 2]}), "input"),
        (json!({"input": "a", "dimensions": 2}), "dimensions"),
    ] {
        let mut body = more;
        body["model"] = json!("org/vectors");
        assert_eq!(
            served.post("/v1/embeddings", &body).error(400)["param"],
            param
        );
    }
}

#[test]
fn tools_that_are_switched_off_are_no_reason_to_refuse() {
    let served = serve(Options::default());
    let asked = json!({"tools": [{"type": "function"}], "tool_choice": "none"});
    assert_eq!(served.post(CHAT, &chat("words", asked)).status, 200);
}

#[test]
fn a_member_that_is_wrong_is_named_with_what_it_should_be() {
    let served = serve(Options::default());
    for (more, param, word) in [
        (json!({"temperature": 3}), "temperature", "from 0 to 2"),
        (json!({"temperature": "hot"}), "temperature", "a number"),
        (json!({"top_p": -1}), "top_p", "from 0 to 1"),
        (json!({"seed": 0.5}), "seed", "whole number"),
        (json!({"max_tokens": 0}), "max_tokens", "1 or more"),
        (json!({"max_tokens": "many"}), "max_tokens", "whole number"),
        (json!({"stream": "yes"}), "stream", "true or false"),
        (json!({"stop": 5}), "stop", "a list of texts"),
        (
            json!({"top_logprobs": 2}),
            "top_logprobs",
            "without `logprobs`",
        ),
        (
            json!({"stream_options": {}}),
            "stream_options",
            "for streams alone",
        ),
        (json!({"messages": []}), "messages", "one message at least"),
        (json!({"messages": [5]}), "messages[0]", "an object"),
        (
            json!({"messages": [{"role": "user"}]}),
            "messages[0].content",
            "missing",
        ),
        (
            json!({"messages": [{"role": "me", "content": ""}]}),
            "messages[0].role",
            "`me`",
        ),
        (json!({"model": "org/vectors"}), "model", "makes embeddings"),
        (json!({"model": null}), "model", "missing"),
    ] {
        let error = served.post(CHAT, &chat("words", more)).error(400);
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().contains(word), "{error}");
    }
    let body = json!({"model": "org/vectors", "prompt": "a"});
    let error = served.post("/v1/completions", &body).error(400);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("/v1/embeddings"),
        "{error}"
    );
    let body = json!({"model": "words", "input": "a"});
    let error = served.post("/v1/embeddings", &body).error(400);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("makes no embeddings"),
        "{error}"
    );
}

#[test]
fn errors_of_the_engine_have_their_status() {
    let served = serve(Options::default());
    for stream in [false, true] {
        let ask = |model: &str| served.post(CHAT, &chat(model, json!({"stream": stream})));
        let error = ask("fails").error(500);
        assert_eq!(error["type"], "server_error");
        assert_eq!(error["message"], "the weights are gone");
        let error = ask("panics").error(500);
        assert!(
            error["message"].as_str().unwrap().contains("panicked"),
            "{error}"
        );
        let busy = ask("busy");
        assert_eq!(busy.error(503)["code"], "unavailable");
        assert_eq!(busy.headers["retry-after"], "5");
        let error = ask("long").error(400);
        assert_eq!(error["code"], "context_length_exceeded");
        // The turn of one that failed is given back.
        assert_eq!(ask("words").status, 200);
    }
}

#[test]
fn what_the_engine_refuses_is_told_with_the_member_that_it_came_in() {
    let served = serve(Options::default());
    let chat = served.post(CHAT, &chat("long", json!({})));
    let text = served.post(TEXT, &json!({"model": "long", "prompt": "Once"}));
    let input = json!({"model": "org/vectors", "input": "unfit"});
    let embedding = served.post("/v1/embeddings", &input);
    for (answer, member) in [(chat, "messages"), (text, "prompt"), (embedding, "input")] {
        assert_eq!(answer.error(400)["param"], member);
    }
}

#[test]
fn an_error_within_a_stream_is_its_last_event() {
    let served = serve(Options::default());
    let answer = served.post(CHAT, &chat("half", json!({"stream": true})));
    assert_eq!(answer.status, 200);
    let last = answer.body.split_terminator("\n\n").last().unwrap();
    let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(last["error"]["message"], "the weights are gone");
    assert_eq!(last["error"]["type"], "server_error");
    assert!(!answer.body.contains("[DONE]"));
}

#[test]
fn paths_and_methods_that_are_not_there_are_refused_with_those_that_are() {
    let served = serve(options(|options| options.queue = 0));
    let error = served.get("/v2/models").error(404);
    assert!(
        error["message"].as_str().unwrap().contains("/v1/models"),
        "{error}"
    );
    let answer = served.get(CHAT);
    answer.error(405);
    assert_eq!(answer.headers["allow"], "POST");
    let answer = served.post("/v1/models", &json!({}));
    answer.error(405);
    assert_eq!(answer.headers["allow"], "GET");
}
