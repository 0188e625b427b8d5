//! `vox serve` with a model that was trained a moment ago: what a client of OpenAI's API gets of it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::training::Trainer;
use crate::{Place, path};

/// The key of every server here.
const KEY: &str = "open-sesame-open-sesame";

/// How long a test waits for what must happen; then it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that runs until it is dropped.
struct Server {
    child: Child,
    address: String,
    /// What it says on standard error, line by line.
    said: Receiver<String>,
}

/// A user with parrots of these ids, each with its configuration as TOML, and a model `./seed` for them.
fn aviary(parrots: &[(&str, &str)]) -> Place {
    let place = Place::new();
    let mut settings = String::new();
    for (id, config) in parrots {
        place.0.add_variant_of("parrot", id, &json!({}));
        settings += &format!("[plugin.{id}.config]\n{config}\n");
    }
    place.write("Vox.toml", &settings);
    fs::create_dir(place.path().join("seed")).unwrap();
    place
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Serves the tiny model.
    fn start(trainer: &Trainer) -> Self {
        Self::of(trainer.place(), &["out/model"])
    }

    /// Starts `vox serve` with these arguments, at a port that is free.
    fn of(place: &Place, arguments: &[&str]) -> Self {
        Self::at("127.0.0.1:0", place, arguments)
    }

    /// The same at an address.
    fn at(address: &str, place: &Place, arguments: &[&str]) -> Self {
        let mut command = place.vox();
        command
            .arg("serve")
            .args(arguments)
            .args(["--listen", address])
            .env("VOX_SERVE_KEYS", KEY)
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (say, said) = channel();
        // What nobody waits for must not stop it.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let _ = say.send(line.unwrap());
            }
        });
        let mut server = Self {
            child,
            address: String::new(),
            said,
        };
        let line = server.says("serving");
        let address = line.split("http://").nth(1).unwrap();
        address
            .split("/v1")
            .next()
            .unwrap()
            .clone_into(&mut server.address);
        server
    }

    /// Waits for a line with this text.
    #[track_caller]
    fn says(&self, text: &str) -> String {
        loop {
            let line = self.said.recv_timeout(PATIENCE).expect("it says so");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Serves the tiny model of a server at `address` as `elsewhere`.
    fn over(trainer: &Trainer, address: &str) -> Self {
        let place = trainer.place();
        let plugin = vox_testkit::plugin("openai");
        let install = ["plugin", "install", path(&plugin)];
        let trusted = ["--grant", "all", "--allow-native"];
        place.run(install.iter().chain(&trusted)).succeeded();
        let settings = format!(
            "[plugin.openai]\nprefer = \"native\"\n\n[plugin.openai.config]\nurl = \"http://{address}\"\n\
             key-env = \"VOX_SERVE_KEYS\"\nmodels = {{ elsewhere = \"model\" }}\n"
        );
        place.write("Vox.toml", &settings);
        Self::of(place, &["elsewhere", "--backend", "openai"])
    }

    /// Asks, and answers the status and the body.
    fn ask(&self, method: &str, path: &str, key: &str, body: &Value) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, KEY, body);
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str(&answer).unwrap()
    }

    fn health(&self) -> (u16, Value) {
        let (status, health) = self.ask("GET", "/health", KEY, &Value::Null);
        (status, serde_json::from_str(&health).unwrap())
    }

    /// How many backends died, and how many were replaced, as the metrics tell.
    fn backends(&self) -> (u64, u64) {
        let (status, metrics) = self.ask("GET", "/metrics", KEY, &Value::Null);
        assert_eq!(status, 200, "{metrics}");
        let count = |what: &str| -> u64 {
            let name = format!("vox_serve_backends_{what}_total ");
            let mut lines = metrics.lines();
            let count = lines.find_map(|line| line.strip_prefix(name.as_str()));
            count.unwrap().parse().unwrap()
        };
        (count("died"), count("replaced"))
    }

    /// Asks for the next words of the tiny model, and answers how many tokens of the prompt were known.
    fn cached(&self, prompt: &str) -> u64 {
        let request = json!({ "model": "model", "prompt": prompt, "max_tokens": 2 });
        let answer = self.json("POST", "/v1/completions", &request);
        let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
        cached.as_u64().unwrap()
    }
}

