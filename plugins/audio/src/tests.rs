//! Whole files, against what Python's `wave` reads in them, and files that lie.

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
    Ok(chunks)
}

fn refusal(file: impl Into<Vec<u8>>, arguments: Value) -> String {
    read(file, arguments).expect_err("it was taken").to_string()
}

fn samples(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.data.clone()).collect()
}

fn attribute<'a>(chunk: &'a Chunk, key: &str) -> &'a str {
    let mut attributes = chunk.head.attributes.iter();
    let found = attributes.find(|attribute| attribute.key == key);
    found.map_or("", |attribute| attribute.value.as_str())
}

/// A part of a file.
fn part(name: &str, body: &[u8]) -> Vec<u8> {
    let size = (body.len() as u32).to_le_bytes();
    let padding = &[0][..body.len() % 2];
    [name.as_bytes(), &size, body, padding].concat()
}

fn fmt(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let block = channels * bits.div_ceil(8);
    let mut body = Vec::new();
    for short in [tag, channels] {
        body.extend_from_slice(&short.to_le_bytes());
    }
    body.extend_from_slice(&rate.to_le_bytes());
    body.extend_from_slice(&(rate * u32::from(block)).to_le_bytes());
    for short in [block, bits] {
        body.extend_from_slice(&short.to_le_bytes());
    }
    part("fmt ", &body)
}

fn wav(parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    let size = (body.len() as u32 + 4).to_le_bytes();
    [b"RIFF", &size[..], b"WAVE", &body].concat()
}

/// The files in `tests/fixtures`, and what Python reads in them; `xtask/reference/media.py` makes
/// both.
macro_rules! fixture {
    ($name:literal) => {
        (
            $name,
            &include_bytes!(concat!("../tests/fixtures/", $name, ".wav"))[..],
            &include_bytes!(concat!("../tests/fixtures/", $name, ".pcm"))[..],
            &include_bytes!(concat!("../tests/fixtures/", $name, ".mono-f32"))[..],
        )
    };
}

#[test]
fn samples_are_those_that_python_reads() {
    for (name, file, pcm, mono) in [
        fixture!("u8"),
        fixture!("s16"),
        fixture!("s24"),
        fixture!("s32"),
    ] {
        let chunks = read(file, json!({ "frame": 3 })).unwrap();
        assert!(chunks.len() > 1, "{name}");
        assert_eq!(samples(&chunks), pcm, "{name}");
        let chunks = read(file, json!({ "mono": true, "to": "f32le" })).unwrap();
        assert_eq!(samples(&chunks), mono, "{name}");
        assert_eq!(attribute(&chunks[0], "channels"), "1");
        assert_eq!(attribute(&chunks[0], "format"), "f32le");
    }
}

#[test]
fn frames_carry_what_they_are_and_their_time() {
    let file = wav(&[fmt(1, 2, 11025, 16), part("data", &[0; 4 * 500])]);
    let chunks = read(file, json!({ "start": 1_000_000_000 })).unwrap();
    let counts: Vec<&str> = chunks
        .iter()
        .map(|chunk| attribute(chunk, "samples"))
        .collect();
    // 220.5 samples to a frame.
    assert_eq!(counts, ["220", "221", "59"]);
    let times: Vec<u64> = chunks.iter().map(|chunk| chunk.head.timestamp).collect();
    assert_eq!(times, [1_000_000_000, 1_019_954_648, 1_040_000_000]);
    assert_eq!(chunks[0].head.modality, "audio/pcm");
    assert_eq!(attribute(&chunks[0], "sample-rate"), "11025");
    assert_eq!(attribute(&chunks[0], "channels"), "2");
    assert_eq!(attribute(&chunks[0], "format"), "s16le");
}

