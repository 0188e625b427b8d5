//! Who vouches for a plugin: signatures, the keys that the user trusts, and what follows from both.
//!
//! | module | owns |
//! |---|---|
//! | `listing` | [`SignedFiles`]: what `Plugin.sig` says, and its one written form |
//! | `directory` | [`sign`], [`read`], [`verify`]: a directory against its `Plugin.sig` |
//! | `store` | [`TrustStore`]: trusted keys, pins, plugins that are allowed unsigned |
//! | `file` | `trust.toml`, read with the others that count and changed in one step |
//! | `standing` | [`TrustStore::judge`]: from facts to a [`Standing`] or a [`Refusal`] |
//! | `time` | [`Time`]: when something was signed, and until when it holds |
//!
//! A signature answers who made these files; the trust store answers what the user thinks of them.
//! The two meet in one pure function, [`TrustStore::judge`], and [`admit`] is that function with
//! the reading of files around it.
//!
//! **What must stay true.**
//! - A signature covers every file of the directory. What is changed, added or missing is found by
//!   content, and what is loaded can be checked once more as the bytes that are loaded
//!   ([`SignedFiles::check`]).
//! - Nothing of a plugin decides about its own trust: not its manifest, not its project, not the
//!   key that stands in its signature. Only the user's `trust.toml` and the one beside the
//!   executable count.
//! - Once a plugin was installed from a key, that key is the only one for it, wherever it is found,
//!   until the user says otherwise.
//! - Keys are compared whole, never by their short form.

mod directory;
mod error;
mod file;
mod listing;
mod standing;
mod store;
mod time;

pub(crate) use directory::verify_if_signed;
pub use directory::{read, sign, verify};
pub use error::{Difference, SigningError};
pub use listing::{MAX_SIGNATURE_FILE_BYTES, SIGNATURE_FILE, SignedFile, SignedFiles};
pub use standing::{Admission, Facts, Refusal, Standing, admit, resolved};
pub use store::{Allowed, Pin, TrustStore, TrustedKey};
pub use time::{Time, TimeError};
