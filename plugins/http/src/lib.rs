//! The runner `http`: fetches over HTTP as a step, with a digest.
//!
//! ```toml
//! [[step]]
//! key = "fetch"
//! uses = "http"
//! with = { url = "https://data.example.org/words.txt", digest = "sha256:…" }
//! ```
//!
//! It is a component: a fetcher need not be trusted with more than the hosts that it is granted. The
//! requests are the host's (WASI), which looks names up, checks addresses and encrypts.
//!
//! | module | owns |
//! |---|---|
//! | `arguments` | the arguments, their schema, and the `Order` that they make |
//! | `target` | URLs, and where redirects may lead |
//! | `headers` | what an answer's headers say |
//! | `fetch` | the fetch itself, over `Surroundings`, which the tests give it too |
//!
//! - **Body.** It goes to the port `body`, in chunks of at most 64 KiB whose modality is what
//!   `Content-Type` names (`text` for plain text in UTF-8), and is never held as a whole.
//! - **Digest.** What came is compared at its end; until then it is handed on unverified, and a reader
//!   whose step must not begin before waits for the step by `needs`.
//! - **Facts.** `url`, `status`, `bytes`, `content-type`, `etag`, `last-modified`, `content-encoding`,
//!   `blake3`, `sha256`; the digests are written as `digest` takes them.
//! - **Failure.** The code is the server's status, or one of those that `fetch` lists.
//! - **Progress.** The event `progress` with `{"done":bytes,"total":bytes}`, at the beginning, at the
//!   end, and between at most ten times a second; `total` is null where the server does not say. Without
//!   `clocks` there are the first and the last, without `events` none.

mod arguments;
mod fetch;
mod headers;
mod target;

use std::time::Duration;

use vox_plugin::http::{Failure, Request, Response, send};
use vox_plugin::serde_json::json;
use vox_plugin::step::{Invocation, Outcome};
use vox_plugin::{ChunkHead, Error, Result, Step, host, plugin};

use crate::arguments::Order;
use crate::fetch::{Answer, Body, PORT, Surroundings};

/// The event that tells how far a fetch is.
const PROGRESS: &str = "progress";

/// The plugin: it keeps nothing.
#[plugin(step)]
#[derive(Default)]
struct Http;

impl Step for Http {
    fn arguments_schema(&mut self, _runner: &str) -> Result<String> {
        Ok(arguments::schema().to_string())
    }

    fn run(&mut self, invocation: Invocation) -> Result<Outcome> {
        let order = Order::new(&invocation.arguments)?;
        if let Some(port) = invocation.inputs.first() {
            return Err(Error::Invalid(format!(
                "a fetch reads no stream, and `{port}` is connected to it; what is sent is its `body`"
            )));
        }
        if let Some(file) = invocation.output_files.first() {
            return Err(Error::Invalid(format!(
                "a fetch makes no file `{}`; what it fetched is its port `{PORT}`",
                file.name
            )));
        }
        let connected = invocation.outputs.iter().any(|port| port == PORT);
        fetch::fetch(&order, connected, &mut Granted { telling: true })
    }
}

/// The world as it is granted to this component.
struct Granted {
    /// Whether notices are taken.
    telling: bool,
}

impl Surroundings for Granted {
    fn send(&mut self, request: &Request) -> std::result::Result<Answer, Failure> {
        let mut response = send(request)?;
        Ok(Answer {
            status: response.status,
            headers: std::mem::take(&mut response.headers),
            body: Box::new(response),
        })
    }

    fn push(&mut self, head: &ChunkHead, data: &[u8]) -> Result<()> {
        host::stream::push(PORT, head, data, None)
    }

    fn tell(&mut self, done: u64, total: Option<u64>) {
        if self.telling {
            let notice = json!({ "done": done, "total": total });
            self.telling = host::events::emit(PROGRESS, &notice.to_string()).is_ok();
        }
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(wasip2::clocks::monotonic_clock::now())
    }

    fn is_cancelled(&self) -> bool {
        host::cancel::should_cancel()
    }
}

impl Body for Response {
    fn read(&mut self) -> std::result::Result<Option<Vec<u8>>, Failure> {
        Self::read(self)
    }
}
