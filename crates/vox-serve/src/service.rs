//! What happens to a request, from its head to its answer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tracing::{Instrument as _, Span};

use crate::body::{self, Answer, Content};
use crate::engine::{Embeddings, Engine};
use crate::gate::Gate;
use crate::metrics::{Meter, Metrics};
use crate::options::Options;
use crate::pipe::pipe;
use crate::refusal::Refusal;
use crate::reply::{self, Format, Reply};
use crate::request::{self, Encoding, Reading};
use crate::work::{self, Bench, Work};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";
/// The content type of Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What answers requests.
pub struct Service {
    /// The limits.
    pub options: Options,
    /// The turns.
    pub gate: Arc<Gate>,
    /// What answers are computed with.
    pub bench: Bench,
}

/// Where a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Chat,
    Completions,
    Embeddings,
    Models,
    Model(String),
    Health,
    Metrics,
    Nowhere,
}

/// An answer before its headers.
struct Outcome {
    status: StatusCode,
    kind: &'static str,
    content: Content,
}

impl Service {
    /// What answers requests of an engine.
    pub fn new(engine: Arc<dyn Engine>, options: Options) -> Self {
        Self {
            gate: Gate::new(options.served, options.queue, options.queue_time),
            bench: Bench {
                engine,
                metrics: Arc::new(Metrics::default()),
                cancel: Arc::new(AtomicBool::new(false)),
            },
            options,
        }
    }

