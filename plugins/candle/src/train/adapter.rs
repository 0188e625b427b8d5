//! Adapters in the layout of PEFT: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Names of tensors and fields are those of the library peft 0.18; what would change the output and is not
//! built in, such as DoRA, is refused by its field.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::spec::AdapterSpec;
use crate::architecture::fields::{Fields, read_object};
use crate::architecture::most;
use crate::error::{Error, Result};
use crate::weights::Weights;

/// The file of the settings.
pub const CONFIG: &str = "adapter_config.json";

/// The file of the weights.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// How the name of every A ends.
const LOWERING: &str = ".lora_A.weight";

/// The names of A and B of a linear map.
pub fn names(linear: &str) -> [String; 2] {
    ["A", "B"].map(|half| format!("base_model.model.{linear}.lora_{half}.weight"))
}

/// Fields that change the output, with the values under which they do not.
const PLAIN: [(&str, Value); 12] = [
    ("bias", Value::Null),
    ("fan_in_fan_out", Value::Bool(false)),
    ("layers_to_transform", Value::Null),
    ("layers_pattern", Value::Null),
    ("layer_replication", Value::Null),
    ("lora_bias", Value::Bool(false)),
    ("modules_to_save", Value::Null),
    ("target_parameters", Value::Null),
    ("trainable_token_indices", Value::Null),
    ("use_dora", Value::Bool(false)),
    ("use_qalora", Value::Bool(false)),
    ("exclude_modules", Value::Null),
];

/// Reads the settings of an adapter in a directory.
///
/// # Errors
///
/// [`Error::Io`] and [`Error::Format`] for a file that cannot be read; [`Error::Field`] for a field that is
/// missing, or asks for what is not built in.
pub fn read_config(directory: &Path) -> Result<AdapterSpec> {
    let path = directory.join(CONFIG);
    let object = read_object(&path)?;
    let fields = Fields::new(&path, &object);
    if fields.text("peft_type")? != Some("LORA") {
        return Err(fields.fault("peft_type", "adapters of the type LORA alone are built in"));
    }
    check_plain(&fields, &object)?;
    let spec = AdapterSpec {
        rank: fields.required("r", most::RANK)?,
        alpha: fields.required_positive("lora_alpha")? as f32,
        dropout: fields.number("lora_dropout")?.unwrap_or(0.0) as f32,
        rank_stabilised: fields.flag("use_rslora")?.unwrap_or(false),
        targets: targets(&fields, &object)?,
    };
    spec.check()?;
    Ok(spec)
}

/// Maps the weights of an adapter in a directory, which are `wanted` tensors of these shapes and no others.
///
/// # Errors
///
/// [`Error::Io`] and [`Error::Format`] for a file that cannot be read; [`Error::MissingTensor`] and
/// [`Error::Format`] for the first tensor that is missing, of another shape, or not wanted.
pub fn open<'a>(
    directory: &Path,
    wanted: impl IntoIterator<Item = (&'a str, [usize; 2])>,
) -> Result<Weights> {
    let path = directory.join(WEIGHTS);
    let weights = Weights::open_file(&path)?;
    let mut known = BTreeSet::new();
    for (name, shape) in wanted {
        let found = &weights.info(name)?.shape;
        if *found != shape {
            let why = format!(
                "the tensor `{name}` is of shape {found:?}, and by {CONFIG} it should be {shape:?}"
            );
            return Err(Error::format(&path)(why));
        }
        known.insert(name);
    }
    if let Some(name) = weights.names().find(|name| !known.contains(name)) {
        let why = format!("the tensor `{name}` belongs to no layer that has an adapter");
        return Err(Error::format(&path)(why));
    }
    Ok(weights)
}

fn check_plain(fields: &Fields<'_>, object: &Map<String, Value>) -> Result<()> {
    for (field, plain) in PLAIN {
        let value = object.get(field).unwrap_or(&plain);
        let is_empty = value.as_array().is_some_and(Vec::is_empty);
        let is_none = field == "bias" && value == "none";
        if *value != plain && !value.is_null() && !is_empty && !is_none {
            return Err(fields.fault(field, format!("adapters with {value} are not built in")));
        }
    }
    for field in ["rank_pattern", "alpha_pattern"] {
        let pattern = object.get(field).and_then(Value::as_object);
        if pattern.is_some_and(|pattern| !pattern.is_empty()) {
            return Err(fields.fault(
                field,
                "one rank and one alpha for all layers alone are built in",
            ));
        }
    }
    Ok(())
}

fn targets(fields: &Fields<'_>, object: &Map<String, Value>) -> Result<Vec<String>> {
    let refuse = || {
        fields.fault(
            "target_modules",
            "it is no list of names, and not `all-linear`",
        )
    };
    match object.get("target_modules") {
        Some(Value::String(all)) if all == AdapterSpec::ALL => Ok(vec![all.clone()]),
        Some(Value::Array(names)) => names
            .iter()
            .map(|name| name.as_str().map(str::to_owned).ok_or_else(refuse))
            .collect(),
        _ => Err(refuse()),
    }
}

/// The settings as the file has them. `modules` are the last names of the linear maps that have an adapter. What the
/// base model is called is left open: a plugin has its directory alone, which may be another one the next time.
pub fn config(spec: &AdapterSpec, modules: &[&str]) -> Value {
    json!({
        "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": null, "bias": "none",
        "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true,
        "layers_pattern": null, "layers_to_transform": null, "lora_alpha": spec.alpha,
        "lora_dropout": spec.dropout, "modules_to_save": null, "peft_type": "LORA", "r": spec.rank,
        "rank_pattern": {}, "revision": null, "target_modules": modules, "task_type": "CAUSAL_LM",
        "use_dora": false, "use_rslora": spec.rank_stabilised,
    })
}

/// Refuses a rank that is not that of the adapter's tensors, before any are made of that rank.
///
/// # Errors
///
/// [`Error::Io`] and [`Error::Format`] for weights that cannot be read, or are of another rank.
pub fn check_rank(directory: &Path, spec: &AdapterSpec) -> Result<()> {
    let path = directory.join(WEIGHTS);
    let weights = Weights::open_file(&path)?;
    for name in weights.names().filter(|name| name.ends_with(LOWERING)) {
        let shape = &weights.info(name)?.shape;
        if !matches!(shape[..], [rank, inputs] if rank == spec.rank && inputs > 0) {
            let why = format!(
                "the tensor `{name}` is of shape {shape:?}, and by {CONFIG} its first size should be {}",
                spec.rank
            );
            return Err(Error::format(&path)(why));
        }
    }
    Ok(())
}

/// Whether two settings make adapters of the same tensors.
///
/// # Errors
///
/// [`Error::Field`] for the first that differs.
pub fn check_same(directory: &Path, found: &AdapterSpec, wanted: &AdapterSpec) -> Result<()> {
    let differs = |field: &str, why: String| Error::Field {
        path: directory.join(CONFIG),
        field: field.to_owned(),
        why,
    };
    if found.rank != wanted.rank {
        let why = format!(
            "it is {}, and the training is of rank {}",
            found.rank, wanted.rank
        );
        return Err(differs("r", why));
    }
    if found.scale() != wanted.scale() {
        let why = format!(
            "the adapter is scaled by {}, and the training's by {}",
            found.scale(),
            wanted.scale()
        );
        return Err(differs("lora_alpha", why));
    }
    Ok(())
}
