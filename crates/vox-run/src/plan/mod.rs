//! `pipeline.toml` as a typed, validated plan.
//!
//! Owns the format of a pipeline: its types, its reading from TOML or JSON, and every rule that can
//! be checked without a plugin at hand. What must stay true:
//!
//! - A [`Plan`] that exists is valid: keys are unique, every name it uses is in it, and its
//!   [graph](crate::graph::Graph) has an order.
//! - All problems of a text are reported at once, each with its place and a way out.
//! - A key that is not known is refused, never ignored: the format grows by adding keys, and an
//!   older Vox must not run half of a newer plan.

mod check;
mod decode;
mod hint;
mod source;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use vox_contract::{Finding, PluginId, RunnerName};

pub use check::MAX_KEY_BYTES;
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
    /// The pieces of work, in the order of the file.
    #[serde(rename = "step")]
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
    /// Plugins that watch the run.
    #[serde(rename = "hook", skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub hooks: Vec<Hook>,
    #[serde(skip)]
    graph: Graph,
    #[serde(skip)]
    text: PlanText,
}

/// What a pipeline is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A piece of work: one call of a runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The step's name in the plan; other steps refer to it.
    pub key: String,
    /// What people read in place of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The runner that carries it out.
    pub uses: RunnerName,
    /// The runner's arguments; the runner's own schema says which there are.
    #[serde(default, rename = "with", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
    /// Keys of steps that must have succeeded before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Environment variables, added to the environment that the run gives to every step.
    #[serde(default, rename = "env", skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// The streams that the step reads, by the name of its port. A step runs at the same time as
    /// the steps that it reads from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, Input>,
}

impl Step {
    /// What people read: the label, or else the key.
    pub fn title(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.key)
    }
}

/// A stream that a step reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The port that writes the stream. Several inputs may name one port; each gets every chunk.
    pub from: PortRef,
    /// Stages that every chunk passes on its way, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Transform>,
}

/// A stage in a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// Id of the plugin.
    pub stage: PluginId,
    /// The stage's arguments.
    #[serde(default, rename = "with", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
}

/// A plugin that watches the run; its manifest says at which hook points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Id of the plugin.
    pub uses: PluginId,
    /// Configuration that the plugin starts with, in place of the user's own table for it.
    #[serde(default, rename = "with", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
}

/// A port of a step, written `step.port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRef {
    /// Key of the step; may itself contain dots.
    pub step: String,
    /// Name of the port; contains none.
    pub port: String,
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.step, self.port)
    }
}

impl FromStr for PortRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.rsplit_once('.') {
            Some((step, port)) if !step.is_empty() && !port.is_empty() => Ok(Self {
                step: step.into(),
                port: port.into(),
            }),
            _ => Err(format!(
                "`{}` names no port: write `step.port`, such as `read.stdout`",
                text.escape_debug()
            )),
        }
    }
}

impl Serialize for PortRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for PortRef {
    fn schema_name() -> Cow<'static, str> {
        "PortRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A port of a step: `step.port`.",
            "pattern": "^.+\\.[^.]+$",
        })
    }
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
        let outline = Outline::decode(&root, &mut findings);
        check::names(&outline, &root, &mut findings);
        let Some((pipeline, steps, hooks)) = outline.complete() else {
            return Err(refuse(findings));
        };
        if !findings.is_empty() {
            return Err(refuse(findings));
        }
        let graph = Graph::new(&steps).map_err(|waits| {
            refuse(
                waits
                    .into_iter()
                    .map(|wait| check::endless_wait(&wait, &root))
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

/// What could be decoded of a plan. A part that could not leaves a gap, so that places in the
/// file keep their index.
struct Outline {
    pipeline: Option<Pipeline>,
    steps: Vec<Option<Step>>,
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
            steps,
            hooks: each(root, "hook", findings),
        }
    }

    /// The parts of the plan, if none is missing.
    fn complete(self) -> Option<(Pipeline, Vec<Step>, Vec<Hook>)> {
        let steps = self.steps.into_iter().collect::<Option<Vec<_>>>()?;
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
