//! What the user trusts: the content of a `trust.toml`.
//!
//! ```toml
//! [[key]]
//! key = "ed25519:<hex>"
//! name = "Ada"
//! added = "2026-11-21T07:30:00Z"
//! expires = "2027-11-21T00:00:00Z"    # may be left out
//!
//! [[pin]]
//! plugin = "redact"
//! key = "ed25519:<hex>"
//! highest = "0.2.0"
//!
//! [[allow]]
//! plugin = "exec"
//! root = "/home/ada/.local/share/vox/plugins"
//! ```
//!
//! What must stay true: an allowance is bound to the directory of a root, links resolved, so that a
//! project's plugins inherit nothing of what the user allowed elsewhere; and there is one pin for a
//! plugin, which only [`TrustStore::pin`] moves to another key.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use semver::Version;
use vox_contract::document::{Document, Table};
use vox_contract::{ManifestError, PluginId};
use vox_crypto::PublicKey;

use super::{SigningError, Time, resolved};

/// A key that the user trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// Whose it is, in the user's words.
    pub name: String,
    /// Since when it is trusted.
    pub added: Time,
    /// From when on it is not trusted any more.
    pub expires: Option<Time>,
}

/// The key that a plugin was first installed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The key.
    pub key: PublicKey,
    /// The highest version that was installed from it.
    pub highest: Version,
}

/// A plugin that the user trusts in one root though nobody whom the user trusts signed it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    /// The plugin.
    pub plugin: PluginId,
    /// The root that it is found in, absolute, links resolved.
    pub root: PathBuf,
}

impl Allowed {
    /// A plugin in the root at `root`, links resolved.
    ///
    /// # Errors
    /// [`SigningError::Root`] when the root's path is not UTF-8.
    pub fn at(plugin: PluginId, root: &Path) -> Result<Self, SigningError> {
        let root = resolved(root);
        if root.to_str().is_none() {
            return Err(SigningError::Root { path: root });
        }
        Ok(Self { plugin, root })
    }
}

/// Trusted keys, pins, and plugins that are allowed by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustStore {
    keys: BTreeMap<PublicKey, TrustedKey>,
    pins: BTreeMap<PluginId, Pin>,
    allowed: BTreeSet<Allowed>,
}

impl TrustStore {
    const KEYS: &[&str] = &["key", "pin", "allow"];

    /// Reads trust. `file` is named in errors and not opened.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with all that is wrong.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ManifestError> {
        Document::read(text, file, Self::KEYS, |root| {
            let mut store = Self::default();
            for table in root.tables("key", &["key", "name", "added", "expires"]) {
                store.read_key(&table);
            }
            for table in root.tables("pin", &["plugin", "key", "highest"]) {
                store.read_pin(&table);
            }
            for table in root.tables("allow", &["plugin", "root"]) {
                store.read_allowed(&table);
            }
            Some(store)
        })
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let quoted = |text: &str| toml::Value::String(text.to_owned());
        // Writing to a `String` cannot fail, here and below.
        for (key, TrustedKey { name, added, .. }) in &self.keys {
            let name = quoted(name);
            let _ = writeln!(
                text,
                "[[key]]\nkey = \"{key}\"\nname = {name}\nadded = \"{added}\""
            );
            if let Some(expires) = self.keys[key].expires {
                let _ = writeln!(text, "expires = \"{expires}\"");
            }
            text.push('\n');
        }
        for (plugin, Pin { key, highest }) in &self.pins {
            let _ = writeln!(
                text,
                "[[pin]]\nplugin = \"{plugin}\"\nkey = \"{key}\"\nhighest = \"{highest}\"\n"
            );
        }
        for Allowed { plugin, root } in &self.allowed {
            let root = quoted(&root.to_string_lossy());
            let _ = writeln!(text, "[[allow]]\nplugin = \"{plugin}\"\nroot = {root}\n");
        }
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// Trusts a key; what was known of it before is replaced.
    pub fn trust(&mut self, key: PublicKey, trusted: TrustedKey) {
        self.keys.insert(key, trusted);
    }

    /// Does not trust a key any more; false when it was not trusted.
    pub fn distrust(&mut self, key: &PublicKey) -> bool {
        self.keys.remove(key).is_some()
    }

    /// What is known of a trusted key, also once it expired.
    pub fn key(&self, key: &PublicKey) -> Option<&TrustedKey> {
        self.keys.get(key)
    }

