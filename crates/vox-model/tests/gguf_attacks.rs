//! GGUF files that somebody made to be read wrongly.

use std::fs;
use std::io::Write as _;

use proptest::prelude::*;
use vox_model::formats::gguf::{
    GgmlType, Gguf, GgufError, GgufFault, GgufModel, Header, Precision,
};

/// A file that is put together piece by piece.
#[derive(Clone)]
struct Forged(Vec<u8>);

impl Forged {
    fn new(tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).bytes(text.as_bytes())
    }

    fn key_u32(self, key: &str, value: u32) -> Self {
        self.text(key).u32(4).u32(value)
    }

    fn tensor(self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let tensor = self.text(name).u32(shape.len() as u32);
        let tensor = shape.iter().fold(tensor, |tensor, &size| tensor.u64(size));
        tensor.u32(kind).u64(offset)
    }

    /// Data to the next multiple of 32, and so many bytes.
    fn data(mut self, len: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + len, 0);
        self
    }

    fn parse(&self) -> Result<Header, GgufFault> {
        Header::parse(&self.0, self.0.len() as u64)
    }

    fn fault(&self) -> GgufFault {
        self.parse().unwrap_err()
    }
}

#[test]
fn another_format_an_old_version_and_big_endian_are_refused_by_name() {
    let magic = Forged(b"GGML".to_vec()).u32(3).fault();
    assert_eq!(magic, GgufFault::Magic { found: *b"GGML" });
    for version in [0, 1, 4, 99] {
        let found = Forged(b"GGUF".to_vec()).u32(version).fault();
        assert_eq!(found, GgufFault::Version { version });
    }
    for version in [2, 3_u32] {
        let found = Forged(b"GGUF".to_vec()).u32(version.swap_bytes()).fault();
        assert_eq!(found, GgufFault::BigEndian);
    }
}

#[test]
fn a_file_cut_anywhere_in_its_header_is_refused() {
    let whole = Forged::new(1, 2)
        .key_u32("a", 1)
        .text("b")
        .u32(9)
        .u32(8)
        .u64(1)
        .text("x")
        .tensor("t", &[4], 0, 0);
    let len = whole.clone().data(16).parse().unwrap().data_offset();
    assert_eq!(len % 32, 0);
    for len in 0..whole.0.len() {
        let found = Forged(whole.0[..len].to_vec()).fault();
        assert!(
            matches!(
                found,
                GgufFault::Truncated { .. }
                    | GgufFault::Count { .. }
                    | GgufFault::TextTooLong { .. }
            ),
            "{len}: {found}"
        );
    }
}

#[test]
fn absurd_counts_are_refused_before_room_is_made_for_them() {
    for count in [1 << 20, 1 << 40, u64::MAX / 2, u64::MAX] {
        for forged in [Forged::new(count, 0), Forged::new(0, count)] {
            assert!(matches!(forged.fault(), GgufFault::Count { .. }));
            // Nor when the file is said to have room.
            let found = Header::parse(&forged.0, u64::MAX).unwrap_err();
            assert!(
                matches!(found, GgufFault::Count { .. } | GgufFault::Truncated { .. }),
                "{found}"
            );
        }
        for kind in 0..13 {
            let list = Forged::new(0, 1).text("a").u32(9).u32(kind).u64(count);
            assert!(matches!(list.fault(), GgufFault::Count { .. }), "{kind}");
        }
    }
}

#[test]
fn texts_past_the_end_are_refused() {
    for len in [9, 1 << 30, u64::MAX] {
        let key = Forged::new(0, 1).u64(len).bytes(b"12345678");
        assert!(matches!(key.fault(), GgufFault::TextTooLong { .. }) || len == 9);
        let value = Forged::new(0, 1)
            .text("a")
            .u32(8)
            .u64(len)
            .bytes(b"12345678");
        assert!(matches!(value.fault(), GgufFault::TextTooLong { .. }));
    }
}

#[test]
fn texts_that_are_not_utf8_are_refused_with_their_key() {
    let forged = Forged::new(0, 1)
        .text("the.key")
        .u32(8)
        .u64(2)
        .bytes(b"a\xff");
    let found = forged.fault();
    assert!(matches!(found, GgufFault::NotUtf8 { at: 1, .. }));
    assert!(found.to_string().contains("the.key"), "{found}");
}

#[test]
fn values_of_no_type_are_refused_with_their_key() {
    let key = "a".to_owned();
    let found = Forged::new(0, 1).text("a").u32(13).u64(0).fault();
    let expected = GgufFault::ValueType {
        key: key.clone(),
        number: 13,
    };
    assert_eq!(found, expected);
    let found = Forged::new(0, 1).text("a").u32(9).u32(99).u64(0).fault();
    assert!(matches!(found, GgufFault::ValueType { number: 99, .. }));
    let found = Forged::new(0, 1).text("a").u32(7).bytes(&[2]).fault();
    assert_eq!(found, GgufFault::Bool { key, found: 2 });
    let mut nested = Forged::new(0, 1).text("a").u32(9);
    for _ in 0..64 {
        nested = nested.u32(9).u64(1);
    }
    assert!(matches!(nested.fault(), GgufFault::Nesting { .. }));
}