#[test]
fn floats_and_extended_formats_are_read() {
    let floats: Vec<u8> = [0.5f32, -0.25]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let file = wav(&[fmt(3, 1, 8000, 32), part("data", &floats)]);
    let chunks = read(file, json!({ "to": "s16le" })).unwrap();
    let expected = [16384i16, -8192].map(i16::to_le_bytes).concat();
    assert_eq!(samples(&chunks), expected);

    let mut body = fmt(0xFFFE, 1, 8000, 16)[8..].to_vec();
    body.extend_from_slice(&[22, 0, 16, 0, 4, 0, 0, 0, 1, 0]);
    body.extend_from_slice(b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71");
    let file = wav(&[part("fmt ", &body), part("data", &[1, 2])]);
    assert_eq!(samples(&read(file, json!({})).unwrap()), [1, 2]);
}

#[test]
fn a_long_file_tells_its_size_elsewhere() {
    let mut sizes = vec![0; 28];
    sizes[8..16].copy_from_slice(&6u64.to_le_bytes());
    let mut file = wav(&[part("ds64", &sizes), fmt(1, 1, 8000, 16)]);
    file[..4].copy_from_slice(b"RF64");
    file.extend_from_slice(b"data\xFF\xFF\xFF\xFFabcdefLIST");
    assert_eq!(samples(&read(file, json!({})).unwrap()), b"abcdef");
}

#[test]
fn a_file_written_to_a_pipe_goes_on_to_its_end() {
    let mut file = wav(&[fmt(1, 1, 8000, 16)]);
    file.extend_from_slice(b"data\xFF\xFF\xFF\xFFabcd");
    assert_eq!(samples(&read(file, json!({})).unwrap()), b"abcd");
}

#[test]
fn other_parts_are_passed_over() {
    let file = wav(&[
        part("LIST", b"odd"),
        fmt(1, 1, 8000, 8),
        part("junk", &[0; 70_000]),
        part("data", b"abc"),
        part("id3 ", b"?"),
    ]);
    assert_eq!(samples(&read(file, json!({})).unwrap()), b"abc");
}

#[test]
fn raw_samples_are_what_the_arguments_say() {
    let arguments = json!({ "format": "s16be", "rate": 1000, "frame": 1, "to": "s16le" });
    let chunks = read([1, 2, 3, 4], arguments).unwrap();
    assert_eq!(chunks[1].data, [4, 3]);
    assert_eq!(chunks[1].head.timestamp, 1_000_000);
    let slow = read(*b"abc", json!({ "format": "u8", "rate": 1, "frame": 1 })).unwrap();
    assert_eq!(slow.len(), 3);
    assert_eq!(slow[2].head.timestamp, 2_000_000_000);
}

#[test]
fn a_file_that_was_cut_short_is_refused_unless_it_is_accepted() {
    let whole = wav(&[fmt(1, 1, 8000, 16), part("data", b"abcdef")]);
    let cut = &whole[..whole.len() - 3];
    let told = refusal(cut, json!({}));
    assert!(told.contains("has 6 bytes of samples and has 3"), "{told}");
    let chunks = read(cut, json!({ "truncated": "accept" })).unwrap();
    assert_eq!(samples(&chunks), b"ab");
    let told = refusal(*b"abc", json!({ "format": "s16le", "rate": 8000 }));
    assert!(told.contains("2 bytes each"), "{told}");
}

#[test]
fn a_file_that_lies_is_refused_with_the_place() {
    let data = part("data", b"ab");
    let mut block = fmt(1, 1, 8000, 16);
    block[20] = 3;
    for (file, told) in [
        (
            b"RIFF".to_vec(),
            "at offset 0: the file ends within the header",
        ),
        (b"RIFF\0\0\0\0AVI LIST".to_vec(), "this is no WAV file"),
        (
            wav(std::slice::from_ref(&data)),
            "at offset 12: the samples stand before",
        ),
        (
            wav(&[fmt(1, 1, 8000, 16)]),
            "at offset 36: the file ends before its samples",
        ),
        (wav(&[block, data.clone()]), "has 3 bytes, and that are 2"),
        (
            wav(&[fmt(2, 1, 8000, 4), data.clone()]),
            "format 2 with 4 bits",
        ),
        (wav(&[fmt(1, 0, 8000, 16), data.clone()]), "0 channels"),
        (wav(&[fmt(1, 1, 0, 16), data.clone()]), "of 0 samples"),
        (
            wav(&[b"huge\xFE\xFF\xFF\xFF".to_vec()]),
            "the part `huge` of 4294967294 bytes",
        ),
        (wav(&vec![part("junk", b""); 1001]), "1000 parts"),
    ] {
        let text = refusal(file, json!({}));
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn a_frame_has_a_limit() {
    let arguments = json!({ "format": "f64le", "rate": 6_144_000, "channels": 256 });
    let told = refusal([], arguments);
    assert!(told.contains("`frame`"), "{told}");
    let late = json!({ "format": "u8", "rate": 1, "start": u64::MAX });
    assert!(refusal(*b"ab", late).contains("`start`"));
}

#[test]
fn a_huge_size_is_not_believed() {
    let mut file = wav(&[fmt(1, 1, 8000, 16)]);
    file.extend_from_slice(b"data\xF0\xFF\xFF\xFFab");
    let memory = Memory::new(file).claiming(1 << 40);
    let plan = Plan::new("{}").unwrap();
    let ended = decode(memory.reader().unwrap(), memory.chunks(), plan);
    assert!(matches!(ended, Err(Error::Failed(_))), "{ended:?}");
}

#[test]
fn a_cancelled_run_ends_the_reading() {
    let memory = Memory::new([0; 100]).cancelled_after(2);
    let plan = Plan::new(r#"{"format":"u8","rate":1000,"frame":1}"#).unwrap();
    let ended = decode(memory.reader().unwrap(), memory.chunks(), plan);
    assert_eq!(ended, Err(Error::Cancelled));
}

#[test]
fn a_file_is_known_by_its_first_bytes() {
    let mut plugin = Audio;
    let file = wav(&[]);
    assert_eq!(plugin.detect("a", &file).as_deref(), Some("audio/wav"));
    assert_eq!(plugin.detect("a.PCM", b"").as_deref(), Some("audio/pcm"));
    assert_eq!(plugin.detect("a.wav", b"RIFF\0\0\0\0AVI "), None);
}

proptest! {
    #[test]
    fn frames_put_together_are_the_samples(
        data in vec(any::<u8>(), 0..2000),
        rate in 1u32..3000,
        frame in 1u32..500,
        channels in 1u32..4,
    ) {
        let whole = data.len() / channels as usize * channels as usize;
        let arguments = json!({
            "format": "u8", "rate": rate, "frame": frame, "channels": channels, "truncated": "accept"
        });
        let chunks = read(data.clone(), arguments).unwrap();
        prop_assert_eq!(samples(&chunks), &data[..whole]);
        let longest = (u64::from(rate) * u64::from(frame)).div_ceil(1000) * u64::from(channels);
        let mut before = None;
        for chunk in &chunks {
            prop_assert!((1..=longest).contains(&(chunk.data.len() as u64)));
            prop_assert!(before < Some(chunk.head.timestamp));
            before = Some(chunk.head.timestamp);
        }
    }

    #[test]
    fn no_file_brings_the_plugin_down(
        changes in vec((0usize..60, any::<u8>()), 0..6),
        length in 0usize..60,
    ) {
        let mut file = wav(&[fmt(1, 2, 8000, 16), part("data", b"abcdefghijkl")]);
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] = byte;
        }
        file.truncate(length.max(20));
        let _ = read(file.clone(), json!({}));
        let _ = read(file, json!({ "truncated": "accept", "mono": true, "to": "s24le" }));
    }
}