#[test]
fn a_trained_model_is_served_to_clients_of_openais_api() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    let server = Server::start(&trainer);

    let models = server.json("GET", "/v1/models", &Value::Null);
    assert_eq!(models["data"][0]["id"], "model");
    assert_eq!(
        models["data"][0]["capabilities"],
        json!(["completion", "embedding"])
    );

    let request = json!({
        "model": "model", "prompt": "the cat", "max_tokens": 8, "temperature": 0, "logprobs": 1,
    });
    let answer = server.json("POST", "/v1/completions", &request);
    let text = answer["choices"][0]["text"].as_str().unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], 8, "{answer}");
    let generate = [
        "generate",
        "out/model",
        "--prompt",
        "the cat",
        "-n",
        "8",
        "--temperature",
        "0",
    ];
    let generated = trainer.place().run(generate).succeeded().stdout;
    assert_eq!(
        generated.trim_end_matches('\n'),
        text.trim_end_matches('\n')
    );

    let mut streamed = request.clone();
    streamed["stream"] = true.into();
    let (status, events) = server.ask("POST", "/v1/completions", KEY, &streamed);
    assert_eq!(status, 200, "{events}");
    assert!(events.contains("data: [DONE]"), "{events}");

    let texts = json!({ "model": "model", "input": ["the cat", "the dog"] });
    let embeddings = server.json("POST", "/v1/embeddings", &texts);
    assert_eq!(embeddings["data"].as_array().map(Vec::len), Some(2));
    assert!(embeddings["usage"]["prompt_tokens"].as_u64() > Some(1));

    let long = json!({ "model": "model", "prompt": "the cat ".repeat(100) });
    let (status, refusal) = server.ask("POST", "/v1/completions", KEY, &long);
    assert_eq!(status, 400, "{refusal}");
    assert!(refusal.contains("context_length_exceeded"), "{refusal}");

    // What the backend refuses is told in the names of the request.
    let unknown = json!({ "model": "model", "prompt": [4_000_000_000_u32] });
    let long = json!({ "model": "model", "input": "the cat ".repeat(100) });
    for (path, body, member) in [
        ("/v1/completions", unknown, "prompt"),
        ("/v1/embeddings", long, "input"),
    ] {
        let (status, refusal) = server.ask("POST", path, KEY, &body);
        assert_eq!(status, 400, "{refusal}");
        let refusal: Value = serde_json::from_str(&refusal).unwrap();
        let error = &refusal["error"];
        assert_eq!(error["param"], member, "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.contains('`'), "{message}");
    }

    let (status, refusal) = server.ask("GET", "/v1/models", "wrong", &Value::Null);
    assert_eq!(status, 401, "{refusal}");
    let chat = json!({ "model": "model", "messages": [{ "role": "user", "content": "hello" }] });
    let (status, refusal) = server.ask("POST", "/v1/chat/completions", KEY, &chat);
    assert_eq!(status, 400, "{refusal}");
    assert!(refusal.contains("no chat template"), "{refusal}");
}

#[test]
fn an_encoder_is_listed_as_one_and_a_question_to_it_is_sent_to_the_embeddings() {
    let place = Place::with(&["candle-cpu"]);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bert = here.join("../../plugins/candle/tests/reference/models/bert");
    let encoder = place.path().join("encoder");
    fs::create_dir(&encoder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(bert.join(file), encoder.join(file)).unwrap();
    }
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
        "model": {
            "type": "WordLevel", "unk_token": "[UNK]", "vocab": { "[UNK]": 0, "the": 1, "cat": 2 },
        },
    });
    place.write("encoder/tokenizer.json", &tokenizer.to_string());
    let server = Server::of(&place, &["./encoder"]);

    let models = server.json("GET", "/v1/models", &Value::Null);
    assert_eq!(models["data"][0]["capabilities"], json!(["embedding"]));
    let prompt = json!({ "model": "encoder", "prompt": "the cat" });
    let chat = json!({ "model": "encoder", "messages": [{ "role": "user", "content": "cat" }] });
    for (path, body) in [("/v1/completions", prompt), ("/v1/chat/completions", chat)] {
        let (status, refusal) = server.ask("POST", path, KEY, &body);
        assert_eq!(status, 400, "{refusal}");
        assert!(refusal.contains("/v1/embeddings"), "{path}: {refusal}");
    }
    let texts = json!({ "model": "encoder", "input": "the cat" });
    let made = server.json("POST", "/v1/embeddings", &texts);
    let embedding = made["data"][0]["embedding"].as_array();
    assert_eq!(embedding.map(Vec::len), Some(64), "{made}");
}

