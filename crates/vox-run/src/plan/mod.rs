//! `pipeline.toml` as a typed, validated plan.
//!
//! Owns the format of a pipeline: its types, its reading from TOML or JSON, and every rule that can
//! be checked without a plugin at hand. What must stay true:
//!
//! - A [`Plan`] that exists is valid: keys are unique, every name it uses is in it, and its
//!   [graph](crate::graph::Graph) has an order.
//! - All problems of a text are reported at once, each with its place and a way out; circles once all
//!   names are right.
//! - A key that is not known is refused, never ignored: the format grows by adding keys, and an
//!   older Vox must not run half of a newer plan.

mod check;
mod decode;
mod hint;
mod matrix;
mod source;
mod step;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize, de};
use vox_contract::{Finding, PluginId};

pub use check::MAX_KEY_BYTES;
pub use matrix::MAX_MATRIX_STEPS;
pub use step::{
    Fate, Input, Output, Period, PortRef, Resources, Restart, Retry, Scalar, Step, Transform, When,
};
pub use vox_contract::{Invalid as PlanError, Problem};

use crate::graph::Graph;
pub(crate) use hint::near;
pub(crate) use source::Part;
use source::{Content, Node};

/// A JSON object: the arguments of a runner, a stage or a hook.
pub type Arguments = serde_json::Map<String, serde_json::Value>;

/// A pipeline as its file says it, checked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "pipeline.toml")]
pub struct Plan {
    /// What the pipeline is called.
    pub pipeline: Pipeline,
    /// The pieces of work, in the order of the file; a step with a matrix is already all that it
    /// becomes.
    #[serde(rename = "step")]
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// Plugins that watch the run.
    #[serde(rename = "hook", skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub hooks: Vec<Hook>,
    #[serde(skip)]
    graph: Graph,
    /// For each step, the place in the file of the one that it was made of.
    #[serde(skip)]
    origins: Vec<usize>,
    #[serde(skip)]
    text: PlanText,
}

/// What a pipeline is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table such as `{ name = \"p\" }`")]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A plugin that watches the run; its manifest says at which hook points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table such as `{ uses = \"journal\" }`"
)]
pub struct Hook {
    /// Id of the plugin.
    pub uses: PluginId,
    /// Configuration that the plugin starts with, in place of the user's own table for it.
    #[serde(default, rename = "with", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
}

/// The text that a plan was read from; later problems are placed in it.
#[derive(Clone, Debug)]
struct PlanText {
    file: PathBuf,
    text: String,
    root: Node,
}

impl Plan {
    /// Reads and checks a plan. `text` is JSON when it begins with `{`, otherwise TOML; `file` is
    /// named in problems.
    ///
    /// # Errors
    ///
    /// [`PlanError`] with everything that is wrong.
    pub fn parse(text: &str, file: impl AsRef<Path>) -> Result<Self, PlanError> {
        let file = file.as_ref();
        let refuse = |findings| PlanError::new(file, text, findings);
        let root = Node::parse(text).map_err(refuse)?;
        let mut findings = Vec::new();
        let mut outline = Outline::decode(&root, &mut findings);
        outline.expand(&root, &mut findings);
        check::names(&outline, &root, &mut findings);
        // A step with a matrix is wrong once, however many it becomes.
        let mut told = HashSet::new();
        findings.retain(|finding| told.insert((finding.span.clone(), finding.message.clone())));
        let Some((pipeline, steps, hooks)) = outline.complete() else {
            return Err(refuse(findings));
        };
        if !findings.is_empty() {
            return Err(refuse(findings));
        }
        let (origins, mut steps): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        name_each_needed(&mut steps, &origins, &root);
        let graph = Graph::new(&steps).map_err(|waits| {
            refuse(
                waits
                    .into_iter()
                    .map(|wait| check::endless_wait(&wait, &origins, &root))
                    .collect(),
            )
        })?;
        let text = PlanText {
            file: file.into(),
            text: text.into(),
            root,
        };
        Ok(Self {
            pipeline,
            steps,
            hooks,
            graph,
            origins,
            text,
        })
    }

    /// The JSON Schema (draft 2020-12) of a plan, the same for TOML and JSON.
    pub fn schema() -> serde_json::Value {
        schema_for!(Plan).to_value()
    }

    /// Which steps wait for which, and which start together.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The file that the plan was read from.
    pub fn file(&self) -> &Path {
        &self.text.file
    }

    /// The text that the plan was read from.
    pub fn text(&self) -> &str {
        &self.text.text
    }

    /// The way to a step in the text.
    pub(crate) fn way_to(&self, step: usize) -> [Part<'static>; 2] {
        [Part::Key("step"), Part::Index(self.origins[step])]
    }

