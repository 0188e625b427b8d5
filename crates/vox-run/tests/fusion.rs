//! Streams that become one, vectors that give back what went into them, and agents that work together.

mod project;
mod steps;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use vox_crypto::canonical;
use vox_host::contract::Attribute;
use vox_run::report::PluginEvent;
use vox_run::{Cause, Engine, RunOutcome, RunReport};
use vox_vsa::Hypervector;

use project::{GRANTS, Project, plan, told};
use steps::{cause, fact, fate, of, step, write};

/// A step that pushes texts, each with when it happened in milliseconds.
fn timed(key: &str, chunks: &[(&str, u64)]) -> Value {
    let piece =
        |(text, millis): &(&str, u64)| json!({ "text": text, "timestamp": millis * 1_000_000 });
    let chunks: Vec<Value> = chunks.iter().map(piece).collect();
    step(
        key,
        json!({ "do": "write", "port": "out", "chunks": chunks }),
        json!({}),
    )
}

/// A step of Vox's own.
fn built_in(key: &str, uses: &str, arguments: Value, inputs: Value) -> Value {
    json!({ "key": key, "uses": uses, "with": arguments, "inputs": inputs })
}

/// Joins the streams of `a` and `b`.
fn fuse(arguments: Value) -> Value {
    let inputs = json!({ "a": { "from": "a.out" }, "b": { "from": "b.out" } });
    built_in("fused", "fuse", arguments, inputs)
}

/// A step that tells every chunk of a stream.
fn teller(key: &str, from: &str) -> Value {
    step(
        key,
        json!({ "do": "tell", "port": "in" }),
        json!({ "inputs": { "in": { "from": from } } }),
    )
}

/// The chunks that a step has told.
fn chunks<'r>(report: &'r RunReport, key: &str) -> Vec<&'r Value> {
    let of_step =
        |event: &&PluginEvent| event.name == "chunk" && event.step.as_deref() == Some(key);
    let events = report.plugin_events.iter().filter(of_step);
    events.map(|event| &event.payload).collect()
}

fn bytes(chunk: &Value) -> Vec<u8> {
    serde_json::from_value(chunk["data"].clone()).unwrap()
}

fn text(chunk: &Value) -> String {
    String::from_utf8(bytes(chunk)).unwrap()
}

/// A member of a set, as the documentation says that it is encoded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    modality: String,
    sequence: u64,
    timestamp: u64,
    attributes: Vec<Attribute>,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

/// The sets that the step `told` has told.
fn sets(report: &RunReport) -> Vec<BTreeMap<String, Member>> {
    let decode = |chunk: &&Value| {
        assert_eq!(chunk["modality"], "fusion/set");
        canonical::decode_any(&bytes(chunk)).unwrap()
    };
    chunks(report, "told").iter().map(decode).collect()
}

/// The texts of each set, in the order of their ports.
fn texts(report: &RunReport) -> Vec<String> {
    let texts = |set: &BTreeMap<String, Member>| {
        let texts: Vec<&str> = set
            .values()
            .map(|member| std::str::from_utf8(&member.data).unwrap())
            .collect();
        texts.join("+")
    };
    sets(report).iter().map(texts).collect()
}

/// Runs steps that must succeed.
fn run(steps: &[Value]) -> RunReport {
    let report = Project::new().run(steps).report;
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    report
}

#[test]
fn zip_joins_the_chunks_that_have_one_place_in_their_streams() {
    let report = run(&[
        timed("a", &[("a0", 5), ("a1", 6)]),
        timed("b", &[("b0", 7), ("b1", 1)]),
        fuse(json!({ "policy": "zip" })),
        teller("told", "fused.out"),
    ]);
    assert_eq!(texts(&report), ["a0+b0", "a1+b1"]);
    let set = &sets(&report)[1];
    let member = &set["b"];
    assert_eq!(
        (member.modality.as_str(), member.sequence, member.timestamp),
        ("text", 1, 1_000_000)
    );
    assert!(member.attributes.is_empty());
    // A set happened when the last of its chunks did.
    let told = chunks(&report, "told");
    assert_eq!(told[0]["timestamp"], 7_000_000);
    assert_eq!(told[1]["timestamp"], 6_000_000);
    assert_eq!(told[1]["sequence"], 1);
    assert_eq!(fate(&report, "fused"), "succeeded: 2 sets fused");
}