#[test]
fn a_server_over_another_answers_what_that_one_does() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    let behind = Server::start(&trainer);
    let front = Server::over(&trainer, &behind.address);
    let request = |model: &str| json!({ "model": model, "prompt": "the cat", "max_tokens": 8, "temperature": 0 });
    let wanted = behind.json("POST", "/v1/completions", &request("model"));
    let answer = front.json("POST", "/v1/completions", &request("elsewhere"));
    assert_ne!(wanted["choices"][0]["text"], "", "{wanted}");
    assert_eq!(answer["choices"][0]["text"], wanted["choices"][0]["text"]);

    // What the other refuses is the client's to mend here as well.
    let chat =
        json!({ "model": "elsewhere", "messages": [{ "role": "user", "content": "hello" }] });
    let (status, refusal) = front.ask("POST", "/v1/chat/completions", KEY, &chat);
    assert_eq!(status, 400, "{refusal}");
    assert!(refusal.contains("no chat template"), "{refusal}");
}

#[test]
fn what_is_remembered_of_a_prompt_outlives_a_request_that_is_too_long() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    let server = Server::start(&trainer);
    assert_eq!(server.cached("the cat sat on"), 0);
    let cached = server.cached("the cat sat on");
    assert!(cached > 0);

    let long = json!({ "model": "model", "prompt": "the cat ".repeat(100) });
    let (status, refusal) = server.ask("POST", "/v1/completions", KEY, &long);
    assert_eq!(status, 400, "{refusal}");
    assert_eq!(server.cached("the cat sat on"), cached);
}

#[test]
fn texts_that_take_turns_are_each_remembered_by_an_instance() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    let server = Server::of(trainer.place(), &["out/model", "--parallel", "2"]);
    let (one, other) = ("the cat sat on", "log; mat; dog;");
    assert_eq!((server.cached(one), server.cached(other)), (0, 0));
    for prompt in [one, other, one, other] {
        assert!(server.cached(prompt) > 0, "{prompt}");
    }
}

#[test]
fn where_a_backend_dies_another_goes_on_and_the_client_notices_nothing() {
    let place = aviary(&[
        ("mortal", "device = \"cuda\"\ndies-before = 2"),
        ("next", ""),
    ]);
    let server = Server::of(&place, &["./seed"]);
    let request = json!({ "model": "seed", "prompt": "one two three four", "max_tokens": 8 });
    assert_eq!(server.backends(), (0, 0));
    for _ in 0..2 {
        let answer = server.json("POST", "/v1/completions", &request);
        assert_eq!(answer["choices"][0]["text"], "one two three four");
        assert_eq!(answer["usage"]["completion_tokens"], 4, "{answer}");
        assert_eq!(server.health().0, 200);
        // The second time it is the other that is asked.
        assert_eq!(server.backends(), (1, 1));
    }
}

#[test]
fn an_answer_that_ends_within_a_character_has_no_more_tokens_than_were_asked_for() {
    let place = aviary(&[("parrot", "leaves = \"\u{fffd}\"")]);
    let server = Server::of(&place, &["./seed"]);
    let request = json!({
        "model": "seed", "prompt": "one two three", "max_tokens": 2, "logprobs": 1,
    });
    let answer = server.json("POST", "/v1/completions", &request);
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], "one two \u{fffd}");
    assert_eq!(choice["logprobs"]["tokens"], json!(["one ", "two "]));
    assert_eq!(answer["usage"]["completion_tokens"], 2);
}

#[test]
fn a_backend_that_died_is_started_anew() {
    let place = aviary(&[("mortal", "dies-before = 1")]);
    let server = Server::of(&place, &["./seed"]);
    let request =
        |tokens: u32| json!({ "model": "seed", "prompt": "one two", "max_tokens": tokens });
    let (status, refusal) = server.ask("POST", "/v1/completions", KEY, &request(2));
    assert_eq!(status, 503, "{refusal}");
    assert!(refusal.contains("the parrot is no more"), "{refusal}");
    server.says("again by mortal");
    assert_eq!(server.health(), (200, json!({ "status": "ok" })));
    assert_eq!(server.backends(), (1, 1));
    let answer = server.json("POST", "/v1/completions", &request(1));
    assert_eq!(answer["choices"][0]["text"], "one ");
}