#[test]
fn what_stands_twice_is_refused_by_name() {
    let found = Forged::new(0, 2).key_u32("a", 1).key_u32("a", 1).fault();
    assert_eq!(
        found,
        GgufFault::DuplicateKey {
            key: "a".to_owned()
        }
    );
    let twice = Forged::new(2, 0)
        .tensor("t", &[8], 0, 0)
        .tensor("t", &[8], 0, 32);
    let expected = GgufFault::DuplicateTensor {
        name: "t".to_owned(),
    };
    assert_eq!(twice.data(64).fault(), expected);
}

#[test]
fn alignments_that_are_no_power_of_two_are_refused() {
    for alignment in [0, 3, 33, u32::MAX] {
        let found = Forged::new(0, 1).key_u32("general.alignment", alignment);
        assert_eq!(found.fault(), GgufFault::Alignment { alignment });
    }
    let text = Forged::new(0, 1)
        .text("general.alignment")
        .u32(8)
        .text("32");
    assert!(matches!(text.fault(), GgufFault::WrongValue { .. }));
}

#[test]
fn places_that_overlap_pass_the_end_or_are_unaligned_are_refused() {
    let overlap = Forged::new(2, 0)
        .tensor("a", &[9], 0, 0)
        .tensor("b", &[8], 0, 32);
    let expected = GgufFault::Overlap {
        first: "a".to_owned(),
        second: "b".to_owned(),
    };
    assert_eq!(overlap.data(64).fault(), expected);
    let same = Forged::new(2, 0)
        .tensor("a", &[8], 0, 0)
        .tensor("b", &[8], 0, 0);
    assert_eq!(same.data(64).fault(), expected);
    let end = Forged::new(1, 0).tensor("a", &[8], 0, 0).data(31);
    assert!(matches!(end.fault(), GgufFault::OutOfBounds { .. }));
    let far = Forged::new(1, 0)
        .tensor("a", &[8], 0, u64::MAX - 31)
        .data(64);
    assert!(matches!(far.fault(), GgufFault::SizeOverflow { .. }));
    let unaligned = Forged::new(1, 0).tensor("a", &[8], 0, 8).data(64);
    assert!(matches!(unaligned.fault(), GgufFault::Unaligned { .. }));
}

#[test]
fn shapes_that_no_tensor_has_are_refused() {
    let found = Forged::new(1, 0)
        .tensor("a", &[1; 5], 0, 0)
        .data(64)
        .fault();
    assert!(matches!(found, GgufFault::Dimensions { count: 5, .. }));
    for shape in [[1 << 40, 1 << 40], [u64::MAX, 0], [u64::MAX, 1]] {
        let found = Forged::new(1, 0).tensor("a", &shape, 0, 0).data(64).fault();
        assert!(matches!(found, GgufFault::SizeOverflow { .. }), "{shape:?}");
    }
    let found = Forged::new(1, 0).tensor("a", &[33], 2, 0).data(64).fault();
    let expected = GgufFault::PartialBlock {
        tensor: "a".to_owned(),
        kind: GgmlType::Q4_0,
        row: 33,
    };
    assert_eq!(found, expected);
    // 4 and 5 are types that were removed.
    for number in [4, 5, 36, u32::MAX] {
        let found = Forged::new(1, 0)
            .tensor("a", &[32], number, 0)
            .data(64)
            .fault();
        let tensor = "a".to_owned();
        assert_eq!(found, GgufFault::TensorType { tensor, number });
    }
}

#[test]
fn what_a_file_says_is_shown_without_its_control_characters() {
    let found = Forged::new(0, 1).text("\u{1b}[2J").u32(77).fault();
    assert!(!found.to_string().contains(char::is_control), "{found}");
}

