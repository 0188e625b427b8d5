//! `kill -9` at random points of imports, checkpoints and garbage collection.
//!
//! Another process imports models, saves checkpoints and collects garbage, says before each step what it
//! is about to do and after it that it is done, and is killed after a random number of words. Then
//! everything is opened: nothing that was said to be done is lost, and nothing is visible in part.
//!
//! `VOX_CRASH_ROUNDS` is the number of rounds, `VOX_CRASH_SEED` the seed of their steps.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{model, request, safetensors, training_state};
use vox_crypto::SigningKey;
use vox_model::checkpoint::{self, NewCheckpoint};
use vox_model::import::{Importer, Request};
use vox_model::library::Library;
use vox_model::progress::Progress;
use vox_model::record;
use vox_oplog::{OpLog, VerifyOptions};
use vox_store::{GcOptions, Store};

/// What tells this program that it is the other process: the seed and the place.
const ROLE: &str = "VOX_TEST_CRASH_ROLE";
const RUN: &str = "run-1";

/// The steps of a round follow from its seed (xorshift64*, Marsaglia and Vigna).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// Says how far a step is, so that it can be killed within it.
struct Said;

impl Progress for Said {
    fn begin(&self, _: &str, _: Option<u64>) {
        say("begin");
    }
    fn advance(&self, _: u64) {
        say("advance");
    }
    fn end(&self) {
        say("end");
    }
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens once this process is to be killed.
    let _ = writeln!(out, "said {word}").and_then(|()| out.flush());
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[test]
fn plays_the_other_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (seed, place) = role.split_once(' ').unwrap();
    let place = Path::new(place);
    let mut random = Random(seed.parse().unwrap());
    let (library, log, key) = support::open(place);
    let mut step = checkpoint::newest(&log.reader().unwrap(), library.store(), Some(RUN))
        .unwrap()
        .map_or(0, |newest| newest.state().step);
    let source = place.join(format!("source-{seed}"));
    loop {
        match random.below(6) {
            0..=2 => import(&library, &log, &key, &source, &mut random),
            3 | 4 => {
                step += 1;
                save(library.store(), &log, &key, &source, step);
            }
            _ => {
                say("collecting");
                collect(library.store(), place);
                say("collected");
            }
        }
    }
}

fn import(library: &Library, log: &OpLog, key: &SigningKey, source: &Path, random: &mut Random) {
    let seed = random.below(200) as u8;
    let name = format!("model-{}", random.below(3));
    model(source, seed);
    // More than one group of a tree.
    safetensors(
        &source.join("model.safetensors"),
        &[("a", 8), ("b", 40_000)],
        seed,
    );
    say(&format!("importing {name}"));
    let importer = Importer {
        library,
        log,
        key,
        progress: &Said,
    };
    let request = Request {
        name: &name,
        replace: true,
        ..request(source)
    };
    let imported = importer.import(&request).unwrap();
    say(&format!(
        "imported {name} {}",
        imported.manifest.bundle_hash
    ));
    if random.below(4) == 0 {
        library.remove(&name).unwrap();
        say(&format!("removed {name}"));
    }
}

fn save(store: &Store, log: &OpLog, key: &SigningKey, source: &Path, step: u64) {
    let directory = source.with_extension("checkpoint");
    fs::create_dir_all(&directory).unwrap();
    safetensors(
        &directory.join("model.safetensors"),
        &[("w", 30_000)],
        step as u8,
    );
    safetensors(
        &directory.join("optimizer.safetensors"),
        &[("m", 1000)],
        step as u8,
    );
    say(&format!("saving {step}"));
    let new = NewCheckpoint {
        directory: &directory,
        state: training_state(RUN, step),
        derived_from: None,
        time: 1,
    };
    checkpoint::save(store, log, key, new, &Said).unwrap();
    say(&format!("saved {step}"));
}

