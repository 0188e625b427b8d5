//! One unit of data as a user wrote it.
//!
//! Values keep the order of their keys as the file has them, since templates print them.

use std::collections::BTreeMap;

use minijinja::Value;
use minijinja::value::ValueKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::LineFault;

/// What a file of data holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Text as it is. A line with `<|endoftext|>` alone ends a text and begins another; a file
    /// without such lines is one text.
    Plain,
    /// JSONL with `text`: each line is a text.
    Text,
    /// JSONL with `prompt` and `completion`: the completion is learnt.
    Completion,
    /// JSONL with `messages`, each with `role` and `content`: the assistant's are learnt.
    Messages,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Text, Self::Completion, Self::Messages];

    /// As it stands in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Text => "text",
            Self::Completion => "completion",
            Self::Messages => "messages",
        }
    }

    /// The keys that a line of this kind has, for messages.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Plain | Self::Text => "`text`",
            Self::Completion => "`prompt` and `completion`",
            Self::Messages => "`messages`, a list of objects with `role` and `content`",
        }
    }

    /// The kind that the first line of a file shows: JSONL where it is an object with the keys of
    /// one, text otherwise.
    ///
    /// # Errors
    /// [`LineFault::NoKind`] for what is JSON, or was to be, and of no kind; where the file is one
    /// `of_json` by its name, for everything that is of no kind of JSONL.
    pub(crate) fn of_first_line(line: &str, of_json: bool) -> Result<Self, LineFault> {
        let no_kind = |found: String| Err(LineFault::NoKind { found });
        let object = match json(line) {
            Ok(object) => object,
            Err(message) if of_json || begins_json(line) => {
                return no_kind(format!("not valid JSON: {message}"));
            }
            Err(_) => return Ok(Self::Plain),
        };
        match object.kind() {
            ValueKind::Map => {}
            // A number or a word that is JSON too may well begin a text.
            ValueKind::Seq => return no_kind("the line is a list".into()),
            _ if of_json => return no_kind(format!("the line is {}", kind_of(&object))),
            _ => return Ok(Self::Plain),
        }
        let has = |key: &str| attribute(&object, key).is_some();
        if has("messages") {
            Ok(Self::Messages)
        } else if has("prompt") && has("completion") {
            Ok(Self::Completion)
        } else if has("text") {
            Ok(Self::Text)
        } else {
            no_kind(keys_of(&object))
        }
    }
}

/// Whether a line that is not valid JSON looks as if it was to be: an object with a mistake in it,
/// or the first line of a list that goes on below.
fn begins_json(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('{') || line == "["
}

/// "the object has the keys …": for messages.
fn keys_of(object: &Value) -> String {
    /// So many say which data it is.
    const SHOWN: usize = 8;
    let keys: Vec<Value> = object.try_iter().into_iter().flatten().collect();
    if keys.is_empty() {
        return "the object is empty".into();
    }
    let shown: Vec<String> = keys
        .iter()
        .take(SHOWN)
        .map(|key| format!("`{}`", key.as_str().unwrap_or_default().escape_debug()))
        .collect();
    let more = if keys.len() > SHOWN { ", …" } else { "" };
    format!("the object has the keys {}{more}", shown.join(", "))
}

/// One unit of data.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A text, all of which is learnt.
    Text(Passage),
    /// A text of which the second half is learnt.
    Completion {
        /// What stands before.
        prompt: String,
        /// What is learnt.
        completion: String,
    },
    /// A conversation, of which the assistant's messages are learnt.
    Chat(Chat),
}

/// A text, or a part of one that is too long to be tokenised at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The text.
    pub text: String,
    /// Whether the text begins here.
    pub begins: bool,
    /// Whether the text ends here.
    pub ends: bool,
}

impl Passage {
    /// A text that is whole.
    pub fn whole(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            begins: true,
            ends: true,
        }
    }
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Chat {
    /// What was said, in its order.
    pub messages: Vec<Message>,
    /// The tools that the assistant may call, as JSON schemas; handed to the template as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Value>,
    /// Other variables that the model's template knows, such as `enable_thinking`. They take
    /// precedence over special tokens, and not over what belongs to every conversation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Value>,
}

/// One message of a conversation: an object with `role`, `content`, and whatever else the model's
/// template knows (`tool_calls`, `name`, …).
///
/// It can be read from JSON, in which the order of its keys is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Message(Value);

impl TryFrom<Value> for Message {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        Self::of(value).map_err(|fault| format!("the message {fault}"))
    }
}

impl Message {
    /// What somebody says.
    pub fn new(role: &str, content: &str) -> Self {
        Self(Value::from_pairs([("role", role), ("content", content)]))
    }

