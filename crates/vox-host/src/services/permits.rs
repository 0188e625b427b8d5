//! What a plugin is granted at this moment.
//!
//! One [`Permits`] is shared by all instances of a plugin in a host, so that a grant which is taken
//! away is gone at the next call, whoever makes it and however long the instance has lived.

use std::sync::Arc;

use arc_swap::ArcSwap;
use vox_contract::Grants;

/// A plugin's grants, replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    grants: ArcSwap<Grants>,
}

impl Permits {
    /// These grants.
    pub(crate) fn new(grants: Grants) -> Self {
        Self {
            grants: ArcSwap::from_pointee(grants),
        }
    }

    /// The grants as they stand.
    #[inline]
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Grants>> {
        self.grants.load()
    }

    /// Replaces the grants; answers whether anything changed.
    pub(crate) fn replace(&self, grants: Grants) -> bool {
        if **self.grants.load() == grants {
            return false;
        }
        self.grants.store(Arc::new(grants));
        true
    }
}
