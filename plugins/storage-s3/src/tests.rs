//! The plugin against a real server, and against one that answers from a script what a real one does
//! only in distress.

mod buckets;
mod distress;
mod real;
mod scripted;
mod server;

use super::*;

/// A plugin at an address that is never cancelled.
fn plugin(endpoint: &str, bucket: &str, settings: &str) -> S3 {
    plugin_with(endpoint, bucket, settings, Box::new(|| false))
}

/// A plugin at an address; `settings` are further members of the configuration, each with a comma
/// before it.
fn plugin_with(endpoint: &str, bucket: &str, settings: &str, cancel: Cancel) -> S3 {
    let json = format!(r#"{{"endpoint":"{endpoint}","bucket":"{bucket}"{settings}}}"#);
    let credentials = rusty_s3::Credentials::new("THEKEY", "hunter2");
    S3::new(Config::read(&json).unwrap(), credentials, cancel)
}
