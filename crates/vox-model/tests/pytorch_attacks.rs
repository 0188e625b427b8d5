//! Files that try to run something, to reach out of their bounds or to use up the machine: each is refused
//! by the error made for it.

use std::io::{Cursor, Write};

use proptest::prelude::*;
use vox_model::TensorSource;
use vox_model::formats::pytorch::{Error, Fault, MAX_MARKS, PyTorchFile};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A pickle, written instruction by instruction.
#[derive(Clone, Default)]
struct Pickle(Vec<u8>);

impl Pickle {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        let len = u32::try_from(text.len()).unwrap().to_le_bytes();
        self.raw(b"X").raw(&len).raw(text.as_bytes())
    }

    fn number(self, number: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&number.to_le_bytes())
    }

    fn numbers(self, numbers: &[i64]) -> Self {
        let marked = self.raw(b"(");
        numbers
            .iter()
            .fold(marked, |pickle, &number| pickle.number(number))
            .raw(b"t")
    }

    fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    fn storage(self, class: &str, key: &str, len: i64) -> Self {
        self.raw(b"(")
            .text("storage")
            .global("torch", class)
            .text(key)
            .text("cpu")
            .number(len)
            .raw(b"tQ")
    }

    /// A tensor of `key`, a storage of `len` floats.
    fn tensor(self, key: &str, len: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .storage("FloatStorage", key, len)
            .number(offset)
            .numbers(shape)
            .numbers(strides)
            .raw(&[0x89])
            .raw(b"NtR")
    }

    fn end(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// A state dict with the one tensor `w`.
fn one_tensor(key: &str, len: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let dict = Pickle::new().raw(b"}").text("w");
    dict.tensor(key, len, offset, shape, strides)
        .raw(b"s")
        .end()
}

fn archive(pickle: &[u8], entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    zip.start_file("archive/data.pkl", options).unwrap();
    zip.write_all(pickle).unwrap();
    for (name, bytes) in entries {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn stored(pickle: &[u8], entries: &[(&str, &[u8])]) -> Vec<u8> {
    archive(pickle, entries, CompressionMethod::Stored)
}

fn open(bytes: Vec<u8>) -> Result<PyTorchFile, Error> {
    PyTorchFile::read(Cursor::new(bytes), "attack.pt")
}

fn refusal(bytes: Vec<u8>) -> Fault {
    match open(bytes).unwrap_err() {
        Error::Refused { fault, .. } => *fault,
        other => panic!("{other}"),
    }
}

fn pickle_refusal(pickle: Pickle) -> Fault {
    refusal(stored(&pickle.end(), &[]))
}

fn assert_import(fault: &Fault, expected: &str) {
    match fault {
        Fault::Import { module, name, .. } => assert_eq!(format!("{module}.{name}"), expected),
        other => panic!("{other}"),
    }
}

#[test]
fn a_pickle_that_calls_os_system_is_refused_by_that_name() {
    let call = |module| {
        let pickle = Pickle::new().global(module, "system").text("echo owned");
        pickle.raw(&[0x85]).raw(b"R")
    };
    for module in ["os", "posix", "nt"] {
        assert_import(&pickle_refusal(call(module)), &format!("{module}.system"));
    }
    let message = pickle_refusal(call("os")).to_string();
    assert!(message.contains("import `os.system`"), "{message}");
    assert!(message.contains("executes nothing"), "{message}");
}

#[test]
fn names_near_the_allowed_ones_are_refused_too() {
    for (module, name) in [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch.serialization", "load"),
        ("torch", "os.FloatStorage"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("torch._utils", "_rebuild_wrapper_subclass"),
        ("collections", "OrderedDict.__reduce__"),
        ("torch.Storage", "FloatStorage"),
        ("numpy.core.multiarray", "_reconstruct"),
    ] {
        let fault = pickle_refusal(Pickle::new().global(module, name));
        assert_import(&fault, &format!("{module}.{name}"));
    }
}

#[test]
fn a_name_put_together_from_the_memo_is_seen_for_what_it_is() {
    let pickle = Pickle::new()
        .text("os")
        .raw(&[0x94])
        .raw(b"0")
        .text("system")
        .raw(&[0x94])
        .raw(b"0h\0h\x01\x93");
    assert_import(&pickle_refusal(pickle), "os.system");
    let pickle = Pickle::new().number(1).number(2).raw(&[0x93]);
    assert!(matches!(pickle_refusal(pickle), Fault::Pickle { .. }));
}

#[test]
fn instructions_that_torch_does_not_write_are_named() {
    for (bytes, expected, byte) in [
        (&b"(ios\nsystem\n"[..], "INST", b'i'),
        (b"(o", "OBJ", b'o'),
        (b"\x82\x01", "EXT1", 0x82),
        (b"\x83\x01\0", "EXT2", 0x83),
        (b"\x84\x01\0\0\0", "EXT4", 0x84),
        (b"Pstorage\n", "PERSID", b'P'),
        (b"\x92", "NEWOBJ_EX", 0x92),
        (b"\x97", "NEXT_BUFFER", 0x97),
        (b"I1\n", "INT", b'I'),
        (b"\xff", "unknown", 0xff),
    ] {
        match pickle_refusal(Pickle::new().raw(bytes)) {
            Fault::Opcode {
                name,
                byte: found,
                offset,
                ..
            } => {
                assert_eq!((name, found), (expected, byte));
                assert_eq!(offset, 2 + u64::from(bytes[0] == b'('));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn nothing_but_allowed_names_is_called_and_nothing_but_a_dictionary_has_a_state() {
    let calls = [
        Pickle::new().text("os.system").raw(b")R"),
        Pickle::new().global("torch", "FloatStorage").raw(b")R"),
        Pickle::new().global("torch", "float32").raw(b")R"),
        Pickle::new()
            .global("torch._utils", "_rebuild_tensor_v2")
            .raw(b")\x81"),
        Pickle::new().raw(b"]").text("__setstate__").raw(b"\x85b"),
        Pickle::new().raw(b"}").text("__setstate__").raw(b"b"),
        Pickle::new()
            .global("collections", "OrderedDict")
            .raw(b"}b"),
        Pickle::new().raw(b"}").number(1).raw(b"a"),
        Pickle::new().raw(b"]").number(1).number(1).raw(b"s"),
    ];
    for pickle in calls {
        let fault = pickle_refusal(pickle);
        assert!(matches!(fault, Fault::Action { .. }), "{fault}");
    }
}

#[test]
fn a_persistent_id_is_a_storage_or_refused() {
    let ids = [
        Pickle::new().text("0").raw(b"Q"),
        Pickle::new()
            .text("module")
            .text("x")
            .text("y")
            .raw(b"\x87Q"),
        Pickle::new().raw(b")Q"),
        Pickle::new().storage("FloatStorage", "0", -1),
        Pickle::new().storage("FloatStorage", "0", i64::MAX),
    ];
    for pickle in ids {
        let fault = pickle_refusal(pickle);
        assert!(matches!(fault, Fault::Pickle { .. }), "{fault}");
    }
}

#[test]
fn lengths_that_the_file_does_not_have_cost_nothing() {
    let huge = u32::MAX.to_le_bytes();
    let vast = u64::MAX.to_le_bytes();
    for (opcode, len) in [
        (0x8b, &huge[..]),
        (b'X', &huge),
        (b'T', &huge),
        (b'B', &huge),
        (0x8d, &vast),
        (0x8e, &vast),
        (0x95, &vast),
    ] {
        let fault = pickle_refusal(Pickle::new().raw(&[opcode]).raw(len));
        assert!(matches!(fault, Fault::Limit { .. }), "{fault}");
    }
    let fault = pickle_refusal(Pickle::new().raw(b"X\xff\xff\0\0abc"));
    assert!(matches!(fault, Fault::Truncated { .. }), "{fault}");
}

#[test]
fn deep_nests_and_values_that_contain_themselves_are_no_trouble() {
    let fault = pickle_refusal(Pickle::new().raw(&vec![b'('; MAX_MARKS + 1]));
    assert!(matches!(fault, Fault::Limit { .. }), "{fault}");

    let nested = Pickle::new()
        .raw(&vec![b']'; 100_000])
        .raw(&vec![b'a'; 99_999]);
    let fault = pickle_refusal(nested);
    assert!(
        matches!(fault, Fault::NoTensors { found: "a list" }),
        "{fault}"
    );

    // d = {}; d["a"] = d, and a list that holds itself twice, thirty times over.
    let own = Pickle::new().raw(b"}q\0").text("a").raw(b"h\0s");
    assert!(matches!(pickle_refusal(own), Fault::NoTensors { .. }));
    let laughs = (0..30).fold(Pickle::new().raw(b"]q\0"), |pickle, _| {
        pickle.raw(b"h\0ah\0a")
    });
    assert!(matches!(pickle_refusal(laughs), Fault::NoTensors { .. }));
}

#[test]
fn more_values_than_weights_have_are_refused_before_they_fill_the_memory() {
    let fault = refusal(archive(
        &Pickle::new().raw(&vec![b')'; 3 << 20]).end(),
        &[],
        CompressionMethod::Deflated,
    ));
    assert!(
        matches!(
            fault,
            Fault::Limit {
                what: "the values",
                ..
            }
        ),
        "{fault}"
    );
    let fault = refusal(archive(
        &Pickle::new().raw(b"]").raw(&vec![b'2'; 9 << 20]).end(),
        &[],
        CompressionMethod::Deflated,
    ));
    assert!(
        matches!(
            fault,
            Fault::Limit {
                what: "the values",
                ..
            }
        ),
        "{fault}"
    );
}

#[test]
fn a_large_value_that_is_named_again_and_again_is_not_copied_for_ever() {
    // A list of 100,000 pairs of which 10,000 dictionaries are to be made.
    let pair = Pickle::new().number(1).number(1).raw(b"\x86q\x010");
    let pairs = pair
        .raw(b"](")
        .raw(&b"h\x01".repeat(100_000))
        .raw(b"e\x85q\x020");
    let dict = Pickle::default()
        .global("collections", "OrderedDict")
        .raw(b"h\x02R0")
        .0;
    let pickle = pairs.raw(&dict.repeat(10_000));
    let fault = pickle_refusal(pickle);
    assert!(
        matches!(fault, Fault::Limit { .. } | Fault::Pickle { .. }),
        "{fault}"
    );

    let skipped = Pickle::new()
        .raw(b"}")
        .text("w")
        .tensor("0", 1, 0, &[1], &[1])
        .raw(b"s");
    let long = skipped.raw(b"(").text(&"n".repeat(1 << 20)).raw(b"q\0N");
    let pickle = long.raw(&b"h\0N".repeat(100_000)).raw(b"u").end();
    let file = open(stored(&pickle, &[("archive/data/0", &[0; 4])])).unwrap();
    assert_eq!(file.skipped().len(), 1000);
    let bytes: usize = file
        .skipped()
        .iter()
        .map(|skipped| skipped.name.len())
        .sum();
    assert!(bytes <= 200_000);
    assert_eq!(file.skipped()[999].name, "and 99002 more");

    let name = "n".repeat(1025);
    let long = Pickle::new()
        .raw(b"}")
        .text(&name)
        .tensor("0", 1, 0, &[1], &[1])
        .raw(b"s")
        .end();
    assert!(matches!(
        refusal(stored(&long, &[])),
        Fault::MissingStorage { .. }
    ));
    let fault = refusal(stored(&long, &[("archive/data/0", &[0; 4])]));
    assert!(matches!(fault, Fault::Archive { .. }), "{fault}");
    let import = Pickle::new().text(&name).text(&name).raw(b"\x93");
    assert!(matches!(pickle_refusal(import), Fault::Limit { .. }));
}

#[test]
fn what_python_2_wrote_is_read() {
    // Lists of pairs instead of items, and texts without an encoding.
    let pair = Pickle::new()
        .global("collections", "OrderedDict")
        .raw(b"](](U\x01w");
    let pickle = pair.tensor("0", 1, 0, &[1], &[1]).raw(b"ee\x85R").end();
    let file = open(stored(&pickle, &[("archive/data/0", &[0; 4])])).unwrap();
    assert_eq!(file.tensors()[0].name, "w");
}

#[test]
fn a_stack_that_runs_empty_is_an_error() {
    for bytes in [
        &b"."[..],
        b"0",
        b"R",
        b"t",
        b"e",
        b"h\x07",
        b"q\0",
        b"(0",
        b"\x87",
    ] {
        let fault = refusal(stored(&[&[0x80, 2], bytes].concat(), &[]));
        assert!(matches!(fault, Fault::Pickle { .. }), "{bytes:?} {fault}");
    }
    let fault = refusal(stored(&[0x80, 6, b'.'], &[]));
    assert!(matches!(fault, Fault::Pickle { .. }), "{fault}");
}

#[test]
fn a_storage_key_names_a_storage_and_nothing_else() {
    for key in ["../0", "a/b", "..", "0\\1", "", "C:0", "0\n"] {
        let fault = refusal(stored(&one_tensor(key, 1, 0, &[1], &[1]), &[]));
        assert!(matches!(fault, Fault::StorageKey { .. }), "{key:?} {fault}");
    }
}

#[test]
fn a_tensor_past_its_storage_is_refused() {
    let data: &[(&str, &[u8])] = &[("archive/data/0", &[0; 16])];
    for (offset, shape, strides) in [
        (0, &[5][..], &[1][..]),
        (1, &[4], &[1]),
        (0, &[2, 2], &[3, 1]),
        (4, &[1], &[1]),
        (i64::MAX, &[2], &[1]),
    ] {
        let fault = refusal(stored(&one_tensor("0", 4, offset, shape, strides), data));
        assert!(
            matches!(fault, Fault::OutOfBounds { .. }),
            "{shape:?} {fault}"
        );
    }
    let whole = open(stored(&one_tensor("0", 4, 0, &[4], &[1]), data)).unwrap();
    assert_eq!(whole.tensors()[0].byte_len(), Some(16));
}

#[test]
fn sizes_that_are_negative_or_overflow_are_refused() {
    for (offset, shape, strides) in [
        (-1, &[1][..], &[1][..]),
        (0, &[-1], &[1]),
        (0, &[2], &[-1]),
        (0, &[2, 2], &[1]),
        (0, &[i64::MAX, i64::MAX], &[i64::MAX, 1]),
        (0, &[i64::MAX, i64::MAX], &[0, 0]),
        (0, &[1; 17], &[1; 17]),
    ] {
        let fault = refusal(stored(&one_tensor("0", 4, offset, shape, strides), &[]));
        assert!(matches!(fault, Fault::Tensor { .. }), "{shape:?} {fault}");
    }
}

#[test]
fn one_element_does_not_become_a_terabyte() {
    let pickle = one_tensor("0", 1, 0, &[1 << 20, 1 << 18], &[0, 0]);
    let fault = refusal(stored(&pickle, &[("archive/data/0", &[0; 4])]));
    assert!(matches!(fault, Fault::Expansion { .. }), "{fault}");
}

#[test]
fn data_that_is_missing_short_or_described_twice_is_refused() {
    let pickle = one_tensor("0", 4, 0, &[4], &[1]);
    let fault = refusal(stored(&pickle, &[]));
    assert!(matches!(fault, Fault::MissingStorage { .. }), "{fault}");
    let fault = refusal(stored(&pickle, &[("archive/data/0", &[0; 15])]));
    assert!(
        matches!(
            fault,
            Fault::StorageSize {
                expected: 16,
                found: 15,
                ..
            }
        ),
        "{fault}"
    );
    let twice = Pickle::new()
        .storage("FloatStorage", "0", 4)
        .storage("HalfStorage", "0", 8);
    let fault = pickle_refusal(twice);
    assert!(matches!(fault, Fault::StorageDisagrees { .. }), "{fault}");
}

#[test]
fn two_tensors_of_one_name_are_refused() {
    let pickle = Pickle::new().raw(b"}");
    let pickle = pickle.text("w").tensor("0", 1, 0, &[1], &[1]).raw(b"s");
    let pickle = pickle.text("w").tensor("1", 1, 0, &[1], &[1]).raw(b"s");
    let data: &[(&str, &[u8])] = &[("archive/data/0", &[0; 4]), ("archive/data/1", &[1; 4])];
    let fault = refusal(stored(&pickle.end(), data));
    assert!(matches!(fault, Fault::DuplicateName { .. }), "{fault}");
}

#[test]
fn two_entries_of_one_name_are_refused() {
    let pickle = one_tensor("0", 1, 0, &[1], &[1]);
    let mut bytes = stored(
        &pickle,
        &[("archive/data/0", &[0; 4]), ("archive/data/1", &[1; 4])],
    );
    // The writer refuses to make such a file, so the second name is changed afterwards.
    let name = b"archive/data/1";
    while let Some(at) = bytes.windows(name.len()).position(|window| window == name) {
        bytes[at + name.len() - 1] = b'0';
    }
    let fault = refusal(bytes);
    assert!(matches!(fault, Fault::DuplicateEntry), "{fault}");
}

#[test]
fn a_few_bytes_do_not_unpack_to_very_many() {
    let len = 65 << 20;
    let pickle = one_tensor("0", len / 4, 0, &[len / 4], &[1]);
    let zeros = vec![0; usize::try_from(len).unwrap()];
    let bytes = archive(
        &pickle,
        &[("archive/data/0", &zeros)],
        CompressionMethod::Deflated,
    );
    let fault = refusal(bytes);
    assert!(matches!(fault, Fault::Bomb { .. }), "{fault}");
}

#[test]
fn storages_that_lie_on_top_of_each_other_are_refused() {
    const LEN: u32 = 100_000;
    let count = i64::from(LEN / 4);
    let pickle = Pickle::new().raw(b"}");
    let pickle = pickle
        .text("a")
        .tensor("0", count, 0, &[count], &[1])
        .raw(b"s");
    let pickle = pickle
        .text("b")
        .tensor("1", count, 0, &[count], &[1])
        .raw(b"s");
    let data = vec![1; LEN as usize];
    let mut bytes = stored(
        &pickle.end(),
        &[("archive/data/0", &data), ("archive/data/1", &[0; 4])],
    );
    // The second entry of the directory is made to speak of the first one's data.
    let name = b"archive/data/";
    let mut at: Vec<usize> = (0..bytes.len() - name.len())
        .filter(|&at| bytes[at..].starts_with(name))
        .collect();
    let second = at.pop().unwrap() - 46;
    let first = at.pop().unwrap() - 46;
    assert!(bytes[second..].starts_with(b"PK\x01\x02"));
    for field in [20, 24] {
        bytes[second + field..second + field + 4].copy_from_slice(&LEN.to_le_bytes());
    }
    bytes.copy_within(first + 42..first + 46, second + 42);
    let fault = refusal(bytes);
    assert!(matches!(fault, Fault::Archive { .. }), "{fault}");
    assert!(fault.to_string().contains("overlap"), "{fault}");
}

#[test]
fn compressed_storages_are_read_and_a_flipped_bit_in_any_storage_is_found() {
    let data: Vec<u8> = (0..64).collect();
    let pickle = one_tensor("0", 16, 0, &[16], &[1]);
    let packed = archive(
        &pickle,
        &[("archive/data/0", &data)],
        CompressionMethod::Deflated,
    );
    let mut read = Vec::new();
    open(packed).unwrap().write_tensor(0, &mut read).unwrap();
    assert_eq!(read, data);

    let mut damaged = stored(&pickle, &[("archive/data/0", &data)]);
    let at = damaged
        .windows(64)
        .position(|window| window == data)
        .unwrap();
    damaged[at + 40] ^= 1;
    let error = open(damaged)
        .unwrap()
        .write_tensor(0, &mut Vec::new())
        .unwrap_err();
    let error = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<Error>());
    assert!(
        matches!(error.and_then(Error::fault), Some(Fault::Checksum { .. })),
        "{error:?}"
    );
}

#[test]
fn big_endian_numbers_tar_archives_and_other_files_are_refused() {
    let pickle = one_tensor("0", 1, 0, &[1], &[1]);
    let with_order = |order: &'static [u8]| {
        stored(
            &pickle,
            &[("archive/data/0", &[0; 4]), ("archive/byteorder", order)],
        )
    };
    assert!(open(with_order(b"little")).is_ok());
    assert!(matches!(refusal(with_order(b"big")), Fault::BigEndian));
    assert!(matches!(
        refusal(with_order(b"middle")),
        Fault::Archive { .. }
    ));

    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    assert!(matches!(refusal(tar), Fault::Tar));
    assert!(matches!(refusal(b"GGUF".to_vec()), Fault::NotPyTorch));
    assert!(matches!(refusal(Vec::new()), Fault::NotPyTorch));
    assert!(matches!(
        refusal(b"PK\x03\x04 and nothing else".to_vec()),
        Fault::Zip(_)
    ));
}

/// The old format with this state dict, these keys and what follows.
fn legacy(pickle: &[u8], keys: &[&str], data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec();
    bytes.extend_from_slice(b"\x80\x02M\xe9\x03.");
    bytes.extend(
        Pickle::new()
            .raw(b"}")
            .text("little_endian")
            .raw(b"\x88s")
            .end(),
    );
    bytes.extend_from_slice(pickle);
    let keys = keys.iter().fold(Pickle::new().raw(b"]"), |pickle, key| {
        pickle.text(key).raw(b"a")
    });
    bytes.extend(keys.end());
    bytes.extend_from_slice(data);
    bytes
}

#[test]
fn the_old_format_is_held_to_the_same() {
    let pickle = one_tensor("0", 2, 0, &[2], &[1]);
    let data = [&2_u64.to_le_bytes()[..], &[7; 8]].concat();
    let mut read = Vec::new();
    let file = open(legacy(&pickle, &["0"], &data)).unwrap();
    file.write_tensor(0, &mut read).unwrap();
    assert_eq!(read, [7; 8]);

    let fault = refusal(legacy(&pickle, &[], &data));
    assert!(matches!(fault, Fault::MissingStorage { .. }), "{fault}");
    let fault = refusal(legacy(&pickle, &["0"], &[]));
    assert!(matches!(fault, Fault::MissingStorage { .. }), "{fault}");
    let fault = refusal(legacy(&pickle, &["0"], &data[..12]));
    assert!(
        matches!(fault, Fault::StorageSize { found: 4, .. }),
        "{fault}"
    );
    let lying = [&u64::MAX.to_le_bytes()[..], &[7; 8]].concat();
    let fault = refusal(legacy(&pickle, &["0"], &lying));
    assert!(matches!(fault, Fault::StorageSize { .. }), "{fault}");
    let fault = refusal(legacy(&pickle, &["1"], &data));
    assert!(matches!(fault, Fault::Archive { .. }), "{fault}");
    let call = Pickle::new()
        .global("os", "system")
        .text("echo")
        .raw(b"\x85R")
        .end();
    assert_import(&refusal(legacy(&call, &[], &[])), "os.system");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_pickles_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = open(stored(&bytes, &[("archive/data/0", &[0; 64])]));
        let _ = open(legacy(&bytes, &["0"], &[0; 64]));
    }

    #[test]
    fn a_damaged_file_is_read_or_refused_and_never_panics(
        at in 0_usize..6000,
        with: u8,
        file in prop::sample::select(vec!["zip.pt", "zip-protocol-4.pt", "legacy.pt", "checkpoint.pt"]),
    ) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pytorch/");
        let mut bytes = std::fs::read(format!("{folder}{file}")).unwrap();
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(file) = open(bytes) {
            for index in 0..file.tensors().len() {
                let mut out = Vec::new();
                if file.write_tensor(index, &mut out).is_ok() {
                    prop_assert_eq!(Some(out.len() as u64), file.tensors()[index].byte_len());
                }
            }
        }
    }
}
