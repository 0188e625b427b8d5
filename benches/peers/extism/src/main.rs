//! Prints what one call of an Extism plugin costs that takes 64 bytes and answers nothing, as
//! `{"nanoseconds": …}`: the median of batches, as the benches of Vox take it.

use std::hint::black_box;
use std::time::Instant;

use extism::{Manifest, Plugin, Wasm};

const BATCHES: usize = 31;
const CALLS: u32 = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let guest = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/guest/wasm32-unknown-unknown/release/extism_guest.wasm"
    );
    let mut plugin = Plugin::new(Manifest::new([Wasm::data(std::fs::read(guest)?)]), [], false)?;
    let input = [b'x'; 64];
    let mut call = || plugin.call::<&[u8], ()>("take", black_box(&input));
    for _ in 0..CALLS {
        call()?;
    }
    let mut times = Vec::new();
    for _ in 0..BATCHES {
        let start = Instant::now();
        for _ in 0..CALLS {
            call()?;
        }
        times.push(start.elapsed().as_nanos() as f64 / f64::from(CALLS));
    }
    times.sort_by(f64::total_cmp);
    println!("{{\"nanoseconds\": {}}}", times[BATCHES / 2]);
    Ok(())
}
