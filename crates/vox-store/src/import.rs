//! Importing a file: its bytes come into the store in one pass, hashed on the way.
//!
//! | how | what happens | when it changes later |
//! |---|---|---|
//! | clone (reflink) | the file system shares the blocks; the clone is hashed | the blob does not change |
//! | hard link | the blob *is* the user's file, under another name | the blob is damaged, which every read finds |
//! | copy | read once; hashed and written on the way | the blob does not change |
//!
//! A hard link costs no space on every file system, but whoever writes to the file writes to the blob;
//! so it is made only when it is asked for.
//!
//! What must stay true: a file that changed between the first and the last byte is refused, and what
//! was made of it is gone.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::SystemTime;

use vox_crypto::Algorithm;

use crate::error::{Error, failed};
use crate::store::{Store, Unfinished, needing};
use crate::write::{Blob, BlobWriter, Pipeline, publish_blob, read_buffer};

/// How a file comes into the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Link {
    /// A clone where the file system can, otherwise a copy.
    #[default]
    Auto,
    /// A clone, or an error.
    Reflink,
    /// A hard link, or an error. The user's file and the blob are then the same file: write to
    /// neither.
    Hardlink,
    /// A copy.
    Copy,
}

/// How far something has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes that there are, as far as is known.
    pub total: u64,
}

/// Called as something goes on, about once a MiB; it stops when this says `Break`.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// How a file is imported.
#[derive(Default)]
pub struct ImportOptions<'a> {
    /// How it comes into the store.
    pub link: Link,
    /// Digests that are made beside BLAKE3, each on a thread of its own.
    pub also: &'a [Algorithm],
    /// Called as it goes on.
    pub watch: Option<Watch<'a>>,
}

impl std::fmt::Debug for ImportOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportOptions")
            .field("link", &self.link)
            .field("also", &self.also)
            .finish_non_exhaustive()
    }
}

/// Tells that something goes on, and hears whether it should.
pub(crate) fn tell(watch: &mut Option<Watch<'_>>, done: u64, total: u64) -> Result<(), Error> {
    match watch.as_mut().map(|watch| watch(Progress { done, total })) {
        Some(ControlFlow::Break(())) => Err(Error::Cancelled),
        _ => Ok(()),
    }
}

impl Store {
    /// Imports a file as a blob, and makes it durable. A file that is here already costs no second
    /// copy.
    ///
    /// # Errors
    /// [`Error::Changed`] when the file was written to meanwhile; [`Error::NotAFile`],
    /// [`Error::CannotLink`], [`Error::Cancelled`], [`Error::NoSpace`] and others of the file system.
    /// After an error nothing of it is in the store.
    pub fn import_file(
        &self,
        path: impl AsRef<Path>,
        mut options: ImportOptions<'_>,
    ) -> Result<Blob, Error> {
        let path = path.as_ref();
        let span = tracing::info_span!("vox.store.import", path = %path.display());
        let _entered = span.enter();
        self.lease()?;
        let source = Source::open(path)?;
        let blob = match options.link {
            Link::Hardlink => self.import_linked(&source, &mut options)?,
            Link::Copy => self.import_copied(&source, &mut options)?,
            Link::Auto | Link::Reflink => match self.import_cloned(&source, &mut options)? {
                Ok(blob) => blob,
                Err(_) if options.link == Link::Auto => {
                    self.import_copied(&source, &mut options)?
                }
                Err(error) => return Err(cannot("clone", path)(error)),
            },
        };
        tracing::info!(digest = %blob.digest, bytes = blob.len, "imported");
        Ok(blob)
    }

    fn import_copied(
        &self,
        source: &Source<'_>,
        options: &mut ImportOptions<'_>,
    ) -> Result<Blob, Error> {
        let mut writer = BlobWriter::new(self.clone(), options.also)?;
        let mut copy = || {
            let mut reader = &source.file;
            // Of a file that grows no more is read than shows that it does.
            while writer.len() <= source.len {
                if writer.take_from(&mut reader, source.path)? == 0 {
                    break;
                }
                tell(&mut options.watch, writer.len(), source.len)?;
            }
            source.check_unchanged(writer.len())
        };
        copy()
            .and_then(|()| writer.commit())
            .map_err(|error| needing(error, source.len))
    }

