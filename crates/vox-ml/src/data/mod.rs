//! From files to batches.
//!
//! | module | owns |
//! |---|---|
//! | `source`, `lines`, `record` | files, their lines, and what stands on them |
//! | [`template`] | chat templates, and where answers stand in their output |
//! | `example` | token ids, and which of them are learnt; the seam to the tokenizer |
//! | `token_file` | examples on disk |
//! | `split` | which examples are held back for evaluation |
//! | `pack` | which examples share a row |
//! | `dataset` | all of these together |
//! | `order` | the shuffle of the rows |
//! | `batch` | micro-batches at a position of the training |
//!
//! What must stay true: the same files, settings, tokenizer and seed give the same batch at the same
//! address, in any process, however it came there; and each token that is to be learnt is a target
//! exactly once in an epoch.

mod batch;
mod dataset;
mod example;
mod lines;
mod order;
mod pack;
mod record;
mod source;
mod split;
pub mod template;
mod token_file;

pub use batch::{Address, Batch, Feed, NO_TARGET, Part, Shape};
pub use dataset::{Dataset, DatasetSpec, Identified, Observer, Tokenising, Tokens};
pub use example::{Encoder, Example, Overlong, Tokenizer};
pub use lines::MAX_LINE_BYTES;
pub use order::{Order, Permutation, Place};
pub use pack::{Layout, Packing};
pub use record::{Chat, Kind, Message, Passage, Record};
pub use source::{DataFile, Format, Located, MAX_PASSAGE_BYTES, Records, SEPARATOR, Source};
pub use split::{Sides, Split};
pub use token_file::{Summary, TokenFile};
