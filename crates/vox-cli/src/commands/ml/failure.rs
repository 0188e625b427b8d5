//! Which error of training and inference has which exit code.

use vox_ml::answer::DispatchError;
use vox_ml::backend::BackendError;
use vox_ml::train::TrainError;

use crate::error::Failure;
use crate::exit::Exit;

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        let hint = error.hint();
        let failure = match error {
            BackendError::Call { source, .. } => return source.into(),
            BackendError::Start { source, .. } => return (*source).into(),
            error => Self::new(exit_of(&error), error.to_string()),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// The code of what is not the error of a single call.
fn exit_of(error: &BackendError) -> Exit {
    match error {
        BackendError::Missing(_) => Exit::NotFound,
        _ => Exit::Failed,
    }
}

impl From<DispatchError> for Failure {
    fn from(error: DispatchError) -> Self {
        let hint = error.hint();
        match (error, hint) {
            (DispatchError::Backend(error), _) => error.into(),
            (error, hint) => {
                let exit = match error {
                    DispatchError::TooLong { .. } => Exit::InvalidInput,
                    _ => Exit::Failed,
                };
                let failure = Self::new(exit, error.to_string());
                match hint {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
        }
    }
}

impl From<vox_ml::Error> for Failure {
    fn from(error: vox_ml::Error) -> Self {
        match error {
            vox_ml::Error::Config(error) => error.into(),
            vox_ml::Error::Interrupted => Self::new(Exit::Interrupted, "interrupted"),
            vox_ml::Error::Read { .. } => Self::new(Exit::NotFound, error.to_string()),
            vox_ml::Error::Write { .. } => Self::new(Exit::Failed, error.to_string()),
            error => Self::new(Exit::InvalidInput, error.to_string()),
        }
    }
}

impl From<vox_ml::config::ConfigError> for Failure {
    fn from(error: vox_ml::config::ConfigError) -> Self {
        match error.errors().first() {
            Some(first) => first.clone().into(),
            None => Self::new(Exit::InvalidInput, error.to_string()),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        if let Some(refusal) = error.refused_adapter() {
            return Self::new(Exit::InvalidInput, refusal);
        }
        let hint = error.hint();
        let code = error.code();
        let failure = match error {
            TrainError::Data(error) => return error.into(),
            TrainError::Bundle(error) => return error.into(),
            TrainError::Log(error) => return error.into(),
            TrainError::Store(error) => return error.into(),
            TrainError::Backend(
                error @ (BackendError::Call { .. } | BackendError::Start { .. }),
            ) => {
                return error.into();
            }
            error => {
                let exit = match &error {
                    TrainError::Nothing { .. }
                    | TrainError::CheckpointMissing { .. }
                    | TrainError::CudaRequired { .. }
                    | TrainError::NoDevice { .. } => Exit::NotFound,
                    TrainError::Backend(error) => exit_of(error),
                    TrainError::Exists { .. } | TrainError::Busy { .. } => Exit::Refused,
                    TrainError::Changed { .. }
                    | TrainError::Context { .. }
                    | TrainError::NoAdapter { .. }
                    | TrainError::IsAdapter { .. } => Exit::InvalidInput,
                    _ => Exit::Failed,
                };
                let code = code.map(|code| format!("{code}: ")).unwrap_or_default();
                Self::new(exit, format!("{code}{error}"))
            }
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
