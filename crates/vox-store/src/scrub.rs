//! Reading everything and comparing it with its names.
//!
//! Others go on meanwhile: only when something is broken the store's lock is held alone, and what is
//! broken is read once more, because somebody may have put a sound one in its place.
//!
//! What must stay true: nothing is deleted. What is broken is moved to `quarantine/`, where garbage
//! collection sees that it is missing and not merely gone.

use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

use vox_crypto::tree::TreeHasher;
use vox_crypto::{Digest, canonical};

use crate::error::{Error, Fault, failed};
use crate::graph::{Reason, reason_of};
use crate::import::{Watch, tell};
use crate::layout::{self, Kind};
use crate::lock;
use crate::read::keep_tree;
use crate::store::{Store, holds_just};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 1024 * 1024;

/// An object that was not what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// Its name.
    pub digest: Digest,
    /// What kind of object it was to be.
    pub kind: Kind,
    /// What is wrong with it.
    pub fault: Fault,
    /// Where it lies now.
    pub set_aside: PathBuf,
    /// The references that need it.
    pub needed_by: Vec<Reason>,
}

/// An object that is needed and not here; what was broken is among these.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingObject {
    /// Its name.
    pub digest: Digest,
    /// The references that need it.
    pub needed_by: Vec<Reason>,
}

/// What scrub found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Sound objects.
    pub sound: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What was broken.
    pub broken: Vec<Broken>,
    /// What references need and is not here.
    pub missing: Vec<MissingObject>,
    /// Blobs whose trees were missing or damaged, and were made anew.
    pub trees_rebuilt: Vec<Digest>,
    /// References that cannot be read, and why. They are left: garbage collection stops at them.
    pub bad_refs: Vec<String>,
    /// Files that have no place in a store. They are left.
    pub strays: Vec<PathBuf>,
}

impl ScrubReport {
    /// Whether everything was as it should be.
    pub fn is_clean(&self) -> bool {
        let Self {
            broken,
            missing,
            trees_rebuilt,
            bad_refs,
            strays,
            ..
        } = self;
        broken.is_empty()
            && missing.is_empty()
            && trees_rebuilt.is_empty()
            && bad_refs.is_empty()
            && strays.is_empty()
    }
}

/// What reading an object found.
enum Found {
    Sound {
        tree_rebuilt: bool,
    },
    Broken(Fault),
    /// It is gone: somebody removed it meanwhile.
    Gone,
}

impl Store {
    /// Verifies every object, sets aside what is broken, makes damaged trees anew, and finds what
    /// references need and is not here. `watch` is called as it goes on.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::ReadOnly`], and failures of the file system. What is wrong in the
    /// store is no error but in the report.
    pub fn scrub(&self, mut watch: Option<Watch<'_>>) -> Result<ScrubReport, Error> {
        let span = tracing::info_span!("vox.store.scrub");
        let _entered = span.enter();
        self.lease()?;
        let mut report = ScrubReport::default();
        let places = self.places(&mut report)?;
        let total = places.iter().map(|(.., bytes)| bytes).sum();
        let mut broken = Vec::new();
        for (kind, digest, _) in places {
            let before = report.bytes;
            let mut progress = |bytes: u64| {
                report.bytes = before.saturating_add(bytes);
                tell(&mut watch, report.bytes, total)
            };
            match self.inspect(kind, &digest, &mut progress)? {
                Found::Sound { tree_rebuilt } => {
                    report.sound += 1;
                    report.trees_rebuilt.extend(tree_rebuilt.then_some(digest));
                }
                Found::Broken(_) => broken.push((kind, digest)),
                Found::Gone => {}
            }
        }
        let roots = self.readable_refs(&mut report)?;
        for (kind, digest) in broken {
            // Asked before it is moved: a damaged node no longer says that it was one.
            let needed_by = self.reasons_among(&roots, &digest)?;
            if let Some((fault, set_aside)) = self.move_aside(kind, &digest)? {
                tracing::warn!(%digest, %fault, to = %set_aside.display(), "set aside");
                report.broken.push(Broken {
                    digest,
                    kind,
                    fault,
                    set_aside,
                    needed_by,
                });
            }
        }
        self.find_missing(&roots, &mut report)?;
        let (objects, bytes) = (report.sound, report.bytes);
        let broken = report.broken.len();
        tracing::info!(objects, bytes, broken, "scrubbed");
        Ok(report)
    }

