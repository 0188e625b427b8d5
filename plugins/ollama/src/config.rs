//! The plugin's configuration.

use std::collections::BTreeMap;

use serde::Deserialize;
use vox_plugin::{Result, from_json};
use vox_remote::Server;
use vox_remote::remote::{self, Access};

/// Where Ollama listens unless it is told otherwise.
const USUAL: &str = "http://127.0.0.1:11434";

/// The configuration as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    url: Option<String>,
    models: BTreeMap<String, String>,
    context: Option<u32>,
    tier: Option<u8>,
    timeout: Option<u64>,
    continues: bool,
}

/// The plugin's configuration.
#[derive(Debug)]
pub struct Config {
    /// The server.
    pub server: Server,
    /// Vox's names of models, to Ollama's.
    pub models: BTreeMap<String, String>,
    /// Most tokens of a prompt and its answer; none for what Ollama takes by itself.
    pub context: Option<u32>,
    /// The server's tier among the devices.
    pub tier: Option<u8>,
    /// Whether it goes on with a conversation's answer that was begun.
    pub continues: bool,
}

impl Config {
    /// Reads what the host hands over.
    pub fn read(json: &str) -> Result<Self> {
        let written: Written = from_json(json)?;
        let access = Access {
            url: written.url.unwrap_or_else(|| USUAL.to_owned()),
            timeout: written.timeout,
            ..Access::default()
        };
        Ok(Self {
            server: access.open("ollama")?,
            models: written.models,
            context: written.context,
            tier: remote::tier(written.tier)?,
            continues: written.continues,
        })
    }
}

#[cfg(test)]
mod tests {
    use vox_plugin::Error;

    use super::*;

    #[test]
    fn without_an_address_it_is_ollamas_own() {
        let config = Config::read("{}").unwrap();
        assert_eq!(config.server.address().to_string(), USUAL);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (json, name) in [
            (r#"{"url":"nonsense"}"#, "`url`"),
            (r#"{"timeout":0}"#, "`timeout`"),
            (r#"{"tier":101}"#, "`tier`"),
            (r#"{"host":"e.org"}"#, "`host`"),
        ] {
            let refused = Config::read(json);
            assert!(
                matches!(refused, Err(Error::Invalid(why)) if why.contains(name)),
                "{json}"
            );
        }
    }
}
