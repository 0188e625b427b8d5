//! From documents to a configuration, table by table, and the rules that hold between them.

use std::path::Path;

use vox_contract::document::Table;

use super::layers::Layers;
use super::{
    Cadence, Data, Device, Machine, Method, MethodKind, Model, Optimisation, Quantisation, Scratch,
    TrainConfig, is_path,
};
use crate::config::device::DeviceError;
use crate::data::{Format, Overlong, Packing};
use crate::schedule::Decay;
use crate::scratch::LEAST_VOCABULARY;

pub(super) const KEYS: &[&str] = &[
    "output",
    "model",
    "scratch",
    "data",
    "method",
    "optimisation",
    "cadence",
    "machine",
];
pub(super) const MODEL: &[&str] = &["base"];
pub(super) const SCRATCH: &[&str] = &[
    "layers",
    "hidden",
    "heads",
    "kv-heads",
    "intermediate",
    "context",
    "rope-theta",
    "tie-embeddings",
    "tokenizer",
    "vocabulary",
];
pub(super) const DATA: &[&str] = &[
    "files",
    "format",
    "context",
    "packing",
    "overlong",
    "skip-invalid",
    "evaluation-fraction",
    "evaluation-count",
    "evaluation-files",
];
pub(super) const METHOD: &[&str] = &[
    "kind",
    "from",
    "rank",
    "alpha",
    "dropout",
    "rslora",
    "targets",
    "quantisation",
];
pub(super) const OPTIMISATION: &[&str] = &[
    "steps",
    "epochs",
    "batch-rows",
    "accumulation",
    "learning-rate",
    "schedule",
    "minimum-rate",
    "warmup-steps",
    "warmup-fraction",
    "clip",
    "weight-decay",
    "betas",
    "epsilon",
    "seed",
];
pub(super) const CADENCE: &[&str] = &[
    "evaluate-every",
    "checkpoint-every",
    "keep-last",
    "keep-best",
];
pub(super) const MACHINE: &[&str] = &["device", "threads", "gradient-checkpointing"];

/// The defaults that are no type's own; the type's attributes name them too.
pub(super) fn rope_theta() -> f64 {
    10_000.0
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn vocabulary() -> u32 {
    4096
}

pub(super) fn context() -> u32 {
    512
}

/// The configuration in two documents; none when something that is needed is missing, which is
/// then noted.
pub(super) fn config<'o, 'b>(
    over: &Table<'_, 'o>,
    base: &Table<'_, 'b>,
    directory: &Path,
) -> Option<TrainConfig> {
    let section = |key: &'static str, known: &'static [&'static str]| {
        Layers::new(over.table(key, known), base.table(key, known), directory)
    };
    let root = Root {
        over,
        base,
        directory,
    };
    let data_table = section("data", DATA);
    let method_table = section("method", METHOD);
    let optimisation_table = section("optimisation", OPTIMISATION);
    let cadence_table = section("cadence", CADENCE);
    let output = root.output();
    let data = data(&data_table, &root);
    let start = root.start();
    let model = match start {
        Some("model") => model(&section("model", MODEL)),
        _ => None,
    };
    let scratch_table = section("scratch", SCRATCH);
    let scratch = match start {
        Some("scratch") => scratch(&scratch_table),
        _ => None,
    };
    let method = method(&method_table, start == Some("scratch"));
    let optimisation = optimisation(&optimisation_table);
    let cadence = cadence(&cadence_table);
    let machine = machine(&section("machine", MACHINE));
    // All was read by now, so that all that is wrong was told.
    let config = TrainConfig {
        output: output?,
        model,
        scratch,
        data: data?,
        method,
        optimisation,
        cadence,
        machine,
    };
    config.start()?;
    together(&config, &scratch_table, &optimisation_table, &cadence_table);
    Some(config)
}

/// The documents themselves.
struct Root<'r, 't, 'o, 'b> {
    over: &'r Table<'t, 'o>,
    base: &'r Table<'t, 'b>,
    directory: &'r Path,
}

impl Root<'_, '_, '_, '_> {
    fn missing(&self, message: &str, hint: &str) {
        self.base.note(0..0, message, hint);
    }

    fn output(&self) -> Option<std::path::PathBuf> {
        if self.over.has("output") {
            return self.over.sentence("output").map(Into::into);
        }
        let output = self.base.sentence("output");
        let example = "output = \"runs/first\"";
        let output = self.base.required("output", output, example)?;
        Some(self.directory.join(output))
    }

    /// `model` or `scratch`, whichever the training begins with.
    fn start(&self) -> Option<&'static str> {
        for table in [self.over, self.base] {
            match (table.has("model"), table.has("scratch")) {
                (true, true) => {
                    let message = "`model` and `scratch` exclude one another";
                    table.note(table.key_span("scratch"), message, "remove one of them");
                    return Some("model");
                }
                (true, false) => return Some("model"),
                (false, true) => return Some("scratch"),
                (false, false) => {}
            }
        }
        self.missing(
            "there is nothing to train: neither `model` nor `scratch` is there",
            "add `[model]` with `base = \"smollm2-135m\"`, or `[scratch]` with the shape of a new one",
        );
        None
    }
}

