//! The record of this user: the log, the store, and the key that both are signed with.
//!
//! | place in the data directory | what |
//! |---|---|
//! | `log/` | the op-log of this user on this machine |
//! | `logs/<id>/` | logs of other machines, as they were imported |
//! | `store/` | everything large |
//! | `node.key` | the key that signs ops and manifests, made at first use |
//!
//! What must stay true: the key is made once, whole or not at all, also when two processes need it first
//! at the same moment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use vox_crypto::{Digest, KeyError, KeyFile, SigningKey};
use vox_model::library::Library;
use vox_oplog::{OpLog, Reader};
use vox_store::{BoxError, Opened, Options, Reason, Store};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;

impl Context {
    /// Where this user's log is.
    pub(crate) fn log_directory(&self) -> PathBuf {
        self.directories.data.join("log")
    }

    /// Where the logs of other machines are.
    pub(crate) fn chains_directory(&self) -> PathBuf {
        self.directories.data.join("logs")
    }

    /// The key that signs what this user records here. It is made when it is first needed.
    pub(crate) fn node_key(&self) -> Result<SigningKey, Failure> {
        let path = self.directories.data.join("node.key");
        let file = match KeyFile::load(&path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                make_key(&path)?
            }
            found => found?,
        };
        Ok(file.key().clone())
    }

    /// The log, to append to.
    pub(crate) fn log(&self) -> Result<OpLog, Failure> {
        let log = OpLog::open(
            self.log_directory(),
            self.node_key()?,
            vox_oplog::Options::default(),
        )?;
        for repair in &log.opened().repairs {
            self.output.note(format_args!("log: {repair}"));
        }
        Ok(log)
    }

    /// The log, to read; none when nothing was ever recorded.
    pub(crate) fn log_reader(&self) -> Result<Option<Reader>, Failure> {
        let directory = self.log_directory();
        if !directory.exists() {
            return Ok(None);
        }
        Ok(Some(Reader::open(&directory)?))
    }

    /// The store.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        let opened = Store::open(self.store_directory(), Options::default())?;
        Ok(self.opened(opened))
    }

    /// The store, to look at what is in it and to let go of it. That needs no room on its disk, and counts as no use.
    pub(crate) fn store_to_free(&self) -> Result<Store, Failure> {
        let opened = Store::open_to_remove(self.store_directory())?;
        Ok(self.opened(opened))
    }

    fn store_directory(&self) -> PathBuf {
        self.directories.data.join("store")
    }

    /// A store, after it was told what was mended of it.
    fn opened(&self, (store, opened): (Store, Opened)) -> Store {
        for repair in opened.repairs {
            self.output.note(format_args!("store: {repair}"));
        }
        store
    }

    /// What the log needs of the store, for whoever removes something from it. The log is read when the
    /// store asks, and not before.
    pub(crate) fn roots(
        &self,
    ) -> impl FnMut(&mut dyn FnMut(Digest)) -> Result<(), BoxError> + use<> {
        let log = self.log_directory();
        move |visit| Ok(vox_model::record::needed(&log, visit)?)
    }

    /// Who needs an object of the store, and which ops name it.
    pub(crate) fn needed_by(&self, store: &Store, digest: &Digest) -> Result<Vec<String>, Failure> {
        let reasons = store.why(digest, &mut self.roots())?;
        // This process looks at it, which is no need.
        let own = Reason::Process {
            id: Some(std::process::id()),
        };
        let others = reasons.iter().filter(|reason| **reason != own);
        let mut who: Vec<_> = others.map(ToString::to_string).collect();
        let ops = vox_model::record::references(&self.log_directory(), digest)?;
        who.extend(ops.iter().map(|seq| format!("op {seq} of the log")));
        Ok(who)
    }

    /// The models in the store.
    pub(crate) fn library(&self) -> Result<Library, Failure> {
        Ok(Library::new(self.store()?))
    }
}

/// Makes the key beside its place and moves it there, unless somebody else was first.
fn make_key(path: &Path) -> Result<KeyFile, Failure> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let failed = |action: &'static str| move |error: io::Error| Failure::io(action, path, &error);
    fs::create_dir_all(directory).map_err(failed("create the directory of"))?;
    let unfinished = tempfile::Builder::new()
        .prefix(".node-key-")
        .tempdir_in(directory)
        .map_err(failed("create"))?;
    let whole = unfinished.path().join("node.key");
    KeyFile::new("this node", SigningKey::generate()?)?.create(&whole)?;
    match fs::hard_link(&whole, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("create")(error));
        }
        _ => {}
    }
    Ok(KeyFile::load(path)?)
}

/// The directory in which a command is given.
pub(crate) fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::io("find", Path::new("."), &error))
}

/// Now, in microseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A time in microseconds since 1970 for people and programs: RFC 3339 in UTC, to the millisecond.
pub(crate) fn written_time(micros: i64) -> String {
    let since = u64::try_from(micros).unwrap_or(0);
    let time = UNIX_EPOCH + std::time::Duration::from_micros(since);
    humantime::format_rfc3339_millis(time).to_string()
}

/// A moment as somebody types it: `2026-11-29`, `2026-11-29T20:00:00Z`, or how long ago: `2days`, `90min`.
///
/// # Errors
///
/// What may be written.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now().saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)));
    }
    let whole = if text.len() == 10 {
        format!("{text}T00:00:00Z")
    } else {
        text.to_owned()
    };
    let time = humantime::parse_rfc3339_weak(&whole).map_err(|_| {
        "write a day (2026-11-29), a time (2026-11-29T20:00:00Z) or how long ago (2days)".to_owned()
    })?;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl From<vox_oplog::Error> for Failure {
    fn from(error: vox_oplog::Error) -> Self {
        use vox_oplog::Error;
        let exit = match &error {
            Error::Missing { .. } => Exit::NotFound,
            Error::Cancelled => Exit::Interrupted,
            Error::Export { .. } => Exit::InvalidInput,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<vox_store::Error> for Failure {
    fn from(error: vox_store::Error) -> Self {
        use vox_store::Error;
        let exit = match &error {
            Error::Missing { .. } => Exit::NotFound,
            Error::Cancelled => Exit::Interrupted,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}
