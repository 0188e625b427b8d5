//! Whole files, against what Python's standard library and the `csv` crate make of them.

use proptest::collection::vec;
use proptest::prelude::*;
use vox_plugin::decode::Memory;
use vox_plugin::serde_json::{Value, json};
use vox_plugin::{Chunk, Error};

use super::*;

fn read(file: impl Into<Vec<u8>>, arguments: Value) -> Result<Vec<Chunk>> {
    let memory = Memory::new(file);
    let plan = Plan::new(&arguments.to_string())?;
    let count = decode(memory.reader()?, memory.chunks(), plan)?;
    let chunks = memory.take();
    assert_eq!(count, chunks.len() as u64);
    for (at, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.head.sequence, at as u64);
    }
    Ok(chunks)
}

fn texts(chunks: &[Chunk]) -> Vec<&str> {
    chunks
        .iter()
        .map(|chunk| str::from_utf8(&chunk.data).unwrap())
        .collect()
}

fn attribute<'a>(chunk: &'a Chunk, key: &str) -> Option<&'a str> {
    let mut attributes = chunk.head.attributes.iter();
    let found = attributes.find(|attribute| attribute.key == key)?;
    Some(&found.value)
}

fn rows(file: &str, mut arguments: Value) -> Result<Vec<Value>> {
    arguments["modality"] = json!("text/csv");
    let chunks = read(file, arguments)?;
    Ok(texts(&chunks)
        .into_iter()
        .map(|text| text.parse().unwrap())
        .collect())
}

fn refusal(file: &[u8], arguments: Value) -> String {
    read(file, arguments).expect_err("it was taken").to_string()
}

#[test]
fn text_is_cut_at_line_ends() {
    let chunks = read("one\r\ntwo\nthree", json!({ "by": "line" })).unwrap();
    assert_eq!(texts(&chunks), ["one\r\n", "two\n", "three"]);
    assert_eq!(attribute(&chunks[2], "line"), Some("3"));
    assert!(chunks.iter().all(|chunk| chunk.head.modality == "text"));

    let chunks = read(
        "0123456789\nabc\n\n012345678901234\n",
        json!({ "chunk": 16 }),
    )
    .unwrap();
    assert_eq!(texts(&chunks), ["0123456789\nabc\n\n", "012345678901234\n"]);
    assert_eq!(attribute(&chunks[1], "line"), Some("4"));
}

#[test]
fn paragraphs_end_behind_their_blank_lines() {
    let chunks = read("\n a\nb\n\n \r\nc\nd\n\ne", json!({ "by": "paragraph" })).unwrap();
    assert_eq!(texts(&chunks), ["\n", " a\nb\n\n \r\n", "c\nd\n\n", "e"]);
}

#[test]
fn a_line_that_is_too_long_goes_on_in_pieces_that_say_so() {
    let file = format!("{}\r\nrest", "ü".repeat(15));
    let chunks = read(file, json!({ "by": "line", "chunk": 31 })).unwrap();
    let expected = ["ü".repeat(15), "\r\n".to_owned(), "rest".to_owned()];
    assert_eq!(texts(&chunks), expected);
    let cut: Vec<_> = chunks.iter().map(|chunk| attribute(chunk, "cut")).collect();
    assert_eq!(cut, [Some("true"), None, None]);
}

#[test]
fn an_empty_file_has_no_chunks() {
    for modality in ["text", "text/csv", "application/jsonl"] {
        let chunks = read("", json!({ "modality": modality })).unwrap();
        assert_eq!(chunks, [], "{modality}");
    }
}

#[test]
fn rows_are_objects_by_their_header_or_arrays() {
    let file = "name,said\r\nEmma,\"\"\"Hi,\r\nthere\"\"\"\r\n\r\nJane,\n";
    let objects = rows(file, json!({})).unwrap();
    assert_eq!(
        objects,
        [
            json!({ "name": "Emma", "said": "\"Hi,\r\nthere\"" }),
            json!({ "name": "Jane", "said": "" })
        ]
    );
    let arrays = rows(
        "a;'b;c'\n;\n",
        json!({ "header": false, "delimiter": ";", "quote": "'" }),
    );
    assert_eq!(arrays.unwrap(), [json!(["a", "b;c"]), json!(["", ""])]);
    let plain = rows("\"a\",b\n", json!({ "header": false, "quote": "" }));
    assert_eq!(plain.unwrap(), [json!(["\"a\"", "b"])]);
}

