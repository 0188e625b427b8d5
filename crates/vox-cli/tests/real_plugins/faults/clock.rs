//! A clock that is a day ahead, and by turns another hour: loaded before the C library, whose function it
//! stands in for. Clocks that nobody can set are as they are.

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicUsize, Ordering};

#[repr(C)]
pub struct Time {
    seconds: i64,
    nanoseconds: c_long,
}

#[cfg(target_arch = "x86_64")]
const CLOCK_GETTIME: c_long = 228;
#[cfg(target_arch = "aarch64")]
const CLOCK_GETTIME: c_long = 113;
const REALTIME: c_int = 0;

// SAFETY: the C library has it under this signature.
unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// How often the clock that can be set was asked.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// # Safety
///
/// As of the C library's: `time` is valid for a write, or the system call refuses it.
// SAFETY: the name is meant to stand before the C library's; the signature is the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Time) -> c_int {
    // SAFETY: the kernel checks the pointer, and answers an error for one that is not valid.
    let answer = unsafe { syscall(CLOCK_GETTIME, c_long::from(clock), time) };
    if answer == 0 && clock == REALTIME {
        let turn = CALLS.fetch_add(1, Ordering::Relaxed) % 2;
        // SAFETY: the kernel has just written there.
        unsafe { (*time).seconds += 86_400 + 3_600 * turn as i64 };
    }
    answer as c_int
}