/// A tiny model of an architecture, with these tensors of one row of 32.
fn model(architecture: &str, tensors: &[(&str, u32)]) -> Result<GgufModel, GgufFault> {
    let keys = [
        ("block_count", 1),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("embedding_length", 32),
    ];
    let mut forged = Forged::new(tensors.len() as u64, 1 + keys.len() as u64)
        .text("general.architecture")
        .u32(8)
        .text(architecture);
    for (key, value) in keys {
        forged = forged.key_u32(&format!("{architecture}.{key}"), value);
    }
    let mut offset = 0;
    for (name, kind) in tensors {
        forged = forged.tensor(name, &[256], *kind, offset);
        offset += 1024;
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let forged = forged.data(usize::try_from(offset).unwrap());
    file.write_all(&forged.0).unwrap();
    match GgufModel::open(file.path(), Precision::F32) {
        Ok(model) => Ok(model),
        Err(GgufError::File { fault, .. }) => Err(fault),
        Err(other) => panic!("{other}"),
    }
}

const LLAMA: [&str; 11] = [
    "token_embd.weight",
    "output_norm.weight",
    "blk.0.attn_norm.weight",
    "blk.0.attn_q.weight",
    "blk.0.attn_k.weight",
    "blk.0.attn_v.weight",
    "blk.0.attn_output.weight",
    "blk.0.ffn_norm.weight",
    "blk.0.ffn_gate.weight",
    "blk.0.ffn_up.weight",
    "blk.0.ffn_down.weight",
];

#[test]
fn an_architecture_that_is_not_known_is_refused_with_those_that_are() {
    let found = model("mamba\n", &[]).unwrap_err();
    assert!(matches!(found, GgufFault::Architecture { .. }));
    let text = found.to_string();
    assert!(
        text.contains("llama, qwen2, qwen3, gemma, gemma2, gemma3"),
        "{text}"
    );
    assert!(!text.contains('\n'));
}

#[test]
fn tensors_that_are_missing_unknown_or_of_other_layers_are_refused_by_name() {
    let all = LLAMA.map(|name| (name, 0));
    model("llama", &all).unwrap();
    let found = model("llama", &all[1..]).unwrap_err();
    let tensor = LLAMA[0].to_owned();
    assert_eq!(found, GgufFault::MissingTensor { tensor });
    for name in [
        "blk.0.ffn_gate_exps.weight",
        "blk.1.attn_q.weight",
        "blk.00.attn_q.weight",
        "blk.+0.attn_q.weight",
        "blk.0.attn_q.scale",
        "blk.0.attn_norm.bias",
        "blk..attn_q.weight",
        "vision.weight",
        "",
    ] {
        let mut tensors = all.to_vec();
        tensors.push((name, 0));
        let found = model("llama", &tensors).unwrap_err();
        assert!(
            matches!(found, GgufFault::UnknownTensor { .. }),
            "{name}: {found}"
        );
    }
}

#[test]
fn one_part_of_a_split_model_is_refused() {
    let forged = Forged::new(0, 2)
        .text("general.architecture")
        .u32(8)
        .text("llama")
        .key_u32("split.count", 2);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&forged.0).unwrap();
    let found = GgufModel::open(file.path(), Precision::F32).unwrap_err();
    assert!(found.to_string().contains("--merge"), "{found}");
}

#[test]
fn types_that_are_not_dequantised_are_refused_by_name_with_a_way_out() {
    let mut tensors = LLAMA.map(|name| (name, 0));
    tensors[8].1 = GgmlType::IQ2_XXS.number();
    let found = model("llama", &tensors).unwrap_err();
    let expected = GgufFault::NotDequantised {
        tensor: LLAMA[8].to_owned(),
        kind: GgmlType::IQ2_XXS,
    };
    assert_eq!(found, expected);
    assert!(found.to_string().contains("keep the model quantised"));
}

#[test]
fn heads_that_do_not_divide_the_rows_are_refused() {
    let forged = Forged::new(1, 0).tensor("a", &[32, 3], 0, 0).data(384);
    let header = forged.parse().unwrap();
    assert_eq!(header.tensors()[0].rows(), 3);
    // One row of queries for two heads.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.gguf");
    let mut forged = Forged::new(LLAMA.len() as u64, 3)
        .text("general.architecture")
        .u32(8)
        .text("llama")
        .key_u32("llama.block_count", 1)
        .key_u32("llama.attention.head_count", 2);
    for (number, name) in LLAMA.iter().enumerate() {
        forged = forged.tensor(name, &[32, 3], 0, number as u64 * 384);
    }
    fs::write(&path, forged.data(384 * LLAMA.len()).0).unwrap();
    let found = GgufModel::open(&path, Precision::F32).unwrap_err();
    assert!(matches!(
        found,
        GgufError::File {
            fault: GgufFault::Heads {
                rows: 3,
                heads: 2,
                ..
            },
            ..
        }
    ));
}

#[test]
fn a_file_that_shrinks_after_it_was_opened_is_an_error_and_no_silence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.gguf");
    fs::write(&path, Forged::new(1, 0).tensor("a", &[8], 0, 0).data(32).0).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(70)
        .unwrap();
    let error = gguf.read_f32(&gguf.tensors()[0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

fn fixture() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/gguf/qwen2.gguf"
    );
    fs::read(path).unwrap()
}

/// Everything that is made of a file's metadata.
fn use_all(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    if let Ok(model) = GgufModel::open(file.path(), Precision::F32) {
        let _ = model.config();
        let _ = model.tokenizer();
        let _ = model.tokenizer_config();
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = Forged(bytes.clone()).parse();
        let framed = Forged(b"GGUF".to_vec()).u32(3).bytes(&bytes);
        let _ = framed.parse();
        let _ = Header::parse(&framed.0, u64::MAX);
    }

    #[test]
    fn no_change_of_a_valid_file_makes_anything_panic(
        changes in proptest::collection::vec((0..9000_usize, any::<u8>()), 1..4),
    ) {
        let mut bytes = fixture();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        use_all(&bytes);
    }
}
