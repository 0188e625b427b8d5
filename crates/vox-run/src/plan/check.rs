//! What must be right about names in a plan before its order is looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use vox_contract::Finding;

use super::matrix::{Fault, MAX_MATRIX_STEPS};
use super::source::{Content, Node, Part};
use super::step::Fate;
use super::{Input, Outline, Step, near};
use crate::graph::EndlessWait;

/// The longest key of a step, in bytes.
pub const MAX_KEY_BYTES: usize = 128;

/// Notes every name that is malformed, used twice, or not there.
pub(crate) fn names(outline: &Outline, root: &Node, findings: &mut Vec<Finding>) {
    if let Some(pipeline) = &outline.pipeline
        && let Some(fault) = fault_in(&pipeline.name)
    {
        let span = root.place(["pipeline".into(), "name".into()]);
        findings.push(Finding::new(span, format!("the pipeline's name {fault}")));
    }
    let written = declared_keys(root, findings);
    let mut keys = written.clone();
    for (origin, step) in &outline.steps {
        let Some(step) = step else { continue };
        // What a matrix has made has a key that stands nowhere.
        if written_key(root, *origin) == Some(step.key.as_str()) {
            continue;
        }
        let place = ["step".into(), (*origin).into(), "matrix".into()];
        let key = step.key.escape_debug();
        if let Some(fault) = fault_in(&step.key) {
            let message = format!("the matrix makes a step whose key `{key}` {fault}");
            findings.push(Finding::new(root.place(place), message).hint("give it other values"));
        } else if keys.insert(&step.key, *origin).is_some() {
            let message = format!("two steps have the key `{key}`");
            let hint = "give each step a key of its own, and a matrix each value once";
            findings.push(Finding::new(root.place(place), message).hint(hint));
        }
    }
    let mut check = StepCheck {
        root,
        keys: &keys,
        steps: outline
            .steps
            .iter()
            .filter_map(|(_, step)| Some((step.as_ref()?.key.as_str(), step.as_ref()?)))
            .collect(),
        makers: HashMap::new(),
        index: 0,
        findings,
    };
    check.outputs(outline);
    for (origin, step) in &outline.steps {
        check.index = *origin;
        if let Some(step) = step {
            check.step(step);
        }
    }
}

/// Whether the names and values of a matrix can be parts of keys; what cannot is noted.
pub(crate) fn axes(step: &Step, index: usize, root: &Node, findings: &mut Vec<Finding>) -> bool {
    let before = findings.len();
    for (axis, values) in &step.matrix {
        let place = [
            "step".into(),
            index.into(),
            "matrix".into(),
            axis.as_str().into(),
        ];
        if !is_name(axis) {
            let message = format!("`{}` cannot be a name in a matrix", axis.escape_debug());
            findings.push(Finding::new(root.place(place), message).hint(NAME_HINT));
        }
        for (at, value) in values.iter().enumerate() {
            if let Some(fault) = fault_in(&value.to_string()) {
                let place = root.place(place.into_iter().chain([at.into()]));
                findings.push(Finding::new(place, format!("the value {fault}")));
            }
        }
    }
    findings.len() == before
}

/// What the name of a port, an input, an output or an axis may be.
const NAME_HINT: &str = "use at most 64 lower-case letters, digits, `-` and `_`, a letter first";

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(allowed)
        && name.len() <= vox_contract::MAX_NAME_BYTES
}

/// The problem of a matrix that makes no steps.
pub(crate) fn matrix(fault: &Fault, index: usize, step: &Step, root: &Node) -> Finding {
    let place = ["step".into(), index.into(), "matrix".into()];
    match fault {
        Fault::Empty(axis) => Finding::new(
            root.place(place.into_iter().chain([axis.as_str().into()])),
            format!("the matrix has no values for `{}`", axis.escape_debug()),
        )
        .hint("give it at least one, or take it away"),
        Fault::TooMany => Finding::new(
            root.place(place),
            format!("the matrix makes more than {MAX_MATRIX_STEPS} steps"),
        )
        .hint("give it fewer values, or write a pipeline for each part of them"),
        Fault::Unknown(axis) => Finding::new(
            root.place(["step".into(), index.into()]),
            format!(
                "`${{matrix.{}}}` stands in the step, and its matrix has no such name",
                axis.escape_debug()
            ),
        )
        .hint(near(axis, step.matrix.keys().map(String::as_str), "names")),
    }
}

