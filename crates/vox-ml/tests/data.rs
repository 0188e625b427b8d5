//! From files to batches, as a training uses them.

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use vox_ml::data::template::{Template, TemplateSource};
use vox_ml::data::{
    Address, Batch, Dataset, DatasetSpec, Feed, Format, Identified, Kind, NO_TARGET, Overlong,
    Packing, Record, Shape, Source, Split, Tokenizer, Tokens,
};
use vox_ml::{Error, TokenizerError};

/// A token for each byte, 256 before a text, and 257 for `</s>`.
#[derive(Default)]
struct Bytes {
    calls: Cell<usize>,
}

impl Tokenizer for Bytes {
    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        self.calls.set(self.calls.get() + 1);
        let begin = special.then_some(256);
        let mut tokens: Vec<u32> = begin.into_iter().collect();
        for (at, part) in text.split("</s>").enumerate() {
            tokens.extend((at > 0).then_some(257));
            tokens.extend(part.bytes().map(u32::from));
        }
        Ok(tokens)
    }

    fn vocabulary(&self) -> u32 {
        258
    }
}

struct Place {
    dir: tempfile::TempDir,
    tokenizer: Bytes,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            tokenizer: Bytes::default(),
        }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join("data").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn open(&self, spec: DatasetSpec<'_>) -> Result<Dataset, Error> {
        let tokenizer = Identified {
            tokenizer: &self.tokenizer,
            hash: vox_crypto::hash(b"bytes"),
        };
        Dataset::open(spec, tokenizer, &self.cache(), &mut |_| {
            ControlFlow::Continue(())
        })
    }
}

fn spec(source: &Source) -> DatasetSpec<'_> {
    DatasetSpec {
        source,
        evaluation: None,
        split: Split::None,
        columns: 32,
        packing: Packing::Packed,
        overlong: Overlong::Refuse,
        skip_invalid: false,
        template: None,
        end: Some("</s>"),
    }
}

fn source(paths: &[impl AsRef<Path>]) -> Source {
    Source::open(paths, Format::Auto).unwrap()
}

fn texts(source: &Source) -> Vec<(u64, String)> {
    source
        .records()
        .map(|record| {
            let located = record.unwrap();
            match located.record {
                Record::Text(passage) => (located.line, passage.text),
                other => panic!("{other:?} is no text"),
            }
        })
        .collect()
}

fn jsonl(texts: impl IntoIterator<Item = String>) -> String {
    let lines = texts
        .into_iter()
        .map(|text| format!("{{\"text\": \"{text}\"}}\n"));
    lines.collect()
}

const SHAPE: Shape = Shape {
    rows: 2,
    accumulation: 3,
    ranks: 1,
};

#[test]
fn a_file_of_text_is_a_text_for_each_separator() {
    let place = Place::new();
    let path = place.file(
        "a.txt",
        "\u{feff}one\r\ntwo\r\n\r\n<|endoftext|>\n<|endoftext|>\n\nthree\n<|endoftext|>\n \n",
    );
    let source = source(&[path]);
    assert_eq!(source.files()[0].kind, Kind::Plain);
    assert_eq!(
        texts(&source),
        [(1, "one\ntwo".into()), (7, "three".into())]
    );
}

#[test]
fn a_long_text_comes_in_parts_that_together_are_the_text() {
    let place = Place::new();
    let line = format!("{}\n", "word ".repeat(1000));
    let text = line.repeat(500) + &"é".repeat(1_500_000);
    let source = source(&[place.file("a.txt", &text)]);
    let mut whole = String::new();
    let mut ends = Vec::new();
    for record in source.records() {
        let Record::Text(passage) = record.unwrap().record else {
            panic!("a text was expected");
        };
        assert!(passage.text.len() <= vox_ml::data::MAX_PASSAGE_BYTES);
        assert_eq!(passage.begins, whole.is_empty());
        whole += &passage.text;
        ends.push(passage.ends);
    }
    assert!(whole == text, "the parts are not the text");
    assert!(ends.len() > 4 && ends.iter().filter(|ends| **ends).count() == 1);
}

