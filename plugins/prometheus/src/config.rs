//! The plugin's configuration, checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use vox_plugin::{Error, Result, from_json};

/// Where metrics are served unless the user says otherwise: the port that OpenTelemetry's exporters
/// for Prometheus use.
const DEFAULT_LISTEN: &str = "127.0.0.1:9464";
/// What `listen` says where nothing is to be served.
const NOWHERE: &str = "none";
/// The most series that are kept unless the user says otherwise.
const DEFAULT_SERIES: usize = 10_000;
/// The most that may be asked for.
const MOST_SERIES: usize = 1_000_000;

/// The configuration as it is written.
#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Written {
    listen: Option<String>,
    file: Option<PathBuf>,
    max_series: Option<usize>,
}

/// Where the metrics go, and how many they may be.
#[derive(Debug, PartialEq, Eq)]
pub struct Config {
    /// The address at which they are served; none when they are not.
    pub listen: Option<SocketAddr>,
    /// The file that they are written to at the end of a run.
    pub file: Option<PathBuf>,
    /// The most series that are kept.
    pub max_series: usize,
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with what is wrong and what to write.
    pub fn read(config: &str) -> Result<Self> {
        let written: Written = from_json(config)?;
        let listen = match written.listen.as_deref().unwrap_or(DEFAULT_LISTEN) {
            NOWHERE => None,
            address => Some(address.parse().map_err(|_| {
                Error::Invalid(format!(
                    "`listen` is `{}`, which is no address; write `{DEFAULT_LISTEN}`, port 0 for any \
                     that is free, or `{NOWHERE}`",
                    address.escape_debug()
                ))
            })?),
        };
        if let Some(file) = &written.file
            && (file.extension().is_none_or(|extension| extension != "prom") || !file.is_absolute())
        {
            return Err(Error::Invalid(format!(
                "`file` is `{}`; write an absolute path that ends in `.prom`, which is all that \
                 node_exporter reads",
                file.display()
            )));
        }
        if listen.is_none() && written.file.is_none() {
            return Err(Error::Invalid(
                "with `listen = \"none\"` and no `file` the metrics would go nowhere; leave the hook \
                 out instead"
                    .to_owned(),
            ));
        }
        let max_series = written.max_series.unwrap_or(DEFAULT_SERIES);
        if !(1..=MOST_SERIES).contains(&max_series) {
            return Err(Error::Invalid(format!(
                "`max-series` is a number from 1 to {MOST_SERIES}"
            )));
        }
        Ok(Self {
            listen,
            file: written.file,
            max_series,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_need_be_configured() {
        let config = Config::read("{}").unwrap();
        assert_eq!(config.listen, Some("127.0.0.1:9464".parse().unwrap()));
        assert_eq!((config.file, config.max_series), (None, 10_000));
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused_with_the_reason() {
        for (config, reason) in [
            (r#"{"listen":"localhost"}"#, "no address"),
            (r#"{"listen":"none"}"#, "go nowhere"),
            (r#"{"file":"/tmp/vox.txt"}"#, "ends in `.prom`"),
            (r#"{"file":"vox.prom"}"#, "absolute path"),
            (r#"{"max-series":0}"#, "from 1 to"),
            (r#"{"port":1}"#, "unknown field"),
        ] {
            let told = Config::read(config).expect_err(config).to_string();
            assert!(told.contains(reason), "{config}: {told}");
        }
    }
}
