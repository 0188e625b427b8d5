use super::*;
use crate::BlockKind;

/// Numbers between −1 and 1 that are the same on every machine (splitmix64).
fn numbers(seed: u64, count: usize) -> Vec<f32> {
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

#[test]
fn q8_0_is_what_ggml_makes_of_it() {
    // The largest is 12.7, so a unit is 0.1 and halves are rounded away from zero.
    let mut x = [0.0; BLOCK];
    x[..6].copy_from_slice(&[12.7, -12.7, 0.1, -0.16, 6.35, 0.04]);
    let block = Q8_0::quantise(&x);
    assert_eq!(block.d, f16::from_f32(0.1).to_bits());
    assert_eq!(block.quants[..7], [127, -127, 1, -2, 64, 0, 0]);
    assert_eq!(size_of::<Q8_0>(), 34);
}

#[test]
fn q4_0_is_what_ggml_makes_of_it() {
    // The largest in size is 4, which becomes −8 units of −0.5.
    let mut x = [0.0; BLOCK];
    x[0] = 4.0;
    x[1] = -4.0;
    x[16] = 0.5;
    x[17] = -0.26;
    x[18] = -0.24;
    let block = Q4_0::quantise(&x);
    assert_eq!(block.d, f16::from_f32(-0.5).to_bits());
    // 4 → 0; −4 → 16, cut to 15; 0.5 → 7; −0.26 → 9; −0.24 → 8; 0 → 8.
    assert_eq!(block.quants[..4], [0x70, 0x9f, 0x88, 0x88]);
    let back = block.dequantise();
    assert_eq!(
        (back[0], back[1], back[16], back[17]),
        (4.0, -3.5, 0.5, -0.5)
    );
    assert_eq!(size_of::<Q4_0>(), 18);
}

#[test]
fn zeros_stay_zeros_in_every_format() {
    assert_eq!(Q8_0::quantise(&[0.0; BLOCK]).dequantise(), [0.0; BLOCK]);
    assert_eq!(Q4_0::quantise(&[0.0; BLOCK]).dequantise(), [0.0; BLOCK]);
    assert_eq!(Q5_0::quantise(&[0.0; BLOCK]).dequantise(), [0.0; BLOCK]);
    assert_eq!(
        Q4K::quantise(&[0.0; SUPER_BLOCK]).dequantise(),
        [0.0; SUPER_BLOCK]
    );
    assert_eq!(
        Q6K::quantise(&[0.0; SUPER_BLOCK]).dequantise(),
        [0.0; SUPER_BLOCK]
    );
}

#[test]
fn q4_k_keeps_numbers_that_it_can_hold() {
    // Each part is an even grid: levels of 0.25 from −1 on, and all parts have the same factors.
    let x: [f32; SUPER_BLOCK] = std::array::from_fn(|index| (index % 16) as f32 * 0.25 - 1.0);
    let block = Q4K::quantise(&x);
    assert_eq!(block.six_bits(), [(63, 63); 8]);
    for (x, back) in x.iter().zip(block.dequantise()) {
        assert!((x - back).abs() < 2e-3, "{x} became {back}");
    }
    assert_eq!(size_of::<Q4K>(), 144);
}

#[test]
fn q5_0_is_what_ggml_makes_of_it() {
    // The largest in size is 4, which becomes −16 units of −0.25.
    let mut x = [0.0; BLOCK];
    x[0] = 4.0;
    x[1] = -4.0;
    x[16] = 0.25;
    x[17] = -0.13;
    let block = Q5_0::quantise(&x);
    assert_eq!(block.d, f16::from_f32(-0.25).to_bits());
    // 4 → 0; −4 → 32, cut to 31; 0.25 → 15; −0.13 → 17; 0 → 16.
    assert_eq!(block.quants[..3], [0xf0, 0x1f, 0x00]);
    assert_eq!(block.fifths, [0xfe, 0xff, 0xfe, 0xff]);
    let back = block.dequantise();
    assert_eq!((back[0], back[1], back[2]), (4.0, -3.75, 0.0));
    assert_eq!((back[16], back[17]), (0.25, -0.25));
    assert_eq!(size_of::<Q5_0>(), 22);
}

#[test]
fn q6_k_keeps_numbers_that_it_can_hold() {
    let x: [f32; SUPER_BLOCK] = std::array::from_fn(|index| {
        let scale = (1 + index / 16) as f32;
        scale * ((index % 16) as f32 * 4.0 - 32.0) / 64.0
    });
    let block = Q6K::quantise(&x);
    for (x, back) in x.iter().zip(block.dequantise()) {
        assert!((x - back).abs() < 0.1, "{x} became {back}");
    }
    assert_eq!(block.levels()[255], 32 + 28);
    assert_eq!(size_of::<Q6K>(), 210);
}

#[test]
fn scales_of_six_bits_are_packed_as_ggml_reads_them() {
    let six = std::array::from_fn(|part| (part as u8 * 9, 63 - part as u8 * 7));
    let block = Q4K {
        d: 0,
        dmin: 0,
        scales: pack_scales(&six),
        quants: [0; SUPER_BLOCK / 2],
    };
    assert_eq!(block.six_bits(), six);
    // `get_scale_min_k4` of ggml-quants.c, for the fifth part.
    let s = block.scales;
    assert_eq!((s[8] & 15) | ((s[0] >> 6) << 4), six[4].0);
}

#[test]
fn errors_are_as_large_as_the_bits_allow() {
    let error = |x: &[f32], back: &[f32]| {
        let squares = x.iter().zip(back).map(|(x, back)| (x - back) * (x - back));
        let power: f32 = x.iter().map(|x| x * x).sum();
        (squares.sum::<f32>() / power).sqrt()
    };
    let x = numbers(11, SUPER_BLOCK);
    let blocks = x.as_chunks::<BLOCK>().0;
    let q8: Vec<f32> = blocks
        .iter()
        .flat_map(|x| Q8_0::quantise(x).dequantise())
        .collect();
    let q4: Vec<f32> = blocks
        .iter()
        .flat_map(|x| Q4_0::quantise(x).dequantise())
        .collect();
    let q4_k = Q4K::quantise(x.as_chunks().0.first().unwrap()).dequantise();
    let q5: Vec<f32> = blocks
        .iter()
        .flat_map(|x| Q5_0::quantise(x).dequantise())
        .collect();
    let q6_k = Q6K::quantise(x.as_chunks().0.first().unwrap()).dequantise();
    assert!(error(&x, &q8) < 0.005, "{}", error(&x, &q8));
    assert!(error(&x, &q6_k) < 0.02, "{}", error(&x, &q6_k));
    assert!(error(&x, &q5) < 0.04, "{}", error(&x, &q5));
    assert!(error(&x, &q4) < 0.08, "{}", error(&x, &q4));
    assert!(error(&x, &q4_k) < 0.065, "{}", error(&x, &q4_k));
}

/// Blocks read back from the bytes that they were written as.
#[track_caller]
fn assert_back<B: Block + PartialEq + std::fmt::Debug>(kind: BlockKind) {
    let x = numbers(12, 2 * SUPER_BLOCK);
    let blocks: Vec<B> = x.chunks(B::NUMBERS).map(B::of_numbers).collect();
    let bytes = kind.quantise(&x);
    assert_eq!(bytes.len(), blocks.len() * kind.bytes(), "{kind}");
    let back: Vec<B> = bytes.chunks(B::BYTES).map(B::of_bytes).collect();
    assert_eq!(back, blocks, "{kind}");
    assert_eq!((kind.numbers(), kind.bytes()), (B::NUMBERS, B::BYTES));
    let mut held = vec![0.0; x.len()];
    for (block, held) in blocks.iter().zip(held.chunks_mut(B::NUMBERS)) {
        block.put(held);
    }
    let mut rounded = x.clone();
    kind.round(&mut rounded);
    assert_eq!(rounded, held, "{kind}");
}

#[test]
fn blocks_come_back_from_their_bytes_and_numbers_are_rounded_to_them() {
    assert_back::<Q8_0>(BlockKind::Q8_0);
    assert_back::<Q5_0>(BlockKind::Q5_0);
    assert_back::<Q4_0>(BlockKind::Q4_0);
    assert_back::<Q6K>(BlockKind::Q6K);
    assert_back::<Q4K>(BlockKind::Q4K);
}

#[test]
fn bytes_of_blocks_stand_in_the_order_of_ggml() {
    let mut x = [0.0; BLOCK];
    x[0] = 12.7;
    let d = f16::from_f32(0.1).to_le_bytes();
    assert_eq!(BlockKind::Q8_0.quantise(&x)[..4], [d[0], d[1], 127, 0]);
    // The fifth bits stand before the lower four in Q5_0, the scale last in Q6_K, and both scales first in Q4_K.
    x[0] = 16.0;
    let q5 = BlockKind::Q5_0.quantise(&x);
    assert_eq!(q5[..2], f16::from_f32(-1.0).to_le_bytes());
    assert_eq!(q5[2..7], [0xfe, 0xff, 0xff, 0xff, 0x00]);
    let x = numbers(13, SUPER_BLOCK);
    let x = x.first_chunk().unwrap();
    let (q6, q4) = (Q6K::quantise(x), Q4K::quantise(x));
    assert_eq!(BlockKind::Q6K.quantise(x)[208..], q6.d.to_le_bytes());
    assert_eq!(BlockKind::Q4K.quantise(x)[2..4], q4.dmin.to_le_bytes());
}
