//! Dequantised blocks have the bits that the reference Python package gives.
//!
//! `cargo xtask reference` makes the fixtures.

use std::fs;
use std::path::{Path, PathBuf};

use vox_model::formats::gguf::{GgmlType, dequantise};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/blocks")
}

#[test]
fn every_quantised_type_is_dequantised_to_the_bits_of_the_reference() {
    let mut checked = Vec::new();
    for kind in GgmlType::all() {
        let Ok(blocks) = fs::read(fixtures().join(format!("{kind}.blocks"))) else {
            continue;
        };
        let expected = fs::read(fixtures().join(format!("{kind}.f32"))).unwrap();
        let mut values = Vec::new();
        assert!(dequantise(kind, &blocks, &mut values), "{kind}");
        let (expected, rest) = expected.as_chunks::<4>();
        assert!(rest.is_empty());
        assert_eq!(values.len(), expected.len(), "{kind}");
        for (at, (value, expected)) in values.iter().zip(expected).enumerate() {
            let expected = f32::from_le_bytes(*expected);
            assert_eq!(
                value.to_bits(),
                expected.to_bits(),
                "{kind}, element {at}: {value} and not {expected}"
            );
        }
        checked.push(kind);
    }
    let claimed = GgmlType::all().filter(|kind| kind.is_dequantised() && kind.is_quantised());
    for kind in claimed {
        assert!(checked.contains(&kind), "{kind} has no fixture");
    }
}

#[test]
fn what_is_not_quantised_is_converted_to_the_nearest_single() {
    let of = |kind, bytes: &[u8]| {
        let mut values = Vec::new();
        assert!(dequantise(kind, bytes, &mut values));
        values
    };
    assert_eq!(of(GgmlType::F64, &0.1_f64.to_le_bytes()), [0.1_f32]);
    assert_eq!(of(GgmlType::I8, &[0xff, 0x7f]), [-1.0, 127.0]);
    assert_eq!(of(GgmlType::I16, &i16::MIN.to_le_bytes()), [-32768.0]);
    assert_eq!(
        of(GgmlType::I32, &16_777_217_i32.to_le_bytes()),
        [16_777_216.0]
    );
    assert_eq!(
        of(GgmlType::I64, &i64::MIN.to_le_bytes()),
        [-9_223_372_036_854_775_808.0]
    );
    assert_eq!(of(GgmlType::F32, &1.5_f32.to_le_bytes()), [1.5]);
}