/// The problem of a circle, placed at the first wait of it.
pub(crate) fn endless_wait(wait: &EndlessWait, origins: &[usize], root: &Node) -> Finding {
    let mut finding = if wait.is_of_groups() {
        Finding::new(
            0..0,
            format!("these steps wait for one another for ever: {wait}"),
        )
        .hint(
            "`⇄` joins steps that a stream makes start together, `→` leads to what must have \
             ended before: take away a `needs`, or a stream",
        )
    } else {
        Finding::new(
            0..0,
            format!("these steps need one another in a circle: {wait}"),
        )
        .hint("each waits for the one after the arrow: take away one of these `needs` or inputs")
    };
    let first = wait.indices.first().and_then(|step| origins.get(*step));
    if let Some(first) = first {
        let second = wait
            .steps
            .get(1)
            .or(wait.steps.first())
            .map(|(key, _)| key.as_str());
        let step = [Part::from("step"), Part::from(*first)];
        finding.span = second
            .and_then(|key| mention(root, *first, key))
            .unwrap_or_else(|| root.place(step));
    }
    finding
}

/// Where step number `index` names the step `key` in its needs or inputs.
fn mention(root: &Node, index: usize, key: &str) -> Option<Range<usize>> {
    let Content::Array(steps) = &root.member("step")?.value.content else {
        return None;
    };
    let step = steps.get(index)?;
    let needs = step
        .member("needs")
        .into_iter()
        .flat_map(|needs| match &needs.value.content {
            Content::Array(needs) => needs.as_slice(),
            Content::Scalar(_) | Content::Table(_) => &[],
        });
    let needed = needs
        .filter(|need| need.text() == Some(key))
        .map(|need| need.span.clone());
    let sources =
        step.member("inputs")
            .into_iter()
            .flat_map(|inputs| match &inputs.value.content {
                Content::Table(inputs) => inputs.values().collect(),
                Content::Scalar(_) | Content::Array(_) => Vec::new(),
            });
    let read = sources.filter_map(|input| {
        let from = &input.value.member("from")?.value;
        let (step, _port) = from.text()?.rsplit_once('.')?;
        (step == key).then(|| from.span.clone())
    });
    needed.chain(read).next()
}

/// The key that stands in the file at this place.
fn written_key(root: &Node, origin: usize) -> Option<&str> {
    match &root.member("step")?.value.content {
        Content::Array(steps) => steps.get(origin)?.member("key")?.value.text(),
        Content::Scalar(_) | Content::Table(_) => None,
    }
}

/// Every step's key, those of steps that could not be decoded included, with the step's position.
fn declared_keys<'a>(root: &'a Node, findings: &mut Vec<Finding>) -> HashMap<&'a str, usize> {
    let mut keys = HashMap::new();
    let steps = root.member("step").map(|member| &member.value.content);
    let Some(Content::Array(steps)) = steps else {
        return keys;
    };
    for (index, step) in steps.iter().enumerate() {
        let Some(key) = step.member("key").map(|member| &member.value) else {
            continue;
        };
        let Some(text) = key.text() else { continue };
        if let Some(fault) = fault_in(text) {
            let message = format!("the key `{}` {fault}", text.escape_debug());
            findings
                .push(Finding::new(key.span.clone(), message).hint("a key is for people to read"));
        }
        if keys.contains_key(text) {
            let message = format!("two steps have the key `{}`", text.escape_debug());
            findings.push(
                Finding::new(key.span.clone(), message).hint("give each step a key of its own"),
            );
        } else {
            keys.insert(text, index);
        }
    }
    keys
}

/// Checks one step after the other.
struct StepCheck<'a> {
    root: &'a Node,
    keys: &'a HashMap<&'a str, usize>,
    /// The steps that could be decoded.
    steps: HashMap<&'a str, &'a Step>,
    /// Which step makes a path, as `step.output`.
    makers: HashMap<&'a str, String>,
    index: usize,
    findings: &'a mut Vec<Finding>,
}

impl<'a> StepCheck<'a> {
    fn step(&mut self, step: &Step) {
        if let Some(fault) = step.label.as_deref().and_then(fault_in) {
            self.note(["label".into()], format!("the label {fault}"), None);
        }
        let mut seen = BTreeSet::new();
        for (at, need) in step.needs.iter().enumerate() {
            let path = ["needs".into(), at.into()];
            if !self.keys.contains_key(need.as_str()) {
                self.unknown_step(path, need);
            } else if !seen.insert(need) {
                self.note(
                    path,
                    format!("`{need}` is needed twice"),
                    Some("name it once".into()),
                );
            }
        }
        self.environment(&step.environment);
        self.secrets(step);
        for (name, input) in step.inputs() {
            self.input(name, input);
        }
        self.limits(step);
        self.condition(step);
    }

