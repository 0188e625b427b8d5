//! JPEG, by the crate `zune-jpeg`: baseline and progressive, of 8 bits.
//!
//! The crate fills in what is missing at the end of an image. So that no file that was cut short passes
//! for a whole one, its markers are followed first, up to the one that ends it.

use std::io::BufRead;

use vox_plugin::decode::{Blob, Reader};
use vox_plugin::{Error, Result};
use zune_core::bytestream::ZByteIoError;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use crate::arguments::Limits;
use crate::picture::{Format, Picture, Samples};

/// Passes over a progressive image at most: each takes as long as the image is large.
const MOST_SCANS: usize = 64;

/// Reads an image that is to become `to`.
///
/// # Errors
///
/// [`Error::Invalid`] when the file is none, [`Error::Exceeded`] when it is too large.
pub fn read(mut file: Reader<impl Blob>, to: Option<Format>, limits: Limits) -> Result<Picture> {
    find_end(&mut file)?;
    file.go_to(0);
    // Its own limits are as wide as the format's, so that ours are told.
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_max_scans(MOST_SCANS);
    let mut decoder = JpegDecoder::new_with_options(file, options);
    decoder.decode_headers().map_err(wrong)?;
    let (Some(info), Some(space)) = (decoder.info(), decoder.input_colorspace()) else {
        return Err(Error::Invalid("the JPEG file holds no image".to_owned()));
    };
    let (samples, space) = if space == ColorSpace::Luma {
        (Samples::Gray, ColorSpace::Luma)
    } else {
        (Samples::Rgb, ColorSpace::RGB)
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    limits.check(width, height, samples.largest_pixel(to))?;
    let mut pixels = vec![0; width as usize * height as usize * samples.pixel()];
    decoder.decode_into(&mut pixels).map_err(wrong)?;
    Ok(Picture {
        width,
        height,
        samples,
        pixels,
    })
}

/// Follows the markers of a file to the one that ends the image.
fn find_end(file: &mut Reader<impl Blob>) -> Result<()> {
    file.go_to(2);
    loop {
        let at = file.position();
        if byte(file)? != 0xFF {
            return Err(Error::Invalid(format!(
                "the JPEG file is malformed: there is no marker at offset {at}"
            )));
        }
        let mut marker = byte(file)?;
        while marker == 0xFF {
            marker = byte(file)?;
        }
        match marker {
            // The end.
            0xD9 => return Ok(()),
            // These have no content.
            0x01 | 0xD0..=0xD8 => {}
            _ => {
                let begins = file.position();
                let length = u16::from_be_bytes([byte(file)?, byte(file)?]);
                file.go_to(begins + u64::from(length));
                // The start of a scan, whose samples follow.
                if marker == 0xDA {
                    skip_samples(file)?;
                }
            }
        }
    }
}

/// Goes to the next marker that is not one of a scan's own.
fn skip_samples(file: &mut Reader<impl Blob>) -> Result<()> {
    loop {
        let piece = file.fill_buf()?;
        if piece.is_empty() {
            return Err(cut_short());
        }
        let quiet = piece.iter().position(|byte| *byte == 0xFF);
        let length = quiet.unwrap_or(piece.len());
        file.consume(length);
        if quiet.is_none() {
            continue;
        }
        let at = file.position();
        file.consume(1);
        if !matches!(byte(file)?, 0x00 | 0xD0..=0xD7) {
            file.go_to(at);
            return Ok(());
        }
    }
}

fn byte(file: &mut Reader<impl Blob>) -> Result<u8> {
    let next = file.fill_buf()?.first().copied();
    file.consume(1);
    next.ok_or_else(cut_short)
}

fn cut_short() -> Error {
    Error::Invalid("the JPEG file was cut short".to_owned())
}

fn wrong(error: DecodeErrors) -> Error {
    match error {
        DecodeErrors::IoErrors(ZByteIoError::StdIoError(error))
            if error.kind() == std::io::ErrorKind::Other =>
        {
            error.into()
        }
        DecodeErrors::IoErrors(_) | DecodeErrors::ExhaustedData => cut_short(),
        error => Error::Invalid(format!("the JPEG file is malformed: {error:?}")),
    }
}
