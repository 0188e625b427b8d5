//! PNG, by the crate `png`.

use png::{ColorType, Decoder, DecodingError, Transformations};
use vox_plugin::decode::{Blob, Reader};
use vox_plugin::{Error, Result};

use crate::arguments::Limits;
use crate::picture::{Format, Picture, Samples};

/// Reads an image that is to become `to`.
///
/// # Errors
///
/// [`Error::Invalid`] when the file is none, [`Error::Exceeded`] when it is too large.
pub fn read(file: Reader<impl Blob>, to: Option<Format>, limits: Limits) -> Result<Picture> {
    let mut decoder = Decoder::new(file);
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let (width, height) = decoder.read_header_info().map_err(wrong)?.size();
    // Before anything is taken for the rest of the file.
    limits.check(width, height, 1)?;
    let mut image = decoder.read_info().map_err(wrong)?;
    let samples = match image.output_color_type().0 {
        ColorType::Grayscale => Samples::Gray,
        ColorType::GrayscaleAlpha => Samples::GrayAlpha,
        ColorType::Rgb | ColorType::Indexed => Samples::Rgb,
        ColorType::Rgba => Samples::Rgba,
    };
    limits.check(width, height, samples.largest_pixel(to))?;
    let mut pixels = vec![0; width as usize * height as usize * samples.pixel()];
    image.next_frame(&mut pixels).map_err(wrong)?;
    image.finish().map_err(wrong)?;
    Ok(Picture {
        width,
        height,
        samples,
        pixels,
    })
}

fn wrong(error: DecodingError) -> Error {
    match error {
        DecodingError::IoError(error) => match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Error::Invalid("the PNG file was cut short".to_owned())
            }
            _ => error.into(),
        },
        error => Error::Invalid(format!("the PNG file is malformed: {error}")),
    }
}