    /// Answers a request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let route = Route::of(request.uri().path());
        let id = format!("req-{}", reply::random_name());
        let span = tracing::info_span!(
            "vox.serve.request",
            id,
            method = %request.method(),
            route = route.name(),
            status = tracing::field::Empty,
        );
        let mut response = self.respond(request, route).instrument(span.clone()).await;
        span.record("status", response.status().as_u16());
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }

    async fn respond(&self, request: Request<Incoming>, route: Route) -> Response<Answer> {
        let mut meter = Meter::new(Arc::clone(&self.bench.metrics), route.name());
        let (head, mut body) = request.into_parts();
        let origin = head.headers.get(header::ORIGIN);
        let is_preflight = head.method == Method::OPTIONS
            && head
                .headers
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let outcome = match self.admit(&route, &head.headers, is_preflight) {
            Err(refusal) => Err(refusal),
            Ok(()) if is_preflight => Ok(Outcome {
                status: StatusCode::NO_CONTENT,
                kind: JSON,
                content: Content::Whole(Bytes::new()),
            }),
            Ok(()) => match route.check(&head.method) {
                Err(refusal) => Err(refusal),
                Ok(()) => {
                    self.handle(&route, &head.headers, &mut body, meter.began())
                        .await
                }
            },
        };
        let refusal = outcome.as_ref().err().cloned();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(refusal) => {
                tracing::info!(
                    status = refusal.status.as_u16(),
                    reason = refusal.message,
                    "refused"
                );
                if refusal.status != StatusCode::REQUEST_TIMEOUT {
                    body::linger(&mut body, &head.headers, &self.options).await;
                }
                Outcome::json(refusal.status, &refusal.object())
            }
        };
        meter.answer(outcome.status.as_u16());
        let is_stream = matches!(outcome.content, Content::Stream(_));
        let mut response = Response::new(Answer::new(outcome.content, meter));
        *response.status_mut() = outcome.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(outcome.kind));
        if is_stream {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            // Proxies such as nginx would gather events otherwise.
            let no = HeaderValue::from_static("no");
            headers.insert(HeaderName::from_static("x-accel-buffering"), no);
        }
        if let Some(refusal) = refusal {
            refusal_headers(headers, &refusal);
        }
        if let Some(origin) = origin.filter(|origin| self.is_allowed(origin)) {
            cors_headers(headers, origin, &head.headers, is_preflight);
        }
        response
    }

    /// Who may ask at all: a page of an origin that is allowed, and whoever has a key.
    fn admit(&self, route: &Route, headers: &HeaderMap, is_preflight: bool) -> Result<(), Refusal> {
        if let Some(origin) = headers.get(header::ORIGIN)
            && !self.is_allowed(origin)
        {
            let message = "web pages of this origin may not ask; `vox serve --origin` names those that \
                           may";
            return Err(Refusal::new(StatusCode::FORBIDDEN, message).code("origin_not_allowed"));
        }
        let keys = &self.options.keys;
        if is_preflight || *route == Route::Health || keys.is_empty() {
            return Ok(());
        }
        let refused = |message: &str| {
            Err(Refusal::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"))
        };
        match headers.get(header::AUTHORIZATION).map(bearer) {
            None => refused("there is no API key: send the header `Authorization: Bearer <key>`"),
            Some(None) => {
                refused("the header `Authorization` has no API key: it is to be `Bearer <key>`")
            }
            Some(Some(key)) if keys.know(key) => Ok(()),
            Some(Some(_)) => refused("the API key is none of those that the server knows"),
        }
    }

    async fn handle(
        &self,
        route: &Route,
        headers: &HeaderMap,
        body: &mut Incoming,
        began: Instant,
    ) -> Result<Outcome, Refusal> {
        let models = || self.bench.engine.models();
        match route {
            Route::Health => Ok(match self.bench.engine.ready() {
                Ok(()) => Outcome::json(StatusCode::OK, &json!({"status": "ok"})),
                Err(reason) => Outcome::json(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &json!({"status": "unavailable", "reason": reason}),
                ),
            }),
            Route::Metrics => {
                let (waiting, running) = (self.gate.waiting(), self.gate.running());
                let backends = self.bench.engine.backends();
                let text = self.bench.metrics.text(waiting, running, backends);
                Ok(Outcome {
                    status: StatusCode::OK,
                    kind: METRICS,
                    content: Content::Whole(text.into()),
                })
            }
            Route::Models => {
                let data: Vec<_> = models().iter().map(reply::model).collect();
                let list = json!({"object": "list", "data": data});
                Ok(Outcome::json(StatusCode::OK, &list))
            }
            Route::Model(name) => {
                let models = models();
                let card = request::find(&models, name)?;
                Ok(Outcome::json(StatusCode::OK, &reply::model(card)))
            }
            Route::Chat | Route::Completions | Route::Embeddings => {
                let bytes = body::read(body, headers, &self.options).await?;
                let value = request::json(&bytes)?;
                drop(bytes);
                match route {
                    Route::Chat => self.complete(Format::Chat, value, began).await,
                    Route::Completions => self.complete(Format::Text, value, began).await,
                    _ => self.embed(value).await,
                }
            }
            Route::Nowhere => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "there is nothing here; there are /v1/chat/completions, /v1/completions, \
                 /v1/embeddings, /v1/models, /health and /metrics",
            )),
        }
    }

    async fn complete(
        &self,
        format: Format,
        body: Value,
        began: Instant,
    ) -> Result<Outcome, Refusal> {
        let models = self.bench.engine.models();
        let reading = self.reading(&models);
        let asked = match format {
            Format::Chat => request::chat(&body, reading)?,
            Format::Text => request::completion(&body, reading)?,
        };
        // What waits in the queue has its text once.
        drop(body);
        let mut reply = Reply::new(format, asked.completion.model.clone());
        reply.fingerprint = asked.fingerprint;
        reply.log_probabilities = asked.completion.alternatives.is_some();
        reply.include_usage = asked.include_usage;
        let work = Work {
            turn: self.turn().await?,
            bench: self.bench.clone(),
            completion: asked.completion,
            reply,
            began,
            span: Span::current(),
        };
        if asked.stream {
            let (writer, reader) = pipe(self.options.kept_bytes, self.options.reader_time);
            let (begun, begins) = oneshot::channel();
            spawn_blocking(move || work.streamed(begun, writer));
            begins.await.unwrap_or_else(|_| Err(lost()))?;
            return Ok(Outcome {
                status: StatusCode::OK,
                kind: EVENTS,
                content: Content::Stream(reader),
            });
        }
        let (sender, answer) = oneshot::channel();
        spawn_blocking(move || work.whole(sender));
        let whole = answer.await.unwrap_or_else(|_| Err(lost()))?;
        Ok(Outcome {
            status: StatusCode::OK,
            kind: JSON,
            content: Content::Whole(whole),
        })
    }

    async fn embed(&self, body: Value) -> Result<Outcome, Refusal> {
        let models = self.bench.engine.models();
        let asked = request::embedding(&body, self.reading(&models))?;
        drop(body);
        let turn = self.turn().await?;
        let (sender, answer) = oneshot::channel();
        let bench = self.bench.clone();
        let (model, texts) = (asked.model.clone(), asked.texts);
        let span = Span::current();
        spawn_blocking(move || {
            let embeddings = span.in_scope(|| work::embed(&bench, &model, &texts));
            drop((turn, span));
            // Without a receiver there is nobody to tell.
            let _ = sender.send(embeddings);
        });
        let embeddings = answer.await.unwrap_or_else(|_| Err(lost()))?;
        let list = embedding_list(&asked.model, &embeddings, asked.encoding);
        Ok(Outcome::json(StatusCode::OK, &list))
    }

    async fn turn(&self) -> Result<crate::gate::Turn, Refusal> {
        let waits = Instant::now();
        let turn = self.gate.enter().await;
        self.bench.metrics.waited(waits.elapsed());
        turn
    }

    fn reading<'a>(&'a self, models: &'a [crate::engine::ModelCard]) -> Reading<'a> {
        Reading {
            models,
            options: &self.options,
        }
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        let mut allowed = self.options.origins.iter();
        allowed.any(|allowed| allowed == "*" || origin == allowed.as_str())
    }
}

