//! What checkpoints promise: once saved they are found, whole, and theirs who saved them.

mod support;

use std::fs;

use support::{World, safetensors, training_state};
use vox_crypto::{SigningKey, canonical};
use vox_model::bundle::{Bundle as _, BundleError, Kind, Role};
use vox_model::checkpoint::{self, NewCheckpoint, Saved};
use vox_model::import::ImportError;
use vox_model::record::{
    self, CheckpointRecord, ReleaseRecord, STORE_RELEASE, TRAINING_CHECKPOINT,
};
use vox_oplog::{Class, NewOp, OpLog};
use vox_store::GcOptions;

/// Saves the checkpoint of a step.
fn save(world: &World, run: &str, step: u64) -> Result<Saved, ImportError> {
    let directory = world.directory("training");
    safetensors(
        &directory.join("model.safetensors"),
        &[("w", 100)],
        step as u8,
    );
    safetensors(
        &directory.join("optimizer.safetensors"),
        &[("m", 200)],
        step as u8,
    );
    fs::write(
        directory.join("config.json"),
        r#"{"architectures":["LlamaForCausalLM"]}"#,
    )
    .unwrap();
    save_from(world, run, step, &directory)
}

fn save_from(
    world: &World,
    run: &str,
    step: u64,
    directory: &std::path::Path,
) -> Result<Saved, ImportError> {
    let new = NewCheckpoint {
        directory,
        state: training_state(run, step),
        derived_from: None,
        time: 1,
    };
    checkpoint::save(world.store(), &world.log, &world.key, new, &())
}

fn collect(world: &World) -> u64 {
    let log = world.place.path().join("log");
    let mut roots = |visit: &mut dyn FnMut(vox_crypto::Digest)| Ok(record::needed(&log, visit)?);
    world
        .store()
        .gc(&mut roots, GcOptions::default())
        .unwrap()
        .freed
}

#[test]
fn the_newest_checkpoint_of_a_run_is_found_and_restored_bit_for_bit() {
    let world = World::new();
    let reader = world.log.reader().unwrap();
    assert_eq!(
        checkpoint::newest(&reader, world.store(), None).unwrap(),
        None
    );
    for step in 1..=3 {
        save(&world, "a", step).unwrap();
    }
    save(&world, "b", 9).unwrap();
    let newest = checkpoint::newest(&reader, world.store(), Some("a"))
        .unwrap()
        .unwrap();
    assert_eq!(newest.state(), &training_state("a", 3));
    assert_eq!(newest.manifest().kind, Kind::Checkpoint);
    // The optimizer's state is none of the weights.
    assert_eq!(newest.manifest().parameters, 100);
    assert_eq!(newest.optimizer().count(), 1);
    assert_eq!(newest.manifest().files_of(Role::Weights).count(), 1);
    assert_eq!(
        checkpoint::newest(&reader, world.store(), None)
            .unwrap()
            .unwrap()
            .state()
            .run,
        "b"
    );

    let out = world.place.path().join("out");
    checkpoint::restore(world.store(), &newest, &out, &()).unwrap();
    let expected = world.place.path().join("expected");
    safetensors(&expected, &[("w", 100)], 3);
    assert_eq!(
        fs::read(out.join("model.safetensors")).unwrap(),
        fs::read(expected).unwrap()
    );
}

#[test]
fn the_log_keeps_a_checkpoint_until_it_releases_it() {
    let world = World::new();
    let saved = save(&world, "a", 1).unwrap();
    // The handle that wrote it protects it as well, so another one asks.
    let place = world.place;
    drop((world.library, world.log));
    let world = World::within(place);
    assert_eq!(collect(&world), 0);
    let log = world.place.path().join("log");
    assert_eq!(
        record::references(&log, &saved.manifest).unwrap(),
        [saved.seq]
    );

    let released = ReleaseRecord {
        released: vec![saved.manifest],
    };
    let payload = canonical::encode(&released).unwrap();
    world
        .log
        .append(
            NewOp::new(STORE_RELEASE, payload)
                .unwrap()
                .class(Class::Kept),
        )
        .unwrap();
    assert!(collect(&world) > 0);
    let reader = world.log.reader().unwrap();
    assert!(checkpoint::newest(&reader, world.store(), Some("a")).is_err());
}

#[test]
fn a_checkpoint_that_another_key_signed_is_not_resumed_from() {
    let world = World::new();
    let saved = save(&world, "a", 1).unwrap();
    let stranger = SigningKey::from_secret(&[8; 32]);
    // Somebody who may write the log names a checkpoint that they did not sign.
    world.log.add_author(stranger.public()).unwrap();
    let place = world.place.path().join("log");
    let log = OpLog::open(&place, stranger, vox_oplog::Options::default()).unwrap();
    let forged = CheckpointRecord {
        manifest: saved.manifest,
        bundle_hash: saved.bundle_hash,
        step: 2,
    };
    let op = NewOp::new(TRAINING_CHECKPOINT, canonical::encode(&forged).unwrap())
        .unwrap()
        .run("a");
    log.append(op).unwrap();
    let refused = checkpoint::newest(&log.reader().unwrap(), world.store(), Some("a"));
    assert!(
        matches!(refused, Err(BundleError::Signature { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_checkpoint_of_another_bundle_than_the_log_says_is_not_resumed_from() {
    let world = World::new();
    let saved = save(&world, "a", 1).unwrap();
    let other = save(&world, "a", 2).unwrap();
    // Both are the author's own, and do not belong together.
    let mixed = CheckpointRecord {
        manifest: saved.manifest,
        bundle_hash: other.bundle_hash,
        step: 3,
    };
    let op = NewOp::new(TRAINING_CHECKPOINT, canonical::encode(&mixed).unwrap())
        .unwrap()
        .run("a");
    world.log.append(op).unwrap();
    let reader = world.log.reader().unwrap();
    let refused = checkpoint::newest(&reader, world.store(), Some("a"));
    assert!(
        matches!(refused, Err(BundleError::Signature { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_checkpoint_of_something_else_than_files_is_not_saved() {
    let world = World::new();
    let directory = world.directory("training");
    assert!(matches!(
        save_from(&world, "a", 1, &directory),
        Err(ImportError::NoModel { .. })
    ));
    safetensors(&directory.join("model.safetensors"), &[("w", 1)], 1);
    fs::create_dir(directory.join("more")).unwrap();
    assert!(matches!(
        save_from(&world, "a", 1, &directory),
        Err(ImportError::NoModel { .. })
    ));
    fs::remove_dir(directory.join("more")).unwrap();
    fs::write(directory.join("optimizer.safetensors"), b"not one").unwrap();
    assert!(matches!(
        save_from(&world, "a", 1, &directory),
        Err(ImportError::Format { .. })
    ));
    let reader = world.log.reader().unwrap();
    assert_eq!(
        checkpoint::newest(&reader, world.store(), None).unwrap(),
        None
    );
}