    /// Every trusted key, also those that expired.
    pub fn keys(&self) -> impl Iterator<Item = (&PublicKey, &TrustedKey)> {
        self.keys.iter()
    }

    /// Binds a plugin to a key, in place of the one that it was bound to.
    pub fn pin(&mut self, plugin: PluginId, pin: Pin) {
        self.pins.insert(plugin, pin);
    }

    /// Notes that a version signed by `key` was installed: binds the plugin to the key unless it is
    /// bound to another, and remembers the version when it is the highest.
    pub fn note_installed(&mut self, plugin: &PluginId, key: PublicKey, version: &Version) {
        match self.pins.entry(plugin.clone()) {
            Entry::Vacant(vacant) => {
                let highest = version.clone();
                vacant.insert(Pin { key, highest });
            }
            Entry::Occupied(mut pin) => {
                let pin = pin.get_mut();
                if pin.key == key && version.cmp_precedence(&pin.highest).is_gt() {
                    pin.highest = version.clone();
                }
            }
        }
    }

    /// Frees a plugin from its key, and forgets its highest version; false when it was not bound.
    pub fn unpin(&mut self, plugin: &PluginId) -> bool {
        self.pins.remove(plugin).is_some()
    }

    /// The key that a plugin is bound to.
    pub fn pinned(&self, plugin: &PluginId) -> Option<&Pin> {
        self.pins.get(plugin)
    }

    /// Every plugin that is bound to a key.
    pub fn pins(&self) -> impl Iterator<Item = (&PluginId, &Pin)> {
        self.pins.iter()
    }

    /// Trusts a plugin by its name in one root.
    pub fn allow(&mut self, allowed: Allowed) {
        self.allowed.insert(allowed);
    }

    /// Takes an allowance back; false when there was none.
    pub fn disallow(&mut self, allowed: &Allowed) -> bool {
        self.allowed.remove(allowed)
    }

    /// Whether a plugin is trusted by its name in the root at `place`, links resolved.
    pub fn allows(&self, plugin: &PluginId, place: &Path) -> bool {
        self.allowed_in(plugin).any(|root| root == place)
    }

    /// The roots in which a plugin is trusted by its name.
    pub fn allowed_in(&self, plugin: &PluginId) -> impl Iterator<Item = &Path> {
        let of = self
            .allowed
            .iter()
            .filter(move |allowed| allowed.plugin == *plugin);
        of.map(|allowed| allowed.root.as_path())
    }

    /// Every plugin that is trusted by its name.
    pub fn allowed(&self) -> impl Iterator<Item = &Allowed> {
        self.allowed.iter()
    }

    /// Adds all that `other` trusts. Where both know a key or a plugin, what this one says counts.
    pub fn merge(&mut self, other: Self) {
        for (key, trusted) in other.keys {
            self.keys.entry(key).or_insert(trusted);
        }
        for (plugin, pin) in other.pins {
            self.pins.entry(plugin).or_insert(pin);
        }
        self.allowed.extend(other.allowed);
    }

    fn read_key(&mut self, table: &Table<'_, '_>) {
        let key = public_key(table);
        let name = table.required("name", table.sentence("name"), "name = \"Ada\"");
        let added = time(table, "added");
        let added = table.required("added", added, "added = \"2026-11-21T07:30:00Z\"");
        let expires = time(table, "expires");
        if let (Some(key), Some(name), Some(added)) = (key, name, added) {
            let trusted = TrustedKey {
                name,
                added,
                expires,
            };
            if self.keys.insert(key, trusted).is_some() {
                twice(table, "key", "this key");
            }
        }
    }

    fn read_pin(&mut self, table: &Table<'_, '_>) {
        let (plugin, key) = (plugin(table), public_key(table));
        let highest = table.required("highest", table.version("highest"), "highest = \"0.1.0\"");
        if let (Some(plugin), Some(key), Some(highest)) = (plugin, key, highest)
            && self.pins.insert(plugin, Pin { key, highest }).is_some()
        {
            twice(table, "plugin", "the pin of this plugin");
        }
    }

