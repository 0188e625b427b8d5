//! Why a plan cannot be run.

use crate::plan::PlanError;

/// Why a run cannot begin. What goes wrong during a run is in its report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The plan itself is wrong: its text, or the arguments that it gives to a runner.
    #[error(transparent)]
    Plan(PlanError),
    /// The plan names a runner or a plugin that is not there or cannot be used.
    #[error(transparent)]
    Unresolved(PlanError),
}

impl Error {
    /// The problems, each with its place in the plan.
    pub fn plan_error(&self) -> &PlanError {
        match self {
            Self::Plan(error) | Self::Unresolved(error) => error,
        }
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}
