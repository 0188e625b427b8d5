//! A file whose tensors are read by range.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::SafeTensorsError;
use super::header::{Header, PREFIX_BYTES};
use crate::formats::ranged::{copy_range, read_exact_at};
use crate::{TensorInfo, TensorSource};

/// A SafeTensors file that is open for reading, with its header checked.
#[derive(Debug)]
pub struct SafeTensors {
    file: File,
    path: PathBuf,
    header: Header,
}

impl SafeTensors {
    /// Opens a file and reads its header, and nothing else.
    ///
    /// # Errors
    ///
    /// [`SafeTensorsError::Io`] and [`SafeTensorsError::File`].
    pub fn open(path: &Path) -> Result<Self, SafeTensorsError> {
        let io = |action| {
            move |source| SafeTensorsError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let fault = |fault| SafeTensorsError::File {
            path: path.to_owned(),
            fault,
        };
        let file = File::open(path).map_err(io("open"))?;
        let file_len = file.metadata().map_err(io("look at"))?.len();
        let mut prefix = [0; 8];
        let known = usize::try_from(file_len).unwrap_or(usize::MAX).min(8);
        let prefix = &mut prefix[..known];
        read_exact_at(&file, prefix, 0).map_err(io("read"))?;
        let len = Header::claimed_len(prefix, file_len).map_err(fault)?;
        let mut text = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        read_exact_at(&file, &mut text, PREFIX_BYTES).map_err(io("read"))?;
        let header = Header::parse_text(&text, file_len).map_err(fault)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            header,
        })
    }

    /// The file as it was named when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What stands under `__metadata__`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.header.metadata()
    }

    /// Where the data of tensor number `index` stand, in bytes from the file's beginning.
    pub fn data_range(&self, index: usize) -> Option<Range<u64>> {
        self.header.data_range(index)
    }

    /// The number of the tensor of that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        let tensors = self.header.tensors();
        tensors.iter().position(|tensor| tensor.name == name)
    }

    /// The data of tensor number `index`; `None` where there is no such tensor.
    ///
    /// # Errors
    ///
    /// What reading fails with; [`io::ErrorKind::UnexpectedEof`] when the file was cut since.
    pub fn read_tensor(&self, index: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(range) = self.data_range(index) else {
            return Ok(None);
        };
        let len = usize::try_from(range.end - range.start);
        let mut data = vec![0; len.map_err(|_| io::ErrorKind::OutOfMemory)?];
        read_exact_at(&self.file, &mut data, range.start)?;
        Ok(Some(data))
    }
}

impl TensorSource for SafeTensors {
    fn tensors(&self) -> &[TensorInfo] {
        self.header.tensors()
    }

    fn write_tensor(&self, index: usize, out: &mut dyn Write) -> io::Result<()> {
        let range = self.data_range(index);
        let range = range.unwrap_or_else(|| panic!("there is no tensor number {index}"));
        copy_range(&self.file, range.start, range.end - range.start, out)
    }
}
