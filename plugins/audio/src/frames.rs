//! Samples on their way out, one frame to a chunk.

use std::io::Read;

use vox_plugin::decode::{Blob, Chunks, Reader, Sink};
use vox_plugin::{Error, Exceeded, Result, attribute};

use crate::arguments::{Plan, Signal, Truncated};
use crate::wav::Layout;

/// Bytes of a frame at most, before and after it is converted.
const MOST_BYTES: u64 = 8 * 1024 * 1024;
const NANOSECONDS: u128 = 1_000_000_000;

/// Reads the samples and pushes them.
pub fn push(
    file: &mut Reader<impl Blob>,
    chunks: &mut Chunks<impl Sink>,
    layout: &Layout,
    plan: &Plan,
) -> Result<()> {
    let Layout {
        signal, samples, ..
    } = layout;
    if plan.truncated == Truncated::Refuse {
        refuse_truncated(layout)?;
    }
    let out = Signal {
        format: plan.to.unwrap_or(signal.format),
        channels: if plan.mono { 1 } else { signal.channels },
        ..*signal
    };
    let longest = frame_end(signal.rate, plan.frame, 0) + 1;
    refuse_too_large(longest * signal.block().max(out.block()))?;

    let count = (samples.end - samples.start) / signal.block();
    let mut input = Vec::new();
    let mut output = Vec::new();
    file.go_to(samples.start);
    let mut at = 0;
    while at < count {
        let end = frame_end(signal.rate, plan.frame, at).min(count);
        input.resize(((end - at) * signal.block()) as usize, 0);
        file.read_exact(&mut input)?;
        let data = if out == *signal {
            &input
        } else {
            output.clear();
            convert(&input, signal, &out, &mut output);
            &output
        };
        let attributes = vec![
            attribute("sample-rate", out.rate.to_string()),
            attribute("channels", out.channels.to_string()),
            attribute("format", out.format.to_string()),
            attribute("samples", (end - at).to_string()),
        ];
        let timestamp = timestamp(plan.start, at, signal.rate)?;
        chunks.push("audio/pcm", timestamp, attributes, data)?;
        at = end;
    }
    Ok(())
}

/// Where the frame ends that begins with sample `at`. At a low rate not every frame has a sample; those
/// that have none are passed over.
fn frame_end(rate: u32, milliseconds: u32, at: u64) -> u64 {
    let thousandths = u128::from(rate) * u128::from(milliseconds);
    let frame = (u128::from(at + 1) * 1000).div_ceil(thousandths);
    u64::try_from(frame * thousandths / 1000).unwrap_or(u64::MAX)
}

/// When a sample was taken.
fn timestamp(start: u64, sample: u64, rate: u32) -> Result<u64> {
    let since = u128::from(sample) * NANOSECONDS / u128::from(rate);
    u64::try_from(u128::from(start) + since).map_err(|_| {
        Error::Invalid(format!(
            "`start` is {start}, and the file goes on beyond what nanoseconds since 1970 can say"
        ))
    })
}

fn refuse_truncated(layout: &Layout) -> Result<()> {
    let found = layout.samples.end - layout.samples.start;
    let block = layout.signal.block();
    let told = match layout.promised {
        Some(promised) if promised > found => {
            format!("says it has {promised} bytes of samples and has {found}")
        }
        Some(_) if !found.is_multiple_of(block) => {
            format!("has {found} bytes of samples, which are {block} bytes each")
        }
        _ => return Ok(()),
    };
    Err(Error::Invalid(format!(
        "the file {told}: it was cut short; take what there is with `truncated = \"accept\"`"
    )))
}

fn refuse_too_large(bytes: u64) -> Result<()> {
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    Err(Error::Exceeded(Exceeded {
        limit: "frame".to_owned(),
        value: MOST_BYTES,
        remedy: format!("a frame would have {bytes} bytes; ask for a shorter one with `frame`"),
    }))
}

fn convert(input: &[u8], from: &Signal, to: &Signal, output: &mut Vec<u8>) {
    let samples = input
        .chunks_exact(from.format.bytes())
        .map(|sample| from.format.read(sample));
    if from.channels == to.channels {
        samples.for_each(|sample| to.format.write(sample, output));
        return;
    }
    let channels = from.channels as usize;
    let mut sum = 0.0;
    for (at, sample) in samples.enumerate() {
        sum += sample;
        if (at + 1) % channels == 0 {
            to.format.write(sum / f64::from(from.channels), output);
            sum = 0.0;
        }
    }
}
