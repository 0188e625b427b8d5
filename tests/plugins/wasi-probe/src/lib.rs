//! A component that uses WASI on request: each request is one deed, its answer what came of it, or
//! the name of the error that WASI answered. It has no native library, where there is no WASI.

mod files;
mod network;
mod rest;

use serde::Deserialize;
use serde_json::Value;
use vox_plugin::{Lifecycle, Result, Service, from_json, plugin};
use wasip2::filesystem::types::Descriptor;

/// A request.
#[derive(Deserialize)]
#[serde(untagged)]
enum Deed {
    Files(files::Deed),
    Network(network::Deed),
    Rest(rest::Deed),
}

/// What a deed comes to: a value, or the name of an error.
type Answer = std::result::Result<Value, String>;

/// The plugin: it keeps the file that it was told to hold.
#[plugin(lifecycle, service)]
struct Probe {
    held: Option<Descriptor>,
}

impl Lifecycle for Probe {
    fn init(_config: &str) -> Result<Self> {
        Ok(Self { held: None })
    }
}

impl Service for Probe {
    fn invoke(&mut self, _service: &str, request: &[u8]) -> Result<Vec<u8>> {
        let answer = match from_json(&String::from_utf8_lossy(request))? {
            Deed::Files(deed) => files::run(deed, &mut self.held),
            Deed::Network(deed) => network::run(deed),
            Deed::Rest(deed) => rest::run(deed),
        };
        let answer = match answer {
            Ok(value) => serde_json::json!({ "ok": value }),
            Err(error) => serde_json::json!({ "error": error }),
        };
        Ok(answer.to_string().into_bytes())
    }
}
