//! The bodies of requests for answers.

use serde_json::{Map, Value, json};
use vox_plugin::inference_backend::{Prompt, Request, Sampling};
use vox_plugin::{Error, Result};

use super::{Continues, Dialect, Extensions};

/// The last tokens that llama.cpp counts for penalties: more than contexts have. It wants a number, and keeps room
/// for as many.
const PENALISED: u32 = 1 << 16;

/// Path and body of the request for an answer.
///
/// # Errors
///
/// [`Error::Invalid`]: this server cannot be asked so.
pub fn body(model: &str, request: &Request, dialect: &Dialect) -> Result<(&'static str, Value)> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    set("model", model.into());
    set("stream", true.into());
    set("stream_options", json!({ "include_usage": true }));
    set(&dialect.max_tokens, request.max_tokens.into());
    let stops = request.stop.iter().filter(|stop| !stop.is_empty());
    let stops: Vec<&String> = stops.take(dialect.stops).collect();
    if !stops.is_empty() {
        set("stop", json!(stops));
    }
    let path = match &request.prompt {
        Prompt::Conversation(messages) => {
            let mut messages: Vec<Value> = messages
                .iter()
                .map(|message| json!({ "role": message.role, "content": message.content }))
                .collect();
            if !request.answered.is_empty() {
                let mut begun = json!({ "role": "assistant", "content": request.answered });
                match dialect.continues {
                    Continues::No => return Err(not_continued()),
                    Continues::Prefix => begun["prefix"] = true.into(),
                    Continues::Fields => {
                        set("continue_final_message", true.into());
                        set("add_generation_prompt", false.into());
                    }
                    Continues::Always => {}
                }
                messages.push(begun);
            }
            set("messages", messages.into());
            if let Some(alternatives) = request.alternatives {
                set("logprobs", true.into());
                set(
                    "top_logprobs",
                    alternatives_asked(alternatives, dialect).into(),
                );
            }
            "/chat/completions"
        }
        prompt => {
            set("prompt", prompt_with(prompt, &request.answered, dialect)?);
            if let Some(alternatives) = request.alternatives {
                set("logprobs", alternatives_asked(alternatives, dialect).into());
            }
            "/completions"
        }
    };
    sample(&mut body, &request.sampling, dialect.extensions)?;
    Ok((path, body.into()))
}

fn not_continued() -> Error {
    Error::Invalid(
        "this server is not known to go on with an answer that was begun; where it does, say so with \
         `continues` in its configuration"
            .to_owned(),
    )
}

/// A prompt that is no conversation, with the beginning of its answer.
fn prompt_with(prompt: &Prompt, answered: &str, dialect: &Dialect) -> Result<Value> {
    match prompt {
        Prompt::Text(text) => Ok(format!("{text}{answered}").into()),
        Prompt::Tokens(tokens) if answered.is_empty() => Ok(json!(tokens)),
        Prompt::Tokens(tokens) if dialect.extensions == Extensions::LlamaCpp => {
            let mut mixed: Vec<Value> = tokens.iter().map(|token| (*token).into()).collect();
            mixed.push(answered.into());
            Ok(mixed.into())
        }
        _ => Err(Error::Invalid(
            "a prompt of tokens cannot be joined with the text of an answer that was begun; this \
             server takes one or the other"
                .to_owned(),
        )),
    }
}

/// llama.cpp tells nothing at all where no alternative is asked for.
fn alternatives_asked(alternatives: u32, dialect: &Dialect) -> u32 {
    match dialect.extensions {
        Extensions::LlamaCpp => alternatives.max(1),
        _ => alternatives,
    }
}

fn sample(
    body: &mut Map<String, Value>,
    sampling: &Sampling,
    extensions: Extensions,
) -> Result<()> {
    let mut set = |name: &str, value: f32, unless: Option<f32>| -> Result<()> {
        if !value.is_finite() {
            return Err(Error::Invalid(format!("`{name}` is no number")));
        }
        if unless != Some(value) {
            body.insert(name.to_owned(), number(value));
        }
        Ok(())
    };
    set("temperature", sampling.temperature, None)?;
    set("top_p", sampling.top_p, Some(1.0))?;
    set("presence_penalty", sampling.presence_penalty, Some(0.0))?;
    set("frequency_penalty", sampling.frequency_penalty, Some(0.0))?;
    match extensions {
        Extensions::None => {}
        Extensions::Common => {
            set("min_p", sampling.min_p, Some(0.0))?;
            set("repetition_penalty", sampling.repetition_penalty, Some(1.0))?;
        }
        Extensions::LlamaCpp => {
            // It has settings of its own where none is sent.
            set("top_p", sampling.top_p, None)?;
            set("min_p", sampling.min_p, None)?;
            set("repeat_penalty", sampling.repetition_penalty, None)?;
        }
    }
    let seed = match extensions {
        Extensions::None => json!(sampling.seed & i64::MAX as u64),
        Extensions::Common => {
            if sampling.top_k > 0 {
                body.insert("top_k".to_owned(), sampling.top_k.into());
            }
            json!(sampling.seed & i64::MAX as u64)
        }
        Extensions::LlamaCpp => {
            body.insert("top_k".to_owned(), sampling.top_k.into());
            body.insert("repeat_last_n".to_owned(), PENALISED.into());
            let order = ["penalties", "temperature", "top_k", "top_p", "min_p"];
            body.insert("samplers".to_owned(), json!(order));
            // 32 bits, of which all set mean that it is to choose.
            json!(sampling.seed % u64::from(u32::MAX))
        }
    };
    body.insert("seed".to_owned(), seed);
    Ok(())
}

/// The number as it was written: 0.8, and not what is nearest to it in more bits.
fn number(value: f32) -> Value {
    let exact: f64 = value
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(value));
    json!(exact)
}
