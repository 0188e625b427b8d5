//! The events of a run as a trace that can be looked at: the trace event format of Chrome, which Perfetto
//! and `chrome://tracing` open.
//!
//! The run is one process. Its lane 0 is the run itself, from its beginning to its end and once more for
//! each time that it was resumed; below it a step takes the first lane that is free, and keeps it over all
//! of its tries and the waits between them. So there are as many lanes as steps ran at once.
//!
//! | event | is |
//! |---|---|
//! | complete (`X`), category `run` | the run; its arguments are how it ended |
//! | complete, category `step` | a try of a step; its arguments are the number of the try, how it ended, and where its result came from |
//! | complete, category `wait` | the time between two tries |
//! | instant (`i`), category `step` | a step that did not run here: skipped, taken from the cache, or done by an earlier run |
//! | instant, categories `stream` and `warning` | the end of a stream with what went through it; a warning |
//!
//! Times are microseconds since the run began. Where the clock was set back meanwhile, what comes after that
//! follows on what came before. The format is described in "Trace Event Format"
//! (<https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::event::{EventKind, RunEvent, StepHead};
use crate::report::{Provenance, StepOutcome};

/// The process of a trace.
const PROCESS: u64 = 1;

/// The lane of the run itself.
const RUN_LANE: usize = 0;

/// The trace of a run. Of a run that goes on, or was interrupted, what is open lasts until the last event.
pub fn chrome_trace(events: impl Iterator<Item = RunEvent>) -> Value {
    let mut trace = Trace::default();
    for event in events {
        trace.take(event);
    }
    trace.finish()
}

#[derive(Default)]
struct Trace {
    /// What was written until now.
    events: Vec<Value>,
    lanes: Lanes,
    steps: BTreeMap<String, StepHead>,
    /// The steps that have a lane.
    open: BTreeMap<String, Open>,
    /// When the run began, or was resumed, unless it is over.
    running: Option<u64>,
    /// The time of the first event, in nanoseconds since the Unix epoch.
    zero: Option<u64>,
    /// The time of the last event.
    last: u64,
    /// How far the clock was set back since the first event, in nanoseconds.
    set_back: u64,
    /// What is known of the whole.
    head: Map<String, Value>,
}

/// A step in its lane.
struct Open {
    lane: usize,
    since: u64,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Trying { attempt: u32 },
    Waiting { failed: u32 },
}

/// Which lanes are taken; lane 0 is not among them.
#[derive(Default)]
struct Lanes(Vec<bool>);

impl Lanes {
    /// Takes the first that is free.
    fn take(&mut self) -> usize {
        let free = self.0.iter().position(|taken| !taken);
        let index = free.unwrap_or_else(|| {
            self.0.push(false);
            self.0.len() - 1
        });
        self.0[index] = true;
        index + 1
    }

    /// The first that is free, for something that takes no time.
    fn pass(&mut self) -> usize {
        let lane = self.take();
        self.free(lane);
        lane
    }

    fn free(&mut self, lane: usize) {
        if let Some(taken) = lane.checked_sub(1).and_then(|index| self.0.get_mut(index)) {
            *taken = false;
        }
    }
}

impl Trace {
    fn take(&mut self, event: RunEvent) {
        let now = self.in_order(event.timestamp);
        self.zero.get_or_insert(now);
        match event.kind {
            EventKind::RunStarted {
                pipeline,
                file,
                resumed,
                steps,
            } => {
                // What the process that is gone had begun ended at the latest with its last event.
                self.interrupted();
                self.head.insert("run".into(), event.run.to_string().into());
                self.head.insert("pipeline".into(), pipeline.into());
                self.head
                    .insert("file".into(), file.display().to_string().into());
                self.running = Some(now);
                if resumed {
                    self.instant("resumed", "run", RUN_LANE, now, Map::new());
                }
                self.steps = steps
                    .into_iter()
                    .map(|step| (step.key.clone(), step))
                    .collect();
            }
            EventKind::StepStarted { step, attempt } => {
                // A step that streams join to the one that failed is tried again with it, and not told of.
                let lane = match self.close(&step, now, &json!({ "status": "tried-again" })) {
                    Some(lane) => lane,
                    None => self.lanes.take(),
                };
                let stage = Stage::Trying { attempt };
                let since = now;
                self.open.insert(step, Open { lane, since, stage });
            }
            EventKind::StepRetried {
                step,
                attempt,
                outcome,
                wait,
            } => {
                let mut ended = fields(&outcome);
                ended.insert("wait_seconds".into(), wait.as_secs_f64().into());
                if let Some(lane) = self.close(&step, now, &Value::Object(ended)) {
                    let stage = Stage::Waiting { failed: attempt };
                    let since = now;
                    self.open.insert(step, Open { lane, since, stage });
                }
            }
            EventKind::StepEnded {
                step,
                outcome,
                provenance,
                ..
            } => self.step_ended(&step, now, &outcome, &provenance),
            EventKind::StreamEnded(stream) => {
                let name = format!("{} -> {}", stream.from, stream.to);
                self.instant(&name, "stream", RUN_LANE, now, fields(&stream));
            }
            EventKind::Warning { message } => {
                let said = Map::from_iter([("message".to_owned(), message.into())]);
                self.instant("warning", "warning", RUN_LANE, now, said);
            }
            EventKind::RunEnded { outcome, .. } => {
                self.close_all(now, "ended with the run");
                self.run_over(now, fields(&outcome));
            }
            EventKind::StepProgress { .. }
            | EventKind::StepOutput { .. }
            | EventKind::Metrics(_)
            | EventKind::Plugin(_) => {}
        }
        self.last = now;
    }

