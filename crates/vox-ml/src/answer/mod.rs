//! Answers of models, by whichever backend is the best for it.
//!
//! | module | owns |
//! |---|---|
//! | [`dispatch`] | which backend serves a model, and why |
//! | [`answerer`] | one answer: texts that end it, a backend that dies on the way |

pub mod answerer;
pub mod dispatch;

pub use answerer::{Answered, Answerer, Said};
pub use dispatch::{Considered, DispatchError, Dispatcher, Explanation, NoBackend};