    /// Where objects are or should be, and the bytes that they have; what is no place of an object is
    /// reported.
    fn places(&self, report: &mut ScrubReport) -> Result<Vec<(Kind, Digest, u64)>, Error> {
        let mut places = Vec::new();
        for name in layout::names_in(self.root())? {
            let known = layout::DIRECTORIES.contains(&name.as_str())
                || layout::FILES.contains(&name.as_str());
            if !known {
                report.strays.push(self.root().join(name));
            }
        }
        for kind in Kind::ALL {
            let directory = self.inner.layout.directory(kind.directory());
            for shard in layout::names_in(&directory)? {
                let path = directory.join(&shard);
                if layout::check_directory(&path).is_err() {
                    report.strays.push(path);
                    continue;
                }
                for file in layout::names_in(&path)? {
                    let path = path.join(&file);
                    let tree_of = file.strip_suffix(".tree").filter(|_| kind == Kind::Blob);
                    let of_tree = tree_of.and_then(|blob| layout::name_of(&shard, blob));
                    match (layout::name_of(&shard, &file), of_tree) {
                        (Some(digest), _) => {
                            let len = fs::symlink_metadata(&path).map_or(0, |found| found.len());
                            places.push((kind, digest, len));
                        }
                        // Of a blob that is not here a crash may leave it, until garbage is collected.
                        (_, Some(_)) => {}
                        _ => report.strays.push(path),
                    }
                }
            }
        }
        Ok(places)
    }

    /// Reads an object whole.
    fn inspect(
        &self,
        kind: Kind,
        digest: &Digest,
        progress: &mut dyn FnMut(u64) -> Result<(), Error>,
    ) -> Result<Found, Error> {
        let path = self.inner.layout.object(kind, digest);
        let mut file = match layout::open_no_follow(&path) {
            Ok(Some((file, _))) => file,
            Ok(None) => return Ok(Found::Broken(Fault::NotAFile)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let mut hasher = TreeHasher::new();
        let mut read = 0_u64;
        // What a node says is wanted too; it is small unless it is broken.
        let mut node = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let got = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read", &path)(error)),
            };
            let bytes = buffer.get(..got).unwrap_or_default();
            hasher.update(bytes);
            read += got as u64;
            if kind == Kind::Node {
                if read > crate::node::MAX_NODE_BYTES {
                    return Ok(Found::Broken(Fault::Whole));
                }
                node.extend_from_slice(bytes);
            }
            progress(read)?;
        }
        let (found, tree) = hasher.finish();
        if found != *digest {
            return Ok(Found::Broken(Fault::Whole));
        }
        if kind == Kind::Node {
            return Ok(match canonical::check(&node) {
                Ok(()) => Found::Sound {
                    tree_rebuilt: false,
                },
                Err(_) => Found::Broken(Fault::NotCanonical),
            });
        }
        let expected = tree.to_bytes();
        let path = self.inner.layout.tree(digest);
        let same = if expected.is_empty() {
            !layout::is_present(&path)
        } else {
            holds_just(&path, &expected)
        };
        if !same {
            layout::remove_file(&path)?;
            if !expected.is_empty() {
                keep_tree(self, digest, &tree)?;
            }
        }
        Ok(Found::Sound {
            tree_rebuilt: !same,
        })
    }

    /// Moves an object to the quarantine if it is still broken; says what is wrong and where it is.
    fn move_aside(&self, kind: Kind, digest: &Digest) -> Result<Option<(Fault, PathBuf)>, Error> {
        let _guard = lock::alone(&self.inner.layout, true)?;
        let Found::Broken(fault) = self.inspect(kind, digest, &mut |_| Ok(()))? else {
            return Ok(None);
        };
        let to = self.set_aside(kind, digest);
        if let Some(directory) = to.parent() {
            layout::make_directory(directory)?;
        }
        let from = self.inner.layout.object(kind, digest);
        fs::rename(&from, &to).map_err(failed("set aside", &from))?;
        if kind == Kind::Blob {
            layout::remove_file(&self.inner.layout.tree(digest))?;
        }
        self.inner.size.forget();
        Ok(Some((fault, to)))
    }

    /// The references that can be read, as roots; the others are reported.
    fn readable_refs(&self, report: &mut ScrubReport) -> Result<Vec<(Reason, Digest)>, Error> {
        let mut roots = Vec::new();
        let refs = self.inner.layout.directory("refs");
        for space in layout::names_in(&refs)? {
            let Some(namespace) = self.namespace_of(&space) else {
                report.strays.push(refs.join(space));
                continue;
            };
            for path in self.ref_files(&namespace)? {
                match self.ref_in(&path, &namespace) {
                    Ok(Some(found)) => roots.push((reason_of(&found), found.digest)),
                    Ok(None) => {}
                    Err(error) => report.bad_refs.push(error.to_string()),
                }
            }
        }
        Ok(roots)
    }

    fn find_missing(
        &self,
        roots: &[(Reason, Digest)],
        report: &mut ScrubReport,
    ) -> Result<(), Error> {
        let mut seen = std::collections::BTreeSet::new();
        let mut waiting: Vec<_> = roots.iter().map(|(_, digest)| *digest).collect();
        while let Some(at) = waiting.pop() {
            if !seen.insert(at) {
                continue;
            }
            if !self.contains(&at) {
                report.missing.push(MissingObject {
                    digest: at,
                    needed_by: self.reasons_among(roots, &at)?,
                });
                continue;
            }
            waiting.extend(self.peek_links(&at)?.into_iter().flatten());
        }
        report
            .missing
            .sort_unstable_by_key(|missing| missing.digest);
        Ok(())
    }
}
