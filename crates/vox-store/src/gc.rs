//! Removing what nobody needs.
//!
//! Both ways to remove hold the store's lock alone from before they look until they are done, so that
//! nothing is claimed meanwhile that they have not seen.
//!
//! What must stay true: what a reference, the caller, or a running process needs is never removed, and
//! whatever cannot be read is an error before anything is removed. References are removed, and that is
//! made durable, before what they named: so a crash leaves at worst something that nobody needs. Neither
//! writes anything, as a full disk is when they are wanted.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use vox_crypto::Digest;

use crate::error::Error;
use crate::graph::{Collected, Needed, Reason, Roots, reason_of};
use crate::layout::{self, Kind};
use crate::lease::{self, Repair};
use crate::lock;
use crate::refs::{Class, RefName};
use crate::store::Store;

/// How garbage is collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcOptions {
    /// Removes nothing and reports what would be.
    pub dry_run: bool,
    /// What was stored or used less long ago stays. Zero by default: what is in use is claimed by
    /// whoever uses it.
    pub min_age: Duration,
    /// Waits until nobody publishes, which takes moments. Otherwise it is [`Error::Busy`] then.
    pub wait: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            min_age: Duration::ZERO,
            wait: true,
        }
    }
}

impl GcOptions {
    /// Removes nothing and reports what would be.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Keeps what was stored or used less long ago.
    pub fn min_age(mut self, age: Duration) -> Self {
        self.min_age = age;
        self
    }

    /// Does not wait for others.
    pub fn without_waiting(mut self) -> Self {
        self.wait = false;
        self
    }
}

/// Objects and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// How many.
    pub objects: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What stayed, each object under the first of these that needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// References that stay until they are removed, pins among them.
    pub by_kept_refs: Count,
    /// What the caller named.
    pub by_roots: Count,
    /// Running processes.
    pub by_processes: Count,
    /// References that may go.
    pub by_evictable_refs: Count,
    /// Its age.
    pub by_age: Count,
}

impl Kept {
    fn of(store: &Store, needed: &Needed) -> Self {
        let mut kept = Self::default();
        for (digest, reason) in &needed.objects {
            let count = match needed.reasons.get(*reason) {
                Some(Reason::Ref {
                    class: Class::Evictable,
                    ..
                }) => &mut kept.by_evictable_refs,
                Some(Reason::Root { .. }) => &mut kept.by_roots,
                Some(Reason::Process { .. }) => &mut kept.by_processes,
                Some(Reason::Young { .. }) => &mut kept.by_age,
                _ => &mut kept.by_kept_refs,
            };
            for kind in Kind::ALL {
                if let Some(bytes) = store.bytes_of(kind, digest) {
                    count.add(bytes);
                }
            }
        }
        kept
    }

    /// Bytes of all that stayed.
    pub fn bytes(&self) -> u64 {
        let counts = [
            self.by_kept_refs,
            self.by_roots,
            self.by_processes,
            self.by_evictable_refs,
            self.by_age,
        ];
        counts.iter().map(|count| count.bytes).sum()
    }
}

/// What garbage collection did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// What was removed.
    pub removed: Vec<(Kind, Digest)>,
    /// Bytes that the files had which were removed.
    pub freed: u64,
    /// What stayed and why.
    pub kept: Kept,
    /// What scrub has set aside and is still there. Garbage collection leaves it: remove the files in
    /// `quarantine/` when nobody needs to look at them.
    pub quarantined: Count,
    /// What dead processes had left.
    pub repairs: Vec<Repair>,
    /// Whether nothing was removed.
    pub dry_run: bool,
}

/// What eviction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EvictReport {
    /// References that were removed, the one first that was not used for longest.
    pub evicted: Vec<RefName>,
    /// What was removed.
    pub removed: Vec<(Kind, Digest)>,
    /// Bytes that the files had which were removed.
    pub freed: u64,
    /// What stayed and why.
    pub kept: Kept,
    /// Bytes by which the store is still over the budget: `kept` says what may not go. 0 when it is
    /// within.
    pub over: u64,
}

impl Store {
    /// Removes every object that nobody needs: no reference, no running process, and not the caller,
    /// who says by `roots` what it needs (as its op-log does).
    ///
    /// Others who publish wait until it is done. A crash at any point leaves a sound store. On a full disk,
    /// where a lease has no room, a handle of [`open_to_remove`](Self::open_to_remove) collects.
    ///
    /// # Errors
    /// When anything is damaged that says what is needed: [`Error::Corrupt`] for a node,
    /// [`Error::BadRef`], [`Error::BadLease`], [`Error::Missing`] for what a reference names,
    /// [`Error::Roots`]. Then nothing was removed. [`Error::Busy`], and failures of the file system.
    pub fn gc(&self, roots: Roots<'_>, options: GcOptions) -> Result<GcReport, Error> {
        let span = tracing::info_span!("vox.store.gc", dry_run = options.dry_run);
        let _entered = span.enter();
        self.may_remove()?;
        let _guard = lock::alone(&self.inner.layout, options.wait)?;
        let mut report = GcReport {
            dry_run: options.dry_run,
            ..GcReport::default()
        };
        if !options.dry_run {
            report.repairs = lease::clear_dead(&self.inner.layout)?;
        }
        let roots = self.collect(roots)?;
        let needed = self.needed(&roots, options.min_age)?;
        report.kept = Kept::of(self, &needed);
        report.quarantined = self.quarantined()?;
        self.sync_refs()?;
        (report.removed, report.freed) = self.sweep(&needed, options.dry_run)?;
        let (objects, bytes) = (report.removed.len(), report.freed);
        tracing::info!(objects, bytes, "garbage collected");
        Ok(report)
    }

