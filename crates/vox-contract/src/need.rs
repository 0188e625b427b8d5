//! What a user of plugins may look for.

use std::fmt;

use crate::ExtensionPoint;

/// Something that some plugin must serve. The names need not be valid: they may be what a user
/// typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need<'a> {
    /// An extension point.
    ExtensionPoint(ExtensionPoint),
    /// A runner, by the name that steps write after `uses`.
    Runner(&'a str),
    /// A verb of the command line.
    Verb(&'a str),
    /// A service.
    Service(&'a str),
}

impl Need<'_> {
    /// The extension point by which it is served.
    pub const fn extension_point(self) -> ExtensionPoint {
        match self {
            Self::ExtensionPoint(point) => point,
            Self::Runner(_) => ExtensionPoint::Step,
            Self::Verb(_) => ExtensionPoint::Command,
            Self::Service(_) => ExtensionPoint::Service,
        }
    }
}

/// Prints for example ``the runner `exec` ``.
impl fmt::Display for Need<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExtensionPoint(point) => write!(f, "the extension point `{point}`"),
            Self::Runner(name) => write!(f, "the runner `{}`", name.escape_debug()),
            Self::Verb(name) => write!(f, "the verb `{}`", name.escape_debug()),
            Self::Service(name) => write!(f, "the service `{}`", name.escape_debug()),
        }
    }
}
