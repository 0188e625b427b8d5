//! Reads of a file by range, which leave its cursor alone, so that threads can share the file.

use std::fs::File;
use std::io::{self, Write};

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// Fills `buffer` with what stands at `offset`.
///
/// # Errors
///
/// What the system says; [`io::ErrorKind::UnexpectedEof`] when the file has become shorter.
pub(super) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset);
    #[cfg(windows)]
    {
        use std::os::windows::fs::FileExt;
        let (mut rest, mut at) = (buffer, offset);
        while !rest.is_empty() {
            match file.seek_read(rest, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    rest = rest.split_at_mut(count).1;
                    at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Copies the `len` bytes at `offset` to `out`.
pub(super) fn copy_range(
    file: &File,
    offset: u64,
    len: u64,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (mut at, mut left) = (offset, len);
    let mut buffer = vec![0; usize::try_from(len).unwrap_or(COPY_BYTES).min(COPY_BYTES)];
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(COPY_BYTES).min(COPY_BYTES);
        let Some(piece) = buffer.get_mut(..count) else {
            break;
        };
        read_exact_at(file, piece, at)?;
        out.write_all(piece)?;
        at = at.saturating_add(count as u64);
        left = left.saturating_sub(count as u64);
    }
    Ok(())
}
