//! Keys and signatures: what they promise, and what those get who try to bend them.

use vox_crypto::{
    Domain, KeyError, KeyFile, KeyId, PublicKey, PublicKeyFile, Signature, Signed, SigningKey,
    verify_all,
};

const DOMAIN: Domain = Domain::PluginFiles;

fn key() -> SigningKey {
    SigningKey::from_secret(&[7; 32])
}

/// From RFC 8032, section 7.1, TEST 1.
#[test]
fn the_public_key_is_that_of_the_standard() {
    let secret = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
        0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
        0x7f, 0x60,
    ];
    assert_eq!(
        SigningKey::from_secret(&secret).public().to_string(),
        "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    );
}

#[test]
fn keys_ids_and_signatures_read_back_as_themselves() {
    let key = SigningKey::generate().unwrap();
    let (public, signature) = (key.public(), key.sign(DOMAIN, b"m"));
    assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
    assert_eq!(
        public.id().to_string().parse::<KeyId>().unwrap(),
        public.id()
    );
    let read: Signature = signature.to_string().parse().unwrap();
    public.verify(DOMAIN, b"m", &read).unwrap();
    let json = serde_json::to_string(&public).unwrap();
    assert_eq!(serde_json::from_str::<PublicKey>(&json).unwrap(), public);
    let hash = vox_crypto::hash(public.as_bytes()).to_hex();
    assert_eq!(public.id().to_string(), hash[..16]);
}

#[test]
fn two_new_keys_differ() {
    let key = || SigningKey::generate().unwrap().public();
    assert_ne!(key(), key());
}

#[test]
fn no_bit_of_a_signature_or_a_message_can_be_changed() {
    let (key, message) = (key(), b"message".to_vec());
    let signature = *key.sign(DOMAIN, &message).as_bytes();
    for bit in 0..512 {
        let mut changed = signature;
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = Signature::from_bytes(changed);
        key.public().verify(DOMAIN, &message, &changed).unwrap_err();
    }
    for bit in 0..8 * message.len() {
        let mut changed = message.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let signature = Signature::from_bytes(signature);
        key.public()
            .verify(DOMAIN, &changed, &signature)
            .unwrap_err();
    }
}

/// `s + L` satisfies the group equation that `s` does (RFC 8032, section 8.4).
#[test]
fn a_signature_has_no_second_form() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = *key().sign(DOMAIN, b"m").as_bytes();
    let mut carry = 0;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "s + L fits");
    let second = Signature::from_bytes(bytes);
    let refused = key().public().verify(DOMAIN, b"m", &second);
    assert!(matches!(refused, Err(KeyError::Mismatch { .. })));
}

/// With the neutral element as key and as `R`, and `s = 0`, the equation holds for every message.
#[test]
fn a_key_under_which_everything_verifies_is_no_key() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    assert!(matches!(
        PublicKey::from_bytes(&neutral),
        Err(KeyError::Weak { .. })
    ));
    assert!(matches!(
        PublicKey::from_bytes(&[0; 32]),
        Err(KeyError::Weak { .. })
    ));
}

/// A point's y may be written as y + p where that fits in 255 bits: y = 3 is a point that is not
/// weak, and p + 3 its second form.
#[test]
fn a_key_has_no_second_form() {
    let mut once = [0; 32];
    once[0] = 3;
    PublicKey::from_bytes(&once).unwrap();
    let mut twice = [0xff; 32];
    (twice[0], twice[31]) = (0xf0, 0x7f);
    let refused = PublicKey::from_bytes(&twice).unwrap_err();
    assert!(matches!(refused, KeyError::PublicKey { .. }), "{refused}");
}

#[test]
fn what_is_not_a_key_is_refused_with_the_reason() {
    let refusal = |text: &str| text.parse::<PublicKey>().unwrap_err().to_string();
    assert!(refusal("d75a").contains("does not begin with `ed25519:`"));
    assert!(refusal("ed25519:d75a").contains("another number of digits"));
    assert!(refusal(&format!("ed25519:{}", "D7".repeat(32))).contains("lower-case"));
}