#[test]
fn by_time_joins_what_happened_within_the_tolerance_and_passes_the_rest_over() {
    let report = run(&[
        timed("a", &[("a0", 0), ("a1", 100), ("a2", 200)]),
        timed("b", &[("b0", 20), ("b1", 150), ("b2", 221)]),
        fuse(json!({ "policy": "by-time", "tolerance": "20ms" })),
        teller("told", "fused.out"),
    ]);
    // 20 ms is within; 50 and 21 are not.
    assert_eq!(texts(&report), ["a0+b0"]);
    assert!(
        fate(&report, "fused").starts_with("succeeded: 1 set fused, "),
        "{}",
        fate(&report, "fused")
    );
    let report = run(&[
        timed("a", &[("a0", 0), ("a1", 100), ("a2", 200)]),
        timed("b", &[("b0", 5), ("b1", 150), ("b2", 210)]),
        fuse(json!({ "policy": "by-time", "tolerance": "20ms" })),
        teller("told", "fused.out"),
    ]);
    assert_eq!(texts(&report), ["a0+b0", "a2+b2"]);
    assert_eq!(
        fate(&report, "fused"),
        "succeeded: 2 sets fused, 2 chunks found no partner"
    );
}

#[test]
fn latest_joins_each_chunk_with_the_last_of_the_others() {
    let report = run(&[
        timed("a", &[("a0", 0)]),
        timed("b", &[("b0", 0), ("b1", 0), ("b2", 0)]),
        fuse(json!({ "policy": "latest" })),
        teller("told", "fused.out"),
    ]);
    let texts = texts(&report);
    // Which stream is ahead is open; what is last, and that nothing goes back, is not.
    assert!((1..=3).contains(&texts.len()), "{texts:?}");
    assert_eq!(texts.last().unwrap(), "a0+b2");
    assert!(texts.is_sorted(), "{texts:?}");
}

#[test]
fn a_stage_that_joins_is_told_of_each_chunk_where_it_comes_from() {
    let report = run(&[
        timed("a", &[("one", 0), ("two", 0)]),
        timed("b", &[("three", 0), ("four", 0)]),
        fuse(json!({ "policy": "stage", "stage": "conformance" })),
        teller("told", "fused.out"),
    ]);
    let mut told: Vec<(String, String)> = chunks(&report, "told")
        .into_iter()
        .map(|chunk| {
            let port = chunk["attributes"]["port"].as_str().unwrap();
            (port.to_owned(), text(chunk))
        })
        .collect();
    // Those of one stream keep their order.
    told.sort_by(|one, other| one.0.cmp(&other.0));
    let told: Vec<(&str, &str)> = told
        .iter()
        .map(|(port, text)| (port.as_str(), text.as_str()))
        .collect();
    assert_eq!(
        told,
        [("a", "ONE"), ("a", "TWO"), ("b", "THREE"), ("b", "FOUR")]
    );
    assert_eq!(
        fate(&report, "fused"),
        "succeeded: 4 chunks joined by `conformance`"
    );
}

#[test]
fn what_does_not_belong_together_in_the_arguments_of_a_fusion_is_refused() {
    let project = Project::new();
    for (arguments, why) in [
        (json!({ "policy": "by-time" }), "`tolerance` belongs to"),
        (
            json!({ "policy": "zip", "tolerance": "1s" }),
            "`tolerance` belongs to",
        ),
        (json!({ "policy": "stage" }), "`stage` belongs to"),
        (
            json!({ "policy": "zip", "dimensions": 8 }),
            "`dimensions` belongs to",
        ),
        (
            json!({ "policy": "zip", "as": "vector", "dimensions": 9 }),
            "a positive multiple of 8",
        ),
        (json!({ "policy": "zap" }), "is not one of"),
    ] {
        let steps = [timed("a", &[]), timed("b", &[]), fuse(arguments)];
        let told = project.prepare(&steps).unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    }
    let one = built_in(
        "fused",
        "fuse",
        json!({ "policy": "zip" }),
        json!({ "a": { "from": "a.out" } }),
    );
    let told = project.prepare(&[timed("a", &[]), one]).unwrap_err();
    let why = "a fusion needs two streams at least, as `inputs`";
    assert!(told.to_string().contains(why), "{told}");
}

