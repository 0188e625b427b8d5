//! What the tests need: streams in memory, and a Podman of their own.

mod memory;
mod podman;

pub use memory::Memory;
pub use podman::{IMAGE, Podman, kill_guard, podman};
