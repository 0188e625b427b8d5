//! Progress of a long work on standard error: a bar with the rate and the time that is left.
//!
//! There is a bar only where somebody looks: on a terminal, with output for people.

use std::io::{self, IsTerminal as _};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vox_host::CancelToken;
use vox_model::progress::Progress;

use crate::output::Output;

/// Shows how far a work is, and ends it at Ctrl-C.
pub(crate) struct Bar {
    shown: bool,
    bar: Mutex<Option<ProgressBar>>,
    cancel: CancelToken,
}

impl Bar {
    /// Progress for this output; the work is given up when `cancel` is cancelled.
    pub(crate) fn new(output: Output, cancel: CancelToken) -> Self {
        let shown = output.is_human() && io::stderr().is_terminal();
        Self {
            shown,
            bar: Mutex::new(None),
            cancel,
        }
    }

    /// Shows how many of so many ops are done, for works whose pieces are not bytes. `told` is what was
    /// shown before.
    pub(crate) fn ops(&self, what: &str, told: &mut Option<u64>, done: u64, last: u64) {
        if !self.shown {
            return;
        }
        if told.is_none() {
            self.start(
                what,
                Some(last + 1),
                "{msg:12} [{bar:30}] {pos:>10} of {len} ops  {per_sec:>12}  {eta:>4} left",
            );
        }
        self.advance(done.saturating_sub(told.unwrap_or(0)));
        *told = Some(done);
    }

    fn start(&self, what: &str, len: Option<u64>, template: &str) {
        // The templates are constants that parse; were one not to, there is the default.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(len, ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        if let Some(before) = self.bar().replace(bar) {
            before.finish_and_clear();
        }
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for Bar {
    fn begin(&self, what: &str, bytes: Option<u64>) {
        if !self.shown {
            return;
        }
        let template = match bytes {
            Some(_) => {
                "{msg:12} [{bar:30}] {bytes:>10} of {total_bytes}  {bytes_per_sec:>12}  {eta:>4} left"
            }
            None => "{msg:12} {spinner} {bytes:>10}  {bytes_per_sec:>12}",
        };
        self.start(what, bytes, template);
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.bar() {
            bar.inc(bytes);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.end();
    }
}
