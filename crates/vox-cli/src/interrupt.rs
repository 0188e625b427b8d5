//! Ctrl-C: the first time it cancels the work, which may then clean up; the second time it ends
//! the process at once.

use std::process;
use std::sync::OnceLock;

use vox_host::CancelToken;

use crate::exit::Exit;
use crate::output;

/// The token that Ctrl-C cancels. From the first call on, Ctrl-C no longer ends the process by
/// itself.
pub(crate) fn token() -> CancelToken {
    static TOKEN: OnceLock<CancelToken> = OnceLock::new();
    let token = TOKEN.get_or_init(|| {
        let token = CancelToken::new();
        let cancel = token.clone();
        let installed = ctrlc::set_handler(move || {
            if cancel.is_cancelled() {
                process::exit(Exit::Interrupted.code().into());
            }
            output::complain(format_args!("interrupted; once more ends it at once\n"));
            cancel.cancel();
        });
        if let Err(error) = installed {
            tracing::warn!(%error, "Ctrl-C ends the command without cleaning up");
        }
        token
    });
    token.clone()
}