/// Notes what is needed and nowhere written.
fn needed<T>(table: &Layers<'_, '_, '_>, key: &str, value: Option<T>, example: &str) -> Option<T> {
    if value.is_none() && !table.has(key) {
        table.note(
            key,
            format!("`{key}` is missing"),
            format!("add `{example}`"),
        );
    }
    value
}

/// The name of a bundle, or its directory, which begins where paths do.
fn bundle(table: &Layers<'_, '_, '_>, key: &str) -> Option<String> {
    let name = table.text(key)?;
    if is_path(&name) {
        Some(table.path(key)?.to_string_lossy().into_owned())
    } else {
        Some(name)
    }
}

fn model(table: &Layers<'_, '_, '_>) -> Option<Model> {
    let example = "base = \"smollm2-135m\"";
    let base = needed(table, "base", bundle(table, "base"), example)?;
    Some(Model { base })
}

fn scratch(table: &Layers<'_, '_, '_>) -> Option<Scratch> {
    let tokenizer = bundle(table, "tokenizer");
    if tokenizer.is_some() && table.has("vocabulary") {
        let hint = "remove it, or `tokenizer`";
        table.note(
            "vocabulary",
            "a tokenizer that there is has its vocabulary",
            hint,
        );
    }
    let size = |key: &str, example: &str| needed(table, key, table.integer(key, 1), example);
    let (layers, hidden, heads) = (
        size("layers", "layers = 4"),
        size("hidden", "hidden = 256"),
        size("heads", "heads = 4"),
    );
    Some(Scratch {
        kv_heads: table.integer("kv-heads", 1),
        intermediate: table.integer("intermediate", 1),
        context: table.integer("context", 2),
        rope_theta: table
            .number("rope-theta", |_| true, "")
            .unwrap_or_else(rope_theta),
        tie_embeddings: table.flag("tie-embeddings").unwrap_or_else(yes),
        vocabulary: table
            .integer("vocabulary", LEAST_VOCABULARY)
            .unwrap_or_else(vocabulary),
        tokenizer,
        layers: layers?,
        hidden: hidden?,
        heads: heads?,
    })
}

fn data(table: &Layers<'_, '_, '_>, root: &Root<'_, '_, '_, '_>) -> Option<Data> {
    let files = table.paths("files");
    if files.is_empty() {
        let (message, hint) = (
            "`files` is missing in `data`",
            "add `files = [\"data.jsonl\"]`",
        );
        if table.is_there() {
            table.note("files", message, hint);
        } else {
            root.missing(
                "there is no `[data]`",
                "add `[data]` with `files = [\"data.jsonl\"]`",
            );
        }
        return None;
    }
    let formats = [
        ("auto", Format::Auto),
        ("plain", Format::Plain),
        ("text", Format::Text),
        ("completion", Format::Completion),
        ("messages", Format::Messages),
    ];
    let packings = [("packed", Packing::Packed), ("padded", Packing::Padded)];
    let overlongs = [("refuse", Overlong::Refuse), ("cut", Overlong::Cut)];
    let keys = [
        "evaluation-fraction",
        "evaluation-count",
        "evaluation-files",
    ];
    let evaluation = table.one_of(&keys);
    let part = |part: f64| part > 0.0 && part < 1.0;
    Some(Data {
        files,
        format: table.word("format", &formats).unwrap_or_default(),
        context: table.integer("context", 2).unwrap_or_else(context),
        packing: table.word("packing", &packings).unwrap_or_default(),
        overlong: table.word("overlong", &overlongs).unwrap_or_default(),
        skip_invalid: table.flag("skip-invalid").unwrap_or_default(),
        evaluation_fraction: (evaluation == Some(keys[0]))
            .then(|| table.number(keys[0], part, "more than 0 and less than 1"))
            .flatten(),
        evaluation_count: (evaluation == Some(keys[1]))
            .then(|| table.integer(keys[1], 1))
            .flatten(),
        evaluation_files: if evaluation == Some(keys[2]) {
            table.paths(keys[2])
        } else {
            Vec::new()
        },
    })
}

