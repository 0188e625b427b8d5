use std::num::NonZeroUsize;

use super::*;
use crate::kernels::inputs::quantise;
use crate::kernels::rows::Activation;
use crate::kernels::simd::tests::{levels, numbers};

const FORMATS: [Format; 8] = [
    Format::F32,
    Format::F16,
    Format::Bf16,
    Format::Q8_0,
    Format::Q5_0,
    Format::Q4_0,
    Format::Q6K,
    Format::Q4K,
];

fn packed(format: Format, rows: usize, columns: usize, seed: u64) -> Packed {
    let mut pool = Pool::new(NonZeroUsize::new(2).unwrap());
    let weights = numbers(seed, rows * columns);
    Packed::new(format, rows, columns, &mut pool, &|row, to: &mut [f32]| {
        to.copy_from_slice(&weights[row * columns..][..columns]);
    })
}

/// Rows of inputs, and what products see of them.
struct Rows {
    plain: Vec<f32>,
    blocks: Vec<InputBlock>,
    seen: Vec<f32>,
}

impl Rows {
    fn new(format: Format, rows: usize, columns: usize) -> Self {
        let plain = numbers(77, rows * columns);
        let stride = columns.div_ceil(BLOCK);
        let mut blocks = vec![InputBlock::ZERO; rows * stride];
        for (x, blocks) in plain.chunks(columns).zip(blocks.chunks_mut(stride)) {
            quantise(Level::Portable, x, blocks);
        }
        let dequantised = blocks.chunks(stride).flat_map(|blocks| {
            let row: Vec<f32> = blocks.iter().flat_map(InputBlock::dequantise).collect();
            row[..columns].to_vec()
        });
        let seen = if format.is_quantised() {
            dequantised.collect()
        } else {
            plain.clone()
        };
        Self {
            plain,
            blocks,
            seen,
        }
    }

    fn inputs(&self, format: Format) -> Inputs<'_> {
        if format.is_quantised() {
            Inputs::Quantised(&self.blocks)
        } else {
            Inputs::Plain(&self.plain)
        }
    }
}

fn multiply(level: Level, weights: &Packed, inputs: Inputs<'_>, rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * weights.rows()];
    let columns = weights.rows();
    weights.multiply(
        level,
        inputs,
        &mut Tile::whole(&mut out, columns),
        Epilogue::default(),
    );
    out
}

/// Sizes: whole blocks and ragged ones.
fn sizes(format: Format) -> Vec<(usize, usize)> {
    match format {
        Format::Q6K | Format::Q4K => vec![(16, 256), (70, 512), (3, 768)],
        _ => vec![(16, 32), (70, 576), (33, 40), (1, 1)],
    }
}

#[test]
fn products_are_those_of_the_weights_as_they_are_held() {
    for format in FORMATS {
        for (outputs, columns) in sizes(format) {
            let weights = packed(format, outputs, columns, 5);
            let rows = Rows::new(format, 3, columns);
            let products = multiply(Level::best(), &weights, rows.inputs(format), 3);
            let mut weight = vec![0.0; columns];
            for output in 0..outputs {
                weights.row(output, &mut weight);
                for (row, x) in rows.seen.chunks(columns).enumerate() {
                    let terms = x
                        .iter()
                        .zip(&weight)
                        .map(|(&x, &w)| f64::from(x) * f64::from(w));
                    let expected: f64 = terms.sum();
                    let product = f64::from(products[row * outputs + output]);
                    assert!(
                        (product - expected).abs() < 1e-4,
                        "{format:?} {outputs}×{columns}: {product} for {expected}",
                    );
                }
            }
        }
    }
}

#[test]
fn every_level_and_number_of_rows_gives_the_same_bits() {
    let levels = levels();
    for format in FORMATS {
        for (outputs, columns) in sizes(format) {
            let weights = packed(format, outputs, columns, 6);
            let rows = Rows::new(format, 15, columns);
            let expected = multiply(Level::Portable, &weights, rows.inputs(format), 15);
            for &level in &levels {
                for count in [1, 2, 3, 4, 7, 8, 15] {
                    let products = multiply(level, &weights, rows.inputs(format), count);
                    let level = level.name();
                    assert_eq!(products, expected[..count * outputs], "{format:?} {level}");
                }
            }
        }
    }
}

#[test]
fn held_weights_are_near_to_those_that_were_read() {
    let allowed = |format| match format {
        Format::F32 => 0.0,
        Format::F16 => 3e-4,
        Format::Bf16 => 3e-3,
        Format::Q8_0 => 5e-3,
        Format::Q6K => 0.05,
        Format::Q5_0 => 0.065,
        Format::Q4_0 | Format::Q4K => 0.13,
    };
    for format in FORMATS {
        let (rows, columns) = (20, 256);
        let matrix = packed(format, rows, columns, 9);
        let weights = numbers(9, rows * columns);
        let mut row = vec![0.0; columns];
        for (index, weights) in weights.chunks(columns).enumerate() {
            matrix.row(index, &mut row);
            for (held, read) in row.iter().zip(weights) {
                assert!(
                    (held - read).abs() <= allowed(format),
                    "{format:?}: {held} for {read}"
                );
            }
        }
        assert_eq!(matrix.format(), format);
    }
}