    /// The outer error is one of the import, the inner says that the file system cannot clone.
    fn import_cloned(
        &self,
        source: &Source<'_>,
        options: &mut ImportOptions<'_>,
    ) -> Result<Result<Blob, io::Error>, Error> {
        let unfinished = Unfinished::of(self.lease()?.temporary()?);
        let clone = crate::store::new_file(&unfinished.path)?;
        if let Err(error) = clone_into(&clone, &source.file) {
            return Ok(Err(error));
        }
        // What was cloned cannot change any more; it is the file as it was at one moment, if that
        // moment was not in the midst of a change.
        let len = clone
            .metadata()
            .map_err(failed("read", &unfinished.path))?
            .len();
        let digested = digest(&clone, &unfinished.path, len, options)?;
        source.check_unchanged(digested.len)?;
        clone
            .sync_all()
            .map_err(failed("write", &unfinished.path))?;
        publish_blob(self, &digested, &unfinished)?;
        Ok(Ok(digested.into_blob()))
    }

    fn import_linked(
        &self,
        source: &Source<'_>,
        options: &mut ImportOptions<'_>,
    ) -> Result<Blob, Error> {
        let digested = digest(&source.file, source.path, source.len, options)?;
        source
            .file
            .sync_all()
            .map_err(failed("sync", source.path))?;
        let unfinished = Unfinished::of(self.lease()?.temporary()?);
        // The link is to the file, not to a symbolic link that names it.
        let real = fs::canonicalize(source.path).map_err(failed("open", source.path))?;
        fs::hard_link(&real, &unfinished.path).map_err(cannot("hard-link", source.path))?;
        let linked = fs::metadata(&unfinished.path).map_err(failed("read", &unfinished.path))?;
        source.check_same(&linked, digested.len)?;
        publish_blob(self, &digested, &unfinished)?;
        Ok(digested.into_blob())
    }
}

fn cannot(how: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::CannotLink { path, how, source }
}

/// All digests of a file that is only read.
fn digest(
    mut file: &File,
    path: &Path,
    total: u64,
    options: &mut ImportOptions<'_>,
) -> Result<crate::write::Digested, Error> {
    let mut pipeline = Pipeline::new(options.also)?;
    loop {
        let mut buffer = pipeline.buffer();
        let got = read_buffer(&mut file, &mut buffer).map_err(failed("read", path))?;
        if got == 0 || pipeline.len > total {
            return pipeline.finish();
        }
        pipeline.feed(buffer, |_| Ok(()))?;
        tell(&mut options.watch, pipeline.len, total)?;
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn clone_into(clone: &File, source: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(clone, source)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn clone_into(_: &File, _: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A user's file, as it was when it was opened.
struct Source<'a> {
    path: &'a Path,
    file: File,
    len: u64,
    identity: Identity,
}

/// What differs when a file was replaced or written to.
#[derive(PartialEq, Eq)]
struct Identity {
    len: u64,
    modified: Option<SystemTime>,
    /// Device and number of the file.
    #[cfg(unix)]
    place: (u64, u64),
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            place: (metadata.dev(), metadata.ino()),
        }
    }
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            // A pipe is refused below, and not waited for here.
            options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        }
        let file = options.open(path).map_err(failed("open", path))?;
        let metadata = file.metadata().map_err(failed("read", path))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: path.into() });
        }
        read_ahead(&file);
        Ok(Self {
            path,
            len: metadata.len(),
            identity: Identity::of(&metadata),
            file,
        })
    }

    /// Refuses a file that is not what it was when it was opened, or that another has replaced.
    fn check_unchanged(&self, read: u64) -> Result<(), Error> {
        let now = fs::metadata(self.path).map_err(failed("read", self.path))?;
        self.check_same(&now, read)?;
        let open = self.file.metadata().map_err(failed("read", self.path))?;
        self.check_same(&open, read)
    }

    fn check_same(&self, metadata: &Metadata, read: u64) -> Result<(), Error> {
        let now = Identity::of(metadata);
        let how = if read != self.len || now.len != self.len {
            let len = now.len;
            format!(
                "it had {} bytes, {read} were read, it has {len} now",
                self.len
            )
        } else if now != self.identity {
            "it was written to or replaced".into()
        } else {
            return Ok(());
        };
        Err(Error::Changed {
            path: self.path.into(),
            how,
        })
    }
}

/// Lets the system read ahead, for the file is read once from begin to end.
fn read_ahead(file: &File) {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{Advice, fadvise};
        let _ = fadvise(file, 0, None, Advice::Sequential);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}
