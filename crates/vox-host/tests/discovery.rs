//! Which plugins are found, which are passed over, and what is said about those.

mod fixture;

use std::fs;

use fixture::{Fixture, id};
use vox_contract::Settings;
use vox_host::directories::RootKind;
use vox_host::inventory::{Finding, Inventory, Reason, Severity};
use vox_host::requirements::missing_libraries;
use vox_host::resolution::select_all;

fn only_reason(inventory: &Inventory) -> &Reason {
    let [passed_over] = inventory.passed_over() else {
        panic!("{:#?}", inventory.passed_over());
    };
    &passed_over.reason
}

#[test]
fn all_three_layouts_are_found() {
    let mut fixture = Fixture::new();
    fixture.plugin("search/flat", "flat", "0.1.0", "");
    fixture.installed("nested", "0.1.0", "");
    fixture.installed("nested", "0.2.0", "");
    let own = fixture.plugin("elsewhere", "own", "1.0.0", "");
    fixture.directories = fixture.directories.with_search_path(own);
    let inventory = fixture.scan();
    let found: Vec<String> = inventory
        .found()
        .iter()
        .map(|plugin| format!("{} {} ({})", plugin.id(), plugin.version(), plugin.root))
        .collect();
    let expected = [
        "flat 0.1.0 (environment)",
        "nested 0.2.0 (user)",
        "nested 0.1.0 (user)",
        "own 1.0.0 (environment)",
    ];
    assert_eq!(found, expected);
    assert!(inventory.passed_over().is_empty());
}

#[test]
fn of_one_version_in_several_roots_the_first_root_serves_and_the_others_are_reported() {
    let fixture = Fixture::new();
    for root in [
        "bundle/plugins",
        "data/plugins",
        "project/.vox/plugins",
        "search",
    ] {
        fixture.plugin(&format!("{root}/redact/0.1.0"), "redact", "0.1.0", "");
    }
    let inventory = fixture.scan();
    assert_eq!(inventory.found().len(), 1);
    assert_eq!(inventory.found()[0].root, RootKind::Environment);
    let serving = fixture.path("search/redact/0.1.0");
    let roots: Vec<RootKind> = inventory
        .passed_over()
        .iter()
        .map(|passed_over| passed_over.root)
        .collect();
    assert_eq!(
        roots,
        [RootKind::Project, RootKind::User, RootKind::Bundled]
    );
    for passed_over in inventory.passed_over() {
        assert!(matches!(&passed_over.reason, Reason::Shadowed { by } if *by == serving));
        assert_eq!(passed_over.reason.severity(), Severity::Note);
    }
}

#[test]
fn of_two_plugins_with_one_id_in_one_root_both_are_named() {
    let fixture = Fixture::new();
    let first = fixture.plugin("search/a", "redact", "0.1.0", "");
    let second = fixture.plugin("search/b", "redact", "0.1.0", "");
    let inventory = fixture.scan();
    assert_eq!(inventory.found()[0].directory, first);
    let [finding] = inventory.findings().try_into().unwrap();
    assert_eq!(finding.severity(), Severity::Error);
    let text = finding.to_string();
    assert!(text.contains(&first.display().to_string()), "{text}");
    assert!(text.contains(&second.display().to_string()), "{text}");
}

#[cfg(unix)]
#[test]
fn an_unreadable_directory_is_reported_and_the_others_are_served() {
    let fixture = Fixture::new();
    fixture.installed("redact", "0.1.0", "");
    // A link to itself cannot be read by anybody; permissions do not stop every user.
    std::os::unix::fs::symlink("loop", fixture.path("data/plugins/loop")).unwrap();
    fs::create_dir_all(fixture.path("project/.vox")).unwrap();
    std::os::unix::fs::symlink("plugins", fixture.path("project/.vox/plugins")).unwrap();
    let inventory = fixture.scan();
    assert_eq!(inventory.found().len(), 1);
    let unreadable = |path: &str| {
        inventory.passed_over().iter().any(|passed_over| {
            passed_over.path == fixture.path(path)
                && matches!(passed_over.reason, Reason::Unreadable(_))
        })
    };
    assert!(unreadable("data/plugins/loop"));
    assert!(unreadable("project/.vox/plugins"));
}

#[test]
fn a_root_that_does_not_exist_is_reported_only_when_somebody_named_it() {
    let mut fixture = Fixture::new();
    assert!(fixture.scan().passed_over().is_empty());
    fixture.directories = fixture.directories.with_search_path("/nowhere");
    assert!(matches!(
        only_reason(&fixture.scan()),
        Reason::Unreadable(_)
    ));
}

