//! Who needs what: from the roots through the links of nodes.
//!
//! Roots are references, the claims of running processes, and what the caller names. A link may lead to
//! a blob, to a node, to both or to nothing that is here.
//!
//! What must stay true: where the walk cannot see what something needs, it fails. A node that is
//! damaged, missing where a reference was set to it, or set aside by scrub is an error and never taken
//! for one without links.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::time::{Duration, SystemTime};

use vox_crypto::{Algorithm, Digest};

use crate::error::{BoxError, Error, Fault, failed};
use crate::layout::{self, Kind};
use crate::lease;
use crate::refs::{Class, Ref, RefName};
use crate::store::Store;

/// Calls back with every digest that the caller needs, as those in its op-log; digests by other
/// algorithms than BLAKE3, and of what is not in the store, are ignored.
///
/// The store asks only after it has seen the claims of the running processes. So what another process
/// stores and then writes into the op-log is found in one or in the other, **if the log is read when
/// this is called** and not before.
pub type Roots<'a> = &'a mut dyn FnMut(&mut dyn FnMut(Digest)) -> Result<(), BoxError>;

/// Why an object is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A reference names it, or something that links to it.
    Ref {
        /// The reference.
        name: RefName,
        /// Whether it may go.
        class: Class,
    },
    /// The caller named it, or something that links to it.
    Root {
        /// What the caller named.
        digest: Digest,
    },
    /// A running process has written or opened it, or something that links to it.
    Process {
        /// Number of the process, where it is known.
        id: Option<u32>,
    },
    /// It, or something that links to it, was stored or used a short time ago.
    Young {
        /// What is young.
        digest: Digest,
    },
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ref { name, class } => write!(f, "ref {name} ({class})"),
            Self::Root { digest } => write!(f, "the log, by {digest}"),
            Self::Process { id: Some(id) } => write!(f, "process {id}"),
            Self::Process { id: None } => f.write_str("a running process"),
            Self::Young { digest } => write!(f, "{digest}, which was stored or used lately"),
        }
    }
}

/// What is needed, and how it was found.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    /// Objects that are here, each with the number of its reason in `reasons`.
    pub(crate) objects: BTreeMap<Digest, usize>,
    pub(crate) reasons: Vec<Reason>,
}

impl Needed {
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.objects.contains_key(digest)
    }

    /// Adds a root and everything to which it leads; returns what was not needed before.
    pub(crate) fn add(
        &mut self,
        store: &Store,
        root: &Digest,
        reason: Reason,
    ) -> Result<Vec<Digest>, Error> {
        let number = self.reasons.len();
        let mut added = Vec::new();
        let mut waiting = vec![*root];
        while let Some(at) = waiting.pop() {
            if at.algorithm() != Algorithm::Blake3 || self.has(&at) {
                continue;
            }
            let links = store.links_of_needed(&at)?;
            if links.is_none() && !store.is_present(Kind::Blob, &at) {
                continue;
            }
            self.objects.insert(at, number);
            added.push(at);
            waiting.extend(links.into_iter().flatten());
        }
        self.reasons.push(reason);
        Ok(added)
    }

    /// Takes back what was added last.
    pub(crate) fn take_back(&mut self, added: &[Digest]) {
        for digest in added {
            self.objects.remove(digest);
        }
        self.reasons.pop();
    }
}

/// The roots of a store, in the order in which they are to be asked for.
#[derive(Debug)]
pub(crate) struct Collected {
    /// What running processes claim.
    pub(crate) claims: Vec<(Reason, Digest)>,
    /// What the caller named and is here.
    pub(crate) given: BTreeSet<Digest>,
    pub(crate) refs: Vec<Ref>,
}

impl Store {
    /// The links of a node that is needed, `None` when there is no node of this name.
    fn links_of_needed(&self, digest: &Digest) -> Result<Option<BTreeSet<Digest>>, Error> {
        let links = self.peek_links(digest)?;
        let aside = self.set_aside(Kind::Node, digest);
        if links.is_none() && layout::is_present(&aside) {
            return Err(Error::Corrupt {
                digest: *digest,
                path: aside,
                fault: Fault::Whole,
            });
        }
        Ok(links)
    }

    /// Where scrub puts an object that is broken.
    pub(crate) fn set_aside(&self, kind: Kind, digest: &Digest) -> std::path::PathBuf {
        let quarantine = self.inner.layout.directory("quarantine");
        quarantine.join(kind.directory()).join(digest.to_hex())
    }

