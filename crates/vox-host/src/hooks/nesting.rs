//! How deep hooks are inside each other.

use std::time::Instant;

/// Where whoever asks hooks stands: outside of all hooks, or within some.
///
/// The default is outside. A place within comes from
/// [`Emitter::nesting`](crate::Emitter::nesting), which refuses one that is too deep.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nesting {
    /// Hooks that are inside each other here.
    depth: u32,
    /// When the innermost has to be over.
    deadline: Option<Instant>,
}

impl Nesting {
    /// Within `depth` hooks, which have to be over at `deadline`.
    pub(crate) fn within(depth: u32, deadline: Option<Instant>) -> Self {
        Self { depth, deadline }
    }

    /// How many hooks are inside each other where the next one is entered.
    pub(super) fn next(self) -> u32 {
        self.depth.saturating_add(1)
    }

    /// When all that happens within has to be over.
    pub(super) fn deadline(self) -> Option<Instant> {
        self.deadline
    }
}
