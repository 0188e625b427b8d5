//! Extension points and hook points: where a plugin may join in.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::nearest;

/// An interface that a plugin may export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ExtensionPoint {
    /// Does the work of a step of a pipeline.
    Step,
    /// Transforms a stream, chunk by chunk.
    Stage,
    /// Turns files into chunks of one modality and back.
    Modality,
    /// An actor that lives through a step and answers messages with actions.
    Agent,
    /// Reports measurements.
    Metrics,
    /// Keeps content by key.
    Storage,
    /// Watches a run and steps in at its hook points.
    Hook,
    /// Verbs for the command line.
    Command,
    /// Functions that other plugins call.
    Service,
    /// Trains models. Native only.
    MlBackend,
    /// Runs models.
    InferenceBackend,
}

impl ExtensionPoint {
    /// Every extension point, in the order of the contract.
    pub const ALL: [Self; 11] = [
        Self::Step,
        Self::Stage,
        Self::Modality,
        Self::Agent,
        Self::Metrics,
        Self::Storage,
        Self::Hook,
        Self::Command,
        Self::Service,
        Self::MlBackend,
        Self::InferenceBackend,
    ];

    /// The name that a manifest writes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Stage => "stage",
            Self::Modality => "modality",
            Self::Agent => "agent",
            Self::Metrics => "metrics",
            Self::Storage => "storage",
            Self::Hook => "hook",
            Self::Command => "command",
            Self::Service => "service",
            Self::MlBackend => "ml-backend",
            Self::InferenceBackend => "inference-backend",
        }
    }

    /// The newest revision that this version of the contract defines.
    pub const fn current_revision(self) -> u32 {
        1
    }

    /// Whether only a native library can serve it.
    pub const fn is_native_only(self) -> bool {
        matches!(self, Self::MlBackend)
    }

    /// The WIT interface that a plugin exports to serve this point.
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Step => "vox:plugin/step@1.0.0",
            Self::Stage => "vox:plugin/stage@1.0.0",
            Self::Modality => "vox:plugin/modality@1.0.0",
            Self::Agent => "vox:plugin/agent@1.0.0",
            Self::Metrics => "vox:plugin/metrics@1.0.0",
            Self::Storage => "vox:plugin/storage@1.0.0",
            Self::Hook => "vox:plugin/hook@1.0.0",
            Self::Command => "vox:plugin/command@1.0.0",
            Self::Service => "vox:plugin/service@1.0.0",
            Self::InferenceBackend => "vox:plugin/inference-backend@1.0.0",
            Self::MlBackend => "vox:plugin/ml-backend@1.0.0",
        }
    }
}

/// A moment in a run at which hooks are called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HookPoint {
    /// Before the first step.
    PrePipeline,
    /// Before a step begins.
    PreStep,
    /// After a step ended, well or not.
    PostStep,
    /// After a chunk went through a stream's stages.
    PostChunk,
    /// Before streams are joined.
    PreFusion,
    /// After streams were joined.
    PostFusion,
    /// When something failed.
    OnError,
    /// When measurements were taken.
    OnMetrics,
    /// After the last step.
    PostPipeline,
    /// A moment that a plugin or a pipeline names itself: `custom:<name>`.
    Custom(String),
}

impl HookPoint {
    /// Every hook point that has a fixed name, in the order in which a run meets them.
    pub const FIXED: [Self; 9] = [
        Self::PrePipeline,
        Self::PreStep,
        Self::PostStep,
        Self::PostChunk,
        Self::PreFusion,
        Self::PostFusion,
        Self::OnError,
        Self::OnMetrics,
        Self::PostPipeline,
    ];

    /// The name that a manifest writes.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::PrePipeline => "pre_pipeline",
            Self::PreStep => "pre_step",
            Self::PostStep => "post_step",
            Self::PostChunk => "post_chunk",
            Self::PreFusion => "pre_fusion",
            Self::PostFusion => "post_fusion",
            Self::OnError => "on_error",
            Self::OnMetrics => "on_metrics",
            Self::PostPipeline => "post_pipeline",
            Self::Custom(name) => return Cow::Owned(format!("custom:{name}")),
        })
    }
}

impl HookPoint {
    /// True where a hook that answers `abort` stops something: the run, the step or the stream.
    pub fn may_abort(&self) -> bool {
        match self {
            Self::PrePipeline
            | Self::PreStep
            | Self::PostStep
            | Self::PostChunk
            | Self::PreFusion
            | Self::PostFusion
            | Self::Custom(_) => true,
            Self::OnError | Self::OnMetrics | Self::PostPipeline => false,
        }
    }

