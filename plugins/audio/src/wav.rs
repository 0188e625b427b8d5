//! Where the samples stand in a WAV file, and what they are.
//!
//! Own code, because the crates that read WAV read from the beginning to the end, know no RF64, or
//! take the header's word for what follows. Only the headers of its parts are looked at; those that
//! are not needed are passed over by their size, unread.

use std::io::{ErrorKind, Read};
use std::ops::Range;

use vox_plugin::decode::{Blob, Reader};
use vox_plugin::{Error, Result};

use crate::arguments::Signal;
use crate::format::Format;

/// Parts in front of the samples at most. Files have less than ten.
const MOST_PARTS: usize = 1000;
/// What stands for a size that is not known, or told elsewhere.
const UNKNOWN: u32 = u32::MAX;
/// What follows the two bytes of the format in the name of an extended format.
const EXTENDED: &[u8] = b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71";

/// Where samples stand.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// What they are.
    pub signal: Signal,
    /// Their place in the file, which holds all of it.
    pub samples: Range<u64>,
    /// How many bytes there should be; none when the file does not know.
    pub promised: Option<u64>,
}

/// Whether a file begins as WAV files do.
pub fn is_wav(prefix: &[u8]) -> bool {
    matches!(prefix.get(..4), Some(b"RIFF" | b"RF64" | b"BW64"))
        && prefix.get(8..12) == Some(b"WAVE")
}

/// Reads the headers.
///
/// # Errors
///
/// [`Error::Invalid`] when the file is none, or of a kind that this does not read.
pub fn layout(file: &mut Reader<impl Blob>) -> Result<Layout> {
    let start: [u8; 12] = read(file, "the header")?;
    if !is_wav(&start) {
        return Err(wrong(
            0,
            "this is no WAV file; describe raw PCM with `format` and `rate`",
        ));
    }
    let mut signal = None;
    let mut long_size = None;
    for _ in 0..MOST_PARTS {
        let at = file.position();
        if at == file.size() {
            return Err(wrong(at, "the file ends before its samples"));
        }
        let header: [u8; 8] = read(file, "the header of a part")?;
        let [a, b, c, d, size @ ..] = header;
        let size = u32::from_le_bytes(size);
        let begins = file.position();
        match &[a, b, c, d] {
            b"fmt " => signal = Some(signal_of(file, at, size)?),
            b"ds64" => {
                let sizes: [u8; 16] = read(file, "the part `ds64`")?;
                let [.., a, b, c, d, e, f, g, h] = sizes;
                long_size = Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            }
            b"data" => {
                let Some(signal) = signal else {
                    return Err(wrong(at, "the samples stand before the part `fmt `"));
                };
                let promised = match (size, long_size) {
                    (UNKNOWN, long_size) => long_size,
                    _ => Some(u64::from(size)),
                };
                let available = file.size() - begins;
                let length = promised.map_or(available, |promised| promised.min(available));
                return Ok(Layout {
                    signal,
                    samples: begins..begins + length,
                    promised,
                });
            }
            _ => {}
        }
        // Parts begin at even places.
        let next = begins + u64::from(size) + u64::from(size % 2);
        if next > file.size() {
            let name = String::from_utf8_lossy(&header[..4])
                .escape_debug()
                .to_string();
            return Err(wrong(
                at,
                &format!("the part `{name}` of {size} bytes goes beyond the end of the file"),
            ));
        }
        file.go_to(next);
    }
    Err(wrong(
        file.position(),
        &format!("there are {MOST_PARTS} parts, and no samples among them"),
    ))
}

/// Reads the part that says what samples are.
fn signal_of(file: &mut Reader<impl Blob>, at: u64, size: u32) -> Result<Signal> {
    let basic: [u8; 16] = read(file, "the part `fmt `")?;
    let short = |at: usize| u16::from_le_bytes([basic[at], basic[at + 1]]);
    let [_, _, _, _, r0, r1, r2, r3, ..] = basic;
    let (mut tag, channels, rate) = (short(0), short(2), u32::from_le_bytes([r0, r1, r2, r3]));
    let (block, bits) = (short(12), short(14));
    if size < 16 {
        return Err(wrong(at, "the part `fmt ` is too short"));
    }
    if tag == 0xFFFE && size >= 40 {
        let extension: [u8; 24] = read(file, "the part `fmt `")?;
        if &extension[10..] != EXTENDED {
            return Err(wrong(
                at,
                "the samples are of a format that this does not read",
            ));
        }
        tag = u16::from_le_bytes([extension[8], extension[9]]);
    }
    let format = match (tag, bits.div_ceil(8)) {
        (1, 1) => Format::U8,
        (1, 2) => Format::S16Le,
        (1, 3) => Format::S24Le,
        (1, 4) => Format::S32Le,
        (3, 4) => Format::F32Le,
        (3, 8) => Format::F64Le,
        _ => {
            return Err(wrong(
                at,
                &format!(
                    "samples of format {tag} with {bits} bits are not read; integers of 8 to 32 bits \
                     and floats are. Convert the file first, such as with `ffmpeg -i in.wav -c:a \
                     pcm_s16le out.wav`"
                ),
            ));
        }
    };
    let signal = Signal {
        format,
        channels: u32::from(channels),
        rate,
    };
    if !(1..=Signal::MOST_CHANNELS).contains(&signal.channels)
        || !(1..=Signal::MOST_RATE).contains(&rate)
    {
        return Err(wrong(
            at,
            &format!("the file says it has {channels} channels of {rate} samples a second"),
        ));
    }
    if u64::from(block) != signal.block() {
        return Err(wrong(
            at,
            &format!(
                "the file says that a sample of {channels} channels of {bits} bits has {block} bytes, \
                 and that are {}",
                signal.block()
            ),
        ));
    }
    Ok(signal)
}

fn read<const N: usize>(file: &mut Reader<impl Blob>, what: &str) -> Result<[u8; N]> {
    let at = file.position();
    let mut bytes = [0; N];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Err(wrong(at, &format!("the file ends within {what}")))
        }
        Err(error) => Err(error.into()),
    }
}

fn wrong(at: u64, what: &str) -> Error {
    Error::Invalid(format!("at offset {at}: {what}"))
}