#[test]
fn blocks_that_are_there_are_held_as_they_are_beside_those_that_are_made() {
    for format in FORMATS {
        let Some(kind) = format.blocks() else {
            continue;
        };
        let (rows, columns) = (20, 512);
        let weights = numbers(9, rows * columns);
        let blocks: Vec<Vec<u8>> = weights
            .chunks(columns)
            .map(|row| kind.quantise(row))
            .collect();
        let mut pool = Pool::new(NonZeroUsize::new(2).unwrap());
        let read = |row: usize, to: &mut [f32]| {
            if row.is_multiple_of(3) {
                return Some(blocks[row].as_slice());
            }
            to.copy_from_slice(&weights[row * columns..][..columns]);
            None
        };
        let kept = Packed::of_blocks(format, rows, columns, &mut pool, &read);
        let made = packed(format, rows, columns, 9);
        let (mut found, mut wanted) = (vec![0.0; columns], vec![0.0; columns]);
        for row in 0..rows {
            kept.row(row, &mut found);
            made.row(row, &mut wanted);
            assert_eq!(found, wanted, "{format:?} {row}");
        }
    }
}

#[test]
fn quantised_weights_take_the_bytes_of_their_formats() {
    assert_eq!(packed(Format::Q8_0, 32, 64, 1).bytes(), 32 * 2 * 34);
    assert_eq!(packed(Format::Q4_0, 32, 64, 1).bytes(), 32 * 2 * 18);
    assert_eq!(packed(Format::Q5_0, 32, 64, 1).bytes(), 32 * 2 * 22);
    assert_eq!(packed(Format::Q4K, 32, 256, 1).bytes(), 32 * 148);
    assert_eq!(packed(Format::Q6K, 32, 256, 1).bytes(), 32 * 210);
}

#[test]
fn tiles_of_outputs_make_the_whole_with_bias_and_sum() {
    for format in FORMATS {
        let (outputs, columns) = (70, 256);
        let weights = packed(format, outputs, columns, 8);
        let rows = Rows::new(format, 5, columns);
        let products = multiply(Level::best(), &weights, rows.inputs(format), 5);
        let bias = numbers(10, outputs);
        let padded = Epilogue::padded(&bias);
        let mut out = vec![2.0; 5 * outputs];
        let mut pool = Pool::new(NonZeroUsize::new(3).unwrap());
        let tiles = Tiles::new(&mut out, outputs, 2, 32);
        pool.tiles(tiles, &mut [(); 3], |tile, ()| {
            let epilogue = Epilogue {
                bias: Some(&padded),
                add: true,
            };
            weights.multiply(Level::best(), rows.inputs(format), tile, epilogue);
        });
        for (index, (out, product)) in out.iter().zip(&products).enumerate() {
            assert_eq!(*out, (product + bias[index % outputs]) + 2.0);
        }
    }
}

#[test]
fn gated_blocks_are_what_their_parts_make() {
    for format in FORMATS {
        for (outputs, columns) in sizes(format) {
            for count in [1, 6] {
                let [gate, up] = [21, 22].map(|seed| packed(format, outputs, columns, seed));
                let rows = Rows::new(format, count, columns);
                let inputs = rows.inputs(format);
                let [gates, ups] =
                    [&gate, &up].map(|part| multiply(Level::best(), part, inputs, count));
                let biases = [numbers(31, outputs), numbers(32, outputs)];
                let of_rows = biases.each_ref().map(|bias| &bias[..]);
                let block = Gated::new(gate, up, Some(of_rows), Activation::Silu);
                let mut out = vec![0.0; count * outputs];
                block.plain(Level::best(), inputs, &mut Tile::whole(&mut out, outputs));
                for (index, &out) in out.iter().enumerate() {
                    let gate = gates[index] + biases[0][index % outputs];
                    let expected = gate / (1.0 + (-gate).exp());
                    let expected = expected * (ups[index] + biases[1][index % outputs]);
                    assert!(
                        (out - expected).abs() < 1e-4,
                        "{format:?}: {out} for {expected}"
                    );
                }
                let stride = outputs.div_ceil(BLOCK);
                let mut expected = vec![InputBlock::ZERO; count * stride];
                for (x, blocks) in out.chunks(outputs).zip(expected.chunks_mut(stride)) {
                    quantise(Level::best(), x, blocks);
                }
                let mut blocks = vec![InputBlock::ZERO; count * stride];
                block.quantised(Level::best(), inputs, &mut Tile::whole(&mut blocks, stride));
                assert_eq!(blocks, expected, "{format:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "weights of the format Q8_0 meet inputs of another")]
fn inputs_of_another_format_are_refused() {
    multiply(
        Level::best(),
        &packed(Format::Q8_0, 16, 32, 1),
        Inputs::Plain(&[0.0; 32]),
        1,
    );
}
