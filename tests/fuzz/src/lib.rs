//! Fuzzing of what Vox reads from strangers: files, archives, replies, calls.
//!
//! A target is a test in `tests/`: a corpus, mostly of files of this repository, and a check.
//! [`fuzz`] first runs the corpus as it is, then inputs made of it by [`Mutation`]s, until the
//! time is up. An input that fails the check, or makes it panic, is made as small as can be and
//! shown; what it found becomes a test by name beside the target.
//!
//! What must stay true: the same seed makes the same inputs in the same order, and a longer run
//! only adds to them. Inputs are not guided by coverage, which a stable compiler does not offer;
//! the corpus and its vocabulary make up for it.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `VOX_FUZZ_SECONDS` | for how long each target runs | 2 |
//! | `VOX_FUZZ_SEED` | the number that the inputs come from | 1 |

mod memory;
mod mutation;

use std::fmt;
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

pub use memory::peak_of;
pub use mutation::{Mutation, mutated};

/// Inputs that are made between two looks at the clock.
const ROUND: u32 = 64;

/// Bytes that are shown as text, and the same byte many times over as `(\x00 times 512)`.
#[derive(Clone, PartialEq)]
pub struct Input(pub Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("b\"")?;
        for same in self.0.chunk_by(|byte, next| byte == next) {
            let byte = same[..1].escape_ascii();
            match same.len() {
                count @ 9.. => write!(f, "({byte} times {count})")?,
                _ => write!(f, "{}", same.escape_ascii())?,
            }
        }
        f.write_str("\"")
    }
}

/// Runs `check` on the corpus and on inputs made of it, until the time is up; answers how many
/// inputs there were. `check` answers what is wrong with what became of an input.
///
/// # Panics
///
/// When `check` fails or panics; the message has the smallest input that was found.
pub fn fuzz(
    corpus: Vec<Vec<u8>>,
    words: &'static [&'static str],
    check: impl Fn(&[u8]) -> Result<(), String>,
) -> u64 {
    assert!(!corpus.is_empty(), "a target needs a corpus");
    for bytes in &corpus {
        if let Err(error) = check(bytes) {
            panic!("{error}\nin the corpus: {:?}", Input(bytes.clone()));
        }
    }
    let seed = number("VOX_FUZZ_SEED").unwrap_or(1);
    let time = Duration::from_secs(number("VOX_FUZZ_SECONDS").unwrap_or(2));
    let inputs = mutated(corpus, words).prop_map(Input);
    let begin = Instant::now();
    let mut rounds = 0;
    while begin.elapsed() < time {
        let mut runner = TestRunner::new(Config {
            cases: ROUND,
            failure_persistence: None,
            rng_seed: RngSeed::Fixed(seed.wrapping_mul(1 << 32).wrapping_add(rounds)),
            ..Config::default()
        });
        let ran = runner.run(&inputs, |input| {
            check(&input.0).map_err(TestCaseError::fail)
        });
        match ran {
            Ok(()) => rounds += 1,
            Err(TestError::Fail(reason, input)) => panic!(
                "{reason}\nsmallest input: {input:?}\n\
                 again with: VOX_FUZZ_SEED={seed}, in round {rounds}"
            ),
            Err(TestError::Abort(reason)) => panic!("no inputs could be made: {reason}"),
        }
    }
    let inputs = rounds * u64::from(ROUND);
    println!("{inputs} inputs from seed {seed} in {:?}", begin.elapsed());
    inputs
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{variable} is a whole number, not `{text}`"),
    }
}

/// Fails with a message unless a condition holds; for checks.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

/// The bytes that reading `length` bytes of input may need at once: `base`, and a multiple of the
/// length.
pub const fn bound(base: usize, factor: usize, length: usize) -> usize {
    base + factor * length
}
