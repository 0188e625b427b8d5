//! `fuse`: several streams become one.
//!
//! | argument | meaning |
//! |---|---|
//! | `policy` | which chunks belong together: `zip` (the nth of each), `by-time` (time stamps within `tolerance`), `latest` (each new one with the last of the others), `stage` (a plugin decides) |
//! | `tolerance` | how far apart time stamps may be: `20ms`; for `by-time` |
//! | `as` | what they become: `set` (all of them, encoded), `vector` (one hypervector) |
//! | `dimensions` | of the vector: 10000 when left out |
//! | `stage`, `with` | the plugin and its arguments; for `stage` |
//!
//! A **set** is the canonical CBOR of a map from the names of the ports to chunks. A **vector** is the
//! bundle of each chunk's vector bound to the vector of its role, which is the symbol `role/<port>`. The
//! vector of a chunk of modality `vsa/bipolar` is its bytes, that of any other the symbol of its hash. What
//! goes into vectors goes to the port `memory` too, so that `unfuse` can find it again.
//!
//! A **stage** gets every chunk of every stream as it comes, with the attribute `port`, and pushes what it
//! makes of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use vox_contract::{ExtensionPoint, HookPoint, PluginId};
use vox_host::contract::{Attribute, Chunk, ChunkHead, Error, stage, step};
use vox_host::{InstanceOptions, Ports};
use vox_vsa::Hypervector;

use super::set::{ByTime, SET, Set, Zip, decode, encode, merged};
use super::{Place, Trouble, VECTOR, counted, done};
use crate::engine::hooks::Answer;
use crate::plan::{Arguments, Period, Step};
use crate::ports::StepPorts;

/// Dimensions of a vector when the plan says nothing.
const DIMENSIONS: usize = 10_000;

/// The arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FuseArguments {
    /// Which chunks belong together.
    policy: Policy,
    /// How far apart the time stamps of chunks may be that belong together.
    #[serde(default)]
    tolerance: Option<Period>,
    /// What they become.
    #[serde(default, rename = "as")]
    form: Form,
    /// Dimensions of the vector, a multiple of 8.
    #[serde(default)]
    dimensions: Option<usize>,
    /// The plugin that decides.
    #[serde(default)]
    stage: Option<PluginId>,
    /// Its arguments.
    #[serde(default, rename = "with")]
    arguments: Arguments,
}

/// Which chunks belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    Zip,
    ByTime,
    Latest,
    Stage,
}

/// What chunks that belong together become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Form {
    #[default]
    Set,
    Vector,
}

/// The runner.
#[derive(Clone, Debug)]
pub(crate) struct Fuse {
    /// The ports that it reads.
    inputs: Vec<String>,
    joining: Joining,
    form: Shape,
}

#[derive(Clone, Debug)]
enum Joining {
    Zip,
    ByTime(Duration),
    Latest,
    Stage(PluginId, Arguments),
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Set,
    Vector(usize),
}