#[test]
fn a_directory_is_all_its_files_in_the_order_of_their_paths() {
    let place = Place::new();
    place.file("b.txt", "two");
    place.file("a/z.txt", "one");
    place.file(".hidden", "no");
    place.file("c.jsonl", "{\"text\": \"three\"}\n");
    let source = source(&[place.dir.path().join("data")]);
    let found: Vec<String> = texts(&source).into_iter().map(|(_, text)| text).collect();
    assert_eq!(found, ["one", "two", "three"]);
    assert_eq!(source.bytes(), 3 + 3 + 18);
}

#[test]
fn what_is_no_data_is_named() {
    let place = Place::new();
    let open = |path: &Path| Source::open(&[path], Format::Auto).unwrap_err().to_string();
    let missing = open(&place.dir.path().join("nowhere"));
    assert!(missing.contains("nowhere: cannot be read"), "{missing}");
    fs::create_dir_all(place.dir.path().join("empty")).unwrap();
    let empty = open(&place.dir.path().join("empty"));
    assert!(
        empty.contains("empty: there is no data in this directory"),
        "{empty}"
    );
    let binary = open(&place.file("a.bin", b"\x7fELF\x02\x01\x00\x00"));
    assert!(
        binary.contains("a.bin: this is a binary file (a zero byte at offset 6)"),
        "{binary}"
    );
    let utf16 = open(&place.file("b.txt", b"\xff\xfea\0b\0"));
    assert!(utf16.contains("b.txt: this file is in UTF-16"), "{utf16}");
    let gzip = open(&place.file("c.gz", b"\x1f\x8b\x08"));
    assert!(gzip.contains("c.gz: this file is compressed"), "{gzip}");
}

#[test]
fn what_begins_as_json_is_text_only_where_that_is_said() {
    let place = Place::new();
    let broken = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]\n";
    for (name, content, line) in [
        ("a.jsonl", broken, 1),
        ("b.txt", broken, 1),
        ("c.JSON", "\n[\n{\"text\": \"a\"}\n]\n", 2),
        ("d.jsonl", "Once upon a time\n", 1),
        (
            "e.jsonl",
            "{\"instruction\": \"a\", \"output\": \"b\"}\n",
            1,
        ),
    ] {
        let path = place.file(name, content);
        let error = Source::open(&[&path], Format::Auto)
            .unwrap_err()
            .to_string();
        assert!(error.contains(&format!("{name}:{line}: ")), "{error}");
        assert!(error.contains("`format = \"plain\"`"), "{error}");
        let plain = Source::open(&[&path], Format::Plain).unwrap();
        assert_eq!(plain.kinds(), [Kind::Plain], "{name}");
        assert_eq!(texts(&plain)[0].1, content.trim_matches('\n'), "{name}");
    }
    let encoding = place.file("f.jsonl", b"{\"text\": \"\xff\"}\n");
    let error = Source::open(&[encoding], Format::Auto)
        .unwrap_err()
        .to_string();
    assert!(error.contains("f.jsonl:1: byte 11"), "{error}");
    let prose = source(&[place.file("g.txt", "[Chapter 1]\n{ a brace }\n")]);
    assert_eq!(prose.kinds(), [Kind::Plain]);
}

#[test]
fn an_empty_dataset_is_refused() {
    let place = Place::new();
    for content in ["", "\n \n", "<|endoftext|>\n"] {
        let source = source(&[place.file("a.txt", content)]);
        let error = place.open(spec(&source)).unwrap_err().to_string();
        assert!(
            error.contains("a.txt: there are no examples in the data"),
            "{error}"
        );
    }
}

#[test]
fn a_line_that_cannot_be_used_is_named_or_left_out_and_counted() {
    let place = Place::new();
    let content =
        b"{\"text\": \"one\"}\r\n\n{\"text\": \"two\n{\"text\": \"\xff\"}\n{\"text\": \"three\"}\n";
    let source = source(&[place.file("a.jsonl", content)]);
    let error = place.open(spec(&source)).unwrap_err().to_string();
    assert!(
        error.ends_with("a.jsonl:2: the line is empty: expected an object with `text`"),
        "{error}"
    );
    let skipping = DatasetSpec {
        skip_invalid: true,
        ..spec(&source)
    };
    let dataset = place.open(skipping).unwrap();
    let summary = dataset.summary();
    assert_eq!((summary.records, summary.skipped), (2, 3));
    assert!(
        summary.first_skipped[1].contains("a.jsonl:3: not valid JSON"),
        "{summary:?}"
    );
    assert!(summary.first_skipped[2].contains("a.jsonl:4: byte 11 of the line is not UTF-8"));
}

