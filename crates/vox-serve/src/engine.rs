//! What is served. The types have the names that they have in the contract's `inference-backend` and
//! `generation` (`wit/`), so that an engine over plugins passes them on.

/// Models that answer. It is called from several threads at once, at most [`crate::Options::served`] of
/// them inside [`Engine::complete`] and [`Engine::embed`].
pub trait Engine: Send + Sync + 'static {
    /// The models that there are. Asked for every request, so it answers at once, from what it knows.
    fn models(&self) -> Vec<ModelCard>;

    /// Answers a request, and blocks until it has.
    ///
    /// `hear` gets every part as it comes, in order. Where it answers false, nobody wants more: the engine
    /// ends within a token and answers [`Finish::Cancelled`]. Texts that end the answer are found here, and
    /// are not handed on.
    ///
    /// # Errors
    ///
    /// What keeps it from an answer. What was handed on before stays true.
    fn complete(
        &self,
        request: &Completion,
        hear: &mut dyn FnMut(Part) -> bool,
    ) -> Result<Finished, EngineError>;

    /// One vector for each text, of length 1, and blocks until they are there.
    ///
    /// # Errors
    ///
    /// What keeps it from that.
    fn embed(&self, model: &str, texts: &[String]) -> Result<Embeddings, EngineError>;

    /// Whether requests can be answered now, for `/health`. It answers at once, from what it knows.
    ///
    /// # Errors
    ///
    /// What keeps it from that, for people.
    fn ready(&self) -> Result<(), String>;

    /// What befell the backends, for `/metrics`. It answers at once, from what it knows; no number falls.
    fn backends(&self) -> Backends;
}

/// What befell the backends of an engine since it was made; nothing where it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backends {
    /// How many died.
    pub died: u64,
    /// In how many of their places there was another again: one that went on with the answer, or that loaded the
    /// model anew.
    pub replaced: u64,
}

/// A model that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// The name that requests have in `model`.
    pub id: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Whose it is.
    pub owned_by: String,
    /// Most tokens of a prompt and its answer together; 0 where that is not known.
    pub context: u32,
    /// It answers prompts.
    pub can_complete: bool,
    /// It makes embeddings.
    pub can_embed: bool,
    /// Another one where the same seed may give another answer: weights, backend, device. Answered as
    /// `system_fingerprint`.
    pub fingerprint: Option<String>,
}

/// What is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// A [`ModelCard::id`].
    pub model: String,
    /// What comes before the answer.
    pub prompt: Prompt,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// Texts that end it.
    pub stop: Vec<String>,
    /// How many alternatives each token is to have beside its own log-probability; none for no
    /// log-probabilities.
    pub alternatives: Option<u32>,
}

/// What comes before an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// The same as tokens of the model.
    Tokens(Vec<u32>),
    /// A conversation, which goes through the model's template.
    Conversation(Vec<Message>),
}

/// Part of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// How tokens are chosen; the order of these is `wit/inference-backend.wit`'s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides logits; 0 for always the most probable token.
    pub temperature: f32,
    /// Only that many of the most probable; 0 for all.
    pub top_k: u32,
    /// Only the most probable ones that have this much probability together; 1 for all, 0 for the first alone.
    pub top_p: f32,
    /// Only those with at least this part of the most probable one's probability; 0 for all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens that were there; 1 for none.
    pub repetition_penalty: f32,
    /// Taken off the logits of tokens that were answered; 0 for none.
    pub presence_penalty: f32,
    /// Taken off for each time that a token was answered; 0 for none.
    pub frequency_penalty: f32,
    /// The same seed gives the same answer on one device.
    pub seed: u64,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The text to be shown: whole characters, and nothing of a text that ends the answer. Empty where it
    /// is held back.
    pub text: String,
    /// The token that it came with; none for what comes at the end without one: what was held back, or is left of a
    /// character.
    pub token: Option<Token>,
}

/// A token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Its number; none where a server does not say.
    pub token: Option<u32>,
    /// The text that is complete with this token; empty in the middle of a character.
    pub text: String,
    /// Natural logarithm of its probability, before any sampling; none where it was not asked for.
    pub log_probability: Option<f32>,
    /// The most probable tokens in this place, the most probable first.
    pub alternatives: Vec<Alternative>,
}

/// A token that could have stood in a token's place.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// Its number.
    pub token: u32,
    /// Its text.
    pub text: String,
    /// Natural logarithm of its probability, before any sampling.
    pub log_probability: f32,
}

/// How an answer ended, and what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Why it ended.
    pub reason: Finish,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Those of them that were known from the request before.
    pub cached_tokens: u32,
    /// Tokens of the answer.
    pub answer_tokens: u32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or one of [`Completion::stop`] did.
    Stop,
    /// [`Completion::max_tokens`] were answered.
    Length,
    /// The context is full.
    Context,
    /// `hear` said so.
    Cancelled,
}

/// Embeddings of texts.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// One for each text, all of one length.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts together.
    pub prompt_tokens: u32,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is no such model, or not any longer: status 404.
    #[error("there is no model `{model}`")]
    NoModel {
        /// Its name.
        model: String,
    },
    /// The prompt does not fit: status 400, `context_length_exceeded`.
    #[error(
        "the prompt has {tokens} tokens or more; the model's context is {context} with the answer"
    )]
    TooLong {
        /// Tokens of the prompt, at least.
        tokens: u64,
        /// Most tokens of prompt and answer together.
        context: u32,
    },
    /// The request makes no sense to the model: status 400.
    #[error("{0}")]
    Refused(String),
    /// It cannot be answered now, and can be later: status 503.
    #[error("{0}")]
    Unavailable(String),
    /// It went wrong: status 500.
    #[error("{0}")]
    Failed(String),
}
