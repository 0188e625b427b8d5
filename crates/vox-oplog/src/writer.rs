//! The two threads that write: one signs, one commits.
//!
//! ```text
//! append -> queue -> [sealer: number, chain, sign] -> [committer: BEGIN, INSERT, COMMIT, head] -> answer
//! ```
//!
//! A batch is what has queued up while the one before it was written, so a lone op is written at once
//! and a thousand share one `fsync`. While SQLite writes a batch, the next is signed on top of it.
//!
//! What must stay true: the committer looks at the head of the log inside of the transaction that
//! appends. Where another process, another handle or a failed commit has made it another one than the
//! batch was signed on top of, it is numbered, chained and signed again. So writers interleave and the
//! chain holds. Whoever waits is answered after the commit: with a receipt or with the error that kept
//! all of its batch out of the log.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::Connection;
use vox_crypto::SigningKey;

use crate::db::{self, Authors, Tip};
use crate::head::HeadFile;
use crate::queue::{Bounds, Queue, Receipt, Waiter};
use crate::seal::{Sealed, seal};
use crate::signal::Signal;
use crate::{Error, LogId, Op};

/// What the threads of a writer share.
pub(crate) struct Setup {
    pub path: PathBuf,
    pub log: LogId,
    pub key: SigningKey,
    pub batch: Bounds,
    pub busy: Duration,
    pub signal: Arc<Signal>,
}

/// The threads; they end when the queue is closed and empty.
#[derive(Debug)]
pub(crate) struct Writer {
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts them on a log whose next op goes to `tip`.
    pub fn start(
        setup: Setup,
        queue: Arc<Queue>,
        db: Connection,
        head: HeadFile,
        tip: Tip,
    ) -> Result<Self, Error> {
        let setup = Arc::new(setup);
        let progress = Arc::new(Progress::new(tip));
        // A batch is handed over when the committer is free for it; it holds one, and one is signed.
        let (sender, receiver) = bounded(0);
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let queue = queue.clone();
            thread::Builder::new()
                .name(name.into())
                .spawn(move || {
                    // However the thread ends, nobody waits for it.
                    let _guard = Abandon(queue);
                    body();
                })
                .map_err(Error::io("start the writer of", &setup.path))
        };
        let committer = Committer {
            setup: setup.clone(),
            db,
            head,
            authors: Authors::default(),
            author: None,
        };
        let (their, ours) = (progress.clone(), queue.clone());
        let threads = vec![
            spawn(
                "vox-oplog commit",
                Box::new(move || committer.run(&receiver, &their)),
            )?,
            spawn(
                "vox-oplog sign",
                Box::new({
                    let setup = setup.clone();
                    move || sign(&setup, &ours, &sender, &progress)
                }),
            )?,
        ];
        Ok(Self { threads })
    }

    /// Waits until everything that was taken is answered. The queue has to be closed.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the op-log's writer has panicked");
            }
        }
    }
}

