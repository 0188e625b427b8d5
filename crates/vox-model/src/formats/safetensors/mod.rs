//! [SafeTensors](https://github.com/huggingface/safetensors#format) files: a JSON header that names
//! tensors, and their data.
//!
//! | module | owns |
//! |---|---|
//! | `header` | [`Header`]: what the first bytes of a file say, checked |
//! | `file` | [`SafeTensors`], a file whose tensors are read by range |
//! | `write` | [`WritePlan`]: the one file that given tensors make, before and while it is written |
//! | `shards` | [`ShardPlan`] and [`ShardIndex`]: a model in several files |
//!
//! What must stay true: what is read is what the format's own library would read, or an error that
//! says what is wrong; every byte of a file that is accepted belongs to the header or to exactly one
//! tensor; and equal tensors under equal names are written as equal bytes.

mod error;
mod file;
mod header;
mod json;
mod shards;
mod write;

pub use error::{HeaderFault, SafeTensorsError};
pub use file::SafeTensors;
pub use header::{Header, MAX_HEADER_BYTES, MAX_RANK};
pub use shards::{Shard, ShardIndex, ShardPlan};
pub use write::{PlannedTensor, WritePlan};