impl Fuse {
    /// The runner with these arguments.
    pub fn new(arguments: FuseArguments, step: &Step) -> Result<Self, String> {
        let FuseArguments {
            policy,
            tolerance,
            form,
            dimensions,
            stage,
            arguments,
        } = arguments;
        let inputs: Vec<String> = step
            .inputs()
            .filter(|(_, input)| input.path.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        if inputs.len() < 2 {
            return Err("a fusion needs two streams at least, as `inputs`".to_owned());
        }
        if tolerance.is_some() != (policy == Policy::ByTime) {
            return Err("`tolerance` belongs to the policy `by-time`, which needs it".to_owned());
        }
        if stage.is_some() != (policy == Policy::Stage) {
            return Err("`stage` belongs to the policy `stage`, which needs it".to_owned());
        }
        let form = match (form, dimensions) {
            (Form::Set, None) => Shape::Set,
            (Form::Set, Some(_)) => {
                return Err("`dimensions` belongs to `as = \"vector\"`".to_owned());
            }
            (Form::Vector, dimensions) => Shape::Vector(dimensions.unwrap_or(DIMENSIONS)),
        };
        if let Shape::Vector(dimensions) = form {
            if policy == Policy::Stage {
                return Err("what a stage pushes is left as it is: take `as` away".to_owned());
            }
            Hypervector::symbol("", dimensions).map_err(|error| error.to_string())?;
        }
        let joining = match (policy, tolerance, stage) {
            (Policy::ByTime, Some(tolerance), _) => Joining::ByTime(tolerance.0),
            (Policy::Latest, _, _) => Joining::Latest,
            (Policy::Stage, _, Some(stage)) => Joining::Stage(stage, arguments),
            _ => Joining::Zip,
        };
        Ok(Self {
            inputs,
            joining,
            form,
        })
    }

    /// The plugins that it calls.
    pub fn plugins(&self) -> Vec<(&PluginId, ExtensionPoint, Vec<String>)> {
        match &self.joining {
            Joining::Stage(plugin, _) => {
                vec![(plugin, ExtensionPoint::Stage, vec!["stage".to_owned()])]
            }
            Joining::Zip | Joining::ByTime(_) | Joining::Latest => Vec::new(),
        }
    }

    /// Whether the same streams always become the same: not where the order of arrival counts.
    pub fn is_pure(&self) -> bool {
        matches!(self.joining, Joining::Zip | Joining::ByTime(_))
    }

    /// Joins the streams to their end.
    pub fn run(&self, place: &Place<'_>) -> Result<step::Outcome, Trouble> {
        let mut out = Fused {
            place,
            fuse: self,
            count: 0,
            remembered: 0,
        };
        let mut rest = String::new();
        match &self.joining {
            Joining::Zip => {
                let mut zip = Zip {
                    ports: place.ports,
                    names: self.inputs.clone(),
                };
                while let Some(set) = zip.next()? {
                    out.push(set)?;
                }
            }
            Joining::ByTime(tolerance) => {
                let mut joined = ByTime::new(place.ports, self.inputs.clone(), *tolerance);
                while let Some(set) = joined.next()? {
                    out.push(set)?;
                }
                if joined.passed_over > 0 {
                    rest = format!(
                        ", {} found no partner",
                        counted(joined.passed_over, "chunk")
                    );
                }
            }
            Joining::Latest => {
                let mut latest = Set::new();
                for arrival in merged(place.ports, &self.inputs)? {
                    let (port, chunk) = arrival?;
                    latest.insert(port, chunk);
                    if latest.len() == self.inputs.len() {
                        out.push(latest.clone())?;
                    }
                }
            }
            Joining::Stage(plugin, arguments) => {
                let count = self.by_stage(place, plugin, arguments)?;
                return Ok(done(format!(
                    "{} joined by `{plugin}`",
                    counted(count, "chunk")
                )));
            }
        }
        Ok(done(format!("{} fused{rest}", counted(out.count, "set"))))
    }

    /// Has a stage decide; answers how many chunks it was given.
    fn by_stage(
        &self,
        place: &Place<'_>,
        plugin: &PluginId,
        arguments: &Arguments,
    ) -> Result<u64, Trouble> {
        let mut options = InstanceOptions::default();
        options.ports = Arc::new(StageOut(Arc::clone(place.ports)));
        options.cancel = place.cancel.clone();
        options.events = Arc::new(place.reporter.clone());
        let mut instance = place.host.instance(plugin, options)?;
        instance.stage()?.open(&stage::Opening {
            run: place.run.to_owned(),
            step: place.step.to_owned(),
            arguments: Value::Object(arguments.clone()).to_string(),
        })?;
        let mut count = 0;
        for arrival in merged(place.ports, &self.inputs)? {
            let (port, Chunk { mut head, data }) = arrival?;
            head.attributes.push(Attribute {
                key: "port".to_owned(),
                value: port,
            });
            instance.stage()?.process(&head, &data)?;
            count += 1;
        }
        instance.stage()?.finish()?;
        Ok(count)
    }
}

/// Where a fused stream goes.
struct Fused<'a> {
    place: &'a Place<'a>,
    fuse: &'a Fuse,
    /// Sets that were pushed.
    count: u64,
    /// Chunks that were pushed to `memory`.
    remembered: u64,
}

