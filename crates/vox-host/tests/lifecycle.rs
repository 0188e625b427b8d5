//! The states of plugins: the table that the documentation shows, and hosts that are led through
//! operations in any order and never leave it.
//!
//! A host says every change of a state in a record, `vox.plugin.state`. The tests look at these
//! records, which miss nothing, and at the state that the host answers between two operations.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use vox_contract::{Carrier, GrantsFile, PluginId};
use vox_host::contract::stage::Opening;
use vox_host::contract::{Chunk, ChunkHead, Error as Refusal};
use vox_host::lifecycle::{State, Step};
use vox_host::{CallError, CancelToken, Error, Host, Instance, InstanceOptions, Ports, Reloaded};
use vox_testkit::World;

const GRANTS: &str = "[plugin.conformance]\nstream_io = true\n";
/// Instances that a sequence of operations holds at most.
const HELD: usize = 3;
/// The releases that are put on disk, as the plugin `conformance` calls them.
const RELEASES: [&str; 6] = [
    "good", "second", "failinit", "unwell", "norestor", "panicwrk",
];

/// What a state leads to at each step, read from the documentation.
fn documented() -> BTreeMap<(String, String), String> {
    let page =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/reference/plugin-states.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| step |"));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    };
    let states = cells(rows.next().unwrap());
    let mut table = BTreeMap::new();
    for row in rows.skip(1).take_while(|line| line.starts_with('|')) {
        let row = cells(row);
        for (state, to) in states.iter().zip(&row).skip(1) {
            table.insert((state.clone(), row[0].clone()), to.clone());
        }
    }
    table
}

#[test]
fn every_step_from_every_state_leads_where_the_documentation_says_or_is_refused() {
    let mut documented = documented();
    for state in State::ALL {
        for step in Step::ALL {
            let to = documented.remove(&(state.to_string(), step.to_string()));
            let after = state.after(step).map_or("", State::name);
            assert_eq!(to.as_deref(), Some(after), "`{step}` from `{state}`");
        }
    }
    assert!(documented.is_empty(), "unknown to the host: {documented:?}");
}

/// The changes of states that hosts said, in their order.
#[derive(Clone, Default)]
struct Changes(Arc<Mutex<Vec<[String; 2]>>>);

/// The fields of one record.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Changes {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let fields = fields.0;
        if fields.get("message").map(String::as_str) == Some("vox.plugin.state") {
            let change = ["from", "to"].map(|field| fields[field].clone());
            self.0.lock().unwrap().push(change);
        }
    }
}

/// Somebody else who listens, for as long as the tests run. Where there is one alone, a record that is met for the
/// first time on a thread without any counts as one that nobody wants, and is not told to that one either.
static OTHER: LazyLock<tracing::Dispatch> =
    LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));

impl Changes {
    fn dispatch(&self) -> tracing::Dispatch {
        LazyLock::force(&OTHER);
        tracing::Dispatch::new(tracing_subscriber::registry().with(self.clone()))
    }

    /// Fails unless every change begins where the one before it ended, the first in `unloaded`,
    /// and some step leads there; answers where the last one ended.
    fn check(&self) -> Result<String, String> {
        let mut at = State::Unloaded.to_string();
        for [from, to] in &*self.0.lock().unwrap() {
            if *from != at {
                return Err(format!("from `{from}`, after it was `{at}`"));
            }
            let legal = State::ALL.iter().any(|state| {
                let leads = |step: &Step| state.after(*step).is_some_and(|to_| to_.name() == to);
                state.name() == from && Step::ALL.iter().any(leads)
            });
            if !legal {
                return Err(format!("no step leads from `{from}` to `{to}`"));
            }
            at.clone_from(to);
        }
        Ok(at)
    }
}

/// Takes whatever is pushed.
struct Discard;

impl Ports for Discard {
    fn push(&self, _: &str, _: ChunkHead, _: &[u8], _: Option<Duration>) -> Result<(), Refusal> {
        Ok(())
    }

    fn pull(&self, _: &str, _: Option<Duration>) -> Result<Option<Chunk>, Refusal> {
        Ok(None)
    }
}

fn id() -> PluginId {
    "conformance".parse().unwrap()
}

fn grants(text: &str) -> GrantsFile {
    GrantsFile::parse(text, Path::new("grants of the test")).unwrap()
}