    /// The time of an event as it would be if nobody had set the clock back: events are in the order in
    /// which they happened.
    fn in_order(&mut self, timestamp: u64) -> u64 {
        self.set_back = self.set_back.max(self.last.saturating_sub(timestamp));
        timestamp.saturating_add(self.set_back)
    }

    fn step_ended(&mut self, step: &str, now: u64, outcome: &StepOutcome, provenance: &Provenance) {
        let mut ended = fields(outcome);
        ended.extend(fields(provenance));
        match self.close(step, now, &Value::Object(ended.clone())) {
            Some(lane) => self.lanes.free(lane),
            None => {
                let lane = self.lanes.pass();
                let name = match (provenance.cached, provenance.earlier) {
                    (Some(_), _) => format!("{step} (cached)"),
                    (None, Some(_)) => format!("{step} (done before)"),
                    (None, None) => format!("{step} ({})", outcome.status()),
                };
                self.describe(step, &mut ended);
                self.instant(&name, "step", lane, now, ended);
            }
        }
    }

    /// Writes what a step that has a lane was at until `now`, with how that ended; answers its lane.
    fn close(&mut self, step: &str, now: u64, ended: &Value) -> Option<usize> {
        let Open { lane, since, stage } = self.open.remove(step)?;
        let mut arguments = Map::new();
        let (name, category) = match stage {
            Stage::Trying { attempt } => {
                if let Value::Object(ended) = ended {
                    arguments.clone_from(ended);
                }
                arguments.insert("attempt".into(), attempt.into());
                self.describe(step, &mut arguments);
                let name = match attempt {
                    0 | 1 => step.to_owned(),
                    _ => format!("{step} (try {attempt})"),
                };
                (name, "step")
            }
            Stage::Waiting { failed } => {
                arguments.insert("step".into(), step.into());
                arguments.insert("failed_attempt".into(), failed.into());
                (format!("{step} (waits)"), "wait")
            }
        };
        self.complete(&name, category, lane, since, now, arguments);
        Some(lane)
    }

    /// Adds what is known of a step before it runs.
    fn describe(&self, step: &str, arguments: &mut Map<String, Value>) {
        arguments.insert("step".into(), step.into());
        if let Some(head) = self.steps.get(step) {
            arguments.insert("runner".into(), head.uses.to_string().into());
            if let Some(label) = &head.label {
                arguments.insert("label".into(), label.as_str().into());
            }
            if let Some(plugin) = &head.plugin {
                arguments.insert("plugin".into(), plugin.to_string().into());
            }
        }
    }

    /// The process that told of it is gone, or tells more later: what is open lasts until its last event.
    fn interrupted(&mut self) {
        self.close_all(self.last, "interrupted");
        let ended = Map::from_iter([("status".to_owned(), "interrupted".into())]);
        self.run_over(self.last, ended);
    }

    /// Ends every step that has a lane.
    fn close_all(&mut self, now: u64, status: &str) {
        let ended = json!({ "status": status });
        let open: Vec<String> = self.open.keys().cloned().collect();
        for step in open {
            if let Some(lane) = self.close(&step, now, &ended) {
                self.lanes.free(lane);
            }
        }
    }

    fn run_over(&mut self, now: u64, ended: Map<String, Value>) {
        if let Some(since) = self.running.take() {
            let name = self.head.get("pipeline").and_then(Value::as_str);
            let name = name.unwrap_or("run").to_owned();
            self.complete(&name, "run", RUN_LANE, since, now, ended);
        }
    }

