//! One answer after the other: texts that end them, and backends that die on the way.
//!
//! What must stay true: what was handed on is never handed on again. Where a backend dies, the next one
//! goes on after the text that there is.

use vox_host::CancelToken;
use vox_host::contract::generation::Piece;
use vox_host::contract::inference_backend::{Finish, Finished, Request};

use super::dispatch::{DispatchError, Dispatcher};
use crate::backend::{BackendError, Embeddings, Model};
use crate::stop::StopStrings;

/// A model that answers, with the backends that could take its place.
#[derive(Debug)]
pub struct Answerer {
    dispatcher: Dispatcher,
    model: Model,
    replaced: u64,
}

/// A part of an answer, fit to be shown: its text is whole characters and holds no part of a text that
/// ends the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The text; empty where it is held back as it may be the beginning of a text that ends the answer.
    pub text: String,
    /// The token that it came with; none while the prompt is being read, and for what comes at the end without
    /// one: what was held back, or is left of a character.
    pub piece: Option<Piece>,
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// All of it.
    pub text: String,
    /// Why it ended, and how many tokens there were.
    pub finished: Finished,
    /// The backends that died on the way, with the reason.
    pub died: Vec<(String, String)>,
}

impl Answerer {
    /// Loads the model into the best backend.
    ///
    /// # Errors
    ///
    /// None can serve it.
    pub fn load(mut dispatcher: Dispatcher) -> Result<Self, DispatchError> {
        let model = dispatcher.load()?;
        Ok(Self {
            dispatcher,
            model,
            replaced: 0,
        })
    }

    /// The model as it is loaded now.
    pub fn model(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Has it, and those that could take its place, told to stop by another token: the one that it was asked for
    /// with was cancelled, and there is more to answer.
    pub fn set_cancel(&mut self, cancel: CancelToken) {
        self.dispatcher.set_cancel(cancel.clone());
        self.model.set_cancel(cancel);
    }

    /// How many backends died in whose place another went on, in all answers so far.
    pub fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Which backends were considered.
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// Answers a request; `hear` gets the parts as they come, and says whether more is wanted.
    ///
    /// # Errors
    ///
    /// The request makes no sense, its prompt leaves no room for an answer, or every backend that could serve it died.
    pub fn answer(
        &mut self,
        request: &Request,
        hear: &mut dyn FnMut(&Said) -> bool,
    ) -> Result<Answered, DispatchError> {
        let mut stops = StopStrings::new(&request.stop);
        let mut text = String::new();
        let mut died = Vec::new();
        let mut tokens = 0_u32;
        let mut asked = request.clone();
        loop {
            let mut is_wanted = true;
            let mut is_stopped = false;
            let mut is_numbered = false;
            let before = tokens;
            // All that the model said, held back or not: where another backend goes on.
            let mut said = String::new();
            let answer = self.model.predict(&asked, &mut |piece| {
                // Between the parts of a long prompt it is asked whether an answer is still wanted.
                if piece.token.is_none() && piece.text.is_empty() {
                    is_wanted = hear(&Said {
                        text: String::new(),
                        piece: None,
                    });
                    return is_wanted;
                }
                is_numbered |= piece.token.is_some();
                // Where tokens have numbers, a text without one is left of a character that the answer ended in.
                let is_token = piece.token.is_some() || !is_numbered;
                tokens += u32::from(is_token);
                said.push_str(&piece.text);
                let certain = stops.push(&piece.text);
                is_stopped = stops.stopped().is_some();
                text.push_str(&certain);
                is_wanted = hear(&Said {
                    text: certain,
                    piece: is_token.then_some(piece),
                });
                is_wanted && !is_stopped
            });
            match answer {
                Ok(finished) if finished.reason == Finish::Context && tokens == 0 => {
                    return Err(DispatchError::TooLong {
                        tokens: finished.prompt_tokens,
                        context: self.model.loaded().context,
                    });
                }
                Ok(mut finished) => {
                    let rest = if is_stopped {
                        String::new()
                    } else {
                        stops.finish()
                    };
                    if !rest.is_empty() {
                        text.push_str(&rest);
                        hear(&Said {
                            text: rest,
                            piece: None,
                        });
                    }
                    let is_cut = is_stopped || !is_wanted || finished.reason == Finish::Cancelled;
                    // Only of an answer that it ended itself does a backend know what was heard of it.
                    finished.answer_tokens = match is_cut {
                        true => tokens,
                        false => before.saturating_add(finished.answer_tokens),
                    };
                    if is_stopped {
                        finished.reason = Finish::Stop;
                    }
                    return Ok(Answered {
                        text,
                        finished,
                        died,
                    });
                }
                Err(error) if error.is_the_backends() && is_wanted => {
                    let plugin = self.model.plugin().clone();
                    tracing::warn!(%plugin, %error, tokens, "a backend died; another goes on");
                    self.dispatcher.give_up(&plugin, &error);
                    died.push((plugin.to_string(), error.to_string()));
                    self.model = match self.dispatcher.load() {
                        Ok(model) => model,
                        // Nobody is left: the first thing that went wrong is what matters.
                        Err(_) => return Err(error.into()),
                    };
                    self.replaced += 1;
                    asked.answered.push_str(&said);
                    asked.max_tokens = request.max_tokens.saturating_sub(tokens);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One vector for each text, and the tokens of all of them.
    ///
    /// # Errors
    ///
    /// As the backend answers.
    pub fn embed(&mut self, texts: &[String]) -> Result<Embeddings, BackendError> {
        self.model.embed(texts)
    }
}