/// A component's instance that panics in a function of `lifecycle`, if one is named.
fn options(panics_in: Option<&str>) -> InstanceOptions {
    let mut options = InstanceOptions::default();
    options.ports = Arc::new(Discard);
    options.carrier = Some(Carrier::Component);
    if let Some(function) = panics_in {
        options
            .config
            .insert("panic_in".to_owned(), json!(function));
    }
    options
}

fn process(instance: &mut Instance) -> Result<(), CallError> {
    let head = ChunkHead {
        modality: "text".into(),
        sequence: 0,
        timestamp: 0,
        attributes: vec![],
    };
    instance.stage()?.process(&head, b"chunk")
}

/// The component of each release, by the number in [`RELEASES`]; made once, as that takes a while.
static COMPONENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let world = World::with(&["conformance"]);
    let component = |word: &&str| {
        world.release(word);
        std::fs::read(component(&world)).unwrap()
    };
    RELEASES.iter().map(component).collect()
});

fn component(world: &World) -> std::path::PathBuf {
    world
        .directories()
        .installed()
        .join("conformance/0.1.0/conformance.wasm")
}

/// Puts a component on disk, whole at once.
fn put(world: &World, bytes: &[u8]) {
    let aside = world.path().join("aside");
    std::fs::write(&aside, bytes).unwrap();
    std::fs::rename(&aside, component(world)).unwrap();
}

/// What can be done with a plugin, and befall it. Instances are named by their number, of those
/// that are held.
#[derive(Clone, Debug)]
enum Operation {
    /// Asks for an instance, which panics in a function of `lifecycle` if one is named.
    Load(Option<&'static str>),
    /// Makes a call.
    Call(usize),
    /// Makes a call that panics.
    Crash(usize),
    Drop(usize),
    Pause,
    Resume,
    Unload,
    Reload,
    /// Puts a release on disk.
    Release(usize),
    /// Leaves half a payload on disk.
    Truncate,
    /// Grants what calls need, or nothing.
    Grant(bool),
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{
        Call, Crash, Drop, Grant, Load, Pause, Release, Reload, Resume, Truncate, Unload,
    };
    let faults = [
        None,
        None,
        Some("shutdown"),
        Some("snapshot"),
        Some("health"),
    ];
    prop_oneof![
        4 => prop::sample::select(faults.to_vec()).prop_map(Load),
        4 => (0..HELD).prop_map(Call),
        2 => (0..HELD).prop_map(Crash),
        2 => (0..HELD).prop_map(Drop),
        1 => Just(Pause),
        2 => Just(Resume),
        2 => Just(Unload),
        4 => Just(Reload),
        4 => (0..RELEASES.len()).prop_map(Release),
        1 => Just(Truncate),
        1 => any::<bool>().prop_map(Grant),
    ]
}

/// A host, the instances that are held, and what is known of them.
struct Rig<'a> {
    world: &'a World,
    host: Host,
    held: Vec<Instance>,
    state: State,
}

/// What an operation may have left: a state, and what is wrong with it otherwise.
type Verdict = Result<(), String>;

