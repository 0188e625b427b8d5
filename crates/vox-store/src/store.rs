//! The store itself: opening, and the small operations on objects.

use std::collections::HashSet;
use std::fs::{self, FileTimes};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use vox_crypto::{Digest, tree::GROUP_BYTES};

use crate::error::{Error, failed};
use crate::layout::{self, FORMAT, Kind, Layout};
use crate::lease::{self, Lease, Repair};
use crate::lock;
use crate::read::BlobReader;
use crate::size::Size;
use crate::write::{Blob, BlobWriter};

/// How often the time of an object's last use is written at most.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// What the names of files begin with that are to become `format`.
const FORMAT_TEMPORARY: &str = "format.";

/// How a store is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Bytes that the objects should have together at most; `None` for as many as the disk has. It
    /// refuses nothing: see [`Store::over_budget`].
    pub budget: Option<u64>,
}

impl Options {
    /// Options with a budget in bytes.
    pub fn with_budget(bytes: u64) -> Self {
        Self {
            budget: Some(bytes),
        }
    }
}

/// What opening a store found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// What processes had left that were killed, and what is gone now. None of it had been
    /// acknowledged.
    pub repairs: Vec<Repair>,
}

/// A content-addressed store in a directory. Clones are the same handle; it may be used by many
/// threads, and the directory by many processes.
///
/// What a handle wrote or opened is protected from garbage collection until the last clone of it is
/// dropped. A process that runs for long opens a handle for each piece of work, so that what it
/// needed yesterday may go: [`with_own_lease`](Self::with_own_lease).
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) layout: Layout,
    pub(crate) budget: Option<u64>,
    access: Access,
    pub(crate) size: Size,
    /// Directories that this handle has made durable in their parent.
    durable: Mutex<HashSet<PathBuf>>,
    /// Objects whose names this handle has made durable, and which its lease protects.
    published: Mutex<HashSet<(Kind, Digest)>>,
}

/// What a handle is for.
#[derive(Debug)]
enum Access {
    /// Reading alone.
    Read,
    /// Reading, and removing what is not needed. It has no lease, which would need room on the disk.
    Remove,
    /// Everything. What it writes and opens is claimed by its lease.
    Write(Lease),
}

impl Store {
    /// Opens a store for reading and writing; makes one when the directory is empty or not there.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::Format`], [`Error::Permission`], [`Error::ReadOnly`] and other
    /// failures of the file system.
    pub fn open(root: impl AsRef<Path>, options: Options) -> Result<(Self, Opened), Error> {
        let layout = layout_of(root.as_ref())?;
        let mut repairs = create(&layout)?;
        repairs.extend(lease::clear_dead(&layout)?);
        let access = Access::Write(Lease::new(&layout)?);
        let store = Self::new(layout, options.budget, access);
        Ok((store, Opened { repairs }))
    }

