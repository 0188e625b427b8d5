//! What the tests need: streams in memory, a Podman of their own, and a registry that it pulls from.

mod memory;
mod podman;
mod registry;

pub use memory::Memory;
pub use podman::{IMAGE, Podman, kill_guard, podman};
pub use registry::{MADE, registry};
