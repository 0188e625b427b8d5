//! How a sample is written.

use std::fmt;

use serde::Deserialize;

/// The format of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One byte, 128 for silence.
    U8,
    /// Two bytes with a sign, the least significant first.
    S16Le,
    /// Two bytes with a sign, the most significant first.
    S16Be,
    /// Three bytes with a sign.
    S24Le,
    /// Four bytes with a sign.
    S32Le,
    /// A float of 32 bits.
    F32Le,
    /// A float of 64 bits.
    F64Le,
}

impl Format {
    /// Bytes of a sample.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::S16Le | Self::S16Be => 2,
            Self::S24Le => 3,
            Self::S32Le | Self::F32Le => 4,
            Self::F64Le => 8,
        }
    }

    /// A sample, 1.0 for full scale; `bytes` are as many as it has.
    pub fn read(self, bytes: &[u8]) -> f64 {
        match (self, bytes) {
            (Self::U8, &[a]) => f64::from(i16::from(a) - 128) / scale(8),
            (Self::S16Le, &[a, b]) => f64::from(i16::from_le_bytes([a, b])) / scale(16),
            (Self::S16Be, &[a, b]) => f64::from(i16::from_be_bytes([a, b])) / scale(16),
            (Self::S24Le, &[a, b, c]) => {
                f64::from(i32::from_le_bytes([0, a, b, c]) >> 8) / scale(24)
            }
            (Self::S32Le, &[a, b, c, d]) => f64::from(i32::from_le_bytes([a, b, c, d])) / scale(32),
            (Self::F32Le, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (Self::F64Le, &[a, b, c, d, e, f, g, h]) => {
                f64::from_le_bytes([a, b, c, d, e, f, g, h])
            }
            _ => 0.0,
        }
    }

    /// Adds a sample to `out`.
    pub fn write(self, sample: f64, out: &mut Vec<u8>) {
        // The conversions clip, and make a number of what is none.
        let whole = |bits: u32| {
            let scaled = (sample * scale(bits)).round();
            scaled.clamp(-scale(bits), scale(bits) - 1.0) as i32
        };
        match self {
            Self::U8 => out.push((whole(8) + 128) as u8),
            Self::S16Le => out.extend_from_slice(&(whole(16) as i16).to_le_bytes()),
            Self::S16Be => out.extend_from_slice(&(whole(16) as i16).to_be_bytes()),
            Self::S24Le => out.extend_from_slice(&whole(24).to_le_bytes()[..3]),
            Self::S32Le => out.extend_from_slice(&whole(32).to_le_bytes()),
            Self::F32Le => out.extend_from_slice(&(sample as f32).to_le_bytes()),
            Self::F64Le => out.extend_from_slice(&sample.to_le_bytes()),
        }
    }
}

/// Full scale of integers of so many bits.
fn scale(bits: u32) -> f64 {
    f64::from(1u32 << (bits - 1))
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::U8 => "u8",
            Self::S16Le => "s16le",
            Self::S16Be => "s16be",
            Self::S24Le => "s24le",
            Self::S32Le => "s32le",
            Self::F32Le => "f32le",
            Self::F64Le => "f64le",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(format: Format, sample: f64) -> Vec<u8> {
        let mut out = Vec::new();
        format.write(sample, &mut out);
        out
    }

    #[test]
    fn what_is_too_loud_is_clipped() {
        assert_eq!(written(Format::U8, 2.0), [255]);
        assert_eq!(written(Format::U8, -2.0), [0]);
        assert_eq!(written(Format::S16Le, 1.0), i16::MAX.to_le_bytes());
        assert_eq!(written(Format::S24Le, -1.5), [0, 0, 0x80]);
        assert_eq!(
            written(Format::S32Le, f64::INFINITY),
            i32::MAX.to_le_bytes()
        );
        assert_eq!(written(Format::S16Le, f64::NAN), [0, 0]);
        assert_eq!(written(Format::F32Le, 2.0), 2f32.to_le_bytes());
    }

    proptest! {
        #[test]
        fn a_sample_passes_through_its_own_format_unchanged(bytes: [u8; 4]) {
            for format in [Format::U8, Format::S16Le, Format::S16Be, Format::S24Le, Format::S32Le] {
                let sample = &bytes[..format.bytes()];
                prop_assert_eq!(written(format, format.read(sample)), sample, "{}", format);
                let widened = written(Format::F64Le, format.read(sample));
                prop_assert_eq!(written(format, Format::F64Le.read(&widened)), sample);
            }
        }
    }
}
