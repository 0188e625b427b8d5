//! Why a command failed: the message, the place in a file, what to do, and the exit code.
//!
//! Every error of the other crates becomes a [`Failure`] here, so this is the one place that says
//! which error has which [`Exit`] code.

use std::io;
use std::path::{Path, PathBuf};

use vox_build::BuildError;
use vox_contract::{ManifestError, Problem};
use vox_crypto::KeyError;
use vox_host::control::ControlError;
use vox_host::directories::DirectoriesError;
use vox_host::distribution::DistributionError;
use vox_host::install::InstallError;
use vox_host::inventory::Reason;
use vox_host::registry::RegistryError;
use vox_host::resolution::ResolutionError;
use vox_host::signing::SigningError;
use vox_host::{CallError, JsonCallError, contract};

use crate::exit::Exit;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
    source: Option<Box<SourceFile>>,
    /// The user knows already.
    quiet: bool,
}

/// A file with problems in it.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its name.
    pub file: PathBuf,
    /// What it says.
    pub text: String,
    /// What is wrong with it; at least one.
    pub problems: Vec<Problem>,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
            source: None,
            quiet: false,
        }
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The file system refused something.
    pub fn io(action: &str, path: &Path, error: &io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::NotFound {
            Exit::NotFound
        } else {
            Exit::Failed
        };
        Self::new(exit, format!("cannot {action} {}: {error}", path.display()))
    }

    /// Standard input cannot be read.
    pub fn input(error: &io::Error) -> Self {
        Self::new(Exit::Failed, format!("cannot read standard input: {error}"))
    }

    /// Whoever read standard output went away: there is nobody to tell, and nothing failed.
    pub fn closed() -> Self {
        Self {
            quiet: true,
            ..Self::new(Exit::Success, "standard output is closed")
        }
    }

    /// An end with a code of which the output has said everything.
    pub fn told(exit: Exit) -> Self {
        Self {
            quiet: true,
            ..Self::new(exit, "told already")
        }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same with problems in a file, if there are any.
    fn in_file(mut self, file: &Path, text: &str, problems: &[Problem]) -> Self {
        if !problems.is_empty() {
            let (text, problems) = (text.to_owned(), problems.to_vec());
            self.source = Some(Box::new(SourceFile {
                file: file.to_owned(),
                text,
                problems,
            }));
        }
        self
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The file at fault.
    pub fn source_file(&self) -> Option<&SourceFile> {
        self.source.as_deref()
    }

    /// Whether nothing is printed about it.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// Writing to standard output failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::closed();
        }
        Self::new(
            Exit::Failed,
            format!("cannot write to standard output: {error}"),
        )
    }
}

impl From<DirectoriesError> for Failure {
    fn from(error: DirectoriesError) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        match &error {
            ManifestError::Unreadable { file, source } => {
                let mut failure = Self::io("read", file, source);
                if source.kind() == io::ErrorKind::FileTooLarge {
                    failure.exit = Exit::InvalidInput;
                }
                failure
            }
            ManifestError::UnknownDistribution { file, name, hint } => {
                let message = format!("there is no distribution `{name}` in {}", file.display());
                Self::new(Exit::NotFound, message).hint(hint)
            }
            _ => Self::new(
                Exit::InvalidInput,
                format!("{} is refused", error.file().display()),
            )
            .in_file(error.file(), error.source_text(), error.problems()),
        }
    }
}

impl From<vox_host::Error> for Failure {
    fn from(error: vox_host::Error) -> Self {
        use vox_host::Error;
        let hint = error.hint();
        let failure = match error {
            Error::Settings(error) => return error.into(),
            Error::Install(error) => return error.into(),
            Error::Call(error) => return error.into(),
            Error::Resolution(error) => return error.into(),
            Error::Registry(error) => return error.into(),
            Error::NotInstalled { .. } | Error::NoPayload { .. } => {
                Self::new(Exit::NotFound, error.to_string())
            }
            error => Self::new(Exit::Failed, error.to_string()),
        };
        Self { hint, ..failure }
    }
}

impl From<ResolutionError> for Failure {
    fn from(error: ResolutionError) -> Self {
        Self::new(Exit::NotFound, error.to_string()).hint(error.hint())
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::new(Exit::NotFound, error.to_string()).hint(error.hint())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match &error {
            CallError::Refused {
                error: contract::Error::Denied(_),
                ..
            } => Self::new(Exit::Refused, error.to_string()),
            CallError::Cancelled { .. }
            | CallError::Refused {
                error: contract::Error::Cancelled,
                ..
            } => Self::new(Exit::Interrupted, error.to_string()),
            CallError::NotExported { .. } => Self::new(Exit::NotFound, error.to_string()),
            _ => Self::new(Exit::Failed, error.to_string()),
        }
    }
}

