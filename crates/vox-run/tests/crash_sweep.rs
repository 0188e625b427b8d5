//! `kill -9` of the process that carries a run out, at everything that it tells and at everything that
//! it records.
//!
//! A pipeline with all that a run has is carried out by another process, which kills itself at the nth
//! event, or when the nth op is in the log. Then the run is resumed here. What it makes must be, byte for
//! byte, what a run makes that nobody disturbs; and a step that the log called done at the moment of the
//! kill must not have been done again. Each step notes in a file when it begins and when it has done its
//! work, which tells how often it did. The reader that goes on behind what it had acknowledged must have had
//! every chunk, the step whose result is in the cache must never be carried out, and the hook is told of the
//! beginning and the end once more.
//!
//! `VOX_CRASH_ROUNDS` is how many processes of each kind are killed at most; each point once, unless it
//! is set.

#![cfg(unix)]

#[path = "project/child.rs"]
mod child;
mod project;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use child::{command, part};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};
use vox_host::Host;
use vox_oplog::VerifyOptions;
use vox_run::machine::Machine;
use vox_run::{Engine, EventKind, Plan, Record, Resume, RunOptions, RunOutcome, Surroundings};
use vox_store::Store;
use vox_testkit::World;

use project::{contents, host_with, record_at};
use steps::{all, make, note, notes, step, write};

/// The variable that says where the plugins are.
const WORLD: &str = "VOX_RUN_WORLD";

/// The chunks of the stream whose reader goes on behind what it had acknowledged.
const ROWS: [&str; 4] = ["one", "two", "three", "four"];

/// What the plugins are granted: the test plugin, and the hook.
fn grants() -> String {
    format!("{}[plugin.sentry]\nevents = true\n", project::GRANTS)
}

/// A step that notes when it begins and when its work is done.
fn noted(key: &str, deeds: impl IntoIterator<Item = Value>, more: Value) -> Value {
    let mut whole = vec![note("+{step} {key}")];
    whole.extend(deeds);
    whole.push(note("-{step} {key}"));
    step(key, all(whole), more)
}

/// A step whose result is in the cache before the run begins.
fn kept() -> Value {
    noted(
        "kept",
        [make("made", "made by an earlier run\n")],
        json!({
            "cache": true, "inputs": {},
            "outputs": { "made": { "path": "kept.txt" } },
        }),
    )
}

/// Two roots, one of which fails the first time; three steps that streams join, with a stage between
/// them and a file at the end; one that reads files of others, and is cached; one of two that a condition
/// chooses; one that waits for all; one whose result is in the cache; and two that a stream joins whose
/// reader goes on behind what it had acknowledged.
fn pipeline() -> Vec<Value> {
    let copy = || json!({ "do": "copy" });
    let join = |output: &str| json!({ "do": "join", "output": output });
    vec![
        noted(
            "one",
            [make("made", "made by one\n")],
            json!({ "outputs": { "made": { "path": "one.txt" } } }),
        ),
        noted(
            "two",
            [
                json!({ "do": "fail-before", "attempt": 2 }),
                json!({ "do": "facts", "facts": { "weather": "fine" } }),
            ],
            json!({ "retry": { "count": 2, "delay": "1ms" } }),
        ),
        noted(
            "writer",
            [write("out", &["first\n", "second\n", "third\n"])],
            json!({ "needs": ["one"] }),
        ),
        noted(
            "middle",
            [copy()],
            json!({ "inputs": { "in": {
                "from": "writer.out", "through": [{ "stage": "conformance" }],
            } } }),
        ),
        noted(
            "reader",
            [copy()],
            json!({
                "inputs": { "in": { "from": "middle.out" } },
                "outputs": { "text": { "path": "deep/stream.txt", "port": "out" } },
            }),
        ),
        noted(
            "both",
            [join("joined")],
            json!({
                "cache": true,
                "inputs": { "a": { "from": "one.made" }, "b": { "from": "reader.text" } },
                "outputs": { "joined": { "path": "joined.txt" } },
            }),
        ),
        noted(
            "fine",
            [make("made", "the weather is fine\n")],
            json!({
                "needs": ["two"], "when": { "results": { "two.weather": "fine" } },
                "outputs": { "made": { "path": "fine.txt" } },
            }),
        ),
        noted(
            "foul",
            [make("made", "the weather is foul\n")],
            json!({
                "needs": ["two"], "when": { "results": { "two.weather": "foul" } },
                "outputs": { "made": { "path": "foul.txt" } },
            }),
        ),
        noted(
            "last",
            [join("all")],
            json!({
                "inputs": { "a": { "from": "both.joined" }, "b": { "from": "fine.made" } },
                "outputs": { "all": { "path": "last.txt" } },
            }),
        ),
        kept(),
        noted("rows", [write("out", &ROWS)], json!({})),
        noted(
            "ledger",
            [json!({ "do": "note-each", "port": "in", "file": "ledger" })],
            json!({ "inputs": { "in": { "from": "rows.out", "restart": "acknowledged" } } }),
        ),
    ]
}

