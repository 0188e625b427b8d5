use half::{bf16, f16};

use super::*;

/// Numbers between −1 and 1 that are the same on every machine (splitmix64).
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The levels that this machine has. The others are named, as they are not tested here.
pub(crate) fn levels() -> Vec<Level> {
    for level in Level::ALL {
        if !level.is_available() {
            println!("skipped: this machine has no {}", level.name());
        }
    }
    Level::available().collect()
}

/// What every operation on floats gives, as bits.
struct Operations {
    a: [f32; LANES],
    b: [f32; LANES],
    c: [f32; LANES],
}

impl Kernel for Operations {
    type Output = Vec<[f32; LANES]>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let (a, b, c) = (s.load(&self.a), s.load(&self.b), s.load(&self.c));
        let mut halves = [0; LANES];
        s.store_f16(a, &mut halves);
        let upper = self.a.map(|x| bf16::from_f32(x).to_bits());
        let bytes = self.a.map(|x| (x.abs() * 255.0) as u8);
        let mut small = [0; LANES];
        let scaled = s.mul(a, s.splat(127.0));
        s.store_i8(s.round(scaled), &mut small);
        let results = [
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.fma(a, b, c),
            s.max(a, b),
            s.min(a, b),
            s.abs(a),
            s.float(s.round(scaled)),
            s.exp2(s.round(scaled)),
            s.load_f16(&halves),
            s.load_bf16(&upper),
            s.load_u8(&bytes),
            s.splat(sum(s, a)),
            s.splat(largest(s, a)),
        ];
        let mut stored = Vec::new();
        for result in results {
            let mut lanes = [0.0; LANES];
            s.store(result, &mut lanes);
            stored.push(lanes);
        }
        stored.push(small.map(f32::from));
        stored
    }
}

#[test]
fn every_level_computes_the_same_bits() {
    let levels = levels();
    for seed in 0..50 {
        let x = numbers(seed, 3 * LANES);
        let operands = || Operations {
            a: x[..LANES].try_into().unwrap(),
            b: x[LANES..2 * LANES].try_into().unwrap(),
            c: x[2 * LANES..].try_into().unwrap(),
        };
        let bits = |level: Level| -> Vec<u32> {
            level
                .run(operands())
                .as_flattened()
                .iter()
                .map(|x| x.to_bits())
                .collect()
        };
        let expected = bits(Level::Portable);
        for &level in &levels {
            assert_eq!(bits(level), expected, "{}", level.name());
        }
    }
}

/// What operations on floats give, where all results are numbers or infinite.
struct Hostile {
    a: [f32; LANES],
    b: [f32; LANES],
}

impl Kernel for Hostile {
    type Output = Vec<[u32; LANES]>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let (a, b) = (s.load(&self.a), s.load(&self.b));
        let mut halves = [0; LANES];
        s.store_f16(a, &mut halves);
        let results = [
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, s.max(s.abs(b), s.splat(f32::from_bits(1)))),
            s.fma(a, b, a),
            s.max(a, b),
            s.min(a, b),
            s.abs(a),
            s.load_f16(&halves),
            s.load_bf16(&self.a.map(|x| (x.to_bits() >> 16) as u16)),
        ];
        let mut stored = Vec::new();
        for result in results {
            let mut lanes = [0.0; LANES];
            s.store(result, &mut lanes);
            stored.push(lanes.map(f32::to_bits));
        }
        stored.push(halves.map(u32::from));
        stored
    }
}

#[test]
fn zeros_of_both_signs_and_the_ends_of_numbers_are_the_same_bits_on_every_level() {
    let levels = levels();
    let ends = [
        0.0,
        f32::from_bits(1),
        f32::MIN_POSITIVE / 3.0,
        f32::MIN_POSITIVE,
        // Half precision: nothing or the least, a tie between the two least, and the least that is normal.
        2f32.powi(-25),
        f32::from_bits(2f32.powi(-25).to_bits() + 1),
        3.0 * 2f32.powi(-25),
        2f32.powi(-14),
        // Ties to even, downwards and upwards.
        2049.0,
        2051.0,
        // The largest, what is rounded to it, and what no longer is.
        65504.0,
        65519.0,
        65520.0,
        1e30,
        f32::MAX / 2.0,
        f32::MAX,
    ];
    for turn in 0..2 * LANES {
        let signed = |index: usize| {
            let sign = if index < LANES { 1.0 } else { -1.0 };
            sign * ends[index % LANES]
        };
        let hostile = || Hostile {
            a: std::array::from_fn(signed),
            b: std::array::from_fn(|index| signed((index + turn) % (2 * LANES))),
        };
        let expected = Level::Portable.run(hostile());
        for &level in &levels {
            assert_eq!(level.run(hostile()), expected, "{} {turn}", level.name());
        }
    }
}

