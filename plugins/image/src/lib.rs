//! The modality `image`: reads PNG and JPEG files into pixels, or hands them on as they are.
//!
//! | argument | default | meaning |
//! |---|---|---|
//! | `modality` | by the file | `"image/png"` or `"image/jpeg"`; a file that is the other one is refused |
//! | `as` | `"pixels"` | `"pixels"`, or `"file"`: the file's bytes as one chunk of its own modality, unread |
//! | `to` | as the file | the format of the pixels: `"gray8"`, `"rgb8"` or `"rgba8"` |
//! | `rows` | all | rows of pixels in a chunk |
//! | `side` | 16384 | pixels that an image may be wide or high, up to 65535 |
//! | `bytes` | 134217728 | bytes of the pixels, or of the file with `as = "file"`, up to 268435456 |
//!
//! Pixels are chunks of modality `image/gray8`, `image/rgb8` or `image/rgba8`: rows from the top, pixels from the
//! left, a byte for each sample, nothing in between.
//!
//! | attribute | meaning |
//! |---|---|
//! | `width` | pixels of a row |
//! | `height` | rows of the image |
//! | `row` | the chunk's first row, counted from 0 |
//! | `rows` | rows of the chunk |
//! | `bytes` | with `as = "file"` alone, and in place of the others: bytes of the file |
//!
//! Palettes are resolved, samples of less than a byte are widened, and of 16 bits the upper 8 are kept. To
//! gray, colour goes by its luma (BT.601); transparency is dropped where the format has none. Of an animated
//! PNG the still image is read. Colour profiles, gamma and the orientation that a camera notes are not
//! applied.
//!
//! What must stay true: what an image says of its size is compared with the limits before memory is taken
//! for it.

mod arguments;
mod jpeg;
mod picture;
mod png;

#[cfg(test)]
mod tests;

use vox_plugin::decode::{Blob, Chunks, HostBlob, HostSink, Reader, Sink};
use vox_plugin::{Error, Modality, Result, attribute, plugin};

use crate::arguments::{Kind, Limits, Plan, What};

/// The plugin: it keeps nothing.
#[plugin(modality)]
#[derive(Default)]
struct Image;

impl Modality for Image {
    fn detect(&mut self, _name: &str, prefix: &[u8]) -> Option<String> {
        Kind::of_prefix(prefix).map(|kind| kind.modality().to_owned())
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

/// Reads a file and pushes its chunks; answers how many.
fn decode(mut file: Reader<impl Blob>, mut chunks: Chunks<impl Sink>, plan: Plan) -> Result<u64> {
    let kind = Kind::of_prefix(file.piece()?.unwrap_or_default()).ok_or_else(|| {
        Error::Invalid("the file is neither PNG nor JPEG; its first bytes say so".to_owned())
    })?;
    if let Some(asked) = plan.kind.filter(|asked| *asked != kind) {
        return Err(Error::Invalid(format!(
            "`modality` is `{}`, and the file is `{}`",
            asked.modality(),
            kind.modality()
        )));
    }
    file.go_to(0);
    match plan.what {
        What::File => push_file(file, &mut chunks, kind, plan.limits)?,
        What::Pixels { to, rows } => {
            let picture = match kind {
                Kind::Png => png::read(file, to, plan.limits)?,
                Kind::Jpeg => jpeg::read(file, to, plan.limits)?,
            };
            picture.push(to, rows, &mut chunks)?;
        }
    }
    Ok(chunks.count())
}

fn push_file(
    mut file: Reader<impl Blob>,
    chunks: &mut Chunks<impl Sink>,
    kind: Kind,
    limits: Limits,
) -> Result<()> {
    limits.check_bytes(file.size())?;
    let mut bytes = Vec::new();
    while let Some(piece) = file.piece()? {
        bytes.extend_from_slice(piece);
    }
    let attributes = vec![attribute("bytes", bytes.len().to_string())];
    chunks.push(kind.modality(), 0, attributes, &bytes)
}
