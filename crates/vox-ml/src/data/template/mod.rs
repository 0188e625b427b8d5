//! Chat templates: from a conversation to the text that a model was trained on.
//!
//! A template is a Jinja program in the model's own files, which a stranger wrote. It is run as
//! `transformers` runs it (`utils/chat_template_utils.py`): `trim_blocks` and `lstrip_blocks` on,
//! the methods of Python's strings and dictionaries, `break` and `continue`, `raise_exception`,
//! `strftime_now`, a `tojson` that escapes no HTML, the tags `generation`, and constants printed as
//! Python prints them. Two things differ: the time of `strftime_now` is handed in and in UTC, since
//! data must not change with the day on which it is read; and how much a template may compute is
//! bounded.

mod answers;
mod json;
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error as Jinja, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;
use vox_crypto::{Digest, Hasher};

use super::record::{Chat, Message};
use crate::error::{Error, LineFault};

pub use answers::Rendered;
pub use model::{EndTokens, TemplateSource, end_tokens};

/// What one rendering may cost, in minijinja's fuel: about an instruction, or 64 bytes, each. The
/// longest conversations in use take some hundred thousand.
const FUEL: u64 = 10_000_000;

/// The function that tells the time.
const NOW: &str = "strftime_now";

/// The name of the template among those that a model has several of, when tools are offered.
const FOR_TOOLS: &str = "tool_use";
const DEFAULT: &str = "default";

/// The roles of OpenAI's protocol, which templates follow.
const ROLES: [&str; 6] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
];

/// A model's chat template, compiled.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    names: Vec<String>,
    specials: BTreeMap<String, String>,
    origin: Arc<str>,
    time: i64,
    digest: Digest,
}

impl Template {
    /// Compiles a template. `time` is what it takes for now, in seconds since 1970.
    ///
    /// # Errors
    /// [`Error::Template`], with the line at fault.
    pub fn new(source: &TemplateSource, time: i64) -> Result<Self, Error> {
        let mut environment = environment(time)?;
        let mut hasher = Hasher::new();
        for (name, text) in &source.templates {
            let fault = |error: Jinja| Error::Template {
                origin: source.origin.clone(),
                message: explain(&error),
            };
            environment
                .add_template_owned(name.clone(), without_generation(text))
                .map_err(fault)?;
            part(&mut hasher, name);
            part(&mut hasher, text);
        }
        for (name, token) in &source.specials {
            part(&mut hasher, name);
            part(&mut hasher, token);
        }
        // Of the others, the time decides nothing.
        if source.templates.values().any(|text| text.contains(NOW)) {
            hasher.update(&time.to_le_bytes());
        }
        Ok(Self {
            environment,
            names: source.templates.keys().cloned().collect(),
            specials: source.specials.clone(),
            origin: source.origin.as_str().into(),
            time,
            digest: hasher.finish(),
        })
    }

    /// A hash over all that decides what it makes of a conversation: its text, the special tokens,
    /// and the time where it asks for it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What it takes for now, in seconds since 1970.
    pub fn time(&self) -> i64 {
        self.time
    }

    /// The file that it stands in, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether a role is one that its model may know: one of those that are in use everywhere, or one
    /// that the template names in quotes. What it makes of a role does not tell, since many templates
    /// write any as it is.
    pub(crate) fn knows_role(&self, role: &str) -> bool {
        if ROLES.contains(&role) {
            return true;
        }
        let quoted = [format!("'{role}'"), format!("\"{role}\"")];
        let mut templates = self.environment.templates();
        templates.any(|(_, template)| {
            let source = template.source();
            quoted.iter().any(|quoted| source.contains(quoted.as_str()))
        })
    }

    /// The text of a conversation. With `prompt` the beginning of an answer is added, after which
    /// a model writes one.
    ///
    /// # Errors
    /// [`LineFault::Template`] with what the template raises.
    pub fn render(&self, chat: &Chat, prompt: bool) -> Result<String, LineFault> {
        self.render_messages(&chat.messages, chat, prompt)
    }

    /// The text of some messages, with everything else that belongs to `chat`.
    fn render_messages(
        &self,
        messages: &[Message],
        chat: &Chat,
        prompt: bool,
    ) -> Result<String, LineFault> {
        let refused = |error: Jinja| LineFault::Template {
            message: explain(&error),
        };
        let list: Value = messages
            .iter()
            .map(|message| message.value().clone())
            .collect();
        let specials = self.specials.iter();
        let specials = specials.map(|(name, token)| (name.as_str(), Value::from(token)));
        let variables = chat.variables.iter();
        let variables = variables.map(|(name, value)| (name.as_str(), value.clone()));
        let context = specials.chain(variables).chain([
            ("messages", list),
            ("tools", chat.tools.clone().unwrap_or(Value::from(()))),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(prompt)),
        ]);
        self.environment
            .get_template(self.name(chat.tools.is_some()))
            .and_then(|template| template.render(Value::from_pairs(context)))
            .map_err(refused)
    }

    /// Which of the templates is used.
    fn name(&self, tools: bool) -> &str {
        let has = |name: &str| self.names.iter().any(|known| known == name);
        if tools && has(FOR_TOOLS) {
            FOR_TOOLS
        } else if has(DEFAULT) {
            DEFAULT
        } else {
            self.names.first().map_or(DEFAULT, String::as_str)
        }
    }
}

/// Adds a text to a hash so that no two lists of texts are the same bytes.
fn part(hasher: &mut Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

/// What templates find, as `transformers` has it.
fn environment(time: i64) -> Result<Environment<'static>, Error> {
    let invalid = |message: String| Error::Template {
        origin: "the time of templates".into(),
        message,
    };
    let now = Timestamp::from_second(time).map_err(|error| invalid(error.to_string()))?;
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(|error| invalid(error.to_string()))?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    // A template's name must not decide what is escaped.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(pycompat::unknown_method_callback);
    environment.set_formatter(as_python);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(Jinja::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function(NOW, move |format: &str| {
        jiff::fmt::strtime::format(format, now)
            .map_err(|error| Jinja::new(ErrorKind::InvalidOperation, error.to_string()))
    });
    Ok(environment)
}

/// Prints constants as Python does.
fn as_python(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Jinja> {
    let word = match value.kind() {
        minijinja::value::ValueKind::None => "None",
        minijinja::value::ValueKind::Bool if value.is_true() => "True",
        minijinja::value::ValueKind::Bool => "False",
        _ => return minijinja::escape_formatter(output, state, value),
    };
    output.write_str(word).map_err(Jinja::from)
}

/// What went wrong, in one line.
fn explain(error: &Jinja) -> String {
    let what = match error.detail() {
        Some(detail) if error.kind() == ErrorKind::InvalidOperation => detail.to_owned(),
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

/// The template with its tags `generation` as conditions that hold: they only mark, for
/// `transformers`, what is an answer.
fn without_generation(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (inside, after) = (&tag[2..end], &tag[end + 2..]);
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let tag = &tag[..end + 2];
        match word {
            "generation" => out.push_str(&tag.replacen(word, "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen(word, "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