    /// The object, as a template sees it.
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Who speaks.
    pub fn role(&self) -> String {
        let role = attribute(&self.0, "role");
        role.and_then(|role| role.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// What is said, where it is text.
    pub fn content(&self) -> Option<String> {
        attribute(&self.0, "content")?.as_str().map(str::to_owned)
    }

    /// The same with other content.
    pub(crate) fn with_content(&self, content: &str) -> Self {
        let keys = self.0.try_iter().into_iter().flatten();
        let members = keys.map(|key| {
            let value = if key.as_str() == Some("content") {
                Value::from(content)
            } else {
                self.0.get_item(&key).unwrap_or_default()
            };
            (key, value)
        });
        Self(Value::from_pairs(members))
    }

    /// The message in `value`.
    ///
    /// # Errors
    /// What it is instead of an object with `role` and something that is said.
    pub fn of(value: Value) -> Result<Self, String> {
        if value.kind() != ValueKind::Map {
            return Err(format!("is {}", kind_of(&value)));
        }
        match attribute(&value, "role") {
            Some(role) if role.as_str().is_some_and(|role| !role.is_empty()) => {}
            Some(role) => return Err(format!("has a `role` that is {}", kind_of(&role))),
            None => return Err("has no `role`".into()),
        }
        let calls = attribute(&value, "tool_calls");
        let calls = calls.and_then(|calls| calls.len()).unwrap_or_default();
        match attribute(&value, "content") {
            Some(content) if content.kind() == ValueKind::String => Ok(Self(value)),
            Some(content) if content.kind() == ValueKind::Seq => {
                let text = text_of(&content)?;
                Ok(Self(value).with_content(&text))
            }
            content if calls > 0 && content.as_ref().is_none_or(Value::is_none) => Ok(Self(value)),
            None => Err("has no `content`".into()),
            Some(content) => Err(format!("has a `content` that is {}", kind_of(&content))),
        }
    }
}

/// The text of a content that comes in parts, as one: most templates know no other, and it is what
/// a model that is served gets of them.
fn text_of(parts: &Value) -> Result<String, String> {
    let mut whole = String::new();
    let parts = parts.try_iter().map_err(|error| error.to_string())?;
    for (at, part) in parts.enumerate() {
        let fault = |what: &str| Err(format!("has a `content` whose part {} {what}", at + 1));
        let of = |key: &str| attribute(&part, key);
        match of("type").as_ref().and_then(Value::as_str) {
            Some("text") => {}
            Some(other) => {
                let other = other.escape_debug();
                return fault(&format!("is of type `{other}`: only texts are learnt"));
            }
            None => return fault("has no `type`"),
        }
        match of("text").as_ref().and_then(Value::as_str) {
            Some(text) => whole.push_str(text),
            None => return fault("has no `text`"),
        }
    }
    Ok(whole)
}

/// A line as JSON, or what is wrong with it.
fn json(line: &str) -> Result<Value, String> {
    serde_json::from_str(line).map_err(|error| {
        // The line of the message is always 1, as it is a line.
        let message = error.to_string();
        let (what, _) = message.split_once(" at line ").unwrap_or((&message, ""));
        format!("{what} at column {}", error.column())
    })
}

/// Reads a line of JSONL.
pub(crate) fn parse(line: &str, kind: Kind) -> Result<Record, LineFault> {
    let expected = kind.expected();
    let shape = |found: String| LineFault::Shape { found, expected };
    if line.trim().is_empty() {
        return Err(LineFault::Empty { expected });
    }
    let object = json(line).map_err(|message| LineFault::Json { message, expected })?;
    if object.kind() != ValueKind::Map {
        return Err(shape(format!("the line is {}", kind_of(&object))));
    }
    let text = |key: &str, blank: bool| match attribute(&object, key) {
        None => Err(shape(format!("`{key}` is missing"))),
        Some(value) => match value.as_str() {
            Some(text) if !blank && text.trim().is_empty() => {
                Err(shape(format!("`{key}` is empty")))
            }
            Some(text) => Ok(text.to_owned()),
            None => Err(shape(format!("`{key}` is {}", kind_of(&value)))),
        },
    };
    match kind {
        Kind::Plain | Kind::Text => Ok(Record::Text(Passage::whole(text("text", false)?))),
        Kind::Completion => Ok(Record::Completion {
            prompt: text("prompt", true)?,
            completion: text("completion", false)?,
        }),
        Kind::Messages => chat(&object).map(Record::Chat).map_err(shape),
    }
}

fn chat(object: &Value) -> Result<Chat, String> {
    let Some(list) = attribute(object, "messages") else {
        return Err("`messages` is missing".into());
    };
    if list.kind() != ValueKind::Seq {
        return Err(format!("`messages` is {}", kind_of(&list)));
    }
    let items = list.try_iter().map_err(|error| error.to_string())?;
    let messages = items
        .enumerate()
        .map(|(at, item)| Message::of(item).map_err(|fault| format!("message {} {fault}", at + 1)))
        .collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Err("`messages` is empty".into());
    }
    if !messages.iter().any(|message| message.role() == ASSISTANT) {
        return Err("no message has the role `assistant`, so that nothing is to be learnt".into());
    }
    let tools = attribute(object, "tools").filter(|tools| !tools.is_none());
    let mut variables = BTreeMap::new();
    if let Some(given) = attribute(object, VARIABLES).filter(|given| !given.is_none()) {
        if given.kind() != ValueKind::Map {
            return Err(format!("`{VARIABLES}` is {}", kind_of(&given)));
        }
        let names = given.try_iter().map_err(|error| error.to_string())?;
        variables.extend(names.filter_map(|name| {
            let value = given.get_item(&name).ok()?;
            Some((name.as_str()?.to_owned(), value))
        }));
    }
    Ok(Chat {
        messages,
        tools,
        variables,
    })
}

/// The key of a line that holds variables for the template, as data sets for other trainers have it.
const VARIABLES: &str = "chat_template_kwargs";

/// The role whose messages are learnt.
pub(crate) const ASSISTANT: &str = "assistant";

/// A member of an object, if it is there.
fn attribute(object: &Value, key: &str) -> Option<Value> {
    let value = object.get_attr(key).ok()?;
    (!value.is_undefined()).then_some(value)
}

/// "a string", "a number", …: for messages.
fn kind_of(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::String if value.as_str() == Some("") => "an empty string",
        ValueKind::String => "a string",
        ValueKind::Number => "a number",
        ValueKind::Bool => "a boolean",
        ValueKind::None | ValueKind::Undefined => "null",
        ValueKind::Map => "an object",
        _ => "a list",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str, kind: Kind) -> String {
        parse(line, kind).unwrap_err().to_string()
    }

