//! What stands in blocks of 32 with one scale, and what is not quantised.

use super::half;

/// Elements of a block.
const LEN: usize = 32;

/// Two bytes of a block, which the caller knows to be within it.
macro_rules! half_at {
    ($bytes:expr, $at:literal) => {
        half([$bytes[$at], $bytes[$at + 1]])
    };
}

#[inline(always)]
pub(super) fn f32(bytes: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = f32::from_le_bytes(*bytes);
}

#[inline(always)]
pub(super) fn f16(bytes: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = half(*bytes);
}

#[inline(always)]
pub(super) fn bf16(bytes: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
}

#[inline(always)]
pub(super) fn f64(bytes: &[u8; 8], out: &mut [f32; 1]) {
    out[0] = f64::from_le_bytes(*bytes) as f32;
}

#[inline(always)]
pub(super) fn i8(bytes: &[u8; 1], out: &mut [f32; 1]) {
    out[0] = f32::from(i8::from_le_bytes(*bytes));
}

#[inline(always)]
pub(super) fn i16(bytes: &[u8; 2], out: &mut [f32; 1]) {
    out[0] = f32::from(i16::from_le_bytes(*bytes));
}

#[inline(always)]
pub(super) fn i32(bytes: &[u8; 4], out: &mut [f32; 1]) {
    out[0] = i32::from_le_bytes(*bytes) as f32;
}

#[inline(always)]
pub(super) fn i64(bytes: &[u8; 8], out: &mut [f32; 1]) {
    out[0] = i64::from_le_bytes(*bytes) as f32;
}

/// The low half bytes, then the high ones.
#[inline(always)]
fn nibbles(bytes: &[u8], out: &mut [f32; LEN], value: impl Fn(usize, u8) -> f32) {
    for (at, &byte) in bytes.iter().enumerate().take(LEN / 2) {
        out[at] = value(at, byte & 0x0f);
        out[at + LEN / 2] = value(at + LEN / 2, byte >> 4);
    }
}

#[inline(always)]
pub(super) fn q4_0(bytes: &[u8; 18], out: &mut [f32; LEN]) {
    let scale = half_at!(bytes, 0);
    nibbles(&bytes[2..], out, |_, nibble| {
        scale * (i32::from(nibble) - 8) as f32
    });
}

#[inline(always)]
pub(super) fn q4_1(bytes: &[u8; 20], out: &mut [f32; LEN]) {
    let (scale, least) = (half_at!(bytes, 0), half_at!(bytes, 2));
    nibbles(&bytes[4..], out, |_, nibble| {
        scale * i32::from(nibble) as f32 + least
    });
}

#[inline(always)]
pub(super) fn q5_0(bytes: &[u8; 22], out: &mut [f32; LEN]) {
    let scale = half_at!(bytes, 0);
    let high = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    nibbles(&bytes[6..], out, |at, nibble| {
        let fifth = ((high >> at) & 1) << 4;
        scale * ((u32::from(nibble) | fifth) as i32 - 16) as f32
    });
}

#[inline(always)]
pub(super) fn q5_1(bytes: &[u8; 24], out: &mut [f32; LEN]) {
    let (scale, least) = (half_at!(bytes, 0), half_at!(bytes, 2));
    let high = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    nibbles(&bytes[8..], out, |at, nibble| {
        let fifth = ((high >> at) & 1) << 4;
        scale * ((u32::from(nibble) | fifth) as i32) as f32 + least
    });
}

#[inline(always)]
pub(super) fn q8_0(bytes: &[u8; 34], out: &mut [f32; LEN]) {
    let scale = half_at!(bytes, 0);
    for (value, &byte) in out.iter_mut().zip(&bytes[2..]) {
        *value = scale * i32::from(byte.cast_signed()) as f32;
    }
}
