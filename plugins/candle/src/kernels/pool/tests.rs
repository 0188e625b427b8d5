use std::sync::atomic::AtomicU32;

use super::*;

fn pool(threads: usize) -> Pool {
    Pool::new(NonZeroUsize::new(threads).unwrap())
}

#[test]
fn every_part_is_computed_once_by_whatever_threads() {
    for threads in [1, 2, 5] {
        let mut pool = pool(threads);
        for count in [0, 1, 2, 7, 100, 1000] {
            let calls: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            pool.each(count, |index, thread| {
                assert!(thread < threads);
                calls[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(
                calls.iter().all(|calls| calls.load(Ordering::Relaxed) == 1),
                "{count} parts"
            );
        }
    }
}

#[test]
fn tiles_cover_a_matrix() {
    let mut pool = pool(3);
    let (rows, columns) = (7, 10);
    let mut matrix = vec![0; rows * columns];
    let mut scratches = [0; 3];
    pool.tiles(
        Tiles::new(&mut matrix, columns, 3, 4),
        &mut scratches,
        |tile, tiles| {
            *tiles += 1;
            for row in 0..tile.rows() {
                let first = (tile.first_row + row) * columns + tile.first_column;
                for (index, to) in tile.row(row).iter_mut().enumerate() {
                    *to += first + index;
                }
            }
        },
    );
    assert_eq!(matrix, (0..rows * columns).collect::<Vec<_>>());
    assert_eq!(scratches.iter().sum::<i32>(), 9);
}

#[test]
fn a_panic_of_any_thread_arrives_and_the_pool_goes_on() {
    let mut pool = pool(4);
    for _ in 0..20 {
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            pool.each(64, |index, _| assert!(index != 40, "part 40"));
        }));
        assert!(result.is_err());
        let sum = AtomicUsize::new(0);
        pool.each(64, |index, _| {
            sum.fetch_add(index, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 2016);
    }
}

#[test]
fn workers_that_sleep_are_woken() {
    let mut pool = pool(3);
    for _ in 0..5 {
        while pool.shared.sleeping.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        let threads = Mutex::new(Vec::new());
        // Each part waits until all threads have one.
        let here = AtomicUsize::new(0);
        pool.each(3, |_, thread| {
            here.fetch_add(1, Ordering::SeqCst);
            while here.load(Ordering::SeqCst) < 3 {
                thread::yield_now();
            }
            threads.lock().unwrap().push(thread);
        });
        let mut threads = threads.into_inner().unwrap();
        threads.sort_unstable();
        assert_eq!(threads, [0, 1, 2]);
    }
}