    /// Opens a store that is there for reading alone. Nothing in its directory is changed, so that it
    /// may be on a disk that cannot be written; nor is what is read protected from garbage collection
    /// by others.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_read(root: impl AsRef<Path>) -> Result<Self, Error> {
        let layout = layout_of(root.as_ref())?;
        check_format(&layout)?;
        Ok(Self::new(layout, None, Access::Read))
    }

    /// Opens a store for reading, for removing references and for collecting garbage; makes one as
    /// [`open`](Self::open) does. Nothing is written in one that is there, so that a disk without a free
    /// byte can be freed; nor is what is read protected from garbage collection by others, or counted as
    /// used.
    ///
    /// # Errors
    /// As [`open`](Self::open). Storing something through this handle is [`Error::ReadOnly`].
    pub fn open_to_remove(root: impl AsRef<Path>) -> Result<(Self, Opened), Error> {
        let layout = layout_of(root.as_ref())?;
        let mut repairs = create(&layout)?;
        repairs.extend(lease::clear_dead(&layout)?);
        let store = Self::new(layout, None, Access::Remove);
        Ok((store, Opened { repairs }))
    }

    /// Another handle on the same store, with claims of its own.
    ///
    /// # Errors
    /// When its lease cannot be written.
    pub fn with_own_lease(&self) -> Result<Self, Error> {
        let layout = self.inner.layout.clone();
        let access = match self.inner.access {
            Access::Read => Access::Read,
            Access::Remove => Access::Remove,
            Access::Write(_) => Access::Write(Lease::new(&layout)?),
        };
        Ok(Self::new(layout, self.inner.budget, access))
    }

    fn new(layout: Layout, budget: Option<u64>, access: Access) -> Self {
        let inner = Inner {
            layout,
            budget,
            access,
            size: Size::default(),
            durable: Mutex::default(),
            published: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.inner.layout.root
    }

    /// Begins a blob whose bytes come piece by piece.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; [`Error::NoSpace`] and others of the file system.
    pub fn writer(&self) -> Result<BlobWriter, Error> {
        BlobWriter::new(self.clone(), &[])
    }

    /// Stores some bytes as a blob, and makes it durable.
    ///
    /// # Errors
    /// As [`writer`](Self::writer).
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, Error> {
        self.lease()?;
        if bytes.len() <= GROUP_BYTES {
            return self.put_small(Kind::Blob, bytes);
        }
        let mut writer = self.writer()?;
        writer.take(bytes)?;
        writer.commit().map(|Blob { digest, .. }| digest)
    }

    /// Stores an object that needs no tree.
    pub(crate) fn put_small(&self, kind: Kind, bytes: &[u8]) -> Result<Digest, Error> {
        let lease = self.lease()?;
        let digest = vox_crypto::hash(bytes);
        let path = self.inner.layout.object(kind, &digest);
        {
            let _guard = lock::share(&self.inner.layout)?;
            // Whoever wrote it made its bytes durable, and perhaps not yet its name.
            if holds_just(&path, bytes) {
                lease.hold(&digest)?;
                touch(&path);
                self.sync_shard(kind, &digest)?;
                return Ok(digest);
            }
        }
        let unfinished = Unfinished::of(lease.temporary()?);
        self.write_whole(&unfinished.path, bytes)?;
        self.publish(kind, &digest, &unfinished, None)?;
        self.inner.size.add(bytes.len() as u64);
        Ok(digest)
    }

    /// Opens a blob; every byte is verified before it is handed out.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Corrupt`] when it cannot be the blob.
    pub fn get(&self, digest: &Digest) -> Result<BlobReader, Error> {
        let (file, len) = self.open_object(Kind::Blob, digest)?;
        BlobReader::new(self.clone(), *digest, file, len)
    }

    /// Whether there is a blob or a node of this name. It is not read.
    pub fn contains(&self, digest: &Digest) -> bool {
        Kind::ALL
            .into_iter()
            .any(|kind| self.is_present(kind, digest))
    }

    pub(crate) fn is_present(&self, kind: Kind, digest: &Digest) -> bool {
        layout::check_name(digest).is_ok()
            && layout::is_file(&self.inner.layout.object(kind, digest))
    }

    /// Bytes of a blob, without reading it.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn len(&self, digest: &Digest) -> Result<u64, Error> {
        self.open_object(Kind::Blob, digest).map(|(_, len)| len)
    }

    /// The file of a blob, for those who map it. **What it holds is not verified**: call
    /// [`verify`](Self::verify) first, and never write to it. It stays where it is until this handle
    /// is dropped.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn path_of(&self, digest: &Digest) -> Result<PathBuf, Error> {
        self.open_object(Kind::Blob, digest)?;
        Ok(self.inner.layout.object(Kind::Blob, digest))
    }

    /// Reads a whole blob and compares it with its name; returns its length in bytes.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Corrupt`].
    pub fn verify(&self, digest: &Digest) -> Result<u64, Error> {
        let mut reader = self.get(digest)?;
        io::copy(&mut reader, &mut io::sink()).map_err(|error| reader.typed(error))
    }

    /// Protects an object for as long as this handle lives.
    ///
    /// # Errors
    /// [`Error::Missing`] when it is not there; [`Error::ReadOnly`].
    pub fn hold(&self, digest: &Digest) -> Result<(), Error> {
        let lease = self.lease()?;
        let _guard = lock::share(&self.inner.layout)?;
        if !self.contains(digest) {
            return Err(missing(digest));
        }
        lease.hold(digest)
    }

    pub(crate) fn lease(&self) -> Result<&Lease, Error> {
        match &self.inner.access {
            Access::Write(lease) => Ok(lease),
            Access::Read | Access::Remove => Err(self.read_only()),
        }
    }

    /// Refuses a handle through which nothing is removed.
    pub(crate) fn may_remove(&self) -> Result<(), Error> {
        match &self.inner.access {
            Access::Write(_) | Access::Remove => Ok(()),
            Access::Read => Err(self.read_only()),
        }
    }

    fn read_only(&self) -> Error {
        Error::ReadOnly {
            root: self.root().into(),
        }
    }

    /// An object's open file and its length. It is claimed while nothing can be removed, and its time
    /// of last use is set.
    pub(crate) fn open_object(
        &self,
        kind: Kind,
        digest: &Digest,
    ) -> Result<(fs::File, u64), Error> {
        layout::check_name(digest)?;
        let path = self.inner.layout.object(kind, digest);
        let open = || layout::open_object(&path, digest)?.ok_or_else(|| missing(digest));
        match &self.inner.access {
            Access::Write(lease) if !lease.holds(digest) => {
                let _guard = lock::share(&self.inner.layout)?;
                let found = open()?;
                lease.hold(digest)?;
                touch(&path);
                Ok(found)
            }
            Access::Write(_) => {
                touch(&path);
                open()
            }
            Access::Read | Access::Remove => open(),
        }
    }

    /// Writes a file that is not finished, read-only for everybody, and makes its bytes durable.
    pub(crate) fn write_whole(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut file = new_file(path)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .map_err(failed("write", path))
            .map_err(|error| needing(error, bytes.len() as u64))
    }

    /// Puts a finished file at its place under its name, over one that is there: so a damaged one is
    /// healed, and no second copy is kept. The name is durable when this returns.
    pub(crate) fn publish(
        &self,
        kind: Kind,
        digest: &Digest,
        object: &Unfinished,
        tree: Option<&Unfinished>,
    ) -> Result<(), Error> {
        {
            let _guard = lock::share(&self.inner.layout)?;
            self.lease()?.hold(digest)?;
            layout::make_directory(&self.inner.layout.shard(kind, digest))?;
            let rename =
                |from: &Path, to: &Path| fs::rename(from, to).map_err(failed("publish", to));
            // The tree first: a blob that can be seen has one.
            if let Some(tree) = tree {
                rename(&tree.path, &self.inner.layout.tree(digest))?;
            }
            rename(&object.path, &self.inner.layout.object(kind, digest))?;
        }
        self.sync_shard(kind, digest)
    }

    /// Makes the names in an object's directory durable, and that directory's own.
    fn sync_shard(&self, kind: Kind, digest: &Digest) -> Result<(), Error> {
        let shard = self.inner.layout.shard(kind, digest);
        layout::sync_directory(&shard)?;
        self.sync_parent_once(&shard)?;
        let mut published = locked(&self.inner.published);
        published.insert((kind, *digest));
        Ok(())
    }

    /// Whether this handle has made the object's name durable.
    pub(crate) fn published_here(&self, kind: Kind, digest: &Digest) -> bool {
        locked(&self.inner.published).contains(&(kind, *digest))
    }

    /// Makes a directory's name durable unless this handle has done so. Who made the directory may
    /// not have come that far.
    pub(crate) fn sync_parent_once(&self, directory: &Path) -> Result<(), Error> {
        if locked(&self.inner.durable).contains(directory) {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            layout::sync_directory(parent)?;
        }
        locked(&self.inner.durable).insert(directory.into());
        Ok(())
    }
}

