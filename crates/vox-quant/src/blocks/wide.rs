//! The blocks of 5 and 6 bits, Q5_0 and Q6_K: what is more than 4 bits lies apart.

use half::f16;

use super::{BLOCK, Block, SUPER_BLOCK, nearest, take, whole};

/// Numbers of a block of Q6_K that share a scale.
pub const PART: usize = 16;

/// Parts of a block of Q6_K.
pub const PARTS: usize = SUPER_BLOCK / PART;

/// 32 numbers `d · (q − 16)`, 22 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Q5_0 {
    /// The scale, in half precision.
    pub d: u16,
    /// The fifth bits of the numbers, from the lowest on.
    pub fifths: [u8; BLOCK / 8],
    /// The lower four: those of the first half in the low halves of the bytes, of the second in the high halves.
    pub quants: [u8; BLOCK / 2],
}

impl Q5_0 {
    /// The block that is nearest to these numbers: the one of the largest size becomes −16.
    pub fn quantise(x: &[f32; BLOCK]) -> Self {
        let mut largest = 0.0_f32;
        for &x in x {
            if x.abs() > largest.abs() {
                largest = x;
            }
        }
        let d = largest / -16.0;
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let levels = x.map(|x| ((x * inverse + 16.5) as u8).min(31));
        let mut block = Self {
            d: f16::from_f32(d).to_bits(),
            fifths: [0; BLOCK / 8],
            quants: [0; BLOCK / 2],
        };
        for (index, byte) in block.quants.iter_mut().enumerate() {
            *byte = (levels[index] & 15) | ((levels[index + BLOCK / 2] & 15) << 4);
        }
        for (index, level) in levels.iter().enumerate() {
            block.fifths[index / 8] |= (level >> 4) << (index % 8);
        }
        block
    }

    /// The numbers in units of the scale, 0 to 31, of which 16 stands for 0.
    pub fn levels(&self) -> [u8; BLOCK] {
        std::array::from_fn(|index| {
            let byte = self.quants[index % (BLOCK / 2)];
            let low = if index < BLOCK / 2 {
                byte & 15
            } else {
                byte >> 4
            };
            low | (((self.fifths[index / 8] >> (index % 8)) & 1) << 4)
        })
    }

    /// Its numbers.
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let d = f16::from_bits(self.d).to_f32();
        self.levels().map(|level| (f32::from(level) - 16.0) * d)
    }
}

impl Block for Q5_0 {
    const NUMBERS: usize = BLOCK;
    const BYTES: usize = size_of::<Self>();

    fn of_numbers(x: &[f32]) -> Self {
        Self::quantise(whole(x))
    }

    fn of_bytes(mut bytes: &[u8]) -> Self {
        Self {
            d: u16::from_le_bytes(take(&mut bytes)),
            fifths: take(&mut bytes),
            quants: take(&mut bytes),
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.d.to_le_bytes());
        to.extend(self.fifths);
        to.extend(self.quants);
    }

    fn put(&self, to: &mut [f32]) {
        to.copy_from_slice(&self.dequantise());
    }
}

/// 256 numbers in sixteen parts of 16, each `d · scale · (q − 32)`; 210 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Q6K {
    /// The lower four bits: of each 128 numbers 32 and 32 in the low halves of 64 bytes, the others in the high halves.
    pub lower: [u8; SUPER_BLOCK / 2],
    /// The upper two: of each 128 numbers in 32 bytes, four times 32 of them from the lowest bits on.
    pub upper: [u8; SUPER_BLOCK / 4],
    /// The scales of the parts in units of `d`.
    pub scales: [i8; PARTS],
    /// The scale of the scales, in half precision.
    pub d: u16,
}

impl Q6K {
    /// A block of zeros.
    const ZERO: Self = Self {
        lower: [0; SUPER_BLOCK / 2],
        upper: [0; SUPER_BLOCK / 4],
        scales: [0; PARTS],
        d: 0,
    };

