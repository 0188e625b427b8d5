//! The block formats Q8_0, Q5_0, Q4_0, Q6_K and Q4_K, as GGUF files have them.
//!
//! A row of weights is cut into blocks of 32 (Q8_0, Q5_0, Q4_0) or 256 (Q6_K, Q4_K) numbers, which share scales in half
//! precision. Layouts and rounding are those of `ggml-quants.c` (`quantize_row_*_ref`) of llama.cpp, so the
//! same weights give the same bytes.

mod wide;

use half::f16;

pub use wide::{Q5_0, Q6K};

/// Numbers in a block of Q8_0, Q5_0 and Q4_0.
pub const BLOCK: usize = 32;

/// Numbers in a block of Q6_K and Q4_K.
pub const SUPER_BLOCK: usize = 256;

/// A block: so many numbers in so many bytes.
pub trait Block: Copy {
    /// Numbers in it.
    const NUMBERS: usize;

    /// Bytes that it takes in a file.
    const BYTES: usize;

    /// The block of [`NUMBERS`](Self::NUMBERS) numbers.
    ///
    /// # Panics
    ///
    /// Where there are more or fewer.
    fn of_numbers(x: &[f32]) -> Self;

    /// The block that [`BYTES`](Self::BYTES) bytes of a file are.
    ///
    /// # Panics
    ///
    /// Where there are fewer.
    fn of_bytes(bytes: &[u8]) -> Self;

    /// Appends its bytes, as files have them.
    fn write(&self, to: &mut Vec<u8>);

    /// Puts its numbers in place of those that are there.
    ///
    /// # Panics
    ///
    /// Where these are not [`NUMBERS`](Self::NUMBERS).
    fn put(&self, to: &mut [f32]);
}

/// As many numbers as a block takes.
fn whole<const N: usize>(x: &[f32]) -> &[f32; N] {
    x.try_into()
        .unwrap_or_else(|_| panic!("a block is of {N} numbers, not of {}", x.len()))
}

/// Takes bytes from the front of what is left.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (first, after) = rest
        .split_first_chunk()
        .unwrap_or_else(|| panic!("a block ends {} bytes early", N - rest.len()));
    *rest = after;
    *first
}

/// 32 numbers `d · q`, 34 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Q8_0 {
    /// The scale, in half precision.
    pub d: u16,
    /// The numbers in units of the scale, −127 to 127.
    pub quants: [i8; BLOCK],
}

impl Q8_0 {
    /// The block that is nearest to these numbers.
    pub fn quantise(x: &[f32; BLOCK]) -> Self {
        let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        let d = largest / 127.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        Self {
            d: f16::from_f32(d).to_bits(),
            quants: x.map(|x| (x * inverse).round() as i8),
        }
    }

    /// Its numbers.
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let d = f16::from_bits(self.d).to_f32();
        self.quants.map(|q| f32::from(q) * d)
    }
}

impl Block for Q8_0 {
    const NUMBERS: usize = BLOCK;
    const BYTES: usize = size_of::<Self>();

    fn of_numbers(x: &[f32]) -> Self {
        Self::quantise(whole(x))
    }

    fn of_bytes(mut bytes: &[u8]) -> Self {
        Self {
            d: u16::from_le_bytes(take(&mut bytes)),
            quants: take(&mut bytes).map(u8::cast_signed),
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.d.to_le_bytes());
        to.extend(self.quants.map(i8::cast_unsigned));
    }

    fn put(&self, to: &mut [f32]) {
        to.copy_from_slice(&self.dequantise());
    }
}

/// 32 numbers `d · (q − 8)`, 18 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Q4_0 {
    /// The scale, in half precision.
    pub d: u16,
    /// The numbers, 0 to 15: the first half in the low halves of the bytes, the second in the high halves.
    pub quants: [u8; BLOCK / 2],
}

impl Q4_0 {
    /// The block that is nearest to these numbers: the one of the largest size becomes −8.
    pub fn quantise(x: &[f32; BLOCK]) -> Self {
        let mut largest = 0.0_f32;
        for &x in x {
            if x.abs() > largest.abs() {
                largest = x;
            }
        }
        let d = largest / -8.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let quant = |x: f32| ((x * inverse + 8.5) as u8).min(15);
        let mut quants = [0; BLOCK / 2];
        for (index, byte) in quants.iter_mut().enumerate() {
            *byte = quant(x[index]) | (quant(x[index + BLOCK / 2]) << 4);
        }
        Self {
            d: f16::from_f32(d).to_bits(),
            quants,
        }
    }

    /// The numbers in units of the scale, 0 to 15, of which 8 stands for 0.
    pub fn levels(&self) -> [u8; BLOCK] {
        let mut levels = [0; BLOCK];
        for (index, byte) in self.quants.iter().enumerate() {
            levels[index] = byte & 15;
            levels[index + BLOCK / 2] = byte >> 4;
        }
        levels
    }

    /// Its numbers.
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let d = f16::from_bits(self.d).to_f32();
        self.levels().map(|level| (f32::from(level) - 8.0) * d)
    }
}

