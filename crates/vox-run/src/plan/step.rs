//! What a plan says of one step: the types behind the keys of `[[step]]`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use vox_contract::{Bytes, PluginId, RunnerName};

use super::Arguments;
use crate::report::Cause;

/// A piece of work: one call of a runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table such as `{ key = \"a\", uses = \"exec\" }`"
)]
pub struct Step {
    /// The step's name in the plan; other steps refer to it.
    pub key: String,
    /// What people read beside the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The runner that carries it out.
    pub uses: RunnerName,
    /// The runner's arguments; the runner's own schema says which there are.
    #[serde(default, rename = "with", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
    /// Keys of steps that must have succeeded before this one starts. The key of a step with a
    /// matrix stands for all that it becomes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// Environment variables, added to the environment that the run gives to every step.
    #[serde(default, rename = "env", skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Variables whose values are secret: they come from the environment of `vox`, are masked in
    /// what the step writes, and stand in no record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// What the step reads, by name: streams, files, directories, and what other steps made. A step
    /// runs at the same time as the steps whose streams it reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<BTreeMap<String, Input>>,
    /// The files and directories that it makes, by name. A step that ends well without having made
    /// them has failed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Output>,
    /// How long it may take: `30s`, `10min`. As long as it likes when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
    /// Whether and when it is tried again. Once only when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Whether its result may come from an earlier run. When left out: if its runner can read
    /// nothing but what the plan gives it. True says that of any other: that it reads its `inputs`
    /// and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    /// When it runs at all. When all that it needs has succeeded, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
    /// What it takes of the machine: one processor when left out.
    #[serde(default, skip_serializing_if = "Resources::is_default")]
    pub resources: Resources,
    /// Makes one step for each combination of values. `${matrix.NAME}` stands for a value in every
    /// text of the step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub matrix: BTreeMap<String, Vec<Scalar>>,
}

impl Step {
    /// What people read: the label, or else the key.
    pub fn title(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.key)
    }

    /// What it reads, by name.
    pub fn inputs(&self) -> impl Iterator<Item = (&String, &Input)> {
        self.inputs.iter().flatten()
    }

    /// What it reads under this name.
    pub fn input(&self, name: &str) -> Option<&Input> {
        self.inputs.as_ref()?.get(name)
    }

    /// What must have become of the steps that it needs.
    pub fn required(&self) -> Fate {
        self.when
            .as_ref()
            .map_or(Fate::Succeeded, |when| when.needs)
    }
}

/// Something that a step reads: either `from` another step, or a `path`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table such as `{ from = \"a.stdout\" }`"
)]
pub struct Input {
    /// What another step makes. An output of it is a file or directory, which is there when this
    /// step starts; any other name is a port, whose stream this step reads while the other runs.
    /// Several inputs may name one port; each gets every chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PortRef>,
    /// A file or a directory, or a pattern for several (`src/**/*.rs`), relative to the run's
    /// directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Stages that every chunk of a stream passes on its way, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<Transform>,
    /// Where a stream begins when the step runs again after a crash.
    #[serde(default, skip_serializing_if = "Restart::is_default")]
    pub restart: Restart,
}

/// Where a stream begins when its reader runs again after a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// At its beginning.
    #[default]
    Beginning,
    /// Behind the last chunk that the reader had acknowledged, by asking for the next one. Right
    /// where the writer writes the same again and the reader keeps what it did with each chunk.
    Acknowledged,
}

impl Restart {
    fn is_default(&self) -> bool {
        *self == Self::Beginning
    }
}

/// A file or directory that a step makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table such as `{ path = \"out.txt\" }`"
)]
pub struct Output {
    /// Where it is, relative to the run's directory and inside it.
    pub path: String,
    /// The port whose chunks become the file. The step itself makes it when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// A stage in a stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table such as `{ stage = \"redact\" }`"
)]
pub struct Transform {
    /// Id of the plugin.
    pub stage: PluginId,
    /// The stage's arguments.
    #[serde(default, rename = "with", skip_serializing_if = "Arguments::is_empty")]
    pub arguments: Arguments,
}

/// Whether a step is tried again when it fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table such as `{ count = 3 }`")]
pub struct Retry {
    /// How often it is tried again, at most.
    pub count: u32,
    /// How long to wait before the first of these: `1s` when left out.
    #[serde(default = "Retry::default_delay")]
    pub delay: Period,
    /// What the wait is multiplied with each time: 2 when left out.
    #[serde(default = "Retry::default_factor")]
    #[schemars(range(min = 1, max = 10))]
    pub factor: u32,
    /// The longest wait: `1min` when left out.
    #[serde(default = "Retry::default_longest", rename = "max-delay")]
    pub longest: Period,
    /// The causes after which it is tried again: every one that may pass when left out.
    #[serde(default = "Retry::default_causes")]
    pub on: Vec<Cause>,
}

impl Retry {
    fn default_delay() -> Period {
        Period(Duration::from_secs(1))
    }

    fn default_factor() -> u32 {
        2
    }

    fn default_longest() -> Period {
        Period(Duration::from_secs(60))
    }

    fn default_causes() -> Vec<Cause> {
        vec![Cause::Code, Cause::Error, Cause::TimedOut, Cause::Crashed]
    }

    /// How long to wait after try number `attempt`, counted from 1.
    pub fn wait(&self, attempt: u32) -> Duration {
        let grown = self.factor.saturating_pow(attempt.saturating_sub(1));
        self.delay.0.saturating_mul(grown).min(self.longest.0)
    }
}

/// When a step runs: all that is said must hold. Where it does not, the step is skipped, and that
/// fails nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a table such as `{ needs = \"ended\" }`"
)]
pub struct When {
    /// What must have become of the steps that it needs.
    #[serde(default)]
    pub needs: Fate,
    /// Variables of its environment, and the value that each must have.
    #[serde(default, rename = "env", skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Attributes that steps which it needs have left, as `step.attribute`, and the value that each
    /// must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub results: BTreeMap<PortRef, String>,
}

/// What must have become of the steps that another one needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// All of them have succeeded.
    #[default]
    Succeeded,
    /// At least one of them has failed, and all have ended.
    Failed,
    /// All of them have ended, however.
    Ended,
}

/// What a step takes of the machine while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table such as `{ cpus = 2 }`")]
pub struct Resources {
    /// Processors: 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub cpus: Option<u32>,
    /// Memory: `2GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Graphics processors: none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
}

impl Resources {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A value of a matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Number(f64),
    /// A text.
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A length of time as people write it: `500ms`, `90s`, `1h 30min`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| {
            format!(
                "`{}` is no length of time: write `30s`, `10min` or `1h 30min`",
                text.escape_debug()
            )
        })
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A length of time: `500ms`, `30s`, `10min`, `1h 30min`.",
            "pattern": "^[0-9]+ *[a-zA-Z]+( *[0-9]+ *[a-zA-Z]+)*$",
        })
    }
}

/// A name of a step's, written `step.name`: a port, an output, an attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRef {
    /// Key of the step; may itself contain dots.
    pub step: String,
    /// The name; contains none.
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
                "`{}` names nothing of a step: write `step.port`, such as `read.stdout`",
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
            "description": "A port, an output or an attribute of a step: `step.name`.",
            "pattern": "^.+\\.[^.]+$",
        })
    }
}
