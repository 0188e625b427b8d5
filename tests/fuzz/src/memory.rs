//! Counts what a thread has allocated, so that a target can bound what an input costs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that are allocated now and the most that were, since the count began. Freed by
    /// another thread they count on, so the first may run away; only within [`peak_of`] is it
    /// looked at.
    static BYTES: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

/// The system's allocator, which is counted.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends has no count any more.
    let _ = BYTES.try_with(|counted| {
        let (now, most) = counted.get();
        let now = now + bytes;
        counted.set((now, most.max(now)));
    });
}

// SAFETY: everything is left to the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// What `work` answers, and the most bytes that this thread had allocated at once meanwhile, those
/// from before not counted.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    BYTES.set((0, 0));
    let value = work();
    let (_, most) = BYTES.get();
    (value, most.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_is_allocated_at_once_is_counted_and_what_is_freed_is_not() {
        let (_, peak) = peak_of(|| {
            drop(vec![1_u8; 3000]);
            drop(vec![1_u8; 5000]);
        });
        assert!((5000..5100).contains(&peak), "{peak}");
    }
}
