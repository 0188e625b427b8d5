//! The plugin's configuration, checked.

use std::collections::BTreeMap;
use std::time::Duration;

use fluent_uri::Uri;
use serde::Deserialize;
use vox_plugin::http::Request;
use vox_plugin::{Error, Result, from_json};

use crate::message::{Format, Occasion};

/// How long each part of a request may take, in seconds, unless it is set.
const DEFAULT_TIMEOUT: u64 = 10;
/// The longest that may be set: connecting and answering together end before the hook's own time.
const LONGEST_TIMEOUT: u64 = 25;

/// The configuration as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    url: String,
    #[serde(default)]
    format: Format,
    on: Option<Vec<Occasion>>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    timeout: Option<u64>,
}

/// Who is told of what, and how.
pub struct Config {
    /// The request without its body.
    pub request: Request,
    /// Host and port of the webhook, which is all of it that may be shown: paths of webhooks are
    /// secrets.
    pub scope: String,
    /// How a notice is written.
    pub format: Format,
    /// What is told.
    pub on: Vec<Occasion>,
}

impl Config {
    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with what is wrong; the URL and the headers' values are not repeated.
    pub fn read(config: &str) -> Result<Self> {
        let written: Written = from_json(config)?;
        let refuse = |why: &str| Error::Invalid(why.to_owned());
        let no_url = "`url` is no URL of a webhook; write `https://host/path`";
        let uri = Uri::parse(written.url.as_str()).map_err(|_| refuse(no_url))?;
        let encrypted = match uri.scheme().as_str().to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(refuse(no_url)),
        };
        let authority = uri.authority().ok_or_else(|| refuse(no_url))?;
        if authority.has_userinfo() {
            return Err(refuse(
                "`url` has a name or password before its host; put `Authorization` into `headers`",
            ));
        }
        let host = authority.host().to_ascii_lowercase();
        let own = if encrypted { 443 } else { 80 };
        let port = authority
            .port_to_u16()
            .map_err(|_| refuse(no_url))?
            .unwrap_or(own);
        if host.is_empty() {
            return Err(refuse(no_url));
        }
        let path = match uri.path().as_str() {
            "" => "/",
            path => path,
        };
        let path = match uri.query() {
            Some(query) => format!("{path}?{}", query.as_str()),
            None => path.to_owned(),
        };
        let scope = format!("{host}:{port}");
        let authority = if port == own { host } else { scope.clone() };
        let mut request = Request::new("POST", encrypted, authority, path);
        request.headers = headers(&written.headers, written.format)?;
        let timeout = written.timeout.unwrap_or(DEFAULT_TIMEOUT);
        if !(1..=LONGEST_TIMEOUT).contains(&timeout) {
            return Err(Error::Invalid(format!(
                "`timeout` is a number of seconds from 1 to {LONGEST_TIMEOUT}"
            )));
        }
        request.timeout = Some(Duration::from_secs(timeout));
        let on = written.on.unwrap_or_else(|| Occasion::ENDS.to_vec());
        if on.is_empty() {
            return Err(refuse(
                "`on` names nothing to be told of; leave the hook out instead",
            ));
        }
        Ok(Self {
            request,
            scope,
            format: written.format,
            on,
        })
    }
}

/// The headers that are sent: the user's, and those that the format brings where the user sets none.
fn headers(written: &BTreeMap<String, String>, format: Format) -> Result<Vec<(String, Vec<u8>)>> {
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, value) in written {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let sound = !name.is_empty()
            && name.bytes().all(token)
            && !value.bytes().any(|byte| byte.is_ascii_control());
        let reserved = ["connection", "content-length", "host", "transfer-encoding"];
        let name = name.to_ascii_lowercase();
        if !sound || reserved.contains(&name.as_str()) {
            return Err(Error::Invalid(format!(
                "the header `{}` cannot be sent; its name or value is none, or it belongs to the \
                 connection",
                name.escape_debug()
            )));
        }
        headers.push((name, value.as_bytes().to_vec()));
    }
    let own = [
        ("content-type", format.content_type()),
        (
            "user-agent",
            concat!("vox-notify/", env!("CARGO_PKG_VERSION")),
        ),
    ];
    for (name, value) in own {
        if !headers.iter().any(|(other, _)| other == name) {
            headers.push((name.to_owned(), value.into()));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vox_plugin::serde_json::json;

    #[test]
    fn a_url_is_enough() {
        let config = Config::read(r#"{"url":"https://Hooks.example.org/T0/secret?x=1"}"#).unwrap();
        assert_eq!(config.scope, "hooks.example.org:443");
        assert_eq!(config.request.authority, "hooks.example.org");
        assert_eq!(config.request.path_with_query, "/T0/secret?x=1");
        assert_eq!(config.request.timeout, Some(Duration::from_secs(10)));
        assert_eq!(config.format, Format::Json);
        assert_eq!(config.on, Occasion::ENDS);
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused_without_telling_its_secrets() {
        let url = "https://e.org/secret";
        for config in [
            json!({}),
            json!({ "url": "secret" }),
            json!({ "url": "ftp://e.org/secret" }),
            json!({ "url": "https://u:secret@e.org/" }),
            json!({ "url": url, "format": "xml" }),
            json!({ "url": url, "on": [] }),
            json!({ "url": url, "on": ["ended"] }),
            json!({ "url": url, "timeout": 0 }),
            json!({ "url": url, "timeout": 26 }),
            json!({ "url": url, "headers": { "Host": "e.org" } }),
            json!({ "url": url, "headers": { "A": "secret\n" } }),
            json!({ "url": url, "to": "x" }),
        ] {
            let Err(Error::Invalid(told)) = Config::read(&config.to_string()) else {
                panic!("{config} was taken");
            };
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
