//! A host that watches its directories: what changes on disk is taken over by itself.

use std::fs;

use serde_json::json;
use vox_contract::{Carrier, PluginId};
use vox_host::{Host, Instance, InstanceOptions, Noticed, Reloaded, Watch, Watched};
use vox_testkit::World;

fn id() -> PluginId {
    "conformance".parse().unwrap()
}

fn instance(host: &Host) -> Instance {
    let mut options = InstanceOptions::default();
    options.carrier = Some(Carrier::Component);
    host.instance(&id(), options).unwrap()
}

fn release(instance: &mut Instance) -> String {
    let mark = instance.call_json("service.invoke", vec![json!("release"), json!("")]);
    mark.unwrap().as_str().unwrap().to_owned()
}

/// What became of the next plugin that was noticed.
fn next(watch: &Watch) -> Result<Reloaded, String> {
    match watch.noticed().recv().unwrap() {
        Noticed::Plugin(plugin, result) => {
            assert_eq!(plugin, id());
            result.map_err(|error| error.to_string())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_changed_plugin_is_reloaded_and_a_touched_one_is_not() {
    let world = World::with(&["conformance"]);
    let host = world.host("");
    let mut serving = instance(&host);
    let watch = host.watch(Watched::All).unwrap();
    world.release("good");
    assert_eq!(next(&watch), Ok(Reloaded::Unchanged));
    world.release("second");
    assert!(matches!(next(&watch), Ok(Reloaded::Replaced { .. })));
    assert_eq!(release(&mut serving), "release:second..");
}

#[test]
fn a_file_that_is_cut_off_leaves_the_old_version_and_is_taken_once_it_is_whole() {
    let world = World::with(&["conformance"]);
    let host = world.host("");
    let mut serving = instance(&host);
    let watch = host.watch(Watched::All).unwrap();
    let file = host.plugin(&id()).unwrap().component.clone().unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 3]).unwrap();
    assert!(
        next(&watch)
            .unwrap_err()
            .contains("is not a valid component")
    );
    assert_eq!(release(&mut serving), "release:good....");
    fs::write(&file, &whole).unwrap();
    assert_eq!(next(&watch), Ok(Reloaded::Unchanged));
}

#[test]
fn a_higher_version_beside_the_old_one_takes_over() {
    let world = World::with(&["conformance"]);
    let host = world.host("");
    let mut serving = instance(&host);
    let watch = host.watch(Watched::All).unwrap();
    let root = world.directories().installed().join("conformance");
    let aside = world.path().join("aside");
    fs::create_dir(&aside).unwrap();
    for file in fs::read_dir(root.join("0.1.0")).unwrap().flatten() {
        fs::copy(file.path(), aside.join(file.file_name())).unwrap();
    }
    let manifest = fs::read_to_string(aside.join("Plugin.toml")).unwrap();
    fs::write(
        aside.join("Plugin.toml"),
        manifest.replace("version = \"0.1.0\"", "version = \"0.2.0\""),
    )
    .unwrap();
    fs::rename(aside, root.join("0.2.0")).unwrap();
    assert!(matches!(next(&watch), Ok(Reloaded::Replaced { .. })));
    release(&mut serving);
    assert_eq!(serving.version().to_string(), "0.2.0");
}

#[test]
fn a_grant_that_is_taken_away_on_disk_is_gone_at_the_next_call() {
    let world = World::with(&["conformance"]);
    let grants = world.directories().data.join("grants.toml");
    fs::create_dir_all(&world.directories().data).unwrap();
    fs::write(&grants, "[plugin.conformance]\nkv = true\n").unwrap();
    let host = Host::open(world.directories().clone(), Default::default()).unwrap();
    let mut serving = instance(&host);
    let mut keep = || {
        let invocation = json!({
            "run": "r", "step": "s", "runner": "conformance",
            "arguments": json!({"do": "keep", "key": "k", "value": "v"}).to_string(),
            "environment": [], "directory": "/", "attempt": 1, "idempotency_key": "k",
            "inputs": [], "outputs": [], "input_files": [], "output_files": [],
        });
        serving.call_json("step.run", vec![invocation])
    };
    keep().unwrap();
    let watch = host.watch(Watched::Grants).unwrap();
    fs::write(world.path().join("new"), "").unwrap();
    fs::rename(world.path().join("new"), &grants).unwrap();
    assert!(matches!(
        watch.noticed().recv().unwrap(),
        Noticed::Grants(Ok(()))
    ));
    let error = keep().unwrap_err().to_string();
    assert!(error.contains("`kv` is not granted"), "{error}");
}
