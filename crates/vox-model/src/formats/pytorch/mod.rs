//! PyTorch's `.bin`, `.pt` and `.pth` files, read without executing anything.
//!
//! `torch.save` writes a pickle that says how tensors lie in storages, and the storages: as entries of
//! a zip archive since PyTorch 1.6, one after the other before that. [`PyTorchFile`] reads the pickle
//! with the machine in `pickle`, checks every tensor against the storage it lies in, and reads the
//! storages only when a tensor is asked for. What must stay true: no byte of the file is ever run or
//! looked up in Python; nothing that the file claims is believed before it was compared with what is
//! there; what is not a tensor is named by [`PyTorchFile::skipped`], so that nothing is lost silently.

mod archive;
mod error;
mod layout;
mod legacy;
mod pickle;
mod state_dict;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use archive::{MAX_ENTRIES, MAX_RATIO, RATIO_FREE_BYTES};
pub use error::{Error, Fault};
pub use pickle::{
    MAX_INTEGER_BYTES, MAX_MARKS, MAX_PICKLE_BYTES, MAX_PUSHES, MAX_RANK, MAX_TEXT_BYTES,
    MAX_VALUES,
};
pub use state_dict::{MAX_NAME_BYTES, MAX_SHARING, MAX_TENSORS, Skipped};

use crate::{TensorInfo, TensorSource};

/// Where bytes come from. Reading and seeking are all that a format needs.
trait Bytes: Read + Seek + Send {}

impl<T: Read + Seek + Send> Bytes for T {}

/// A PyTorch file whose pickle has been read and whose tensors can be asked for.
pub struct PyTorchFile {
    path: PathBuf,
    /// Guards the position in the file; held while one tensor is read.
    bytes: Mutex<Box<dyn Bytes>>,
    infos: Vec<TensorInfo>,
    tensors: Vec<pickle::Tensor>,
    data: Vec<layout::Stored>,
    skipped: Vec<Skipped>,
}

impl PyTorchFile {
    /// Opens a file and reads everything but the tensors' data.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the system refuses the file, [`Error::Refused`] when the file is not a state
    /// dict of plain tensors or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })?;
        Self::read(BufReader::new(file), path)
    }

    /// Reads from anything that can seek; `path` is how errors call it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn read(
        bytes: impl Read + Seek + Send + 'static,
        path: impl Into<PathBuf>,
    ) -> Result<Self, Error> {
        let path = path.into();
        let mut bytes: Box<dyn Bytes> = Box::new(bytes);
        match Contents::of(&mut bytes) {
            Ok(contents) => Ok(Self {
                path,
                bytes: Mutex::new(bytes),
                infos: contents.dict.infos,
                tensors: contents.dict.tensors,
                data: contents.data,
                skipped: contents.dict.skipped,
            }),
            Err(fault) => Err(Error::of(&path, fault)),
        }
    }

    /// What is in the file and is no tensor of the state dict, in the file's order; the last of a thousand
    /// stands for all that follow.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The path that it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for PyTorchFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PyTorchFile")
            .field("path", &self.path)
            .field("tensors", &self.infos.len())
            .finish_non_exhaustive()
    }
}

impl TensorSource for PyTorchFile {
    fn tensors(&self) -> &[TensorInfo] {
        &self.infos
    }

    fn write_tensor(&self, index: usize, out: &mut dyn Write) -> io::Result<()> {
        let tensor = &self.tensors[index];
        let stored = &self.data[tensor.storage];
        // A panic of another reader leaves the position anywhere, and every read seeks first.
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        layout::write(&mut bytes, tensor, stored, out).map_err(|fault| {
            match Error::of(&self.path, fault) {
                Error::Io { source, .. } => source,
                refused => io::Error::new(io::ErrorKind::InvalidData, refused),
            }
        })
    }
}

struct Contents {
    dict: state_dict::StateDict,
    /// Where the storages are, in the order of the heap's.
    data: Vec<layout::Stored>,
}

impl Contents {
    fn of(bytes: &mut Box<dyn Bytes>) -> Result<Self, Fault> {
        let mut start = Vec::new();
        bytes.seek(SeekFrom::Start(0)).map_err(Fault::Read)?;
        bytes
            .take(512)
            .read_to_end(&mut start)
            .map_err(Fault::Read)?;
        bytes.seek(SeekFrom::Start(0)).map_err(Fault::Read)?;
        let mut heap = pickle::Heap::default();
        let (root, data) = if start.starts_with(b"PK\x03\x04") {
            archive::read(bytes, &mut heap)?
        } else if start.get(257..262) == Some(b"ustar") {
            return Err(Fault::Tar);
        } else if start.starts_with(&legacy::MAGIC) {
            legacy::read(bytes, &mut heap)?
        } else {
            return Err(Fault::NotPyTorch);
        };
        let stored = data
            .iter()
            .try_fold(0_u64, |sum, stored| sum.checked_add(stored.len));
        let dict = state_dict::read(&heap, root, stored.unwrap_or(u64::MAX))?;
        Ok(Self { dict, data })
    }
}