/// Sets that are fused: more than a stream holds back of what goes to the memory.
const SETS: usize = 8;

/// The three modalities, each with the text of its nth chunk.
const MODALITIES: [(&str, &str); 3] = [
    ("text", "text"),
    ("audio", "audio/pcm"),
    ("image", "image/png"),
];

/// A writer for each modality, their fusion into vectors, and for each of them a step that takes it out
/// again, with the memory or without.
fn vectors(remembers: bool) -> Vec<Value> {
    let mut steps = Vec::new();
    for (name, modality) in MODALITIES {
        let chunk = |number| json!({ "text": format!("{name} {number}"), "modality": modality });
        let chunks: Vec<Value> = (0..SETS).map(chunk).collect();
        let arguments = json!({ "do": "write", "port": "out", "chunks": chunks });
        steps.push(step(name, arguments, json!({})));
    }
    let inputs =
        MODALITIES.map(|(name, _)| (name.to_owned(), json!({ "from": format!("{name}.out") })));
    let inputs: serde_json::Map<String, Value> = inputs.into_iter().collect();
    let arguments = json!({ "policy": "zip", "as": "vector", "dimensions": 10_000 });
    steps.push(built_in("fused", "fuse", arguments, Value::Object(inputs)));
    for (name, _) in MODALITIES {
        let key = format!("un-{name}");
        let mut inputs = json!({ "fused": { "from": "fused.out" } });
        if remembers {
            inputs["memory"] = json!({ "from": "fused.memory" });
        }
        steps.push(built_in(&key, "unfuse", json!({ "role": name }), inputs));
        steps.push(teller(&format!("told-{name}"), &format!("{key}.out")));
    }
    steps
}

/// How like the vectors that came out are to those that went in, for each modality and set.
fn similarities(report: &RunReport) -> Vec<(f32, &Value)> {
    let mut similarities = Vec::new();
    for (name, modality) in MODALITIES {
        let told = chunks(report, &format!("told-{name}"));
        assert_eq!(told.len(), SETS, "{name}");
        for (number, chunk) in told.into_iter().enumerate() {
            assert_eq!(chunk["modality"], "vsa/bipolar");
            assert_eq!(chunk["attributes"]["role"], name);
            // The vector of a chunk is the symbol of its modality and hash.
            let hash = vox_crypto::hash(format!("{name} {number}").as_bytes()).to_hex();
            let expected = Hypervector::symbol(&format!("{modality}/{hash}"), 10_000).unwrap();
            let found = Hypervector::from_bytes(&bytes(chunk)).unwrap();
            similarities.push((found.similarity(&expected).unwrap(), chunk));
        }
    }
    similarities
}

#[test]
fn each_of_three_modalities_comes_back_out_of_a_fused_vector() {
    let report = run(&vectors(true));
    for (similarity, chunk) in similarities(&report) {
        assert!(similarity >= 0.9, "{similarity}");
        // What was found without the memory, by which it was looked up.
        let before = chunk["attributes"]["similarity"].as_str().unwrap();
        let before: f32 = before.parse().unwrap();
        assert!((0.4..0.6).contains(&before), "{before}");
    }
}

#[test]
fn without_the_memory_a_modality_comes_back_only_somewhat_like_itself() {
    let report = run(&vectors(false));
    for (similarity, chunk) in similarities(&report) {
        assert!((0.4..0.6).contains(&similarity), "{similarity}");
        assert!(chunk["attributes"]["similarity"].is_null());
    }
}

#[test]
fn a_role_that_was_not_fused_is_refused_with_those_that_were() {
    let steps = [
        timed("a", &[("a0", 0)]),
        timed("b", &[("b0", 0)]),
        fuse(json!({ "policy": "zip", "as": "vector" })),
        built_in(
            "un",
            "unfuse",
            json!({ "role": "aa" }),
            json!({ "fused": { "from": "fused.out" } }),
        ),
    ];
    let report = Project::new().run(&steps).report;
    assert_eq!(report.outcome, RunOutcome::Failed, "{report:#?}");
    assert_eq!(
        fate(&report, "un"),
        "failed: nothing was fused as `aa`: the roles are `a`, `b`; name one of them as `role`"
    );
}