    #[test]
    fn the_first_line_tells_the_kind() {
        let kind = |line: &str| Kind::of_first_line(line, false).unwrap();
        assert_eq!(kind(r#"{"text": "a", "id": 1}"#), Kind::Text);
        assert_eq!(
            kind(r#"{"prompt": "", "completion": ""}"#),
            Kind::Completion
        );
        assert_eq!(kind(r#"{"messages": []}"#), Kind::Messages);
        for text in ["Once upon a time", "[Chapter 1]", "1984", "null", "\"Yes\""] {
            assert_eq!(kind(text), Kind::Plain, "{text}");
        }
    }

    #[test]
    fn a_first_line_that_is_json_of_no_kind_is_refused_with_what_it_is() {
        let found = |line: &str, of_json: bool| match Kind::of_first_line(line, of_json) {
            Err(LineFault::NoKind { found }) => found,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(
            found(r#"{"messages": [{"role": "user"}]"#, false),
            "not valid JSON: EOF while parsing an object at column 31"
        );
        assert_eq!(
            found(r#"{"instruction": "a", "output": "b"}"#, false),
            "the object has the keys `instruction`, `output`"
        );
        assert_eq!(
            found(r#"{"prompt": "a"}"#, false),
            "the object has the keys `prompt`"
        );
        assert_eq!(found("{}", false), "the object is empty");
        assert_eq!(found("[1, 2]", false), "the line is a list");
        assert!(found("[", false).starts_with("not valid JSON"));
        assert!(found("{ a brace begins this prose", false).starts_with("not valid JSON"));
        // What the name says is JSON is not taken for text.
        assert_eq!(found("null", true), "the line is null");
        assert!(found("Once upon a time", true).starts_with("not valid JSON"));
        let many: Vec<String> = (0..9).map(|at| format!("\"k{at}\": 1")).collect();
        let many = found(&format!("{{{}}}", many.join(",")), false);
        assert!(many.ends_with("`k7`, …"), "{many}");
    }

    #[test]
    fn a_malformed_line_says_what_was_expected() {
        assert_eq!(
            fault("", Kind::Text),
            "the line is empty: expected an object with `text`"
        );
        assert_eq!(
            fault(r#"{"text": "a""#, Kind::Text),
            "not valid JSON: EOF while parsing an object at column 12: expected an object with \
             `text`"
        );
        assert_eq!(
            fault("[]", Kind::Text),
            "the line is a list: expected an object with `text`"
        );
        assert_eq!(
            fault(r#"{"text": 3}"#, Kind::Text),
            "`text` is a number: expected an object with `text`"
        );
        assert_eq!(
            fault(r#"{"text": " "}"#, Kind::Text),
            "`text` is empty: expected an object with `text`"
        );
        assert_eq!(
            fault(r#"{"prompt": "a"}"#, Kind::Completion),
            "`completion` is missing: expected an object with `prompt` and `completion`"
        );
    }

    #[test]
    fn a_malformed_conversation_names_the_message() {
        let with = |messages: &str| {
            let text = fault(&format!(r#"{{"messages": {messages}}}"#), Kind::Messages);
            text.split(": expected").next().unwrap().to_owned()
        };
        assert_eq!(with("{}"), "`messages` is an object");
        assert_eq!(with("[]"), "`messages` is empty");
        assert_eq!(with("[1]"), "message 1 is a number");
        assert_eq!(with(r#"[{"content": "a"}]"#), "message 1 has no `role`");
        let user = r#"{"role": "user", "content": "a"}"#;
        assert_eq!(
            with(&format!(
                r#"[{user}, {{"role": "assistant", "content": 3}}]"#
            )),
            "message 2 has a `content` that is a number"
        );
        assert!(with(&format!("[{user}]")).starts_with("no message has the role `assistant`"));
    }

    #[test]
    fn a_conversation_keeps_the_order_of_its_keys() {
        let line = r#"{"tools": [{"z": 1, "a": 2}], "messages": [
            {"role": "assistant", "zeta": 1, "content": "x", "alpha": 2}]}"#;
        let Record::Chat(chat) = parse(line, Kind::Messages).unwrap() else {
            panic!("a conversation was expected");
        };
        let json = |value: &Value| serde_json::to_string(value).unwrap();
        assert_eq!(json(chat.tools.as_ref().unwrap()), r#"[{"z":1,"a":2}]"#);
        let message = chat.messages[0].with_content("y");
        assert_eq!(
            json(message.value()),
            r#"{"role":"assistant","zeta":1,"content":"y","alpha":2}"#
        );
    }

    #[test]
    fn a_conversation_has_variables_for_its_template() {
        let with = |given: &str| {
            let line = format!(
                r#"{{"messages": [{{"role": "assistant", "content": "x"}}], "chat_template_kwargs": {given}}}"#
            );
            parse(&line, Kind::Messages)
        };
        let Record::Chat(chat) = with(r#"{"enable_thinking": true}"#).unwrap() else {
            panic!("a conversation was expected");
        };
        assert_eq!(chat.variables["enable_thinking"], Value::from(true));
        let fault = with("3").unwrap_err().to_string();
        assert!(
            fault.starts_with("`chat_template_kwargs` is a number"),
            "{fault}"
        );
    }

    #[test]
    fn messages_are_read_from_json_and_written_again() {
        let text = r#"{"messages":[{"content":"x","role":"user","name":"n"}],"tools":[]}"#;
        let chat: Chat = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&chat).unwrap(), text);
        let error = serde_json::from_str::<Message>(r#"{"role": "user"}"#).unwrap_err();
        assert!(
            error.to_string().contains("the message has no `content`"),
            "{error}"
        );
    }

    #[test]
    fn a_call_of_a_tool_needs_no_content() {
        let with = |calls: &str| {
            let line = format!(
                r#"{{"messages": [{{"role": "assistant", "content": null, "tool_calls": {calls}}}]}}"#
            );
            parse(&line, Kind::Messages)
        };
        assert!(with(r#"[{"function": {"name": "f"}}]"#).is_ok());
        for none in ["[]", "null"] {
            let fault = with(none).unwrap_err().to_string();
            let said = "message 1 has a `content` that is null";
            assert!(fault.starts_with(said), "{fault}");
        }
    }

    #[test]
    fn a_content_in_parts_is_their_text_and_other_parts_are_named() {
        let of = |content: &str| {
            let message = format!(r#"{{"role": "user", "content": {content}, "name": "n"}}"#);
            Message::of(serde_json::from_str(&message).unwrap())
        };
        let parts = r#"[{"type": "text", "text": "a"}, {"type": "text", "text": " b"}]"#;
        let message = of(parts).unwrap();
        assert_eq!(message.content().as_deref(), Some("a b"));
        let written = serde_json::to_string(message.value()).unwrap();
        assert_eq!(written, r#"{"role":"user","content":"a b","name":"n"}"#);
        for (parts, said) in [
            (
                r#"[{"type": "text", "text": "a"}, {"type": "image"}]"#,
                "part 2 is of type `image`",
            ),
            (r#"["a"]"#, "part 1 has no `type`"),
            (r#"[{"type": "text"}]"#, "part 1 has no `text`"),
        ] {
            let fault = of(parts).unwrap_err();
            assert!(fault.contains(said), "{fault}");
        }
    }
}
