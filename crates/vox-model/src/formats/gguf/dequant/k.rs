//! The K types: blocks of 256, whose groups of 16 or 32 have scales of their own.

use super::{QK_K, half};

/// The part of a block from `AT` on, of known length.
#[inline(always)]
fn part<const AT: usize, const LEN: usize, const ALL: usize>(bytes: &[u8; ALL]) -> &[u8; LEN] {
    const { assert!(AT + LEN <= ALL) };
    let mut rest: &[u8] = bytes;
    rest = rest.split_at(AT).1;
    match rest.first_chunk() {
        Some(part) => part,
        None => unreachable!("the part lies within the block"),
    }
}

/// Values of 2 bits: of each 32 bytes first the lowest pairs, then the next higher ones.
#[inline(always)]
fn pairs(bytes: &[u8; 64], at: usize) -> u8 {
    let (half, rest) = (at / 128, at % 128);
    let (shift, byte) = (rest / 32 * 2, rest % 32);
    (bytes[half * 32 + byte] >> shift) & 3
}

#[inline(always)]
pub(super) fn q2(bytes: &[u8; 84], out: &mut [f32; QK_K]) {
    let scales: &[u8; 16] = part::<0, 16, 84>(bytes);
    let quants: &[u8; 64] = part::<16, 64, 84>(bytes);
    let (scale, least) = (
        half(*part::<80, 2, 84>(bytes)),
        half(*part::<82, 2, 84>(bytes)),
    );
    let (groups, _) = out.as_chunks_mut::<16>();
    for (group, values) in groups.iter_mut().enumerate() {
        let scale = scale * f32::from(scales[group] & 0x0f);
        let least = least * f32::from(scales[group] >> 4);
        for (at, value) in values.iter_mut().enumerate() {
            *value = scale * f32::from(pairs(quants, group * 16 + at)) - least;
        }
    }
}

#[inline(always)]
pub(super) fn q3(bytes: &[u8; 110], out: &mut [f32; QK_K]) {
    let high: &[u8; 32] = part::<0, 32, 110>(bytes);
    let quants: &[u8; 64] = part::<32, 64, 110>(bytes);
    let scales: &[u8; 12] = part::<96, 12, 110>(bytes);
    let scale = half(*part::<108, 2, 110>(bytes));
    let (groups, _) = out.as_chunks_mut::<16>();
    for (group, values) in groups.iter_mut().enumerate() {
        let low = (scales[group % 8] >> (group / 8 * 4)) & 0x0f;
        let top = (scales[8 + group % 4] >> (group / 4 * 2)) & 0x03;
        let scale = scale * f32::from((low | (top << 4)).cast_signed() - 32);
        for (at, value) in values.iter_mut().enumerate() {
            let at = group * 16 + at;
            // The offset is there where the bit is not.
            let offset = (!(high[at % 32] >> (at / 32)) & 1) << 2;
            let quant = pairs(quants, at).cast_signed() - offset.cast_signed();
            *value = scale * f32::from(quant);
        }
    }
}

/// The 6-bit scale and minimum of one of 8 groups.
#[inline(always)]
fn scale_and_least(scales: &[u8; 12], group: usize) -> (f32, f32) {
    let (scale, least) = if group < 4 {
        (scales[group] & 0x3f, scales[group + 4] & 0x3f)
    } else {
        let both = scales[group + 4];
        let (scale, least) = (scales[group - 4] >> 6, scales[group] >> 6);
        ((both & 0x0f) | (scale << 4), (both >> 4) | (least << 4))
    };
    (f32::from(scale), f32::from(least))
}

#[inline(always)]
pub(super) fn q4(bytes: &[u8; 144], out: &mut [f32; QK_K]) {
    let (scale, least) = (
        half(*part::<0, 2, 144>(bytes)),
        half(*part::<2, 2, 144>(bytes)),
    );
    let scales: &[u8; 12] = part::<4, 12, 144>(bytes);
    let quants: &[u8; 128] = part::<16, 128, 144>(bytes);
    let (groups, _) = out.as_chunks_mut::<32>();
    let (quants, _) = quants.as_chunks::<32>();
    for (group, values) in groups.iter_mut().enumerate() {
        let (own_scale, own_least) = scale_and_least(scales, group);
        let (scale, least) = (scale * own_scale, least * own_least);
        let shift = group % 2 * 4;
        for (value, &byte) in values.iter_mut().zip(&quants[group / 2]) {
            *value = scale * f32::from((byte >> shift) & 0x0f) - least;
        }
    }
}

#[inline(always)]
pub(super) fn q5(bytes: &[u8; 176], out: &mut [f32; QK_K]) {
    let (scale, least) = (
        half(*part::<0, 2, 176>(bytes)),
        half(*part::<2, 2, 176>(bytes)),
    );
    let scales: &[u8; 12] = part::<4, 12, 176>(bytes);
    let high: &[u8; 32] = part::<16, 32, 176>(bytes);
    let quants: &[u8; 128] = part::<48, 128, 176>(bytes);
    let (groups, _) = out.as_chunks_mut::<32>();
    let (quants, _) = quants.as_chunks::<32>();
    for (group, values) in groups.iter_mut().enumerate() {
        let (own_scale, own_least) = scale_and_least(scales, group);
        let (scale, least) = (scale * own_scale, least * own_least);
        let shift = group % 2 * 4;
        for ((value, &byte), &high) in values.iter_mut().zip(&quants[group / 2]).zip(high) {
            let quant = ((byte >> shift) & 0x0f) | (((high >> group) & 1) << 4);
            *value = scale * f32::from(quant) - least;
        }
    }
}

#[inline(always)]
pub(super) fn q6(bytes: &[u8; 210], out: &mut [f32; QK_K]) {
    let low: &[u8; 128] = part::<0, 128, 210>(bytes);
    let high: &[u8; 64] = part::<128, 64, 210>(bytes);
    let scales: &[u8; 16] = part::<192, 16, 210>(bytes);
    let scale = half(*part::<208, 2, 210>(bytes));
    let (groups, _) = out.as_chunks_mut::<16>();
    for (group, values) in groups.iter_mut().enumerate() {
        let scale = scale * f32::from(scales[group].cast_signed());
        for (at, value) in values.iter_mut().enumerate() {
            let at = group * 16 + at;
            let (half, rest) = (at / 128, at % 128);
            let nibble = (low[half * 64 + rest % 64] >> (rest / 64 * 4)) & 0x0f;
            let quant = nibble | (pairs(high, at) << 4);
            *value = scale * f32::from(quant.cast_signed() - 32);
        }
    }
}
