//! What a bundle promises: one unit, known by its hashes, signed, whole or not there.

mod support;

use std::fs;

use support::{World, model, request, safetensors, sharded_model};
use vox_crypto::{Algorithm, Digest, SigningKey, canonical, hash_with, merkle};
use vox_model::bundle::{
    Bundle as _, BundleError, Kind, Manifest, ManifestFault, Model, Quantisation, Role,
    SignedManifest,
};
use vox_model::import::{ImportError, Request};
use vox_oplog::Query;

#[test]
fn a_directory_comes_in_as_one_unit_and_goes_out_as_it_was() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let imported = world.import(&source, "small").unwrap();
    let manifest = &imported.manifest;
    assert_eq!(manifest.kind, Kind::Model);
    assert_eq!(manifest.architecture.as_deref(), Some("LlamaForCausalLM"));
    assert_eq!(manifest.parameters, 108);
    assert_eq!(manifest.quantisation, Quantisation::F32);
    assert_eq!(manifest.licence.as_deref(), Some("apache-2.0"));

    let out = world.place.path().join("out");
    world.library.export(manifest, &out, &()).unwrap();
    for file in &manifest.files {
        assert_eq!(
            fs::read(out.join(&file.path)).unwrap(),
            fs::read(source.join(&file.path)).unwrap()
        );
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), manifest.files.len());
    assert!(world.library.verify(manifest, &()).unwrap().is_empty());
    let again = world.library.export(manifest, &out, &());
    assert!(
        matches!(again, Err(BundleError::Exists { .. })),
        "{again:?}"
    );
}

#[test]
fn the_hash_of_single_weights_is_that_of_their_file() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let manifest = world.import(&source, "small").unwrap().manifest;
    let hash = |name| hash_with(Algorithm::Sha3_512, &fs::read(source.join(name)).unwrap());
    assert_eq!(manifest.weights_hash, hash("model.safetensors"));
    assert_eq!(manifest.tokenizer_hash, Some(hash("tokenizer.json")));
    assert_eq!(manifest.config_hash, Some(hash("config.json")));
}

#[test]
fn some_shards_are_verified_without_the_others() {
    let world = World::new();
    let source = world.directory("source");
    sharded_model(&source, 1);
    let manifest = world.import(&source, "sharded").unwrap().manifest;
    let leaves = manifest.leaves(Role::Weights);
    assert_eq!(merkle::root(&leaves), Some(manifest.weights_hash));
    let second = fs::read(source.join("model-00002-of-00002.safetensors")).unwrap();
    let digest = hash_with(Algorithm::Sha3_512, &second);
    let proof = merkle::Proof::of(&leaves, 1).unwrap();
    assert!(proof.verify(&manifest.weights_hash, &digest));
    assert!(!proof.verify(&manifest.weights_hash, &leaves[0]));
}

#[test]
fn the_same_model_has_the_same_bundle_hash_whoever_imports_it() {
    let (one, other) = (World::new(), World::new());
    let source = one.directory("source");
    model(&source, 1);
    let ours = one.import(&source, "a").unwrap();
    let request = Request {
        name: "b",
        source: "elsewhere".into(),
        time: 1,
        ..request(&source)
    };
    let theirs = other.import_with(request).unwrap();
    assert_eq!(ours.manifest.bundle_hash, theirs.manifest.bundle_hash);
    assert_ne!(ours.digest, theirs.digest);

    model(&source, 2);
    let changed = one.import(&source, "c").unwrap();
    assert_ne!(changed.manifest.bundle_hash, ours.manifest.bundle_hash);
}

#[test]
fn an_import_is_recorded_and_does_not_bind_the_log_to_the_files() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let imported = world.import(&source, "small").unwrap();
    let reader = world.log.reader().unwrap();
    let op = reader.get(imported.seq).unwrap().unwrap();
    assert_eq!(op.kind.as_str(), "model.import");
    let links = canonical::links(&op.payload).unwrap();
    assert!(links.contains(&imported.manifest.bundle_hash));
    assert!(
        links
            .iter()
            .all(|link| link.algorithm() == Algorithm::Sha3_512),
        "{links:?}"
    );
    assert_eq!(reader.ops(Query::default()).count(), 2);
}

