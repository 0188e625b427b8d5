//! The two ways in which a plugin's code is carried into this process.
//!
//! [`component`] runs it in a sandbox, [`native`] loads it as a library. Both load a payload once
//! (lazily, at its first use) and make instances of it; the generated clients in
//! [`crate::contract`] are the only callers of an instance.

pub(crate) mod component;
pub(crate) mod native;

use crate::contract;
use crate::error::LimitExceeded;

/// Loaded code, from which instances are made.
pub(crate) enum Payload {
    Component(Box<component::Payload>),
    Native(native::Library),
}

/// One instance's half of the carrier.
#[derive(Debug)]
pub(crate) enum Carrier {
    Component(Box<component::Instance>),
    Native(native::Instance),
}

/// What a carrier brings back. Boxed because an answer is copied on its way to the caller, and a
/// failure in its place would make each copy several times as long.
pub(crate) type Answer<T> = Result<T, Box<Failure>>;

/// Why a carrier could not bring an answer back.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The payload has no such function.
    NotExported,
    /// The plugin answered an error.
    Refused(contract::Error),
    /// The plugin trapped or panicked. The instance must not be entered again.
    Crashed(String),
    /// The plugin reached a limit. The instance must not be entered again.
    Exceeded(LimitExceeded),
    /// The caller waits no longer. The instance must not be entered again.
    TimedOut,
    /// The run was cancelled while the plugin was computing. The instance must not be entered
    /// again.
    Cancelled,
    /// The two sides disagree about the contract.
    Protocol(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotExported => formatter.write_str("the payload does not export it"),
            Self::Refused(error) => formatter.write_str(&crate::error::explain(error)),
            Self::Crashed(message) | Self::Protocol(message) => formatter.write_str(message),
            Self::Exceeded(exceeded) => exceeded.fmt(formatter),
            Self::TimedOut => formatter.write_str("it took too long"),
            Self::Cancelled => formatter.write_str("cancelled"),
        }
    }
}
