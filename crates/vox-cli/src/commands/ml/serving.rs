//! What `generate`, `chat` and `embed` share: a model, its backend, its options.

use std::io::{self, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use clap::{Args, ValueEnum, value_parser};
use serde::Serialize;
use vox_contract::PluginId;
use vox_host::contract::compute::WeightFormat;
use vox_host::contract::inference_backend::{Model, Options, Request, Sampling};
use vox_host::{CancelToken, Host};
use vox_ml::answer::{Answerer, Dispatcher, Explanation};
use vox_ml::bundle::View as Bundle;
use vox_ml::data::template::{Template, TemplateSource};
use vox_probe::SystemProbe;

use super::merge::{absolute, base_of};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{BAD, DIM, GOOD, LITERAL, paint, plain};
use crate::output::{View, bytes};

/// Which model, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArgs {
    /// The model: its name, its hash, or a directory; or an adapter
    pub(super) model: String,
    /// The model that the adapter changes [default: the one that it names]
    #[arg(long, value_name = "MODEL")]
    base: Option<String>,
    /// How its weights are held in memory [default: as they are stored]
    #[arg(long, value_enum, value_name = "FORMAT")]
    quant: Option<Quant>,
    /// Where to compute, such as cpu or cuda:0 [default: the best that has room]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// The plugin that runs it [default: the best that can]
    #[arg(long, value_name = "PLUGIN")]
    backend: Option<PluginId>,
    /// Threads on the processor [default: as many as there are cores]
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    threads: u32,
    /// Most tokens of a prompt and its answer together [default: the model's own]
    #[arg(
        long,
        value_name = "TOKENS",
        value_parser = value_parser!(u32).range(1..),
        allow_negative_numbers = true
    )]
    context: Option<u32>,
    /// Say which backends were considered, and why one was chosen, and run nothing
    #[arg(long)]
    explain: bool,
}

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Quant {
    F32,
    Bf16,
    F16,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q4_k_m")]
    Q4KM,
}

impl From<Quant> for WeightFormat {
    fn from(quant: Quant) -> Self {
        match quant {
            Quant::F32 => Self::F32,
            Quant::Bf16 => Self::Bf16,
            Quant::F16 => Self::F16,
            Quant::Q8_0 => Self::Q80,
            Quant::Q4_0 => Self::Q40,
            Quant::Q4KM => Self::Q4K,
        }
    }
}

/// How tokens are chosen.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// How much chance there is; 0 always takes the most probable token
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0.8,
        value_parser = within(0.0, 100.0),
        allow_negative_numbers = true
    )]
    temperature: f32,
    /// Only that many of the most probable tokens; 0 for all
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 40,
        allow_negative_numbers = true
    )]
    top_k: u32,
    /// Only the most probable ones that have this much probability together
    #[arg(
        long,
        value_name = "PART",
        default_value_t = 0.95,
        value_parser = within(0.0, 1.0),
        allow_negative_numbers = true
    )]
    top_p: f32,
    /// Only those with at least this part of the most probable one's probability
    #[arg(
        long,
        value_name = "PART",
        default_value_t = 0.05,
        value_parser = within(0.0, 1.0),
        allow_negative_numbers = true
    )]
    min_p: f32,
    /// Makes tokens that were there less probable; 1 for not at all
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1.0,
        value_parser = within(0.01, 100.0),
        allow_negative_numbers = true
    )]
    repetition_penalty: f32,
    /// The same seed gives the same answer [default: another one each time]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    seed: Option<u64>,
    /// The most tokens of an answer
    #[arg(
        short = 'n',
        long,
        value_name = "TOKENS",
        default_value_t = 256,
        allow_negative_numbers = true
    )]
    max_tokens: u32,
    /// A text that ends the answer
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

/// Reads a number between two, both included.
fn within(least: f32, most: f32) -> impl Fn(&str) -> Result<f32, String> + Clone + Send + Sync {
    move |text: &str| {
        let number: Option<f32> = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("it is to be a number from {least} to {most}"))
    }
}

impl SamplingArgs {
    pub(super) fn max_tokens(&self) -> u32 {
        self.max_tokens
    }

    /// A request for an answer to `prompt`.
    pub(super) fn request(&self, prompt: vox_host::contract::inference_backend::Prompt) -> Request {
        Request {
            prompt,
            answered: String::new(),
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
                presence_penalty: 0.0,
                frequency_penalty: 0.0,
                seed: self
                    .seed
                    .unwrap_or_else(|| crate::record::now().unsigned_abs()),
            },
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            alternatives: None,
        }
    }
}

/// A model as it was found, before any backend has it.
pub(super) struct Found {
    pub(super) bundle: Option<Bundle>,
    /// An adapter that changes it.
    adapter: Option<Bundle>,
    pub(super) template: Option<Template>,
    name: String,
}