#[test]
fn a_key_comes_back_from_its_file_and_never_shows_its_secret() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("key");
    let file = KeyFile::new("Ada", key()).unwrap();
    file.create(&path).unwrap();
    let read = KeyFile::load(&path).unwrap();
    assert_eq!((read.name(), read.key().public()), ("Ada", key().public()));
    let secret = "07".repeat(32);
    assert!(std::fs::read_to_string(&path).unwrap().contains(&secret));
    assert!(!format!("{read:?}").contains(&secret));

    let public = place.path().join("key.pub");
    file.public().create(&public).unwrap();
    assert!(!std::fs::read_to_string(&public).unwrap().contains(&secret));
    assert_eq!(PublicKeyFile::load(&public).unwrap(), file.public());
}

#[test]
fn a_key_file_is_never_written_over() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("key");
    std::fs::write(&path, "precious").unwrap();
    let refused = KeyFile::new("Ada", key()).unwrap().create(&path);
    assert!(matches!(refused, Err(KeyError::Io { .. })));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[cfg(unix)]
#[test]
fn a_key_file_is_for_its_owner_and_refused_once_others_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("key");
    KeyFile::new("Ada", key()).unwrap().create(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for mode in [0o640, 0o604, 0o620, 0o601, 0o644, 0o666] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let refused = KeyFile::load(&path).unwrap_err().to_string();
        assert!(
            refused.contains("others than its owner"),
            "{mode:o}: {refused}"
        );
    }
}

#[test]
fn a_key_file_that_is_not_exactly_one_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("key");
    KeyFile::new("Ada", key()).unwrap().create(&path).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let other = SigningKey::from_secret(&[8; 32]).public().to_string();
    let bent = [
        String::new(),
        text.trim_end().to_owned(),
        format!("{text}\n"),
        text.replace('\n', "\r\n"),
        text.replace("secret 07", "secret 7"),
        text.replace("key 1", "key 2"),
        text.replace("name Ada", "name "),
        text.replace("name Ada", "name A\u{1b}"),
        text.replace(&key().public().to_string(), &other),
        text.repeat(40),
    ];
    for text in bent {
        std::fs::write(&path, &text).unwrap();
        KeyFile::load(&path).unwrap_err();
    }
    let refused = PublicKeyFile::load(place.path()).unwrap_err();
    assert!(matches!(
        refused,
        KeyError::File { .. } | KeyError::Io { .. }
    ));
}

#[test]
fn signatures_that_are_verified_together_fail_when_one_of_them_is_wrong() {
    let keys = [
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    ];
    let publics = keys.each_ref().map(SigningKey::public);
    let messages: Vec<[u8; 4]> = (0..40_u32).map(u32::to_le_bytes).collect();
    let mut signatures: Vec<_> = (0..40)
        .map(|at| keys[at % 2].sign(Domain::Op, &messages[at]))
        .collect();
    let verified = |domain, signatures: &[Signature]| {
        let batch: Vec<_> = (0..40)
            .map(|at| Signed {
                message: &messages[at],
                key: &publics[at % 2],
                signature: &signatures[at],
            })
            .collect();
        verify_all(domain, &batch)
    };
    verified(Domain::Op, &signatures).unwrap();
    verify_all(Domain::Op, &[]).unwrap();
    assert!(verified(Domain::Bundle, &signatures).is_err());
    for at in [0, 17, 39] {
        let right = signatures[at];
        let mut bytes = *right.as_bytes();
        bytes[40] ^= 1;
        signatures[at] = Signature::from_bytes(bytes);
        assert!(verified(Domain::Op, &signatures).is_err());
        signatures[at] = keys[(at + 1) % 2].sign(Domain::Op, &messages[at]);
        assert!(verified(Domain::Op, &signatures).is_err());
        signatures[at] = right;
    }
}

#[test]
fn secrets_are_equal_when_all_their_bytes_are() {
    assert!(vox_crypto::equal_secrets(b"token", b"token"));
    assert!(!vox_crypto::equal_secrets(b"token", b"tokem"));
    assert!(!vox_crypto::equal_secrets(b"token", b"toke"));
}
