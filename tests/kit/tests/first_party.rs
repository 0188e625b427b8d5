//! The first-party plugins as a host runs them, by both carriers: what comes out of the component
//! is what comes out of the native library.

use serde_json::json;
use vox_contract::Carrier;
use vox_host::contract::{ChunkHead, stage::Opening};
use vox_host::{Host, Instance};
use vox_testkit::{Recorded, Recorder, World};

const GRANTS: &str = "[plugin.redact]\nstream_io = true\n[plugin.wordstat]\nstream_io = true\n\
                      [plugin.journal]\nkv = true\nevents = true\n[plugin.hello]\nstream_io = true\n";

/// An instance that says what it pushes and emits to `recorder`.
fn start(host: &Host, id: &str, carrier: Carrier, recorder: &std::sync::Arc<Recorder>) -> Instance {
    let mut options = recorder.options();
    options.carrier = Some(carrier);
    host.instance(&id.parse().unwrap(), options).unwrap()
}

fn opening(arguments: &serde_json::Value) -> Opening {
    Opening {
        run: "run".into(),
        step: "step".into(),
        arguments: arguments.to_string(),
    }
}

fn head(modality: &str, sequence: u64) -> ChunkHead {
    ChunkHead {
        modality: modality.into(),
        sequence,
        timestamp: 0,
        attributes: vec![],
    }
}

/// Feeds chunks to a stage and gives what came out: modality, sequence, bytes.
fn through(
    id: &str,
    carrier: Carrier,
    chunks: &[(&str, &[u8])],
) -> (Vec<(String, u64, Vec<u8>)>, Instance) {
    let world = World::with(&[id]);
    let recorder = Recorder::new();
    let mut instance = start(&world.host(GRANTS), id, carrier, &recorder);
    let mut stage = instance.stage().unwrap();
    stage.open(&opening(&json!({}))).unwrap();
    for (sequence, (modality, data)) in chunks.iter().enumerate() {
        stage
            .process(&head(modality, sequence as u64), data)
            .unwrap();
    }
    stage.finish().unwrap();
    let out = recorder.take().into_iter().map(|recorded| match recorded {
        Recorded::Chunk { port, chunk } => {
            assert_eq!(port, "out");
            (chunk.head.modality, chunk.head.sequence, chunk.data)
        }
        Recorded::Event { .. } => panic!("a stage emits nothing"),
    });
    (out.collect(), instance)
}

/// The bytes of all chunks of text.
fn text(chunks: &[(String, u64, Vec<u8>)]) -> String {
    let texts = chunks
        .iter()
        .filter(|(modality, ..)| modality == "text")
        .map(|(.., data)| data.as_slice());
    String::from_utf8(texts.collect::<Vec<_>>().concat()).unwrap()
}

#[test]
fn redact_masks_the_same_by_both_carriers_and_however_the_text_is_cut() {
    let letters =
        std::fs::read(vox_testkit::checkout().join("examples/quickstart/data/letters.txt"))
            .unwrap();
    let mut outputs = Vec::new();
    for carrier in Carrier::ALL {
        for size in [1, 7, 64, 64 * 1024] {
            let chunks = letters
                .chunks(size)
                .map(|chunk| ("text", chunk))
                .collect::<Vec<_>>();
            let (out, _) = through("redact", carrier, &chunks);
            assert!(
                out.iter()
                    .enumerate()
                    .all(|(index, (_, sequence, _))| index as u64 == *sequence)
            );
            outputs.push(text(&out));
        }
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]));
    for secret in [
        "@",
        "Donwell-Abbey-1815",
        "4111 1111",
        "AKIA",
        "9f86d081",
        "eyJhbGci",
    ] {
        assert!(!outputs[0].contains(secret), "{secret} in {}", outputs[0]);
    }
    assert!(outputs[0].contains("Dear Miss Woodhouse,"));
}

