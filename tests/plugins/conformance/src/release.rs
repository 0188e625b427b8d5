//! What tells one release of this plugin from another.
//!
//! A test that reloads the plugin needs releases that differ and some that fail. It makes them by
//! writing another word over [`MARK`] in a built payload, which is the same for both carriers.

/// A release that serves. The tests look for these bytes.
const GOOD: [u8; 16] = *b"release:good....";

/// The mark in the payload.
static MARK: [u8; 16] = GOOD;

/// How this release behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// As it should.
    Good,
    /// `init` answers an error.
    FailsInit,
    /// `init` never ends.
    SpinsInInit,
    /// `health` answers `failing`.
    Unwell,
    /// `restore` answers an error.
    FailsRestore,
    /// `restore` panics.
    PanicsInRestore,
    /// `snapshot` never ends.
    SpinsInSnapshot,
    /// The first chunk panics.
    PanicsAtWork,
}

/// The mark as it stands in this payload.
pub fn mark() -> String {
    // The compiler must not know the bytes, or it would put them elsewhere.
    let mark = std::hint::black_box(&MARK);
    String::from_utf8_lossy(mark).into_owned()
}

/// How this release behaves.
pub fn release() -> Release {
    // The word behind the colon. Were `release:` written here again, other constants might stand behind it in a
    // payload, and look like another mark.
    let mark = mark();
    let word = mark.split_once(':').map_or("", |(_, word)| word);
    match word.trim_end_matches('.') {
        "failinit" => Release::FailsInit,
        "spininit" => Release::SpinsInInit,
        "unwell" => Release::Unwell,
        "norestor" => Release::FailsRestore,
        "panicres" => Release::PanicsInRestore,
        "spinsnap" => Release::SpinsInSnapshot,
        "panicwrk" => Release::PanicsAtWork,
        _ => Release::Good,
    }
}
