//! An Extism plugin that takes bytes and answers nothing: its simplest call.

use extism_pdk::{FnResult, plugin_fn};

/// Takes bytes.
#[plugin_fn]
pub fn take(input: Vec<u8>) -> FnResult<()> {
    std::hint::black_box(input.len());
    Ok(())
}
