//! Shared libraries that no SDK would make, for the tests of what the host refuses.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles Rust source without dependencies into a shared library in `directory`.
///
/// # Panics
///
/// When it does not compile.
pub fn compile_library(directory: &Path, name: &str, source: &str) -> PathBuf {
    let file = directory.join(format!("{name}.rs"));
    std::fs::write(&file, source).expect("the source can be written");
    let library = directory.join(format!("lib{name}.so"));
    let output = Command::new("rustc")
        .args([
            "--edition=2024",
            "--crate-type=cdylib",
            "-Cdebuginfo=0",
            "-Awarnings",
            "-o",
        ])
        .arg(&library)
        .arg(&file)
        .output()
        .expect("rustc runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    library
}
