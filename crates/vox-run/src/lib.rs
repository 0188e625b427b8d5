//! Runs: `pipeline.toml` to a plan, and the plan to its end.

pub mod graph;
pub mod plan;
pub mod ports;
mod schedule;

pub use plan::{Plan, PlanError};
