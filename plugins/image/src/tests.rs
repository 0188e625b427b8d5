//! Whole files, against what Pillow reads in them, and files that lie.

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

fn attribute<'a>(chunk: &'a Chunk, key: &str) -> &'a str {
    let mut attributes = chunk.head.attributes.iter();
    let found = attributes.find(|attribute| attribute.key == key);
    found.map_or("", |attribute| attribute.value.as_str())
}

/// A file in `tests/fixtures`, and what Pillow reads in it; `xtask/reference/media.py` makes both.
macro_rules! fixture {
    ($name:literal, $extension:literal) => {
        (
            $name,
            &include_bytes!(concat!("../tests/fixtures/", $name, ".", $extension))[..],
            &include_bytes!(concat!("../tests/fixtures/", $name, ".raw"))[..],
        )
    };
}

#[test]
fn pixels_of_png_are_those_that_pillow_reads() {
    for ((name, file, raw), modality) in [
        (fixture!("gray", "png"), "image/gray8"),
        (fixture!("gray-alpha", "png"), "image/rgba8"),
        (fixture!("rgb", "png"), "image/rgb8"),
        (fixture!("rgba", "png"), "image/rgba8"),
        (fixture!("palette", "png"), "image/rgb8"),
        (fixture!("palette-alpha", "png"), "image/rgba8"),
        (fixture!("one-bit", "png"), "image/gray8"),
        (fixture!("deep", "png"), "image/gray8"),
    ] {
        let chunks = read(file, json!({})).unwrap();
        assert_eq!(chunks.len(), 1);
        let chunk = &chunks[0];
        assert_eq!(chunk.head.modality, modality, "{name}");
        assert_eq!(attribute(chunk, "width"), "13");
        assert_eq!(attribute(chunk, "height"), "9");
        assert_eq!(chunk.data, raw, "{name}");
    }
}

#[test]
fn pixels_of_jpeg_are_close_to_those_that_pillow_reads() {
    for ((name, file, raw), modality, most) in [
        (fixture!("baseline", "jpg"), "image/rgb8", 3),
        (fixture!("progressive", "jpg"), "image/rgb8", 3),
        // Decoders differ in how they fill in colour.
        (fixture!("subsampled", "jpg"), "image/rgb8", 12),
        (fixture!("grayscale", "jpg"), "image/gray8", 2),
    ] {
        let chunks = read(file, json!({ "modality": "image/jpeg" })).unwrap();
        let chunk = &chunks[0];
        assert_eq!(chunk.head.modality, modality, "{name}");
        assert_eq!(chunk.data.len(), raw.len(), "{name}");
        let differences = chunk.data.iter().zip(raw).map(|(a, b)| a.abs_diff(*b));
        assert!(differences.max() <= Some(most), "{name}");
    }
}

#[test]
fn pixels_become_the_format_that_is_asked_for() {
    let (_, colour, _) = fixture!("rgb", "png");
    let (_, _, gray) = fixture!("gray", "png");
    let chunks = read(colour, json!({ "to": "gray8" })).unwrap();
    assert_eq!(chunks[0].data, gray);
    let (_, clear, raw) = fixture!("rgba", "png");
    let opaque: Vec<u8> = raw
        .chunks(4)
        .flat_map(|pixel| &pixel[..3])
        .copied()
        .collect();
    let chunks = read(clear, json!({ "to": "rgb8" })).unwrap();
    assert_eq!(chunks[0].data, opaque);
    assert_eq!(chunks[0].head.modality, "image/rgb8");
}

#[test]
fn an_image_goes_on_in_rows_when_asked_to() {
    let (_, file, raw) = fixture!("rgb", "png");
    let chunks = read(file, json!({ "rows": 4 })).unwrap();
    let places: Vec<(&str, &str)> = chunks
        .iter()
        .map(|chunk| (attribute(chunk, "row"), attribute(chunk, "rows")))
        .collect();
    assert_eq!(places, [("0", "4"), ("4", "4"), ("8", "1")]);
    let pixels: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.data).collect();
    assert_eq!(pixels, raw);
}

#[test]
fn a_file_goes_on_as_it_is_when_asked_to() {
    for ((_, file, _), modality) in [
        (fixture!("rgb", "png"), "image/png"),
        (fixture!("baseline", "jpg"), "image/jpeg"),
    ] {
        let chunks = read(file, json!({ "as": "file" })).unwrap();
        assert_eq!(chunks.len(), 1);
        assert_eq!(chunks[0].head.modality, modality);
        assert_eq!(chunks[0].data, file);
        let refused = read(file, json!({ "as": "file", "bytes": 20 }));
        assert!(matches!(refused, Err(Error::Exceeded(over)) if over.limit == "bytes"));
    }
}

