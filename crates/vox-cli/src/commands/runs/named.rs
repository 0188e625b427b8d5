//! Which run is meant.

use clap::Args;
use vox_run::{History, RunId};

use crate::error::Failure;
use crate::record::here;

/// The argument that names a run.
#[derive(Debug, Args)]
pub(super) struct NamedRun {
    /// The run: its id, the beginning or the end of that, or `last`, the newest one of this directory
    #[arg(value_name = "RUN")]
    run: String,
}

impl NamedRun {
    /// The run that is meant.
    pub(super) fn find(&self, history: &History) -> Result<RunId, Failure> {
        Ok(history.find(&self.run, &here()?)?)
    }
}
