//! The real model of the tests: SmolLM2-135M-instruct, and what the reference libraries compute with it.
//!
//! `cargo xtask test` makes the bundle and names its directory in `VOX_SMOLLM2`. Whoever runs the tests without it is
//! told that those of the real model were skipped.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::skipped;
use crate::tokens::Tokens;

/// Tokens of a window of the text; windows see nothing of each other.
pub(crate) const WINDOW: usize = 512;

/// Tokens that the model embeds.
pub(crate) const VOCABULARY: usize = 49_152;

/// The bundle, for one test at a time: each takes all cores and up to two gigabytes.
pub(crate) struct Bundle {
    pub(crate) directory: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

/// Held by the test that works with the model.
static ALONE: Mutex<()> = Mutex::new(());

/// The bundle; `None`, and a line that says so, where the run of the tests has none.
pub(crate) fn bundle() -> Option<Bundle> {
    match std::env::var_os("VOX_SMOLLM2") {
        Some(directory) => Some(Bundle {
            directory: directory.into(),
            _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
        }),
        None => {
            skipped::because("VOX_SMOLLM2 names no bundle");
            None
        }
    }
}

impl Bundle {
    /// Its tokenizer.
    pub(crate) fn tokens(&self) -> Tokens {
        Tokens::read(&self.directory, VOCABULARY).unwrap()
    }

    /// The text whose perplexity is measured.
    pub(crate) fn text(&self) -> Vec<u32> {
        let text = fs::read_to_string(fixture("perplexity.txt")).unwrap();
        self.tokens().encode_part(&text).unwrap()
    }
}

/// The path of a fixture.
pub(crate) fn fixture(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/reference/smollm2").join(name)
}

/// A fixture of JSON.
pub(crate) fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(name)).unwrap()).unwrap()
}

/// A list of ids.
pub(crate) fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().unwrap().iter();
    ids.map(|id| u32::try_from(id.as_u64().unwrap()).unwrap())
        .collect()
}

/// A list of numbers.
pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|number| number.as_f64().unwrap()).collect()
}