/// The engine for these steps, with the hook.
fn engine(host: &Host, steps: &[Value]) -> Engine {
    let mut surroundings = Surroundings::default();
    surroundings.machine = Machine::detect().with_cpus(4);
    let reactions = json!({
        "pre_pipeline": "continue", "post_step": "continue", "post_pipeline": "continue",
    });
    let plan = json!({
        "pipeline": { "name": "test" }, "step": steps,
        "hook": [{ "uses": "sentry", "with": { "hooks": reactions } }],
    });
    let plan = Plan::parse(&plan.to_string(), "test.json").unwrap();
    Engine::prepare(host, plan, surroundings).unwrap()
}

/// Options of a run whose steps work below `place`, where its record is too.
fn options(place: &Path, record: Record) -> RunOptions {
    let work = place.join("work");
    std::fs::create_dir_all(&work).unwrap();
    let mut options = RunOptions::new(work);
    options.jobs = 4.try_into().unwrap();
    options.record = Some(record);
    options
}

/// Ends this process as `kill -9` does.
fn die() -> ! {
    let killed = kill_process(getpid(), Signal::KILL);
    unreachable!("{killed:?}")
}

/// The other process: carries a run out and dies on the way.
#[test]
fn child() {
    let Some((part, place)) = part() else { return };
    let (kind, at) = part.split_once(' ').unwrap();
    let at: usize = at.parse().unwrap();
    let world = std::env::var_os(WORLD).unwrap();
    let engine = engine(&host_with(Path::new(&world), &grants()), &pipeline());
    let (record, log) = record_at(&place.join("data"));
    let of_events = kind == "event";
    if !of_events {
        let ops = log.subscribe(0).unwrap();
        thread::spawn(move || {
            for (count, _) in ops.enumerate() {
                if count == at {
                    die();
                }
            }
        });
    }
    let mut told = 0;
    let report = engine.run(&options(&place, record), &mut |_| {
        if of_events && told == at {
            die();
        }
        told += 1;
    });
    assert_eq!(report.unwrap().outcome, RunOutcome::Succeeded);
}

/// What steps have made in `place`: everything but their notes.
fn made(place: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut made = contents(&place.join("work"));
    for notes in ["notes", "ledger"] {
        made.remove(Path::new(notes));
    }
    made
}

/// The chunks that the reader which goes on behind what it acknowledged has had, each once.
fn rows(place: &Path) -> BTreeSet<String> {
    let ledger = std::fs::read_to_string(place.join("work/ledger")).unwrap_or_default();
    ledger.lines().map(str::to_owned).collect()
}

/// Puts the result of [`kept`] into the store of `place`, as an earlier run would have: one whose log and
/// directory are others.
fn fill_cache(filler: &Engine, place: &Path) {
    let (_, log) = record_at(&place.join("earlier"));
    let (store, _) = Store::open(place.join("data/store"), Default::default()).unwrap();
    let record = Record::new(log, store, place.join("earlier"));
    let options = options(&place.join("earlier"), record);
    let report = filler.run(&options, &mut |_| ()).unwrap();
    assert_eq!(report.results_kept, 1, "{report:#?}");
}

/// How often each step has done its work, by its key.
fn done(place: &Path) -> BTreeMap<String, usize> {
    let mut done = BTreeMap::new();
    for line in notes(&place.join("work")) {
        if let Some(ended) = line.strip_prefix('-') {
            let (key, _) = ended.split_once(' ').unwrap();
            *done.entry(key.to_owned()).or_default() += 1;
        }
    }
    done
}

/// What is there after a run that nobody disturbs.
struct Undisturbed {
    made: BTreeMap<PathBuf, Vec<u8>>,
    done: BTreeMap<String, usize>,
    events: usize,
    ops: usize,
}

impl Undisturbed {
    fn run(engine: &Engine, filler: &Engine) -> Self {
        let place = tempfile::tempdir().unwrap();
        fill_cache(filler, place.path());
        let (record, log) = record_at(&place.path().join("data"));
        let mut events = 0;
        let report = engine.run(&options(place.path(), record), &mut |_| events += 1);
        assert_eq!(report.unwrap().outcome, RunOutcome::Succeeded);
        let reader = log.reader().unwrap();
        let undisturbed = Self {
            made: made(place.path()),
            done: done(place.path()),
            events,
            ops: reader.ops(Default::default()).count(),
        };
        let names: Vec<_> = undisturbed
            .made
            .keys()
            .map(|path| path.display().to_string())
            .collect();
        assert_eq!(
            names,
            [
                "deep/stream.txt",
                "fine.txt",
                "joined.txt",
                "kept.txt",
                "last.txt",
                "one.txt"
            ]
        );
        assert_eq!(
            undisturbed.made[Path::new("last.txt")],
            b"made by one\nFIRST\nSECOND\nTHIRD\nthe weather is fine\n"
        );
        // Every step but the one that the condition does not choose, and the one of an earlier run.
        assert_eq!(undisturbed.done.len(), 10);
        assert_eq!(rows(place.path()), BTreeSet::from(ROWS.map(str::to_owned)));
        assert!(undisturbed.done.values().all(|times| *times == 1));
        undisturbed
    }
}

