//! Transcripts of the command line: each file in `tests/cmd` is a session that is played again.
//! They need no plugin that was built.

#[test]
fn sessions_read_as_they_are_written_down() {
    let cases = trycmd::TestCases::new();
    // Relative to where a session is played, so that no machine's own plugins show.
    for (name, place) in [
        ("VOX_DATA", "data"),
        ("VOX_CACHE", "cache"),
        ("HOME", "home"),
    ] {
        cases.env(name, place);
    }
    for name in ["VOX_PLUGIN_PATH", "VOX_LOG", "VOX_SDK", "XDG_RUNTIME_DIR"] {
        cases.env(name, "");
    }
    // What differs between machines.
    let checkout = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap();
    cases
        .insert_var("[CHECKOUT]", checkout.display().to_string())
        .unwrap();
    cases
        .insert_var("[PLATFORM]", vox_contract::Platform::current().to_string())
        .unwrap();
    cases.case("tests/cmd/*.trycmd");
}