#[test]
fn nothing_but_invalid_lines_is_refused_with_their_number() {
    let place = Place::new();
    let path = place.file("a.jsonl", "{\"text\": 1}\n{}\n");
    let source = Source::open(&[path], Format::Text).unwrap();
    let skipping = DatasetSpec {
        skip_invalid: true,
        ..spec(&source)
    };
    let error = place.open(skipping).unwrap_err().to_string();
    assert!(error.contains("(2 invalid lines were left out)"), "{error}");
}

#[test]
fn a_line_of_another_kind_than_the_first_is_an_error() {
    let place = Place::new();
    let source = source(&[place.file(
        "a.jsonl",
        "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"text\": \"a\"}\n",
    )]);
    let error = place.open(spec(&source)).unwrap_err().to_string();
    assert!(error.contains("a.jsonl:2: `prompt` is missing"), "{error}");
}

#[test]
fn a_template_that_raises_is_told_with_the_line_of_the_data() {
    let place = Place::new();
    let source = source(&[place.file(
        "a.jsonl",
        "{\"messages\": [{\"role\": \"assistant\", \"content\": \"a\"}]}\n",
    )]);
    let text = TemplateSource::of_text("{{ raise_exception('users speak first') }}", &[]);
    let template = Template::new(&text, 0).unwrap();
    let with = DatasetSpec {
        template: Some(&template),
        ..spec(&source)
    };
    let error = place.open(with).unwrap_err().to_string();
    assert!(
        error.contains("a.jsonl:1: the chat template refuses this conversation: users speak first"),
        "{error}"
    );
    let error = place.open(spec(&source)).unwrap_err().to_string();
    assert!(
        error.contains("has `messages`, and the model has no chat template"),
        "{error}"
    );
}

#[test]
fn tokens_are_kept_and_used_again_until_something_that_decides_them_changes() {
    let place = Place::new();
    let path = place.file("a.jsonl", jsonl((0..50).map(|at| format!("text {at}"))));
    let first = source(&[&path]);
    assert_eq!(place.open(spec(&first)).unwrap().tokens(), &Tokens::Made);
    let calls = place.tokenizer.calls.get();
    // The same bytes under another name, another split and packing.
    let renamed = place.dir.path().join("data/b.jsonl");
    fs::rename(&path, &renamed).unwrap();
    let second = source(&[&renamed]);
    let other = DatasetSpec {
        split: Split::Count(5),
        packing: Packing::Padded,
        ..spec(&second)
    };
    assert_ne!(other.hash(), spec(&first).hash());
    assert_eq!(spec(&second).hash(), spec(&first).hash());
    assert_eq!(place.open(other).unwrap().tokens(), &Tokens::Cached);
    assert_eq!(place.tokenizer.calls.get(), calls);
    let longer = DatasetSpec {
        columns: 64,
        ..spec(&second)
    };
    assert_eq!(place.open(longer).unwrap().tokens(), &Tokens::Made);
}

#[test]
fn damaged_tokens_are_made_anew_and_that_is_told() {
    let place = Place::new();
    let source = source(&[place.file("a.jsonl", jsonl((0..9).map(|at| format!("text {at}"))))]);
    let whole = all(&place.open(spec(&source)).unwrap());
    let file = fs::read_dir(place.cache())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 1;
    fs::write(&file, bytes).unwrap();
    let mended = place.open(spec(&source)).unwrap();
    assert!(
        matches!(mended.tokens(), Tokens::Mended { .. }),
        "{:?}",
        mended.tokens()
    );
    assert_eq!(all(&mended), whole);
}

