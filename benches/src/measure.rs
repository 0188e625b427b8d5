//! How long something takes: two contenders in turns, batch by batch.
//!
//! Each batch runs long enough for the clock's resolution not to matter; of each contender the
//! median batch counts, which a machine that is busy now and then moves little.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Batches of each contender.
const BATCHES: usize = 31;
/// How long a batch runs.
const BATCH: Duration = Duration::from_millis(20);

/// Median nanoseconds a call of two contenders that take turns.
pub fn in_turns(mut ours: impl FnMut(), mut peers: impl FnMut()) -> (f64, f64) {
    let our_calls = calls_per_batch(&mut ours);
    let peer_calls = calls_per_batch(&mut peers);
    let mut our_times = Vec::with_capacity(BATCHES);
    let mut peer_times = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        our_times.push(batch(&mut ours, our_calls));
        peer_times.push(batch(&mut peers, peer_calls));
    }
    (median(our_times), median(peer_times))
}

/// Median nanoseconds a call of one contender.
pub fn alone(mut call: impl FnMut()) -> f64 {
    let calls = calls_per_batch(&mut call);
    median((0..BATCHES).map(|_| batch(&mut call, calls)).collect())
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Calls that fill a batch; finding it out warms up.
fn calls_per_batch(call: &mut impl FnMut()) -> u32 {
    let mut calls = 16;
    loop {
        let nanoseconds = batch(call, calls) * f64::from(calls);
        if nanoseconds > BATCH.as_nanos() as f64 / 4.0 {
            return (f64::from(calls) * BATCH.as_nanos() as f64 / nanoseconds).ceil() as u32;
        }
        calls *= 4;
    }
}

/// Nanoseconds a call.
fn batch(call: &mut impl FnMut(), calls: u32) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// Bytes of this process that are in memory.
pub fn resident() -> anyhow::Result<u64> {
    let statm = fs::read_to_string(Path::new("/proc/self/statm"))?;
    let pages = statm.split(' ').nth(1).unwrap_or("0").parse::<u64>()?;
    Ok(pages * 4096)
}
