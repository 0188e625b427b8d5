//! Backends that ask a server, in `vox`: components that reach what they are granted, and a `llama-server` that is
//! started for an answer and ended with it.

#[path = "../../../../plugins/llama-cpp/src/tests/head.rs"]
mod head;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::{env, fs, process, thread};

use serde_json::{Value, json};
use vox_remote::scripted::{Reply, Scripted, Seen};

use crate::runs::wait_for_the_end_of;
use crate::{Ended, Place, path};

/// What `llama-server`, the script beside this file, hands on.
const ARGUMENTS: &str = "VOX_STAND_IN_ARGUMENTS";

/// The program that it starts.
const PROGRAM: &str = "VOX_STAND_IN";

/// A user with a backend whose component is used, who trusts it and granted it this.
fn user(id: &str, grants: &str) -> Place {
    let place = Place::new();
    let plugin = vox_testkit::plugin(id);
    place
        .run(["plugin", "install", path(&plugin), "--grant", grants])
        .succeeded();
    place.run(["plugin", "trust", "allow", id]).succeeded();
    let info = place.json(&["plugin", "info", id]);
    assert_eq!(info["carrier"], "component", "{info:#}");
    place
}

/// Where a server listens.
fn address(server: &Scripted) -> &str {
    server.url.strip_prefix("http://").unwrap()
}

/// A server of Ollama's protocol with the model `small`, which says hello.
fn ollama() -> Scripted {
    let said = |text: &str| format!("{}\n", json!({ "response": text, "done": false }));
    let end = json!({
        "response": "", "done": true, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 2,
    });
    let answer = [said("Hel"), said("lo!"), end.to_string()];
    Scripted::new(move |seen| match seen.line.as_str() {
        "GET /api/tags" => Reply::json(200, json!({ "models": [{ "name": "small:latest" }] })),
        "POST /api/show" => Reply::json(
            200,
            json!({ "capabilities": ["completion", "embedding"], "model_info": {
                "general.architecture": "llama", "llama.embedding_length": 3 } }),
        ),
        "POST /api/embed" => Reply::json(200, json!({ "embeddings": [[0.0, 3.0, 4.0]] })),
        _ => Reply::parts("application/x-ndjson", answer.clone()),
    })
}

/// What a server of OpenAI's protocol answers that has the model `small`, which says this.
fn openai(seen: &Seen, key: &str, text: &str) -> Reply {
    let key = format!("Bearer {key}");
    if seen.header("authorization") != Some(key.as_str()) {
        return Reply::json(401, json!({ "error": { "message": "wrong key" } }));
    }
    let event = |text: &str, finish: Value| {
        json!({ "choices": [{ "index": 0, "text": text, "finish_reason": finish }] }).to_string()
    };
    match seen.line.as_str() {
        "GET /v1/models" => Reply::json(200, json!({ "data": [{ "id": "small" }] })),
        _ => Reply::events(&[
            &event(text, Value::Null),
            &event("", json!("stop")),
            "[DONE]",
        ]),
    }
}

#[test]
fn a_component_answers_and_embeds_by_the_ollama_that_it_was_granted() {
    let server = ollama();
    let place = user("ollama", &format!("network={}", address(&server)));
    let url = &server.url;
    place.write(
        "Vox.toml",
        &format!("[plugin.ollama.config]\nurl = \"{url}\"\n"),
    );
    let generate = ["generate", "small", "Well?", "--backend", "ollama"];
    assert_eq!(place.run(generate).succeeded().stdout, "Hello!\n");
    let asked = server.rest();
    let asked = asked.iter().find(|seen| seen.line == "POST /api/generate");
    assert_eq!(asked.unwrap().member("prompt"), "Well?");

    let embed = ["embed", "small", "some text", "--backend", "ollama"];
    assert_eq!(place.run(embed).succeeded().stdout, "0 0.6 0.8\n");
}

#[test]
fn a_component_asks_no_server_that_it_was_not_granted() {
    let server = ollama();
    let place = user("ollama", "network=127.0.0.1:1");
    let url = &server.url;
    place.write(
        "Vox.toml",
        &format!("[plugin.ollama.config]\nurl = \"{url}\"\n"),
    );
    let grant = format!("vox plugin grant ollama network={}", address(&server));
    place
        .run(["generate", "small", "Well?", "--backend", "ollama"])
        .failed(1, &[&grant]);
    assert!(server.rest().is_empty());
}

#[test]
fn a_component_shows_the_key_from_the_directory_that_it_was_granted() {
    let server = Scripted::new(|seen| openai(seen, "sesame", "Hello!"));
    let keys = tempfile::tempdir().unwrap();
    let keys = keys.path().canonicalize().unwrap();
    let key = keys.join("key");
    fs::write(&key, "sesame\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let network = format!("network={}", address(&server));
    let place = user("openai", &format!("{network},file_read={}", path(&keys)));
    place.write(
        "Vox.toml",
        &format!(
            "[plugin.openai.config]\nurl = \"{}\"\nkey-file = \"{}\"\n",
            server.url,
            path(&key)
        ),
    );
    let generate = ["generate", "small", "Well?", "--backend", "openai"];
    assert_eq!(place.run(generate).succeeded().stdout, "Hello!\n");

    place
        .run(["plugin", "revoke", "openai", "file_read"])
        .succeeded();
    place.run(generate).failed(1, &["file_read"]);
}

#[test]
fn a_llama_server_is_started_for_an_answer_and_gone_with_it() {
    let place = Place::with(&["llama-cpp"]);
    let model = place.path().join("small.gguf");
    fs::write(&model, head::head("llama")).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real_plugins/llama-server");
    place.write(
        "Vox.toml",
        &format!(
            "[plugin.llama-cpp.config]\nprogram = \"{}\"\nmodels = {{ small = \"{}\" }}\n",
            path(&program),
            path(&model)
        ),
    );
    let mut command = place.vox();
    command
        .args(["generate", "small", "Well?", "--backend", "llama-cpp"])
        .env(PROGRAM, env::current_exe().unwrap());
    let said = Ended::of(&mut command).succeeded().stdout;
    // It says which process it is.
    let process: u32 = said.trim().parse().unwrap();
    wait_for_the_end_of(&process.to_string());
}

/// No test but a `llama-server`, where its arguments are there.
#[test]
fn stand_in() {
    let Ok(arguments) = env::var(ARGUMENTS) else {
        return;
    };
    let (_, port) = arguments.split_once("--port ").unwrap();
    let Ok(listener) = TcpListener::bind(format!("127.0.0.1:{port}")) else {
        // The port was free when it was chosen; then another one is.
        eprintln!("couldn't bind HTTP server socket, port: {port}");
        process::exit(1);
    };
    let key = env::var("LLAMA_API_KEY").unwrap();
    let _server = Scripted::at(listener, move |seen| match seen.line.as_str() {
        "GET /v1/health" => Reply::json(200, json!({ "status": "ok" })),
        _ => openai(seen, &key, &process::id().to_string()),
    });
    loop {
        thread::park();
    }
}
