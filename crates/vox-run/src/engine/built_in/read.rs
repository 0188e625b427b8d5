//! `read`: files become chunks.
//!
//! The files are the step's file inputs, in the order of their names. Each is shown to the modality plugins,
//! by name and first bytes, until one says that it reads it; that one pushes its chunks, which go to the port
//! `out` with the attribute `file` and one sequence over all files.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use vox_contract::{ExtensionPoint, PluginId};
use vox_host::contract::{Attribute, Chunk, ChunkHead, Error, step};
use vox_host::{Files, InstanceOptions, Ports};

use super::{Place, Trouble, counted, done};
use crate::plan::{Arguments, Step};
use crate::ports::StepPorts;

/// Bytes of a file that a plugin sees when it is asked whether it reads it.
const PREFIX: u64 = 4096;

/// The arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadArguments {
    /// The modality plugin that reads the files. Whichever says that it does, when left out.
    #[serde(default)]
    plugin: Option<PluginId>,
    /// Arguments of the plugin.
    #[serde(default, rename = "with")]
    arguments: Arguments,
}

/// The runner.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    plugin: Option<PluginId>,
    arguments: Arguments,
}

impl Read {
    /// The runner with these arguments.
    pub fn new(arguments: ReadArguments, step: &Step) -> Result<Self, String> {
        if step.inputs().next().is_none() {
            return Err("the step needs files to read, as `inputs`".to_owned());
        }
        Ok(Self {
            plugin: arguments.plugin,
            arguments: arguments.arguments,
        })
    }

    /// The plugins that it calls, as far as they are known.
    pub fn plugins(&self) -> Vec<(&PluginId, ExtensionPoint, Vec<String>)> {
        let plugin = self.plugin.iter();
        plugin
            .map(|plugin| (plugin, ExtensionPoint::Modality, vec!["plugin".to_owned()]))
            .collect()
    }

    /// Reads every file.
    pub fn run(&self, place: &Place<'_>) -> Result<step::Outcome, Trouble> {
        let mut files = Vec::new();
        for input in place.files {
            gather(Path::new(&input.path), &mut files)?;
        }
        if files.is_empty() {
            return Err(Trouble::error("there is no file to read"));
        }
        let sequence = Arc::new(AtomicU64::new(0));
        for file in &files {
            self.file(place, file, &sequence)?;
        }
        let chunks = sequence.load(Ordering::Relaxed);
        Ok(done(format!(
            "{} of {}",
            counted(chunks, "chunk"),
            counted(files.len() as u64, "file")
        )))
    }

    fn file(
        &self,
        place: &Place<'_>,
        path: &Path,
        sequence: &Arc<AtomicU64>,
    ) -> Result<(), Trouble> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let plugins: Vec<PluginId> = match &self.plugin {
            Some(plugin) => vec![plugin.clone()],
            None => {
                let serving = place
                    .host
                    .registry()
                    .extension_point(ExtensionPoint::Modality);
                let serving = serving.map_err(|error| Trouble::error(error.to_string()))?;
                serving.iter().map(|plugin| plugin.id().clone()).collect()
            }
        };
        let prefix = first_bytes(path)?;
        for plugin in &plugins {
            let mut options = InstanceOptions::default();
            options.ports = Arc::new(FileOut {
                ports: Arc::clone(place.ports),
                file: name.clone().into_owned(),
                sequence: Arc::clone(sequence),
            });
            let blobs = Files::from_iter([("file".to_owned(), path.to_owned())]);
            options.blobs = Arc::new(blobs);
            options.cancel = place.cancel.clone();
            options.events = Arc::new(place.reporter.clone());
            let mut instance = place.host.instance(plugin, options)?;
            let detected = instance.modality()?.detect(&name, &prefix)?;
            if detected.is_none() && self.plugin.is_none() {
                continue;
            }
            let mut arguments = self.arguments.clone();
            if let Some(modality) = detected
                && !arguments.contains_key("modality")
            {
                arguments.insert("modality".to_owned(), modality.into());
            }
            let arguments = Value::Object(arguments).to_string();
            instance
                .modality()?
                .decode("file", &arguments)
                .map_err(|error| {
                    let Trouble { cause, message } = error.into();
                    Trouble::new(cause, format!("{}: {message}", path.display()))
                })?;
            return Ok(());
        }
        Err(Trouble::error(format!(
            "{}: none of the modality plugins reads it ({}); name one with `plugin`",
            path.display(),
            plugins
                .iter()
                .map(PluginId::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        )))
    }
}

/// The files at or below a path, in the order of their names.
fn gather(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Trouble> {
    let failed = |error| Trouble::error(format!("cannot read {}: {error}", path.display()));
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let members = fs::read_dir(path).map_err(failed)?;
    let members: Result<Vec<_>, _> = members
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    let mut members = members.map_err(failed)?;
    members.sort_unstable();
    members.iter().try_for_each(|member| gather(member, files))
}

fn first_bytes(path: &Path) -> Result<Vec<u8>, Trouble> {
    let mut prefix = Vec::new();
    File::open(path)
        .and_then(|file| file.take(PREFIX).read_to_end(&mut prefix))
        .map_err(|error| Trouble::error(format!("cannot read {}: {error}", path.display())))?;
    Ok(prefix)
}

/// What a modality plugin pushes of one file.
struct FileOut {
    ports: Arc<StepPorts>,
    file: String,
    sequence: Arc<AtomicU64>,
}

impl Ports for FileOut {
    fn push(
        &self,
        port: &str,
        mut head: ChunkHead,
        data: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        if port != "out" {
            return Err(Error::NotFound(format!(
                "a modality plugin pushes to port `out`, not to `{port}`"
            )));
        }
        head.sequence = self.sequence.load(Ordering::Relaxed);
        head.attributes.push(Attribute {
            key: "file".to_owned(),
            value: self.file.clone(),
        });
        self.ports.push(port, head, data, timeout)?;
        self.sequence.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn pull(&self, port: &str, _: Option<Duration>) -> Result<Option<Chunk>, Error> {
        Err(Error::NotFound(format!(
            "a modality plugin has no port `{port}` to pull: it reads through `blob.read`"
        )))
    }
}
