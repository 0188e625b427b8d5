//! How far a long work is, for whoever watches it.

/// Watches a long work. It may be called from several threads at once.
pub trait Progress: Sync {
    /// A part of the work begins: `what` in a word or two, and how many bytes it takes if that is known.
    fn begin(&self, what: &str, bytes: Option<u64>);

    /// So many bytes more are done.
    fn advance(&self, bytes: u64);

    /// The part of the work is over.
    fn end(&self);

    /// Whether the work is wanted no longer. It is asked often, and ends soon after.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Progress for () {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}