    fn input(&mut self, name: &str, input: &Input) {
        let way = |part: &'static str| ["inputs".into(), name.into(), part.into()];
        self.port(["inputs".into(), name.into()], name);
        match (&input.from, &input.path) {
            (Some(from), None) => {
                self.port(way("from"), &from.port);
                let Some(origin) = self.keys.get(from.step.as_str()) else {
                    return self.unknown_step(way("from"), &from.step);
                };
                let made = self.steps.get(from.step.as_str());
                if made.is_none() && self.root_matrix(*origin) {
                    let message = format!("`{}` is many steps", from.step.escape_debug());
                    let hint = "its matrix makes several: name one of them, such as `key[a=1].out`";
                    return self.note(way("from"), message, Some(hint.into()));
                }
                let is_file = made.is_some_and(|step| step.outputs.contains_key(&from.port));
                if is_file && !input.through.is_empty() {
                    let message =
                        format!("`{from}` is a file, and no stream that could pass stages");
                    self.note(way("through"), message, None);
                }
            }
            (None, Some(path)) => {
                if !input.through.is_empty() {
                    let message = "a path is no stream that could pass stages";
                    self.note(way("through"), message.into(), None);
                }
                if path.is_empty() || path.contains('\0') {
                    let message = "the path is empty, or has a NUL in it";
                    self.note(way("path"), message.into(), None);
                } else if let Some(maker) = self.maker(path) {
                    let message = format!("`{}` is made by another step", path.escape_debug());
                    let hint = format!("read it from there: `from = \"{maker}\"`");
                    self.note(way("path"), message, Some(hint));
                }
            }
            (Some(_), Some(_)) | (None, None) => {
                let message = format!("the input `{name}` needs either `from` or `path`");
                let hint = "`from` names what another step makes, `path` a file";
                self.note(["inputs".into(), name.into()], message, Some(hint.into()));
            }
        }
    }

    /// Whether the step at this place of the file has a matrix.
    fn root_matrix(&self, origin: usize) -> bool {
        match self.root.member("step").map(|member| &member.value.content) {
            Some(Content::Array(items)) => items
                .get(origin)
                .is_some_and(|item| item.member("matrix").is_some()),
            _ => false,
        }
    }

    /// The output in which `path` lies, if another step makes it.
    fn maker(&self, path: &str) -> Option<&String> {
        let path = path.strip_prefix("./").unwrap_or(path);
        let mut ends = path.match_indices('/').map(|(at, _)| at);
        let found = ends.find_map(|end| self.makers.get(&path[..end]));
        found.or_else(|| self.makers.get(path))
    }

    /// Checks what all steps make together: no two the same, none inside another.
    fn outputs(&mut self, outline: &'a Outline) {
        for (origin, step) in &outline.steps {
            self.index = *origin;
            for (name, output) in step.iter().flat_map(|step| &step.outputs) {
                let key = step.as_ref().map_or("", |step| step.key.as_str());
                let way =
                    |part: &'static str| ["outputs".into(), name.as_str().into(), part.into()];
                self.port(["outputs".into(), name.as_str().into()], name);
                if let Some(port) = &output.port {
                    self.port(way("port"), port);
                }
                if let Some(fault) = fault_in_output(&output.path) {
                    let hint =
                        "write a path relative to the run's directory, such as `out/report.txt`";
                    let message = format!("`{}` {fault}", output.path.escape_debug());
                    self.note(way("path"), message, Some(hint.into()));
                    continue;
                }
                if let Some(other) = self.maker(&output.path) {
                    let message = format!(
                        "`{}` lies where `{other}` is made",
                        output.path.escape_debug()
                    );
                    let hint = "give each output a place of its own";
                    self.note(way("path"), message, Some(hint.into()));
                } else {
                    self.makers.insert(&output.path, format!("{key}.{name}"));
                }
            }
        }
        // One that was declared before what it lies in.
        for (origin, step) in &outline.steps {
            self.index = *origin;
            for (name, output) in step.iter().flat_map(|step| &step.outputs) {
                let mut ends = output.path.match_indices('/').map(|(at, _)| at);
                if let Some(other) = ends.find_map(|end| self.makers.get(&output.path[..end])) {
                    let path = output.path.escape_debug();
                    let message = format!("`{path}` lies where `{other}` is made");
                    let way = ["outputs".into(), name.as_str().into(), "path".into()];
                    self.note(
                        way,
                        message,
                        Some("give each output a place of its own".into()),
                    );
                }
            }
        }
    }