    fn complete(
        &mut self,
        name: &str,
        category: &str,
        lane: usize,
        since: u64,
        until: u64,
        arguments: Map<String, Value>,
    ) {
        let (begin, end) = (self.micros(since), self.micros(until));
        self.events.push(json!({
            "name": name, "cat": category, "ph": "X", "pid": PROCESS, "tid": lane,
            "ts": begin, "dur": (end - begin).max(0.0), "args": arguments,
        }));
    }

    fn instant(
        &mut self,
        name: &str,
        category: &str,
        lane: usize,
        now: u64,
        arguments: Map<String, Value>,
    ) {
        let time = self.micros(now);
        self.events.push(json!({
            "name": name, "cat": category, "ph": "i", "s": "t", "pid": PROCESS, "tid": lane,
            "ts": time, "args": arguments,
        }));
    }

    /// Microseconds from the first event.
    fn micros(&self, time: u64) -> f64 {
        let since = time.saturating_sub(self.zero.unwrap_or(time));
        since as f64 / 1000.0
    }

    fn finish(mut self) -> Value {
        // Nothing has told how it ended.
        self.interrupted();
        let run = self.head.get("run").and_then(Value::as_str);
        let pipeline = self.head.get("pipeline").and_then(Value::as_str);
        let process = match (pipeline, run) {
            (Some(pipeline), Some(run)) => format!("{pipeline}, run {run}"),
            _ => "run".to_owned(),
        };
        let mut events = vec![named("process_name", RUN_LANE, json!({ "name": process }))];
        for lane in 0..=self.lanes.0.len() {
            let name = match lane {
                RUN_LANE => "run".to_owned(),
                _ => format!("steps {lane}"),
            };
            events.push(named("thread_name", lane, json!({ "name": name })));
            events.push(named(
                "thread_sort_index",
                lane,
                json!({ "sort_index": lane }),
            ));
        }
        events.append(&mut self.events);
        json!({ "traceEvents": events, "displayTimeUnit": "ms", "otherData": self.head })
    }
}

/// A metadata event.
fn named(name: &str, lane: usize, arguments: Value) -> Value {
    json!({ "name": name, "ph": "M", "pid": PROCESS, "tid": lane, "args": arguments })
}