/// The paths of a store, which stay the same when the process goes to another directory.
fn layout_of(root: &Path) -> Result<Layout, Error> {
    let root = std::path::absolute(root).map_err(failed("find", root))?;
    Ok(Layout { root })
}

fn locked<T>(cell: &Mutex<T>) -> MutexGuard<'_, T> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is removed unless it was moved to its place.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) path: PathBuf,
}

impl Unfinished {
    pub(crate) fn of(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // A name is used once, so what was published is not there any more. What cannot be removed
        // goes with the lease.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a regular file has these bytes and no others.
pub(crate) fn holds_just(path: &Path, bytes: &[u8]) -> bool {
    let Ok(Some((mut file, len))) = layout::open_no_follow(path) else {
        return false;
    };
    let mut found = vec![0; bytes.len()];
    len == bytes.len() as u64 && file.read_exact(&mut found).is_ok() && found == bytes
}

pub(crate) fn missing(digest: &Digest) -> Error {
    Error::Missing {
        digest: *digest,
        needed_by: None,
    }
}

/// Says in an error of a full disk how much was needed.
pub(crate) fn needing(error: Error, bytes: u64) -> Error {
    match error {
        Error::NoSpace { path, .. } => Error::NoSpace {
            path,
            needed: Some(bytes),
        },
        other => other,
    }
}

/// A new file in `tmp/`. Objects are not to be written to, so they are read-only once closed.
pub(crate) fn new_file(path: &Path) -> Result<fs::File, Error> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o444);
    }
    options.open(path).map_err(failed("create", path))
}

