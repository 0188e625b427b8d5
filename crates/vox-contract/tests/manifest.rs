//! What a manifest says arrives as it was written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use vox_contract::{
    Bytes, Capability, Carrier, Catalog, CpuTime, ExtensionPoint, GrantsFile, HookFailure,
    HookPoint, LibraryVersion, LimitName, Manifest, ManifestError, Need, PayloadKind, Platform,
    Settings, Skill,
};

const FULL: &str = include_str!("full.toml");

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text, Path::new("Plugin.toml"))
}

#[test]
fn a_full_manifest_is_read_whole() {
    let manifest = parse(FULL).unwrap();
    assert_eq!(manifest.id, "acme.redact");
    assert_eq!(manifest.name, "Redact");
    assert_eq!(manifest.version, "0.1.0".parse().unwrap());
    assert!(manifest.host.matches(&"0.1.7".parse().unwrap()));
    assert_eq!(manifest.authors.len(), 2);
    assert_eq!(manifest.license.as_deref(), Some("Apache-2.0 OR MIT"));
    let kinds: Vec<PayloadKind> = manifest.payload.kinds().collect();
    assert_eq!(kinds, PayloadKind::ALL);
    assert_eq!(
        manifest.payload.file_for(Carrier::Component),
        Some(Path::new("redact.wasm"))
    );
    let macos: Platform = "macos-aarch64".parse().unwrap();
    assert_eq!(
        manifest.payload.native[&macos],
        PathBuf::from("libredact.dylib")
    );
    assert_eq!(
        manifest.requires.libraries[0].version,
        Some(LibraryVersion::new(&[12]))
    );
    assert_eq!(manifest.provides.extension_points[&ExtensionPoint::Step], 2);
    assert!(manifest.provides.serves(Need::Runner("acme.mask")));
    assert_eq!(manifest.provides.declared_environment, ["acme.mask"]);
    assert!(manifest.provides.serves(Need::Verb("mask")));
    assert!(!manifest.provides.serves(Need::Verb("acme.mask")));
    assert_eq!(manifest.provides.hooks[0].priority, -5);
    assert_eq!(
        manifest.provides.hooks[1].point,
        HookPoint::Custom("deploy".into())
    );
    assert_eq!(manifest.provides.hooks[1].priority, 100);
    let [first, second] = &*manifest.provides.hooks else {
        panic!("there are two hooks");
    };
    assert_eq!(first.time_limit(), Duration::from_millis(250));
    assert_eq!(first.failure(), HookFailure::Open);
    assert_eq!(second.time_limit(), Duration::from_secs(1));
    assert_eq!(second.failure(), HookFailure::Closed);
    let request = manifest.request(Capability::FileRead).unwrap();
    assert_eq!(request.scope, ["rules", "/etc/redact"]);
    assert_eq!(manifest.request(Capability::Kv), None);
    assert_eq!(manifest.dependencies.len(), 2);
    assert_eq!(manifest.limits.memory, Some(Bytes(16 << 20)));
    assert_eq!(
        manifest.limits.cpu,
        Some(CpuTime::Limited(Duration::from_millis(100)))
    );
    assert!(
        LimitName::ALL
            .into_iter()
            .all(|name| manifest.limits.get(name).is_some())
    );
    assert_eq!(manifest.limits.log_rate, Some(0));
}

#[test]
fn a_full_manifest_is_the_same_after_it_was_written_and_read_again() {
    let manifest = parse(FULL).unwrap();
    let written = toml::to_string(&manifest).unwrap();
    assert_eq!(parse(&written).unwrap(), manifest, "{written}");
}

#[test]
fn what_is_optional_may_be_left_out() {
    let manifest = parse(
        "id = \"a\"\nversion = \"1.0.0\"\ndescription = \"d\"\nhost = \"*\"\n\
         [payload]\ncomponent = \"a.wasm\"\n[provides]\nextension-points = { stage = 1 }\n",
    )
    .unwrap();
    assert_eq!(manifest.name, "a");
    assert!(manifest.requires.is_empty() && manifest.limits.is_empty());
}

