//! What can go wrong with a log, and what can be wrong with one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::ErrorCode;
use vox_crypto::{KeyId, PublicKey};

use crate::{Hash, LogId};

/// Why something with a log failed. Clones share their source, as one failed commit fails every op in
/// it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// SQLite refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// With which database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Somebody else holds the lock for longer than this handle waits.
    #[error(
        "cannot write {}: {holder} has held its lock for {} ms; wait for it to finish, or end it",
        path.display(), waited.as_millis()
    )]
    Busy {
        /// The database.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
        /// Who holds it, as far as the system tells.
        holder: String,
    },
    /// The disk is full.
    #[error(
        "cannot write {}: the disk is full; nothing of this commit was written. Make room and append \
         again", path.display()
    )]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// The place may not be written.
    #[error("cannot write {}: it is read-only", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// There is no log here.
    #[error("there is no log in {}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{} is not an op-log: {why}", path.display())]
    NotALog {
        /// The file.
        path: PathBuf,
        /// What tells so.
        why: String,
    },
    /// A newer Vox made it.
    #[error(
        "{} has format {found} and this Vox reads up to {known}; use a newer Vox", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// The log of somebody else, which only imports extend.
    #[error("{} holds a copy of another log, to which nothing is appended", path.display())]
    Replica {
        /// The directory.
        path: PathBuf,
    },
    /// A log of this machine, into which nothing is imported.
    #[error(
        "{} holds a log of its own; import another log into a directory of its own", path.display()
    )]
    NotAReplica {
        /// The directory.
        path: PathBuf,
    },
    /// There are ops in a WAL that cannot be read where it is.
    #[error(
        "{} has ops in its WAL, and they cannot be read in a directory that may not be written; copy \
         `log.db` and `log.db-wal` elsewhere and read them there", path.display()
    )]
    NeedsWal {
        /// The database.
        path: PathBuf,
    },
    /// A text that something cannot have.
    #[error("`{}` is not a {what}: {why}", text.escape_debug())]
    Invalid {
        /// What it was to be.
        what: &'static str,
        /// The text.
        text: String,
        /// What it has to look like.
        why: &'static str,
    },
    /// Kinds of the log itself are written by the log only.
    #[error("ops of kind `{kind}` are written by the log itself; choose a kind outside `log.`")]
    Reserved {
        /// The kind.
        kind: String,
    },
    /// The payload is larger than this log takes.
    #[error(
        "a payload of {len} bytes is more than the {limit} that an op may have; put it into the store \
         and name its digest"
    )]
    TooLarge {
        /// Bytes of the payload.
        len: usize,
        /// Bytes that are taken.
        limit: usize,
    },
    /// The payload is no canonical CBOR.
    #[error("the payload of this `{kind}` op is refused: {why}")]
    Payload {
        /// The kind of the op.
        kind: String,
        /// What is wrong with it.
        why: String,
    },
    /// The key is none that may write this log.
    #[error(
        "the key {key} may not write the log in {}; one of its authors has to add it", path.display()
    )]
    NotAnAuthor {
        /// The key's short form.
        key: KeyId,
        /// The directory.
        path: PathBuf,
    },
    /// The log is not what it was: see the fault.
    #[error("the log in {} is not sound: {fault}", path.display())]
    Fault {
        /// The directory or the file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Box<Fault>,
    },
    /// The handle was closed.
    #[error("the log in {} was closed; open it again", path.display())]
    Closed {
        /// The directory.
        path: PathBuf,
    },
    /// The thread that writes has ended without an answer.
    #[error(
        "the writer of the log in {} ended; whether this op was written is told by opening it again",
        path.display()
    )]
    WriterDied {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system has no random numbers to give.
    #[error("no log can be made: the system gives no random numbers ({0})")]
    Random(String),
    /// Two histories of one log.
    #[error("{0}")]
    Fork(Box<Fork>),
    /// The file is of another log than the copy.
    #[error(
        "{} holds a copy of log {ours}, and the file is of log {theirs}; import it into a directory of \
         its own", path.display()
    )]
    OtherLog {
        /// The directory.
        path: PathBuf,
        /// The log here.
        ours: LogId,
        /// The log in the file.
        theirs: LogId,
    },
    /// The file does not follow on what is here.
    #[error(
        "the file begins at op {first}, and what the copy in {} has does not reach it ({have}); export \
         from an earlier op", path.display()
    )]
    Unanchored {
        /// The directory.
        path: PathBuf,
        /// The file's first op.
        first: u64,
        /// What is here, in words.
        have: String,
    },
    /// The file is no export, or not a whole one.
    #[error("this is not a whole export of a log: {why} (byte {at})")]
    Export {
        /// Where, in bytes from its begin.
        at: u64,
        /// What is wrong there.
        why: String,
    },
    /// Who asked for it has called it off.
    #[error("this was called off")]
    Cancelled,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.into(),
            source: Arc::new(source),
        }
    }

    /// The error of what SQLite says, in its own variant where a user can do something about it.
    pub(crate) fn sqlite(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| {
            let path = path.into();
            match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Self::Full { path },
                Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
                Some(ErrorCode::NotADatabase) => Self::NotALog {
                    path,
                    why: "it is not a SQLite database".into(),
                },
                Some(ErrorCode::DatabaseCorrupt) => Self::fault(
                    &path,
                    Fault::Damaged {
                        why: source.to_string(),
                    },
                ),
                _ => Self::Sqlite {
                    action,
                    path,
                    source: Arc::new(source),
                },
            }
        }
    }

    pub(crate) fn fault(path: &Path, fault: Fault) -> Self {
        Self::Fault {
            path: path.into(),
            fault: Box::new(fault),
        }
    }

    /// What is wrong with the log, where this error says that something is.
    pub fn as_fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault { fault, .. } => Some(fault),
            _ => None,
        }
    }
}

