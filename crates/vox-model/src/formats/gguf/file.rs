//! A file whose tensors are read by range.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use super::dequant::dequantise;
use super::error::{GgufError, GgufFault};
use super::header::{Header, StoredTensor};
use super::metadata::Metadata;
use crate::formats::ranged::read_exact_at;

/// A GGUF file that is open for reading, with its header checked.
#[derive(Debug)]
pub struct Gguf {
    file: File,
    path: PathBuf,
    header: Header,
}

impl Gguf {
    /// Opens a file and reads its header, and nothing else.
    ///
    /// # Errors
    ///
    /// [`GgufError::Io`] and [`GgufError::File`].
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let io = |action| {
            move |source| GgufError::Io {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let file = File::open(path).map_err(io("open"))?;
        let len = file.metadata().map_err(io("look at"))?.len();
        let mut input = BufReader::with_capacity(1 << 18, &file);
        let header =
            Header::read_checked(&mut input, len).map_err(|error| error.with_path(path))?;
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

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        self.header.metadata()
    }

    /// The tensors in the file's order.
    pub fn tensors(&self) -> &[StoredTensor] {
        self.header.tensors()
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors().iter().find(|tensor| tensor.name == name)
    }

    /// Fills `buffer` with the file's bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        read_exact_at(&self.file, buffer, offset)
    }

    /// A whole tensor as `f32`, in the file's own layout; for small ones.
    ///
    /// # Errors
    ///
    /// What reading fails with; [`GgufFault::NotDequantised`] as [`io::ErrorKind::InvalidData`].
    pub fn read_f32(&self, tensor: &StoredTensor) -> io::Result<Vec<f32>> {
        let len = tensor.range.end.saturating_sub(tensor.range.start);
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut blocks = vec![0; len];
        self.read_at(&mut blocks, tensor.range.start)?;
        let mut values = Vec::new();
        if !dequantise(tensor.kind, &blocks, &mut values) {
            let fault = GgufFault::NotDequantised {
                tensor: tensor.name.clone(),
                kind: tensor.kind,
            };
            return Err(io::Error::new(io::ErrorKind::InvalidData, fault));
        }
        Ok(values)
    }

    /// An error of this file.
    pub(super) fn fault(&self, fault: GgufFault) -> GgufError {
        GgufError::File {
            path: self.path.clone(),
            fault,
        }
    }
}
