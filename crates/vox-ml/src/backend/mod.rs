//! The two extension points of ML as this crate calls them: a plugin computes, and everything here
//! only asks.
//!
//! What must stay true: no type of an ML framework is known on this side; what crosses is what the
//! contract defines.

mod error;
mod inference;
mod training;

pub use error::{BackendError, Missing, Refusals};
pub use inference::{Candidate, Embeddings, Model};
pub use training::{Rows, Training};

use vox_contract::{ExtensionPoint, PluginId};
use vox_host::Host;

/// The plugins that serve an extension point, by id; with `wanted`, that one alone.
///
/// # Errors
///
/// [`BackendError::Missing`], which says what to install.
pub fn plugins(
    host: &Host,
    point: ExtensionPoint,
    wanted: Option<&PluginId>,
) -> Result<Vec<PluginId>, BackendError> {
    let found = host.registry().extension_point(point);
    let ids: Vec<PluginId> = found
        .as_ref()
        .map(|plugins| plugins.iter().map(|plugin| plugin.id().clone()).collect())
        .unwrap_or_default();
    match wanted {
        None if ids.is_empty() => Err(BackendError::Missing(Missing {
            point,
            wanted: None,
        })),
        None => Ok(ids),
        Some(id) if ids.contains(id) => Ok(vec![id.clone()]),
        Some(id) => Err(BackendError::Missing(Missing {
            point,
            wanted: Some(id.clone()),
        })),
    }
}
