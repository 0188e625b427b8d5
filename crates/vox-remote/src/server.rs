//! A server that speaks JSON: asked, answered, and held to its status.
//!
//! What must stay true: an error says which request to which address went wrong, what the server says
//! of it, and what to do where that can be known. Whose fault it is decides its kind, as the host tries
//! another backend unless the request itself makes no sense.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use vox_plugin::{Error, Result};

use crate::address::Address;
use crate::secret::Secret;
use crate::transport::{Answer, Fault, Request, Transport};

/// The longest that a question about the server itself may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most of an answer that is no stream, in bytes: embeddings of many texts.
const LONGEST_ANSWER: usize = 256 << 20;
/// The most of an error's body that is read, in bytes.
const LONGEST_ERROR: usize = 64 << 10;
/// Characters of an error that are told.
const TOLD_CHARACTERS: usize = 400;

/// A server, and what it takes to ask it.
#[derive(Debug, Clone)]
pub struct Server {
    address: Address,
    transport: Transport,
    key: Option<Secret>,
    silence: Duration,
}

/// An answer that comes bit by bit, of which the beginning is there.
#[derive(Debug)]
pub struct Stream {
    answer: Answer,
    /// What was asked, for messages.
    asked: String,
}

impl Server {
    /// The server at an address. `silence` is the longest time without a byte, as before a first token.
    pub fn new(
        address: Address,
        transport: Transport,
        key: Option<Secret>,
        silence: Duration,
    ) -> Self {
        Self {
            address,
            transport,
            key,
            silence,
        }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Asks for something that is known at once.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] where it cannot be reached or cannot answer now, [`Error::NotFound`] and
    /// [`Error::Invalid`] where it says so, [`Error::Failed`] otherwise; so for all others.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.whole(path, None, self.silence.min(PATIENCE))
    }

    /// Asks something about the server itself, with a body.
    ///
    /// # Errors
    ///
    /// As [`Server::get`].
    pub fn inquire<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.whole(path, Some(encode(body)?), self.silence.min(PATIENCE))
    }

    /// Has something computed, and waits for all of it.
    ///
    /// # Errors
    ///
    /// As [`Server::get`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        self.whole(path, Some(encode(body)?), self.silence)
    }

    /// Has something computed that comes bit by bit, as one of `kinds` of content.
    ///
    /// # Errors
    ///
    /// As [`Server::get`].
    pub fn stream(&self, path: &str, body: &impl Serialize, kinds: &[&str]) -> Result<Stream> {
        let asked = self.asked(path, true);
        let answer = self.send(path, Some(encode(body)?), self.silence)?;
        if !kinds.contains(&answer.kind.as_str()) {
            let kind = answer.kind.clone();
            let body = answer.whole(LONGEST_ERROR).unwrap_or_default();
            return Err(Error::Failed(format!(
                "{asked}: it answered with `{kind}` where a stream of `{}` was asked for{}",
                kinds.join("` or `"),
                told(&body)
            )));
        }
        Ok(Stream { answer, asked })
    }

    fn whole<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<Vec<u8>>,
        silence: Duration,
    ) -> Result<T> {
        let asked = self.asked(path, body.is_some());
        let answer = self.send(path, body, silence)?;
        let body = answer
            .whole(LONGEST_ANSWER)
            .map_err(|fault| broken(&asked, &fault))?;
        serde_json::from_slice(&body).map_err(|error| {
            Error::Failed(format!(
                "{asked}: its answer is not what it should be ({error}){}",
                told(&body)
            ))
        })
    }

    fn send(&self, path: &str, body: Option<Vec<u8>>, silence: Duration) -> Result<Answer> {
        let asked = self.asked(path, body.is_some());
        let mut headers = Vec::new();
        if body.is_some() {
            headers.push(("content-type", "application/json".to_owned()));
        }
        if let Some(key) = &self.key {
            headers.push(("authorization", format!("Bearer {}", key.expose())));
        }
        let request = Request {
            path: path.to_owned(),
            headers,
            body,
            silence,
        };
        let answer = self.transport.send(&request);
        let answer = answer.map_err(|fault| broken(&asked, &fault))?;
        match answer.status {
            200..=299 => Ok(answer),
            status => {
                let body = answer.whole(LONGEST_ERROR).unwrap_or_default();
                Err(refused(&asked, status, &body, self.key.is_some()))
            }
        }
    }

    fn asked(&self, path: &str, posts: bool) -> String {
        let method = if posts { "POST" } else { "GET" };
        format!("{method} {}{path}", self.address)
    }
}

impl Stream {
    /// What was asked, for messages.
    pub fn asked(&self) -> &str {
        &self.asked
    }

    /// The next bytes, never empty; none at the end.
    ///
    /// # Errors
    ///
    /// As [`Answer::read`].
    pub fn read(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        self.answer.read()
    }
}

fn encode(body: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(body)
        .map_err(|error| Error::Invalid(format!("the request cannot be written: {error}")))
}

/// The error of a request that was not answered, or not to the end.
pub fn broken(asked: &str, fault: &Fault) -> Error {
    match fault {
        Fault::Cancelled => Error::Cancelled,
        Fault::Denied(why) => Error::Denied(why.clone()),
        Fault::Silent(_) => Error::Unavailable(format!(
            "{asked}: {fault}; a server that needs longer is given more with `timeout`"
        )),
        Fault::Broken(_) => Error::Unavailable(format!("{asked}: {fault}")),
    }
}

/// The error of a status that is none of success.
fn refused(asked: &str, status: u16, body: &[u8], has_key: bool) -> Error {
    let told = told(body);
    let text = format!("{asked}: the server answered {status}{told}");
    match status {
        404 => Error::NotFound(text),
        400 | 405 | 413 | 415 | 422 => Error::Invalid(text),
        408 | 425 | 429 | 500.. => Error::Unavailable(text),
        401 | 403 if has_key => Error::Failed(format!(
            "{text}; look at the key that `key-file` or `key-env` names"
        )),
        401 | 403 => Error::Failed(format!("{text}; name its key with `key-file` or `key-env`")),
        300..=399 => Error::Failed(format!(
            "{text}; no redirect is followed: write the address that it leads to as `url`"
        )),
        _ => Error::Failed(text),
    }
}

/// What a body says of an error, with a colon before; empty where it says nothing.
fn told(body: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let said = json.as_ref().and_then(message);
    let text = match said {
        Some(text) => text.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let words = shortened(&text);
    if words.is_empty() {
        words
    } else {
        format!(": {words}")
    }
}

/// The text of an error as servers write it: `{"error":{"message":…}}`, `{"error":…}`,
/// `{"message":…}` or `{"detail":…}`.
pub fn message(json: &Value) -> Option<&str> {
    let error = json.get("error").unwrap_or(json);
    [
        error.get("message"),
        Some(error),
        json.get("message"),
        json.get("detail"),
    ]
    .into_iter()
    .flatten()
    .find_map(Value::as_str)
}

/// A text in one line, without control characters, at most some hundred characters of it.
pub fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    let shown = words.chars().filter(|c| !c.is_control());
    let mut shown: String = shown.take(TOLD_CHARACTERS + 1).collect();
    if let Some((end, _)) = shown.char_indices().nth(TOLD_CHARACTERS) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}
