//! The non-linear, ternary and microscaling types.

use super::{QK_K, half};

/// The values of the 4-bit non-linear types.
const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice the values of a 4-bit float with 2 bits of exponent.
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The low half bytes' values, then the high ones'.
#[inline(always)]
fn looked_up(table: &[i8; 16], scale: f32, bytes: &[u8], out: &mut [f32]) {
    let (low, high) = out.split_at_mut(out.len() / 2);
    for ((&byte, low), high) in bytes.iter().zip(low).zip(high) {
        *low = scale * f32::from(table[usize::from(byte & 0x0f)]);
        *high = scale * f32::from(table[usize::from(byte >> 4)]);
    }
}

#[inline(always)]
pub(super) fn iq4_nl(bytes: &[u8; 18], out: &mut [f32; 32]) {
    looked_up(&IQ4, half([bytes[0], bytes[1]]), &bytes[2..], out);
}

#[inline(always)]
pub(super) fn iq4_xs(bytes: &[u8; 136], out: &mut [f32; QK_K]) {
    let scale = half([bytes[0], bytes[1]]);
    let high = u16::from_le_bytes([bytes[2], bytes[3]]);
    let (groups, _) = out.as_chunks_mut::<32>();
    let (quants, _) = bytes[8..].as_chunks::<16>();
    for (group, (values, quants)) in groups.iter_mut().zip(quants).enumerate() {
        let low = (bytes[4 + group / 2] >> (group % 2 * 4)) & 0x0f;
        let top = ((high >> (2 * group)) & 0x03) as u8;
        let own = (low | (top << 4)).cast_signed() - 32;
        looked_up(&IQ4, scale * f32::from(own), quants, values);
    }
}

#[inline(always)]
pub(super) fn mxfp4(bytes: &[u8; 17], out: &mut [f32; 32]) {
    let exponent = u32::from(bytes[0]);
    // Half of 2^(exponent - 127), as the table has twice the values.
    let scale = f32::from_bits(if exponent < 2 {
        0x0020_0000 << exponent
    } else {
        (exponent - 1) << 23
    });
    looked_up(&E2M1, scale, &bytes[1..], out);
}

/// The leading digit of a number to base 3 that is scaled to fill a byte, less 1.
#[inline(always)]
fn trit(byte: u8, power: u8) -> f32 {
    let digits = byte.wrapping_mul(power);
    f32::from(((u16::from(digits) * 3) >> 8) as u8) - 1.0
}

#[inline(always)]
pub(super) fn tq1_0(bytes: &[u8; 54], out: &mut [f32; QK_K]) {
    const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
    let scale = half([bytes[52], bytes[53]]);
    for (place, &power) in POWERS.iter().enumerate() {
        for at in 0..32 {
            out[place * 32 + at] = scale * trit(bytes[at], power);
        }
        for at in 0..16 {
            out[160 + place * 16 + at] = scale * trit(bytes[32 + at], power);
        }
    }
    for (place, &power) in POWERS.iter().take(4).enumerate() {
        for at in 0..4 {
            out[240 + place * 4 + at] = scale * trit(bytes[48 + at], power);
        }
    }
}

#[inline(always)]
pub(super) fn tq2_0(bytes: &[u8; 66], out: &mut [f32; QK_K]) {
    let scale = half([bytes[64], bytes[65]]);
    let (groups, _) = out.as_chunks_mut::<32>();
    for (group, values) in groups.iter_mut().enumerate() {
        for (at, value) in values.iter_mut().enumerate() {
            let quant = (bytes[group / 4 * 32 + at] >> (group % 4 * 2)) & 3;
            *value = scale * (f32::from(quant) - 1.0);
        }
    }
}
