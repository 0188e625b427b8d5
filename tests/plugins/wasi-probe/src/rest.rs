//! What is done with clocks, random numbers and the standard streams.

use serde::Deserialize;
use serde_json::json;
use wasip2::cli::{environment, stderr, stdin, stdout};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::random::{insecure, insecure_seed, random};

use crate::Answer;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    /// Answers the seconds since 1970 and what a sleep of this length took, in nanoseconds.
    Sleep {
        milliseconds: u64,
    },
    /// Answers numbers from every source.
    Random,
    /// Answers environment, arguments, the current directory and what standard input holds.
    Surroundings,
    Print {
        out: String,
        error: String,
    },
    /// Makes handles until there are so many.
    Handles {
        count: u32,
    },
}

pub fn run(deed: Deed) -> Answer {
    match deed {
        Deed::Sleep { milliseconds } => {
            let began = monotonic_clock::now();
            monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
            let took = monotonic_clock::now() - began;
            Ok(json!([wall_clock::now().seconds, took]))
        }
        Deed::Random => Ok(json!([
            random::get_random_u64(),
            random::get_random_bytes(12),
            insecure::get_insecure_random_u64(),
            insecure::get_insecure_random_bytes(3),
            insecure_seed::insecure_seed(),
        ])),
        Deed::Surroundings => Ok(json!([
            environment::get_environment(),
            environment::get_arguments(),
            environment::initial_cwd(),
            stdin::get_stdin().blocking_read(10).is_err(),
        ])),
        Deed::Print { out, error } => {
            let write = |stream: wasip2::io::streams::OutputStream, text: &str| {
                stream
                    .blocking_write_and_flush(text.as_bytes())
                    .map_err(|error| format!("{error:?}"))
            };
            write(stdout::get_stdout(), &out)?;
            write(stderr::get_stderr(), &error)?;
            Ok(json!("printed"))
        }
        Deed::Handles { count } => {
            let handles = (0..count).map(|_| monotonic_clock::subscribe_duration(0));
            Ok(json!(handles.collect::<Vec<_>>().len()))
        }
    }
}
