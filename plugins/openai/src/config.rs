//! The plugin's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use vox_plugin::{Error, Result, from_json};
use vox_remote::openai::{Continues, Dialect, Extensions, OpenAi};
use vox_remote::remote::{self, Access};

/// The configuration as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    url: Option<String>,
    key_file: Option<PathBuf>,
    key_env: Option<String>,
    models: BTreeMap<String, String>,
    embeddings: BTreeSet<String>,
    context: Option<u32>,
    tier: Option<u8>,
    timeout: Option<u64>,
    continues: Continuing,
    extensions: bool,
    max_tokens: MaxTokens,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Continuing {
    Told(bool),
    How(How),
}

impl Default for Continuing {
    fn default() -> Self {
        Self::Told(false)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    Prefix,
    Always,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MaxTokens {
    #[default]
    MaxTokens,
    MaxCompletionTokens,
}

/// The plugin's configuration.
pub struct Config {
    /// The server.
    pub client: OpenAi,
    /// Vox's names of models, to the server's.
    pub models: BTreeMap<String, String>,
    /// Names of models, as Vox has them, that make embeddings and are not asked for answers.
    pub embeddings: BTreeSet<String>,
    /// Most tokens of a prompt and its answer, whatever the model; none for what the server says.
    pub context: Option<u32>,
    /// The server's tier among the devices.
    pub tier: Option<u8>,
}

impl Config {
    /// Reads what the host hands over.
    pub fn read(json: &str) -> Result<Self> {
        let written: Written = from_json(json)?;
        let url = written.url.ok_or_else(|| {
            Error::Invalid(
                "openai needs a server; write `url = \"http://…\"` under `[plugin.openai.config]` in \
                 Vox.toml"
                    .to_owned(),
            )
        })?;
        if written.context == Some(0) {
            return Err(Error::Invalid(
                "`context` is a number of tokens above 0".to_owned(),
            ));
        }
        let tier = remote::tier(written.tier)?;
        let access = Access {
            url,
            base: "/v1",
            key_file: written.key_file,
            key_env: written.key_env,
            timeout: written.timeout,
        };
        let dialect = Dialect {
            continues: match written.continues {
                Continuing::Told(false) => Continues::No,
                Continuing::Told(true) => Continues::Fields,
                Continuing::How(How::Prefix) => Continues::Prefix,
                Continuing::How(How::Always) => Continues::Always,
            },
            extensions: if written.extensions {
                Extensions::Common
            } else {
                Extensions::None
            },
            max_tokens: match written.max_tokens {
                MaxTokens::MaxTokens => "max_tokens",
                MaxTokens::MaxCompletionTokens => "max_completion_tokens",
            }
            .to_owned(),
            ..Dialect::default()
        };
        Ok(Self {
            client: OpenAi {
                server: access.open("openai")?,
                dialect,
            },
            models: written.models,
            embeddings: written.embeddings,
            context: written.context,
            tier,
        })
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
    fn an_address_without_a_path_gets_the_usual_one() {
        for (url, whole) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
            (
                "https://api.example.org/openai/v1/",
                "https://api.example.org/openai/v1",
            ),
        ] {
            let config = Config::read(&format!(r#"{{"url":"{url}"}}"#)).unwrap();
            assert_eq!(config.client.server.address().to_string(), whole);
        }
    }

    #[test]
    fn what_a_server_knows_is_written_as_words() {
        for (continues, expected) in [
            ("false", Continues::No),
            ("true", Continues::Fields),
            ("\"prefix\"", Continues::Prefix),
            ("\"always\"", Continues::Always),
        ] {
            let json = format!(
                r#"{{"url":"http://e.org","continues":{continues},"max-tokens":"max_completion_tokens"}}"#
            );
            let dialect = Config::read(&json).unwrap().client.dialect;
            assert_eq!(dialect.continues, expected);
            assert_eq!(dialect.max_tokens, "max_completion_tokens");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        assert!(refusal("{}").contains("[plugin.openai.config]"));
        assert!(refusal(r#"{"url":"nonsense"}"#).contains("`url`"));
        assert!(refusal(r#"{"url":"http://e.org","timeout":0}"#).contains("`timeout`"));
        assert!(refusal(r#"{"url":"http://e.org","context":0}"#).contains("`context`"));
        for tier in [0, 101] {
            let json = format!(r#"{{"url":"http://e.org","tier":{tier}}}"#);
            assert!(refusal(&json).contains("`tier`"));
        }
        assert!(refusal(r#"{"url":"http://e.org","key":"hunter2"}"#).contains("key-file"));
        assert!(refusal(r#"{"url":"http://e.org","key-file":"a","key-env":"A"}"#).contains("both"));
    }

    #[test]
    fn a_key_does_not_belong_into_the_configuration() {
        for json in [
            r#"{"url":"http://me:hunter2@e.org"}"#,
            r#"{"url":"http://e.org","key":"hunter2"}"#,
            r#"{"url":"http://e.org","key-env":"hunter2"}"#,
        ] {
            let text = refusal(json);
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
