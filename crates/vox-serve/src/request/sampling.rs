//! What both kinds of completions have: sampling, `max_tokens`, `stop`, and what is not supported.

use serde_json::Value;

use super::fields::{Fields, wrong};
use super::{Answering, Reading};
use crate::engine::{Completion, ModelCard, Prompt, Sampling};
use crate::refusal::Refusal;

/// What a completion is made of beside its prompt.
pub struct Wanted {
    /// The members that may have `max_tokens`, the one that counts first.
    pub max_tokens: &'static [&'static str],
    /// What holds where none of them is there; the most there may be where this is none.
    pub default_tokens: Option<u32>,
    /// How many alternatives each token is to have.
    pub alternatives: Option<u32>,
}

/// Makes a request of its parts, after the prompt was read.
pub fn answering(
    fields: Fields<'_>,
    reading: Reading<'_>,
    model: &ModelCard,
    prompt: Prompt,
    wanted: &Wanted,
) -> Result<Answering, Refusal> {
    let stream = fields.flag("stream")?;
    let include_usage = match fields.get("stream_options") {
        None => false,
        Some(_) if !stream => {
            let message = "is for streams alone: give `stream` as well, or leave it out";
            return Err(Refusal::param("stream_options", message));
        }
        Some(options) => Fields::of(options)
            .map_err(|_| wrong("stream_options", options, "an object"))?
            .flag("include_usage")?,
    };
    Ok(Answering {
        completion: Completion {
            model: model.id.clone(),
            prompt,
            sampling: sampling(fields)?,
            max_tokens: max_tokens(fields, reading, model, wanted)?,
            stop: stop(fields, reading)?,
            alternatives: wanted.alternatives,
        },
        fingerprint: model.fingerprint.clone(),
        stream,
        include_usage,
    })
}

/// Refuses what is known, asks for something, and is not done here.
pub fn refuse_unsupported(fields: Fields<'_>) -> Result<(), Refusal> {
    let tools_are_off = fields.get("tool_choice").and_then(Value::as_str) == Some("none");
    let is_empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        _ => false,
    };
    for (name, reason) in [
        ("tools", "tool calls are not supported: ask for a text"),
        (
            "functions",
            "function calls are not supported: ask for a text",
        ),
        (
            "logit_bias",
            "changing single tokens is not supported: leave it out",
        ),
        ("audio", "audio is not supported: ask for a text"),
        (
            "prediction",
            "predicted outputs are not supported: leave it out",
        ),
        (
            "web_search_options",
            "searching the web is not supported: leave it out",
        ),
        (
            "suffix",
            "text after the answer is not supported: leave it out",
        ),
        (
            "echo",
            "repeating the prompt is not supported: leave it out",
        ),
    ] {
        let is_off = name == "tools" && tools_are_off;
        if fields
            .get(name)
            .is_some_and(|value| !is_off && !is_empty(value))
        {
            return Err(Refusal::unsupported(
                name,
                format!("is given, and {reason}"),
            ));
        }
    }
    if let Some(modalities) = fields.list("modalities")?
        && modalities.iter().any(|modality| modality != "text")
    {
        let message = "has more than `text`, which is all that is supported";
        return Err(Refusal::unsupported("modalities", message));
    }
    if let Some(format) = fields.get("response_format")
        && format.get("type").and_then(Value::as_str) != Some("text")
    {
        let message = "is not `{\"type\": \"text\"}`, which is all that is supported";
        return Err(Refusal::unsupported("response_format", message));
    }
    for name in ["n", "best_of"] {
        if fields
            .get(name)
            .is_some_and(|value| value.as_u64() != Some(1))
        {
            let message = "is not 1: there is one answer to a request; ask several times, with \
                           several seeds";
            return Err(Refusal::unsupported(name, message));
        }
    }
    Ok(())
}

fn sampling(fields: Fields<'_>) -> Result<Sampling, Refusal> {
    // -1 means all, as elsewhere.
    let top_k = match fields.get("top_k") {
        Some(value) if value.as_i64() == Some(-1) => 0,
        _ => fields.whole("top_k", 0..=u32::MAX, "")?.unwrap_or(0),
    };
    let seed = match fields.get("seed") {
        None => random_seed(),
        Some(value) => value
            .as_i64()
            .map(i64::cast_unsigned)
            .or_else(|| value.as_u64())
            .ok_or_else(|| wrong("seed", value, "a whole number of 64 bits"))?,
    };
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0..=2.0, 1.0)?,
        top_k,
        top_p: fields.number("top_p", 0.0..=1.0, 1.0)?,
        min_p: fields.number("min_p", 0.0..=1.0, 0.0)?,
        repetition_penalty: fields.number("repetition_penalty", 0.01..=100.0, 1.0)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0, 0.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0, 0.0)?,
        seed,
    })
}

fn max_tokens(
    fields: Fields<'_>,
    reading: Reading<'_>,
    model: &ModelCard,
    wanted: &Wanted,
) -> Result<u32, Refusal> {
    let (most, limit) = if (1..reading.options.answer_tokens).contains(&model.context) {
        (model.context, ", the context of the model")
    } else {
        let most = reading.options.answer_tokens;
        (most, ", the server's limit `answer_tokens`")
    };
    for name in wanted.max_tokens {
        if let Some(tokens) = fields.whole(name, 1..=most, limit)? {
            return Ok(tokens);
        }
    }
    Ok(wanted.default_tokens.unwrap_or(most).min(most))
}

fn stop(fields: Fields<'_>, reading: Reading<'_>) -> Result<Vec<String>, Refusal> {
    let wanted = "a text or a list of texts";
    let texts = match fields.get("stop") {
        None => return Ok(Vec::new()),
        Some(text @ Value::String(_)) => std::slice::from_ref(text),
        Some(Value::Array(texts)) => texts,
        Some(other) => return Err(wrong("stop", other, wanted)),
    };
    let (most, longest) = (reading.options.stop_strings, reading.options.stop_bytes);
    if texts.len() > most {
        let message = format!(
            "has {} texts; it has at most {most}, the server's limit `stop_strings`",
            texts.len()
        );
        return Err(Refusal::param("stop", message));
    }
    let mut stop = Vec::with_capacity(texts.len());
    for text in texts {
        let text = text.as_str().ok_or_else(|| wrong("stop", text, wanted))?;
        if text.len() > longest {
            let message = format!(
                "has a text of {} bytes; it has at most {longest}, the server's limit `stop_bytes`",
                text.len()
            );
            return Err(Refusal::param("stop", message));
        }
        // An empty text would end every answer at once; it means that there is none.
        if !text.is_empty() {
            stop.push(text.to_owned());
        }
    }
    Ok(stop)
}

/// A seed where the request has none. Where the system has no randomness, a fixed one does as well.
fn random_seed() -> u64 {
    getrandom::u64().unwrap_or_default()
}
