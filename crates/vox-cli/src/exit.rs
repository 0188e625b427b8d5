//! Exit codes: what `vox` tells the shell. Scripts rely on them, so a code never changes its
//! meaning.

use std::process::ExitCode;

/// How `vox` ended. The verb of a plugin may end with any other code too: it chooses its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what it was asked.
    Success,
    /// The work failed: a step, a build, a plugin's call, or something that `doctor` found.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// Something that was named is not there, or cannot be resolved.
    NotFound,
    /// Something was not granted, or the user said no.
    Refused,
    /// A file that was given is not what it should be.
    InvalidInput,
    /// The user interrupted it.
    Interrupted,
}

impl Exit {
    /// Every way to end, with what `vox --help` says of it.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Success, "success"),
        (Self::Failed, "the work failed"),
        (Self::Usage, "wrong usage"),
        (
            Self::NotFound,
            "something named was not found, or could not be resolved",
        ),
        (Self::Refused, "refused: not granted, or not agreed to"),
        (Self::InvalidInput, "an input file is invalid"),
        (Self::Interrupted, "interrupted"),
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::InvalidInput => 5,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}