#[test]
fn a_refused_manifest_is_reported_with_file_and_line() {
    let fixture = Fixture::new();
    fixture.installed("redact", "0.1.0", "colour = \"red\"");
    fixture.installed("wordstat", "0.1.0", "");
    let inventory = fixture.scan();
    assert_eq!(inventory.found().len(), 1);
    let text = inventory.passed_over()[0].to_string();
    assert!(text.contains("redact/0.1.0/Plugin.toml:5"), "{text}");
    assert!(text.contains("unknown key `colour`"), "{text}");
}

#[test]
fn what_is_for_other_hosts_or_machines_is_reported_with_both_sides() {
    let fixture = Fixture::new();
    fixture.installed("future", "0.1.0", "host = \">=99\"");
    fixture.installed(
        "machine",
        "0.1.0",
        "requires = { os = [\"solaris\"], arch = [\"s390x\"] }",
    );
    let native = "[payload]\nnative = { solaris-s390x = \"lib.so\" }\n";
    fixture.installed("native", "0.1.0", native);
    let inventory = fixture.scan();
    assert!(inventory.found().is_empty());
    let texts: Vec<String> = inventory
        .passed_over()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        texts[0].contains("works with host >=99, and this is 0."),
        "{}",
        texts[0]
    );
    assert!(
        texts[1].contains("for solaris on s390x, and this is"),
        "{}",
        texts[1]
    );
    assert!(texts[2].contains("only for solaris-s390x"), "{}", texts[2]);
    for passed_over in inventory.passed_over() {
        assert!(passed_over.id().is_some());
    }
}

#[test]
fn a_plugin_is_served_by_the_payloads_that_are_there() {
    let fixture = Fixture::new();
    let platform = vox_contract::Platform::current();
    let both = format!(
        "[payload]\ncomponent = \"code.wasm\"\nnative = {{ {platform} = \"lib/native.so\" }}\n"
    );
    let directory = fixture.installed("redact", "0.1.0", &both);
    let inventory = fixture.scan();
    let plugin = &inventory.found()[0];
    assert_eq!(plugin.component, Some(directory.join("code.wasm")));
    assert_eq!(plugin.native, None);
    assert_eq!(plugin.missing, [directory.join("lib/native.so")]);
    assert!(matches!(
        inventory.findings()[..],
        [Finding::PayloadMissing { .. }]
    ));

    fs::remove_file(directory.join("code.wasm")).unwrap();
    let inventory = fixture.scan();
    assert!(inventory.found().is_empty());
    assert!(
        matches!(only_reason(&inventory), Reason::PayloadMissing { files } if files.len() == 2)
    );
}

#[test]
fn a_version_must_stand_in_the_directory_that_is_named_after_it() {
    let fixture = Fixture::new();
    fixture.plugin("data/plugins/redact/0.1.0", "redact", "0.2.0", "");
    assert!(matches!(only_reason(&fixture.scan()), Reason::Misplaced));
}

#[test]
fn what_is_no_plugin_is_reported_where_a_plugin_is_expected() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("data/plugins/redact/0.1.0")).unwrap();
    fs::create_dir_all(fixture.path("data/plugins/.staging-7/redact")).unwrap();
    fs::write(fixture.path("data/plugins/redact-0.1.0.vox"), "").unwrap();
    fs::write(fixture.path("data/plugins/notes.txt"), "").unwrap();
    let inventory = fixture.scan();
    let mut reasons: Vec<String> = inventory
        .passed_over()
        .iter()
        .map(|passed_over| passed_over.reason.to_string())
        .collect();
    reasons.sort();
    let expected = [
        "it holds no Plugin.toml",
        "it is a plugin archive, which has to be installed",
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn scanning_does_not_open_payloads() {
    let fixture = Fixture::new();
    let directory = fixture.installed("redact", "0.1.0", "");
    fs::write(directory.join("code.wasm"), [0xff; 16]).unwrap();
    assert_eq!(fixture.scan().versions(&id("redact")).len(), 1);
}

#[test]
fn a_native_library_that_is_missing_is_found_before_anything_is_loaded() {
    let fixture = Fixture::new();
    let platform = vox_contract::Platform::current();
    let needs = format!(
        "requires = {{ libraries = [{{ name = \"vox-no-such-library\", version = \"12.0\" }}] }}\n\
         [payload]\nnative = {{ {platform} = \"code.wasm\" }}\n"
    );
    fixture.installed("gpu", "0.1.0", &needs);
    let (selection, _) = select_all(&fixture.scan(), &Settings::default());
    let [finding] = missing_libraries(&selection).try_into().unwrap();
    assert_eq!(
        finding.to_string(),
        "gpu cannot be loaded as a native library: it needs the library `vox-no-such-library` in \
         version 12.0 or later, which is not installed"
    );
}
