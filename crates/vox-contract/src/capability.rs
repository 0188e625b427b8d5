//! Capabilities: what a plugin may ask for. Denied unless granted; see [`crate::GrantsFile`].

use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Grant, Scope,
    points::{UnknownWord, word_traits},
};

/// Something that a plugin may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Hypervector operations.
    VsaOps,
    /// Streams connected by the host.
    StreamIo,
    /// Reading files.
    FileRead,
    /// Writing files.
    FileWrite,
    /// Connecting to hosts.
    Network,
    /// Computing on a GPU.
    GpuCompute,
    /// Starting agents.
    AgentSpawn,
    /// Reporting measurements.
    Metrics,
    /// Calling other plugins.
    PluginCall,
    /// Values that outlive the process.
    Kv,
    /// Notices to whoever watches the run.
    Events,
    /// Large data by range.
    Blob,
    /// Messages by topic.
    Topics,
    /// Starting programs.
    Process,
    /// The time of day, elapsed time, and waiting.
    Clocks,
    /// Random numbers.
    Random,
}

impl Capability {
    /// Every capability, in the order in which they are documented.
    pub const ALL: [Self; 16] = [
        Self::VsaOps,
        Self::StreamIo,
        Self::FileRead,
        Self::FileWrite,
        Self::Network,
        Self::GpuCompute,
        Self::AgentSpawn,
        Self::Metrics,
        Self::PluginCall,
        Self::Kv,
        Self::Events,
        Self::Blob,
        Self::Topics,
        Self::Process,
        Self::Clocks,
        Self::Random,
    ];

    /// The name that manifests and grants write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VsaOps => "vsa_ops",
            Self::StreamIo => "stream_io",
            Self::FileRead => "file_read",
            Self::FileWrite => "file_write",
            Self::Network => "network",
            Self::GpuCompute => "gpu_compute",
            Self::AgentSpawn => "agent_spawn",
            Self::Metrics => "metrics",
            Self::PluginCall => "plugin_call",
            Self::Kv => "kv",
            Self::Events => "events",
            Self::Blob => "blob",
            Self::Topics => "topics",
            Self::Process => "process",
            Self::Clocks => "clocks",
            Self::Random => "random",
        }
    }

    /// One line for the person who is asked to grant it: what the plugin will be able to do.
    pub const fn summary(self) -> &'static str {
        match self {
            Self::VsaOps => "compute with hypervectors",
            Self::StreamIo => "read and write the streams that a run connects to it",
            Self::FileRead => "read files",
            Self::FileWrite => "create, change and delete files",
            Self::Network => "connect to other machines",
            Self::GpuCompute => "compute on the GPU",
            Self::AgentSpawn => "start agents",
            Self::Metrics => "report measurements",
            Self::PluginCall => "call other plugins",
            Self::Kv => "keep values of its own that outlive the run",
            Self::Events => "send notices to whoever watches the run",
            Self::Blob => "read archives and artefacts of the run",
            Self::Topics => "send and receive messages",
            Self::Process => "start programs, which may do whatever you may do",
            Self::Clocks => "know the time, and wait",
            Self::Random => "get random numbers",
        }
    }

    /// Whether a plugin may have it that nobody vouches for: with it alone a plugin reaches nothing
    /// but itself and what whoever runs it connects it to. Whatever reaches files, other machines,
    /// other plugins, the GPU or programs needs trust as well as a grant.
    pub const fn is_low_risk(self) -> bool {
        match self {
            Self::VsaOps
            | Self::StreamIo
            | Self::Metrics
            | Self::Kv
            | Self::Events
            | Self::Blob
            | Self::Topics
            | Self::Clocks
            | Self::Random => true,
            Self::FileRead
            | Self::FileWrite
            | Self::Network
            | Self::GpuCompute
            | Self::AgentSpawn
            | Self::PluginCall
            | Self::Process => false,
        }
    }

    /// What one entry of a scope is; none for a capability that is granted as a whole.
    pub const fn scope_of(self) -> Option<&'static str> {
        match self {
            Self::FileRead | Self::FileWrite => Some("a path"),
            Self::Network => Some("a host, with a port where only one is meant"),
            Self::AgentSpawn => Some("a number of agents at the same time"),
            Self::PluginCall => Some("a plugin id"),
            Self::Topics => Some("a topic"),
            Self::Process => Some("a program"),
            Self::VsaOps
            | Self::StreamIo
            | Self::GpuCompute
            | Self::Metrics
            | Self::Kv
            | Self::Events
            | Self::Blob
            | Self::Clocks
            | Self::Random => None,
        }
    }

    /// True when it is granted by number: its scope is how many there may be at the same time.
    pub const fn is_counted(self) -> bool {
        matches!(self, Self::AgentSpawn)
    }
}

impl FromStr for Capability {
    type Err = UnknownWord;

    fn from_str(value: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|capability| capability.name() == value)
            .ok_or_else(|| UnknownWord::new("capability", value, &Self::ALL.map(Self::name)))
    }
}

word_traits!(Capability);

/// A capability that a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapabilityRequest {
    /// Which capability.
    pub name: Capability,
    /// What it is wanted for: paths, hosts, plugin ids, topics, programs, or one number of agents.
    /// Empty: all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    /// Why, in words for the person who is asked to grant it.
    pub reason: String,
}

impl CapabilityRequest {
    pub(crate) const KEYS: &[&str] = &["name", "scope", "reason"];

    /// The grant that gives all that is asked for; one of nothing when the scope, in a request that
    /// was made by hand, is none of the capability's.
    pub fn grant(&self) -> Grant {
        Grant {
            capability: self.name,
            scope: Scope::from_words(self.name, &self.scope).unwrap_or(Scope::AtMost(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_is_parsed_from_its_name_and_has_a_summary() {
        for capability in Capability::ALL {
            assert_eq!(capability.name().parse(), Ok(capability));
            assert!(!capability.summary().is_empty());
        }
        let error = "stream-io".parse::<Capability>().unwrap_err();
        assert_eq!(error.to_string(), "unknown capability `stream-io`");
        assert_eq!(error.hint(), "did you mean `stream_io`?");
    }
}
