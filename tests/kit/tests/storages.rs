//! The plugins that keep objects, in a host: what every one of them must do, as callers of the host get it.

#[cfg(unix)]
#[path = "../../../plugins/storage-s3/src/tests/server.rs"]
#[expect(dead_code, reason = "the tests of the plugin also kill it")]
mod server;
#[cfg(unix)]
#[path = "../../skipped.rs"]
mod skipped;

use vox_host::contract::Error as HostError;
use vox_host::{CallError, Host, Instance, InstanceOptions};
use vox_plugin::storage::Entry;
use vox_plugin::{Error, Result, Storage};
use vox_testkit::World;

/// A plugin for storage that a host has loaded.
struct Hosted {
    instance: Instance,
    _host: Host,
    _world: World,
}

impl Hosted {
    /// A plugin with this configuration, and what it asks for.
    fn new(world: World, id: &str, config: &str, grants: &str) -> Self {
        // One promise reads twenty mebibytes at once.
        world.settings(&format!(
            "[plugin.{id}.limits]\nresult = \"64MiB\"\n[plugin.{id}.config]\n{config}"
        ));
        let host = world.host(&format!("[plugin.{id}]\n{grants}"));
        let instance = host.instance(&id.parse().unwrap(), InstanceOptions::default());
        Self {
            instance: instance.unwrap(),
            _host: host,
            _world: world,
        }
    }
}

/// What a plugin answered, as it wrote it.
fn answered<T>(answer: std::result::Result<T, CallError>) -> Result<T> {
    answer.map_err(|error| match error.refusal() {
        Some(HostError::NotFound(text)) => Error::NotFound(text.clone()),
        Some(HostError::Invalid(text)) => Error::Invalid(text.clone()),
        _ => Error::Failed(error.to_string()),
    })
}

impl Storage for Hosted {
    fn stat(&mut self, key: &str) -> Result<Option<u64>> {
        answered(self.instance.storage().unwrap().stat(key))
    }

    fn read(&mut self, key: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
        answered(self.instance.storage().unwrap().read(key, offset, length))
    }

    fn begin(&mut self, key: &str) -> Result<u64> {
        answered(self.instance.storage().unwrap().begin(key))
    }

    fn append(&mut self, upload: u64, data: &[u8]) -> Result<()> {
        answered(self.instance.storage().unwrap().append(upload, data))
    }

    fn commit(&mut self, upload: u64) -> Result<()> {
        answered(self.instance.storage().unwrap().commit(upload))
    }

    fn abort(&mut self, upload: u64) -> Result<()> {
        answered(self.instance.storage().unwrap().abort(upload))
    }

    fn remove(&mut self, key: &str) -> Result<bool> {
        answered(self.instance.storage().unwrap().remove(key))
    }

    fn enumerate(&mut self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Entry>> {
        let mut storage = self.instance.storage().unwrap();
        let entries = answered(storage.enumerate(prefix, after, limit))?.into_iter();
        let entries = entries.map(|entry| Entry {
            key: entry.key,
            size: entry.size,
        });
        Ok(entries.collect())
    }
}

/// Why a plugin does not start.
fn refusal(id: &str, settings: &str) -> String {
    let world = World::with(&[id]);
    world.settings(settings);
    let started = world
        .host("")
        .instance(&id.parse().unwrap(), InstanceOptions::default());
    started.unwrap_err().to_string()
}

mod local {
    use super::*;

    fn storage() -> Option<(Hosted, ())> {
        let world = World::with(&["storage-local"]);
        let directory = world.path().join("objects");
        let config = format!("directory = \"{}\"\n", directory.display());
        let grants = "file_read = true\nfile_write = true\n";
        Some((Hosted::new(world, "storage-local", &config, grants), ()))
    }

    storage_conformance::promises!(storage);

    #[test]
    fn without_a_directory_it_does_not_start_and_names_the_setting() {
        let told = refusal("storage-local", "");
        assert!(told.contains("[plugin.storage-local.config]"), "{told}");
    }
}

#[cfg(unix)]
mod s3 {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::server::Server;
    use super::*;

    /// A new bucket, which needs no signature there; answers its name.
    fn bucket(endpoint: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bucket-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let address = endpoint.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "PUT /{name} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.split(' ').nth(1), Some("200"), "{answer}");
        name
    }

    fn storage() -> Option<(Hosted, ())> {
        let server = Server::shared()?;
        let world = World::with(&["storage-s3"]);
        let file = world.path().join("credentials");
        let text = "[default]\naws_access_key_id = k\naws_secret_access_key = s\n";
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "endpoint = \"{}\"\nbucket = \"{}\"\ncredentials = {{ file = \"{}\" }}\n",
            server.endpoint,
            bucket(&server.endpoint),
            file.display()
        );
        let grants = "network = true\nfile_read = true\n";
        Some((Hosted::new(world, "storage-s3", &config, grants), ()))
    }

    storage_conformance::promises!(storage);

    #[test]
    fn without_credentials_it_does_not_start_and_names_their_file() {
        let settings = "[plugin.storage-s3.config]\nbucket = \"b\"\ncredentials = { file = \"/nowhere/keys\" }\n";
        let told = refusal("storage-s3", settings);
        assert!(told.contains("/nowhere/keys"), "{told}");
    }
}