#[test]
fn redact_leaves_other_modalities_alone_and_keeps_the_order() {
    for carrier in Carrier::ALL {
        let chunks: [(&str, &[u8]); 4] = [
            ("text", b"mail ann@exam"),
            ("text", b"ple.org n"),
            ("image/png", b"ann@example.org"),
            ("text", b"ow\n"),
        ];
        let (out, _) = through("redact", carrier, &chunks);
        let image = out
            .iter()
            .position(|(modality, ..)| modality == "image/png")
            .unwrap();
        assert_eq!(out[image].2, b"ann@example.org");
        assert_eq!(text(&out[..image]), "mail [email] n");
        assert_eq!(text(&out[image..]), "ow\n");
    }
}

#[test]
fn wordstat_passes_everything_on_and_counts_words_that_are_cut_once() {
    for carrier in Carrier::ALL {
        let chunks: [(&str, &[u8]); 3] = [
            ("text", b"the whale and the wh"),
            ("text", b"ale\nthe sea\n"),
            ("text", b""),
        ];
        let (out, mut instance) = through("wordstat", carrier, &chunks);
        assert_eq!(text(&out), "the whale and the whale\nthe sea\n");
        let samples = instance.metrics().unwrap().collect().unwrap();
        let value = |name: &str| {
            samples
                .iter()
                .find(|sample| sample.name == name)
                .map(|sample| sample.value)
        };
        assert_eq!(value("words_total"), Some(7.0));
        assert_eq!(value("lines_total"), Some(2.0));
        assert_eq!(value("distinct_words"), Some(4.0));
        let whale = samples
            .iter()
            .find(|sample| sample.labels.iter().any(|label| label.value == "whale"));
        assert_eq!(whale.map(|sample| sample.value), Some(2.0));
    }
}

#[test]
fn journal_tells_what_it_saw_and_remembers_it() {
    let world = World::with(&["journal"]);
    let host = world.host(GRANTS);
    for carrier in Carrier::ALL {
        let recorder = Recorder::new();
        let mut journal = start(&host, "journal", carrier, &recorder);
        let event = json!({"point": "pre_step", "run": "r", "step": "read", "timestamp": 5, "detail": "{}"});
        let answer = journal
            .call_json("hook.handle", vec![event, json!("")])
            .unwrap();
        assert_eq!(answer, json!("Continue"));
        let [Recorded::Event { name, payload }] = &recorder.take()[..] else {
            panic!("one event")
        };
        let payload = serde_json::from_str::<serde_json::Value>(payload).unwrap();
        assert_eq!(
            (name.as_str(), &payload["point"], &payload["step"]),
            ("journal.entry", &json!("pre_step"), &json!("read"))
        );
    }
    // Both instances wrote into one journal, which is still there when they are gone.
    let kept = std::fs::read_dir(world.directories().data.join("kv/journal")).unwrap();
    let kept = kept
        .flatten()
        .map(|file| std::fs::read_to_string(file.path()).unwrap());
    assert_eq!(kept.collect::<String>().matches("pre_step").count(), 2);
}

#[test]
fn hello_greets_by_both_carriers() {
    let world = World::with(&["hello"]);
    let host = world.host(GRANTS);
    for carrier in Carrier::ALL {
        let recorder = Recorder::new();
        let mut hello = start(&host, "hello", carrier, &recorder);
        let arguments = ["Ada", "--loud", "--repeat", "2"].map(str::to_owned);
        assert_eq!(
            hello.command().unwrap().run("hello", &arguments).unwrap(),
            0
        );
        let said = recorder.take().into_iter().map(|recorded| match recorded {
            Recorded::Chunk { chunk, .. } => String::from_utf8(chunk.data).unwrap(),
            Recorded::Event { .. } => panic!("no event"),
        });
        assert_eq!(said.collect::<String>(), "HELLO, ADA!\nHELLO, ADA!\n");
    }
}
