//! Blocks to `f32`, with the very operations of ggml.
//!
//! | module | owns |
//! |---|---|
//! | `simple` | what stands in blocks of 32 with one scale, and what is not quantised |
//! | `k` | the K types: blocks of 256 with scales of their own within |
//! | `other` | the non-linear, ternary and microscaling types |
//!
//! What must stay true: every value is computed as the reference does, one rounding for each of its
//! operations in its order (a product and a sum are never fused), so that the bits are the same on
//! every machine. The functions are plain loops over arrays of known length, which the compiler turns
//! into vector instructions.

mod k;
mod other;
mod simple;

use super::types::GgmlType;

/// Elements of a block of 256.
const QK_K: usize = 256;

/// Dequantises whole blocks: `out` then holds their elements and nothing else. Bytes after the last
/// whole block are not looked at. False, with `out` as it was, for a type that is not
/// [`is_dequantised`](GgmlType::is_dequantised).
///
/// What is not quantised is converted: integers to the nearest `f32`, as is [`GgmlType::F64`].
pub fn dequantise(kind: GgmlType, blocks: &[u8], out: &mut Vec<f32>) -> bool {
    match kind {
        GgmlType::F32 => each(blocks, out, simple::f32),
        GgmlType::F16 => each(blocks, out, simple::f16),
        GgmlType::BF16 => each(blocks, out, simple::bf16),
        GgmlType::F64 => each(blocks, out, simple::f64),
        GgmlType::I8 => each(blocks, out, simple::i8),
        GgmlType::I16 => each(blocks, out, simple::i16),
        GgmlType::I32 => each(blocks, out, simple::i32),
        GgmlType::I64 => each(blocks, out, simple::i64),
        GgmlType::Q4_0 => each(blocks, out, simple::q4_0),
        GgmlType::Q4_1 => each(blocks, out, simple::q4_1),
        GgmlType::Q5_0 => each(blocks, out, simple::q5_0),
        GgmlType::Q5_1 => each(blocks, out, simple::q5_1),
        GgmlType::Q8_0 => each(blocks, out, simple::q8_0),
        GgmlType::Q2_K => each(blocks, out, k::q2),
        GgmlType::Q3_K => each(blocks, out, k::q3),
        GgmlType::Q4_K => each(blocks, out, k::q4),
        GgmlType::Q5_K => each(blocks, out, k::q5),
        GgmlType::Q6_K => each(blocks, out, k::q6),
        GgmlType::IQ4_NL => each(blocks, out, other::iq4_nl),
        GgmlType::IQ4_XS => each(blocks, out, other::iq4_xs),
        GgmlType::TQ1_0 => each(blocks, out, other::tq1_0),
        GgmlType::TQ2_0 => each(blocks, out, other::tq2_0),
        GgmlType::MXFP4 => each(blocks, out, other::mxfp4),
        GgmlType::Q8_1
        | GgmlType::Q8_K
        | GgmlType::IQ2_XXS
        | GgmlType::IQ2_XS
        | GgmlType::IQ3_XXS
        | GgmlType::IQ1_S
        | GgmlType::IQ3_S
        | GgmlType::IQ2_S
        | GgmlType::IQ1_M
        | GgmlType::NVFP4
        | GgmlType::Q1_0 => return false,
    }
    true
}

/// Applies a block's function to one block after another.
#[inline(always)]
fn each<const BYTES: usize, const LEN: usize>(
    blocks: &[u8],
    out: &mut Vec<f32>,
    block: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (blocks, _) = blocks.as_chunks::<BYTES>();
    out.resize(blocks.len() * LEN, 0.0);
    let (values, _) = out.as_chunks_mut::<LEN>();
    for (bytes, values) in blocks.iter().zip(values) {
        block(bytes, values);
    }
}

/// Half precision to single, exactly, by arithmetic that needs no branch.
#[inline(always)]
fn half(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let magnitude = bits & 0x7fff;
    let shifted = magnitude << 13;
    let normal = shifted + (112 << 23);
    // Below the normal range, the value is the number itself times 2^-24.
    let subnormal = (magnitude as f32 * f32::from_bits(0x3380_0000)).to_bits();
    // Infinities and NaN keep their payload and the largest exponent.
    let special = shifted | 0x7f80_0000;
    let finite = if magnitude < 0x0400 {
        subnormal
    } else {
        normal
    };
    let value = if magnitude >= 0x7c00 { special } else { finite };
    f32::from_bits(value | ((bits & 0x8000) << 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_the_single_that_the_half_crate_says() {
        for bits in 0..=u16::MAX {
            let ours = half(bits.to_le_bytes());
            let theirs = half::f16::from_bits(bits).to_f32_const();
            if theirs.is_nan() {
                assert!(ours.is_nan(), "{bits:#x}");
            } else {
                assert_eq!(ours.to_bits(), theirs.to_bits(), "{bits:#x}");
            }
        }
    }

    #[test]
    fn every_type_either_is_dequantised_to_whole_blocks_or_is_left_alone() {
        for kind in GgmlType::all() {
            let bytes = vec![0; usize::try_from(kind.block_bytes()).unwrap() * 3 + 1];
            let mut values = vec![1.0; 5];
            let done = dequantise(kind, &bytes, &mut values);
            assert_eq!(done, kind.is_dequantised(), "{kind}");
            let elements = kind.block_len() as usize * 3;
            let wanted = match kind {
                GgmlType::I8 => 4,
                _ if done => elements,
                _ => 5,
            };
            assert_eq!(values.len(), wanted, "{kind}");
        }
    }
}
