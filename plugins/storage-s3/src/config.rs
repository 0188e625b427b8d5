//! The plugin's configuration, and where it says that the store is.

use std::path::PathBuf;
use std::time::Duration;

use rusty_s3::{Bucket, UrlStyle};
use serde::Deserialize;
use url::Url;
use vox_plugin::{Error, Result, from_json};

use crate::credentials::Source;

/// What S3 takes of a part, in bytes; the last one may be smaller.
const PART_SIZES: std::ops::RangeInclusive<usize> = (5 << 20)..=(1 << 30);

/// The plugin's configuration as it is written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    endpoint: Option<String>,
    region: String,
    bucket: Option<String>,
    prefix: String,
    path_style: Option<bool>,
    credentials: Source,
    timeout: String,
    part_size: String,
    retries: u32,
    uploads: usize,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            bucket: None,
            prefix: String::new(),
            path_style: None,
            credentials: Source::default(),
            timeout: "30 s".to_owned(),
            part_size: "8 MiB".to_owned(),
            retries: 4,
            uploads: 16,
        }
    }
}

/// The plugin's configuration.
pub struct Config {
    /// The bucket and its address.
    pub bucket: Bucket,
    /// The address as it was written, for messages.
    pub endpoint: String,
    /// What every key in the bucket begins with.
    pub prefix: String,
    /// Where the credentials are.
    pub credentials: Source,
    /// The longest time without progress.
    pub timeout: Duration,
    /// Bytes of a part.
    pub part_size: usize,
    /// How often a request is repeated.
    pub retries: u32,
    /// Uploads that may be open at a time.
    pub uploads: usize,
}

impl Config {
    /// Reads what the host hands over.
    pub fn read(json: &str) -> Result<Self> {
        let written: Written = from_json(json)?;
        let Some(name) = written.bucket.filter(|name| !name.is_empty()) else {
            return Err(Error::Invalid(
                "storage-s3 needs a bucket; write `bucket = \"…\"` under \
                 `[plugin.storage-s3.config]` in Vox.toml"
                    .to_owned(),
            ));
        };
        // AWS itself wants the bucket in the host name, what others run seldom has such names.
        let path_style = written.path_style.unwrap_or(written.endpoint.is_some());
        let endpoint = written
            .endpoint
            .unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", written.region));
        let refuse = |why: String| {
            Error::Invalid(format!(
                "the `endpoint` {why}; write an address such as `https://s3.example.org`"
            ))
        };
        let address: Url = endpoint
            .parse()
            .map_err(|error| refuse(format!("is no address: {error}")))?;
        if !address.username().is_empty() || address.password().is_some() {
            return Err(refuse("must not contain credentials".to_owned()));
        }
        let style = if path_style {
            UrlStyle::Path
        } else {
            UrlStyle::VirtualHost
        };
        let bucket = Bucket::new(address, style, name, written.region)
            .map_err(|error| refuse(format!("does not fit the bucket: {error}")))?;
        let part_size = size(&written.part_size).filter(|size| PART_SIZES.contains(size));
        Ok(Self {
            bucket,
            endpoint,
            prefix: written.prefix,
            credentials: written.credentials,
            timeout: duration(&written.timeout).ok_or_else(|| {
                Error::Invalid(format!(
                    "the `timeout` is `{}`; write a whole number and ms or s, above 0",
                    written.timeout
                ))
            })?,
            part_size: part_size.ok_or_else(|| {
                Error::Invalid(format!(
                    "the `part-size` is `{}`; write a whole number and MiB or GiB, from 5 MiB to 1 GiB",
                    written.part_size
                ))
            })?,
            retries: written.retries.min(10),
            uploads: written.uploads.max(1),
        })
    }
}

/// A number and the factor of its unit.
fn quantity<T: Copy>(text: &str, units: &[(&str, T)]) -> Option<(u64, T)> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    Some((digits.parse().ok()?, *factor))
}

fn size(text: &str) -> Option<usize> {
    let units = [
        ("B", 1_u64),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
    ];
    let (number, factor) = quantity(text, &units)?;
    usize::try_from(number.checked_mul(factor)?).ok()
}

fn duration(text: &str) -> Option<Duration> {
    let (number, factor) = quantity(text, &[("ms", 1_u64), ("s", 1000)])?;
    let milliseconds = number.checked_mul(factor).filter(|time| *time > 0)?;
    Some(Duration::from_millis(milliseconds))
}

/// Below the user's home where it begins with `~/`.
pub fn below_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        match Config::read(json) {
            Err(Error::Invalid(text)) => text,
            _ => panic!("{json} was not refused"),
        }
    }

    #[test]
    fn a_store_of_ones_own_has_the_bucket_in_the_path_and_aws_in_the_host() {
        let config = Config::read(r#"{"bucket":"b","endpoint":"http://127.0.0.1:9000"}"#).unwrap();
        assert_eq!(
            config.bucket.base_url().as_str(),
            "http://127.0.0.1:9000/b/"
        );
        let config = Config::read(r#"{"bucket":"b","region":"eu-west-1"}"#).unwrap();
        assert_eq!(
            config.bucket.base_url().as_str(),
            "https://b.s3.eu-west-1.amazonaws.com/"
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        assert!(refusal("{}").contains("[plugin.storage-s3.config]"));
        assert!(refusal(r#"{"bucket":"b","endpoint":"nonsense"}"#).contains("`endpoint`"));
        assert!(refusal(r#"{"bucket":"b","endpoint":"ftp://x"}"#).contains("`endpoint`"));
        assert!(refusal(r#"{"bucket":"b","timeout":"0 s"}"#).contains("`timeout`"));
        assert!(refusal(r#"{"bucket":"b","part-size":"1 MiB"}"#).contains("`part-size`"));
    }

    #[test]
    fn credentials_do_not_belong_into_the_configuration() {
        let text = refusal(r#"{"bucket":"b","endpoint":"http://me:hunter2@x"}"#);
        assert!(!text.contains("hunter2"), "{text}");
        let text = refusal(r#"{"bucket":"b","credentials":{"secret-key":"hunter2"}}"#);
        assert!(!text.contains("hunter2"), "{text}");
    }
}