#[test]
fn a_bundle_is_found_by_its_name_its_hashes_and_their_begins() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let imported = world.import(&source, "family/small").unwrap();
    let library = &world.library;
    let (digest, hash) = (
        imported.digest.to_string(),
        imported.manifest.bundle_hash.to_string(),
    );
    for text in [
        "family/small",
        "family",
        &digest,
        &hash,
        &hash[..20],
        &digest[..20],
    ] {
        assert_eq!(
            library.find(text).unwrap().digest,
            imported.digest,
            "{text}"
        );
    }
    assert_eq!(
        library.open::<Model>("family/small").unwrap().digest(),
        imported.digest
    );
    model(&source, 2);
    world.import(&source, "family/other").unwrap();
    assert!(matches!(
        library.find("family"),
        Err(BundleError::Ambiguous { .. })
    ));
    let unknown = library.find("familly/small").unwrap_err().to_string();
    assert!(unknown.contains("`family/small`"), "{unknown}");
    let nowhere = hash_with(Algorithm::Blake3, b"nowhere").to_string();
    assert!(matches!(
        library.find(&nowhere),
        Err(BundleError::Unknown { .. })
    ));
    assert!(library.find("").is_err());
}

#[test]
fn a_name_is_given_to_another_bundle_only_when_that_is_wanted_and_it_is_not_pinned() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let first = world.import(&source, "small").unwrap();
    world.import(&source, "small").unwrap();
    model(&source, 2);
    let taken = world.import(&source, "small").unwrap_err();
    assert!(
        matches!(taken, ImportError::Bundle(BundleError::NameTaken { .. })),
        "{taken}"
    );

    let replaced = world
        .import_with(Request {
            name: "small",
            replace: true,
            ..request(&source)
        })
        .unwrap();
    assert_eq!(world.library.find("small").unwrap().digest, replaced.digest);
    assert_ne!(replaced.manifest.bundle_hash, first.manifest.bundle_hash);

    world.library.pin("small", &replaced.digest).unwrap();
    model(&source, 3);
    let pinned = world
        .import_with(Request {
            name: "small",
            replace: true,
            ..request(&source)
        })
        .unwrap_err();
    assert!(
        matches!(pinned, ImportError::Bundle(BundleError::Pinned { .. })),
        "{pinned}"
    );
    assert!(matches!(
        world.library.remove("small"),
        Err(BundleError::Pinned { .. })
    ));
    assert!(world.library.unpin("small").unwrap());
    world.library.remove("small").unwrap();
    assert!(matches!(
        world.library.find("small"),
        Err(BundleError::Unknown { .. })
    ));
}

#[test]
fn names_that_could_be_something_else_are_refused() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    for name in [
        "",
        "../x",
        "a//b",
        "/a",
        ".hidden",
        "a b",
        "a\nb",
        "blake3:1",
        &"x".repeat(129),
    ] {
        let refused = world.import(&source, name);
        assert!(
            matches!(refused, Err(ImportError::Bundle(BundleError::Name { .. }))),
            "{name:?}"
        );
    }
}

#[test]
fn a_manifest_that_was_changed_after_it_was_signed_is_refused() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let digest = world.import(&source, "small").unwrap().digest;
    let signed: SignedManifest = world.store().get_node(&digest).unwrap();
    let refused = |change: &dyn Fn(&mut Manifest)| {
        let mut forged = signed.clone();
        change(&mut forged.manifest);
        let digest = world.store().put_node(&forged).unwrap();
        let error = world.library.entry(None, digest).unwrap_err();
        assert!(
            matches!(
                error,
                BundleError::Signature { .. } | BundleError::Manifest { .. }
            ),
            "{error}"
        );
    };
    refused(&|manifest| manifest.provenance.source.push('x'));
    refused(&|manifest| manifest.licence = None);
    refused(&|manifest| manifest.parameters += 1);
    refused(&|manifest| manifest.files[0].blake3 = vox_crypto::hash(b"other"));
    refused(&|manifest| manifest.provenance.signer = SigningKey::from_secret(&[9; 32]).public());
    refused(&|manifest| manifest.files.truncate(1));
}