impl Rig<'_> {
    fn status(&self) -> State {
        self.host.status(&id()).unwrap().state
    }

    fn alive(&self) -> usize {
        self.held.iter().filter(|held| held.is_alive()).count()
    }

    /// Does one operation, and compares what came of it with the table.
    fn perform(&mut self, operation: &Operation) -> Verdict {
        let before = self.state;
        match *operation {
            Operation::Load(panics_in) => self.load(panics_in)?,
            Operation::Call(at) => self.call(at, false)?,
            Operation::Crash(at) => self.call(at, true)?,
            Operation::Drop(at) => {
                if at < self.held.len() {
                    drop(self.held.remove(at));
                    self.drained();
                }
            }
            Operation::Pause => self.step(Step::Pause, self.host.pause(&id()))?,
            Operation::Resume => self.step(Step::Resume, self.host.resume(&id()))?,
            Operation::Unload => {
                self.step(Step::Unload, self.host.unload(&id()))?;
                self.drained();
            }
            Operation::Reload => self.reload()?,
            Operation::Release(number) => put(self.world, &COMPONENTS[number]),
            Operation::Truncate => put(self.world, &COMPONENTS[0][..COMPONENTS[0].len() / 2]),
            Operation::Grant(true) => self.host.set_grants(grants(GRANTS)),
            Operation::Grant(false) => self.host.set_grants(GrantsFile::default()),
        }
        let after = self.status();
        expect(after == self.state, || {
            format!("`{after}` instead of `{}`, from `{before}`", self.state)
        })
    }

    /// The last live instance of a plugin that is let go ends its draining.
    fn drained(&mut self) {
        if self.state == State::Draining && self.alive() == 0 {
            self.state = State::Unloaded;
        }
    }

    /// The outcome of a step that the user asked for.
    fn step(&mut self, step: Step, outcome: Result<(), Error>) -> Verdict {
        match (self.state.after(step), outcome) {
            (Some(to), Ok(())) => {
                self.state = to;
                Ok(())
            }
            (None, Err(error)) => self.refused(step, &error),
            (_, outcome) => Err(format!("{step} from `{}`: {outcome:?}", self.state)),
        }
    }

    fn refused(&self, refused: Step, error: &Error) -> Verdict {
        let named = matches!(error, Error::IllegalStep { state, step, .. }
            if *state == self.state && *step == refused);
        expect(named, || {
            format!("{refused} from `{}`: {error}", self.state)
        })
    }

    /// A plugin that fails may do so once too often; then the reason is kept.
    fn may_have_failed(&mut self, why: &str) -> Verdict {
        let status = self.host.status(&id()).unwrap();
        if status.state == State::Error {
            self.state = State::Error;
            expect(status.reason.is_some(), || {
                format!("no reason, after: {why}")
            })?;
        }
        Ok(())
    }

    fn load(&mut self, panics_in: Option<&str>) -> Verdict {
        if self.held.len() == HELD {
            return Ok(());
        }
        let mut options = options(panics_in);
        if self.state == State::Paused {
            // It would wait until it is resumed.
            options.cancel = CancelToken::new();
            options.cancel.cancel();
        }
        let made = self.host.instance(&id(), options);
        match (self.state, made) {
            (State::Unloaded | State::Active | State::Error, Ok(made)) => {
                self.held.push(made);
                self.state = State::Active;
                Ok(())
            }
            (State::Draining | State::Error, Err(Error::NotServing { state, .. })) => {
                expect(state == self.state, || format!("refused as in `{state}`"))
            }
            (State::Paused, Err(Error::Call(CallError::Cancelled { .. }))) => Ok(()),
            (State::Unloaded | State::Active | State::Error, Err(error)) => {
                // Its code may have been loaded before what failed.
                if self.status() == State::Active {
                    self.state = State::Active;
                }
                self.may_have_failed(&error.to_string())
            }
            (state, made) => Err(format!("an instance from `{state}`: {made:?}")),
        }
    }

    fn call(&mut self, at: usize, crash: bool) -> Verdict {
        let state = self.state;
        let Some(instance) = self.held.get_mut(at) else {
            return Ok(());
        };
        // While the plugin is paused a call waits.
        let patience = (state == State::Paused).then_some(Duration::from_millis(1));
        instance.set_timeout(patience);
        let made = if crash {
            let opening = Opening {
                run: String::new(),
                step: String::new(),
                arguments: r#"{"do":"panic"}"#.to_owned(),
            };
            let opened = instance.stage().and_then(|mut stage| stage.open(&opening));
            opened.and_then(|()| process(instance))
        } else {
            process(instance)
        };
        instance.set_timeout(None);
        match (state, made) {
            (State::Active, Ok(())) => Ok(()),
            (State::Active, Err(error)) => {
                let answered = !matches!(
                    error,
                    CallError::NotServing { .. } | CallError::TimedOut { .. }
                );
                expect(answered, || error.to_string())?;
                self.may_have_failed(&error.to_string())
            }
            (State::Paused, Err(CallError::TimedOut { .. })) => Ok(()),
            (_, Err(CallError::NotServing { state: named, .. })) if !state.serves() => {
                expect(named == state, || format!("refused as in `{named}`"))
            }
            (state, made) => Err(format!("a call in `{state}`: {made:?}")),
        }
    }

    fn reload(&mut self) -> Verdict {
        let outcome = self.host.reload(&id());
        match (self.state, outcome) {
            (State::Unloaded, Ok(Reloaded::NotLoaded)) => Ok(()),
            (State::Error, Ok(Reloaded::NotLoaded)) => {
                self.state = State::Active;
                Ok(())
            }
            (State::Error, Err(error)) => self.may_have_failed(&error.to_string()),
            (
                State::Active,
                Ok(Reloaded::Replaced { .. } | Reloaded::Unchanged)
                | Err(Error::NotReloaded { .. }),
            ) => Ok(()),
            (State::Paused | State::Draining, Err(error)) => self.refused(Step::Reload, &error),
            (state, outcome) => Err(format!("reload from `{state}`: {outcome:?}")),
        }
    }

    /// Whatever happened, a user who lets the plugin go gets it back.
    fn serves_again(mut self) -> Verdict {
        put(self.world, &COMPONENTS[0]);
        self.host.set_grants(grants(GRANTS));
        self.held.clear();
        self.drained();
        if self.state != State::Unloaded {
            self.perform(&Operation::Unload)?;
        }
        let state = self.status();
        expect(state == State::Unloaded, || {
            format!("let go, and `{state}`")
        })?;
        let mut instance = self
            .host
            .instance(&id(), options(None))
            .map_err(|error| format!("not loaded again: {error}"))?;
        process(&mut instance).map_err(|error| format!("no call after it: {error}"))
    }
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

