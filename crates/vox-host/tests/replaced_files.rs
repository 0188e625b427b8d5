//! Files that are replaced between the moment at which they are checked and the moment at which
//! they are used: what runs is what was checked, or nothing does.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use vox_contract::{Carrier, PluginId};
use vox_crypto::SigningKey;
use vox_host::directories::Directories;
use vox_host::signing::{self, SigningError, Time, TrustStore};
use vox_host::{Error, Host, Instance, InstanceOptions, LoadError};
use vox_testkit::{Guest, World};

fn id() -> PluginId {
    "conformance".parse().unwrap()
}

fn start(host: &Host, carrier: Carrier) -> Result<Instance, Error> {
    let mut options = InstanceOptions::default();
    options.carrier = Some(carrier);
    host.instance(&id(), options)
}

/// The word of the release that answers.
fn release(instance: &mut Instance) -> String {
    let mark = instance
        .call_json("service.invoke", vec![json!("release"), json!("")])
        .unwrap();
    let mark = mark.as_str().unwrap();
    mark.trim_start_matches("release:")
        .trim_matches('.')
        .to_owned()
}

fn directory(world: &World) -> PathBuf {
    world.directories().installed().join("conformance/0.1.0")
}

fn payload(host: &Host, carrier: Carrier) -> PathBuf {
    let plugin = host.plugin(&id()).unwrap();
    plugin.payload(carrier).unwrap().to_owned()
}

/// The payload of another release, as long as the one that the tests begin with.
fn second(carrier: Carrier) -> Vec<u8> {
    let world = World::with(&["conformance"]);
    world.release("second");
    fs::read(payload(&world.host(""), carrier)).unwrap()
}

fn sign(world: &World) {
    let key = SigningKey::from_secret(&[1; 32]);
    signing::sign(&directory(world), &key, Time::now(), None).unwrap();
}

/// Signs what is there, and binds the plugin to its signer as an installation does.
fn sign_and_pin(world: &World) {
    sign(world);
    let key = SigningKey::from_secret(&[1; 32]).public();
    let version = "0.1.0".parse().unwrap();
    TrustStore::change(world.directories(), |trust| {
        trust.note_installed(&id(), key, &version);
    })
    .unwrap();
}