#[test]
fn a_manifest_that_does_not_agree_with_itself_is_never_signed() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let manifest = world.import(&source, "small").unwrap().manifest;
    let fault = |change: &dyn Fn(&mut Manifest)| {
        let mut changed = manifest.clone();
        change(&mut changed);
        match SignedManifest::sign(changed, &world.key) {
            Err(BundleError::Manifest { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    };
    let path =
        |path: &'static str| move |manifest: &mut Manifest| manifest.files[0].path = path.into();
    for outside in [
        "../config.json",
        "/etc/passwd",
        "a/../../b",
        "a\\b",
        "C:x",
        "",
        "a//b",
        "a\0",
    ] {
        assert!(
            matches!(fault(&path(outside)), ManifestFault::Path { .. }),
            "{outside:?}"
        );
    }
    let same: &dyn Fn(&mut Manifest) =
        &|manifest| manifest.files[1].path = manifest.files[0].path.to_uppercase();
    assert!(matches!(fault(same), ManifestFault::DuplicatePath { .. }));
    assert_eq!(
        fault(&|manifest| manifest.files.reverse()),
        ManifestFault::Order
    );
    assert_eq!(
        fault(&|manifest| manifest.files.clear()),
        ManifestFault::NoWeights
    );
    assert_eq!(
        fault(&|manifest| manifest.version = 2),
        ManifestFault::Version { found: 2 }
    );
    assert_eq!(
        fault(&|manifest| manifest.kind = Kind::Checkpoint),
        ManifestFault::Hash {
            name: "bundle_hash"
        }
    );
    assert_eq!(
        fault(&|manifest| manifest.tokenizer_hash = None),
        ManifestFault::Hash {
            name: "tokenizer_hash"
        }
    );
    let wrong: Digest = hash_with(Algorithm::Sha3_256, b"x");
    assert!(matches!(
        fault(&|manifest| manifest.files[0].sha3_512 = wrong),
        ManifestFault::Algorithm { .. }
    ));
}

#[test]
fn a_file_that_rots_in_the_store_is_named() {
    let world = World::new();
    let source = world.directory("source");
    model(&source, 1);
    let manifest = world.import(&source, "small").unwrap().manifest;
    let weights = manifest.files_of(Role::Weights).next().unwrap();
    let path = world.store().path_of(&weights.blake3).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    #[expect(
        clippy::permissions_set_readonly_false,
        reason = "it is a file of this test"
    )]
    permissions.set_readonly(false);
    fs::set_permissions(&path, permissions).unwrap();
    fs::write(&path, bytes).unwrap();

    let faults = world.library.verify(&manifest, &()).unwrap();
    assert_eq!(faults.len(), 1);
    let out = world.place.path().join("out");
    assert!(world.library.export(&manifest, &out, &()).is_err());
    assert!(!out.exists());

    // Importing it again brings it back.
    world.import(&source, "small").unwrap();
    assert!(world.library.verify(&manifest, &()).unwrap().is_empty());
}

#[test]
fn an_adapter_says_what_it_changes() {
    let world = World::new();
    let source = world.directory("base");
    model(&source, 1);
    let base = world.import(&source, "base").unwrap().manifest.bundle_hash;
    let adapter = world.directory("adapter");
    safetensors(
        &adapter.join("adapter_model.safetensors"),
        &[("lora_a", 4)],
        5,
    );
    fs::write(
        adapter.join("adapter_config.json"),
        r#"{"base_model_name_or_path":"org/base"}"#,
    )
    .unwrap();
    let refused = world.import(&adapter, "adapter").unwrap_err().to_string();
    assert!(
        refused.contains("`org/base`") && refused.contains("--base"),
        "{refused}"
    );
    let imported = world
        .import_with(Request {
            name: "adapter",
            base: Some(base),
            ..request(&adapter)
        })
        .unwrap();
    assert_eq!(imported.manifest.kind, Kind::Adapter);
    assert_eq!(imported.manifest.provenance.derived_from, Some(base));
    assert!(matches!(
        world.library.open::<Model>("adapter"),
        Err(BundleError::WrongKind { .. })
    ));
}