    /// Collects the roots. Claims come before what the caller names: see [`Roots`].
    pub(crate) fn collect(&self, roots: Roots<'_>) -> Result<Collected, Error> {
        let mut claims = Vec::new();
        for claim in lease::claims(&self.inner.layout)? {
            let id = claim.process;
            let claimed = claim.digests.into_iter();
            claims.extend(claimed.map(|digest| (Reason::Process { id }, digest)));
        }
        // A log may name millions of objects: the files are asked once, and not for each of them.
        let known = self.known()?;
        let mut given = BTreeSet::new();
        roots(&mut |digest| {
            if known.contains(&digest) {
                given.insert(digest);
            }
        })
        .map_err(Error::Roots)?;
        let refs = self.all_refs()?;
        for reference in &refs {
            if !self.contains(&reference.digest) {
                return Err(Error::Missing {
                    digest: reference.digest,
                    needed_by: Some(format!("ref {}", reference.name)),
                });
            }
        }
        Ok(Collected {
            claims,
            given,
            refs,
        })
    }

    /// The names of all objects that are here, and of nodes that scrub has set aside.
    fn known(&self) -> Result<HashSet<Digest>, Error> {
        let mut known = HashSet::new();
        self.each_object(&mut |_, digest, _| {
            known.insert(digest);
            Ok(())
        })?;
        let quarantine = self.inner.layout.directory("quarantine");
        for name in layout::names_in(&quarantine.join(Kind::Node.directory()))? {
            if let Some((shard, file)) = name.split_at_checked(2) {
                known.extend(layout::name_of(shard, file));
            }
        }
        Ok(known)
    }

    /// Everything that is needed, except what only references that may go need.
    pub(crate) fn needed_firmly(&self, roots: &Collected) -> Result<Needed, Error> {
        let mut needed = Needed::default();
        for reference in roots.refs.iter().filter(|found| found.class == Class::Kept) {
            needed.add(self, &reference.digest, reason_of(reference))?;
        }
        for digest in &roots.given {
            let reason = Reason::Root { digest: *digest };
            needed.add(self, digest, reason)?;
        }
        for (reason, digest) in &roots.claims {
            needed.add(self, digest, reason.clone())?;
        }
        Ok(needed)
    }

    /// Everything that is needed, and what was stored or used less than `min_age` ago.
    pub(crate) fn needed(&self, roots: &Collected, min_age: Duration) -> Result<Needed, Error> {
        let mut needed = self.needed_firmly(roots)?;
        for reference in &roots.refs {
            needed.add(self, &reference.digest, reason_of(reference))?;
        }
        if min_age > Duration::ZERO {
            let now = SystemTime::now();
            self.each_object(&mut |kind, digest, _| {
                // What is of the future is young too: somebody set a clock.
                let old = self
                    .last_use(kind, &digest)
                    .is_some_and(|used| now.duration_since(used).is_ok_and(|age| age >= min_age));
                if !old && !needed.has(&digest) {
                    needed.add(self, &digest, Reason::Young { digest })?;
                }
                Ok(())
            })?;
        }
        Ok(needed)
    }

    /// When an object was stored or last used.
    pub(crate) fn last_use(&self, kind: Kind, digest: &Digest) -> Option<SystemTime> {
        let path = self.inner.layout.object(kind, digest);
        fs::symlink_metadata(path).ok()?.modified().ok()
    }

