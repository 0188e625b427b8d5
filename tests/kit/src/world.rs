//! A host over directories of its own.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use vox_contract::GrantsFile;
use vox_host::directories::Directories;
use vox_host::signing::{Allowed, TrustStore};
use vox_host::{Host, HostOptions};

/// Throw-away data, cache and project, and the plugins that a test puts there.
#[derive(Debug)]
pub struct World {
    place: TempDir,
    directories: Directories,
}

impl World {
    /// A world without plugins. The cache of compiled components is shared by all worlds of a
    /// checkout, as it is by all runs of a user.
    ///
    /// # Panics
    ///
    /// When no temporary directory can be made.
    pub fn new() -> Self {
        let place = tempfile::tempdir().expect("a temporary directory can be made");
        let cache = crate::checkout().join("target/vox-test/cache");
        let directories =
            Directories::new(place.path().join("data"), cache).with_project(place.path());
        Self { place, directories }
    }

    /// A world with these built plugins.
    pub fn with(plugins: &[&str]) -> Self {
        let world = Self::new();
        for id in plugins {
            world.add_directory(&crate::plugin(id));
        }
        world
    }

    /// Its directory, which goes away with it.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Where its host looks.
    pub fn directories(&self) -> &Directories {
        &self.directories
    }

    /// Adds a copy of a plugin's directory as the only version of its id, trusted by its name;
    /// answers the copy.
    ///
    /// # Panics
    ///
    /// When it cannot be copied.
    pub fn add_directory(&self, from: &Path) -> PathBuf {
        let id = from
            .parent()
            .and_then(Path::file_name)
            .expect("<root>/<id>/<version>");
        let to = self
            .directories
            .installed()
            .join(id)
            .join(from.file_name().expect("a version"));
        std::fs::create_dir_all(&to).expect("the copy can be made");
        for file in std::fs::read_dir(from)
            .expect("the plugin is there")
            .flatten()
        {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("the file can be copied");
        }
        self.allow(&id.to_string_lossy());
        to
    }

    /// Makes another release of the plugin `conformance`, whose payloads carry a mark of 16 bytes:
    /// `release:` and a word of at most 8, which says how that release behaves. Files appear whole, and one right
    /// after the other, so that whoever watches takes them for one change.
    ///
    /// # Panics
    ///
    /// When the plugin is not there.
    pub fn release(&self, word: &str) {
        const START: &[u8] = b"release:";
        let mark = format!("release:{word:.<8}");
        assert_eq!(mark.len(), 16, "the word has at most 8 bytes");
        let directory = self.directories.installed().join("conformance/0.1.0");
        let mut marked = Vec::new();
        for file in std::fs::read_dir(&directory)
            .expect("the plugin is there")
            .flatten()
        {
            let mut bytes = std::fs::read(file.path()).expect("the file can be read");
            // A compiler may keep a constant in several places.
            let places: Vec<_> = (0..bytes.len().saturating_sub(16))
                .filter(|at| {
                    let mark = &bytes[*at..at + 16];
                    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
                    mark.starts_with(START) && mark[8..].iter().all(word)
                })
                .collect();
            if places.is_empty() {
                continue;
            }
            for at in places {
                bytes[at..at + 16].copy_from_slice(mark.as_bytes());
            }
            let aside = directory.join(format!(".aside-{}", marked.len()));
            marked.push((aside, file.path(), bytes));
        }
        assert!(!marked.is_empty(), "no payload carries a mark");
        for (aside, _, bytes) in &marked {
            std::fs::write(aside, bytes).expect("the file can be written");
        }
        for (aside, file, _) in &marked {
            std::fs::rename(aside, file).expect("the file can be renamed");
        }
    }

    /// Trusts a plugin by its name, as `vox plugin trust allow` does: what a test puts here is not
    /// signed, and runs by both carriers with what it is granted. A name that is no id is nobody's.
    fn allow(&self, id: &str) {
        let Ok(id) = id.parse() else { return };
        let allowed = Allowed::at(id, &self.directories.installed()).expect("the path is UTF-8");
        TrustStore::change(&self.directories, |trust| trust.allow(allowed))
            .expect("trust can be written");
    }

    /// Adds a plugin of a manifest and files, trusted by its name.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn add(&self, id: &str, manifest: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let directory = self.directories.installed().join(id).join("0.1.0");
        std::fs::create_dir_all(&directory).expect("the directory can be made");
        std::fs::write(directory.join("Plugin.toml"), manifest)
            .expect("the manifest can be written");
        for (name, bytes) in files {
            std::fs::write(directory.join(name), bytes).expect("the file can be written");
        }
        self.allow(id);
        directory
    }

    /// Adds the plugin `conformance` by another id, as a hook and nothing else; `hooks` is what its
    /// manifest says under `provides.hooks`.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn add_hook(&self, id: &str, hooks: &Value) -> PathBuf {
        let provides = json!({ "extension-points": { "hook": 1 }, "hooks": hooks });
        self.add_variant(id, &json!({ "provides": provides }))
    }

    /// Adds the plugin `conformance` by another id; the members of `changes` stand in the place of
    /// what its manifest says.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn add_variant(&self, id: &str, changes: &Value) -> PathBuf {
        self.add_variant_of("conformance", id, changes)
    }

    /// The same of another built plugin.
    ///
    /// # Panics
    ///
    /// As [`World::add_variant`], and when there is no such plugin.
    pub fn add_variant_of(&self, plugin: &str, id: &str, changes: &Value) -> PathBuf {
        let payloads = crate::plugin(plugin);
        let text = std::fs::read_to_string(payloads.join("Plugin.toml")).expect("it is there");
        let mut manifest: toml::Table = text.parse().expect("it is TOML");
        manifest.insert("id".to_owned(), id.into());
        for (key, value) in changes.as_object().expect("the changes are an object") {
            let value = toml::Value::try_from(value).expect("it can be written as TOML");
            manifest.insert(key.clone(), value);
        }
        let directory = self.add(id, &manifest.to_string(), &[]);
        for file in std::fs::read_dir(&payloads)
            .expect("the plugin is there")
            .flatten()
        {
            if file.file_name() != "Plugin.toml" {
                std::fs::copy(file.path(), directory.join(file.file_name()))
                    .expect("the file can be copied");
            }
        }
        directory
    }

    /// Adds a plugin of this id whose component is `guest`: it serves a service of its own name.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn add_guest(&self, id: &str, guest: &crate::Guest) -> PathBuf {
        self.add(
            id,
            &crate::guest::manifest(id),
            &[("guest.wasm", &guest.component())],
        )
    }

    /// Writes the project's `Vox.toml`.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn settings(&self, text: &str) {
        std::fs::write(self.path().join("Vox.toml"), text).expect("the settings can be written");
    }

    /// Opens a host with these grants, in the form of `grants.toml`.
    ///
    /// # Panics
    ///
    /// When the grants or the settings are refused.
    pub fn host(&self, grants: &str) -> Host {
        let mut options = HostOptions::default();
        options.grants = GrantsFile::parse(grants, Path::new("grants of the test"))
            .expect("the grants are well-formed");
        Host::open(self.directories.clone(), options).expect("the host opens")
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