/// A PNG file that says it is of this size, with no pixels.
fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(::png::ColorType::Rgba);
    drop(encoder.write_header().unwrap());
    bytes
}

#[test]
fn an_image_that_says_it_is_huge_is_refused_before_memory_is_taken() {
    let refused = read(claiming(u32::MAX / 2, 1), json!({}));
    assert!(
        matches!(&refused, Err(Error::Exceeded(over)) if over.limit == "side"),
        "{refused:?}"
    );
    let refused = read(claiming(16_000, 16_000), json!({}));
    assert!(
        matches!(&refused, Err(Error::Exceeded(over)) if over.limit == "bytes"),
        "{refused:?}"
    );
    let (_, file, _) = fixture!("baseline", "jpg");
    let mut huge = file.to_vec();
    let frame = huge
        .windows(2)
        .position(|marker| marker == b"\xFF\xC0")
        .unwrap();
    huge[frame + 5..frame + 9].copy_from_slice(&[0xFF; 4]);
    let refused = read(huge, json!({}));
    assert!(
        matches!(&refused, Err(Error::Exceeded(over)) if over.limit == "side"),
        "{refused:?}"
    );
    // The conversion counts, too.
    let (_, gray, _) = fixture!("gray", "png");
    assert!(read(gray, json!({ "bytes": 117 })).is_ok());
    assert!(read(gray, json!({ "bytes": 117, "to": "rgb8" })).is_err());
}

#[test]
fn a_file_that_was_cut_short_is_refused_wherever_it_ends() {
    for (name, file, _) in [
        fixture!("rgb", "png"),
        fixture!("palette", "png"),
        fixture!("baseline", "jpg"),
        fixture!("progressive", "jpg"),
    ] {
        for length in 0..file.len() {
            let refused = read(&file[..length], json!({}));
            assert!(
                matches!(refused, Err(Error::Invalid(_))),
                "{name}, {length} of {} bytes: {:?}",
                file.len(),
                refused.map(|chunks| chunks.len())
            );
        }
    }
}

#[test]
fn a_file_that_is_another_is_refused() {
    let told = |file: &[u8], arguments| read(file, arguments).unwrap_err().to_string();
    assert!(told(b"GIF89a", json!({})).contains("neither PNG nor JPEG"));
    let (_, file, _) = fixture!("rgb", "png");
    let text = told(file, json!({ "modality": "image/jpeg" }));
    assert!(text.contains("the file is `image/png`"), "{text}");
    let mut damaged = file.to_vec();
    damaged[40] ^= 1;
    let text = told(&damaged, json!({}));
    assert!(text.contains("malformed"), "{text}");
}

#[test]
fn an_error_of_the_blob_comes_out_as_it_was() {
    for (name, file, _) in [fixture!("rgb", "png"), fixture!("baseline", "jpg")] {
        let memory = Memory::new(&file[..100]).claiming(10_000_000);
        let plan = Plan::new("{}").unwrap();
        let ended = decode(memory.reader().unwrap(), memory.chunks(), plan);
        assert!(
            matches!(&ended, Err(Error::Failed(text)) if text.contains("changed while it was read")),
            "{name}: {ended:?}"
        );
    }
}

#[test]
fn a_file_is_known_by_its_first_bytes() {
    let mut plugin = Image;
    let (_, png, _) = fixture!("rgb", "png");
    let (_, jpeg, _) = fixture!("baseline", "jpg");
    assert_eq!(plugin.detect("a", png).as_deref(), Some("image/png"));
    assert_eq!(plugin.detect("a", jpeg).as_deref(), Some("image/jpeg"));
    assert_eq!(plugin.detect("a.png", b"plain text"), None);
}

proptest! {
    #[test]
    fn no_file_brings_the_plugin_down(
        which in 0usize..6,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (_, file, _) = [
            fixture!("rgba", "png"),
            fixture!("palette-alpha", "png"),
            fixture!("deep", "png"),
            fixture!("baseline", "jpg"),
            fixture!("progressive", "jpg"),
            fixture!("subsampled", "jpg"),
        ][which];
        let mut file = file.to_vec();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(chunks) = read(file, json!({ "side": 100, "to": "rgb8" })) {
            let chunk = &chunks[0];
            let side = |key| attribute(chunk, key).parse::<usize>().unwrap();
            prop_assert_eq!(chunk.data.len(), side("width") * side("height") * 3);
        }
    }
}