impl Route {
    fn of(path: &str) -> Self {
        match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/models" => Self::Models,
            "/health" => Self::Health,
            "/metrics" => Self::Metrics,
            // Names of models may have slashes in them, written as such or as `%2F`.
            path => match path.strip_prefix("/v1/models/").map(decoded) {
                Some(Some(name)) if !name.is_empty() => Self::Model(name),
                _ => Self::Nowhere,
            },
        }
    }

    /// The label of metrics, and of the span.
    fn name(&self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Models => "/v1/models",
            Self::Model(_) => "/v1/models/{id}",
            Self::Health => "/health",
            Self::Metrics => "/metrics",
            Self::Nowhere => "other",
        }
    }

    fn check(&self, method: &Method) -> Result<(), Refusal> {
        let allow = match self {
            Self::Nowhere => return Ok(()),
            Self::Chat | Self::Completions | Self::Embeddings => "POST",
            _ => "GET",
        };
        if method == allow || (allow == "GET" && method == Method::HEAD) {
            return Ok(());
        }
        let message = format!("{} takes {allow}, and this is {method}", self.name());
        let mut refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message);
        refusal.allow = Some(allow);
        Err(refusal)
    }
}

impl Outcome {
    fn json(status: StatusCode, value: &Value) -> Self {
        Self {
            status,
            kind: JSON,
            content: Content::Whole(value.to_string().into()),
        }
    }
}

/// The answer's thread ended without a word.
fn lost() -> Refusal {
    let message = "the answer was lost; the server's log has the reason";
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

fn embedding_list(model: &str, embeddings: &Embeddings, encoding: Encoding) -> Value {
    let vectors = embeddings.vectors.iter().enumerate();
    let data: Vec<_> = vectors
        .map(|(index, vector)| {
            let embedding = match encoding {
                Encoding::Float => json!(vector),
                Encoding::Base64 => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
                    json!(BASE64.encode(bytes))
                }
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens = embeddings.prompt_tokens;
    json!({
        "object": "list",
        "data": data,
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// The key in a header `Authorization`.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let value = value.as_bytes();
    let (scheme, key) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii())
}

/// A path with what stands for `%xx`; none where that is no text.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            (high << 4 | low) as u8
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}

fn refusal_headers(headers: &mut HeaderMap, refusal: &Refusal) {
    if let Some(seconds) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(allow) = refusal.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        headers.insert(header::WWW_AUTHENTICATE, bearer);
    }
}

fn cors_headers(
    headers: &mut HeaderMap,
    origin: &HeaderValue,
    asked: &HeaderMap,
    is_preflight: bool,
) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    if !is_preflight {
        let exposed = HeaderValue::from_static("x-request-id, retry-after");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        return;
    }
    let methods = HeaderValue::from_static("GET, POST");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_may_have_slashes() {
        for path in ["/v1/models/org/model", "/v1/models/org%2Fmodel"] {
            assert_eq!(Route::of(path), Route::Model("org/model".to_owned()));
        }
        for path in ["/v1/models/", "/v1/models/%ff", "/v1/models/%2", "/v1", "/"] {
            assert_eq!(Route::of(path), Route::Nowhere, "{path}");
        }
    }

    #[test]
    fn a_key_comes_after_the_word_bearer() {
        let key = |text: &'static str| bearer(&HeaderValue::from_static(text)).map(<[u8]>::to_vec);
        assert_eq!(key("Bearer secret"), Some(b"secret".to_vec()));
        assert_eq!(key("bearer  secret "), Some(b"secret".to_vec()));
        assert_eq!(key("Basic secret"), None);
        assert_eq!(key("secret"), None);
    }
}
