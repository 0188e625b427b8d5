//! The plugin against a scripted server, over real sockets.

use vox_plugin::inference_backend::{Finish, Message, Prompt, Sampling};
use vox_plugin::serde_json::{Value, json};
use vox_remote::scripted::{End, Reply, Scripted, deserted};

use super::*;

const LINES: &str = "application/x-ndjson";

fn plugin(mut config: Value, url: &str) -> Ollama {
    config["url"] = json!(url);
    Ollama::init(&config.to_string()).unwrap()
}

fn named(name: &str) -> Model {
    Model {
        name: name.to_owned(),
        directory: None,
        adapter: None,
    }
}

fn any() -> Options {
    Options {
        device: None,
        threads: 0,
        format: None,
        context: None,
    }
}

fn asking(prompt: Prompt) -> Request {
    Request {
        prompt,
        answered: String::new(),
        sampling: Sampling {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.05,
            repetition_penalty: 1.1,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: u64::MAX,
        },
        max_tokens: 8,
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

/// What is not the answer itself.
fn about(line: &str) -> Option<Reply> {
    match line {
        "GET /api/tags" => Some(Reply::json(
            200,
            json!({ "models": [{ "name": "small:latest", "size": 270_000_000 }, { "name": "large:8b" }] }),
        )),
        "POST /api/show" => Some(Reply::json(
            200,
            json!({ "capabilities": ["completion", "embedding"], "model_info": {
                "general.architecture": "llama", "llama.context_length": 2048,
                "llama.embedding_length": 3, "llama.block_count": 12 } }),
        )),
        "POST /api/embed" => Some(Reply::json(
            200,
            json!({ "embeddings": [[0.0, 3.0, 4.0]], "prompt_eval_count": 4 }),
        )),
        _ => None,
    }
}

/// A server whose answers are this reply.
fn server(answer: Reply) -> Scripted {
    Scripted::new(move |seen| about(&seen.line).unwrap_or_else(|| answer.clone()))
}

fn chat(text: &str) -> String {
    format!(
        "{}\n",
        json!({ "message": { "role": "assistant", "content": text }, "done": false })
    )
}

fn done(reason: &str) -> String {
    format!(
        "{}\n",
        json!({ "message": { "role": "assistant", "content": "" }, "done": true,
            "done_reason": reason, "prompt_eval_count": 5, "eval_count": 2 })
    )
}

/// A loaded plugin, and the server's requests until then taken off.
fn loaded(config: Value, server: &Scripted) -> Ollama {
    let mut plugin = plugin(config, &server.url);
    plugin.load(named("small"), any()).unwrap();
    server.rest();
    plugin
}

fn answer(plugin: &Ollama, request: &Request) -> (Vec<String>, Result<Finished>) {
    let mut texts = Vec::new();
    let finished = plugin.answer(request, &mut |piece| {
        texts.push(piece.text.clone());
        true
    });
    (texts, finished)
}

#[test]
fn its_tier_is_what_the_configuration_gives_it_and_its_context_is_no_limit() {
    let config = json!({ "tier": 20, "context": 100 });
    let abilities = plugin(config, "http://127.0.0.1:1").capabilities().unwrap();
    assert_eq!((abilities.tier, abilities.context), (Some(20), None));
}

#[test]
fn a_conversation_is_answered_line_by_line() {
    let server = server(Reply::parts(LINES, [chat("Hel"), chat("lo"), done("stop")]));
    let plugin = loaded(json!({}), &server);
    let (texts, finished) = answer(&plugin, &conversation());
    assert_eq!(texts, ["Hel", "lo"]);
    let finished = finished.unwrap();
    assert_eq!(
        (
            finished.reason,
            finished.prompt_tokens,
            finished.answer_tokens
        ),
        (Finish::Stop, 5, 2)
    );
    let seen = server.next();
    assert_eq!(seen.line, "POST /api/chat");
    assert_eq!(seen.member("model"), json!("small:latest"));
    let options = seen.member("options");
    assert_eq!(options["temperature"], json!(0.7));
    assert_eq!(
        (&options["top_k"], &options["seed"]),
        (&json!(40), &json!(0x7fff_ffff))
    );
    assert!(options["num_ctx"].is_null() && options["stop"].is_null());
}

#[test]
fn an_answer_is_the_same_however_its_lines_are_cut() {
    let all = [
        chat("gr\u{fc}\u{df} \u{1f980}"),
        "\r\n".to_owned(),
        chat("!"),
        done("stop"),
    ]
    .concat();
    for size in [1, 2, 3, 7, 1000] {
        let parts = all.as_bytes().chunks(size).map(<[u8]>::to_vec);
        let server = server(Reply::parts(LINES, parts));
        let (texts, finished) = answer(&loaded(json!({}), &server), &conversation());
        assert_eq!(texts, ["gr\u{fc}\u{df} \u{1f980}", "!"]);
        assert!(finished.is_ok());
    }
}

#[test]
fn a_text_is_asked_as_it_is_and_goes_on_after_what_was_answered() {
    let line = json!({ "response": " two", "done": false, "logprobs": [
        { "token": " two", "logprob": -0.5, "top_logprobs": [{ "token": " 2", "logprob": -1.0 }] }] });
    let end = json!({ "response": "", "done": true, "done_reason": "length", "eval_count": 8 });
    let server = server(Reply::parts(LINES, [format!("{line}\n"), end.to_string()]));
    let plugin = loaded(json!({ "context": 100_000 }), &server);
    let mut request = asking(Prompt::Text("zero,".to_owned()));
    " one,".clone_into(&mut request.answered);
    request.stop = vec![".".to_owned()];
    request.alternatives = Some(1);
    let mut pieces = Vec::new();
    let finished = plugin.answer(&request, &mut |piece| {
        pieces.push(piece.clone());
        true
    });
    assert_eq!(finished.unwrap().reason, Finish::Length);
    assert_eq!(pieces[0].log_probability, Some(-0.5));
    assert_eq!(pieces[0].alternatives[0].text, " 2");
    let seen = server.next();
    assert_eq!(seen.line, "POST /api/generate");
    assert_eq!(
        (seen.member("prompt"), seen.member("raw")),
        (json!("zero, one,"), json!(true))
    );
    assert_eq!(seen.member("options")["num_ctx"], json!(2048));
    assert_eq!(seen.member("options")["stop"], json!(["."]));
    assert_eq!(seen.member("top_logprobs"), json!(1));
}

#[test]
fn a_conversation_goes_on_only_where_the_models_are_known_to() {
    let server = server(Reply::parts(LINES, [done("stop")]));
    let mut request = conversation();
    "hel".clone_into(&mut request.answered);
    let refused = answer(&loaded(json!({}), &server), &request).1;
    assert!(matches!(refused, Err(Error::Invalid(why)) if why.contains("`continues = true`")));
    answer(&loaded(json!({ "continues": true }), &server), &request)
        .1
        .unwrap();
    let last = server.next().member("messages")[1].clone();
    assert_eq!(last, json!({ "role": "assistant", "content": "hel" }));
    request.prompt = Prompt::Tokens(vec![1]);
    assert!(matches!(
        answer(&loaded(json!({}), &server), &request).1,
        Err(Error::Invalid(_))
    ));
}

#[test]
fn an_answer_that_is_cut_short_says_how_far_it_came() {
    for end in [End::Cut, End::Whole] {
        let server = server(Reply::parts(LINES, [chat("Hel"), chat("lo")]).ending(end));
        let (texts, finished) = answer(&loaded(json!({}), &server), &conversation());
        assert_eq!(texts, ["Hel", "lo"]);
        let Err(Error::Unavailable(why)) = finished else {
            panic!("{finished:?}")
        };
        assert!(why.contains("after 2 tokens with 5 characters"), "{why}");
    }
}

#[test]
fn an_error_in_the_middle_of_an_answer_is_told() {
    let server = server(Reply::parts(
        LINES,
        [chat("a"), "{\"error\":\"out of memory\"}\n".into()],
    ));
    let finished = answer(&loaded(json!({}), &server), &conversation()).1;
    assert!(
        matches!(&finished, Err(Error::Unavailable(why)) if why.contains("after 1 token") && why.ends_with("out of memory")),
        "{finished:?}"
    );
}

#[test]
fn what_is_no_answer_is_told() {
    for line in ["{\"message\":\n", "{\"message\":7}\n", "7\n"] {
        let server = server(Reply::parts(LINES, [line]));
        let finished = answer(&loaded(json!({}), &server), &conversation()).1;
        assert!(
            matches!(finished, Err(Error::Failed(_))),
            "{line} {finished:?}"
        );
    }
    let server = server(Reply::json(500, json!({ "error": "no such runner" })));
    let finished = answer(&loaded(json!({}), &server), &conversation()).1;
    assert!(
        matches!(finished, Err(Error::Unavailable(why)) if why.ends_with("500: no such runner"))
    );
}

#[test]
fn when_no_more_is_wanted_the_connection_is_closed_at_once() {
    let server = server(Reply::parts(LINES, [chat("a"), chat("b")]).ending(End::Silence));
    let finished = loaded(json!({}), &server).answer(&conversation(), &mut |_| false);
    assert_eq!(finished.unwrap().reason, Finish::Cancelled);
    assert!(server.is_left());
}

#[test]
fn models_are_found_by_name_tag_and_mapping() {
    let server = server(Reply::parts(LINES, [done("stop")]));
    let mut plugin = plugin(json!({ "models": { "mine": "large:8b" } }), &server.url);
    for name in ["small", "small:latest", "mine"] {
        assert!(
            plugin.can_serve(named(name), any()).unwrap().serves,
            "{name}"
        );
    }
    let verdict = plugin.can_serve(named("large"), any()).unwrap();
    assert!(!verdict.serves);
    assert!(verdict.reason.contains("`large`") && verdict.reason.contains("`large:8b`"));
    let loaded = plugin.load(named("small"), any()).unwrap();
    assert_eq!(
        (loaded.layers, loaded.dimensions, loaded.context),
        (12, 3, 0)
    );
    let embedded = plugin.embed(vec!["x".to_owned()]).unwrap();
    assert_eq!(
        (&embedded.numbers[..], embedded.tokens),
        (&[0.0, 0.6, 0.8][..], 4)
    );
    assert_eq!(plugin.ready(), Ok(()));
    plugin.unload().unwrap();
    assert!(matches!(plugin.ready(), Err(Error::Unavailable(_))));
}

#[test]
fn a_model_answers_unless_the_server_says_that_it_makes_embeddings_alone() {
    for (capabilities, answers) in [
        (json!(["completion", "embedding"]), true),
        (json!(["embedding"]), false),
        // A server that is too old to say.
        (json!([]), true),
    ] {
        let server = Scripted::new(move |seen| match seen.line.as_str() {
            "POST /api/show" => Reply::json(200, json!({ "capabilities": capabilities })),
            line => about(line).unwrap(),
        });
        let loaded = plugin(json!({}), &server.url).load(named("small"), any());
        assert_eq!(loaded.unwrap().answers, answers);
    }
}

#[test]
fn a_server_that_cannot_be_reached_is_refused_with_its_address_and_the_error() {
    let url = deserted();
    let verdict = plugin(json!({}), &url)
        .can_serve(named("small"), any())
        .unwrap();
    assert!(!verdict.serves);
    assert!(
        verdict.reason.contains(&url) && verdict.reason.contains("refused"),
        "{verdict:?}"
    );
}
