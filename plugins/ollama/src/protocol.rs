//! Ollama's protocol: its models, answers as lines of JSON, embeddings.
//!
//! What must stay true: an answer has ended only when a line says `done`. Everything else that ends the
//! stream is an error that tells how far it came.

use std::collections::BTreeMap;

use serde::Deserialize;
use vox_plugin::host::generation::Piece;
use vox_plugin::inference_backend::{Embedded, Finish, Finished, Prompt, Request, Sampling};
use vox_plugin::serde_json::{self, Map, Value, json};
use vox_plugin::{Error, Result};
use vox_remote::line::{Ends, Lines};
use vox_remote::said::Said;
use vox_remote::server::{Stream, broken, message, shortened};
use vox_remote::token::{self, Token};
use vox_remote::transport::Fault;
use vox_remote::{Server, embedding};

/// Texts whose embeddings are asked for at once.
const BATCH: usize = 256;

/// What `/api/tags` says of a model.
#[derive(Debug, Clone, Deserialize)]
pub struct Tag {
    /// Its name, with a tag after a colon.
    pub name: String,
    /// Bytes of its files.
    #[serde(default)]
    pub size: u64,
}

/// What `/api/show` says of a model.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Shown {
    /// `completion`, `embedding`, …; empty where the server is too old to say.
    pub capabilities: Vec<String>,
    /// What its file says of it, such as `llama.context_length`.
    pub model_info: BTreeMap<String, Value>,
}

impl Shown {
    /// Whether the model is said to have a capability.
    pub fn can(&self, wanted: &str) -> bool {
        self.capabilities.iter().any(|ability| ability == wanted)
    }

    /// A number that its file says, by what follows the architecture in its name.
    pub fn number(&self, name: &str) -> Option<u32> {
        let architecture = self.model_info.get("general.architecture")?.as_str()?;
        let value = self.model_info.get(&format!("{architecture}.{name}"))?;
        value.as_u64()?.try_into().ok()
    }
}

/// The models that the server has.
///
/// # Errors
///
/// As [`Server::get`]; so for all others.
pub fn tags(server: &Server) -> Result<Vec<Tag>> {
    #[derive(Deserialize)]
    struct List {
        #[serde(default)]
        models: Vec<Tag>,
    }
    Ok(server.get::<List>("/api/tags")?.models)
}

/// What it says of a model.
///
/// # Errors
///
/// As [`Server::get`].
pub fn show(server: &Server, model: &str) -> Result<Shown> {
    server.inquire("/api/show", &json!({ "model": model }))
}

/// The embeddings of texts, one after the other, each of length 1.
///
/// # Errors
///
/// As [`Server::get`], and [`Error::Failed`] where what comes is none.
pub fn embed(server: &Server, model: &str, texts: &[String]) -> Result<Embedded> {
    #[derive(Deserialize)]
    struct List {
        embeddings: Vec<Vec<f32>>,
        #[serde(default)]
        prompt_eval_count: u32,
    }
    let mut tokens = 0_u32;
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(BATCH) {
        // A text that is too long is an error, rather than the embedding of its beginning.
        let body = json!({ "model": model, "input": batch, "truncate": false });
        let list = server.post::<List>("/api/embed", &body)?;
        tokens = tokens.saturating_add(list.prompt_eval_count);
        vectors.extend(list.embeddings);
    }
    embedding::unit(vectors, texts.len(), tokens)
        .map_err(|why| Error::Failed(format!("POST {}/api/embed: {why}", server.address())))
}

/// How a model is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Ollama's name of it.
    pub model: &'a str,
    /// Most tokens of a prompt and its answer; none for what Ollama takes by itself.
    pub context: Option<u32>,
    /// Whether it goes on with a conversation's answer that was begun.
    pub continues: bool,
}

/// Answers a request; `emit` takes the pieces, and says whether more is wanted.
///
/// # Errors
///
/// [`Error::Invalid`] where Ollama cannot take such a request, [`Error::Unavailable`] with how far the
/// answer came where it broke off; otherwise as [`Server::get`].
pub fn predict(
    server: &Server,
    asking: Asking<'_>,
    request: &Request,
    emit: &mut dyn FnMut(&Piece) -> bool,
) -> Result<Finished> {
    let (path, body) = body(asking, request)?;
    if request.max_tokens == 0 {
        return Ok(Finished {
            reason: Finish::Length,
            prompt_tokens: 0,
            cached_tokens: 0,
            answer_tokens: 0,
        });
    }
    let kinds = ["application/x-ndjson", "application/json"];
    let mut stream = server.stream(path, &body, &kinds)?;
    follow(&mut stream, request, emit)
}