#[test]
fn the_portable_level_computes_what_it_says() {
    let x = numbers(1, 3 * LANES);
    let (a, b, c) = (&x[..LANES], &x[LANES..2 * LANES], &x[2 * LANES..]);
    let results = Level::Portable.run(Operations {
        a: a.try_into().unwrap(),
        b: b.try_into().unwrap(),
        c: c.try_into().unwrap(),
    });
    for lane in 0..LANES {
        let scaled = (a[lane] * 127.0).round_ties_even();
        let (sum, most) = (results[13][lane], results[14][lane]);
        let expected = [
            a[lane] + b[lane],
            a[lane] - b[lane],
            a[lane] * b[lane],
            a[lane] / b[lane],
            a[lane].mul_add(b[lane], c[lane]),
            a[lane].max(b[lane]),
            a[lane].min(b[lane]),
            a[lane].abs(),
            scaled,
            scaled.max(-126.0).exp2(),
            f16::from_f32(a[lane]).to_f32(),
            bf16::from_f32(a[lane]).to_f32(),
            f32::from((a[lane].abs() * 255.0) as u8),
            sum,
            most,
            scaled,
        ];
        for (index, (result, expected)) in results.iter().zip(expected).enumerate() {
            if index == 9 && scaled < -126.0 {
                continue;
            }
            assert_eq!(result[lane], expected, "operation {index}");
        }
        assert!((sum - a.iter().sum::<f32>()).abs() < 1e-5);
        assert_eq!(most, a.iter().copied().fold(f32::MIN, f32::max));
    }
}

/// Sums of products of 8 chunks of 8-bit weights, and of 4 chunks of pairs of 4-bit ones.
struct Dots<'a> {
    bytes: &'a [[i8; 64]; 8],
    nibbles: &'a [[u8; 64]; 4],
    x: &'a [[i8; 4]; 8],
    offset: i32,
}

impl Kernel for Dots<'_> {
    type Output = [[f32; LANES]; 2];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Output {
        let sum = self.x.as_flattened().iter().map(|&x| i32::from(x)).sum();
        let mut of_bytes = s.begin_bytes(sum);
        let mut of_nibbles = s.begin_nibbles(-self.offset * sum);
        for (chunk, &x) in self.bytes.iter().zip(self.x) {
            of_bytes = s.dot_bytes(of_bytes, s.bytes(chunk), x);
        }
        for (index, chunk) in self.nibbles.iter().enumerate() {
            let (low, high) = s.nibbles(chunk);
            of_nibbles = s.dot_nibbles(of_nibbles, low, self.x[index]);
            of_nibbles = s.dot_nibbles(of_nibbles, high, self.x[index + 4]);
        }
        let mut results = [[0.0; LANES]; 2];
        s.store(s.float(of_bytes), &mut results[0]);
        s.store(s.float(s.end_nibbles(of_nibbles)), &mut results[1]);
        results
    }
}

/// What [`Dots`] gives, by its definition.
fn expected(dots: &Dots<'_>) -> [[f32; LANES]; 2] {
    let mut results = [[0; LANES]; 2];
    for row in 0..LANES {
        for column in 0..32 {
            let x = i32::from(dots.x[column / 4][column % 4]);
            let weight = dots.bytes[column / 4][4 * row + column % 4];
            results[0][row] += i32::from(weight) * x;
            let byte = dots.nibbles[column / 4 % 4][4 * row + column % 4];
            let level = if column < 16 { byte & 15 } else { byte >> 4 };
            results[1][row] += (i32::from(level) - dots.offset) * x;
        }
    }
    results.map(|sums| sums.map(|sum| sum as f32))
}

#[test]
fn integer_products_are_exact_on_every_level() {
    let levels = levels();
    let random = numbers(5, 64 * 8 + 64 * 4 + 32);
    let ends = |x: f32| if x < 0.0 { -127 } else { 127 };
    for is_extreme in [false, true] {
        let small = |x: f32| {
            if is_extreme {
                ends(x)
            } else {
                (x * 127.0) as i8
            }
        };
        let mut bytes = [[0; 64]; 8];
        let mut nibbles = [[0; 64]; 4];
        let mut x = [[0; 4]; 8];
        let mut random = random.iter().copied();
        bytes
            .as_flattened_mut()
            .fill_with(|| match small(random.next().unwrap()) {
                // Files may hold it, though no quantisation makes it.
                -127 => -128,
                weight => weight,
            });
        nibbles.as_flattened_mut().fill_with(|| {
            let x = random.next().unwrap();
            if is_extreme {
                if x < 0.0 { 0 } else { 255 }
            } else {
                (x.abs() * 255.0) as u8
            }
        });
        x.as_flattened_mut()
            .fill_with(|| small(random.next().unwrap()));
        let all = [
            x,
            [[127; 4]; 8],
            [[-127; 4]; 8],
            [[127, -127, 127, -127]; 8],
        ];
        for (x, offset) in all.iter().flat_map(|x| [(x, 0), (x, 8)]) {
            for nibbles in [&nibbles, &[[0; 64]; 4], &[[255; 64]; 4]] {
                let dots = || Dots {
                    bytes: &bytes,
                    nibbles,
                    x,
                    offset,
                };
                for &level in &levels {
                    assert_eq!(level.run(dots()), expected(&dots()), "{}", level.name());
                }
            }
        }
    }
}

#[test]
fn a_level_that_the_machine_lacks_is_computed_portably() {
    for level in Level::ALL {
        let x = Operations {
            a: [1.5; LANES],
            b: [2.0; LANES],
            c: [0.5; LANES],
        };
        assert_eq!(level.run(x)[4], [3.5; LANES]);
    }
}
