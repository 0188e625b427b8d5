//! `/v1/completions`.

use serde_json::Value;

use super::fields::{Fields, missing, wrong};
use super::sampling::{Wanted, answering, refuse_unsupported};
use super::{Answering, Reading};
use crate::engine::Prompt;
use crate::refusal::Refusal;

/// `max_tokens` where a request has none, as in OpenAI's API.
const DEFAULT_TOKENS: u32 = 16;
/// A token takes about this many bytes of text, so prompts of tokens are bounded like texts.
const TOKEN_BYTES: usize = 4;

/// Reads a body.
pub fn completion(body: &Value, reading: Reading<'_>) -> Result<Answering, Refusal> {
    let fields = Fields::of(body)?;
    let model = reading.answering_model(fields)?;
    refuse_unsupported(fields)?;
    let prompt = prompt(fields, reading)?;
    let most = reading.options.alternatives;
    let wanted = Wanted {
        max_tokens: &["max_tokens"],
        default_tokens: Some(DEFAULT_TOKENS),
        alternatives: fields.whole("logprobs", 0..=most, ", the server's limit `alternatives`")?,
    };
    answering(fields, reading, model, prompt, &wanted)
}

/// Refuses a prompt that is larger than it may be.
pub fn check_size(name: &str, bytes: usize, reading: Reading<'_>) -> Result<(), Refusal> {
    let most = reading.options.prompt_bytes;
    if bytes <= most {
        return Ok(());
    }
    let message =
        format!("has {bytes} bytes; it has at most {most}, the server's limit `prompt_bytes`");
    Err(Refusal::param(name, message).code("prompt_too_large"))
}

fn prompt(fields: Fields<'_>, reading: Reading<'_>) -> Result<Prompt, Refusal> {
    let value = fields
        .get("prompt")
        .ok_or_else(|| missing("prompt", "it is a text, or a list of tokens"))?;
    let wanted = "a text or a list of tokens";
    let value = match value {
        // One prompt in a list is one prompt.
        Value::Array(list) if list.iter().any(|one| one.is_string() || one.is_array()) => {
            match list.as_slice() {
                [one] => one,
                _ => {
                    let message = format!(
                        "has {} prompts: there is one to a request; send a request for each",
                        list.len()
                    );
                    return Err(Refusal::unsupported("prompt", message));
                }
            }
        }
        value => value,
    };
    let prompt = match value {
        Value::String(text) => Prompt::Text(text.clone()),
        Value::Array(tokens) => {
            let tokens = tokens.iter().enumerate().map(|(at, token)| {
                let number = token.as_u64().and_then(|token| u32::try_from(token).ok());
                number.ok_or_else(|| wrong(&format!("prompt[{at}]"), token, "a token"))
            });
            Prompt::Tokens(tokens.collect::<Result<_, _>>()?)
        }
        other => return Err(wrong("prompt", other, wanted)),
    };
    let bytes = match &prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Tokens(tokens) if tokens.is_empty() => {
            return Err(Refusal::param(
                "prompt",
                "is empty; it has one token at least",
            ));
        }
        Prompt::Tokens(tokens) => tokens.len() * TOKEN_BYTES,
        Prompt::Conversation(_) => 0,
    };
    check_size("prompt", bytes, reading)?;
    Ok(prompt)
}
