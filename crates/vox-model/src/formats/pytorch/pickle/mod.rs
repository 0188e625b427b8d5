//! A reader of pickles that executes nothing.
//!
//! A pickle is a program for a small stack machine, and Python's own machine lets that program call
//! anything that can be imported. The machine here knows the instructions that `torch.save` writes and
//! a closed list of names ([`Global`](value::Global)), each of which stands for something that is made
//! here, in this module, out of plain data. What must stay true: whatever is not on those lists ends
//! the reading with an error that says what it was; and the memory that is used is bounded by the limits
//! below and by the bytes that were really there, never by what a length claims.

mod heap;
mod machine;
mod opcode;
mod read;
mod rebuild;
mod value;

pub use heap::MAX_VALUES;
pub use machine::{MAX_MARKS, MAX_PUSHES};
pub use read::{MAX_INTEGER_BYTES, MAX_PICKLE_BYTES, MAX_TEXT_BYTES};
pub use rebuild::MAX_RANK;

pub(super) use heap::Heap;
pub(super) use machine::load;
pub(super) use rebuild::extent;
pub(super) use value::{Id, Storage, Tensor, Value};
