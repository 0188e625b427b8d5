//! What operations on hypervectors cost, beside plain loops over the same numbers as `f32`.

use std::hint::black_box;

use vox_vsa::Hypervector;

use crate::measure::in_turns;
use crate::report::Row;

/// What is usual.
const DIMENSIONS: usize = 10_000;
/// Vectors of a bundle.
const MEMBERS: usize = 3;
/// Sums that a dot product is split into, so that no addition waits for the one before.
const SUMS: usize = 16;

/// Vectors, and the numbers that they stand for.
fn vectors() -> anyhow::Result<(Vec<Hypervector>, Vec<Vec<f32>>)> {
    let packed = (0..MEMBERS)
        .map(|name| Hypervector::symbol(&name.to_string(), DIMENSIONS))
        .collect::<Result<Vec<_>, _>>()?;
    let negative = |vector: &Hypervector, at: usize| vector.words()[at / 64] >> (at % 64) & 1 == 1;
    let number = |vector, at| if negative(vector, at) { -1.0 } else { 1.0 };
    let plain = packed
        .iter()
        .map(|vector| (0..DIMENSIONS).map(|at| number(vector, at)).collect())
        .collect();
    Ok((packed, plain))
}

/// A row of two times for one operation.
fn row(name: &'static str, (ours, peer): (f64, f64), peer_name: &'static str) -> Row {
    let ratio = peer / ours;
    Row {
        name,
        value: ours,
        unit: "ns",
        peer,
        peer_name,
        ratio,
        goal: "at least 5 times faster",
        met: ratio >= 5.0,
        detail: None,
    }
}

/// `vsa.bind`: two vectors of 10,000 dimensions are bound into a new one, beside the product of as many
/// `f32` into a new vector.
pub fn bind(name: &'static str) -> anyhow::Result<Row> {
    let (packed, plain) = vectors()?;
    let times = in_turns(
        || {
            black_box(black_box(&packed[0]).bind(black_box(&packed[1]))).ok();
        },
        || {
            let (a, b) = (black_box(&plain[0]), black_box(&plain[1]));
            black_box(a.iter().zip(b).map(|(a, b)| a * b).collect::<Vec<f32>>());
        },
    );
    Ok(row(name, times, "a loop of f32 products"))
}

/// `vsa.similarity`: two vectors of 10,000 dimensions are compared, beside the dot product of as many
/// `f32`. Added in their order, as a plain loop does, each sum waits for the one before; what the loop
/// takes with 16 sums, which the compiler makes SIMD of, is told too, and the goal holds against it.
pub fn similarity(name: &'static str) -> anyhow::Result<Row> {
    let (packed, plain) = vectors()?;
    let ours = || {
        black_box(black_box(&packed[0]).similarity(black_box(&packed[1]))).ok();
    };
    let times = in_turns(ours, || {
        let (a, b) = (black_box(&plain[0]), black_box(&plain[1]));
        black_box(a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>());
    });
    let (beside, in_parts) = in_turns(ours, || {
        let (a, b) = (black_box(&plain[0]), black_box(&plain[1]));
        let mut sums = [0.0_f32; SUMS];
        for (a, b) in a.as_chunks::<SUMS>().0.iter().zip(b.as_chunks::<SUMS>().0) {
            for at in 0..SUMS {
                sums[at] += a[at] * b[at];
            }
        }
        black_box(sums.iter().sum::<f32>());
    });
    let mut row = row(name, times, "a loop of an f32 dot product");
    let ratio = in_parts / beside;
    row.met &= ratio >= 5.0;
    row.detail = Some(format!(
        "with {SUMS} sums the dot product takes {in_parts:.0} ns, {ratio:.1} times as long"
    ));
    Ok(row)
}

/// `vsa.bundle`: three vectors of 10,000 dimensions are bundled, beside the signs of the sums of as many
/// `f32`.
pub fn bundle(name: &'static str) -> anyhow::Result<Row> {
    let (packed, plain) = vectors()?;
    let times = in_turns(
        || {
            black_box(Hypervector::bundle(black_box(&packed))).ok();
        },
        || {
            let mut sums = vec![0.0_f32; DIMENSIONS];
            for vector in black_box(&plain) {
                for (sum, value) in sums.iter_mut().zip(vector) {
                    *sum += value;
                }
            }
            for sum in &mut sums {
                *sum = if *sum < 0.0 { -1.0 } else { 1.0 };
            }
            black_box(sums);
        },
    );
    Ok(row(name, times, "a loop of f32 sums and their signs"))
}