fn method(table: &Layers<'_, '_, '_>, is_new: bool) -> Method {
    let kinds = [
        ("full", MethodKind::Full),
        ("lora", MethodKind::Lora),
        ("qlora", MethodKind::Qlora),
    ];
    let quantisations = [
        ("nf4", Quantisation::Nf4),
        ("q8_0", Quantisation::Q8_0),
        ("q4_0", Quantisation::Q4_0),
    ];
    let kind = table.word("kind", &kinds);
    let method = Method {
        kind: kind.unwrap_or_default(),
        from: bundle(table, "from"),
        rank: table.integer("rank", 1),
        alpha: table.number("alpha", |alpha| alpha > 0.0, "more than 0"),
        dropout: table.number(
            "dropout",
            |part| (0.0..1.0).contains(&part),
            "0 or more and less than 1",
        ),
        rslora: table.flag("rslora"),
        targets: table.texts("targets"),
        quantisation: table.word("quantisation", &quantisations),
    };
    // A kind that is no word was told already.
    if kind.is_none() && table.has("kind") {
        return method;
    }
    let (useless, of): (&[&str], _) = match method.kind {
        MethodKind::Full => (
            &METHOD[1..],
            "an adapter: write `kind = \"lora\"`, or remove it",
        ),
        MethodKind::Lora => (
            &["quantisation"],
            "`qlora`: write `kind = \"qlora\"`, or remove it",
        ),
        MethodKind::Qlora => (&[], ""),
    };
    for key in useless.iter().filter(|key| table.has(key)) {
        let message = format!("`{key}` has no effect here");
        table.note(key, message, format!("it is of {of}"));
    }
    if method.kind != MethodKind::Full && method.from.is_some() {
        let own = ["rank", "alpha", "dropout", "rslora", "targets"];
        for key in own.iter().filter(|key| table.has(key)) {
            let message = format!("`{key}` has no effect here");
            table.note(key, message, "the adapter in `from` has its own: remove it");
        }
    }
    if method.adapter().is_some() && table.is_empty("targets") {
        let hint = "name layers, such as `q_proj`, or `all-linear`, or leave it out";
        table.note("targets", "`targets` names no layers", hint);
    }
    if is_new && method.kind != MethodKind::Full {
        let message = "an adapter changes a model that was trained, and this one is new";
        table.note(
            "kind",
            message,
            "write `kind = \"full\"`, or a `model` in place of `scratch`",
        );
    }
    method
}

