//! What configuration and description say of a model.
//!
//! All of this is a claim of whoever wrote the files; it is shown to people and decides nothing about
//! what is believed.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::error::ImportError;

/// No configuration is larger.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// A JSON file of a model.
///
/// # Errors
///
/// [`ImportError::Config`] when it is too large, no JSON, or no object; [`ImportError::Io`].
pub(crate) fn read(path: &Path) -> Result<Value, ImportError> {
    let refuse = |why: String| ImportError::Config {
        path: path.to_path_buf(),
        why,
    };
    let mut text = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut text))
        .map_err(ImportError::io("read", path))?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(refuse(format!(
            "it is larger than {MAX_CONFIG_BYTES} bytes"
        )));
    }
    let value: Value = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
    if !value.is_object() {
        return Err(refuse("it is no JSON object".to_owned()));
    }
    Ok(value)
}

/// The name of the architecture in a `config.json`.
pub(crate) fn architecture(config: &Value) -> Option<String> {
    let named = config
        .get("architectures")
        .and_then(|all| all.get(0))
        .and_then(Value::as_str);
    named
        .or_else(|| config.get("model_type").and_then(Value::as_str))
        .map(str::to_owned)
}

/// What an `adapter_config.json` calls the model that it changes.
pub(crate) fn base(config: &Value) -> Option<String> {
    config
        .get("base_model_name_or_path")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

/// The licence in the front matter of a model's `README.md`: the line `license: apache-2.0` between two
/// lines `---`, as the hub has it.
pub fn licence_of(readme: &str) -> Option<String> {
    let mut lines = readme.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let front = lines.take_while(|line| line.trim_end() != "---");
    let values = front.filter_map(|line| line.strip_prefix("license:"));
    let named = values.map(|value| value.trim().trim_matches(['"', '\'']).to_owned());
    named
        .into_iter()
        .find(|licence| !licence.is_empty() && licence.len() <= 64)
}

/// The licence that a `README.md` states.
pub(crate) fn licence_in(path: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(path)
        .ok()?
        .take(64 << 10)
        .read_to_string(&mut text)
        .ok()?;
    licence_of(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_is_what_the_front_matter_says() {
        let readme = "---\nlibrary_name: x\nlicense: apache-2.0\n---\nlicense: mit\n";
        assert_eq!(licence_of(readme).as_deref(), Some("apache-2.0"));
        assert_eq!(licence_of("license: mit"), None);
        assert_eq!(licence_of("---\nlicense:\n---\n"), None);
        assert_eq!(licence_of(""), None);
    }

    #[test]
    fn an_architecture_is_named_by_its_class_or_its_type() {
        let of = |text| architecture(&serde_json::from_str(text).unwrap());
        assert_eq!(
            of(r#"{"architectures":["LlamaForCausalLM"]}"#).as_deref(),
            Some("LlamaForCausalLM")
        );
        assert_eq!(of(r#"{"model_type":"bert"}"#).as_deref(), Some("bert"));
        assert_eq!(of(r#"{"architectures":"x"}"#), None);
    }
}
