//! Which GGUF file a model is, and what `llama-server` is told to do with it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use vox_plugin::compute::DeviceKind;
use vox_plugin::inference_backend::{Model, Options};

use crate::config::Config;
use crate::devices::{self, Known};
use crate::gguf::Head;
use crate::server::Spec;

/// A model that can be served, and how.
#[derive(Debug)]
pub struct Plan {
    /// The file.
    pub file: PathBuf,
    /// What its head says.
    pub head: Head,
    /// Where it computes.
    pub on: Known,
    /// Most tokens of a prompt and its answer together.
    pub context: u32,
    /// Bytes that it needs.
    pub memory: u64,
    /// The server for it.
    pub spec: Spec,
}

impl Plan {
    /// Plans how a model is served.
    ///
    /// # Errors
    ///
    /// Why it is not, for people.
    pub fn new(config: &Config, model: &Model, options: &Options) -> Result<Self, String> {
        if model.adapter.is_some() {
            return Err(vox_remote::remote::NO_ADAPTERS.to_owned());
        }
        let file = find(config, model)?;
        let head = Head::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        if options.format.is_some() {
            return Err(format!(
                "{} has its weights in a format that llama.cpp does not change; ask for none",
                file.display()
            ));
        }
        let program = devices::program(&config.program)?;
        let on = choose(config, options, devices::list(&program))?;
        let own = head.context();
        let asked = options.context.or(config.context).unwrap_or(own).max(1);
        let context = if own > 0 { asked.min(own) } else { asked };
        let tokens = u64::from(context) * u64::from(config.parallel);
        let memory = head.memory(tokens);
        let (device, free) = (&on.device, on.device.available);
        // What does not fit on a graphics processor is computed on the processor; peers have theirs.
        let is_alone = device.kind == DeviceKind::Cpu && config.rpc.is_empty();
        if is_alone && free > 0 && memory > free {
            return Err(format!(
                "{} with a context of {context} needs {} MiB, and {} MiB are free; a smaller `context` \
                 needs less",
                file.display(),
                memory >> 20,
                free >> 20
            ));
        }
        let threads = match options.threads {
            0 => config.threads,
            threads => threads,
        };
        let spec = Spec {
            program,
            arguments: arguments(config, &file, &head, &on, tokens, threads),
            start: config.start_limit(),
            silence: config.silence(),
        };
        Ok(Self {
            file,
            head,
            on,
            context,
            memory,
            spec,
        })
    }

    /// What a verdict says.
    pub fn reason(&self) -> String {
        format!(
            "llama-server serves {} ({}, {} MiB with a context of {}) on {}",
            self.file.display(),
            self.head.architecture,
            self.memory >> 20,
            self.context,
            self.on.device.id
        )
    }
}

/// The file of a model: the one that `models` names, or the one beside its bundle.
fn find(config: &Config, model: &Model) -> Result<PathBuf, String> {
    if let Some(file) = config.models.get(&model.name) {
        let file = match (file.strip_prefix("~"), std::env::home_dir()) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => file.clone(),
        };
        return if file.is_file() {
            Ok(file)
        } else {
            Err(format!(
                "there is no file {}, which `models` names for `{}`",
                file.display(),
                model.name
            ))
        };
    }
    let map = format!(
        "name one with `models = {{ \"{}\" = \"….gguf\" }}` under `[plugin.llama-cpp.config]`",
        model.name
    );
    let Some(directory) = &model.directory else {
        return Err(format!("it knows no GGUF file for `{}`; {map}", model.name));
    };
    let mut files = gguf_files(Path::new(directory));
    match files.len() {
        1 => Ok(files.remove(0)),
        0 => Err(format!(
            "llama.cpp reads GGUF files, and {directory} has none, as Vox keeps SafeTensors; {map}"
        )),
        count => Err(format!("{directory} has {count} GGUF files; {map}")),
    }
}

/// The models in a directory. Of one in parts it is the first, by which llama.cpp finds the others.
fn gguf_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "gguf") && path.is_file())
        .filter(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            // `name-00002-of-00005`
            match name.rsplit_once("-of-") {
                Some((part, _)) => part.ends_with("-00001"),
                None => true,
            }
        })
        .collect();
    files.sort();
    files
}

/// The device that is asked for, or the best.
fn choose(config: &Config, options: &Options, devices: Vec<Known>) -> Result<Known, String> {
    let ids = |devices: &[Known]| {
        let ids: Vec<_> = devices
            .iter()
            .map(|known| known.device.id.clone())
            .collect();
        ids.join("`, `")
    };
    let all = ids(&devices);
    let wants_processor = config.gpu_layers == Some(0);
    let mut fitting = devices.into_iter().filter(|known| match &options.device {
        Some(wanted) => known.device.id == *wanted,
        None => match known.device.kind {
            DeviceKind::Cpu => true,
            DeviceKind::Remote => false,
            DeviceKind::Cuda | DeviceKind::Metal => !wants_processor,
        },
    });
    fitting.next().ok_or_else(|| {
        let wanted = options.device.as_deref().unwrap_or_default();
        format!("llama-server has no device `{wanted}`; it has `{all}`")
    })
}

fn arguments(
    config: &Config,
    file: &Path,
    head: &Head,
    on: &Known,
    tokens: u64,
    threads: u32,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-m".into(), file.into()];
    let mut add = |name: &str, value: String| {
        arguments.extend([name.into(), value.into()]);
    };
    add("-c", tokens.to_string());
    add("-np", config.parallel.to_string());
    if threads > 0 {
        add("-t", threads.to_string());
    }
    if let Some(layers) = config.gpu_layers {
        add("-ngl", layers.to_string());
    }
    if config.rpc.is_empty() {
        add("--device", on.name.clone());
    } else {
        // They become devices of their own, and all are used.
        add("--rpc", config.rpc.join(","));
    }
    arguments.extend(["--jinja", "--no-webui"].map(OsString::from));
    if head.embeds() {
        arguments.push("--embeddings".into());
    }
    arguments.extend(config.arguments.iter().map(OsString::from));
    arguments
}
