//! Threads that share a computation, and the parts of a buffer that each of them writes.
//!
//! A decoder makes some hundred short computations for every token, so threads meet far more often than a
//! work-stealing pool expects. Here they wait for the next computation in a short loop, and sleep only where none comes
//! for a while; the thread that asks works too. Parts are claimed as threads get to them, so one that is held
//! up holds nobody up for long.

use std::any::Any;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::{hint, ptr};

/// Looks at a flag before a thread that waits for the others offers its core.
const SPINS: u32 = 4_000;

/// Offers of its core before a thread that waits for work sleeps.
const YIELDS: u32 = 200;

/// The bit of [`Shared::inside`] that says that no worker may begin any longer.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// A job that all threads run; the argument is the thread's number.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// What the threads share.
struct Shared {
    /// The number of the job that is to be done; even an old job's address is never taken for a new one.
    round: AtomicUsize,
    /// Where the reference to the job is. Written before `round`, and read after it.
    job: AtomicPtr<&'static Job<'static>>,
    /// The next part that nobody has claimed.
    next: AtomicUsize,
    /// Workers that are inside of the job, and whether it takes no more: [`CLOSED`].
    inside: AtomicUsize,
    /// Workers that sleep, or are about to.
    sleeping: AtomicUsize,
    /// The pool is to end.
    ended: AtomicBool,
    /// What a worker's panic carried.
    panicked: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Threads that share computations. Dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of so many threads, of which the caller's is one. Where the system refuses some, it has fewer.
    pub fn new(threads: NonZeroUsize) -> Self {
        let shared = Arc::new(Shared {
            round: AtomicUsize::new(0),
            job: AtomicPtr::new(ptr::null_mut()),
            next: AtomicUsize::new(0),
            inside: AtomicUsize::new(CLOSED),
            sleeping: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            panicked: Mutex::new(None),
        });
        let workers: Vec<_> = (1..threads.get())
            .filter_map(|index| {
                let shared = Arc::clone(&shared);
                let thread = thread::Builder::new().name(format!("kernels-{index}"));
                thread.spawn(move || shared.work(index)).ok()
            })
            .collect();
        let handles = workers
            .iter()
            .map(|worker| worker.thread().clone())
            .collect();
        Self {
            shared,
            workers,
            handles,
        }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job` once with every number below `count`, on all threads, and returns when all calls have. The second
    /// argument is the number of the thread, below [`threads`](Self::threads). Allocates nothing.
    ///
    /// # Panics
    ///
    /// With what a call of `job` panicked with; the pool can be used again.
    pub fn each(&mut self, count: usize, job: impl Fn(usize, usize) + Sync) {
        if self.workers.is_empty() || count <= 1 {
            for index in 0..count {
                job(index, 0);
            }
            return;
        }
        // Fewer claims than parts, and enough of them for threads of unequal speed.
        let step = (count / (8 * self.threads())).max(1);
        let shared = &*self.shared;
        let claim = |thread: usize| {
            loop {
                let first = shared.next.fetch_add(step, Ordering::Relaxed);
                if first >= count {
                    return;
                }
                for index in first..count.min(first + step) {
                    job(index, thread);
                }
            }
        };
        self.run(&claim);
    }

    /// Calls `job` once with every tile, and with a scratch that belongs to the calling thread alone.
    ///
    /// # Panics
    ///
    /// As [`each`](Self::each), and where there are fewer scratches than threads.
    pub fn tiles<T: Send + Sync, S: Send>(
        &mut self,
        tiles: Tiles<'_, T>,
        scratches: &mut [S],
        job: impl Fn(&mut Tile<'_, T>, &mut S) + Sync,
    ) {
        assert!(
            scratches.len() >= self.threads(),
            "a scratch for every thread"
        );
        let scratches = Exclusive(scratches.as_mut_ptr());
        self.each(tiles.count(), |index, thread| {
            let scratches = &scratches;
            // SAFETY: `each` hands every index out once, so no other tile like it exists, and it ends before the
            // borrow of the buffer does.
            let mut tile = unsafe { tiles.tile(index) };
            // SAFETY: there are as many as threads, each uses its own, and calls on one thread follow each other.
            let scratch = unsafe { &mut *scratches.0.add(thread) };
            job(&mut tile, scratch);
        });
    }

    /// Runs a job on this thread, and on every worker that comes before this thread is through with it. One that
    /// the system does not let run is not waited for.
    fn run(&self, job: &Job<'_>) {
        let shared = &*self.shared;
        shared.next.store(0, Ordering::Relaxed);
        // SAFETY: only the lifetime changes. The job is called by workers that count themselves in `inside`, and this
        // function does not return, nor unwind, before it takes no more and none is there.
        let mut forever = unsafe { std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job) };
        shared.job.store(&raw mut forever, Ordering::Relaxed);
        // From here on workers may begin, and see what was stored before.
        shared.inside.store(0, Ordering::Release);
        // Sequentially consistent with `sleeping`: either a worker sees this round before it sleeps, or it is seen here.
        shared.round.fetch_add(1, Ordering::SeqCst);
        if shared.sleeping.load(Ordering::SeqCst) > 0 {
            for handle in &self.handles {
                handle.unpark();
            }
        }
        let own = panic::catch_unwind(AssertUnwindSafe(|| job(0)));
        shared.inside.fetch_or(CLOSED, Ordering::AcqRel);
        let mut looks = 0;
        while shared.inside.load(Ordering::Acquire) != CLOSED {
            looks += 1;
            if looks < SPINS {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
        let theirs = shared
            .panicked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(payload) = own.err().or(theirs) {
            panic::resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.round.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches what its jobs panic with.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// What a worker does, until the pool ends.
    fn work(&self, thread: usize) {
        let mut done = 0;
        loop {
            done = self.wait(done);
            if self.ended.load(Ordering::SeqCst) {
                return;
            }
            if !self.enter() {
                continue;
            }
            // SAFETY: `run` stored it before it let workers in; it and the job live until this worker has left, below.
            let job = unsafe { *self.job.load(Ordering::Relaxed) };
            if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| job(thread))) {
                *self.panicked.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
            }
            self.inside.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Counts a worker among those inside of the job, unless it takes no more.
    fn enter(&self) -> bool {
        let mut inside = self.inside.load(Ordering::Relaxed);
        while inside & CLOSED == 0 {
            let entered = self.inside.compare_exchange_weak(
                inside,
                inside + 1,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match entered {
                Ok(_) => return true,
                Err(now) => inside = now,
            }
        }
        false
    }

    /// Waits for a round other than the one that was done last.
    fn wait(&self, done: usize) -> usize {
        let mut looks = 0;
        loop {
            let round = self.round.load(Ordering::Acquire);
            if round != done {
                return round;
            }
            looks += 1;
            if looks < SPINS {
                hint::spin_loop();
            } else if looks < SPINS + YIELDS {
                thread::yield_now();
            } else {
                self.sleeping.fetch_add(1, Ordering::SeqCst);
                while self.round.load(Ordering::SeqCst) == done {
                    thread::park();
                }
                self.sleeping.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

/// A pointer whose uses on several threads do not overlap.
struct Exclusive<T>(*mut T);

// SAFETY: that they do not overlap is what the type is for; `T` may be used on other threads.
unsafe impl<T: Send> Sync for Exclusive<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Exclusive<T> {}

/// A matrix that is cut into tiles, row of tiles after row of tiles; those at the edges may be smaller.
pub struct Tiles<'a, T> {
    data: Exclusive<T>,
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T> Tiles<'a, T> {
    /// Cuts the matrix `data` with rows of `columns` numbers into tiles of at most `height` rows and `width` columns.
    ///
    /// # Panics
    ///
    /// Where `data` is not whole rows, or a size is 0.
    pub fn new(data: &'a mut [T], columns: usize, height: usize, width: usize) -> Self {
        assert!(
            columns > 0 && height > 0 && width > 0,
            "sizes of tiles are above 0"
        );
        assert!(data.len().is_multiple_of(columns), "rows are whole");
        Self {
            rows: data.len() / columns,
            data: Exclusive(data.as_mut_ptr()),
            columns,
            height,
            width,
            borrow: PhantomData,
        }
    }

    /// Rows of the matrix, one tile each.
    pub fn rows(data: &'a mut [T], columns: usize) -> Self {
        Self::new(data, columns, 1, columns)
    }

    /// Tiles.
    pub fn count(&self) -> usize {
        self.rows.div_ceil(self.height) * self.columns.div_ceil(self.width)
    }

    /// A tile.
    ///
    /// # Safety
    ///
    /// While it lives there must be no other tile with the same number.
    unsafe fn tile(&self, index: usize) -> Tile<'a, T> {
        assert!(index < self.count());
        let across = self.columns.div_ceil(self.width);
        let row = index / across * self.height;
        let column = index % across * self.width;
        // SAFETY: row and column are inside of the matrix, whose data the borrow keeps.
        let data = unsafe { self.data.0.add(row * self.columns + column) };
        Tile {
            data,
            stride: self.columns,
            first_row: row,
            first_column: column,
            rows: self.height.min(self.rows - row),
            columns: self.width.min(self.columns - column),
            borrow: PhantomData,
        }
    }
}

/// A part of a matrix: some columns of some rows.
#[derive(Debug)]
pub struct Tile<'a, T> {
    data: *mut T,
    stride: usize,
    /// The row of the matrix that its first row is.
    pub first_row: usize,
    /// The column of the matrix that its first column is.
    pub first_column: usize,
    rows: usize,
    columns: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T> Tile<'a, T> {
    /// A whole matrix with rows of `columns` numbers.
    ///
    /// # Panics
    ///
    /// As [`Tiles::new`].
    pub fn whole(data: &'a mut [T], columns: usize) -> Self {
        let height = (data.len() / columns.max(1)).max(1);
        let tiles = Tiles::new(data, columns, height, columns);
        assert!(tiles.rows > 0, "a matrix has rows");
        // SAFETY: it is the only one, and the borrow goes on in it.
        unsafe { tiles.tile(0) }
    }

    /// Rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    #[inline]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// A row.
    ///
    /// # Panics
    ///
    /// Where there is no such row.
    #[inline(always)]
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows);
        // SAFETY: the row and its columns are in the matrix, no other tile has them, and `self` is borrowed for as long.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(row * self.stride), self.columns) }
    }
}

#[cfg(test)]
mod tests;
