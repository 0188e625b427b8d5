//! The plugin's configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use vox_plugin::{Error, Result, from_json};

/// The longest that a start or a silence may be allowed, in seconds: a day.
const LONGEST: u64 = 24 * 60 * 60;

/// The plugin's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// `llama-server`: a name that is looked up in `PATH`, or a path.
    pub program: PathBuf,
    /// Vox's names of models, to GGUF files.
    pub models: BTreeMap<String, PathBuf>,
    /// Threads on the processor; 0 for what the host says.
    pub threads: u32,
    /// Most tokens of a prompt and its answer; none for what the host says.
    pub context: Option<u32>,
    /// Layers on the graphics processor; none for what fits.
    pub gpu_layers: Option<u32>,
    /// Addresses of `rpc-server`s that compute with it.
    pub rpc: Vec<String>,
    /// Answers at a time, each with a whole context.
    pub parallel: u32,
    /// Further arguments of `llama-server`.
    pub arguments: Vec<String>,
    /// How long a start may take, in seconds.
    pub start_timeout: u64,
    /// The longest time without a byte of an answer, in seconds.
    pub timeout: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            program: "llama-server".into(),
            models: BTreeMap::new(),
            threads: 0,
            context: None,
            gpu_layers: None,
            rpc: Vec::new(),
            parallel: 1,
            arguments: Vec::new(),
            start_timeout: 300,
            timeout: 300,
        }
    }
}

impl Config {
    /// Reads what the host hands over.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the setting that makes no sense.
    pub fn read(json: &str) -> Result<Self> {
        let config: Self = from_json(json)?;
        let refuse = |why: &str| Err(Error::Invalid(why.to_owned()));
        if !(1..=LONGEST).contains(&config.start_timeout)
            || !(1..=LONGEST).contains(&config.timeout)
        {
            return refuse("`timeout` and `start-timeout` are numbers of seconds from 1 to 86400");
        }
        if !(1..=64).contains(&config.parallel) {
            return refuse("`parallel` is a number of answers from 1 to 64");
        }
        if config.context == Some(0) {
            return refuse("`context` is a number of tokens above 0");
        }
        let is_peer = |peer: &String| {
            let port = peer
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse::<u16>().ok());
            port.is_some() && !peer.contains(',')
        };
        if let Some(peer) = config.rpc.iter().find(|peer| !is_peer(peer)) {
            return Err(Error::Invalid(format!(
                "`rpc` has `{peer}`, which is no host and port, such as `10.0.0.2:50052`"
            )));
        }
        Ok(config)
    }

    /// How long a start may take.
    pub fn start_limit(&self) -> Duration {
        Duration::from_secs(self.start_timeout)
    }

    /// The longest time without a byte of an answer.
    pub fn silence(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (json, name) in [
            (r#"{"start-timeout":0}"#, "`start-timeout`"),
            (r#"{"parallel":0}"#, "`parallel`"),
            (r#"{"context":0}"#, "`context`"),
            (r#"{"rpc":["10.0.0.2"]}"#, "`rpc`"),
            (r#"{"rpc":["10.0.0.2:1,10.0.0.3:1"]}"#, "`rpc`"),
            (r#"{"port":8080}"#, "`port`"),
        ] {
            let refused = Config::read(json);
            assert!(
                matches!(refused, Err(Error::Invalid(why)) if why.contains(name)),
                "{json}"
            );
        }
    }
}
