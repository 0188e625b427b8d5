//! A project's Vox.toml grants nothing that the user has not allowed: attacks, and the way that
//! is meant.

mod fixture;

use std::fs;
#[cfg(unix)]
use std::path::Path;

use fixture::{Fixture, settings};
use vox_contract::{Capability, GrantsFile, PluginId};
use vox_host::install::{Allowance, GrantStore, InstallError, ProjectGrants};

const PROJECT: &str = "[plugin.redact.grants]\nnetwork = [\"a.example\"]\n";

fn redact() -> PluginId {
    "redact".parse().unwrap()
}

/// What is granted in the project `at`, whose Vox.toml is `text`.
fn load(fixture: &Fixture, at: &str, text: &str) -> (GrantsFile, Option<ProjectGrants>) {
    GrantStore::open(&fixture.directories)
        .load_in(&settings(text), Some(&fixture.path(at)))
        .unwrap()
}

/// Allows what `text` grants in the project `at`.
fn allow(fixture: &Fixture, at: &str, text: &str) {
    let (_, project) = load(fixture, at, text);
    GrantStore::open(&fixture.directories)
        .allow_project(&project.unwrap())
        .unwrap();
}

#[track_caller]
fn denied(fixture: &Fixture, at: &str, text: &str, why: Allowance) {
    let (grants, project) = load(fixture, at, text);
    let project = project.unwrap();
    assert_eq!(project.allowance, why, "{project}");
    assert_eq!(grants.of(&redact()), None, "{project}");
    assert!(project.to_string().contains("do not count"), "{project}");
}

#[test]
fn what_a_cloned_project_grants_does_not_count_until_the_user_allows_it() {
    let fixture = Fixture::new();
    denied(&fixture, "project", PROJECT, Allowance::NotAsked);

    allow(&fixture, "project", PROJECT);
    let (grants, project) = load(&fixture, "project", PROJECT);
    assert_eq!(project.unwrap().allowance, Allowance::Allowed);
    let redact = grants.of(&redact()).unwrap();
    assert!(redact.scope(Capability::Network).is_some());
    assert_eq!(redact.scope(Capability::Process), None);
}

#[test]
fn grants_that_change_after_they_were_allowed_do_not_count() {
    let fixture = Fixture::new();
    allow(&fixture, "project", PROJECT);
    for changed in [
        "[plugin.redact.grants]\nnetwork = true\n",
        "[plugin.redact.grants]\nnetwork = [\"a.example\", \"b.example\"]\n",
        "[plugin.redact.grants]\nnetwork = [\"a.example\"]\nprocess = true\n",
        "[plugin.redact.grants]\nnetwork = [\"a.example\"]\n[plugin.other.grants]\nkv = true\n",
    ] {
        denied(&fixture, "project", changed, Allowance::Changed);
    }
    let reformatted = "plugin.redact = { grants = { network = ['a.example'] }, weight = 7 }";
    let (_, project) = load(&fixture, "project", reformatted);
    assert_eq!(project.unwrap().allowance, Allowance::Allowed);
}

#[test]
fn what_one_project_is_allowed_no_other_is() {
    let fixture = Fixture::new();
    allow(&fixture, "project", PROJECT);
    denied(&fixture, "other", PROJECT, Allowance::NotAsked);
    denied(&fixture, "project/inner", PROJECT, Allowance::NotAsked);
}

#[test]
fn neither_a_project_nor_a_distribution_can_bring_the_allowance_with_it() {
    let fixture = Fixture::new();
    allow(&fixture, "project", PROJECT);
    let allowance = fs::read(fixture.path("data/grants.toml")).unwrap();
    fs::remove_file(fixture.path("data/grants.toml")).unwrap();
    for place in ["project", "project/.vox", "bundle"] {
        fs::create_dir_all(fixture.path(place)).unwrap();
        fs::write(fixture.path(place).join("grants.toml"), &allowance).unwrap();
    }
    denied(&fixture, "project", PROJECT, Allowance::NotAsked);
}

#[test]
fn an_allowance_that_is_taken_back_counts_no_more() {
    let fixture = Fixture::new();
    let store = GrantStore::open(&fixture.directories);
    allow(&fixture, "project", PROJECT);
    assert!(store.forget_project(&fixture.path("project")).unwrap());
    denied(&fixture, "project", PROJECT, Allowance::NotAsked);
    assert!(!store.forget_project(&fixture.path("project")).unwrap());
}

#[test]
fn an_allowance_stays_when_a_plugin_is_granted_something() {
    let fixture = Fixture::new();
    let store = GrantStore::open(&fixture.directories);
    allow(&fixture, "project", PROJECT);
    let grant = vox_contract::Grant {
        capability: Capability::Kv,
        scope: vox_contract::Scope::All,
    };
    store.grant(&redact(), [grant]).unwrap();
    let (grants, project) = load(&fixture, "project", PROJECT);
    assert_eq!(project.unwrap().allowance, Allowance::Allowed);
    assert_eq!(grants.of(&redact()).unwrap().iter().count(), 2);
}

#[test]
fn a_project_that_grants_nothing_and_no_project_at_all_are_nothing_to_allow() {
    let fixture = Fixture::new();
    let (_, project) = load(&fixture, "project", "[plugin.redact]\ngrants = {}\n");
    assert_eq!(project, None);
    let store = GrantStore::open(&fixture.directories);
    let (_, project) = store.load_in(&settings(PROJECT), None).unwrap();
    assert_eq!(project, None);
}

#[cfg(unix)]
#[test]
fn a_project_whose_name_cannot_be_noted_is_never_allowed() {
    use std::os::unix::ffi::OsStrExt as _;

    let fixture = Fixture::new();
    let store = GrantStore::open(&fixture.directories);
    let odd = Path::new(std::ffi::OsStr::from_bytes(b"/work/\xff"));
    let project = store.project(&settings(PROJECT), Some(odd)).unwrap();
    let project = project.unwrap();
    assert_eq!(project.allowance, Allowance::NotAsked);
    let error = store.allow_project(&project).unwrap_err();
    assert!(
        matches!(error, InstallError::UnnameableProject { .. }),
        "{error}"
    );
}
