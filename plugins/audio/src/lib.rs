//! The modality `audio`: reads WAV files, and raw PCM that the arguments describe, in frames.
//!
//! | modality of the file | chunks | their modality |
//! |---|---|---|
//! | `audio/wav`: RIFF and RF64, of integers and floats | frames | `audio/pcm` |
//! | `audio/pcm`: samples and nothing else | frames | `audio/pcm` |
//!
//! | argument | default | meaning |
//! |---|---|---|
//! | `modality` | by `format` | what the file is: the first column above |
//! | `frame` | 20 | milliseconds of a frame, 1 to 60000 |
//! | `start` | 0 | when the first sample was taken, in nanoseconds since the Unix epoch |
//! | `mono` | `false` | the channels of a sample are averaged to one |
//! | `to` | as the file | the format of the chunks |
//! | `truncated` | `"refuse"` | a file that holds fewer samples than it says is refused, or its samples are taken: `"accept"` |
//! | `format` | | of raw PCM, needed there: the format of its samples |
//! | `rate` | | of raw PCM, needed there: samples a second, 1 to 6144000 |
//! | `channels` | 1 | of raw PCM: 1 to 256 |
//!
//! Formats are `u8`, `s16le`, `s16be`, `s24le`, `s32le`, `f32le` and `f64le`. Full scale is 1.0 in a format
//! of floats. What is louder is clipped in one of integers.
//!
//! | attribute | meaning |
//! |---|---|
//! | `sample-rate` | samples a second |
//! | `channels` | channels, whose samples alternate |
//! | `format` | the format of a sample |
//! | `samples` | samples of the chunk in each channel |
//!
//! A chunk's timestamp is that of its first sample. Where a frame is no whole number of samples, frames
//! differ by one, so that they never drift from the clock; the last may be shorter. A frame has 8 MiB at
//! most, before and after it is converted.
//!
//! What must stay true: without `mono` and `to` the chunks put together are the file's samples, bit for
//! bit; and memory is bounded by one frame, whatever the file says of itself.

mod arguments;
mod format;
mod frames;
mod wav;

#[cfg(test)]
mod tests;

use vox_plugin::decode::{Blob, Chunks, HostBlob, HostSink, Reader, Sink};
use vox_plugin::{Modality, Result, plugin};

use crate::arguments::{Kind, Plan};
use crate::wav::Layout;

/// The plugin: it keeps nothing.
#[plugin(modality)]
#[derive(Default)]
struct Audio;

impl Modality for Audio {
    fn detect(&mut self, name: &str, prefix: &[u8]) -> Option<String> {
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        if wav::is_wav(prefix) {
            Some("audio/wav".to_owned())
        } else if extension.eq_ignore_ascii_case("pcm") {
            Some("audio/pcm".to_owned())
        } else {
            None
        }
    }

    fn decode(&mut self, blob: &str, arguments: &str) -> Result<u64> {
        let plan = Plan::new(arguments)?;
        decode(
            Reader::new(HostBlob::new(blob))?,
            Chunks::new(HostSink),
            plan,
        )
    }
}

/// Reads a file and pushes its frames; answers how many.
fn decode(mut file: Reader<impl Blob>, mut chunks: Chunks<impl Sink>, plan: Plan) -> Result<u64> {
    let layout = match plan.kind {
        Kind::Wav => wav::layout(&mut file)?,
        Kind::Raw(signal) => Layout {
            signal,
            samples: 0..file.size(),
            promised: Some(file.size()),
        },
    };
    frames::push(&mut file, &mut chunks, &layout, &plan)?;
    Ok(chunks.count())
}