#[test]
fn what_is_no_vector_cannot_be_unfused() {
    let report = Project::new()
        .run(&[
            timed("a", &[("seven b", 0)]),
            built_in(
                "un",
                "unfuse",
                json!({ "role": "text" }),
                json!({ "fused": { "from": "a.out" } }),
            ),
        ])
        .report;
    // Any bytes are some vector; those of no bytes are none. Seven bytes have 56 dimensions.
    assert_eq!(report.outcome, RunOutcome::Succeeded, "{report:#?}");
    let report = Project::new()
        .run(&[
            timed("a", &[("", 0)]),
            built_in(
                "un",
                "unfuse",
                json!({ "role": "text" }),
                json!({ "fused": { "from": "a.out" } }),
            ),
        ])
        .report;
    assert_eq!(report.outcome, RunOutcome::Failed);
    let fate = fate(&report, "un");
    assert!(fate.contains("a positive multiple of 8"), "{fate}");
}

/// A step in which these agents of the test plugin work, each by its script.
fn agents(agents: Value, more: Value) -> Value {
    let agents: serde_json::Map<String, Value> = agents
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, script)| {
            let mut script = script.clone();
            let hears = script.as_object_mut().unwrap().remove("hears");
            let mut agent = json!({ "plugin": "conformance", "with": script });
            if let Some(hears) = hears {
                agent["hears"] = hears;
            }
            (name.clone(), agent)
        })
        .collect();
    let mut step = json!({ "key": "troupe", "uses": "agent", "with": { "agents": agents } });
    for (key, value) in more.as_object().unwrap() {
        if key == "max-messages" {
            step["with"][key] = value.clone();
        } else {
            step[key] = value.clone();
        }
    }
    step
}

fn send(to: &str, topic: &str, body: &str) -> Value {
    json!({ "send": { "to": to, "topic": topic, "body": body } })
}

fn finish(result: &str) -> Value {
    json!({ "finish": result })
}

#[test]
fn agents_answer_each_other_until_each_has_finished() {
    // Either may be the one that begins, whatever their names are.
    for (asks, answers) in [("zoe", "ann"), ("ann", "zoe")] {
        let script = json!({
            asks: {
                "begins": [send(answers, "question", "who are you")],
                "answers": [finish("{sender} says {body}")],
            },
            answers: {
                "answers": [send("{sender}", "{topic}", "{body}, too"), finish("asked by {sender}")],
            },
        });
        let report = run(&[agents(script, json!({}))]);
        let result = |name: &str| fact(&report, "troupe", &format!("agent.{name}"));
        let said = format!("{answers} says who are you, too");
        assert_eq!(result(asks), Some(said.as_str()));
        assert_eq!(result(answers), Some(format!("asked by {asks}").as_str()));
        assert_eq!(
            fate(&report, "troupe"),
            "succeeded: 2 agents finished, 2 messages delivered"
        );
    }
}

#[test]
fn what_an_agent_sends_to_the_run_leaves_the_step_by_the_port_of_its_topic() {
    let script = json!({ "ann": { "begins": [
        send("run", "out", "first"), send("run", "out", "second"), send("run", "log", "a line\n"),
        finish("done"),
    ] } });
    let report = run(&[agents(script, json!({})), teller("told", "troupe.out")]);
    let told: Vec<(String, &Value)> = chunks(&report, "told")
        .into_iter()
        .map(|chunk| (text(chunk), &chunk["attributes"]["agent"]))
        .collect();
    let ann = json!("ann");
    assert_eq!(
        told,
        [("first".to_owned(), &ann), ("second".to_owned(), &ann)]
    );
    // What nobody reads is for people.
    let output = &of(&report, "troupe").output[0];
    assert_eq!(
        (output.port.as_str(), output.text.as_str()),
        ("log", "a line")
    );
}