    fn read_allowed(&mut self, table: &Table<'_, '_>) {
        let plugin = plugin(table);
        let root = table
            .text("root")
            .map(|text| PathBuf::from(*text.get_ref()));
        let root = table.required("root", root, "root = \"/where/it/is/found\"");
        if let (Some(plugin), Some(root)) = (plugin, root) {
            if !root.is_absolute() {
                let (span, hint) = (table.key_span("root"), "write the whole path");
                table.note(span, "`root` is not absolute", hint);
            }
            self.allowed.insert(Allowed { plugin, root });
        }
    }
}

fn plugin(table: &Table<'_, '_>) -> Option<PluginId> {
    table.required("plugin", table.parsed("plugin"), "plugin = \"redact\"")
}

fn public_key(table: &Table<'_, '_>) -> Option<PublicKey> {
    let key = table.text("key").and_then(|text| {
        let parsed = text.get_ref().parse();
        let note = |error: &vox_crypto::KeyError| {
            let hint = "`vox plugin trust add` writes such entries";
            table.note(text.span(), error.to_string(), hint);
        };
        parsed.inspect_err(note).ok()
    });
    table.required("key", key, "key = \"ed25519:<hex>\"")
}

fn time(table: &Table<'_, '_>, key: &'static str) -> Option<Time> {
    let text = table.text(key)?;
    let parsed = text.get_ref().parse();
    let note = |error: &super::TimeError| {
        let hint = "a time is in UTC, to the second";
        table.note(text.span(), error.to_string(), hint);
    };
    parsed.inspect_err(note).ok()
}

fn twice(table: &Table<'_, '_>, key: &str, what: &str) {
    let span = table.key_span(key);
    table.note(span, format!("{what} stands twice"), "remove one of them");
}

#[cfg(test)]
mod tests {
    use super::*;
    use vox_crypto::SigningKey;

    fn store() -> TrustStore {
        let key = SigningKey::from_secret(&[1; 32]).public();
        let mut store = TrustStore::default();
        let trusted = |name: &str, expires| TrustedKey {
            name: name.to_owned(),
            added: Time::from_seconds(0),
            expires,
        };
        store.trust(key, trusted("Ada \"A\" \\ L.", None));
        let other = SigningKey::from_secret(&[2; 32]).public();
        store.trust(other, trusted("Bob", Some(Time::from_seconds(9))));
        store.note_installed(&"acme.redact".parse().unwrap(), key, &Version::new(0, 2, 0));
        let root = std::env::temp_dir().join("it's \"here\"");
        let plugin = "exec".parse().unwrap();
        store.allow(Allowed { plugin, root });
        store
    }

    #[test]
    fn trust_is_read_as_it_was_written() {
        let text = store().to_toml();
        let read = TrustStore::parse(&text, Path::new("trust.toml")).unwrap();
        assert_eq!(read, store());
        assert_eq!(read.to_toml(), text);
        assert_eq!(TrustStore::default().to_toml(), "");
    }

    #[test]
    fn what_is_no_trust_is_refused_with_its_place() {
        let text = "[[key]]\nkey = \"ed25519:00\"\nname = \" \"\nadded = \"today\"\n\
                    [[pin]]\nplugin = \"A\"\nversion = \"1\"\n\
                    [[allow]]\nplugin = \"exec\"\nroot = \"here\"\n";
        let error = TrustStore::parse(text, Path::new("trust.toml")).unwrap_err();
        let text = error.to_string();
        for place in ["2:7: ", "3:8: ", "4:9: ", "6:10: ", "7:1: ", "10:1: "] {
            assert!(
                text.contains(&format!("trust.toml:{place}")),
                "{place}: {text}"
            );
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_refused() {
        let text = store().to_toml();
        let twice = format!("{text}\n{text}");
        let error = TrustStore::parse(&twice, Path::new("trust.toml")).unwrap_err();
        assert!(error.to_string().contains("stands twice"), "{error}");
    }

    #[test]
    fn a_pin_stays_with_its_key_and_its_highest_version() {
        let mut store = store();
        let id: PluginId = "acme.redact".parse().unwrap();
        let first = store.pinned(&id).unwrap().clone();
        let other = SigningKey::from_secret(&[3; 32]).public();
        store.note_installed(&id, other, &Version::new(9, 0, 0));
        store.note_installed(&id, first.key, &Version::new(0, 1, 0));
        assert_eq!(store.pinned(&id), Some(&first));
        store.note_installed(&id, first.key, &Version::new(0, 3, 0));
        assert_eq!(store.pinned(&id).unwrap().highest, Version::new(0, 3, 0));
    }
}
