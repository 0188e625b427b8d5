//! `/v1/chat/completions`.

use serde_json::Value;

use super::fields::{Fields, kind, missing, shown, wrong};
use super::sampling::{Wanted, answering, refuse_unsupported};
use super::{Answering, Reading};
use crate::engine::{Message, Prompt};
use crate::refusal::Refusal;

/// Reads a body.
pub fn chat(body: &Value, reading: Reading<'_>) -> Result<Answering, Refusal> {
    let fields = Fields::of(body)?;
    let model = reading.answering_model(fields)?;
    refuse_unsupported(fields)?;
    let messages = messages(fields, reading)?;
    let most = reading.options.alternatives;
    let top = fields.whole(
        "top_logprobs",
        0..=most,
        ", the server's limit `alternatives`",
    )?;
    let alternatives = match (fields.flag("logprobs")?, top) {
        (true, top) => Some(top.unwrap_or(0)),
        (false, None) => None,
        (false, Some(_)) => {
            let message = "is given without `logprobs`: set that to true, or leave this out";
            return Err(Refusal::param("top_logprobs", message));
        }
    };
    let wanted = Wanted {
        max_tokens: &["max_completion_tokens", "max_tokens"],
        default_tokens: None,
        alternatives,
    };
    answering(
        fields,
        reading,
        model,
        Prompt::Conversation(messages),
        &wanted,
    )
}

fn messages(fields: Fields<'_>, reading: Reading<'_>) -> Result<Vec<Message>, Refusal> {
    let list = fields.list("messages")?.ok_or_else(|| {
        missing(
            "messages",
            "it is a list of messages with `role` and `content`",
        )
    })?;
    if list.is_empty() {
        return Err(Refusal::param(
            "messages",
            "is empty; it has one message at least",
        ));
    }
    let mut messages = Vec::with_capacity(list.len());
    let mut bytes = 0;
    for (at, value) in list.iter().enumerate() {
        let message = message(value, &format!("messages[{at}]"))?;
        bytes += message.content.len();
        messages.push(message);
    }
    super::completion::check_size("messages", bytes, reading)?;
    Ok(messages)
}

fn message(value: &Value, at: &str) -> Result<Message, Refusal> {
    let fields = Fields::of(value).map_err(|_| wrong(at, value, "an object"))?;
    let member = |name: &str| format!("{at}.{name}");
    let role = match fields.get("role") {
        Some(Value::String(role)) => role.as_str(),
        Some(other) => return Err(wrong(&member("role"), other, "a text")),
        None => return Err(missing(&member("role"), "`system`, `user` or `assistant`")),
    };
    let role = match role {
        "system" | "user" | "assistant" => role,
        // The newer name of the same.
        "developer" => "system",
        "tool" | "function" => {
            let message = format!("is `{role}`, and tool calls are not supported");
            return Err(Refusal::unsupported(&member("role"), message));
        }
        other => {
            let message = format!(
                "is `{}`; it is to be `system`, `user` or `assistant`",
                shown(other)
            );
            return Err(Refusal::param(&member("role"), message));
        }
    };
    for name in ["tool_calls", "function_call"] {
        let is_given = fields.get(name);
        if is_given.is_some_and(|calls| calls.as_array().is_none_or(|calls| !calls.is_empty())) {
            let message = "is given, and tool calls are not supported";
            return Err(Refusal::unsupported(&member(name), message));
        }
    }
    let content = match fields.get("content") {
        Some(content) => content,
        None => return Err(missing(&member("content"), "it is a text")),
    };
    Ok(Message {
        role: role.to_owned(),
        content: text_of(content, &member("content"))?,
    })
}

/// The text of a message: itself, or a list of parts that are texts.
fn text_of(content: &Value, at: &str) -> Result<String, Refusal> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => return Err(wrong(at, other, "a text or a list of parts")),
    };
    let mut whole = String::new();
    for (number, part) in parts.iter().enumerate() {
        let at = format!("{at}[{number}]");
        match part.get("type").and_then(Value::as_str) {
            Some("text") => {}
            Some(other) => {
                let message = format!(
                    "is of type `{}`; texts are supported, and no images, audio or files",
                    shown(other)
                );
                return Err(Refusal::unsupported(&at, message));
            }
            None => {
                let message = format!("is {} without a `type` that is a text", kind(part));
                return Err(Refusal::param(&at, message));
            }
        }
        match part.get("text") {
            Some(Value::String(text)) => whole.push_str(text),
            Some(other) => return Err(wrong(&format!("{at}.text"), other, "a text")),
            None => return Err(missing(&format!("{at}.text"), "it is a text")),
        }
    }
    Ok(whole)
}