#[test]
fn the_chunks_of_an_input_are_messages_to_those_who_hear_it() {
    let script = json!({
        "ann": {
            "hears": ["news"],
            "answers": [send("run", "out", "{sender} {topic} {body}")],
            "patience": 2, "ends": [finish("{body}")],
        },
        "bob": { "answers": [finish("never")] },
    });
    let troupe = agents(script, json!({ "inputs": { "news": { "from": "w.out" } } }));
    let report = run(&[
        step("w", write("out", &["one", "two"]), json!({})),
        troupe,
        teller("told", "troupe.out"),
    ]);
    assert_eq!(text(chunks(&report, "told")[0]), "run news one");
    assert_eq!(fact(&report, "troupe", "agent.ann"), Some("two"));
    // One that waits for what will not come keeps nobody.
    assert_eq!(fact(&report, "troupe", "agent.bob"), None);
}

/// Runs a step in which an agent starts `count` others that stay, with this grant.
fn spawn(grant: &str, count: usize) -> RunReport {
    let project = Project::new();
    let helper = |number| {
        json!({ "spawn": {
            "plugin": "conformance", "name": format!("helper-{number}"),
            "script": { "answers": [send("ann", "done", "helped")] },
        } })
    };
    let begins: Vec<Value> = (0..count)
        .map(helper)
        .chain([send("helper-0", "do", "it")])
        .collect();
    let script = json!({ "ann": {
        "begins": begins, "answers": [finish("{sender} {body}")],
    } });
    let host = project.world.host(&format!("{GRANTS}{grant}"));
    let surroundings = project.surroundings.clone();
    let plan = plan(&[agents(script, json!({}))]);
    let engine = Engine::prepare(&host, plan, surroundings).unwrap();
    told(&engine, &project.options()).report
}

#[test]
fn an_agent_starts_others_as_far_as_its_plugin_is_granted() {
    for (grant, count) in [("agent_spawn = 2\n", 2), ("agent_spawn = true\n", 5)] {
        let report = spawn(grant, count);
        assert_eq!(
            fact(&report, "troupe", "agent.ann"),
            Some("helper-0 helped"),
            "{grant}"
        );
    }
}

#[test]
fn an_agent_that_starts_more_than_its_plugin_is_granted_fails_the_step_and_is_told_how_to_allow_it()
{
    for (grant, why) in [
        ("", "it is not granted `agent_spawn`"),
        (
            "agent_spawn = 2\n",
            "it is granted 2 agents at the same time",
        ),
    ] {
        let report = spawn(grant, 3);
        assert_eq!(report.outcome, RunOutcome::Failed);
        let fate = fate(&report, "troupe");
        assert!(fate.contains(why), "{fate}");
        let way_out = "`vox plugin grant conformance agent_spawn` allows it";
        assert!(fate.ends_with(way_out), "{fate}");
    }
}

#[test]
fn agents_that_never_come_to_an_end_are_stopped_at_the_limit() {
    let script = json!({ "ann": {
        "begins": [send("ann", "again", "")], "answers": [send("ann", "again", "")],
    } });
    let report = Project::new()
        .run(&[agents(script, json!({ "max-messages": 50 }))])
        .report;
    assert_eq!(cause(&report, "troupe"), Cause::Error);
    let fate = fate(&report, "troupe");
    assert!(fate.contains("more than 50 messages"), "{fate}");
    assert!(fate.contains("`max-messages`"), "{fate}");
}

#[test]
fn a_message_to_nobody_fails_the_step_and_names_who_is_there() {
    let script = json!({ "ann": { "begins": [send("bob", "news", "")] } });
    let report = Project::new().run(&[agents(script, json!({}))]).report;
    let fate = fate(&report, "troupe");
    let why = "agent `ann` sends to `bob`, which is none of the agents: ann, run";
    assert!(fate.contains(why), "{fate}");
}

#[test]
fn what_agents_cannot_be_is_refused_before_the_run() {
    let project = Project::new();
    for (script, why) in [
        (json!({}), "name an agent at least, in `agents`"),
        (
            json!({ "run": {} }),
            "`run` is the address of the run itself",
        ),
        (
            json!({ "ann": { "hears": ["news"] } }),
            "the agent `ann` hears `news`, which is no input of the step",
        ),
    ] {
        let told = project.prepare(&[agents(script, json!({}))]).unwrap_err();
        assert!(told.to_string().contains(why), "{told}");
    }
}