fn body(asking: Asking<'_>, request: &Request) -> Result<(&'static str, Value)> {
    let mut body = json!({
        "model": asking.model,
        "stream": true,
        "options": options(asking, request)?,
    });
    if let Some(alternatives) = request.alternatives {
        body["logprobs"] = true.into();
        body["top_logprobs"] = alternatives.into();
    }
    match &request.prompt {
        Prompt::Text(text) => {
            body["prompt"] = format!("{text}{}", request.answered).into();
            // As it is: the template has been applied.
            body["raw"] = true.into();
            Ok(("/api/generate", body))
        }
        Prompt::Conversation(messages) => {
            let mut messages: Vec<Value> = messages
                .iter()
                .map(|message| json!({ "role": message.role, "content": message.content }))
                .collect();
            if !request.answered.is_empty() {
                if !asking.continues {
                    return Err(Error::Invalid(
                        "whether a model of Ollama goes on with an answer that was begun depends on its \
                         template; where it does, say so with `continues = true`"
                            .to_owned(),
                    ));
                }
                messages.push(json!({ "role": "assistant", "content": request.answered }));
            }
            body["messages"] = messages.into();
            Ok(("/api/chat", body))
        }
        Prompt::Tokens(_) => Err(Error::Invalid(
            "Ollama takes texts and conversations, and no tokens".to_owned(),
        )),
    }
}

fn options(asking: Asking<'_>, request: &Request) -> Result<Map<String, Value>> {
    let Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        seed,
    } = request.sampling;
    let mut options = Map::new();
    for (name, value) in [
        ("temperature", temperature),
        ("top_p", top_p),
        ("min_p", min_p),
        ("repeat_penalty", repetition_penalty),
        ("presence_penalty", presence_penalty),
        ("frequency_penalty", frequency_penalty),
    ] {
        if !value.is_finite() {
            return Err(Error::Invalid(format!("`{name}` is no number")));
        }
        // As it was written: 0.8, and not what is nearest to it in more bits.
        let exact: f64 = value
            .to_string()
            .parse()
            .unwrap_or_else(|_| f64::from(value));
        options.insert(name.to_owned(), json!(exact));
    }
    options.insert("top_k".to_owned(), top_k.into());
    options.insert("repeat_last_n".to_owned(), json!(-1));
    options.insert("num_predict".to_owned(), request.max_tokens.into());
    // 31 bits: negative ones mean that it is to choose.
    options.insert("seed".to_owned(), json!(seed & 0x7fff_ffff));
    let stops: Vec<_> = request
        .stop
        .iter()
        .filter(|stop| !stop.is_empty())
        .collect();
    if !stops.is_empty() {
        options.insert("stop".to_owned(), json!(stops));
    }
    if let Some(context) = asking.context {
        options.insert("num_ctx".to_owned(), context.into());
    }
    Ok(options)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Line {
    /// Of `/api/generate`.
    response: String,
    /// Of `/api/chat`.
    message: Message,
    logprobs: Vec<Token>,
    done: bool,
    done_reason: String,
    prompt_eval_count: u32,
    eval_count: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Message {
    content: String,
}

fn follow(
    stream: &mut Stream,
    request: &Request,
    emit: &mut dyn FnMut(&Piece) -> bool,
) -> Result<Finished> {
    let asked = stream.asked().to_owned();
    let mut said = Said::default();
    let mut lines = Lines::new(Ends::Lf);
    loop {
        let place = || format!("{asked}, {}", said.describe());
        let bytes = stream.read().map_err(|fault| broken(&place(), &fault))?;
        let is_end = bytes.is_none();
        lines
            .push(&bytes.unwrap_or_default())
            .map_err(|error| Error::Failed(format!("{}: {error}", place())))?;
        while let Some(line) = lines
            .next_line()
            .or_else(|| is_end.then(|| lines.rest()).flatten())
        {
            if line.trim().is_empty() {
                continue;
            }
            let line = read(&line, &format!("{asked}, {}", said.describe()))?;
            let text = [line.response, line.message.content].concat();
            for piece in token::pieces(text, line.logprobs, request.alternatives) {
                said.count(&piece);
                if !emit(&piece) {
                    return Ok(Finished {
                        reason: Finish::Cancelled,
                        prompt_tokens: line.prompt_eval_count,
                        cached_tokens: 0,
                        answer_tokens: said.pieces,
                    });
                }
            }
            if line.done {
                let answer_tokens = match line.eval_count {
                    0 => said.pieces,
                    count => count,
                };
                let reason = match line.done_reason.as_str() {
                    "length" if answer_tokens < request.max_tokens => Finish::Context,
                    "length" => Finish::Length,
                    _ => Finish::Stop,
                };
                return Ok(Finished {
                    reason,
                    prompt_tokens: line.prompt_eval_count,
                    cached_tokens: 0,
                    answer_tokens,
                });
            }
        }
        if is_end {
            let fault = Fault::Broken("the stream ended before the answer did".to_owned());
            return Err(broken(&format!("{asked}, {}", said.describe()), &fault));
        }
    }
}

fn read(line: &str, place: &str) -> Result<Line> {
    let json: Value = serde_json::from_str(line).map_err(|error| {
        let shown = shortened(line);
        Error::Failed(format!("{place}: a line is no JSON ({error}): {shown}"))
    })?;
    if json.get("error").is_some_and(|error| !error.is_null()) {
        let text = message(&json).unwrap_or(line);
        return Err(Error::Unavailable(format!(
            "{place}: the server broke the answer off: {}",
            shortened(text)
        )));
    }
    serde_json::from_value(json).map_err(|error| {
        Error::Failed(format!("{place}: a line is not what it should be: {error}"))
    })
}
