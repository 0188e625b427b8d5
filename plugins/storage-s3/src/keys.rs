//! Which keys there can be.

use vox_plugin::{Error, Result};

/// The longest key in bytes that S3 takes.
const LONGEST: usize = 1024;

/// The key in the bucket. Keys that an address would turn into others are refused.
pub fn in_bucket(prefix: &str, key: &str) -> Result<String> {
    let refuse = |why: &str| Err(Error::Invalid(format!("{why}; choose another key")));
    if key.is_empty() {
        return refuse("a key cannot be empty");
    }
    let whole = [prefix, key].concat();
    if whole.len() > LONGEST {
        return refuse(&format!(
            "the key has {} bytes with its prefix, and {LONGEST} is the most",
            whole.len()
        ));
    }
    if whole.split('/').any(|part| matches!(part, "." | "..")) {
        return refuse(&format!(
            "the key {whole:?} has `.` or `..` between slashes, which addresses of the web cannot carry"
        ));
    }
    Ok(whole)
}