#[test]
fn the_members_of_a_row_stand_in_the_order_of_the_header() {
    let arguments = json!({ "modality": "text/csv" });
    let chunks = read("b,a\n1,2\n", arguments).unwrap();
    assert_eq!(texts(&chunks), [r#"{"b":"1","a":"2"}"#]);
}

#[test]
fn rows_go_together_when_asked_to() {
    let arguments = json!({ "modality": "text/csv", "rows": 2 });
    let chunks = read("a\n1\n2\n3\n", arguments).unwrap();
    assert_eq!(
        texts(&chunks),
        [r#"[{"a":"1"},{"a":"2"}]"#, r#"[{"a":"3"}]"#]
    );
    assert_eq!(attribute(&chunks[1], "line"), Some("4"));
    assert_eq!(attribute(&chunks[1], "rows"), Some("1"));
}

#[test]
fn a_file_that_is_not_of_rows_is_refused_with_the_place() {
    let csv = json!({ "modality": "text/csv" });
    for (file, told) in [
        (
            "a,b\n1,\"x\ny\n",
            "line 2, column 3: this quote is never closed",
        ),
        ("a,b\r\n\"é\"x,\n", "line 2, column 4: text follows a quote"),
        (
            "a,b\n1,2\n\n1,2,3\n",
            "line 4: the row has 3 fields and the header names 2",
        ),
        (
            "id,x,id\n",
            "line 1: the columns 1 and 3 have the same name `id`",
        ),
    ] {
        let text = refusal(file.as_bytes(), csv.clone());
        assert!(text.contains(told), "{file:?}: {text}");
    }
    let text = refusal(b"a,b\n1,\xFF\n", csv);
    assert!(text.contains("line 2, column 3"), "{text}");
}

#[test]
fn a_row_has_a_limit_in_bytes_and_in_fields() {
    let arguments = json!({ "modality": "text/csv", "longest": 10 });
    let text = refusal(b"a\n\"01234567890\"\n", arguments);
    assert!(
        text.contains("line 2") && text.contains("`longest`"),
        "{text}"
    );
    let text = refusal(
        ",".repeat(20_000).as_bytes(),
        json!({ "modality": "text/csv" }),
    );
    assert!(text.contains("16384 fields"), "{text}");
}

#[test]
fn lines_of_json_are_checked_and_stay_as_they_are() {
    let arguments = json!({ "modality": "application/jsonl" });
    let chunks = read("{\"a\": 1}\r\n\n [2]", arguments.clone()).unwrap();
    assert_eq!(texts(&chunks), ["{\"a\": 1}", "[2]"]);
    assert_eq!(attribute(&chunks[1], "line"), Some("3"));
    let text = refusal(b"{}\n  {\"a\" 1}\n", arguments);
    assert!(text.contains("line 2, byte 8 of the line"), "{text}");
    let limited = json!({ "modality": "application/jsonl", "longest": 4 });
    assert!(refusal(b"[1]\n[12345]\n", limited).contains("line 2"));
}

#[test]
fn a_file_is_known_by_its_first_bytes_and_its_name() {
    let mut plugin = Text;
    for (name, prefix, modality) in [
        ("a.csv", "a,b", Some("text/csv")),
        ("A.TSV", "a\tb", Some("text/tab-separated-values")),
        ("x.ndjson", "{}", Some("application/jsonl")),
        ("README", "# Hi", Some("text")),
        ("a.csv", "\0\0\0", None),
    ] {
        let found = plugin.detect(name, prefix.as_bytes());
        assert_eq!(found.as_deref(), modality, "{name}");
    }
}

#[test]
fn a_cancelled_run_ends_the_reading() {
    let memory = Memory::new("a\nb\nc\n").cancelled_after(1);
    let plan = Plan::new(r#"{"by":"line"}"#).unwrap();
    let ended = decode(memory.reader().unwrap(), memory.chunks(), plan);
    assert_eq!(ended, Err(Error::Cancelled));
}

/// The files in `tests/fixtures`, and what Python's `csv` reads in them; `xtask/reference/media.py`
/// makes both.
#[test]
fn rows_are_those_that_python_reads() {
    for (file, arguments, expected) in [
        (
            &include_bytes!("../tests/fixtures/excel.csv")[..],
            json!({ "modality": "text/csv", "header": false }),
            include_str!("../tests/fixtures/excel.json"),
        ),
        (
            &include_bytes!("../tests/fixtures/utf-16.tsv")[..],
            json!({ "modality": "text/tab-separated-values", "header": false }),
            include_str!("../tests/fixtures/utf-16.json"),
        ),
    ] {
        let chunks = read(file, arguments).unwrap();
        let rows: Vec<Value> = texts(&chunks)
            .into_iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(Value::Array(rows), expected.parse::<Value>().unwrap());
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("\r\n"),
        Just(" "),
        Just("a"),
        Just("ü"),
        Just("\r"),
        Just("word")
    ];
    vec(piece, 0..80).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn chunks_put_together_are_the_text(
        text in pieces(),
        by in prop_oneof![Just("size"), Just("line"), Just("paragraph")],
        chunk in 16usize..40,
    ) {
        let arguments = json!({ "by": by, "chunk": chunk });
        let chunks = read(text.clone(), arguments).unwrap();
        prop_assert_eq!(texts(&chunks).concat(), text);
        for chunk_read in &chunks {
            prop_assert!((1..=chunk).contains(&chunk_read.data.len()));
            let ends = chunk_read.data.ends_with(b"\n");
            let last = chunk_read.head.sequence + 1 == chunks.len() as u64;
            prop_assert!(ends || last || attribute(chunk_read, "cut").is_some());
        }
    }

    #[test]
    fn text_is_cut_the_same_however_it_arrives(
        text in pieces(),
        by in prop_oneof![Just("size"), Just("line"), Just("paragraph")],
        chunk in 16usize..40,
    ) {
        let arguments = json!({ "by": by, "chunk": chunk }).to_string();
        let pushed = |parts: &[&str]| {
            let memory = Memory::default();
            let Kind::Text(plan) = Plan::new(&arguments).unwrap().kind else {
                unreachable!("it is text")
            };
            let (mut lines, mut chunks) = (Lines::new(plan), memory.chunks());
            for part in parts {
                lines.feed(part, &mut chunks).unwrap();
            }
            lines.finish(&mut chunks).unwrap();
            memory.take()
        };
        let single: Vec<&str> = text.split("").collect();
        prop_assert_eq!(pushed(&single), pushed(&[&text]));
    }

    #[test]
    fn rows_are_those_that_the_csv_crate_reads(
        file in vec(prop_oneof![
            Just(","), Just("\"\""), Just("a"), Just("\n"), Just("\r\n"), Just("\"b\""),
            Just("\"c\n\""), Just(" "), Just("ü"), Just("\"")
        ], 0..30),
    ) {
        let file = file.concat();
        // What is no CSV is refused here, and guessed at there.
        if let Ok(read) = rows(&file, json!({ "header": false })) {
            let mut reader = csv::ReaderBuilder::new()
                .has_headers(false)
                .flexible(true)
                .from_reader(file.as_bytes());
            let expected: Vec<Value> = reader
                .records()
                .map(|record| json!(record.unwrap().iter().collect::<Vec<_>>()))
                .collect();
            prop_assert_eq!(read, expected);
        }
    }

    #[test]
    fn what_was_written_as_csv_is_read_back(
        table in vec(vec("[a,\"\n\r ü]{0,4}", 2), 0..6),
    ) {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        for row in &table {
            writer.write_record(row).unwrap();
        }
        let file = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        let read = rows(&file, json!({ "header": false })).unwrap();
        prop_assert_eq!(Value::Array(read), json!(table));
    }

    #[test]
    fn no_file_brings_the_plugin_down(
        file in vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'"'), Just(b',')], 0..300),
        modality in prop_oneof![Just("text"), Just("text/csv"), Just("application/jsonl")],
        invalid in prop_oneof![Just("refuse"), Just("replace")],
    ) {
        let _ = read(file, json!({ "modality": modality, "invalid": invalid }));
    }
}
