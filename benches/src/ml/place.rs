//! Where the benches of models find the plugin and the model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::available_parallelism;

use anyhow::{Context, bail, ensure};
use vox_build::{BuildOptions, Destination, Profile, Toolchain};
use vox_contract::PluginId;
use vox_host::directories::Directories;
use vox_host::signing::{Allowed, TrustStore};
use vox_host::{Host, HostOptions};

use crate::fixture::kept;
use crate::run;

/// The plugin.
pub const PLUGIN: &str = "candle-cpu";
/// The model, in models.toml.
const MODEL: &str = "smollm2-135m-instruct";
/// Names a directory with the bundle of the model, for whoever has it already.
const BUNDLE: &str = "VOX_SMOLLM2";

/// A user of whom nothing is known but that plugin.
pub struct Place {
    directory: PathBuf,
}

impl Place {
    /// Builds the plugin and trusts it. Later benches find it again.
    pub fn new() -> anyhow::Result<Self> {
        let place = Self::at(kept("ml")?);
        let plugins = place.data().join("plugins");
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/candle");
        let mut options = BuildOptions::new(Destination::Root(plugins.clone()));
        options.quiet = true;
        options.profile = Profile::Release;
        options.toolchain = Some(Toolchain::find_installed(&sources)?);
        vox_build::build(&sources, &options, &mut |_| ())?;
        let allowed = Allowed::at(PLUGIN.parse()?, &plugins)?;
        TrustStore::change(&place.directories(), |trust| trust.allow(allowed))?;
        Ok(place)
    }

    /// One that was made before.
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn directories(&self) -> Directories {
        Directories::new(self.data(), self.data().join("cache"))
    }

    /// A host over the plugin.
    pub fn host(&self) -> anyhow::Result<Host> {
        let mut options = HostOptions::default();
        let allowed = Allowed::at(PLUGIN.parse()?, &self.data().join("plugins"))?;
        options.trust.allow(allowed);
        Ok(Host::open(self.directories(), options)?)
    }

    /// The command `vox` of this user; it prints nothing.
    pub fn vox(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = vox(arguments)?;
        command
            .env("VOX_DATA", self.data())
            .env("VOX_CACHE", self.data().join("cache"));
        Ok(command)
    }

    /// The bundle of the model: the one that is named, that of the user's store, or else one that is imported.
    pub fn bundle(&self) -> anyhow::Result<PathBuf> {
        if let Some(named) = std::env::var_os(BUNDLE) {
            let named = PathBuf::from(named);
            ensure!(
                named.join("model.safetensors").is_file(),
                "{BUNDLE} is {}, which holds no model.safetensors",
                named.display()
            );
            return Ok(named);
        }
        let bundle = self.directory.join(MODEL);
        if bundle.is_dir() {
            return Ok(bundle);
        }
        let unfinished = self.directory.join("unfinished");
        if unfinished.is_dir() {
            fs::remove_dir_all(&unfinished)?;
        }
        let export = ["model", "export", MODEL, &text(&unfinished)];
        if !vox(&export)?.status()?.success() {
            eprintln!("Importing {MODEL}");
            for arguments in [&["model", "import", MODEL][..], &export] {
                let status = self.vox(arguments)?.stderr(Stdio::inherit()).status()?;
                if !status.success() {
                    bail!(
                        "`vox {}` ended with {status}; {BUNDLE} may name a directory with the model",
                        arguments.join(" ")
                    );
                }
            }
        }
        fs::rename(&unfinished, &bundle)?;
        Ok(bundle)
    }

    /// The name, in this user's store, of the model whose weights are blocks of `format`.
    pub fn quantised(&self, format: &str) -> anyhow::Result<String> {
        let name = format!("{MODEL}-{format}");
        if !self.vox(&["model", "info", &name])?.status()?.success() {
            let bundle = text(&self.bundle()?);
            let import = [
                "model", "import", &bundle, "--name", &name, "--quant", format,
            ];
            let status = self.vox(&import)?.stderr(Stdio::inherit()).status()?;
            ensure!(
                status.success(),
                "`vox {}` ended with {status}",
                import.join(" ")
            );
        }
        Ok(name)
    }
}

/// The command `vox` as a child of this program, in the checkout; it prints nothing.
fn vox(arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env(run::CHILD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// The id of the plugin.
pub fn plugin() -> anyhow::Result<PluginId> {
    Ok(PLUGIN.parse()?)
}

/// A path as the contract and command lines have it.
pub fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// As many as there are processors.
pub fn threads() -> u32 {
    available_parallelism().map_or(1, |threads| threads.get() as u32)
}

/// A program or model of llama.cpp.
pub fn llama(file: &str) -> anyhow::Result<PathBuf> {
    peer(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("peers/target/llama.cpp")
            .join(file),
    )
}

/// What cargo or xtask put into the target directory that this program stands in.
pub fn of_target(file: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("a target directory")?;
    peer(target.join(file))
}

fn peer(path: PathBuf) -> anyhow::Result<PathBuf> {
    ensure!(
        path.exists(),
        "there is no {}; `cargo xtask peers` makes the peers, and `cargo xtask bench` what it runs itself",
        path.display()
    );
    Ok(path)
}