#[test]
fn tokenising_can_be_given_up_and_leaves_nothing() {
    let place = Place::new();
    let source = source(&[place.file("a.jsonl", jsonl((0..500).map(|at| format!("text {at}"))))]);
    let tokenizer = Identified {
        tokenizer: &place.tokenizer,
        hash: vox_crypto::hash(b"bytes"),
    };
    let mut told = Vec::new();
    let error = Dataset::open(spec(&source), tokenizer, &place.cache(), &mut |at| {
        told.push(at);
        if told.len() == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(error, Err(Error::Interrupted)));
    assert!(told.is_sorted_by(|a, b| a.tokens < b.tokens && a.bytes <= b.bytes));
    assert_eq!(told[0].total, source.bytes());
    assert_eq!(fs::read_dir(place.cache()).unwrap().count(), 0);
}

/// All rows to train on.
fn all(dataset: &Dataset) -> Batch {
    let part = dataset.training();
    part.batch(0..part.rows()).unwrap()
}

/// Follows each target of a batch: it is the next token of the same segment, where there is one.
fn check(batch: &Batch) {
    let size = batch.rows * batch.columns;
    assert_eq!(
        [
            batch.tokens.len(),
            batch.targets.len(),
            batch.segments.len()
        ],
        [size; 3]
    );
    for row in 0..batch.rows {
        let at = |column: usize| row * batch.columns + column;
        for column in 0..batch.columns {
            let (here, next) = (at(column), at(column + 1));
            if batch.segments[here] == 0 {
                assert_eq!((batch.tokens[here], batch.targets[here]), (0, NO_TARGET));
            }
            let follows =
                column + 1 < batch.columns && batch.segments[here] == batch.segments[next];
            if batch.targets[here] != NO_TARGET && follows {
                assert_eq!(batch.targets[here], batch.tokens[next] as i32);
            }
        }
    }
}

#[test]
fn each_token_that_is_learnt_is_a_target_once_in_an_epoch() {
    let place = Place::new();
    let lines: Vec<String> = (0..97)
        .map(|at| "x".repeat(1 + at * 7 % 90) + &at.to_string())
        .collect();
    let source = source(&[place.file("a.jsonl", jsonl(lines.clone()))]);
    for packing in [Packing::Packed, Packing::Padded] {
        let with = DatasetSpec {
            packing,
            ..spec(&source)
        };
        let dataset = place.open(with).unwrap();
        let part = dataset.training();
        let mut targets = Vec::new();
        for batch in part.batches(4) {
            let batch = batch.unwrap();
            check(&batch);
            assert!(batch.columns <= 32);
            targets.extend(
                batch
                    .targets
                    .into_iter()
                    .filter(|target| *target != NO_TARGET),
            );
        }
        let mut expected: Vec<i32> = lines
            .iter()
            .flat_map(|line| line.bytes().map(i32::from).chain([257]))
            .collect();
        assert_eq!(targets.len() as u64, dataset.summary().learnt);
        targets.sort_unstable();
        expected.sort_unstable();
        assert_eq!(targets, expected);
        if packing == Packing::Packed {
            assert!(part.density() > 0.95, "{}", part.density());
            assert!(part.rows() < part.examples());
        }
    }
}

#[test]
fn answers_are_targets_and_questions_are_not() {
    let place = Place::new();
    let source = source(&[place.file(
        "a.jsonl",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, \
         {\"role\": \"assistant\", \"content\": \"yo\"}]}\n",
    )]);
    let text = "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}</s>{% endfor %}\
                {% if add_generation_prompt %}[a]{% endif %}";
    let text = TemplateSource::of_text(text, &[("eos_token", "</s>")]);
    let template = Template::new(&text, 0).unwrap();
    let with = DatasetSpec {
        template: Some(&template),
        ..spec(&source)
    };
    let dataset = place.open(with).unwrap();
    let batch = dataset.training().batch([0]).unwrap();
    check(&batch);
    let targets: Vec<i32> = batch
        .targets
        .into_iter()
        .filter(|target| *target >= 0)
        .collect();
    assert_eq!(targets, [i32::from(b'y'), i32::from(b'o'), 257]);
}

#[test]
fn padded_rows_are_as_long_as_their_batch_needs() {
    let place = Place::new();
    let source = source(&[place.file("a.jsonl", jsonl(["ab".into(), "cde".into()]))]);
    let with = DatasetSpec {
        packing: Packing::Padded,
        columns: 512,
        ..spec(&source)
    };
    let batch = place.open(with).unwrap().training().batch(0..2).unwrap();
    assert_eq!((batch.rows, batch.columns), (2, 16));
    assert_eq!((batch.filled(), batch.learnt()), (3 + 4, 3 + 4));
    assert_eq!(batch.segments[..4], [1, 1, 1, 0]);
}

#[test]
fn the_same_address_is_the_same_batch_in_any_process() {
    let place = Place::new();
    let source = source(&[place.file("a.jsonl", jsonl((0..200).map(|at| format!("text {at}"))))]);
    let dataset = place.open(spec(&source)).unwrap();
    let again = place.open(spec(&source)).unwrap();
    assert_eq!(again.tokens(), &Tokens::Cached);
    let feed = Feed::new(dataset.training(), dataset.hash(), 42, SHAPE);
    let other = Feed::new(again.training(), again.hash(), 42, SHAPE);
    for step in [0, 7, 1_000_000] {
        let address = Address {
            step,
            micro: 2,
            rank: 0,
        };
        assert_eq!(feed.batch(address).unwrap(), other.batch(address).unwrap());
    }
    let reseeded = Feed::new(again.training(), again.hash(), 43, SHAPE);
    let address = Address {
        step: 0,
        micro: 0,
        rank: 0,
    };
    assert_ne!(feed.rows(address), reseeded.rows(address));
}

#[test]
fn a_step_sees_the_same_rows_however_many_ranks_share_it() {
    let place = Place::new();
    let source = source(&[place.file("a.jsonl", jsonl((0..400).map(|at| format!("text {at}"))))]);
    let with = DatasetSpec {
        packing: Packing::Padded,
        ..spec(&source)
    };
    let dataset = place.open(with).unwrap();
    let rows = |shape: Shape, step: u64| {
        let feed = Feed::new(dataset.training(), dataset.hash(), 1, shape);
        let mut rows = Vec::new();
        for micro in 0..shape.accumulation {
            for rank in 0..shape.ranks {
                rows.extend(feed.rows(Address { step, micro, rank }));
            }
        }
        rows
    };
    let one = Shape {
        rows: 2,
        accumulation: 4,
        ranks: 1,
    };
    let two = Shape {
        rows: 2,
        accumulation: 2,
        ranks: 2,
    };
    assert_eq!(rows(one, 5), rows(two, 5));
    // 400 rows in steps of 8: an epoch of 50 steps, each row once.
    let mut epoch: Vec<u64> = (0..50).flat_map(|step| rows(two, step)).collect();
    epoch.sort_unstable();
    assert_eq!(epoch, (0..400).collect::<Vec<_>>());
    let feed = Feed::new(dataset.training(), dataset.hash(), 1, two);
    assert_eq!(
        (feed.steps_of(1.0), feed.steps_of(2.5), feed.steps_of(0.001)),
        (50, 125, 1)
    );
    assert_eq!(feed.epochs_before(75), 1.5);
}

#[test]
fn what_is_held_back_is_not_trained_on() {
    let place = Place::new();
    let source = source(&[place.file("a.jsonl", jsonl((0..300).map(|at| format!("text {at}"))))]);
    let with = DatasetSpec {
        split: Split::Fraction(0.1),
        ..spec(&source)
    };
    let dataset = place.open(with).unwrap();
    let held_back = dataset.evaluation().unwrap();
    assert!((15..50).contains(&held_back.examples()));
    assert_eq!(held_back.examples() + dataset.training().examples(), 300);

    let all = DatasetSpec {
        split: Split::Count(300),
        ..spec(&source)
    };
    let error = place.open(all).unwrap_err().to_string();
    assert!(
        error.contains("all 300 examples belong to the evaluation split"),
        "{error}"
    );
}

#[test]
fn data_for_evaluation_alone_take_the_place_of_a_split() {
    let place = Place::new();
    let training = source(&[place.file("a.jsonl", jsonl((0..30).map(|at| format!("text {at}"))))]);
    let evaluation =
        source(&[place.file("b.jsonl", jsonl((0..7).map(|at| format!("other {at}"))))]);
    let with = DatasetSpec {
        evaluation: Some(&evaluation),
        split: Split::Fraction(0.5),
        ..spec(&training)
    };
    let dataset = place.open(with).unwrap();
    assert_eq!(dataset.training().examples(), 30);
    assert_eq!(dataset.evaluation().unwrap().examples(), 7);
    assert_ne!(with.hash(), spec(&training).hash());
}
