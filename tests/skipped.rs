//! How a test says that it cannot be run here. Every program of tests that has such includes this file as its module
//! `skipped`, as plugins and crates have no crate for tests in common.
//!
//! `cargo xtask test` lists what was said at its end.

use std::fmt::Display;
use std::io::{Write as _, stderr};
use std::thread;

/// Says that the test on this thread is skipped, and why, in one line.
pub fn because(why: impl Display) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    let why = why.to_string().replace(['\r', '\n'], " ");
    let line = format!("skipped: {test}: {why}\n");
    // Past what the harness keeps to itself of tests that pass.
    let _ = stderr().write_all(line.as_bytes());
}