    fn secrets(&mut self, step: &Step) {
        for (at, name) in step.secrets.iter().enumerate() {
            let fault = if name.is_empty() || name.contains(['=', '\0']) {
                format!(
                    "`{}` cannot be an environment variable",
                    name.escape_debug()
                )
            } else if step.environment.contains_key(name) {
                format!("`{name}` stands in `env` too, in the clear")
            } else {
                continue;
            };
            self.note(["secrets".into(), at.into()], fault, None);
        }
    }

    fn limits(&mut self, step: &Step) {
        if step.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            let hint = "leave it out for a step that may take as long as it likes";
            self.note(
                ["timeout".into()],
                "the time-out is nothing".into(),
                Some(hint.into()),
            );
        }
        if let Some(retry) = &step.retry {
            if retry.count == 0 {
                let message = "no retries are no retry".into();
                self.note(
                    ["retry".into(), "count".into()],
                    message,
                    Some("leave `retry` out".into()),
                );
            }
            if !(1..=10).contains(&retry.factor) {
                let message = "the factor is to be from 1 to 10".into();
                self.note(["retry".into(), "factor".into()], message, None);
            }
        }
        if step.resources.cpus == Some(0) {
            let message = "a step takes one processor at least".into();
            self.note(["resources".into(), "cpus".into()], message, None);
        }
    }

    fn condition(&mut self, step: &Step) {
        let Some(when) = &step.when else { return };
        if when.needs != Fate::Succeeded && step.needs.is_empty() {
            let message = "the step needs no other whose end it could ask about";
            let hint = "name steps in `needs`, or leave `when.needs` out";
            self.note(
                ["when".into(), "needs".into()],
                message.into(),
                Some(hint.into()),
            );
        }
        for result in when.results.keys() {
            let way = ["when".into(), "results".into()];
            if !self.keys.contains_key(result.step.as_str()) {
                self.unknown_step(way, &result.step);
            } else if !step.needs.contains(&result.step) {
                let message = format!("`{result}` may not be known when the step is to start");
                let hint = format!("add `{}` to its `needs`", result.step);
                self.note(way, message, Some(hint));
            }
        }
    }

    fn environment(&mut self, variables: &BTreeMap<String, String>) {
        for (name, value) in variables {
            let fault = if name.is_empty() {
                "an environment variable has no name".to_owned()
            } else if name.contains(['=', '\0']) {
                format!(
                    "`{}` cannot be an environment variable",
                    name.escape_debug()
                )
            } else if value.contains('\0') {
                format!("the value of `{name}` contains a NUL byte")
            } else {
                continue;
            };
            self.note(["env".into(), name.as_str().into()], fault, None);
        }
    }

    fn port<'p>(&mut self, path: impl IntoIterator<Item = Part<'p>>, port: &str) {
        if !is_name(port) {
            let message = format!("`{}` cannot be the name of a port", port.escape_debug());
            self.note(path, message, Some(NAME_HINT.into()));
        }
    }

    fn unknown_step<'p>(&mut self, path: impl IntoIterator<Item = Part<'p>>, key: &str) {
        let hint = near(
            key,
            self.keys.keys().copied().collect::<BTreeSet<_>>(),
            "steps",
        );
        self.note(
            path,
            format!("there is no step `{}`", key.escape_debug()),
            Some(hint),
        );
    }

    fn note<'p>(
        &mut self,
        path: impl IntoIterator<Item = Part<'p>>,
        message: String,
        hint: Option<String>,
    ) {
        let span = self
            .root
            .place(["step".into(), self.index.into()].into_iter().chain(path));
        self.findings.push(Finding {
            span,
            message,
            hint,
        });
    }
}

/// What keeps a path from being one that a step may make.
fn fault_in_output(path: &str) -> Option<&'static str> {
    let mut parts = path.split('/');
    if path.is_empty() || path.contains('\0') {
        Some("is no path")
    } else if path.starts_with('/') {
        Some("is an absolute path")
    } else if parts.any(|part| matches!(part, "" | "." | "..")) {
        Some("has a part that is empty, `.` or `..`")
    } else {
        None
    }
}

/// What keeps a text that people will read in lines from being one.
fn fault_in(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some("is empty".into());
    }
    if text.len() > MAX_KEY_BYTES {
        return Some(format!("is longer than {MAX_KEY_BYTES} bytes"));
    }
    if text.trim() != text {
        return Some("begins or ends with white space".into());
    }
    let hidden = text
        .chars()
        .find(|c| c.is_control() || reorders_or_hides(*c))?;
    Some(format!(
        "contains U+{:04X}, which cannot be seen",
        u32::from(hidden)
    ))
}

/// Characters of no width, line separators, and those that change the direction of what follows.
/// Letters of right-to-left scripts are not among them.
fn reorders_or_hides(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
