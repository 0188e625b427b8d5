//! Where a model's files say what its chat template is and which tokens are special.
//!
//! As `transformers` looks for them: `chat_template.jinja` before `chat_template` in
//! `tokenizer_config.json`, which is a text or a list of named ones; special tokens in
//! `tokenizer_config.json`, in older models in `special_tokens_map.json`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::Error;

const CONFIG: &str = "tokenizer_config.json";
const SPECIALS: &str = "special_tokens_map.json";
const TEMPLATE: &str = "chat_template.jinja";

/// The keys that templates find as variables.
const TOKENS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// The text of a chat template, with what it needs of its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSource {
    /// Templates by name; a single one is called `default`.
    pub templates: BTreeMap<String, String>,
    /// The special tokens, such as `eos_token`, as they are written.
    pub specials: BTreeMap<String, String>,
    /// The file that it stands in, for messages.
    pub origin: String,
}

impl TemplateSource {
    /// A template that stands nowhere.
    pub fn of_text(text: impl Into<String>, specials: &[(&str, &str)]) -> Self {
        let specials = specials.iter();
        Self {
            templates: BTreeMap::from([(super::DEFAULT.to_owned(), text.into())]),
            specials: specials
                .map(|(name, token)| ((*name).to_owned(), (*token).to_owned()))
                .collect(),
            origin: "chat template".into(),
        }
    }

    /// The template of the model in `directory`; none when it has none.
    ///
    /// # Errors
    /// [`Error::Read`], and [`Error::ModelFile`] for one that is not what it should be.
    pub fn of_model(directory: &Path) -> Result<Option<Self>, Error> {
        let config = object(&directory.join(CONFIG))?;
        let specials = specials(directory, &config)?;
        let file = directory.join(TEMPLATE);
        if let Some(text) = text_of(&file)? {
            return Ok(Some(Self {
                templates: BTreeMap::from([(super::DEFAULT.to_owned(), text)]),
                specials,
                origin: file.display().to_string(),
            }));
        }
        let file = directory.join(CONFIG);
        let templates = match config.get("chat_template") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => {
                BTreeMap::from([(super::DEFAULT.to_owned(), text.clone())])
            }
            Some(Value::Array(list)) => list
                .iter()
                .map(named)
                .collect::<Option<BTreeMap<_, _>>>()
                .filter(|templates| !templates.is_empty())
                .ok_or_else(|| Error::ModelFile {
                    path: file.clone(),
                    message: "`chat_template` is a list of something else than objects with \
                              `name` and `template`"
                        .into(),
                })?,
            Some(_) => {
                return Err(Error::ModelFile {
                    path: file,
                    message: "`chat_template` is neither a text nor a list of named ones".into(),
                });
            }
        };
        Ok(Some(Self {
            templates,
            specials,
            origin: file.display().to_string(),
        }))
    }
}

fn named(entry: &Value) -> Option<(String, String)> {
    let text = |key: &str| entry.get(key)?.as_str().map(str::to_owned);
    Some((text("name")?, text("template")?))
}

/// The tokens that stand around a text, as they are written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndTokens {
    /// Before it.
    pub begin: Option<String>,
    /// After it.
    pub end: Option<String>,
}

/// The tokens that the model in `directory` has for the begin and the end of a text.
///
/// # Errors
/// [`Error::Read`], and [`Error::ModelFile`] for one that is not what it should be.
pub fn end_tokens(directory: &Path) -> Result<EndTokens, Error> {
    let config = object(&directory.join(CONFIG))?;
    let mut specials = specials(directory, &config)?;
    Ok(EndTokens {
        begin: specials.remove("bos_token"),
        end: specials.remove("eos_token"),
    })
}

fn specials(
    directory: &Path,
    config: &Map<String, Value>,
) -> Result<BTreeMap<String, String>, Error> {
    let older = object(&directory.join(SPECIALS))?;
    let found = TOKENS.iter().filter_map(|name| {
        let token = token(config.get(*name)).or_else(|| token(older.get(*name)))?;
        Some(((*name).to_owned(), token))
    });
    Ok(found.collect())
}

/// A token, written as a text or as an object with `content`.
fn token(value: Option<&Value>) -> Option<String> {
    let value = value?;
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    Some(text.to_owned())
}

/// The object in a file; an empty one when there is no file.
fn object(path: &Path) -> Result<Map<String, Value>, Error> {
    let Some(text) = text_of(path)? else {
        return Ok(Map::new());
    };
    serde_json::from_str(&text).map_err(|error| Error::ModelFile {
        path: path.into(),
        message: format!("not a JSON object: {error}"),
    })
}

/// The text of a file; none when there is no file.
fn text_of(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::read(path)(error)),
    }
}