/// Where the copy of a log and a file of it part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the file and the copy in {} are two histories of log {log}: op {seq} is {theirs} in the file and \
     {ours} here. Nothing was imported; ask its authors which of the two they stand by",
    path.display()
)]
pub struct Fork {
    /// The directory.
    pub path: PathBuf,
    /// The log.
    pub log: LogId,
    /// The first op that differs.
    pub seq: u64,
    /// Its hash here.
    pub ours: Hash,
    /// Its hash in the file.
    pub theirs: Hash,
}

/// What is wrong with a log: the first thing that is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A column of a row holds what no op has there.
    #[error("op {seq} cannot be read: {why}")]
    Unreadable {
        /// Which op.
        seq: i64,
        /// Which column, and what is wrong with it.
        why: String,
    },
    /// The first op is no genesis.
    #[error("the first op is not the genesis of a log: {why}")]
    Genesis {
        /// What is wrong with it.
        why: String,
    },
    /// The payload is not what its op says.
    #[error("the payload of op {seq} was altered: its hash is {found} and not {expected}")]
    PayloadHash {
        /// Which op.
        seq: u64,
        /// What the op says.
        expected: Hash,
        /// What it is.
        found: Hash,
    },
    /// The payload is not canonical CBOR.
    #[error("the payload of op {seq} is not canonical CBOR: {why}")]
    Payload {
        /// Which op.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The author did not sign this op.
    #[error("op {seq} was altered: key {author} did not sign what it says")]
    Signature {
        /// Which op.
        seq: u64,
        /// The short form of the key that it names.
        author: KeyId,
    },
    /// The op does not follow on the one before it.
    #[error(
        "op {seq} does not follow on the op before it: it names predecessor {found}, and that is \
         {expected}"
    )]
    Predecessor {
        /// Which op.
        seq: u64,
        /// The hash of the op before it.
        expected: Hash,
        /// The hash that it names.
        found: Hash,
    },
    /// The op stands behind one that it should stand before.
    #[error("op {seq} stands behind op {after}")]
    Order {
        /// Which op.
        seq: u64,
        /// The op that stands before it.
        after: u64,
    },
    /// Ops are missing, and no compaction says so.
    #[error("ops {from} to {to} are missing, and no compaction record vouches for that")]
    Gap {
        /// The first op that is missing.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A compaction record says something else than what is there.
    #[error("the compaction record {record} is wrong about ops {from} to {to}: {why}")]
    Compaction {
        /// Which op.
        record: u64,
        /// The first op that it is about.
        from: u64,
        /// The last.
        to: u64,
        /// In what.
        why: String,
    },
    /// The author may not write this log.
    #[error("op {seq} is by key {author}, which may not write this log")]
    Author {
        /// Which op.
        seq: u64,
        /// Whose it is.
        author: Box<PublicKey>,
    },
    /// The log's payload of its own kind cannot be understood.
    #[error("op {seq} of the log itself says something that is not understood: {why}")]
    Control {
        /// Which op.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The log ends before the op that its head file names.
    #[error(
        "it was cut or rolled back: its head file names op {head}, and it ends with {}",
        last.map_or_else(|| "none".into(), |last| format!("op {last}"))
    )]
    RolledBack {
        /// The op that the head file names.
        head: u64,
        /// The last op that is there.
        last: Option<u64>,
    },
    /// The op that the head file names is another one.
    #[error(
        "op {seq} is another one than the head file says: its hash is {found} and not {expected}"
    )]
    HeadDiffers {
        /// Which op.
        seq: u64,
        /// What the head file says.
        expected: Hash,
        /// What it is.
        found: Hash,
    },
    /// The head file is of another log.
    #[error("it was replaced: it is log {found}, and its head file is of log {expected}")]
    OtherLog {
        /// The log that was expected here.
        expected: LogId,
        /// The log that is here.
        found: LogId,
    },
    /// The head file is damaged or forged.
    #[error(
        "its head file is not valid: {why}; if the log itself can be trusted, remove the file, and the \
         next writer makes a new one"
    )]
    Head {
        /// What is wrong with it.
        why: String,
    },
    /// There is no head file.
    #[error("its head file is missing, so that nothing shows whether it was cut")]
    NoHead,
    /// SQLite finds the file damaged.
    #[error("the database is damaged: {why}")]
    Damaged {
        /// What SQLite says.
        why: String,
    },
}

impl Fault {
    /// The op that is bad, where it is one.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Unreadable { seq, .. } => u64::try_from(*seq).ok(),
            Self::Genesis { .. } => Some(0),
            Self::PayloadHash { seq, .. }
            | Self::Payload { seq, .. }
            | Self::Signature { seq, .. }
            | Self::Predecessor { seq, .. }
            | Self::Order { seq, .. }
            | Self::Author { seq, .. }
            | Self::Control { seq, .. }
            | Self::HeadDiffers { seq, .. } => Some(*seq),
            Self::Gap { from, .. } => Some(*from),
            Self::Compaction { record, .. } => Some(*record),
            Self::RolledBack { head, .. } => Some(*head),
            Self::OtherLog { .. } | Self::Head { .. } | Self::NoHead | Self::Damaged { .. } => None,
        }
    }
}