impl From<JsonCallError> for Failure {
    fn from(error: JsonCallError) -> Self {
        match error {
            JsonCallError::Call(error) => error.into(),
            JsonCallError::Unknown { function, hint } => Self::new(
                Exit::NotFound,
                format!("`{function}` is no function of the contract"),
            )
            .hint(hint),
            error => Self::usage(error.to_string()),
        }
    }
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        let exit = match error {
            InstallError::Manifest(error) => return error.into(),
            InstallError::Unusable {
                reason: Reason::BadManifest(error),
                ..
            } => return error.into(),
            InstallError::Io {
                action,
                path,
                source,
            } => return Self::io(action, &path, &source),
            InstallError::NoManifest { .. } | InstallError::NotInstalled { .. } => Exit::NotFound,
            InstallError::Archive { .. }
            | InstallError::NotAFile { .. }
            | InstallError::TooLarge { .. } => Exit::InvalidInput,
            InstallError::Signing(error) => return (*error).into(),
            InstallError::Refused { .. } | InstallError::NativeNotTrusted { .. } => Exit::Refused,
            InstallError::Interrupted => Exit::Interrupted,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let exit = match error {
            ControlError::Gone { .. } => Exit::NotFound,
            ControlError::NotPrivate { .. } | ControlError::OtherUser { .. } => Exit::Refused,
            _ => Exit::Failed,
        };
        let hint = error.hint().map(str::to_owned);
        Self {
            hint,
            ..Self::new(exit, error.to_string())
        }
    }
}

impl From<SigningError> for Failure {
    fn from(error: SigningError) -> Self {
        let exit = match error {
            SigningError::Manifest(error) => return error.into(),
            SigningError::Directory(error) => return (*error).into(),
            SigningError::Io {
                action,
                path,
                source,
            } => return Self::io(action, &path, &source),
            SigningError::Refused(_) => Exit::Refused,
            _ => Exit::InvalidInput,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let exit = match error {
            KeyError::Io {
                action,
                path,
                source,
            } => return Self::io(action, &path, &source),
            KeyError::Random(_) => Exit::Failed,
            KeyError::Name { .. } => Exit::Usage,
            _ => Exit::InvalidInput,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Manifest(error) => error.into(),
            BuildError::NoSuchPayload { .. } => Self::usage(error.to_string()),
            BuildError::MissingFile { .. } => Self::new(Exit::NotFound, error.to_string()),
            error => Self::new(Exit::Failed, error.to_string()),
        }
    }
}

impl From<DistributionError> for Failure {
    fn from(error: DistributionError) -> Self {
        let exit = match error {
            DistributionError::Manifest(error) => return error.into(),
            DistributionError::Copy(error) => return error.into(),
            DistributionError::Io {
                action,
                path,
                source,
            } => return Self::io(action, &path, &source),
            DistributionError::NotBuilt { .. } => Exit::NotFound,
            DistributionError::Unfit { .. } => Exit::InvalidInput,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<vox_run::Error> for Failure {
    fn from(error: vox_run::Error) -> Self {
        let exit = match error {
            vox_run::Error::Plan(_) => Exit::InvalidInput,
            _ => Exit::NotFound,
        };
        let plan = error.plan_error();
        let message = format!("{} cannot be run", plan.file().display());
        Self::new(exit, message).in_file(plan.file(), plan.source_text(), plan.problems())
    }
}

impl From<vox_run::RecordError> for Failure {
    fn from(error: vox_run::RecordError) -> Self {
        use vox_run::RecordError;
        let exit = match &error {
            RecordError::NoRun { .. } | RecordError::Elsewhere { .. } => Exit::NotFound,
            RecordError::Ambiguous { .. } => Exit::InvalidInput,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<vox_run::ResumeError> for Failure {
    fn from(error: vox_run::ResumeError) -> Self {
        match error {
            vox_run::ResumeError::Record(error) => error.into(),
            error => Self::new(Exit::Failed, error.to_string())
                .hint("put it back, or begin anew: `vox run <pipeline>`"),
        }
    }
}

impl From<vox_run::PlanError> for Failure {
    fn from(error: vox_run::PlanError) -> Self {
        vox_run::Error::Plan(error).into()
    }
}
