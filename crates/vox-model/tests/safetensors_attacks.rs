//! SafeTensors files that somebody made to be read wrongly.

use std::fs;

use proptest::prelude::*;
use vox_model::Dtype;
use vox_model::formats::safetensors::{
    Header, HeaderFault, MAX_HEADER_BYTES, SafeTensors, SafeTensorsError, ShardIndex,
};

/// A file of this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn parse(bytes: &[u8]) -> Result<Header, HeaderFault> {
    Header::parse(bytes, bytes.len() as u64)
}

fn fault(header: &str, data: usize) -> HeaderFault {
    parse(&file(header, data)).unwrap_err()
}

#[test]
fn a_file_without_room_for_a_header_is_refused() {
    for len in 0..8 {
        let found = parse(&vec![0; len]).unwrap_err();
        assert_eq!(found, HeaderFault::Truncated { len: len as u64 });
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.safetensors");
    fs::write(&path, b"1234").unwrap();
    let found = SafeTensors::open(&path).unwrap_err();
    assert!(matches!(
        found,
        SafeTensorsError::File {
            fault: HeaderFault::Truncated { len: 4 },
            ..
        }
    ));
}

#[test]
fn a_header_longer_than_the_file_is_refused() {
    let mut bytes = file("{}", 0);
    bytes[0] = 3;
    let expected = HeaderFault::LongerThanFile {
        header: 3,
        file: 10,
    };
    assert_eq!(parse(&bytes).unwrap_err(), expected);
}

#[test]
fn a_huge_header_is_refused_before_room_is_made_for_it() {
    for claimed in [MAX_HEADER_BYTES + 1, 1 << 40, u64::MAX] {
        let found = Header::parse(&claimed.to_le_bytes(), u64::MAX).unwrap_err();
        assert_eq!(found, HeaderFault::TooLarge { bytes: claimed });
    }
}

#[test]
fn a_header_that_is_not_text_or_no_object_is_refused() {
    let mut bytes = file("{  }", 0);
    bytes[10] = 0xff;
    assert_eq!(parse(&bytes).unwrap_err(), HeaderFault::NotUtf8 { at: 2 });
    for header in ["", " {}", "[]", "null"] {
        assert_eq!(fault(header, 0), HeaderFault::NotAnObject);
    }
    for header in ["{", "{}}", "{} x", "{\"a\":1}", "{\"a\":{}}"] {
        assert!(
            matches!(fault(header, 0), HeaderFault::Json { .. }),
            "{header}"
        );
    }
}

#[test]
fn nan_and_infinities_are_refused_with_their_place() {
    for value in ["NaN", "Infinity", "-Infinity"] {
        let header = format!("{{\"__metadata__\":{{\"a\":{value}}}}}");
        match fault(&header, 0) {
            HeaderFault::Json { line, column, .. } => {
                assert_eq!(line, 1);
                assert!((21..=24).contains(&column), "{column}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn metadata_that_are_no_text_are_refused_by_name() {
    for value in ["1", "1e999", "null", "[]", "{\"b\":\"c\"}", "true"] {
        let header = format!("{{\"__metadata__\":{{\"loss\":{value}}}}}");
        let found = fault(&header, 0);
        let named = found
            == HeaderFault::MetadataNotText {
                key: "loss".to_owned(),
            };
        // A number that no float holds is an error of the JSON already.
        assert!(named || (value == "1e999" && matches!(found, HeaderFault::Json { .. })));
    }
}

#[test]
fn what_stands_twice_is_refused_by_name() {
    let tensor = r#"{"dtype":"U8","shape":[1],"data_offsets":[0,1]}"#;
    let twice = format!("{{\"a\":{tensor},\"a\":{tensor}}}");
    let expected = HeaderFault::DuplicateTensor {
        name: "a".to_owned(),
    };
    assert_eq!(fault(&twice, 1), expected);
    let escaped = format!("{{\"a\":{tensor},\"\\u0061\":{tensor}}}");
    assert_eq!(fault(&escaped, 1), expected);
    let key = |key: &str| HeaderFault::DuplicateMetadata {
        key: key.to_owned(),
    };
    let found = fault(r#"{"__metadata__":{"a":"1","a":"1"}}"#, 0);
    assert_eq!(found, key("a"));
    let found = fault(r#"{"__metadata__":{},"__metadata__":{}}"#, 0);
    assert_eq!(found, key("__metadata__"));
    let field = r#"{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#;
    assert!(matches!(fault(field, 1), HeaderFault::Json { .. }));
}

/// A header of tensors of bytes, named a, b, ... with these offsets.
fn bytes_at(offsets: &[(u64, u64)]) -> String {
    let tensors = offsets.iter().zip('a'..).map(|((begin, end), name)| {
        let len = end - begin;
        format!(r#""{name}":{{"dtype":"U8","shape":[{len}],"data_offsets":[{begin},{end}]}}"#)
    });
    format!("{{{}}}", tensors.collect::<Vec<_>>().join(","))
}

#[test]
fn data_that_overlap_have_holes_or_pass_the_end_are_refused() {
    let overlap = HeaderFault::Overlap {
        first: "a".to_owned(),
        second: "b".to_owned(),
    };
    assert_eq!(fault(&bytes_at(&[(0, 4), (3, 5)]), 5), overlap);
    assert_eq!(fault(&bytes_at(&[(0, 4), (0, 4)]), 4), overlap);
    let hole = |tensor: &str, bytes| HeaderFault::Hole {
        tensor: tensor.to_owned(),
        bytes,
    };
    assert_eq!(fault(&bytes_at(&[(0, 4), (6, 8)]), 8), hole("b", 2));
    assert_eq!(fault(&bytes_at(&[(1, 4)]), 4), hole("a", 1));
    let end = HeaderFault::OutOfBounds {
        tensor: "a".to_owned(),
        end: 4,
        available: 3,
    };
    assert_eq!(fault(&bytes_at(&[(0, 4)]), 3), end);
    let trailing = HeaderFault::TrailingBytes { bytes: 2 };
    assert_eq!(fault(&bytes_at(&[(0, 4)]), 6), trailing);
    assert_eq!(fault("{}", 2), trailing);
}

#[test]
fn sizes_that_contradict_the_shape_or_pass_64_bits_are_refused() {
    let found = fault(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        4,
    );
    assert!(matches!(found, HeaderFault::SizeMismatch { needed: 8, .. }));
    let found = fault(
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#,
        8,
    );
    assert!(matches!(found, HeaderFault::SizeMismatch { .. }));
    for shape in ["[18446744073709551615,2]", "[4611686018427387904]"] {
        let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#);
        let expected = HeaderFault::SizeOverflow {
            tensor: "a".to_owned(),
        };
        assert_eq!(fault(&header, 0), expected);
    }
    let shape = vec!["1"; 65].join(",");
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,1]}}}}"#);
    assert!(matches!(
        fault(&header, 1),
        HeaderFault::TooManyDimensions { .. }
    ));
    let found = fault(
        r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#,
        1,
    );
    assert!(matches!(found, HeaderFault::Json { .. }));
}

#[test]
fn an_unknown_type_is_refused_by_name_and_shown_escaped() {
    let header = r#"{"a\n":{"dtype":"F4\u001b","shape":[2],"data_offsets":[0,1]}}"#;
    let found = fault(header, 1);
    assert!(matches!(found, HeaderFault::UnknownDtype { .. }));
    assert!(!found.to_string().contains(char::is_control), "{found}");
}

#[test]
fn tensors_without_elements_may_share_a_place() {
    let header = r#"{
        "a":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},
        "b":{"dtype":"U8","shape":[],"data_offsets":[0,1]},
        "c":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}"#;
    let header = parse(&file(header.trim(), 1)).unwrap();
    assert_eq!(header.tensors().len(), 3);
    assert_eq!(header.tensors()[1].dtype, Dtype::U8);
}

#[test]
fn an_index_that_leads_elsewhere_or_names_a_tensor_twice_is_refused() {
    for file in [
        "../a.safetensors",
        "/etc/passwd",
        "a\\b",
        "..",
        "",
        "c:d",
        "a/b",
    ] {
        let index = serde_json::json!({"weight_map": {"t": file}}).to_string();
        let found = ShardIndex::parse(index.as_bytes()).unwrap_err();
        assert!(matches!(found, SafeTensorsError::Index { .. }), "{file}");
    }
    for index in [
        r#"{"weight_map":{"t":"a","t":"b"}}"#,
        r#"{"weight_map":{"t":1}}"#,
        r#"{"metadata":{}}"#,
        r#"{"weight_map":{},"weight_map":{}}"#,
        "nothing",
    ] {
        let found = ShardIndex::parse(index.as_bytes()).unwrap_err();
        assert!(matches!(found, SafeTensorsError::Index { .. }), "{index}");
    }
    let float = r#"{"metadata":{"total_size":1.5e3},"weight_map":{"t":"a"}}"#;
    assert_eq!(
        ShardIndex::parse(float.as_bytes()).unwrap().total_size(),
        None
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes);
        let _ = Header::parse(&bytes, u64::MAX);
        let _ = ShardIndex::parse(&bytes);
    }

    #[test]
    fn no_change_of_a_valid_file_makes_the_reader_panic_or_accept_other_data(
        at in 0..90_usize, byte in any::<u8>(),
    ) {
        let mut bytes = file(&bytes_at(&[(0, 4), (4, 9)]), 9);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(header) = parse(&bytes) {
            let lens = header.tensors().iter().map(|tensor| tensor.byte_len().unwrap());
            prop_assert_eq!(header.data_offset() + lens.sum::<u64>(), bytes.len() as u64);
        }
    }
}
