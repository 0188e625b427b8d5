//! An answer's thread, and what it tells the connection.
//!
//! The thread has the turn until the engine has ended, also where nobody listens any longer: so no more
//! answers are computed at once than the engine has room for. It gives the turn and the request's span back
//! before the last of the answer is handed on: whoever has that finds both gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::oneshot;
use tracing::Span;

use crate::engine::{Completion, Embeddings, Engine, EngineError, Finish, Finished, Part};
use crate::gate::Turn;
use crate::metrics::{Cancelled, Metrics};
use crate::pipe::{Stopped, Writer};
use crate::refusal::Refusal;
use crate::reply::{DONE, Reply, error_event};

/// What an answer is computed with.
#[derive(Clone)]
pub struct Bench {
    /// What computes it.
    pub engine: Arc<dyn Engine>,
    /// What counts it.
    pub metrics: Arc<Metrics>,
    /// Set where all answers are to end.
    pub cancel: Arc<AtomicBool>,
}

/// An answer to be computed.
pub struct Work {
    /// With what.
    pub bench: Bench,
    /// What is asked.
    pub completion: Completion,
    /// How it is written.
    pub reply: Reply,
    /// The right to be computed now.
    pub turn: Turn,
    /// When the request came.
    pub began: Instant,
    /// The request's span.
    pub span: Span,
}

impl Work {
    /// Computes the answer and hands it on whole. Where the receiver is gone, so is the client.
    pub fn whole(mut self, answer: oneshot::Sender<Result<Bytes, Refusal>>) {
        let mut text = String::new();
        let mut tokens = Vec::new();
        let keeps_tokens = self.reply.log_probabilities;
        let finished = self.compute(&mut |_, part| {
            if answer.is_closed() {
                return Err(Cancelled::ClientLeft);
            }
            text.push_str(&part.text);
            if keeps_tokens {
                tokens.extend(part.token);
            }
            Ok(())
        });
        let whole = finished.map(|finished| self.reply.whole(&text, &tokens, &finished));
        drop((self.turn, self.span));
        // Without a receiver there is nobody to tell.
        let _ = answer.send(whole);
    }

    /// Computes the answer and hands its events on as they come. `begun` learns whether there is anything
    /// to stream, or why not.
    pub fn streamed(mut self, begun: oneshot::Sender<Result<(), Refusal>>, mut writer: Writer) {
        let mut begun = Some(begun);
        let finished = self.compute(&mut |reply, part| {
            let mut events = Vec::with_capacity(2);
            if let Some(begun) = begun.take() {
                // Whoever does not receive this is gone, which the pipe tells.
                let _ = begun.send(Ok(()));
                events.extend(reply.opening());
            }
            events.extend(reply.part(&part));
            if events.is_empty() && writer.is_gone() {
                return Err(Cancelled::ClientLeft);
            }
            for event in events {
                writer.push(event).map_err(|stopped| match stopped {
                    Stopped::Gone => Cancelled::ClientLeft,
                    Stopped::Slow => Cancelled::ClientSlow,
                })?;
            }
            Ok(())
        });
        drop((self.turn, self.span));
        let reply = self.reply;
        let last = match finished {
            Ok(finished) => {
                let opening = begun.take().map(|begun| {
                    let _ = begun.send(Ok(()));
                    reply.opening()
                });
                let mut last = Vec::new();
                for event in [
                    opening.flatten(),
                    Some(reply.closing(finished.reason)),
                    reply.usage(&finished),
                    Some(Bytes::from_static(DONE)),
                ] {
                    last.extend_from_slice(&event.unwrap_or_default());
                }
                Bytes::from(last)
            }
            Err(refusal) => match begun {
                Some(begun) => {
                    let _ = begun.send(Err(refusal));
                    return;
                }
                None => error_event(&refusal),
            },
        };
        writer.push_last(last);
    }

    /// Lets the engine answer. `take` says whether a part was taken, or why no more are wanted.
    fn compute(
        &mut self,
        take: &mut dyn FnMut(&mut Reply, Part) -> Result<(), Cancelled>,
    ) -> Result<Finished, Refusal> {
        let Self {
            bench,
            completion,
            reply,
            began,
            span,
            ..
        } = self;
        let _entered = span.enter();
        // Everything else was looked at before the engine was asked.
        let asked = reply.format.prompt();
        let mut is_first = true;
        let mut stopped = None;
        let mut hear = |part: Part| {
            // A part without a token says that the prompt is still being read.
            if part.token.is_some() && std::mem::take(&mut is_first) {
                bench.metrics.first_token(began.elapsed());
            }
            if stopped.is_none() {
                stopped = if bench.cancel.load(Ordering::Acquire) {
                    Some(Cancelled::Shutdown)
                } else {
                    take(reply, part).err()
                };
            }
            stopped.is_none()
        };
        let answer = guarded(|| bench.engine.complete(completion, &mut hear));
        if let Ok(finished) = &answer {
            bench.metrics.finished(finished);
        }
        if let Some(why) = stopped {
            bench.metrics.cancelled(why);
            tracing::info!(?why, "the answer is cancelled");
            return Err(cancelled(why));
        }
        match answer {
            Ok(finished) if finished.reason == Finish::Cancelled => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the engine cancelled the answer",
            )
            .code("cancelled")),
            answer => answer.map_err(|refusal| refusal.about(asked)),
        }
    }
}

/// Computes embeddings.
pub fn embed(bench: &Bench, model: &str, texts: &[String]) -> Result<Embeddings, Refusal> {
    let embedded = guarded(|| bench.engine.embed(model, texts));
    let embedded = embedded.map_err(|refusal| refusal.about("input"));
    embedded.and_then(|embeddings| {
        bench.metrics.prompt_tokens(embeddings.prompt_tokens);
        if embeddings.vectors.len() == texts.len() {
            return Ok(embeddings);
        }
        let (vectors, texts) = (embeddings.vectors.len(), texts.len());
        let message = format!("the engine made {vectors} embeddings of {texts} texts");
        Err(EngineError::Failed(message).into())
    })
}

/// What the engine answers; where it panics, that it did.
fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, Refusal> {
    // What a panic may leave half done is the engine's own, and its other threads see the same.
    let answer = catch_unwind(AssertUnwindSafe(work));
    let answer = answer.unwrap_or_else(|_| {
        let message = "the engine panicked; the server's log has the place";
        Err(EngineError::Failed(message.to_owned()))
    });
    answer.map_err(|error| {
        let refusal = Refusal::from(error);
        if refusal.status.is_server_error() {
            tracing::error!(error = refusal.message, "the engine did not answer");
        }
        refusal
    })
}

fn cancelled(why: Cancelled) -> Refusal {
    match why {
        Cancelled::Shutdown => Refusal::ending(),
        Cancelled::ClientLeft => Refusal::bad("the client left"),
        Cancelled::ClientSlow => Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the answer was cancelled: it was read more slowly than the server waits (`reader_time`)",
        )
        .code("reader_timeout"),
    }
}
