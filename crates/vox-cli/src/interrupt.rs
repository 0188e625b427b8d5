//! Ctrl-C: the first time it cancels the work, which may then clean up; the second time it ends
//! the process at once.
//!
//! Work that goes on after it was interrupted, as a conversation does after an answer, takes
//! another token, and with it counts anew.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, Once, PoisonError};

use vox_host::CancelToken;

use crate::exit::Exit;
use crate::output;

/// What Ctrl-C cancels now. Nothing is called while it is locked.
static TOKEN: LazyLock<Mutex<CancelToken>> = LazyLock::new(Mutex::default);

/// Whether there is nothing to be cut off, so that Ctrl-C simply ends the command.
static IDLE: AtomicBool = AtomicBool::new(false);

/// Says whether there is no work to be cut off from now on: Ctrl-C then needs no word.
pub(crate) fn set_idle(is_idle: bool) {
    IDLE.store(is_idle, Ordering::Relaxed);
}

/// The token that Ctrl-C cancels. From the first call on, Ctrl-C no longer ends the process by
/// itself.
pub(crate) fn token() -> CancelToken {
    static HANDLED: Once = Once::new();
    HANDLED.call_once(|| {
        let installed = ctrlc::set_handler(|| {
            let token = current().clone();
            if token.is_cancelled() {
                process::exit(Exit::Interrupted.code().into());
            }
            if !IDLE.load(Ordering::Relaxed) {
                output::complain(format_args!("interrupted; once more ends it at once\n"));
            }
            token.cancel();
        });
        if let Err(error) = installed {
            tracing::warn!(%error, "Ctrl-C ends the command without cleaning up");
        }
    });
    current().clone()
}

/// Another token in the place of one that was cancelled: for work that goes on all the same.
/// Whoever holds the former one stays cancelled.
pub(crate) fn renewed() -> CancelToken {
    *current() = CancelToken::new();
    token()
}

fn current() -> MutexGuard<'static, CancelToken> {
    TOKEN.lock().unwrap_or_else(PoisonError::into_inner)
}
