//! `vox model merge`: a plain model of an adapter and the model that it changes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vox_contract::ExtensionPoint;
use vox_contract::PluginId;
use vox_host::Host;
use vox_host::contract::compute::WeightFormat;
use vox_host::contract::ml_backend::{AdamW, Beginning, Spec};
use vox_ml::backend::{Refusals, Training, plugins};
use vox_ml::bundle::View as Bundle;
use vox_model::bundle::BundleError;
use vox_model::library::Library;

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::View;
use crate::output::style::{GOOD, paint};

/// Arguments of `vox model merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The adapter: its name, or a directory in the layout of PEFT
    adapter: String,
    /// A directory that is not there yet
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// The model that it changes [default: the one that the adapter names]
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
    /// The plugin that computes [default: any that can]
    #[arg(long, value_name = "PLUGIN")]
    backend: Option<PluginId>,
}

#[derive(Debug, Serialize)]
struct Merged {
    adapter: String,
    directory: PathBuf,
    files: Vec<String>,
}

impl View for Merged {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} {} is in {}",
            paint(GOOD, "merged"),
            self.adapter,
            self.directory.display()
        )
    }
}

/// Merges.
pub(crate) fn run(context: &Context, arguments: &MergeArgs) -> Result<Exit, Failure> {
    if std::fs::symlink_metadata(&arguments.to).is_ok() {
        return Err(BundleError::Exists {
            path: arguments.to.clone(),
        }
        .into());
    }
    let library = context.library()?;
    let adapter = Bundle::of(&library, &arguments.adapter)?;
    if !adapter.is_adapter() {
        let message = format!(
            "`{}` is no adapter: it has no adapter_config.json",
            arguments.adapter
        );
        return Err(Failure::new(Exit::InvalidInput, message));
    }
    let base = base_of(&library, &adapter, arguments.base.as_deref(), Bundle::of)?;
    let host = context.host()?;
    let spec = Spec {
        device: "cpu".to_owned(),
        threads: 0,
        beginning: Beginning::Adapter(absolute(&adapter)),
        base: WeightFormat::F32,
        adapter: None,
        optimizer: AdamW {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
        },
        gradient_checkpointing: false,
        seed: 0,
        rank: 0,
    };
    let mut backend = load(&host, arguments.backend.as_ref(), base.directory(), &spec)?;
    let parent = match arguments.to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |action: &'static str| move |error: io::Error| Failure::io(action, parent, &error);
    let unfinished = tempfile::Builder::new()
        .prefix(".vox-merge-")
        .tempdir_in(parent)
        .map_err(failed("create a directory in"))?;
    let files = backend.merge(unfinished.path())?;
    std::fs::rename(unfinished.path(), &arguments.to).map_err(failed("write to"))?;
    let _ = unfinished.keep();
    context.output.show(&Merged {
        adapter: arguments.adapter.clone(),
        directory: arguments.to.clone(),
        files,
    })?;
    Ok(Exit::Success)
}

/// The first backend that loads the model with the adapter, or the one that is wanted.
fn load(
    host: &Host,
    wanted: Option<&PluginId>,
    bundle: &Path,
    spec: &Spec,
) -> Result<Training, Failure> {
    let mut refusals = Refusals::default();
    for id in plugins(host, ExtensionPoint::MlBackend, wanted)? {
        let loaded = Training::start(host, &id, None, interrupt::token())
            .and_then(|mut backend| backend.load(bundle, spec).map(|_| backend));
        match loaded {
            Ok(backend) => return Ok(backend),
            Err(error) => refusals.take(error)?,
        }
    }
    Err(refusals
        .into_error("merge the adapter into its model")
        .into())
}

/// The model that an adapter changes: the one that is named, or else the one that the adapter names. It is
/// opened as `open` does.
pub(super) fn base_of(
    library: &Library,
    adapter: &Bundle,
    named: Option<&str>,
    open: fn(&Library, &str) -> Result<Bundle, BundleError>,
) -> Result<Bundle, Failure> {
    let base = match named {
        Some(base) => open(library, base)?,
        None => {
            let base = adapter.base().ok_or_else(|| {
                Failure::usage("the adapter does not say which model it changes")
                    .hint("name it with `--base`")
            })?;
            open(library, &base).map_err(|error| {
                if let BundleError::WrongFile { .. } = error {
                    return Failure::from(error);
                }
                let message = format!("the adapter changes `{base}`, which is not here: {error}");
                Failure::new(Exit::NotFound, message).hint("name its model with `--base`")
            })?
        }
    };
    if !base.directory().is_dir() {
        let directory = base.directory().display();
        let message = format!("the adapter changes the model in {directory}, which is not there");
        return Err(Failure::new(Exit::NotFound, message).hint("name its model with `--base`"));
    }
    Ok(base)
}

/// The directory of a bundle for plugins, which have directories of their own.
pub(super) fn absolute(bundle: &Bundle) -> String {
    let directory = bundle.directory();
    let absolute = directory
        .canonicalize()
        .unwrap_or_else(|_| directory.to_owned());
    absolute.to_string_lossy().into_owned()
}
