//! The plugin with a program that stands in for `llama-server`, and with the real one where it is.

mod distress;
pub mod head;
mod real;
mod stand_in;

use std::path::{Path, PathBuf};

use vox_plugin::inference_backend::{Finish, Message, Prompt, Sampling};
use vox_plugin::serde_json::json;

use super::*;
use head::head;

/// A directory with a model, and a plugin that serves it by the stand-in in one of its roles.
struct Stage {
    directory: tempfile::TempDir,
    role: &'static str,
}

impl Stage {
    fn new(role: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("model.gguf"), head("llama")).unwrap();
        Self { directory, role }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A plugin; `more` is added to its configuration.
    fn plugin(&self, more: &[(&str, vox_plugin::serde_json::Value)]) -> LlamaCpp {
        let mut config = json!({
            "program": stand_in::program(),
            "arguments": ["--role", self.role, "--scratch", self.path().join("scratch")],
        });
        for (name, value) in more {
            config[*name] = value.clone();
        }
        LlamaCpp::init(&config.to_string()).unwrap()
    }

    fn model(&self) -> Model {
        Model {
            name: "m".to_owned(),
            directory: Some(self.path().to_string_lossy().into_owned()),
            adapter: None,
        }
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

/// What the stand-in says of itself in the place of a model's name: its id, and its arguments.
fn told(plugin: &LlamaCpp) -> (i32, String) {
    let models = plugin.server().unwrap().client.models().unwrap();
    let (id, arguments) = models[0].id.split_once(' ').unwrap();
    (id.parse().unwrap(), arguments.to_owned())
}

#[test]
fn a_model_beside_its_bundle_is_served_and_answers() {
    let stage = Stage::new("well");
    let mut plugin = stage.plugin(&[("threads", json!(3)), ("gpu-layers", json!(0))]);
    let verdict = plugin.can_serve(stage.model(), any()).unwrap();
    assert!(
        verdict.serves && verdict.reason.contains("model.gguf"),
        "{verdict:?}"
    );
    assert_eq!(verdict.device.unwrap().id, "cpu");
    let mut options = any();
    options.context = Some(100);
    let loaded = plugin.load(stage.model(), options).unwrap();
    assert_eq!(
        (loaded.context, loaded.layers, loaded.vocabulary),
        (100, 2, 3)
    );
    assert_eq!(plugin.ready(), Ok(()));
    let mut texts = Vec::new();
    let finished = plugin.answer(&hello(), &mut |piece| {
        texts.push(piece.text.clone());
        true
    });
    assert_eq!(finished.unwrap().reason, Finish::Stop);
    assert_eq!(texts, ["hel", "lo!"]);
    let (_, arguments) = told(&plugin);
    for expected in [
        "-c 100 ",
        "-t 3 ",
        "-ngl 0 ",
        "--device none ",
        "--host 127.0.0.1 ",
    ] {
        assert!(arguments.contains(expected), "{expected}: {arguments}");
    }
    assert!(!arguments.contains("key"), "{arguments}");
}

#[test]
fn an_encoder_makes_embeddings_and_answers_nothing() {
    let stage = Stage::new("well");
    let mut plugin = stage.plugin(&[]);
    assert!(plugin.load(stage.model(), any()).unwrap().answers);
    plugin.unload().unwrap();
    std::fs::write(stage.path().join("model.gguf"), head("bert")).unwrap();
    let loaded = plugin.load(stage.model(), any()).unwrap();
    assert_eq!((loaded.dimensions, loaded.answers), (64, false));
}

#[test]
fn a_graphics_processor_is_taken_where_there_is_one() {
    let stage = Stage::new("well");
    let mut plugin = stage.plugin(&[]);
    let devices = plugin.capabilities().unwrap().devices;
    let ids: Vec<_> = devices.iter().map(|device| device.id.as_str()).collect();
    assert_eq!(ids, ["cuda:0", "cpu"]);
    let verdict = plugin.can_serve(stage.model(), any()).unwrap();
    assert_eq!(verdict.device.unwrap().id, "cuda:0");
    let mut options = any();
    options.device = Some("cuda:7".to_owned());
    let verdict = plugin.can_serve(stage.model(), options).unwrap();
    assert!(
        !verdict.serves && verdict.reason.contains("`cuda:0`, `cpu`"),
        "{verdict:?}"
    );
}

#[test]
fn peers_are_handed_to_the_server() {
    let stage = Stage::new("well");
    let peers = json!(["10.0.0.2:50052", "10.0.0.3:50052"]);
    let mut plugin = stage.plugin(&[("rpc", peers), ("parallel", json!(2))]);
    plugin.load(stage.model(), any()).unwrap();
    let (_, arguments) = told(&plugin);
    assert!(
        arguments.contains("--rpc 10.0.0.2:50052,10.0.0.3:50052"),
        "{arguments}"
    );
    assert!(arguments.contains("-c 1024 -np 2"), "{arguments}");
}

#[test]
fn instances_that_load_the_same_share_a_server_that_ends_with_the_last() {
    let stage = Stage::new("well");
    let (mut one, mut other) = (stage.plugin(&[]), stage.plugin(&[]));
    one.load(stage.model(), any()).unwrap();
    other.load(stage.model(), any()).unwrap();
    let (id, _) = told(&one);
    assert_eq!(told(&other).0, id);
    one.unload().unwrap();
    assert_eq!(other.ready(), Ok(()));
    let watched = stand_in::Watched::new(id);
    other.shutdown().unwrap();
    assert!(watched.is_gone());
}

#[test]
fn what_is_not_served_says_why_and_what_to_do() {
    let stage = Stage::new("well");
    let mut plugin = stage.plugin(&[]);
    let empty = tempfile::tempdir().unwrap();
    let at = |path: &Path| Model {
        name: "m".to_owned(),
        directory: Some(path.to_string_lossy().into_owned()),
        adapter: None,
    };
    let mut reason = |model: Model, options: Options| {
        let verdict = plugin.can_serve(model, options).unwrap();
        assert!(!verdict.serves, "{verdict:?}");
        verdict.reason
    };
    let why = reason(at(empty.path()), any());
    assert!(
        why.contains("SafeTensors") && why.contains("`models = { \"m\""),
        "{why}"
    );
    let nowhere = Model {
        name: "m".to_owned(),
        directory: None,
        adapter: None,
    };
    assert!(reason(nowhere, any()).contains("`models"));
    let mut options = any();
    options.format = Some(vox_plugin::compute::WeightFormat::Q40);
    assert!(reason(stage.model(), options).contains("format"));
    std::fs::write(empty.path().join("a.gguf"), "nonsense").unwrap();
    assert!(reason(at(empty.path()), any()).contains("no GGUF file"));
    std::fs::write(empty.path().join("b.gguf"), "nonsense").unwrap();
    assert!(reason(at(empty.path()), any()).contains("2 GGUF files"));
    let missing = json!("no-such-llama-server");
    let verdict = stage
        .plugin(&[("program", missing)])
        .can_serve(stage.model(), any());
    assert!(verdict.unwrap().reason.contains("PATH"));
}

#[test]
fn a_model_is_found_by_the_name_that_the_configuration_maps() {
    let stage = Stage::new("well");
    let directory = tempfile::tempdir().unwrap();
    for part in ["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"] {
        std::fs::write(directory.path().join(part), head("llama")).unwrap();
    }
    let file: PathBuf = stage.path().join("model.gguf");
    let mut plugin = stage.plugin(&[("models", json!({ "mapped": file }))]);
    let mut model = Model {
        name: "mapped".to_owned(),
        directory: None,
        adapter: None,
    };
    assert!(plugin.can_serve(model.clone(), any()).unwrap().serves);
    "parts".clone_into(&mut model.name);
    model.directory = Some(directory.path().to_string_lossy().into_owned());
    let verdict = plugin.can_serve(model, any()).unwrap();
    assert!(
        verdict.reason.contains("big-00001-of-00002.gguf"),
        "{verdict:?}"
    );
}
