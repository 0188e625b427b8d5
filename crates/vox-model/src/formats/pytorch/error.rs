//! What is wrong with a file of PyTorch's.

use std::io;
use std::path::{Path, PathBuf};

/// Why a PyTorch file cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused something.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{} is refused as PyTorch weights: {fault}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Box<Fault>,
    },
}

impl Error {
    /// The error for this fault: what reading fails with because of the bytes is the file's fault.
    pub(super) fn of(path: &Path, fault: Fault) -> Self {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let path = path.to_path_buf();
        match fault {
            Fault::Read(source)
                if !matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof) =>
            {
                Self::Io { path, source }
            }
            fault => Self::Refused {
                path,
                fault: Box::new(fault),
            },
        }
    }

    /// What is wrong with the file, unless the file system is at fault.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Io { .. } => None,
            Self::Refused { fault, .. } => Some(fault),
        }
    }
}

/// What is wrong with a PyTorch file. Offsets count from the start of the pickle they speak of.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The pickle wants code.
    #[error(
        "the file asks Python to import `{}.{}` (byte {offset} of `{pickle}`); Vox executes nothing \
         that a weights file brings along: use a SafeTensors file of the model, or save its plain \
         state dict", module.escape_debug(), name.escape_debug()
    )]
    Import {
        /// The module it names.
        module: String,
        /// The name in that module.
        name: String,
        /// Which pickle.
        pickle: &'static str,
        /// Where the instruction stands.
        offset: u64,
    },
    /// The pickle does something to a thing that plain data does not call for.
    #[error(
        "the file asks Python to {action} {what} (byte {offset} of `{pickle}`), which no state dict \
         needs; use a SafeTensors file of the model"
    )]
    Action {
        /// What it asks for.
        action: &'static str,
        /// Of what.
        what: &'static str,
        /// Which pickle.
        pickle: &'static str,
        /// Where the instruction stands.
        offset: u64,
    },
    /// An instruction that PyTorch does not write.
    #[error(
        "the instruction {name} (0x{byte:02x}, byte {offset} of `{pickle}`) is none that PyTorch \
         writes for weights"
    )]
    Opcode {
        /// Its name in Python's `pickletools`, `unknown` if it has none.
        name: &'static str,
        /// The byte.
        byte: u8,
        /// Which pickle.
        pickle: &'static str,
        /// Where it stands.
        offset: u64,
    },
    /// The pickle asks for more than any weights need.
    #[error("{what} at byte {offset} of `{pickle}` pass the limit of {limit}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
        /// Which pickle.
        pickle: &'static str,
        /// Where it was noticed.
        offset: u64,
    },
    /// The pickle ends too early.
    #[error("`{pickle}` ends at byte {offset} in the middle of {what}: the file is cut off")]
    Truncated {
        /// Of what.
        what: &'static str,
        /// Which pickle.
        pickle: &'static str,
        /// Where the end is.
        offset: u64,
    },
    /// The pickle contradicts itself.
    #[error("`{pickle}` is damaged at byte {offset}: {why}")]
    Pickle {
        /// What does not fit.
        why: &'static str,
        /// Which pickle.
        pickle: &'static str,
        /// Where.
        offset: u64,
    },
    /// The arguments of a tensor are not what a tensor has.
    #[error("the tensor rebuilt at byte {offset} of `{pickle}` has {why}")]
    Tensor {
        /// What is wrong.
        why: &'static str,
        /// Which pickle.
        pickle: &'static str,
        /// Where.
        offset: u64,
    },
    /// A tensor reaches past its storage.
    #[error(
        "the tensor rebuilt at byte {offset} of `{pickle}` needs {needed} elements of storage \
         `{}`, which has {has}", key.escape_debug()
    )]
    OutOfBounds {
        /// The storage.
        key: String,
        /// Elements up to the last that the tensor uses.
        needed: u64,
        /// Elements of the storage.
        has: u64,
        /// Which pickle.
        pickle: &'static str,
        /// Where.
        offset: u64,
    },
    /// A storage is named in a way that PyTorch does not use.
    #[error(
        "`{}` cannot be the key of a storage: it is 1 to 64 letters, digits and `_`",
        key.escape_debug()
    )]
    StorageKey {
        /// The key.
        key: String,
    },
    /// The pickle says two things about one storage.
    #[error("storage `{}` is described twice, and differently", key.escape_debug())]
    StorageDisagrees {
        /// The storage.
        key: String,
    },
    /// The data of a storage is not there.
    #[error("the data of storage `{}` is missing", key.escape_debug())]
    MissingStorage {
        /// The storage.
        key: String,
    },
    /// The data of a storage has another size than the pickle says.
    #[error(
        "storage `{}` has {found} bytes, but its tensors were saved from {expected}",
        key.escape_debug()
    )]
    StorageSize {
        /// The storage.
        key: String,
        /// Bytes that the pickle speaks of.
        expected: u64,
        /// Bytes that the file holds or claims.
        found: u64,
    },
    /// The data of a storage does not have its checksum.
    #[error("the data of storage `{}` is damaged: its CRC-32 does not match", key.escape_debug())]
    Checksum {
        /// The storage.
        key: String,
    },
    /// A few bytes unpack to very many.
    #[error(
        "its storages claim to unpack from {packed} bytes to {unpacked}; PyTorch does not compress \
         storages, so pack the file again without compression if it is genuine"
    )]
    Bomb {
        /// Bytes in the file.
        packed: u64,
        /// Bytes that they claim to unpack to.
        unpacked: u64,
    },
    /// The tensors share so much that together they are far larger than the file.
    #[error(
        "the tensors have {total} bytes altogether but only {stored} are stored: that is more \
         sharing than weights have"
    )]
    Expansion {
        /// Bytes of all tensors.
        total: u64,
        /// Bytes of all storages.
        stored: u64,
    },
    /// The numbers are stored with the high byte first.
    #[error("its numbers are big-endian; save it on a little-endian machine")]
    BigEndian,
    /// The archive has two entries of one name.
    #[error("the archive has two entries of the same name, so which one counts is anybody's guess")]
    DuplicateEntry,
    /// The archive lacks what makes it PyTorch's.
    #[error("the archive is not one of PyTorch's: {why}")]
    Archive {
        /// What it lacks.
        why: &'static str,
    },
    /// The zip archive cannot be read.
    #[error("the archive is damaged: {0}")]
    Zip(String),
    /// A compiled module.
    #[error(
        "it is a TorchScript program, which holds code besides weights; save the module's state \
         dict instead"
    )]
    TorchScript,
    /// The format before PyTorch 0.1.10.
    #[error("it is in the tar format of PyTorch before 0.1.10; load and save it with a newer one")]
    Tar,
    /// Something else altogether.
    #[error("it starts like no file of `torch.save`")]
    NotPyTorch,
    /// There is nothing to import.
    #[error("it holds {found} and not a state dict of tensors")]
    NoTensors {
        /// What it holds.
        found: &'static str,
    },
    /// Two tensors have one name.
    #[error("it holds two entries named `{}`", name.escape_debug())]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// Its bytes cannot be unpacked, or reading stopped.
    #[error("its data cannot be read: {0}")]
    Read(#[source] io::Error),
}
