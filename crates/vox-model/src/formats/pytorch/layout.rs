//! From the bytes of a storage to the bytes of a tensor in row-major order.

use std::io::{self, Read, Seek, SeekFrom, Write};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::pickle::Tensor;
use super::{Bytes, Fault};

/// Bytes that are moved at once.
const CHUNK: usize = 64 << 10;

/// Where the data of a storage is.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) key: String,
    /// Position in the file.
    pub(super) at: u64,
    /// Bytes of the storage.
    pub(super) len: u64,
    /// Bytes in the file, if they are deflated.
    pub(super) packed: Option<u64>,
    pub(super) crc: Option<u32>,
}

/// Writes the tensor's data. A tensor that lies in its storage otherwise than row by row is gathered
/// in memory, which takes as much as the part of the storage that it spans.
pub(super) fn write(
    bytes: &mut Box<dyn Bytes>,
    tensor: &Tensor,
    stored: &Stored,
    out: &mut dyn Write,
) -> Result<(), Fault> {
    let size = tensor.dtype.size();
    let span = super::pickle::extent(&tensor.shape, &tensor.strides)
        .and_then(|extent| extent.checked_mul(size));
    let span = span.unwrap_or(u64::MAX);
    if span == 0 {
        return Ok(());
    }
    if is_row_major(tensor) {
        return read(bytes, stored, tensor.start, span, out);
    }
    let mut gathered = Vec::new();
    read(bytes, stored, tensor.start, span, &mut gathered)?;
    let mut out = io::BufWriter::with_capacity(CHUNK, out);
    gather(&gathered, tensor, &mut out)
        .and_then(|()| out.flush())
        .map_err(Fault::Read)
}

/// Whether the elements follow each other; the stride of a dimension of size 1 says nothing.
fn is_row_major(tensor: &Tensor) -> bool {
    let mut expected = 1_u64;
    for (&size, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
        if size != 1 && stride != expected {
            return false;
        }
        expected = expected.saturating_mul(size);
    }
    true
}

/// Copies `len` bytes from `start` of the storage.
fn read(
    bytes: &mut Box<dyn Bytes>,
    stored: &Stored,
    start: u64,
    len: u64,
    out: &mut dyn Write,
) -> Result<(), Fault> {
    // A checksum can be compared only when everything that it covers passes by.
    let whole = start == 0 && len == stored.len;
    let mut checked = Checked {
        out,
        crc: stored.crc.filter(|_| whole).map(|crc| (crc, Crc::new())),
    };
    let copied = match stored.packed {
        None => {
            let at = stored.at.saturating_add(start);
            bytes.seek(SeekFrom::Start(at)).map_err(Fault::Read)?;
            copy(&mut bytes.take(len), &mut checked)
        }
        Some(packed) => {
            bytes
                .seek(SeekFrom::Start(stored.at))
                .map_err(Fault::Read)?;
            let mut unpacked = DeflateDecoder::new(bytes.take(packed));
            copy(&mut (&mut unpacked).take(start), &mut io::sink())
                .and_then(|_| copy(&mut unpacked.take(len), &mut checked))
        }
    };
    let copied = copied.map_err(Fault::Read)?;
    if copied != len {
        return Err(Fault::StorageSize {
            key: stored.key.clone(),
            expected: stored.len,
            found: start.saturating_add(copied),
        });
    }
    match checked.crc {
        Some((expected, crc)) if crc.sum() != expected => Err(Fault::Checksum {
            key: stored.key.clone(),
        }),
        _ => Ok(()),
    }
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(buffer.get(..count).unwrap_or_default())?;
        copied += count as u64;
    }
}

/// Passes bytes on and sums them up.
struct Checked<'a> {
    out: &'a mut dyn Write,
    crc: Option<(u32, Crc)>,
}

impl Write for Checked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        if let Some((_, crc)) = &mut self.crc {
            crc.update(bytes.get(..count).unwrap_or_default());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Writes the elements in row-major order, like an odometer whose last wheel turns fastest.
fn gather(bytes: &[u8], tensor: &Tensor, out: &mut dyn Write) -> io::Result<()> {
    let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "the storage is too short");
    let size = tensor.dtype.size();
    let mut place = vec![0_u64; tensor.shape.len()];
    let mut at = 0_u64;
    loop {
        let start = usize::try_from(at.saturating_mul(size)).map_err(|_| short())?;
        let end = start.saturating_add(size as usize);
        out.write_all(bytes.get(start..end).ok_or_else(short)?)?;
        let wheels = place
            .iter_mut()
            .zip(tensor.shape.iter().zip(&tensor.strides));
        let mut turned = false;
        for (place, (&size, &stride)) in wheels.rev() {
            *place += 1;
            if *place < size {
                at = at.saturating_add(stride);
                turned = true;
                break;
            }
            at = at.saturating_sub(stride.saturating_mul(size.saturating_sub(1)));
            *place = 0;
        }
        if !turned {
            return Ok(());
        }
    }
}