fn collect(store: &Store, place: &Path) {
    let log = place.join("log");
    let mut roots = |visit: &mut dyn FnMut(vox_crypto::Digest)| Ok(record::needed(&log, visit)?);
    store.gc(&mut roots, GcOptions::default()).unwrap();
}

/// What the other process said that it had done, or was about to do.
#[derive(Default)]
struct Expected {
    /// The bundle of each name; none after it was removed.
    names: BTreeMap<String, Option<String>>,
    /// A name that may or may not have changed.
    under_way: Option<String>,
    /// Steps of checkpoints.
    saved: u64,
}

impl Expected {
    fn hear(&mut self, word: &str) {
        let words: Vec<_> = word.split(' ').collect();
        match words.as_slice() {
            ["importing", name] => self.under_way = Some((*name).to_owned()),
            ["imported", name, hash] => {
                self.names
                    .insert((*name).to_owned(), Some((*hash).to_owned()));
            }
            ["removed", name] => {
                self.names.insert((*name).to_owned(), None);
            }
            ["saved", step] => self.saved = step.parse().unwrap(),
            _ => {}
        }
    }

    /// What is there now is what was said, or was under way.
    fn check(&mut self, place: &Path, out: &Path) {
        let (library, log, _) = support::open(place);
        let reader = log.reader().unwrap();
        reader
            .verify(
                &VerifyOptions::default(),
                &mut |_| ControlFlow::Continue(()),
            )
            .unwrap();
        for named in library.list().unwrap() {
            let entry = named.entry.unwrap();
            assert!(
                library.verify(&entry.manifest, &()).unwrap().is_empty(),
                "{}",
                named.name
            );
        }
        for (name, expected) in &mut self.names {
            let found = library
                .find(name)
                .ok()
                .map(|entry| entry.manifest.bundle_hash.to_string());
            if self.under_way.as_deref() == Some(name) {
                // It was replaced or not, removed or not; what it is now is what is expected from now on.
                *expected = found;
            } else {
                assert_eq!(found, *expected, "{name}");
            }
        }
        self.under_way = None;
        let newest = checkpoint::newest(&reader, library.store(), Some(RUN)).unwrap();
        let step = newest.as_ref().map_or(0, |newest| newest.state().step);
        assert!(
            step == self.saved || step == self.saved + 1,
            "{step} after {}",
            self.saved
        );
        self.saved = step;
        if let Some(newest) = newest {
            let _ = fs::remove_dir_all(out);
            checkpoint::restore(library.store(), &newest, out, &()).unwrap();
            let expected = place.join("expected.safetensors");
            safetensors(&expected, &[("w", 30_000)], step as u8);
            assert_eq!(
                fs::read(out.join("model.safetensors")).unwrap(),
                fs::read(expected).unwrap()
            );
        }
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged_and_shows_nothing_in_part() {
    if std::env::var_os(ROLE).is_some() {
        return;
    }
    let rounds = number("VOX_CRASH_ROUNDS", 100);
    let first = number("VOX_CRASH_SEED", 1);
    let place = tempfile::tempdir().unwrap();
    let out: PathBuf = place.path().join("restored");
    let mut expected = Expected::default();
    let mut random = Random(first.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for round in 0..rounds {
        let seed = random.below(1 << 30) + 1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "plays_the_other_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, format!("{seed} {}", place.path().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let words = 1 + random.below(40);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        while heard < words {
            let line = lines
                .next()
                .expect("the other process ended by itself")
                .unwrap();
            if let Some(word) = line.split_once("said ").map(|(_, word)| word) {
                expected.hear(word);
                heard += 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it was killed, and nobody had heard yet.
        for line in lines.map_while(Result::ok) {
            if let Some(word) = line.split_once("said ").map(|(_, word)| word) {
                expected.hear(word);
            }
        }
        expected.check(place.path(), &out);
        if round % 10 == 9 {
            let (library, _, _) = support::open(place.path());
            collect(library.store(), place.path());
            drop(library);
            expected.check(place.path(), &out);
        }
    }
}