    /// The problem `message` at what `path` leads to.
    pub(crate) fn finding<'a>(
        &self,
        path: impl IntoIterator<Item = Part<'a>>,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Finding {
        Finding {
            span: self.text.root.place(path),
            message: message.into(),
            hint,
        }
    }

    /// The error for problems that were found after reading.
    pub(crate) fn refuse(&self, findings: Vec<Finding>) -> PlanError {
        PlanError::new(&self.text.file, &self.text.text, findings)
    }
}

/// The parts of a plan; each step with its place in the file.
type Complete = (Pipeline, Vec<(usize, Step)>, Vec<Hook>);

/// What could be decoded of a plan. A part that could not leaves a gap, so that places in the
/// file keep their index.
struct Outline {
    pipeline: Option<Pipeline>,
    /// With the place in the file of the one that each was made of.
    steps: Vec<(usize, Option<Step>)>,
    hooks: Vec<Option<Hook>>,
}

impl Outline {
    fn decode(root: &Node, findings: &mut Vec<Finding>) -> Self {
        const KEYS: [&str; 3] = ["pipeline", "step", "hook"];
        if let Content::Table(members) = &root.content {
            for (key, member) in members
                .iter()
                .filter(|(key, _)| !KEYS.contains(&key.as_str()))
            {
                findings.push(Finding {
                    span: member.key.clone(),
                    message: format!("there is no key `{}` here", key.escape_debug()),
                    hint: Some(near(key, KEYS, "keys")),
                });
            }
        }
        let pipeline = root.member("pipeline");
        if pipeline.is_none() {
            findings.push(Finding {
                span: 0..0,
                message: "the plan has no `[pipeline]`".into(),
                hint: Some("begin it with `[pipeline]` and `name = \"…\"`".into()),
            });
        }
        let steps = each(root, "step", findings);
        if steps.is_empty() {
            findings.push(Finding {
                span: 0..0,
                message: "the plan has no steps".into(),
                hint: Some("add a `[[step]]` with a `key` and `uses`".into()),
            });
        }
        Self {
            pipeline: pipeline.and_then(|member| decode::decode(&member.value, findings)),
            steps: steps.into_iter().enumerate().collect(),
            hooks: each(root, "hook", findings),
        }
    }

    /// Puts what a matrix makes in the place of each step that has one.
    fn expand(&mut self, root: &Node, findings: &mut Vec<Finding>) {
        let mut expanded = Vec::with_capacity(self.steps.len());
        for (origin, step) in std::mem::take(&mut self.steps) {
            match step {
                Some(step) if !step.matrix.is_empty() => match matrix::expand(&step) {
                    _ if !check::axes(&step, origin, root, findings) => {
                        expanded.push((origin, None));
                    }
                    Ok(made) => expanded.extend(made.into_iter().map(|step| (origin, Some(step)))),
                    Err(fault) => {
                        findings.push(check::matrix(&fault, origin, &step, root));
                        expanded.push((origin, None));
                    }
                },
                step => expanded.push((origin, step)),
            }
        }
        self.steps = expanded;
    }

    /// The parts of the plan, if none is missing.
    fn complete(self) -> Option<Complete> {
        let steps = self.steps.into_iter();
        let steps = steps
            .map(|(origin, step)| Some((origin, step?)))
            .collect::<Option<Vec<_>>>()?;
        let hooks = self.hooks.into_iter().collect::<Option<Vec<_>>>()?;
        Some((self.pipeline?, steps, hooks))
    }
}

/// Decodes each table of the array `key` on its own, so that one that is wrong hides no other.
fn each<T: de::DeserializeOwned>(
    root: &Node,
    key: &str,
    findings: &mut Vec<Finding>,
) -> Vec<Option<T>> {
    let Some(member) = root.member(key) else {
        return Vec::new();
    };
    let Content::Array(items) = &member.value.content else {
        let kind = member.value.kind();
        findings.push(Finding {
            span: member.key.clone(),
            message: format!("`{key}` is {kind}, not an array of tables"),
            hint: Some(format!("write `[[{key}]]`")),
        });
        return vec![None];
    };
    items
        .iter()
        .map(|item| decode::decode(item, findings))
        .collect()
}

/// Puts the steps that a matrix has made in the place of its own key, in every `needs`.
fn name_each_needed(steps: &mut [Step], origins: &[usize], root: &Node) {
    let Some(Content::Array(items)) = root.member("step").map(|member| &member.value.content)
    else {
        return;
    };
    let mut families: HashMap<&str, Vec<String>> = HashMap::new();
    for (step, origin) in steps.iter().zip(origins) {
        let written = items.get(*origin).and_then(|item| item.member("key"));
        if let Some(written) = written.and_then(|key| key.value.text())
            && written != step.key
        {
            families.entry(written).or_default().push(step.key.clone());
        }
    }
    if families.is_empty() {
        return;
    }
    for step in steps {
        let needs = std::mem::take(&mut step.needs).into_iter();
        step.needs = needs
            .flat_map(|need| match families.get(need.as_str()) {
                Some(family) => family.clone(),
                None => vec![need],
            })
            .collect();
    }
}
