//! The whole table of [`TrustStore::judge`].

use std::collections::BTreeMap;

use vox_crypto::SigningKey;

use super::super::{Allowed, Pin, TrustedKey};
use super::*;

const NOW: u64 = 1000;

fn key(number: u8) -> SigningKey {
    SigningKey::from_secret(&[number; 32])
}

fn id() -> PluginId {
    "redact".parse().unwrap()
}

fn signed(by: u8, expires: Option<u64>) -> SignedFiles {
    let what = (id(), Version::new(0, 2, 0));
    let times = (Time::from_seconds(0), expires.map(Time::from_seconds));
    SignedFiles::make(&key(by), what, times, BTreeMap::new())
}

/// Trusts keys 1 and, until it expired, 2.
fn trust() -> TrustStore {
    let mut trust = TrustStore::default();
    for (number, expires) in [(1, None), (2, Some(Time::from_seconds(NOW)))] {
        let (name, added) = (format!("signer {number}"), Time::from_seconds(0));
        let trusted = TrustedKey {
            name,
            added,
            expires,
        };
        trust.trust(key(number).public(), trusted);
    }
    trust
}

fn pinned(mut trust: TrustStore, to: u8) -> TrustStore {
    let (key, highest) = (key(to).public(), Version::new(0, 2, 0));
    trust.pin(id(), Pin { key, highest });
    trust
}

fn allowed(mut trust: TrustStore, root: &str) -> TrustStore {
    let (plugin, root) = (id(), root.into());
    trust.allow(Allowed { plugin, root });
    trust
}

/// The name of the standing, or of the refusal.
fn judged(trust: &TrustStore, signature: Option<&SignedFiles>, root: RootKind) -> [String; 2] {
    let (plugin, version) = (id(), Version::new(0, 2, 0));
    [false, true].map(|native| {
        let facts = Facts {
            plugin: &plugin,
            version: &version,
            root,
            place: "/data/plugins".into(),
            native,
            signature,
        };
        match trust.judge(&facts, Time::from_seconds(NOW)) {
            Ok(standing) => standing.name().to_owned(),
            Err(refusal) => {
                let name = format!("{refusal:?}");
                name.split(' ').next().unwrap_or_default().to_owned()
            }
        }
    })
}

#[test]
fn every_case_has_its_standing_or_its_refusal() {
    let (by_trusted, by_expired, by_stranger) = (signed(1, None), signed(2, None), signed(3, None));
    let (late, in_time) = (signed(1, Some(NOW)), signed(1, Some(NOW + 1)));
    let user = RootKind::User;
    let native = "NativeNotTrusted";
    let here = "/data/plugins";
    let cases = [
        // signature, trust, root, as component, as native
        (None, trust(), user, "unsigned", native),
        (Some(&by_stranger), trust(), user, "unknown-key", native),
        (Some(&by_trusted), trust(), user, "trusted", "trusted"),
        (Some(&in_time), trust(), user, "trusted", "trusted"),
        (
            Some(&late),
            trust(),
            user,
            "SignatureExpired",
            "SignatureExpired",
        ),
        (Some(&by_expired), trust(), user, "KeyExpired", "KeyExpired"),
        // Bound to a key.
        (
            None,
            pinned(trust(), 3),
            user,
            "SignatureMissing",
            "SignatureMissing",
        ),
        (
            Some(&by_stranger),
            pinned(trust(), 3),
            user,
            "pinned",
            native,
        ),
        (
            Some(&by_trusted),
            pinned(trust(), 1),
            user,
            "trusted",
            "trusted",
        ),
        (
            Some(&by_trusted),
            pinned(trust(), 3),
            user,
            "OtherKey",
            "OtherKey",
        ),
        (
            Some(&by_stranger),
            pinned(trust(), 1),
            user,
            "OtherKey",
            "OtherKey",
        ),
        // Allowed by name.
        (
            None,
            allowed(trust(), here),
            user,
            "allowed-by-name",
            "allowed-by-name",
        ),
        (
            None,
            allowed(trust(), "/work/.vox/plugins"),
            user,
            "unsigned",
            native,
        ),
        (None, allowed(trust(), "/data"), user, "unsigned", native),
        (
            None,
            allowed(pinned(trust(), 3), here),
            user,
            "SignatureMissing",
            "SignatureMissing",
        ),
        (
            Some(&by_stranger),
            allowed(trust(), here),
            user,
            "allowed-by-name",
            "allowed-by-name",
        ),
        (
            Some(&by_expired),
            allowed(trust(), here),
            user,
            "KeyExpired",
            "KeyExpired",
        ),
        (
            Some(&late),
            allowed(trust(), here),
            user,
            "SignatureExpired",
            "SignatureExpired",
        ),
        // A project decides nothing about itself, and its plugins are bound as all are.
        (None, trust(), RootKind::Project, "unsigned", native),
        (
            None,
            pinned(trust(), 3),
            RootKind::Environment,
            "SignatureMissing",
            "SignatureMissing",
        ),
        // What came with the executable.
        (None, trust(), RootKind::Bundled, "bundled", "bundled"),
        (
            None,
            pinned(trust(), 3),
            RootKind::Bundled,
            "bundled",
            "bundled",
        ),
        (
            Some(&late),
            trust(),
            RootKind::Bundled,
            "bundled",
            "bundled",
        ),
    ];
    for (number, (signature, trust, root, component, native)) in cases.into_iter().enumerate() {
        let found = judged(&trust, signature, root);
        assert_eq!(found, [component, native], "case {number}");
    }
}

#[test]
fn a_signature_of_another_version_or_plugin_is_refused() {
    let signature = signed(1, None);
    let now = Time::from_seconds(NOW);
    for (plugin, version) in [("redact", "0.2.1"), ("wordstat", "0.2.0")] {
        let facts = Facts {
            plugin: &plugin.parse().unwrap(),
            version: &version.parse().unwrap(),
            root: RootKind::User,
            place: "/data/plugins".into(),
            native: false,
            signature: Some(&signature),
        };
        let refusal = trust().judge(&facts, now).unwrap_err();
        assert!(
            matches!(refusal, Refusal::SignedAsOther { .. }),
            "{refusal}"
        );
    }
}

#[test]
fn only_a_version_below_the_highest_is_a_downgrade() {
    let trust = pinned(trust(), 1);
    let check = |version: &str| trust.check_downgrade(&id(), &version.parse().unwrap());
    for version in ["0.2.0", "0.2.0+build", "0.2.1", "1.0.0-alpha"] {
        check(version).unwrap();
    }
    for version in ["0.1.9", "0.2.0-rc.1"] {
        assert!(
            matches!(check(version), Err(Refusal::Downgrade { .. })),
            "{version}"
        );
    }
    let unknown = "wordstat".parse().unwrap();
    trust
        .check_downgrade(&unknown, &Version::new(0, 0, 1))
        .unwrap();
}

#[test]
fn without_trust_there_are_low_risk_capabilities_only() {
    let key = key(1).public();
    let name = "Ada".to_owned();
    let with_all = [
        Standing::Bundled,
        Standing::AllowedByName,
        Standing::Trusted { key, name },
    ];
    let with_few = [
        Standing::Pinned { key },
        Standing::Unknown { key },
        Standing::Unsigned,
    ];
    for capability in Capability::ALL {
        assert!(
            with_all
                .iter()
                .all(|standing| standing.may_have(capability))
        );
        let may = with_few
            .each_ref()
            .map(|standing| standing.may_have(capability));
        assert_eq!(may, [capability.is_low_risk(); 3], "{capability}");
    }
}