#[test]
fn health_says_what_is_wrong_until_a_backend_is_back() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    // Nobody else takes ports there, so that its own is free until it is back. Not every system has such a place.
    let apart = if cfg!(target_os = "linux") {
        "127.0.0.2:0"
    } else {
        "127.0.0.1:0"
    };
    let behind = Server::at(apart, trainer.place(), &["out/model"]);
    let address = behind.address.clone();
    let front = Server::over(&trainer, &address);
    assert_eq!(front.health(), (200, json!({ "status": "ok" })));
    drop(behind);

    // Whoever asks notices, and whoever asks next is told the reason as well.
    let request = json!({ "model": "elsewhere", "prompt": "the cat", "max_tokens": 2 });
    for _ in 0..2 {
        let (status, refusal) = front.ask("POST", "/v1/completions", KEY, &request);
        assert_eq!(status, 503, "{refusal}");
        assert!(refusal.contains(&address), "{refusal}");
    }
    let (status, health) = front.health();
    assert_eq!((status, &health["status"]), (503, &json!("unavailable")));
    assert!(
        health["reason"].as_str().unwrap().contains(&address),
        "{health}"
    );
    // It died once, whoever asks for it since.
    assert_eq!(front.backends(), (1, 0));

    let _behind = Server::at(
        &address,
        trainer.place(),
        &["out/model", "--backend", "candle-cpu"],
    );
    // Nobody has to ask for it.
    front.says("again by openai");
    assert_eq!(front.health().0, 200);
    assert_eq!(front.backends(), (1, 1));
    front.json("POST", "/v1/completions", &request);
}

#[test]
fn a_limit_is_set_by_the_name_that_its_refusal_has() {
    let place = aviary(&[("parrot", "")]);
    let server = Server::of(&place, &["./seed", "--limit", "prompt_bytes=8"]);
    let request = |prompt: &str| json!({ "model": "seed", "prompt": prompt });
    let (status, refusal) = server.ask("POST", "/v1/completions", KEY, &request("too long"));
    assert_eq!(status, 200, "{refusal}");
    let (status, refusal) = server.ask("POST", "/v1/completions", KEY, &request("too long!"));
    assert_eq!(status, 400, "{refusal}");
    assert!(refusal.contains("limit `prompt_bytes`"), "{refusal}");

    let serve = |limit| place.run(["serve", "./seed", "--limit", limit]);
    serve("prompt=8").failed(2, &["`prompt` is no limit", "`prompt_bytes`"]);
    serve("prompt_bytes").failed(2, &["NAME=VALUE"]);
}

#[test]
fn a_model_is_served_under_the_name_that_it_is_given() {
    let place = aviary(&[("parrot", "")]);
    let server = Server::of(&place, &["./seed", "--name", "org/parrot"]);
    let models = server.json("GET", "/v1/models", &Value::Null);
    assert_eq!(models["data"][0]["id"], "org/parrot");
    let request = |model: &str| json!({ "model": model, "prompt": "one two" });
    let answer = server.json("POST", "/v1/completions", &request("org/parrot"));
    assert_eq!(answer["model"], "org/parrot");
    let (status, refusal) = server.ask("POST", "/v1/completions", KEY, &request("seed"));
    assert_eq!(status, 404, "{refusal}");

    place
        .run(["serve", "./seed", "--name", ""])
        .failed(2, &["--name"]);
}

#[test]
fn a_server_ends_at_ctrl_c() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    let mut server = Server::start(&trainer);
    kill_process(Pid::from_child(&server.child), Signal::INT).unwrap();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_others_can_reach_is_not_served_without_a_key() {
    let place = aviary(&[("parrot", "")]);
    place
        .run(["serve", "./seed", "--listen", "0.0.0.0:0"])
        .failed(1, &["no API keys", "--keys", "--open"]);
}

#[test]
fn a_host_is_listened_at_by_its_name() {
    let place = aviary(&[("parrot", "")]);
    let server = Server::at("localhost:0", &place, &["./seed"]);
    assert_eq!(server.health().0, 200);
    place
        .run(["serve", "./seed", "--listen", "8080"])
        .failed(2, &["--listen", "127.0.0.1:8080"]);
}

#[test]
fn what_makes_no_server_is_refused_in_the_words_of_the_command_line() {
    let place = aviary(&[("parrot", "")]);
    for (flag, value, word) in [
        ("--parallel", "0", "--parallel"),
        ("--limit", "served=0", "`served`"),
        ("--origin", "example.org", "`--origin` has `example.org`"),
    ] {
        place
            .run(["serve", "./seed", flag, value])
            .failed(2, &[word]);
    }
}
