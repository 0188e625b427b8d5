//! Numerical kernels of the CPU engine: plain functions on slices, without a framework.
//!
//! | module | owns |
//! |---|---|
//! | [`packed`] | weights rearranged for the processor, and `y = x Wᵀ` with them |
//! | [`inputs`] | inputs of such products, quantised to 8 bits |
//! | [`rows`] | norms, rotary positions, softmax and activations of rows |
//! | [`attention`] | the cache of keys and values, and attention over it |
//! | [`pool`] | threads that share a computation |
//! | [`simd`] | vectors of sixteen, and the instructions that they are compiled to |
//!
//! Results do not depend on the number of threads, on the instructions of the processor, or on how many rows are
//! computed in one call: every number that comes out is computed by one thread, in one order.

#![allow(
    clippy::needless_range_loop,
    reason = "counted loops over registers are written out by the compiler; closures would lose the instructions"
)]

pub mod attention;
pub mod inputs;
pub mod packed;
pub mod pool;
pub mod rows;
pub mod simd;