#[test]
fn a_manifest_that_was_replaced_after_the_plugin_was_found_is_refused_whoever_signed_it() {
    for signed in [false, true] {
        let world = World::with(&["conformance"]);
        if signed {
            sign_and_pin(&world);
        }
        let host = world.host("");
        let file = directory(&world).join("Plugin.toml");
        let text = fs::read_to_string(&file).unwrap();
        let other = text.replace(r#"["reverse"]"#, r#"["reverse", "release"]"#);
        assert_ne!(other, text);
        let put = |text: &str| {
            fs::write(&file, text).unwrap();
            if signed {
                sign(&world);
            }
        };
        for carrier in Carrier::ALL {
            put(&other);
            let error = start(&host, carrier).unwrap_err();
            assert!(
                matches!(&error, Error::Load(LoadError::ManifestChanged { file: named }) if *named == file),
                "{error}"
            );
            put(&text);
            start(&host, carrier).unwrap();
        }
    }
}

#[test]
fn a_signed_plugin_of_which_any_file_was_replaced_after_the_host_opened_does_not_start() {
    for carrier in Carrier::ALL {
        let world = World::with(&["conformance"]);
        let beside = directory(&world).join("words.txt");
        fs::write(&beside, "words").unwrap();
        sign_and_pin(&world);
        let host = world.host("");
        let payload = payload(&host, carrier);
        for (file, bytes) in [(&payload, second(carrier)), (&beside, b"w0rds".to_vec())] {
            let before = fs::read(file).unwrap();
            fs::write(file, bytes).unwrap();
            let error = start(&host, carrier).unwrap_err();
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(
                matches!(error, Error::Signing(SigningError::Changed { .. })),
                "{error}"
            );
            assert!(
                error.to_string().contains(&format!("`{name}` was changed")),
                "{error}"
            );
            fs::write(file, before).unwrap();
        }
        assert_eq!(release(&mut start(&host, carrier).unwrap()), "good");
    }
}

/// The files of a signed plugin are verified in the order of their paths. While the last one is, the
/// payload has been verified and is not read yet for use: that is when it is replaced.
#[cfg(target_os = "linux")]
#[test]
fn a_payload_that_is_replaced_between_its_check_and_its_use_never_runs() {
    use rustix::fs::inotify;
    for carrier in Carrier::ALL {
        let world = World::with(&["conformance"]);
        let last = directory(&world).join("zzz");
        // Holes: no room on disk, but time to verify.
        let file = fs::File::create(&last).unwrap();
        file.set_len(128 << 20).unwrap();
        drop(file);
        sign_and_pin(&world);
        let good = fs::read(payload(&world.host(""), carrier)).unwrap();
        let second = second(carrier);
        let aside = world.path().join("aside");
        loop {
            let host = world.host("");
            let payload = payload(&host, carrier);
            fs::write(&payload, &good).unwrap();
            fs::write(&aside, &second).unwrap();
            let watch = inotify::init(inotify::CreateFlags::CLOEXEC).unwrap();
            inotify::add_watch(&watch, &last, inotify::WatchFlags::OPEN).unwrap();
            let started = std::thread::scope(|scope| {
                scope.spawn(|| {
                    rustix::io::read(&watch, &mut [0; 256]).unwrap();
                    fs::rename(&aside, &payload).unwrap();
                });
                start(&host, carrier)
            });
            match started {
                // The other thread was late: nothing was replaced in time.
                Ok(mut instance) => assert_eq!(release(&mut instance), "good"),
                Err(Error::Signing(SigningError::Changed { .. })) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn what_is_loaded_goes_on_when_its_file_is_overwritten_in_place() {
    for carrier in Carrier::ALL {
        let world = World::with(&["conformance"]);
        let host = world.host("");
        let mut serving = start(&host, carrier).unwrap();
        // Not truncated, so that a mapping of the file would have other bytes and not none.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(payload(&host, carrier))
            .unwrap();
        file.write_all(&second(carrier)).unwrap();
        drop(file);
        assert_eq!(release(&mut serving), "good");
        assert_eq!(release(&mut start(&host, carrier).unwrap()), "good");

        // Nor does a crash bring it in.
        let opening = json!({"run": "r", "step": "s", "arguments": r#"{"do":"panic"}"#});
        serving.call_json("stage.open", vec![opening]).unwrap();
        let head = json!({"modality": "text", "sequence": 0, "timestamp": 0, "attributes": []});
        serving
            .call_json("stage.process", vec![head, json!("")])
            .unwrap_err();
        assert!(!serving.is_alive());
        assert_eq!(release(&mut serving), "good");

        host.reload(&id()).unwrap();
        assert_eq!(release(&mut serving), "second");
    }
}

/// Directories with a cache of their own.
fn with_cache(world: &World, cache: &Path) -> Directories {
    let mut directories = world.directories().clone();
    directories.cache = cache.to_owned();
    directories
}

fn open(world: &World, cache: &Path) -> Host {
    Host::open(with_cache(world, cache), Default::default()).unwrap()
}

/// Where the copy of a library is kept from which it runs.
fn kept(cache: &Path, library: &[u8]) -> PathBuf {
    cache.join("native").join(format!(
        "{}{}",
        vox_crypto::hash(library).to_hex(),
        std::env::consts::DLL_SUFFIX
    ))
}

/// A cache in which `planted` is where the copy of the good library belongs, which is `good`.
fn with_planted(good: &[u8], planted: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let cache = tempfile::tempdir().unwrap();
    let place = kept(cache.path(), good);
    fs::create_dir(place.parent().unwrap()).unwrap();
    fs::write(&place, planted).unwrap();
    (cache, place)
}

#[test]
fn a_library_in_the_cache_that_is_not_the_one_that_was_checked_does_not_run() {
    let world = World::with(&["conformance"]);
    let good = fs::read(payload(&world.host(""), Carrier::Native)).unwrap();
    let second = second(Carrier::Native);
    for planted in [&second[..], &good[..good.len() / 2], b""] {
        let (cache, place) = with_planted(&good, planted);
        let host = open(&world, cache.path());
        assert_eq!(release(&mut start(&host, Carrier::Native).unwrap()), "good");
        assert!(fs::read(&place).unwrap() == good, "it is mended");
    }
}

/// It is what was checked, but somebody else can change it while it runs.
#[cfg(unix)]
#[test]
fn a_library_in_the_cache_that_others_can_reach_is_not_the_one_that_runs() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let world = World::with(&["conformance"]);
    let good = fs::read(payload(&world.host(""), Carrier::Native)).unwrap();
    let second = second(Carrier::Native);
    for linked in [false, true] {
        let (cache, place) = with_planted(&good, &good);
        let reached = if linked {
            let elsewhere = cache.path().join("elsewhere");
            fs::rename(&place, &elsewhere).unwrap();
            symlink(&elsewhere, &place).unwrap();
            elsewhere
        } else {
            fs::set_permissions(&place, PermissionsExt::from_mode(0o666)).unwrap();
            place
        };
        let mut others = fs::OpenOptions::new().write(true).open(&reached).unwrap();
        let host = open(&world, cache.path());
        let mut serving = start(&host, Carrier::Native).unwrap();
        others.write_all(&second).unwrap();
        assert_eq!(release(&mut serving), "good", "linked: {linked}");
    }
}

#[cfg(unix)]
#[test]
fn native_code_is_not_kept_where_others_may_write() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::with(&["conformance"]);
    let cache = tempfile::tempdir().unwrap();
    let native = cache.path().join("native");
    fs::create_dir(&native).unwrap();
    let host = open(&world, cache.path());
    fs::set_permissions(&native, PermissionsExt::from_mode(0o777)).unwrap();
    let error = start(&host, Carrier::Native).unwrap_err();
    assert!(error.to_string().contains("others may write to"), "{error}");
    assert_eq!(fs::read_dir(&native).unwrap().count(), 0);
    fs::set_permissions(&native, PermissionsExt::from_mode(0o700)).unwrap();
    start(&host, Carrier::Native).unwrap();
}

/// A guest whose service answers this byte.
fn guest(answer: u8) -> Guest {
    Guest::new()
        .with(&format!(r#"(data (i32.const 128) "\{answer:02x}")"#))
        .does(
            "invoke",
            "(i32.store (i32.const 24) (i32.const 128)) (i32.store (i32.const 28) (i32.const 1))
             (i32.const 16)",
        )
}

#[cfg(unix)]
#[test]
fn a_compiled_component_that_others_may_write_is_not_the_one_that_runs() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let cache = tempfile::tempdir().unwrap();
    let (ours, theirs) = (guest(1), guest(2));
    let answer = |guest: &Guest| {
        let world = World::new();
        world.add_guest("guest", guest);
        let host = open(&world, cache.path());
        let mut instance = host
            .instance(&"guest".parse().unwrap(), InstanceOptions::default())
            .unwrap();
        instance.service().unwrap().invoke("work", b"").unwrap()
    };
    assert_eq!((answer(&ours), answer(&theirs)), (vec![1], vec![2]));
    let engine = fs::read_dir(cache.path().join("components"))
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    let entry = |guest: &Guest| {
        let digest = vox_crypto::hash(&guest.component());
        engine.join(format!("{}.cwasm", digest.to_hex()))
    };
    let (ours_at, theirs_at) = (entry(&ours), entry(&theirs));
    fs::remove_file(&ours_at).unwrap();
    fs::copy(&theirs_at, &ours_at).unwrap();
    fs::set_permissions(&ours_at, PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(answer(&ours), [1]);

    fs::remove_file(&ours_at).unwrap();
    symlink(&theirs_at, &ours_at).unwrap();
    assert_eq!(answer(&ours), [1]);
}