impl Block for Q4_0 {
    const NUMBERS: usize = BLOCK;
    const BYTES: usize = size_of::<Self>();

    fn of_numbers(x: &[f32]) -> Self {
        Self::quantise(whole(x))
    }

    fn of_bytes(mut bytes: &[u8]) -> Self {
        Self {
            d: u16::from_le_bytes(take(&mut bytes)),
            quants: take(&mut bytes),
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.d.to_le_bytes());
        to.extend(self.quants);
    }

    fn put(&self, to: &mut [f32]) {
        to.copy_from_slice(&self.dequantise());
    }
}

/// 256 numbers in eight parts of 32, each `d · scale · q − dmin · min`; 144 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Q4K {
    /// The scale of the scales, in half precision.
    pub d: u16,
    /// The scale of the minima, in half precision.
    pub dmin: u16,
    /// Scales and minima of the parts, of 6 bits each, packed.
    pub scales: [u8; 12],
    /// The numbers, 0 to 15: of two parts that follow each other the first in the low halves of 32 bytes, the second in
    /// the high halves.
    pub quants: [u8; SUPER_BLOCK / 2],
}

impl Q4K {
    /// The block that is near to these numbers, by the search that llama.cpp does without an importance matrix.
    pub fn quantise(x: &[f32; SUPER_BLOCK]) -> Self {
        let parts = x.as_chunks::<BLOCK>().0;
        let mut fits = [Affine::default(); 8];
        for (fit, part) in fits.iter_mut().zip(parts) {
            *fit = Affine::fit(part);
        }
        let scale = fits.iter().fold(0.0_f32, |most, fit| most.max(fit.scale));
        let min = fits.iter().fold(0.0_f32, |most, fit| most.max(fit.min));
        let inverse = |most: f32| if most > 0.0 { 63.0 / most } else { 0.0 };
        let (to_scale, to_min) = (inverse(scale), inverse(min));
        let mut six = [(0, 0); 8];
        for (six, fit) in six.iter_mut().zip(&fits) {
            let of = |inverse: f32, x: f32| nearest(inverse * x).clamp(0, 63) as u8;
            *six = (of(to_scale, fit.scale), of(to_min, fit.min));
        }
        let mut block = Self {
            d: f16::from_f32(scale / 63.0).to_bits(),
            dmin: f16::from_f32(min / 63.0).to_bits(),
            scales: pack_scales(&six),
            quants: [0; SUPER_BLOCK / 2],
        };
        let mut levels = [0; SUPER_BLOCK];
        let parts = parts.iter().zip(levels.as_chunks_mut::<BLOCK>().0);
        for (((part, levels), fit), (scale, min)) in parts.zip(&fits).zip(block.factors()) {
            for ((level, &x), &fitted) in levels.iter_mut().zip(part).zip(&fit.levels) {
                *level = if scale == 0.0 {
                    fitted
                } else {
                    nearest((x + min) / scale).clamp(0, 15) as u8
                };
            }
        }
        let pairs = levels.as_chunks::<{ 2 * BLOCK }>().0;
        for (bytes, pair) in block
            .quants
            .as_chunks_mut::<BLOCK>()
            .0
            .iter_mut()
            .zip(pairs)
        {
            for (index, byte) in bytes.iter_mut().enumerate() {
                *byte = pair[index] | (pair[index + BLOCK] << 4);
            }
        }
        block
    }

    /// Scales and minima of the parts in units of `d` and `dmin`, 0 to 63.
    pub fn six_bits(&self) -> [(u8, u8); 8] {
        let s = &self.scales;
        let mut six = [(0, 0); 8];
        for part in 0..4 {
            six[part] = (s[part] & 63, s[part + 4] & 63);
            six[part + 4] = (
                (s[part + 8] & 15) | ((s[part] >> 6) << 4),
                (s[part + 8] >> 4) | ((s[part + 4] >> 6) << 4),
            );
        }
        six
    }

    /// Scales and minima of the parts.
    fn factors(&self) -> [(f32, f32); 8] {
        let d = f16::from_bits(self.d).to_f32();
        let dmin = f16::from_bits(self.dmin).to_f32();
        self.six_bits()
            .map(|(scale, min)| (d * f32::from(scale), dmin * f32::from(min)))
    }

    /// The numbers of the parts in units of their scales, 0 to 15.
    pub fn levels(&self) -> [u8; SUPER_BLOCK] {
        let mut levels = [0; SUPER_BLOCK];
        let pairs = levels.as_chunks_mut::<{ 2 * BLOCK }>().0;
        for (bytes, pair) in self.quants.as_chunks::<BLOCK>().0.iter().zip(pairs) {
            for (index, byte) in bytes.iter().enumerate() {
                pair[index] = byte & 15;
                pair[index + BLOCK] = byte >> 4;
            }
        }
        levels
    }

