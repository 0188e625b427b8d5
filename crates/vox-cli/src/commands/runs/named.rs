//! Which run is meant.

use clap::Args;
use vox_run::{History, RunId};

use crate::error::Failure;
use crate::output::style::plain;
use crate::record::here;

/// The argument that names a run.
#[derive(Debug, Args)]
pub(super) struct NamedRun {
    /// The run: its id, the beginning or the end of that, or `last`, the newest one of this directory
    #[arg(value_name = "RUN")]
    run: String,
}

/// The most steps of a matrix that are named.
const SHOWN_STEPS: usize = 8;

/// What to say to who names a step with a matrix by its key in the plan: what the matrix has made of it, among the
/// steps of these keys. None where there is nothing of that.
pub(crate) fn made_by_matrix<'k>(
    step: &str,
    keys: impl Iterator<Item = &'k str>,
) -> Option<String> {
    let mut made = keys.filter(|key| is_made_by_matrix(step, key));
    let mut named: Vec<String> = made.by_ref().take(SHOWN_STEPS).map(plain).collect();
    let others = made.count();
    if others > 0 {
        named.push(format!("and {others} more"));
    }
    let step = plain(step);
    (!named.is_empty()).then(|| format!("`{step}` has a matrix: name one of {}", named.join(", ")))
}

/// Whether a step is one of those that the matrix of another makes.
pub(crate) fn is_made_by_matrix(step: &str, key: &str) -> bool {
    let values = key.strip_prefix(step);
    values.is_some_and(|values| values.starts_with('[') && values.ends_with(']'))
}

impl NamedRun {
    /// The run that is meant.
    pub(super) fn find(&self, history: &History) -> Result<RunId, Failure> {
        Ok(history.find(&self.run, &here()?)?)
    }
}