/// Sets the time of last use, at most once a minute. That it fails, as for another user's file, costs
/// an object its place among the recent ones and nothing else. A file that has other names than ours
/// is a user's own, whose times are not to be changed.
pub(crate) fn touch(path: &Path) {
    let touch = || -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        #[cfg(unix)]
        if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
            return Ok(());
        }
        let now = SystemTime::now();
        let recent = metadata
            .modified()
            .is_ok_and(|then| now.duration_since(then).is_ok_and(|ago| ago < TOUCH_EVERY));
        if recent || !metadata.is_file() {
            return Ok(());
        }
        fs::File::open(path)?.set_times(FileTimes::new().set_modified(now))
    };
    let _ = touch();
}

/// Makes a store unless it is one; says what was left by who was killed while making it.
fn create(layout: &Layout) -> Result<Vec<Repair>, Error> {
    let root = &layout.root;
    if !layout::is_present(root) {
        fs::create_dir_all(root).map_err(failed("create", root))?;
        root.parent().map_or(Ok(()), layout::sync_directory)?;
    }
    let format = root.join("format");
    if !layout::is_file(&format) {
        write_format(root, &format)?;
    }
    check_format(layout)?;
    let mut repairs = Vec::new();
    for name in layout::names_in(root)? {
        if name.starts_with(FORMAT_TEMPORARY) {
            lease::clear_file(&root.join(name), &mut repairs)?;
        }
    }
    let mut new = false;
    for name in layout::DIRECTORIES {
        new |= layout::make_directory(&layout.directory(name))?;
    }
    if new {
        layout::sync_directory(root)?;
    }
    Ok(repairs)
}

/// Says of an empty directory that it is a store. It is the first file of a store, so that a directory
/// with others and without it is none.
fn write_format(root: &Path, format: &Path) -> Result<(), Error> {
    let foreign = |name: &String| name != "format" && !name.starts_with(FORMAT_TEMPORARY);
    let names = layout::names_in(root)?;
    // Another process may have made the store since it was looked for.
    if names.iter().any(foreign) && !layout::is_file(format) {
        return Err(Error::NotAStore { root: root.into() });
    }
    let name = format!("{FORMAT_TEMPORARY}{}", layout::random_name()?);
    let unfinished = Unfinished::of(root.join(name));
    let path = &unfinished.path;
    let written = fs::write(path, FORMAT)
        .and_then(|()| fs::File::open(path)?.sync_all())
        .and_then(|()| fs::rename(path, format));
    match written {
        // Who came first may have taken it for a dead process's.
        Err(error) if error.kind() == io::ErrorKind::NotFound && layout::is_file(format) => Ok(()),
        written => written.map_err(failed("write", path)),
    }
}

fn check_format(layout: &Layout) -> Result<(), Error> {
    let root = &layout.root;
    let path = root.join("format");
    let mut found = Vec::new();
    fs::File::open(&path)
        .and_then(|file| file.take(64).read_to_end(&mut found))
        .map_err(failed("open", &path))?;
    if found == FORMAT.as_bytes() {
        return Ok(());
    }
    Err(Error::Format {
        root: root.clone(),
        found: String::from_utf8_lossy(&found).trim_end().into(),
    })
}