    /// Its numbers.
    pub fn dequantise(&self) -> [f32; SUPER_BLOCK] {
        let mut x = [0.0; SUPER_BLOCK];
        let levels = self.levels();
        let parts = x.as_chunks_mut::<BLOCK>().0.iter_mut();
        for ((part, levels), (scale, min)) in
            parts.zip(levels.as_chunks::<BLOCK>().0).zip(self.factors())
        {
            for (x, &level) in part.iter_mut().zip(levels) {
                *x = scale * f32::from(level) - min;
            }
        }
        x
    }
}

impl Block for Q4K {
    const NUMBERS: usize = SUPER_BLOCK;
    const BYTES: usize = size_of::<Self>();

    fn of_numbers(x: &[f32]) -> Self {
        Self::quantise(whole(x))
    }

    fn of_bytes(mut bytes: &[u8]) -> Self {
        Self {
            d: u16::from_le_bytes(take(&mut bytes)),
            dmin: u16::from_le_bytes(take(&mut bytes)),
            scales: take(&mut bytes),
            quants: take(&mut bytes),
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.d.to_le_bytes());
        to.extend(self.dmin.to_le_bytes());
        to.extend(self.scales);
        to.extend(self.quants);
    }

    fn put(&self, to: &mut [f32]) {
        to.copy_from_slice(&self.dequantise());
    }
}

/// Eight pairs of 6 bits in 12 bytes: the first four whole, the others with their upper two bits over those.
fn pack_scales(six: &[(u8, u8); 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for part in 0..4 {
        let (scale, min) = six[part];
        let (later_scale, later_min) = six[part + 4];
        packed[part] = scale | ((later_scale >> 4) << 6);
        packed[part + 4] = min | ((later_min >> 4) << 6);
        packed[part + 8] = (later_scale & 15) | ((later_min & 15) << 4);
    }
    packed
}

/// 32 numbers as `scale · level − min` with levels from 0 to 15; `make_qkx2_quants` of `ggml-quants.c`.
#[derive(Debug, Clone, Copy, Default)]
struct Affine {
    scale: f32,
    min: f32,
    levels: [u8; BLOCK],
}

impl Affine {
    fn fit(x: &[f32; BLOCK]) -> Self {
        let squares: f32 = x.iter().fold(0.0, |sum, x| sum + x * x);
        let average = (squares / BLOCK as f32).sqrt();
        let weights = x.map(|x| average + x.abs());
        let lowest = x
            .iter()
            .fold(x[0], |least, &x| if x < least { x } else { least });
        let highest = x
            .iter()
            .fold(x[0], |most, &x| if x > most { x } else { most });
        let (mut weight_sum, mut weighted_sum) = (weights[0], weights[0] * x[0]);
        for (weight, x) in weights.iter().zip(x).skip(1) {
            weight_sum += weight;
            weighted_sum += weight * x;
        }
        let lowest = lowest.min(0.0);
        if highest == lowest {
            return Self {
                min: -lowest,
                ..Self::default()
            };
        }
        let mut best = Self {
            scale: 1.0 / (15.0 / (highest - lowest)),
            min: lowest,
            levels: [0; BLOCK],
        };
        let inverse = 15.0 / (highest - lowest);
        best.levels = x.map(|x| nearest(inverse * (x - lowest)).clamp(0, 15) as u8);
        let mut best_error = squared_error(x, &weights, &best);
        for step in 0..=20_u8 {
            let inverse = (-1.0 + 0.1 * f32::from(step) + 15.0) / (highest - lowest);
            let levels = x.map(|x| nearest(inverse * (x - lowest)).clamp(0, 15) as u8);
            let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
            for ((&level, &x), &weight) in levels.iter().zip(x).zip(&weights) {
                let level = f32::from(level);
                sum_l += weight * level;
                sum_l2 += weight * level * level;
                sum_xl += weight * level * x;
            }
            let determinant = weight_sum * sum_l2 - sum_l * sum_l;
            if determinant <= 0.0 {
                continue;
            }
            let mut scale = (weight_sum * sum_xl - weighted_sum * sum_l) / determinant;
            let mut min = (sum_l2 * weighted_sum - sum_l * sum_xl) / determinant;
            if min > 0.0 {
                min = 0.0;
                scale = sum_xl / sum_l2;
            }
            let tried = Self { scale, min, levels };
            let error = squared_error(x, &weights, &tried);
            if error < best_error {
                best_error = error;
                best = tried;
            }
        }
        best.min = -best.min;
        best
    }
}

/// What `scale · level + min` misses; the sign of `min` is that of the search.
fn squared_error(x: &[f32; BLOCK], weights: &[f32; BLOCK], fit: &Affine) -> f32 {
    let mut sum = 0.0;
    for ((&level, &x), &weight) in fit.levels.iter().zip(x).zip(weights) {
        let miss = fit.scale * f32::from(level) + fit.min - x;
        sum += weight * (miss * miss);
    }
    sum
}

/// The nearest whole number, ties to even, as `nearest_int` of `ggml-quants.c` has it.
fn nearest(x: f32) -> i32 {
    x.round_ties_even() as i32
}

#[cfg(test)]
mod tests;