impl Fused<'_> {
    fn push(&mut self, mut set: Set) -> Result<(), Trouble> {
        let Place {
            hooks, step, ports, ..
        } = self.place;
        let sequence = self.count;
        if hooks.watch(&HookPoint::PreFusion) {
            let members: BTreeMap<&String, Value> = set
                .iter()
                .map(|(port, Chunk { head, data })| {
                    let member = json!({
                        "modality": head.modality, "sequence": head.sequence,
                        "timestamp": head.timestamp, "bytes": data.len(),
                    });
                    (port, member)
                })
                .collect();
            let detail = json!({ "sequence": sequence, "inputs": members });
            match hooks.ask(&HookPoint::PreFusion, step, &detail, &encode(&set)?) {
                Answer::Continue | Answer::Drop => {}
                Answer::Replace(bytes) => {
                    set = decode(&bytes).map_err(|trouble| {
                        Trouble::error(format!(
                            "what a hook answered at pre_fusion: {}",
                            trouble.message
                        ))
                    })?;
                }
                Answer::Abort(abort) => return Err(abort.into()),
            }
        }
        let timestamp = set.values().map(|chunk| chunk.head.timestamp).max();
        let mut head = ChunkHead {
            modality: SET.to_owned(),
            sequence,
            timestamp: timestamp.unwrap_or(0),
            attributes: Vec::new(),
        };
        let mut data = match self.fuse.form {
            Shape::Set => encode(&set)?,
            Shape::Vector(dimensions) => {
                let vector = self.vector(&set, dimensions)?;
                head.modality = VECTOR.to_owned();
                let roles: Vec<&str> = set.keys().map(String::as_str).collect();
                head.attributes = vec![
                    attribute("dimensions", dimensions),
                    attribute("roles", roles.join(",")),
                    attribute("remembered", self.remembered),
                ];
                vector.to_bytes()
            }
        };
        if hooks.watch(&HookPoint::PostFusion) {
            let detail = json!({
                "sequence": sequence, "modality": head.modality, "timestamp": head.timestamp,
            });
            match hooks.ask(&HookPoint::PostFusion, step, &detail, &data) {
                Answer::Continue | Answer::Drop => {}
                Answer::Replace(bytes) => data = bytes,
                Answer::Abort(abort) => return Err(abort.into()),
            }
        }
        self.count += 1;
        Ok(ports.push("out", head, &data, None)?)
    }

    /// Binds each chunk's vector to that of its role, and bundles them. What each is goes to
    /// `memory`, where somebody reads that.
    fn vector(&mut self, set: &Set, dimensions: usize) -> Result<Hypervector, Trouble> {
        let failed = |error: vox_vsa::Error| Trouble::error(error.to_string());
        let remember = self
            .place
            .ports
            .outputs()
            .iter()
            .any(|port| port == "memory");
        let mut bound = Vec::with_capacity(set.len());
        for (port, chunk) in set {
            let (item, name) = item(chunk, dimensions).map_err(|error| {
                Trouble::error(format!("the chunk from `{port}` is no vector: {error}"))
            })?;
            if remember {
                let head = ChunkHead {
                    modality: VECTOR.to_owned(),
                    sequence: self.remembered,
                    timestamp: chunk.head.timestamp,
                    attributes: vec![attribute("item", name), attribute("role", port)],
                };
                self.place
                    .ports
                    .push("memory", head, &item.to_bytes(), None)?;
                self.remembered += 1;
            }
            let role = role(port, dimensions).map_err(failed)?;
            bound.push(item.bind(&role).map_err(failed)?);
        }
        Hypervector::bundle(&bound).map_err(failed)
    }
}

/// The vector of a role.
pub(super) fn role(port: &str, dimensions: usize) -> Result<Hypervector, vox_vsa::Error> {
    Hypervector::symbol(&format!("role/{port}"), dimensions)
}

/// The vector of a chunk, and the name by which it is remembered.
fn item(chunk: &Chunk, dimensions: usize) -> Result<(Hypervector, String), vox_vsa::Error> {
    let hash = vox_crypto::hash(&chunk.data).to_hex();
    let vector = if chunk.head.modality == VECTOR {
        let vector = Hypervector::from_bytes(&chunk.data)?;
        if vector.dimensions() != dimensions {
            return Err(vox_vsa::Error::Mismatch {
                left: dimensions,
                right: vector.dimensions(),
            });
        }
        vector
    } else {
        Hypervector::symbol(&format!("{}/{hash}", chunk.head.modality), dimensions)?
    };
    Ok((vector, hash))
}

fn attribute(key: &str, value: impl ToString) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: value.to_string(),
    }
}

/// What a stage that joins pushes goes out of the step.
struct StageOut(Arc<StepPorts>);

impl Ports for StageOut {
    fn push(
        &self,
        port: &str,
        head: ChunkHead,
        data: &[u8],
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        if port != "out" {
            return Err(Error::NotFound(format!(
                "a stage pushes to port `out`, not to `{port}`"
            )));
        }
        self.0.push(port, head, data, timeout)
    }

    fn pull(&self, port: &str, _: Option<Duration>) -> Result<Option<Chunk>, Error> {
        Err(Error::NotFound(format!(
            "a stage has no port `{port}` to pull: its chunks come to `stage.process`"
        )))
    }
}