    /// Calls with every object, nodes first, and the bytes that its files have. What is no object is
    /// passed over.
    pub(crate) fn each_object(
        &self,
        call: &mut dyn FnMut(Kind, Digest, u64) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for kind in Kind::ALL {
            let directory = self.inner.layout.directory(kind.directory());
            for shard in layout::names_in(&directory)? {
                // Whatever else is in a store is for scrub to report.
                if shard.len() != 2 || layout::check_directory(&directory.join(&shard)).is_err() {
                    continue;
                }
                for file in layout::names_in(&directory.join(&shard))? {
                    if let Some(digest) = layout::name_of(&shard, &file)
                        && let Some(bytes) = self.bytes_of(kind, &digest)
                    {
                        call(kind, digest, bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes that an object's files have, if it is here.
    pub(crate) fn bytes_of(&self, kind: Kind, digest: &Digest) -> Option<u64> {
        let len = |path| {
            let metadata = fs::symlink_metadata(path).ok()?;
            metadata.is_file().then_some(metadata.len())
        };
        let bytes: u64 = len(self.inner.layout.object(kind, digest))?;
        let tree = match kind {
            Kind::Blob => len(self.inner.layout.tree(digest)).unwrap_or(0),
            Kind::Node => 0,
        };
        Some(bytes.saturating_add(tree))
    }

    /// Who needs an object; nobody if this is empty. `roots` is what the caller needs.
    ///
    /// It waits until nobody publishes, as garbage collection does, and sees what that would see.
    ///
    /// # Errors
    /// As [`gc`](Self::gc).
    pub fn why(&self, digest: &Digest, roots: Roots<'_>) -> Result<Vec<Reason>, Error> {
        self.lease()?;
        let _guard = crate::lock::alone(&self.inner.layout, true)?;
        let roots = self.collect(roots)?;
        let mut all: Vec<(Reason, Digest)> = Vec::new();
        all.extend(
            roots
                .refs
                .iter()
                .map(|found| (reason_of(found), found.digest)),
        );
        let given = roots.given.iter();
        all.extend(given.map(|digest| (Reason::Root { digest: *digest }, *digest)));
        all.extend(roots.claims);
        self.reasons_among(&all, digest)
    }

    /// Those of the roots that lead to an object.
    pub(crate) fn reasons_among(
        &self,
        roots: &[(Reason, Digest)],
        digest: &Digest,
    ) -> Result<Vec<Reason>, Error> {
        let needers = self.needers(roots.iter().map(|(_, root)| *root), digest)?;
        let leading = roots.iter().filter(|(_, root)| needers.contains(root));
        let mut reasons: Vec<_> = leading.map(|(reason, _)| reason.clone()).collect();
        reasons.sort_unstable();
        reasons.dedup();
        Ok(reasons)
    }

    /// The object and everything from which it is reached, among what is reached from the roots.
    fn needers(
        &self,
        roots: impl Iterator<Item = Digest>,
        digest: &Digest,
    ) -> Result<BTreeSet<Digest>, Error> {
        let mut parents: BTreeMap<Digest, Vec<Digest>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<_> = roots.collect();
        while let Some(at) = waiting.pop() {
            if at.algorithm() != Algorithm::Blake3 || !seen.insert(at) {
                continue;
            }
            // A damaged node says nothing of its links, and is no reason to say nothing of others.
            for link in self.peek_links(&at).ok().flatten().unwrap_or_default() {
                parents.entry(link).or_default().push(at);
                waiting.push(link);
            }
        }
        let mut found = BTreeSet::new();
        let mut waiting = vec![*digest];
        while let Some(at) = waiting.pop() {
            if found.insert(at) {
                waiting.extend(parents.get(&at).into_iter().flatten());
            }
        }
        Ok(found)
    }

    /// Removes an object's files; returns the bytes that they had.
    pub(crate) fn remove_object(&self, kind: Kind, digest: &Digest) -> Result<u64, Error> {
        let bytes = self.bytes_of(kind, digest).unwrap_or(0);
        layout::remove_file(&self.inner.layout.object(kind, digest))?;
        // The tree after the blob: a blob that can be seen has one.
        if kind == Kind::Blob {
            layout::remove_file(&self.inner.layout.tree(digest))?;
        }
        Ok(bytes)
    }

    /// Removes trees whose blob is gone, as a crash may leave one; returns the bytes that they had.
    pub(crate) fn remove_lone_trees(&self, dry_run: bool) -> Result<u64, Error> {
        let mut freed = 0;
        let blobs = self.inner.layout.directory(Kind::Blob.directory());
        for shard in layout::names_in(&blobs)? {
            let directory = blobs.join(&shard);
            if layout::check_directory(&directory).is_err() {
                continue;
            }
            for file in layout::names_in(&directory)? {
                let blob = file.strip_suffix(".tree");
                let Some(digest) = blob.and_then(|blob| layout::name_of(&shard, blob)) else {
                    continue;
                };
                if self.is_present(Kind::Blob, &digest) {
                    continue;
                }
                let path = directory.join(&file);
                freed += fs::symlink_metadata(&path)
                    .map_err(failed("read", &path))?
                    .len();
                if !dry_run {
                    layout::remove_file(&path)?;
                }
            }
        }
        Ok(freed)
    }
}

pub(crate) fn reason_of(reference: &Ref) -> Reason {
    Reason::Ref {
        name: reference.name.clone(),
        class: reference.class,
    }
}
