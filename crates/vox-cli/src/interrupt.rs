//! Ctrl-C: the first time it cancels the work, which may then clean up; the second time it ends
//! the process at once.
//!
//! Work that goes on after it was interrupted, as a conversation does after an answer, takes
//! another token, and with it counts anew.

use std::process;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, PoisonError};

use vox_host::CancelToken;

use crate::exit::Exit;
use crate::output;

/// What Ctrl-C does now. Nothing is called while it is locked.
static NOW: LazyLock<Mutex<Now>> = LazyLock::new(Mutex::default);

#[derive(Clone, Default)]
struct Now {
    /// What it cancels.
    token: CancelToken,
    /// What stands on the terminal and is drawn over and over.
    drawing: Option<Arc<dyn Drawing>>,
    /// How the work can be gone on with once it was ended at once.
    way_on: Option<String>,
    /// Whether there is no work to be cut off.
    is_idle: bool,
}

/// Something that is drawn over and over on the terminal, so that nobody else may write there.
pub(crate) trait Drawing: Send + Sync {
    /// Shows a line above it.
    fn say(&self, line: &str);
    /// Takes it away, and draws no more. Waits for a moment, and for no terminal that takes nothing.
    fn end(&self);
}

/// The token that Ctrl-C cancels. From the first call on, Ctrl-C no longer ends the process by
/// itself.
pub(crate) fn token() -> CancelToken {
    static HANDLED: Once = Once::new();
    HANDLED.call_once(|| {
        if let Err(error) = ctrlc::set_handler(interrupt) {
            tracing::warn!(%error, "Ctrl-C ends the command without cleaning up");
        }
    });
    current().token.clone()
}

/// Another token in the place of one that was cancelled: for work that goes on all the same.
/// Whoever holds the former one stays cancelled.
pub(crate) fn renewed() -> CancelToken {
    current().token = CancelToken::new();
    token()
}

/// Says where notices are shown from now on: above `drawing`, or on standard error without one.
pub(crate) fn show_above(drawing: Option<Arc<dyn Drawing>>) {
    current().drawing = drawing;
}

/// What is told from now on when the process is ended at once: how the work can be gone on with.
pub(crate) fn tell_way_on(way_on: Option<String>) {
    current().way_on = way_on;
}

/// Says whether there is no work to be cut off from now on: Ctrl-C then needs no word.
pub(crate) fn set_idle(is_idle: bool) {
    current().is_idle = is_idle;
}

/// What Ctrl-C does.
fn interrupt() {
    let Now {
        token,
        drawing,
        way_on,
        is_idle,
    } = current().clone();
    if token.is_cancelled() {
        if let Some(drawing) = drawing {
            drawing.end();
        }
        if let Some(way_on) = way_on {
            output::complain(format_args!("ended at once; {way_on}\n"));
        }
        process::exit(Exit::Interrupted.code().into());
    }
    let notice = "interrupted; once more ends it at once";
    match drawing {
        _ if is_idle => {}
        Some(drawing) => drawing.say(notice),
        None => output::complain(format_args!("{notice}\n")),
    }
    token.cancel();
}

fn current() -> MutexGuard<'static, Now> {
    NOW.lock().unwrap_or_else(PoisonError::into_inner)
}
