//! The plugin against a scripted server, over real sockets.

use vox_plugin::inference_backend::{Finish, Message, Prompt, Sampling};
use vox_plugin::serde_json::{Value, json};
use vox_remote::scripted::{Reply, Scripted, deserted};

use super::*;

fn plugin(mut config: Value, url: &str) -> OpenAiServer {
    config["url"] = json!(url);
    OpenAiServer::init(&config.to_string()).unwrap()
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

fn hello() -> Request {
    Request {
        prompt: Prompt::Conversation(vec![Message {
            role: "user".to_owned(),
            content: "hello?".to_owned(),
        }]),
        answered: String::new(),
        sampling: Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        },
        max_tokens: 8,
        stop: Vec::new(),
        alternatives: None,
    }
}

/// A server with two models that says hello.
fn server() -> Scripted {
    Scripted::new(|seen| match seen.line.as_str() {
        "GET /v1/models" => Reply::json(
            200,
            json!({ "object": "list", "data": [
                { "id": "small", "object": "model", "max_model_len": 4096 }, { "id": "large" }] }),
        ),
        "POST /v1/embeddings" => {
            Reply::json(200, json!({ "data": [{ "embedding": [0.0, 3.0, 4.0] }] }))
        }
        _ => Reply::events(&[
            r#"{"choices":[{"index":0,"delta":{"content":"hello!"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ]),
    })
}

#[test]
fn a_model_that_the_server_lists_is_served_and_answers() {
    let server = server();
    let mut plugin = plugin(json!({}), &server.url);
    let verdict = plugin.can_serve(named("small"), any()).unwrap();
    assert!(
        verdict.serves && verdict.reason.contains(&server.url),
        "{verdict:?}"
    );
    let loaded = plugin.load(named("small"), any()).unwrap();
    assert_eq!((loaded.context, loaded.dimensions), (4096, 0));
    assert!(loaded.answers);
    assert_eq!(loaded.device.id, format!("{}/v1", server.url));
    let mut texts = Vec::new();
    let finished = plugin.answer(&hello(), &mut |piece| {
        texts.push(piece.text.clone());
        true
    });
    assert_eq!(finished.unwrap().reason, Finish::Stop);
    assert_eq!(texts, ["hello!"]);
    let lines: Vec<_> = server.rest().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, ["GET /v1/models", "POST /v1/chat/completions"]);
}

#[test]
fn a_model_is_asked_for_by_the_servers_name() {
    let server = server();
    let config = json!({ "models": { "mine": "large", "hidden": "unlisted" }, "context": 100 });
    let mut plugin = plugin(config, &server.url);
    assert!(plugin.can_serve(named("mine"), any()).unwrap().serves);
    let verdict = plugin.can_serve(named("hidden"), any()).unwrap();
    assert!(
        verdict.serves && verdict.reason.contains("does not list"),
        "{verdict:?}"
    );
    assert_eq!(plugin.load(named("mine"), any()).unwrap().context, 100);
    server.rest();
    plugin.answer(&hello(), &mut |_| true).unwrap();
    assert_eq!(server.next().member("model"), json!("large"));
}

#[test]
fn the_context_is_what_the_server_says_by_either_name_and_at_most_what_the_configuration_does() {
    let server = Scripted::new(|_| {
        Reply::json(
            200,
            json!({ "data": [
                { "id": "vllm", "max_model_len": 4096 },
                { "id": "vox", "context_length": 2048 },
                { "id": "silent", "context_length": 0 }] }),
        )
    });
    let limited = json!({ "context": 3000 });
    for (config, contexts) in [(json!({}), [4096, 2048, 0]), (limited, [3000, 2048, 3000])] {
        for (name, context) in ["vllm", "vox", "silent"].into_iter().zip(contexts) {
            let mut plugin = plugin(config.clone(), &server.url);
            let loaded = plugin.load(named(name), any()).unwrap();
            assert_eq!(loaded.context, context, "{name} with {config}");
        }
    }
}

#[test]
fn tier_and_context_are_what_the_configuration_gives_them() {
    for (config, tier, context) in [
        (json!({}), None, None),
        (json!({ "tier": 84, "context": 3000 }), Some(84), Some(3000)),
    ] {
        let abilities = plugin(config, "http://127.0.0.1:1").capabilities().unwrap();
        assert_eq!((abilities.tier, abilities.context), (tier, context));
    }
}

#[test]
fn a_model_that_the_server_does_not_have_is_refused_with_those_that_it_has() {
    let server = server();
    let mut plugin = plugin(json!({}), &server.url);
    let verdict = plugin.can_serve(named("huge"), any()).unwrap();
    assert!(!verdict.serves);
    assert!(verdict.reason.contains("`huge`") && verdict.reason.contains("`small`, `large`"));
    assert!(matches!(
        plugin.load(named("huge"), any()),
        Err(Error::NotFound(_))
    ));
}

#[test]
fn a_server_that_cannot_be_reached_is_refused_with_its_address_and_the_error() {
    let url = deserted();
    let mut plugin = plugin(json!({ "models": { "mine": "large" } }), &url);
    let verdict = plugin.can_serve(named("mine"), any()).unwrap();
    assert!(!verdict.serves);
    assert!(
        verdict.reason.contains(&url) && verdict.reason.contains("refused"),
        "{verdict:?}"
    );
}

#[test]
fn an_adapter_is_refused_with_what_to_do() {
    let server = server();
    let mut plugin = plugin(json!({}), &server.url);
    let mut model = named("small");
    model.adapter = Some("adapter".to_owned());
    let verdict = plugin.can_serve(model.clone(), any()).unwrap();
    assert!(
        !verdict.serves && verdict.reason.contains("vox model merge"),
        "{}",
        verdict.reason
    );
    assert!(matches!(plugin.load(model, any()), Err(Error::NotFound(_))));
}

#[test]
fn a_device_that_is_another_is_refused() {
    let server = server();
    let mut plugin = plugin(json!({}), &server.url);
    let mut options = any();
    options.device = Some("cuda:0".to_owned());
    assert!(!plugin.can_serve(named("small"), options).unwrap().serves);
    let mut options = any();
    options.device = Some(format!("{}/v1", server.url));
    assert!(plugin.can_serve(named("small"), options).unwrap().serves);
}

#[test]
fn the_length_of_embeddings_is_known_where_a_model_makes_some() {
    let server = server();
    let mut plugin = plugin(json!({ "embeddings": ["small"] }), &server.url);
    let loaded = plugin.load(named("small"), any()).unwrap();
    assert_eq!((loaded.dimensions, loaded.answers), (3, false));
    let embedded = plugin.embed(vec!["x".to_owned()]).unwrap();
    assert_eq!(embedded.numbers, [0.0, 0.6, 0.8]);
}

#[cfg(unix)]
#[test]
fn the_key_goes_to_the_server_and_nowhere_else() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, "sk-hunter2\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = Scripted::new(|_| Reply::json(401, json!({ "error": { "message": "no" } })));
    let mut plugin = plugin(json!({ "key-file": path }), &server.url);
    let verdict = plugin.can_serve(named("small"), any()).unwrap();
    assert!(
        !verdict.serves && verdict.reason.contains("`key-file`"),
        "{verdict:?}"
    );
    assert!(!verdict.reason.contains("hunter2"));
    assert_eq!(
        server.next().header("authorization"),
        Some("Bearer sk-hunter2")
    );
}

#[test]
fn nothing_is_answered_before_a_model_is_loaded() {
    let server = server();
    let mut plugin = plugin(json!({}), &server.url);
    assert!(matches!(plugin.ready(), Err(Error::Unavailable(_))));
    assert!(matches!(
        plugin.answer(&hello(), &mut |_| true),
        Err(Error::Unavailable(_))
    ));
    plugin.load(named("small"), any()).unwrap();
    assert_eq!(plugin.ready(), Ok(()));
    assert!(matches!(
        plugin.load(named("small"), any()),
        Err(Error::Invalid(_))
    ));
    plugin.unload().unwrap();
    assert!(plugin.embed(Vec::new()).is_err());
}