    /// The block that is near to these numbers, by the search that llama.cpp does without an importance matrix.
    pub fn quantise(x: &[f32; SUPER_BLOCK]) -> Self {
        let mut levels = [0; SUPER_BLOCK];
        let mut fits = [0.0; PARTS];
        let parts = x.as_chunks::<PART>().0;
        for ((fit, x), levels) in fits
            .iter_mut()
            .zip(parts)
            .zip(levels.as_chunks_mut::<PART>().0)
        {
            (*fit, *levels) = fit_part(x);
        }
        let mut largest = 0.0_f32;
        for fit in fits {
            if fit.abs() > largest.abs() {
                largest = fit;
            }
        }
        if largest.abs() < LEAST {
            return Self::ZERO;
        }
        let inverse = -128.0 / largest;
        let mut block = Self {
            d: f16::from_f32(1.0 / inverse).to_bits(),
            scales: fits.map(|fit| nearest(inverse * fit).min(127) as i8),
            ..Self::ZERO
        };
        let scales = block.part_scales();
        for ((scale, x), levels) in scales
            .iter()
            .zip(parts)
            .zip(levels.as_chunks_mut::<PART>().0)
        {
            if *scale != 0.0 {
                *levels = x.map(|x| (nearest(x / scale).clamp(-32, 31) + 32) as u8);
            }
        }
        for (index, &level) in levels.iter().enumerate() {
            let (byte, shift) = Self::lower_place(index);
            block.lower[byte] |= (level & 15) << shift;
            let (byte, shift) = Self::upper_place(index);
            block.upper[byte] |= (level >> 4) << shift;
        }
        block
    }

    /// The byte and the bit of it at which a number's lower bits begin.
    fn lower_place(index: usize) -> (usize, usize) {
        let (half, within) = (index / 128, index % 128);
        (64 * half + within % 64, 4 * (within / 64))
    }

    /// The same of its upper bits.
    fn upper_place(index: usize) -> (usize, usize) {
        let (half, within) = (index / 128, index % 128);
        (32 * half + within % 32, 2 * (within / 32))
    }

    /// The scales of the parts.
    fn part_scales(&self) -> [f32; PARTS] {
        let d = f16::from_bits(self.d).to_f32();
        self.scales.map(|scale| d * f32::from(scale))
    }

    /// The numbers in units of their parts' scales, 0 to 63, of which 32 stands for 0.
    pub fn levels(&self) -> [u8; SUPER_BLOCK] {
        std::array::from_fn(|index| {
            let (byte, shift) = Self::lower_place(index);
            let low = (self.lower[byte] >> shift) & 15;
            let (byte, shift) = Self::upper_place(index);
            low | (((self.upper[byte] >> shift) & 3) << 4)
        })
    }

    /// Its numbers.
    pub fn dequantise(&self) -> [f32; SUPER_BLOCK] {
        let (levels, scales) = (self.levels(), self.part_scales());
        std::array::from_fn(|index| scales[index / PART] * (f32::from(levels[index]) - 32.0))
    }
}

impl Block for Q6K {
    const NUMBERS: usize = SUPER_BLOCK;
    const BYTES: usize = size_of::<Self>();

    fn of_numbers(x: &[f32]) -> Self {
        Self::quantise(whole(x))
    }

    fn of_bytes(mut bytes: &[u8]) -> Self {
        Self {
            lower: take(&mut bytes),
            upper: take(&mut bytes),
            scales: take(&mut bytes).map(u8::cast_signed),
            d: u16::from_le_bytes(take(&mut bytes)),
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.lower);
        to.extend(self.upper);
        to.extend(self.scales.map(i8::cast_unsigned));
        to.extend(self.d.to_le_bytes());
    }

    fn put(&self, to: &mut [f32]) {
        to.copy_from_slice(&self.dequantise());
    }
}

/// What is smaller is nothing; `GROUP_MAX_EPS` of `ggml-quants.c`.
const LEAST: f32 = 1e-15;

/// The scale and the levels of a part whose weighted error is least; `make_qx_quants` of `ggml-quants.c`, with each
/// number weighed by its square.
fn fit_part(x: &[f32; PART]) -> (f32, [u8; PART]) {
    let mut largest = 0.0_f32;
    for &x in x {
        if x.abs() > largest.abs() {
            largest = x;
        }
    }
    if largest.abs() < LEAST {
        return (0.0, [0; PART]);
    }
    let levels_by = |inverse: f32| x.map(|x| nearest(inverse * x).clamp(-32, 31));
    let sums = |levels: &[i32; PART]| {
        let (mut product, mut square) = (0.0_f32, 0.0_f32);
        for (&x, &level) in x.iter().zip(levels) {
            let (weight, level) = (x * x, level as f32);
            product += weight * x * level;
            square += weight * level * level;
        }
        (product, square)
    };
    let mut levels = levels_by(-32.0 / largest);
    let (product, square) = sums(&levels);
    let mut scale = if square == 0.0 { 0.0 } else { product / square };
    let mut best = scale * product;
    for step in (-9..=9_i8).filter(|&step| step != 0) {
        let tried = levels_by(-(32.0 + 0.1 * f32::from(step)) / largest);
        let (product, square) = sums(&tried);
        if square > 0.0 && product * product > best * square {
            levels = tried;
            scale = product / square;
            best = scale * product;
        }
    }
    (scale, levels.map(|level| (level + 32) as u8))
}
