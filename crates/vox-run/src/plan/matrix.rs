//! One step for each combination of a matrix.
//!
//! What must stay true: the steps that a matrix makes stand where the step stood, in the order of
//! its values; their keys follow from the values alone; and a text is changed only where it says
//! `${matrix.NAME}`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::step::{Scalar, Step};

/// The most steps that one matrix makes.
pub const MAX_MATRIX_STEPS: usize = 1_000;

/// A place for a value, up to its closing brace.
const OPENING: &str = "${matrix.";

/// The values of one of the steps, by the name of their axis.
type Chosen<'a> = BTreeMap<&'a str, &'a Scalar>;

/// Why a matrix makes no steps.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This axis has no values.
    Empty(String),
    /// It makes too many.
    TooMany,
    /// A text names an axis that is not there.
    Unknown(String),
}

/// The steps that `step` becomes; itself where it has no matrix.
pub(crate) fn expand(step: &Step) -> Result<Vec<Step>, Fault> {
    if step.matrix.is_empty() {
        return Ok(vec![step.clone()]);
    }
    if let Some((axis, _)) = step.matrix.iter().find(|(_, values)| values.is_empty()) {
        return Err(Fault::Empty(axis.clone()));
    }
    let count = step.matrix.values().try_fold(1_usize, |count, values| {
        count
            .checked_mul(values.len())
            .filter(|count| *count <= MAX_MATRIX_STEPS)
    });
    if count.is_none() {
        return Err(Fault::TooMany);
    }
    let mut combinations: Vec<Chosen<'_>> = vec![BTreeMap::new()];
    for (axis, values) in &step.matrix {
        combinations = combinations
            .into_iter()
            .flat_map(|chosen| {
                values.iter().map(move |value| {
                    let mut chosen = chosen.clone();
                    chosen.insert(axis, value);
                    chosen
                })
            })
            .collect();
    }
    combinations
        .iter()
        .map(|chosen| one(step, chosen))
        .collect()
}

/// The step of one combination.
fn one(step: &Step, chosen: &Chosen<'_>) -> Result<Step, Fault> {
    let mut unknown = None;
    let mut fill = |text: &mut String| match filled(text, chosen) {
        Ok(None) => {}
        Ok(Some(full)) => *text = full,
        Err(axis) => {
            unknown.get_or_insert(axis);
        }
    };
    let values: Vec<String> = chosen
        .iter()
        .map(|(axis, value)| format!("{axis}={value}"))
        .collect();
    let mut made = step.clone();
    made.matrix = BTreeMap::new();
    made.key = format!("{}[{}]", step.key, values.join(","));
    made.label.iter_mut().for_each(&mut fill);
    made.arguments
        .iter_mut()
        .for_each(|(_, value)| each_text(value, &mut fill));
    made.needs.iter_mut().for_each(&mut fill);
    made.environment.values_mut().for_each(&mut fill);
    for input in made.inputs.iter_mut().flat_map(BTreeMap::values_mut) {
        input.path.iter_mut().for_each(&mut fill);
        if let Some(from) = &mut input.from {
            fill(&mut from.step);
        }
        for transform in &mut input.through {
            let arguments = transform.arguments.iter_mut();
            arguments.for_each(|(_, value)| each_text(value, &mut fill));
        }
    }
    made.outputs
        .values_mut()
        .for_each(|output| fill(&mut output.path));
    if let Some(when) = &mut made.when {
        when.environment.values_mut().for_each(&mut fill);
        when.results.values_mut().for_each(&mut fill);
    }
    match unknown {
        Some(axis) => Err(Fault::Unknown(axis)),
        None => Ok(made),
    }
}

/// Hands out every text in a value.
fn each_text(value: &mut Value, visit: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, visit)),
        Value::Object(members) => members
            .iter_mut()
            .for_each(|(_, member)| each_text(member, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text with its places filled; none where it has none.
fn filled(text: &str, chosen: &Chosen<'_>) -> Result<Option<String>, String> {
    if !text.contains(OPENING) {
        return Ok(None);
    }
    let mut full = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(OPENING) {
        full.push_str(&rest[..at]);
        rest = &rest[at + OPENING.len()..];
        let Some((axis, after)) = rest.split_once('}') else {
            return Err(rest.to_owned());
        };
        let value = chosen.get(axis).ok_or_else(|| axis.to_owned())?;
        full.push_str(&value.to_string());
        rest = after;
    }
    full.push_str(rest);
    Ok(Some(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(json: Value) -> Step {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_matrix_makes_a_step_for_each_combination() {
        let made = expand(&step(serde_json::json!({
            "key": "test", "uses": "exec",
            "with": { "command": ["run", "${matrix.os}-${matrix.n}"], "deep": { "x": "${matrix.n}" } },
            "env": { "OS": "${matrix.os}" },
            "outputs": { "log": { "path": "log/${matrix.os}.txt" } },
            "matrix": { "os": ["a", "b"], "n": [1, 2] },
        })))
        .unwrap();
        let keys: Vec<_> = made.iter().map(|step| step.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "test[n=1,os=a]",
                "test[n=1,os=b]",
                "test[n=2,os=a]",
                "test[n=2,os=b]"
            ]
        );
        assert_eq!(made[3].arguments["command"][1], "b-2");
        assert_eq!(made[3].arguments["deep"]["x"], "2");
        assert_eq!(made[1].environment["OS"], "b");
        assert_eq!(made[1].outputs["log"].path, "log/b.txt");
    }

    #[test]
    fn what_a_matrix_cannot_be_is_refused() {
        let with = |matrix: Value, label: &str| {
            expand(&step(serde_json::json!({
                "key": "k", "uses": "exec", "label": label, "matrix": matrix,
            })))
        };
        let axis = serde_json::json!({ "a": [1] });
        assert_eq!(
            with(serde_json::json!({ "a": [] }), "x"),
            Err(Fault::Empty("a".into()))
        );
        assert_eq!(
            with(axis.clone(), "${matrix.b}"),
            Err(Fault::Unknown("b".into()))
        );
        assert_eq!(with(axis, "${matrix.a"), Err(Fault::Unknown("a".into())));
        let long: Vec<usize> = (0..40).collect();
        assert_eq!(
            with(serde_json::json!({ "a": long, "b": long }), "x"),
            Err(Fault::TooMany)
        );
    }
}