/// The points at which processes are killed: all of them, or as many as are wanted, spread out.
fn points(all: usize) -> impl Iterator<Item = usize> {
    let wanted = std::env::var("VOX_CRASH_ROUNDS").ok();
    let wanted: usize = wanted.map_or(all, |rounds| rounds.parse().unwrap());
    (0..all).step_by(all.div_ceil(wanted.max(1)).max(1))
}

/// Has a process die at this point, resumes its run, and compares.
fn kill_and_resume(
    [engine, filler]: [&Engine; 2],
    world: &World,
    undisturbed: &Undisturbed,
    point: &str,
) -> bool {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    fill_cache(filler, place);
    let status = command(point, place)
        .env(WORLD, world.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    let killed = status.signal() == Some(9);
    assert!(killed || status.success(), "{point}: {status}");

    let (record, log) = record_at(&place.join("data"));
    let history = record.history().unwrap();
    let run = history.list(1, |_| true).unwrap().into_iter().next();
    let mut options = options(place, record.clone());
    let mut done_before = Vec::new();
    if let Some(run) = run {
        let recorded = history.load(run.id).unwrap();
        let ends = recorded.ends.iter();
        let succeeded = ends.filter(|(_, end)| end.outcome.is_success());
        done_before.extend(succeeded.map(|(key, _)| key.clone()));
        let resume = Resume::of(&recorded, engine.plan());
        resume
            .check(engine.plan(), &options.directory, &recorded, &record)
            .unwrap_or_else(|error| panic!("{point}: {error}"));
        options.id = run.id;
        options.resume = Some(resume);
    }
    let mut hooked = Vec::new();
    let report = engine.run(&options, &mut |event| {
        if let EventKind::Plugin(event) = &event.kind {
            hooked.push(event.name.clone());
        }
    });
    let report = report.unwrap();
    assert_eq!(
        report.outcome,
        RunOutcome::Succeeded,
        "{point}: {report:#?}"
    );
    let at = |wanted: &str| hooked.iter().filter(|name| *name == wanted).count();
    assert_eq!((at("pre_pipeline"), at("post_pipeline")), (1, 1), "{point}");

    assert_eq!(made(place), undisturbed.made, "{point}");
    assert_eq!(
        rows(place),
        BTreeSet::from(ROWS.map(str::to_owned)),
        "{point}"
    );
    let done = done(place);
    let keys = |done: &BTreeMap<String, usize>| done.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&done), keys(&undisturbed.done), "{point}");
    for key in &done_before {
        // The one that was taken from the cache was never done.
        let times = done.get(key).copied().unwrap_or_default();
        assert!(times <= 1, "{point}: `{key}` was done, and was done again");
    }
    // Whatever was tried again was tried under the key of the first try.
    for line in notes(&place.join("work")) {
        let (step, key) = line[1..].split_once(' ').unwrap();
        assert_eq!(key, format!("{}/{step}", options.id), "{point}");
    }
    let reader = log.reader().unwrap();
    reader
        .verify(
            &VerifyOptions::default(),
            &mut |_| ControlFlow::Continue(()),
        )
        .unwrap_or_else(|error| panic!("{point}: {error}"));
    killed
}

fn sweep(kind: &str, count: impl Fn(&Undisturbed) -> usize) {
    let world = World::with(&["conformance"]);
    let watched = ["pre_pipeline", "post_step", "post_pipeline"];
    let watched = watched.map(|point| json!({ "point": point }));
    world.add_hook("sentry", &Value::from(watched.to_vec()));
    let native = |plugin: &str| format!("[plugin.{plugin}]\nprefer = \"native\"\n");
    world.settings(&(native("conformance") + &native("sentry")));
    let host = world.host(&grants());
    let (engine, filler) = (engine(&host, &pipeline()), engine(&host, &[kept()]));
    let undisturbed = Undisturbed::run(&engine, &filler);
    let mut killed = 0;
    let mut tried = 0;
    for at in points(count(&undisturbed)) {
        tried += 1;
        let point = format!("{kind} {at}");
        let engines = [&engine, &filler];
        killed += usize::from(kill_and_resume(engines, &world, &undisturbed, &point));
    }
    // What happens at once may be told in more or fewer events, so the last points may not be reached.
    assert!(killed * 4 >= tried * 3, "{killed} of {tried} were killed");
}

#[test]
fn a_run_that_is_killed_at_any_event_is_resumed_to_the_same_end_and_repeats_nothing_that_was_done()
{
    sweep("event", |undisturbed| undisturbed.events);
}

#[test]
fn a_run_that_is_killed_at_any_op_is_resumed_to_the_same_end_and_repeats_nothing_that_was_done() {
    sweep("op", |undisturbed| undisturbed.ops);
}