    /// Removes until the objects have `budget` bytes at most: first what nobody needs, then references
    /// of class [`Class::Evictable`], the one first that was not used for longest, with what only they
    /// need. What is needed otherwise stays, whatever the budget.
    ///
    /// A reference is used when something to which it leads is opened.
    ///
    /// # Errors
    /// As [`gc`](Self::gc).
    pub fn evict(&self, budget: u64, roots: Roots<'_>) -> Result<EvictReport, Error> {
        self.evict_to(budget, roots, false)
    }

    /// What [`evict`](Self::evict) would do now, without doing it.
    ///
    /// # Errors
    /// As [`gc`](Self::gc).
    pub fn plan_eviction(&self, budget: u64, roots: Roots<'_>) -> Result<EvictReport, Error> {
        self.evict_to(budget, roots, true)
    }

    fn evict_to(&self, budget: u64, roots: Roots<'_>, dry_run: bool) -> Result<EvictReport, Error> {
        let span = tracing::info_span!("vox.store.gc", budget, dry_run);
        let _entered = span.enter();
        self.may_remove()?;
        let _guard = lock::alone(&self.inner.layout, true)?;
        let mut report = EvictReport::default();
        let size = self.count()?;
        let roots = self.collect(roots)?;
        let (needed, evicted) = if size <= budget {
            (self.needed(&roots, Duration::ZERO)?, Vec::new())
        } else {
            self.within(budget, &roots)?
        };
        for name in evicted {
            if !dry_run {
                layout::remove_file(&self.ref_file(&name))?;
            }
            report.evicted.push(name);
        }
        if !dry_run {
            self.sync_refs()?;
        }
        if size > budget {
            (report.removed, report.freed) = self.sweep(&needed, dry_run)?;
        }
        report.kept = Kept::of(self, &needed);
        let left = if dry_run {
            size.saturating_sub(report.freed)
        } else {
            self.count()?
        };
        report.over = left.saturating_sub(budget);
        let (refs, bytes) = (report.evicted.len(), report.freed);
        tracing::info!(refs, bytes, over = report.over, "evicted");
        Ok(report)
    }

    /// What is needed when the references are gone that have to go for a budget, and these.
    fn within(&self, budget: u64, roots: &Collected) -> Result<(Needed, Vec<RefName>), Error> {
        let mut needed = self.needed_firmly(roots)?;
        let mut size = Kept::of(self, &needed).bytes();
        let mut candidates = Vec::new();
        for reference in &roots.refs {
            if reference.class == Class::Evictable {
                candidates.push((
                    self.last_use_of(&reference.digest, reference.time)?,
                    reference,
                ));
            }
        }
        // From the one that was used last: those that fit stay.
        candidates.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
        let mut evicted = Vec::new();
        for (_, reference) in candidates {
            let added = needed.add(self, &reference.digest, reason_of(reference))?;
            let bytes: u64 = added.iter().map(|digest| self.bytes_of_both(digest)).sum();
            // After one had to go, an older one stays only if it needs nothing of its own.
            if bytes == 0 || (evicted.is_empty() && size.saturating_add(bytes) <= budget) {
                size = size.saturating_add(bytes);
            } else {
                needed.take_back(&added);
                evicted.push(reference.name.clone());
            }
        }
        evicted.reverse();
        Ok((needed, evicted))
    }

    /// When something was last used to which an object leads.
    fn last_use_of(&self, digest: &Digest, set: SystemTime) -> Result<SystemTime, Error> {
        let complete = Needed::default().add(self, digest, Reason::Root { digest: *digest })?;
        let uses = complete
            .iter()
            .flat_map(|digest| Kind::ALL.map(|kind| self.last_use(kind, digest)));
        Ok(uses.flatten().fold(set, SystemTime::max))
    }

    fn bytes_of_both(&self, digest: &Digest) -> u64 {
        let bytes = Kind::ALL.map(|kind| self.bytes_of(kind, digest).unwrap_or(0));
        bytes.iter().sum()
    }

    /// Removes what is not needed; returns it and its bytes.
    fn sweep(&self, needed: &Needed, dry_run: bool) -> Result<(Vec<(Kind, Digest)>, u64), Error> {
        let mut unneeded = Vec::new();
        let mut freed = 0_u64;
        self.each_object(&mut |kind, digest, bytes| {
            if !needed.has(&digest) {
                unneeded.push((kind, digest));
                freed = freed.saturating_add(bytes);
            }
            Ok(())
        })?;
        if !dry_run {
            // Nodes come first, so that none is left whose links were removed.
            for (kind, digest) in &unneeded {
                self.remove_object(*kind, digest)?;
            }
            self.inner.size.forget();
        }
        freed = freed.saturating_add(self.remove_lone_trees(dry_run)?);
        Ok((unneeded, freed))
    }

    fn quarantined(&self) -> Result<Count, Error> {
        let quarantine = self.inner.layout.directory("quarantine");
        let mut count = Count::default();
        let mut directories = BTreeSet::from([quarantine.clone()]);
        while let Some(directory) = directories.pop_first() {
            for name in layout::names_in(&directory)? {
                let path = directory.join(name);
                match std::fs::symlink_metadata(&path) {
                    Ok(metadata) if metadata.is_dir() => drop(directories.insert(path)),
                    Ok(metadata) => count.add(metadata.len()),
                    Err(_) => {}
                }
            }
        }
        Ok(count)
    }
}