struct Abandon(Arc<Queue>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// A signed batch with those who wait for it.
struct Batch {
    sealed: Sealed,
    waiters: Vec<Waiter>,
}

/// How far the committer is.
struct Progress {
    state: Mutex<Done>,
    changed: Condvar,
}

/// Guarded alone; nothing is called under the lock.
struct Done {
    /// Batches that were answered.
    batches: u64,
    /// Where the next op went when the committer looked last.
    tip: Tip,
    /// Whether that is not what the sealer assumed.
    moved: bool,
    /// Whether the committer has ended.
    ended: bool,
}

impl Progress {
    fn new(tip: Tip) -> Self {
        Self {
            state: Mutex::new(Done {
                batches: 0,
                tip,
                moved: false,
                ended: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn update(&self, how: impl FnOnce(&mut Done)) {
        how(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// The tip to sign on top of: `assumed`, unless it has moved. Then it is that of the log after the
    /// `sent` batches that are under way.
    fn tip(&self, assumed: Tip, sent: u64) -> Tip {
        let mut done = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !done.moved {
            return assumed;
        }
        while done.batches < sent && !done.ended {
            done = self
                .changed
                .wait(done)
                .unwrap_or_else(PoisonError::into_inner);
        }
        done.moved = false;
        done.tip
    }
}

/// The sealer: from the queue to the committer.
fn sign(setup: &Setup, queue: &Queue, committer: &Sender<Batch>, progress: &Progress) {
    let (mut assumed, mut sent) = (
        progress
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tip,
        0,
    );
    while let Some((ops, waiters)) = queue.take(setup.batch) {
        let tip = progress.tip(assumed, sent);
        let sealed = seal(&setup.key, setup.log, tip, ops);
        assumed = sealed.tip();
        sent += 1;
        if committer.send(Batch { sealed, waiters }).is_err() {
            return;
        }
    }
}

/// The thread that commits, with what it alone uses.
struct Committer {
    setup: Arc<Setup>,
    db: Connection,
    head: HeadFile,
    authors: Authors,
    /// The key's number in the database.
    author: Option<i64>,
}

impl Committer {
    fn run(mut self, batches: &Receiver<Batch>, progress: &Progress) {
        struct Ended<'a>(&'a Progress);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.update(|done| done.ended = true);
            }
        }
        let _ended = Ended(progress);
        for Batch { sealed, waiters } in batches {
            let on = sealed.on;
            let span = tracing::debug_span!("vox.oplog.commit", ops = sealed.ops.len());
            let result = span.in_scope(|| self.commit(sealed));
            let (tip, moved) = match &result {
                Ok(sealed) => (sealed.tip(), sealed.on != on),
                // What was signed on top of this batch has to be signed again.
                Err(_) => (on, true),
            };
            progress.update(|done| {
                done.batches += 1;
                done.tip = tip;
                done.moved |= moved;
            });
            match result {
                Ok(sealed) => {
                    let ops = sealed.ops.iter().zip(&sealed.hashes);
                    for (waiter, (op, hash)) in waiters.into_iter().zip(ops) {
                        waiter.answer(Ok(Receipt {
                            seq: op.seq,
                            hash: *hash,
                        }));
                    }
                    self.setup.signal.poke();
                }
                Err(error) => {
                    tracing::warn!(%error, "ops were not written");
                    for waiter in waiters {
                        waiter.answer(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Makes a batch durable, as it is or on top of what others have written.
    fn commit(&mut self, sealed: Sealed) -> Result<Sealed, Error> {
        let Setup { path, busy, .. } = &*self.setup;
        db::begin(&self.db, path, *busy)?;
        let written = self.insert(sealed);
        if written.is_err() {
            // The number may be one of the transaction that failed.
            self.author = None;
            db::rollback(&self.db);
        }
        let sealed = written?;
        if let Err(error) = self.head.advance(&sealed.head, false) {
            // The ops are durable; the head file lags, which the next commit or open makes good.
            tracing::warn!(%error, "the head file lags");
        }
        Ok(sealed)
    }

    fn insert(&mut self, sealed: Sealed) -> Result<Sealed, Error> {
        let Setup { path, key, log, .. } = &*self.setup;
        let tip = db::tip(&self.db, path, &mut self.authors)?;
        let sealed = if tip == sealed.on {
            sealed
        } else {
            seal(key, *log, tip, sealed.ops)
        };
        let author = match self.author {
            Some(author) => author,
            None => db::author_id(&self.db, &key.public()).map_err(Error::sqlite("write", path))?,
        };
        self.author = Some(author);
        write(&self.db, path, author, &sealed.ops)?;
        Ok(sealed)
    }
}

/// Writes ops and commits.
pub(crate) fn write(db: &Connection, path: &Path, author: i64, ops: &[Op]) -> Result<(), Error> {
    db::insert(db, author, ops).map_err(Error::sqlite("write", path))?;
    db::commit(db, path)
}