fn optimisation(table: &Layers<'_, '_, '_>) -> Optimisation {
    let usual = Optimisation::default();
    let decays = [
        ("constant", Decay::Constant),
        ("linear", Decay::Linear),
        ("cosine", Decay::Cosine),
    ];
    let length = table.one_of(&["steps", "epochs"]);
    let warmup = table.one_of(&["warmup-steps", "warmup-fraction"]);
    let not_negative = |number: f64| number >= 0.0;
    let positive = |number: f64| number > 0.0;
    let part = |part: f64| (0.0..1.0).contains(&part);
    let betas = table.pair("betas");
    if betas.is_some_and(|betas| !betas.into_iter().all(part)) {
        table.note(
            "betas",
            "`betas` lie outside of what can be",
            "write 0 or more and less than 1",
        );
    }
    Optimisation {
        steps: (length == Some("steps"))
            .then(|| table.integer("steps", 1))
            .flatten(),
        epochs: (length == Some("epochs"))
            .then(|| table.number("epochs", positive, "more than 0"))
            .flatten(),
        batch_rows: table.integer("batch-rows", 1).unwrap_or(usual.batch_rows),
        accumulation: table
            .integer("accumulation", 1)
            .unwrap_or(usual.accumulation),
        learning_rate: table.number("learning-rate", positive, "more than 0, such as 2e-4"),
        schedule: table.word("schedule", &decays).unwrap_or(usual.schedule),
        minimum_rate: table
            .number("minimum-rate", not_negative, "0 or more")
            .unwrap_or(usual.minimum_rate),
        warmup_steps: (warmup == Some("warmup-steps"))
            .then(|| table.integer("warmup-steps", 0))
            .flatten(),
        warmup_fraction: (warmup == Some("warmup-fraction"))
            .then(|| table.number("warmup-fraction", part, "0 or more and less than 1"))
            .flatten(),
        clip: table
            .number("clip", not_negative, "0 or more")
            .unwrap_or(usual.clip),
        weight_decay: table
            .number("weight-decay", not_negative, "0 or more")
            .unwrap_or(usual.weight_decay),
        betas: betas.unwrap_or(usual.betas),
        epsilon: table
            .number("epsilon", positive, "more than 0")
            .unwrap_or(usual.epsilon),
        seed: table.integer("seed", 0).unwrap_or(usual.seed),
    }
}

fn cadence(table: &Layers<'_, '_, '_>) -> Cadence {
    let usual = Cadence::default();
    Cadence {
        evaluate_every: table
            .integer("evaluate-every", 1)
            .unwrap_or(usual.evaluate_every),
        checkpoint_every: table
            .integer("checkpoint-every", 1)
            .unwrap_or(usual.checkpoint_every),
        keep_last: table.integer("keep-last", 1).unwrap_or(usual.keep_last),
        keep_best: table.flag("keep-best").unwrap_or(usual.keep_best),
    }
}

fn machine(table: &Layers<'_, '_, '_>) -> Machine {
    let device = table.text("device").map(|text| text.parse::<Device>());
    if let Some(Err(error)) = &device {
        table.note("device", error.to_string(), DeviceError::HINT);
    }
    Machine {
        device: device.and_then(Result::ok).unwrap_or_default(),
        threads: table.integer("threads", 1),
        gradient_checkpointing: table.flag("gradient-checkpointing").unwrap_or_default(),
    }
}

/// Notes what does not fit together.
fn together(
    config: &TrainConfig,
    scratch: &Layers<'_, '_, '_>,
    optimisation: &Layers<'_, '_, '_>,
    cadence: &Layers<'_, '_, '_>,
) {
    let faults = config
        .dimensions()
        .iter()
        .flat_map(crate::scratch::Dimensions::faults)
        .collect::<Vec<_>>();
    for (key, message, hint) in faults {
        // A size below what can be was told when it was read.
        if !message.ends_with("cannot be 0") {
            scratch.note(key, message, hint);
        }
    }
    if let Some(context) = config.scratch.as_ref().and_then(|scratch| scratch.context)
        && context < config.data.context
    {
        let message = format!(
            "the model's context of {context} is shorter than the data's of {}",
            config.data.context
        );
        scratch.note(
            "context",
            message,
            "lower `context` in `data`, or raise this",
        );
    }
    let rate = config.learning_rate();
    if rate > 0.0 && config.optimisation.minimum_rate > rate {
        let message = format!("`minimum-rate` is above the learning rate of {rate}");
        optimisation.note("minimum-rate", message, "write less");
    }
    if let (Some(steps), Some(warmup)) =
        (config.optimisation.steps, config.optimisation.warmup_steps)
        && warmup > steps
    {
        let message = format!("a warm-up of {warmup} steps does not fit into {steps}");
        optimisation.note("warmup-steps", message, "write less");
    }
    if !config.data.evaluates() {
        for key in ["evaluate-every", "keep-best"]
            .iter()
            .filter(|key| cadence.has(key))
        {
            let message = format!("`{key}` needs something to evaluate on");
            let hint = "add `evaluation-fraction = 0.05` to `data`, or `evaluation-files`";
            cadence.note(key, message, hint);
        }
    }
}
