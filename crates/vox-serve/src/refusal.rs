//! OpenAI's error object, and which status goes with it.
//!
//! The form is that of <https://platform.openai.com/docs/guides/error-codes>:
//! `{"error": {"message", "type", "param", "code"}}`. The official clients make their classes of errors
//! from the status alone.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::engine::EngineError;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: StatusCode,
    /// Which kind of error: `invalid_request_error`, `rate_limit_error` or `server_error`.
    pub kind: &'static str,
    /// What is wrong and what to do, for people.
    pub message: String,
    /// Which member of the request it is about.
    pub param: Option<String>,
    /// What a program can compare.
    pub code: Option<&'static str>,
    /// After how many seconds to try again.
    pub retry_after: Option<u64>,
    /// The method that would have been right.
    pub allow: Option<&'static str>,
}

impl Refusal {
    /// A refusal with a status, the kind that follows from it, and a text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        Self {
            status,
            kind,
            message: message.into(),
            param: None,
            code: None,
            retry_after: None,
            allow: None,
        }
    }

    /// The request makes no sense.
    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A member of the request makes no sense. The text begins with its name.
    pub fn param(param: &str, message: impl AsRef<str>) -> Self {
        let mut refusal = Self::bad(format!("`{param}` {}", message.as_ref()));
        refusal.param = Some(param.to_owned());
        refusal
    }

    /// A member of the request asks for what there is not.
    pub fn unsupported(param: &str, message: impl AsRef<str>) -> Self {
        Self::param(param, message).code("unsupported")
    }

    /// With what a program can compare.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// About a member of the request, where the request is at fault and no other member is named.
    #[must_use]
    pub fn about(mut self, param: &str) -> Self {
        if self.status == StatusCode::BAD_REQUEST && self.param.is_none() {
            self.param = Some(param.to_owned());
        }
        self
    }

    /// With the time after which to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The server is ending.
    pub fn ending() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is ending; ask again when it is back",
        )
        .code("shutting_down")
        .retry_after(5)
    }

    /// The object.
    pub fn object(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::NoModel { .. } => {
                Self::new(StatusCode::NOT_FOUND, message).code("model_not_found")
            }
            EngineError::TooLong { .. } => Self::bad(message).code("context_length_exceeded"),
            EngineError::Refused(_) => Self::bad(message),
            EngineError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
                .code("unavailable")
                .retry_after(5),
            EngineError::Failed(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, message),
        }
    }
}
