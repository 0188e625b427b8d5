//! What must be right about names in a plan before its order is looked at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use vox_contract::Finding;

use super::source::{Content, Node, Part};
use super::{Outline, Step, near};
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
    let keys = declared_keys(root, findings);
    let mut check = StepCheck {
        root,
        keys: &keys,
        index: 0,
        findings,
    };
    for (index, step) in outline.steps.iter().enumerate() {
        check.index = index;
        if let Some(step) = step {
            check.step(step);
        }
    }
}

/// The problem of a circle, placed at the first wait of it.
pub(crate) fn endless_wait(wait: &EndlessWait, root: &Node) -> Finding {
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
    if let Some(first) = wait.indices.first() {
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
    index: usize,
    findings: &'a mut Vec<Finding>,
}

impl StepCheck<'_> {
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
        for (port, input) in &step.inputs {
            let path = ["inputs".into(), port.as_str().into()];
            self.port(path, port);
            let from = ["inputs".into(), port.as_str().into(), "from".into()];
            self.port(from, &input.from.port);
            if !self.keys.contains_key(input.from.step.as_str()) {
                self.unknown_step(from, &input.from.step);
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
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        let named = port.starts_with(|c: char| c.is_ascii_lowercase()) && port.chars().all(allowed);
        if !named || port.len() > vox_contract::MAX_NAME_BYTES {
            let message = format!("`{}` cannot be the name of a port", port.escape_debug());
            let hint = "use at most 64 lower-case letters, digits, `-` and `_`, a letter first";
            self.note(path, message, Some(hint.into()));
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