impl Found {
    /// Loads the model while its files are being verified. It answers only where they are whole; where they
    /// are not, what came of loading them does not matter.
    pub(super) fn load(&self, dispatcher: Dispatcher) -> Result<Answerer, Failure> {
        let mut bundles = self.bundle.iter().chain(&self.adapter);
        let (verified, loaded) = thread::scope(|scope| {
            let verifying = scope.spawn(|| bundles.try_for_each(Bundle::verify));
            let loaded = Answerer::load(dispatcher);
            let verified = verifying.join();
            (
                verified.unwrap_or_else(|panic| resume_unwind(panic)),
                loaded,
            )
        });
        verified?;
        Ok(loaded?)
    }
}

/// The model in the output of a training, where a directory is that and no model.
fn trained_in(directory: &Path) -> Option<PathBuf> {
    let has_model = |directory: &Path| {
        let mut files = ["config.json", "adapter_config.json"].into_iter();
        files.any(|file| directory.join(file).is_file())
    };
    let trained = directory.join("model");
    (!has_model(directory) && has_model(&trained)).then_some(trained)
}

impl ModelArgs {
    /// Finds the model: in the store, in a directory, or else by its name on a server.
    fn find(&self, context: &Context) -> Result<Found, Failure> {
        let library = context.library()?;
        let bundle = match Bundle::unverified(&library, &self.model) {
            Ok(bundle) => Some(bundle),
            // A server may know it.
            Err(vox_model::bundle::BundleError::Unknown { .. }) if self.backend.is_some() => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(bundle) = &bundle
            && !bundle.directory().is_dir()
        {
            let message = format!("there is no directory {}", bundle.directory().display());
            return Err(Failure::new(Exit::NotFound, message));
        }
        if let Some(bundle) = &bundle
            && let Some(trained) = trained_in(bundle.directory())
        {
            let directory = bundle.directory().display();
            let message = format!("{directory} has a training, and is no model itself");
            let hint = format!("the model is in {}", trained.display());
            return Err(Failure::new(Exit::NotFound, message).hint(hint));
        }
        let (bundle, adapter) = match bundle {
            Some(adapter) if adapter.is_adapter() => {
                let base = base_of(&library, &adapter, self.base.as_deref(), Bundle::unverified)?;
                (Some(base), Some(adapter))
            }
            bundle if self.base.is_none() => (bundle, None),
            _ => {
                let message = format!("`{}` is no adapter, so it changes no model", self.model);
                return Err(Failure::new(Exit::InvalidInput, message).hint("leave out `--base`"));
            }
        };
        let template = match &bundle {
            Some(bundle) => TemplateSource::of_model(bundle.directory())?
                .map(|source| Template::new(&source, crate::record::now() / 1_000_000))
                .transpose()?,
            None => None,
        };
        Ok(Found {
            bundle,
            adapter,
            template,
            name: self.model.clone(),
        })
    }

    /// Asks the backends. What they do ends when `cancel` is cancelled.
    pub(super) fn dispatch(
        &self,
        host: &Host,
        found: &Found,
        cancel: CancelToken,
    ) -> Result<Dispatcher, Failure> {
        let model = Model {
            name: found.name.clone(),
            directory: found.bundle.as_ref().map(absolute),
            adapter: found.adapter.as_ref().map(absolute),
        };
        let options = Options {
            device: self.device.clone(),
            threads: self.threads,
            format: self.quant.map(Into::into),
            context: self.context,
        };
        Ok(Dispatcher::ask(
            host,
            model,
            options,
            self.backend.as_ref(),
            &SystemProbe::new(),
            cancel,
        )?)
    }

    /// Finds the model and asks the backends. None where that was all that was wanted, and was told.
    pub(super) fn open(
        &self,
        context: &Context,
        cancel: CancelToken,
    ) -> Result<Option<Opened>, Failure> {
        let found = self.find(context)?;
        let host = context.host()?;
        let dispatcher = self.dispatch(&host, &found, cancel)?;
        if self.explain {
            let explained = Explained(dispatcher.explanation().clone());
            context.output.show(&explained)?;
            return Ok(None);
        }
        Ok(Some(Opened {
            host,
            found,
            dispatcher,
        }))
    }
}

/// A model that can be loaded.
pub(super) struct Opened {
    pub(super) host: Host,
    pub(super) found: Found,
    pub(super) dispatcher: Dispatcher,
}

/// What was considered.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Explained(Explanation);

impl View for Explained {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for considered in &self.0.considered {
            let mark = match (considered.serves, considered.chosen) {
                (true, true) => paint(GOOD, "chosen  "),
                (true, false) => paint(DIM, "could   "),
                (false, _) => paint(BAD, "cannot  "),
            };
            let device = considered.device.as_deref().unwrap_or("-");
            writeln!(
                out,
                "{mark} {} on {device}: {}",
                paint(LITERAL, plain(considered.plugin.as_str())),
                plain(&considered.reason)
            )?;
            let tier = considered.tier.map(|tier| format!("tier {tier}"));
            let memory = (considered.memory > 0).then(|| {
                let (needed, free) = (bytes(considered.memory), bytes(considered.available));
                format!("needs {needed}, {free} free")
            });
            let facts: Vec<String> = tier.into_iter().chain(memory).collect();
            if !facts.is_empty() {
                writeln!(out, "         {}", paint(DIM, facts.join(", ")))?;
            }
        }
        Ok(())
    }
}