#[test]
fn a_skill_alone_needs_to_provide_nothing() {
    let manifest = parse(
        "id = \"a\"\nversion = \"1.0.0\"\ndescription = \"d\"\nhost = \"*\"\n\
         payload = { skill = \"SKILL.md\" }\n",
    )
    .unwrap();
    assert!(manifest.provides.is_empty() && !manifest.payload.has_code());
}

#[test]
fn versions_of_libraries_compare_by_their_numbers() {
    let version = |numbers: &[u32]| LibraryVersion::new(numbers);
    assert!(version(&[12]) == version(&[12, 0, 0]));
    assert!(version(&[12, 10]) > version(&[12, 9, 9]));
    assert!(version(&[12, 0, 1]) > version(&[12]));
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("Plugin.toml");
    let error = Manifest::load(&missing).unwrap_err();
    assert_eq!(error.file(), missing);
    assert!(error.problems().is_empty());
    assert!(
        error
            .to_string()
            .starts_with(&format!("{}: cannot be read: ", missing.display()))
    );

    std::fs::write(&missing, b"id = \"a\"\nname = \"\xff\"\n").unwrap();
    let error = Manifest::load(&missing).unwrap_err();
    assert_eq!(
        (error.problems()[0].line, error.problems()[0].column),
        (2, 9)
    );
    assert_eq!(error.problems()[0].message, "the file is not UTF-8 text");

    std::fs::write(&missing, vec![b'#'; (1 << 20) + 1]).unwrap();
    let error = Manifest::load(&missing).unwrap_err();
    assert!(error.to_string().contains("larger than 1 MiB"), "{error}");

    std::fs::write(&missing, FULL).unwrap();
    assert_eq!(Manifest::load(&missing).unwrap(), parse(FULL).unwrap());
}

/// Reads `text` as every kind of file; a refusal must have places that lie within the text.
fn read_as_everything(text: &str) {
    let file = Path::new("file");
    let refusals = [
        Manifest::parse(text, file).err(),
        Settings::parse(text, file).err(),
        Catalog::parse(text, file).err(),
        GrantsFile::parse(text, file).err(),
        Skill::parse(text, file).err(),
    ];
    for error in refusals.into_iter().flatten() {
        assert!(!error.problems().is_empty());
        for problem in error.problems() {
            assert!(
                text.get(problem.span.clone()).is_some(),
                "{problem:?} in {text:?}"
            );
            assert!(
                problem.line >= 1 && problem.line <= text.split('\n').count(),
                "{problem:?}"
            );
        }
        assert!(!error.to_string().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_as_everything(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_damage_to_a_manifest_makes_a_reader_panic(
        at in 0..FULL.len(),
        length in 0..40_usize,
        put in "[\\[\\]{}=\",.#a-z0-9\\n é-]{0,12}",
    ) {
        let mut text = FULL.to_owned();
        text.replace_range(at..(at + length).min(FULL.len()), &put);
        read_as_everything(&text);
    }

    #[test]
    fn no_front_matter_makes_a_reader_panic(front in "([a-z]{0,5}:? ?[\\[\\]'\"\\\\,# é>a-]{0,9}\n){0,6}") {
        read_as_everything(&format!("---\n{front}---\ntext"));
    }

    #[test]
    fn no_values_of_the_wrong_kind_make_a_reader_panic(
        key in "(payload|requires|provides|capabilities|dependencies|limits|plugin|distribution)",
        value in "([0-9]{1,40}|true|inf|-nan|\\[\\]|\\[\\{\\}\\]|\\{\\}|\\[\\[1\\]\\]|\\{ a = \\{ b = 1 \\} \\}|1979-05-27)",
    ) {
        read_as_everything(&format!("{key} = {value}\n"));
    }
}
