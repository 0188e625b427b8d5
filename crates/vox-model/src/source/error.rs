//! What goes wrong while a model is fetched.

use std::io;
use std::path::{Path, PathBuf};

use vox_crypto::Digest;

/// Why something could not be fetched. Addresses are shown without their query, which may hold secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not an address that can be asked.
    #[error("`{}` is no address to fetch from: {why}", url.escape_debug())]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Plain HTTP to another machine.
    #[error(
        "`{}` is not encrypted, so anybody on the way could change what it sends; use https",
        url.escape_debug()
    )]
    Plain {
        /// The address.
        url: String,
    },
    /// From an encrypted address to one that is not.
    #[error(
        "{} sends on to {}, which is not encrypted; this is not followed",
        from.escape_debug(), to.escape_debug()
    )]
    Downgrade {
        /// Who sent on.
        from: String,
        /// Where to.
        to: String,
    },
    /// Sent on too often.
    #[error("{} sends on more than {limit} times", url.escape_debug())]
    Redirects {
        /// Where it started.
        url: String,
        /// How often is allowed.
        limit: u32,
    },
    /// The server said no.
    #[error("{} answers {status}{}", url.escape_debug(), advice(*.status))]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// No answer, or one that broke off, again and again.
    #[error(
        "{} could not be fetched in {attempts} attempts: {source}; what has arrived is kept, so try \
         again later", url.escape_debug()
    )]
    Network {
        /// The address.
        url: String,
        /// How often it was tried without getting any further.
        attempts: u32,
        /// What happened last.
        #[source]
        source: io::Error,
    },
    /// The answer does not make sense.
    #[error("the answer of {} is not understood: {why}", url.escape_debug())]
    Answer {
        /// The address.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another length than expected.
    #[error(
        "{} has {found} bytes where {expected} were expected; the file there is not the one that is \
         wanted", url.escape_debug()
    )]
    Length {
        /// The address, or the file.
        url: String,
        /// Bytes that were to come.
        expected: u64,
        /// Bytes that came or were announced.
        found: u64,
    },
    /// Larger than allowed.
    #[error("{} is larger than the {limit} bytes that are allowed", url.escape_debug())]
    TooLarge {
        /// The address, or the file.
        url: String,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// Not the content that was promised.
    #[error(
        "{} has the digest {found} where {expected} was promised; it was changed or damaged and is \
         not used", url.escape_debug()
    )]
    Digest {
        /// The address, or the file.
        url: String,
        /// What was promised.
        expected: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// The caller stopped it.
    #[error("stopped; what has arrived of {} is kept", url.escape_debug())]
    Cancelled {
        /// The address.
        url: String,
    },
    /// Another process is at it.
    #[error("{} is being fetched by another process; wait for it", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// No room.
    #[error("the disk is full at {}: make room and try again", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// Not allowed.
    #[error("no permission to {action} {}", path.display())]
    Permission {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
    },
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The repository has no weights that can be imported.
    #[error("`{}` has no model that can be imported: {why}", id.escape_debug())]
    NoModel {
        /// The repository, the package or the file.
        id: String,
        /// What is missing.
        why: &'static str,
    },
    /// The package index has nothing that fits.
    #[error("the index has no `{}` to take: {why}", package.escape_debug())]
    NoWheel {
        /// The package, with its version if one was asked for.
        package: String,
        /// Why none fits.
        why: String,
    },
    /// A path that leads elsewhere.
    #[error(
        "`{}` names a file `{}`, which {why}; nothing of it is used",
        of.escape_debug(), path.escape_debug()
    )]
    UnsafePath {
        /// The wheel or the repository.
        of: String,
        /// The path in it.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The archive is damaged or of a kind that is not read.
    #[error("{} cannot be opened as a wheel: {why}", path.display())]
    Wheel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

const fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => ": it needs a token (`HF_TOKEN`) or does not allow this one",
        404 => ": there is nothing of that name",
        429 => ": too many requests; try again later",
        _ => "",
    }
}

impl Error {
    /// What the file system said, as the variant for it.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Permission { action, path }
            }
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_missing_permission_have_errors_of_their_own() {
        let error = |kind: io::ErrorKind| Error::io("write", Path::new("m.gguf"), kind.into());
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(matches!(error(kind), Error::DiskFull { .. }));
        }
        let refused = error(io::ErrorKind::PermissionDenied);
        assert_eq!(refused.to_string(), "no permission to write m.gguf");
        assert!(matches!(
            error(io::ErrorKind::IsADirectory),
            Error::Io { .. }
        ));
    }
}
