//! An image in memory, and on its way out.

use std::num::NonZeroU32;

use serde::Deserialize;
use vox_plugin::decode::{Chunks, Sink};
use vox_plugin::{Result, attribute};

/// What the pixels of a chunk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Luma.
    Gray8,
    /// Red, green, blue.
    Rgb8,
    /// The same, and how opaque the pixel is.
    Rgba8,
}

impl Format {
    fn modality(self) -> &'static str {
        match self {
            Self::Gray8 => "image/gray8",
            Self::Rgb8 => "image/rgb8",
            Self::Rgba8 => "image/rgba8",
        }
    }

    /// Bytes of a pixel.
    pub fn pixel(self) -> usize {
        match self {
            Self::Gray8 => 1,
            Self::Rgb8 => 3,
            Self::Rgba8 => 4,
        }
    }
}

/// What the pixels of an image are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Samples {
    /// Luma.
    Gray,
    /// Luma, and how opaque the pixel is.
    GrayAlpha,
    /// Red, green, blue.
    Rgb,
    /// The same, and how opaque the pixel is.
    Rgba,
}

impl Samples {
    /// Bytes of a pixel.
    pub fn pixel(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::GrayAlpha => 2,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// The format that loses nothing.
    pub fn format(self) -> Format {
        match self {
            Self::Gray => Format::Gray8,
            Self::Rgb => Format::Rgb8,
            Self::GrayAlpha | Self::Rgba => Format::Rgba8,
        }
    }

    /// Bytes of the larger pixel when these samples become `format`.
    pub fn largest_pixel(self, format: Option<Format>) -> usize {
        self.pixel().max(format.unwrap_or(self.format()).pixel())
    }
}

/// An image.
#[derive(Debug)]
pub struct Picture {
    /// Pixels of a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// What a pixel is.
    pub samples: Samples,
    /// All of them.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Pushes the pixels, `rows` rows to a chunk.
    ///
    /// # Errors
    ///
    /// As [`Sink::push`].
    pub fn push(
        &self,
        to: Option<Format>,
        rows: Option<NonZeroU32>,
        chunks: &mut Chunks<impl Sink>,
    ) -> Result<()> {
        let format = to.unwrap_or(self.samples.format());
        let row_bytes = self.width as usize * self.samples.pixel();
        let rows = rows.map_or(self.height, NonZeroU32::get).min(self.height);
        let mut converted = Vec::new();
        let mut row = 0;
        for part in self.pixels.chunks(row_bytes * rows as usize) {
            let count = (part.len() / row_bytes) as u32;
            let data = if self.samples.pixel() == format.pixel() {
                part
            } else {
                converted.clear();
                convert(part, self.samples, format, &mut converted);
                &converted
            };
            let attributes = vec![
                attribute("width", self.width.to_string()),
                attribute("height", self.height.to_string()),
                attribute("row", row.to_string()),
                attribute("rows", count.to_string()),
            ];
            chunks.push(format.modality(), 0, attributes, data)?;
            row += count;
        }
        Ok(())
    }
}

fn convert(pixels: &[u8], from: Samples, to: Format, out: &mut Vec<u8>) {
    out.reserve_exact(pixels.len() / from.pixel() * to.pixel());
    for pixel in pixels.chunks_exact(from.pixel()) {
        let ([red, green, blue], alpha) = match *pixel {
            [luma] => ([luma; 3], 255),
            [luma, alpha] => ([luma; 3], alpha),
            [red, green, blue] => ([red, green, blue], 255),
            [red, green, blue, alpha] => ([red, green, blue], alpha),
            _ => continue,
        };
        match to {
            Format::Gray8 => out.push(luma(red, green, blue)),
            Format::Rgb8 => out.extend_from_slice(&[red, green, blue]),
            Format::Rgba8 => out.extend_from_slice(&[red, green, blue, alpha]),
        }
    }
}

/// BT.601, in fractions of 2^16.
fn luma(red: u8, green: u8, blue: u8) -> u8 {
    let sum = 19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}