    /// True where a hook that answers `replace` changes the bytes that go on.
    pub fn may_replace(&self) -> bool {
        matches!(
            self,
            Self::PostChunk | Self::PreFusion | Self::PostFusion | Self::Custom(_)
        )
    }

    /// True where a hook that answers `drop` takes the chunk out of its stream.
    pub fn may_drop(&self) -> bool {
        matches!(self, Self::PostChunk)
    }
}

/// What a hook that fails or takes too long does to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookFailure {
    /// The run goes on as if the hook had answered `continue`; the failure is reported.
    Open,
    /// As if the hook had answered `abort`.
    Closed,
}

impl HookFailure {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Open, Self::Closed];

    /// The name that a manifest writes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }

    /// What holds at a point unless the manifest says otherwise: closed where the point can abort,
    /// so that a check that cannot answer is not a check that passed.
    pub fn default_at(point: &HookPoint) -> Self {
        if point.may_abort() {
            Self::Closed
        } else {
            Self::Open
        }
    }
}

/// A word that is none of a closed set: an extension point, a hook point, a capability, a carrier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} `{value}`")]
pub struct UnknownWord {
    kind: &'static str,
    value: String,
    hint: String,
}

impl UnknownWord {
    /// `value` is none of `known`.
    pub(crate) fn new(kind: &'static str, value: &str, known: &[&str]) -> Self {
        Self::with_hint(kind, value, nearest::hint(value, known))
    }

    /// `value` is none of the known words; `hint` says what to write.
    pub(crate) fn with_hint(kind: &'static str, value: &str, hint: String) -> Self {
        Self {
            kind,
            value: value.escape_debug().to_string(),
            hint,
        }
    }

    /// The nearest known word, or all of them.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl FromStr for ExtensionPoint {
    type Err = UnknownWord;

    fn from_str(value: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|point| point.name() == value)
            .ok_or_else(|| UnknownWord::new("extension point", value, &Self::ALL.map(Self::name)))
    }
}

impl FromStr for HookFailure {
    type Err = UnknownWord;

    fn from_str(value: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|failure| failure.name() == value)
            .ok_or_else(|| UnknownWord::new("policy", value, &Self::ALL.map(Self::name)))
    }
}

impl FromStr for HookPoint {
    type Err = UnknownWord;

    fn from_str(value: &str) -> Result<Self, UnknownWord> {
        if let Some(name) = value.strip_prefix("custom:")
            && !name.is_empty()
            && !name.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Ok(Self::Custom(name.to_owned()));
        }
        Self::FIXED
            .into_iter()
            .find(|point| point.name() == value)
            .ok_or_else(|| {
                let names = Self::FIXED.map(|point| point.name());
                let mut known: Vec<&str> = names.iter().map(|name| &**name).collect();
                known.push("custom:<name>");
                UnknownWord::new("hook point", value, &known)
            })
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// Gives a closed set of words the forms that follow from `name` and `FromStr`.
macro_rules! word_traits {
    ($type:ty) => {
        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let word =
                    <::std::borrow::Cow<'de, str> as ::serde::Deserialize>::deserialize(deserializer)?;
                word.parse().map_err(::serde::de::Error::custom)
            }
        }

        impl ::schemars::JsonSchema for $type {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({
                    "type": "string",
                    "enum": Self::ALL.map(Self::name),
                })
            }
        }
    };
}
pub(crate) use word_traits;

word_traits!(ExtensionPoint);
word_traits!(HookFailure);

impl Serialize for HookPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for HookPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for HookPoint {
    fn schema_name() -> Cow<'static, str> {
        "HookPoint".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "enum": Self::FIXED.map(|point| point.name()) },
                { "type": "string", "pattern": r"^custom:\S+$" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_point_is_parsed_from_its_name() {
        for point in ExtensionPoint::ALL {
            assert_eq!(point.name().parse(), Ok(point));
            assert_eq!(point.interface(), format!("vox:plugin/{point}@1.0.0"));
        }
    }

    #[test]
    fn every_hook_point_is_parsed_from_its_name() {
        for point in HookPoint::FIXED
            .into_iter()
            .chain([HookPoint::Custom("deploy".into())])
        {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        for wrong in ["custom:", "custom:a b", "pre-step", ""] {
            assert!(wrong.parse::<HookPoint>().is_err(), "{wrong}");
        }
    }
}
