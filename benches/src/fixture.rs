//! The plugin that is called, built once for release, and hosts over it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use vox_build::{BuildOptions, Destination, Profile, Toolchain};
use vox_contract::{Carrier, GrantsFile};
use vox_host::contract::{Chunk, ChunkHead, Error, stage::Opening};
use vox_host::directories::Directories;
use vox_host::signing::Allowed;
use vox_host::{Host, HostOptions, Instance, InstanceOptions, Ports};

/// A host with the plugin of the benches.
pub struct Fixture {
    _place: tempfile::TempDir,
    host: Host,
    plugin: PathBuf,
    /// Payloads as they were built.
    built: Vec<(Carrier, PathBuf, Vec<u8>)>,
}

impl Fixture {
    /// Builds the plugin and opens the host.
    pub fn new() -> anyhow::Result<Self> {
        let place = tempfile::tempdir()?;
        let data = place.path().join("data");
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugin");
        let mut options = BuildOptions::new(Destination::Root(data.join("plugins")));
        options.quiet = true;
        options.profile = Profile::Release;
        options.toolchain = Some(Toolchain::find_installed(&crate_dir)?);
        let built = vox_build::build(&crate_dir, &options, &mut |_| ())?;
        let mut options = HostOptions::default();
        options.grants = GrantsFile::parse(
            "[plugin.bench-plugin]\nstream_io = true\n",
            Path::new("grants"),
        )?;
        options
            .trust
            .allow(Allowed::at("bench-plugin".parse()?, &data.join("plugins"))?);
        let project = place.path().join("project");
        std::fs::create_dir(&project)?;
        std::fs::write(
            project.join("Vox.toml"),
            "[plugin.bench-plugin.limits]\ninstances = 2000\n",
        )?;
        let directories =
            Directories::new(&data, place.path().join("cache")).with_project(&project);
        let host = Host::open(directories, options)?;
        let plugin = host.plugin(&"bench-plugin".parse()?)?;
        let mut payloads = Vec::new();
        for carrier in Carrier::ALL {
            let file = plugin.payload(carrier).context("both payloads")?;
            payloads.push((carrier, file.to_owned(), std::fs::read(file)?));
        }
        Ok(Self {
            built: payloads,
            _place: place,
            host,
            plugin: built.package.directory,
        })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// A payload's file, and its bytes as they were built.
    pub fn payload(&self, carrier: Carrier) -> anyhow::Result<(PathBuf, Vec<u8>)> {
        let built = self.built.iter().find(|(known, ..)| *known == carrier);
        let (_, file, bytes) = built.context("the payload")?;
        Ok((file.clone(), bytes.clone()))
    }

    /// The bytes of the component.
    pub fn component(&self) -> anyhow::Result<Vec<u8>> {
        std::fs::read(self.plugin.join("bench_plugin.wasm")).context("the component")
    }

    /// An instance of the plugin whose streams end in nothing.
    pub fn instance(&self, carrier: Carrier) -> anyhow::Result<Instance> {
        let mut options = InstanceOptions::default();
        options.carrier = Some(carrier);
        options.ports = Arc::new(Sink);
        Ok(self.host.instance(&"bench-plugin".parse()?, options)?)
    }
}

/// Takes every chunk and forgets it.
struct Sink;

impl Ports for Sink {
    fn push(
        &self,
        _: &str,
        head: ChunkHead,
        data: &[u8],
        _: Option<Duration>,
    ) -> Result<(), Error> {
        std::hint::black_box((&head, data));
        Ok(())
    }

    fn pull(&self, _: &str, _: Option<Duration>) -> Result<Option<Chunk>, Error> {
        Ok(None)
    }
}

/// A record of 64 bytes of text.
pub fn record() -> Opening {
    let opening = Opening {
        run: "01K9Z6W3Q8F4V5N7R2T1".to_owned(),
        step: "summarise-chapters".to_owned(),
        arguments: r#"{"emails":true,"mask":"x"}"#.to_owned(),
    };
    assert_eq!(
        opening.run.len() + opening.step.len() + opening.arguments.len(),
        64
    );
    opening
}

/// The head of a chunk of text.
pub fn head() -> ChunkHead {
    ChunkHead {
        modality: "text".to_owned(),
        sequence: 7,
        timestamp: 0,
        attributes: Vec::new(),
    }
}

/// A directory on the disk that holds the checkout, for what is written and flushed. What stands in
/// memory alone, as temporary directories may, says nothing about a disk.
pub fn on_disk() -> anyhow::Result<tempfile::TempDir> {
    let parent = kept("")?;
    Ok(tempfile::Builder::new()
        .prefix("bench-")
        .tempdir_in(parent)?)
}

/// A directory of this name that later runs find again.
pub fn kept(name: &str) -> anyhow::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/vox-bench")
        .join(name);
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}