#[test]
fn no_sequence_of_operations_leaves_the_table() {
    let world = World::with(&["conformance"]);
    let mut runner = TestRunner::new(Config {
        cases: 48,
        max_shrink_iters: 256,
        failure_persistence: None,
        ..Config::default()
    });
    let sequences = prop::collection::vec(operation(), 1..24);
    let ran = runner.run(&sequences, |operations| {
        let changes = Changes::default();
        let verdict = tracing::dispatcher::with_default(&changes.dispatch(), || {
            put(&world, &COMPONENTS[0]);
            let mut rig = Rig {
                world: &world,
                host: world.host(GRANTS),
                held: Vec::new(),
                state: State::Unloaded,
            };
            for (number, operation) in operations.iter().enumerate() {
                rig.perform(operation)
                    .map_err(|error| format!("operation {number}, {operation:?}: {error}"))?;
                let said = changes.check()?;
                expect(said == rig.state.name(), || format!("said to be `{said}`"))?;
            }
            rig.serves_again()
        });
        verdict.map_err(TestCaseError::fail)
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_host_that_is_steered_while_calls_are_made_never_leaves_the_table() {
    let world = World::with(&["conformance"]);
    let changes = Changes::default();
    let dispatch = changes.dispatch();
    put(&world, &COMPONENTS[0]);
    let host = tracing::dispatcher::with_default(&dispatch, || world.host(GRANTS));
    let over = AtomicBool::new(false);
    let outcomes: Vec<_> = thread::scope(|scope| {
        for panics_in in [None, Some("shutdown")] {
            let (dispatch, host, over) = (dispatch.clone(), &host, &over);
            scope.spawn(move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    while !over.load(Ordering::Acquire) {
                        let Ok(mut instance) = host.instance(&id(), options(panics_in)) else {
                            thread::yield_now();
                            continue;
                        };
                        for _ in 0..20 {
                            // Refused or not: what counts is what the host says of the states.
                            let _ = process(&mut instance);
                        }
                    }
                });
            });
        }
        let steered = tracing::dispatcher::with_default(&dispatch, || {
            let steer = |number: usize| {
                put(&world, &COMPONENTS[number % 2]);
                let outcome = match number % 4 {
                    0 | 2 => host.reload(&id()).map(drop),
                    1 => host.unload(&id()),
                    _ => host.pause(&id()),
                };
                // Nothing else pauses it, so nothing else is refused.
                let _ = host.resume(&id());
                outcome
            };
            (0..60).map(steer).collect()
        });
        over.store(true, Ordering::Release);
        steered
    });
    for outcome in outcomes {
        let legal = matches!(
            outcome,
            Ok(()) | Err(Error::IllegalStep { .. } | Error::NotReloaded { .. })
        );
        assert!(legal, "{outcome:?}");
    }
    let said = changes.check().unwrap();
    assert_eq!(said, host.status(&id()).unwrap().state.name());
    if said != "unloaded" {
        host.unload(&id()).unwrap();
    }
    assert_eq!(host.status(&id()).unwrap().state, State::Unloaded);
    process(&mut host.instance(&id(), options(None)).unwrap()).unwrap();
}

#[test]
fn an_instance_that_crashes_in_shutdown_ends_the_draining_all_the_same() {
    let world = World::with(&["conformance"]);
    let host = world.host(GRANTS);
    let last = host.instance(&id(), options(Some("shutdown"))).unwrap();
    host.unload(&id()).unwrap();
    assert_eq!(host.status(&id()).unwrap().state, State::Draining);
    drop(last);
    assert_eq!(host.status(&id()).unwrap().state, State::Unloaded);
    process(&mut host.instance(&id(), options(None)).unwrap()).unwrap();
}
