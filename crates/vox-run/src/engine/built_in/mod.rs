//! The runners that Vox serves by itself, because they concern the run and not one plugin.
//!
//! | runner | does |
//! |---|---|
//! | `plugin` | calls a runner of the plugin that is named by its id |
//! | [`read`](read) | turns files into chunks, by whichever modality plugin reads them |
//! | [`fuse`](fuse) | joins several streams into one |
//! | [`unfuse`](unfuse) | takes one modality out of fused vectors |
//! | [`agent`](agent) | lets agents work together until they are done |
//!
//! What must stay true: they see of a run what a plugin would see, its ports and its cancellation,
//! and so are stopped, recorded and cached like any other step.

mod agent;
mod fuse;
mod read;
mod set;
mod unfuse;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use vox_contract::{ExtensionPoint, Modality, PluginId, RunnerName, RunnerPorts};
use vox_host::contract::{Error, step};
use vox_host::{CallError, CancelToken, Host};

use super::hooks::{Abort, Hooks};
use super::message::Reporter;
use crate::plan::{Arguments, Step};
use crate::ports::StepPorts;
use crate::report::Cause;

pub(crate) use agent::Troupe;
pub(crate) use fuse::Fuse;
pub(crate) use read::Read;
pub(crate) use unfuse::Unfuse;

/// The arguments of `plugin`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginArguments {
    /// Id of the plugin.
    pub id: PluginId,
    /// Which of its runners; needed where it has several.
    #[serde(default)]
    pub runner: Option<RunnerName>,
    /// The runner's arguments.
    #[serde(default, rename = "with")]
    pub arguments: Arguments,
}

/// A runner of Vox's own with its arguments.
#[derive(Clone, Debug)]
pub(crate) enum BuiltIn {
    Read(Read),
    Fuse(Fuse),
    Unfuse(Unfuse),
    Agent(Troupe),
}

/// What a runner of Vox's own works with.
pub(crate) struct Place<'a> {
    pub host: &'a Host,
    /// Id of the run.
    pub run: &'a str,
    /// Key of the step.
    pub step: &'a str,
    pub ports: &'a Arc<StepPorts>,
    pub cancel: &'a CancelToken,
    pub reporter: &'a Reporter,
    pub hooks: &'a Hooks,
    /// The files that the step reads.
    pub files: &'a [step::Artifact],
}

/// Why a step could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub cause: Cause,
    pub message: String,
}

impl Trouble {
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
        }
    }

    /// What is wrong with what the step was given.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Cause::Error, message)
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        let cause = match &error {
            CallError::Crashed { .. } | CallError::Exceeded { .. } => Cause::Crashed,
            _ => Cause::Error,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<vox_host::Error> for Trouble {
    fn from(error: vox_host::Error) -> Self {
        Self::error(error.to_string())
    }
}

impl From<Abort> for Trouble {
    fn from(abort: Abort) -> Self {
        Self::new(Cause::Aborted, abort.to_string())
    }
}

/// What a stream answers.
impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let message = match error {
            Error::Denied(text)
            | Error::Invalid(text)
            | Error::NotFound(text)
            | Error::TimedOut(text)
            | Error::Unavailable(text)
            | Error::Failed(text) => text,
            Error::Exceeded(exceeded) => {
                format!("the limit `{}` is {}", exceeded.limit, exceeded.value)
            }
            Error::Cancelled => "it was cancelled".to_owned(),
        };
        Self::error(message)
    }
}

/// A step that ended well.
fn done(summary: String) -> step::Outcome {
    step::Outcome {
        code: 0,
        summary,
        attributes: Vec::new(),
    }
}

/// `1 chunk`, `2 chunks`.
fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

impl BuiltIn {
    /// The plugins that it calls, and where the arguments name them.
    pub fn plugins(&self) -> Vec<(&PluginId, ExtensionPoint, Vec<String>)> {
        match self {
            Self::Read(read) => read.plugins(),
            Self::Fuse(fuse) => fuse.plugins(),
            Self::Unfuse(_) => Vec::new(),
            Self::Agent(troupe) => troupe.plugins(),
        }
    }

    /// Every plugin that it may call, those included that are found by what they say of a file.
    pub fn may_call(&self, host: &Host) -> Vec<PluginId> {
        let named = self.plugins();
        if let (Self::Read(_), []) = (self, named.as_slice()) {
            let serving = host.registry().extension_point(ExtensionPoint::Modality);
            return serving.map_or_else(
                |_| Vec::new(),
                |plugins| plugins.iter().map(|plugin| plugin.id().clone()).collect(),
            );
        }
        named
            .into_iter()
            .map(|(plugin, ..)| plugin.clone())
            .collect()
    }

    /// Whether it reads nothing but what the plan gives it, and makes the same of the same.
    pub fn is_pure(&self) -> bool {
        match self {
            Self::Unfuse(_) => true,
            // As pure as the plugins that they call, which may be any.
            Self::Fuse(fuse) => fuse.is_pure(),
            Self::Read(_) | Self::Agent(_) => false,
        }
    }

    /// Carries the step out.
    pub fn run(&self, place: &Place<'_>) -> Result<step::Outcome, Trouble> {
        match self {
            Self::Read(read) => read.run(place),
            Self::Fuse(fuse) => fuse.run(place),
            Self::Unfuse(unfuse) => unfuse.run(place),
            Self::Agent(troupe) => troupe.run(place),
        }
    }
}

/// The ports of a runner of Vox's own.
pub(crate) fn ports(name: &str, step: &Step) -> Option<RunnerPorts> {
    let any = || vec![Modality::any()];
    let inputs = || {
        step.inputs()
            .map(|(name, _)| (name.clone(), any()))
            .collect()
    };
    let vector: Modality = VECTOR.parse().ok()?;
    let ports = match name {
        "read" => RunnerPorts {
            reads: inputs(),
            writes: [("out".to_owned(), Modality::any())].into(),
        },
        "fuse" => RunnerPorts {
            reads: inputs(),
            writes: [
                ("out".to_owned(), Modality::any()),
                ("memory".to_owned(), vector),
            ]
            .into(),
        },
        "unfuse" => RunnerPorts {
            reads: ["fused", "memory"]
                .map(|port| (port.to_owned(), vec![vector.clone()]))
                .into(),
            writes: [("out".to_owned(), vector)].into(),
        },
        _ => return None,
    };
    Some(ports)
}

/// The modality of hypervectors: bipolar, one bit a dimension.
pub(crate) const VECTOR: &str = "vsa/bipolar";