/// The members of something that is an object in JSON.
fn fields(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EVENT_VERSION, RunId};

    /// The trace of events, each with its time in microseconds.
    fn trace(events: &[(u64, Value)]) -> Vec<Value> {
        let run = RunId::generate();
        let events = events.iter().map(|(micros, event)| {
            let mut event = event.clone();
            event["version"] = EVENT_VERSION.into();
            event["run"] = run.to_string().into();
            event["timestamp"] = (1_000_000 + micros * 1000).into();
            serde_json::from_value(event).unwrap()
        });
        let trace = chrome_trace(events);
        let events = trace["traceEvents"].as_array().unwrap();
        events
            .iter()
            .filter(|event| event["ph"] != "M")
            .cloned()
            .collect()
    }

    /// The complete events of a category: name, lane, begin, length.
    fn slices(events: &[Value], category: &str) -> Vec<(String, u64, f64, f64)> {
        let found = events
            .iter()
            .filter(|event| event["ph"] == "X" && event["cat"] == category);
        found
            .map(|event| {
                (
                    event["name"].as_str().unwrap().to_owned(),
                    event["tid"].as_u64().unwrap(),
                    event["ts"].as_f64().unwrap(),
                    event["dur"].as_f64().unwrap(),
                )
            })
            .collect()
    }

    fn slice(name: &str, lane: u64, begin: f64, length: f64) -> (String, u64, f64, f64) {
        (name.to_owned(), lane, begin, length)
    }

    fn begun(resumed: bool) -> Value {
        let step = |key: &str| json!({ "key": key, "uses": "exec" });
        json!({
            "event": "run-started", "pipeline": "p", "file": "p.toml", "resumed": resumed,
            "steps": [step("a"), step("b"), step("c")],
        })
    }

    fn started(step: &str, attempt: u32) -> Value {
        json!({ "event": "step-started", "step": step, "attempt": attempt })
    }

    fn ended(step: &str) -> Value {
        json!({
            "event": "step-ended", "step": step, "status": "succeeded", "summary": "done",
            "attributes": [], "attempts": 1, "seconds": 1.0,
        })
    }

    fn over() -> Value {
        json!({ "event": "run-ended", "status": "succeeded", "seconds": 1.0 })
    }

    #[test]
    fn a_clock_that_is_set_back_turns_nothing_round_and_makes_nothing_longer() {
        let hour = 3_600_000_000;
        let events = trace(&[
            (hour, begun(false)),
            (hour + 10, started("a", 1)),
            (100, ended("a")),
            (200, started("b", 1)),
            (700, ended("b")),
            (710, over()),
            (50, begun(true)),
            (60, started("c", 1)),
            (90, ended("c")),
            (95, over()),
        ]);
        assert_eq!(
            slices(&events, "step"),
            [
                slice("a", 1, 10.0, 0.0),
                slice("b", 1, 110.0, 500.0),
                slice("c", 1, 630.0, 30.0),
            ]
        );
        assert_eq!(
            slices(&events, "run"),
            [slice("p", 0, 0.0, 620.0), slice("p", 0, 620.0, 45.0)]
        );
    }

    #[test]
    fn steps_that_run_at_once_have_a_lane_each_and_a_free_lane_is_used_again() {
        let events = trace(&[
            (0, begun(false)),
            (10, started("a", 1)),
            (20, started("b", 1)),
            (30, ended("a")),
            (35, started("c", 1)),
            (40, ended("b")),
            (50, ended("c")),
            (60, over()),
        ]);
        assert_eq!(
            slices(&events, "step"),
            [
                slice("a", 1, 10.0, 20.0),
                slice("b", 2, 20.0, 20.0),
                slice("c", 1, 35.0, 15.0)
            ]
        );
        assert_eq!(slices(&events, "run"), [slice("p", 0, 0.0, 60.0)]);
    }

    #[test]
    fn tries_and_the_waits_between_them_stay_in_one_lane() {
        let events = trace(&[
            (0, begun(false)),
            (10, started("a", 1)),
            (
                20,
                json!({
                    "event": "step-retried", "step": "a", "attempt": 1, "status": "failed",
                    "cause": "code", "code": 1, "message": "no", "wait-seconds": 0.01,
                }),
            ),
            (22, started("b", 1)),
            (30, started("a", 2)),
            (40, ended("a")),
            (50, ended("b")),
            (60, over()),
        ]);
        assert_eq!(
            slices(&events, "step"),
            [
                slice("a", 1, 10.0, 10.0),
                slice("a (try 2)", 1, 30.0, 10.0),
                slice("b", 2, 22.0, 28.0)
            ]
        );
        assert_eq!(slices(&events, "wait"), [slice("a (waits)", 1, 20.0, 10.0)]);
        let first = events.iter().find(|event| event["name"] == "a").unwrap();
        assert_eq!(first["args"]["cause"], "code");
        assert_eq!(first["args"]["attempt"], 1);
        assert_eq!(first["args"]["wait_seconds"], 0.01);
    }

    #[test]
    fn what_did_not_run_here_is_an_instant_that_says_why() {
        let source = RunId::generate().to_string();
        let mut cached = ended("a");
        cached["cached"] = source.clone().into();
        let events = trace(&[
            (0, begun(false)),
            (1, cached),
            (
                2,
                json!({
                    "event": "step-ended", "step": "b", "status": "skipped", "reason": "no need",
                    "by_condition": true, "attempts": 0, "seconds": 0.0,
                }),
            ),
            (3, over()),
        ]);
        assert!(slices(&events, "step").is_empty());
        let hit = &events[0];
        assert_eq!(
            (&hit["name"], &hit["ph"]),
            (&"a (cached)".into(), &"i".into())
        );
        assert_eq!(hit["args"]["cached"], source);
        assert_eq!(events[1]["args"]["reason"], "no need");
    }

    #[test]
    fn what_a_dead_process_had_begun_ends_with_the_last_that_it_told() {
        let events = trace(&[
            (0, begun(false)),
            (10, started("a", 1)),
            (15, json!({ "event": "warning", "message": "last words" })),
            (100, begun(true)),
            (110, started("a", 2)),
            (120, ended("a")),
            (130, over()),
        ]);
        assert_eq!(
            slices(&events, "step"),
            [slice("a", 1, 10.0, 5.0), slice("a (try 2)", 1, 110.0, 10.0)]
        );
        assert_eq!(
            slices(&events, "run"),
            [slice("p", 0, 0.0, 15.0), slice("p", 0, 100.0, 30.0)]
        );
    }

    #[test]
    fn a_trace_names_its_lanes() {
        let trace = chrome_trace(std::iter::empty());
        assert_eq!(trace["traceEvents"][1]["args"]["name"], "run");
        assert_eq!(trace["displayTimeUnit"], "ms");
    }
}
