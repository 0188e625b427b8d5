//! Finds the plugins that a plan names, and checks what it says of them.
//!
//! All of it happens before the first step, so that a plan either can be run or is refused with
//! every place at which it cannot.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Value;
use vox_contract::{
    Carrier, ExtensionPoint, Finding, Modality, PluginId, RunnerName, RunnerPorts, StageEntry,
};
use vox_host::hooks::HookSource;
use vox_host::registry::RegistryError;
use vox_host::{Host, InstanceOptions};

use super::arguments::{ArgumentsSchema, PathPart};
use super::built_in::{self, BuiltIn};
use super::facts::Facts;
use super::results::matching;
use crate::error::Error;
use crate::machine::Machine;
use crate::plan::{Arguments, Part, Plan, Step, near};
use crate::ports::SHORTEST_SECRET;
use crate::schedule::Amount;

/// What a plan is prepared with.
#[derive(Clone)]
#[non_exhaustive]
pub struct Surroundings {
    /// The values of secrets, by the name of their variable.
    pub secrets: BTreeMap<String, String>,
    /// What the steps share.
    pub machine: Machine,
    /// Where the steps work, if that is known: then files that they read have to be there.
    pub directory: Option<PathBuf>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            secrets: BTreeMap::new(),
            machine: Machine::detect(),
            directory: None,
        }
    }
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.secrets.keys().collect();
        f.debug_struct("Surroundings")
            .field("secrets", &names)
            .field("machine", &self.machine)
            .field("directory", &self.directory)
            .finish()
    }
}

/// The plugins of a plan.
#[derive(Debug)]
pub(crate) struct Cast {
    /// For each step, what carries it out.
    pub runners: Vec<Runner>,
    /// Whether each step reads nothing but what the plan gives it, as far as can be known.
    pub pure: Vec<bool>,
    pub hooks: Vec<HookSource>,
    /// What stages say of themselves.
    pub stages: HashMap<PluginId, Option<StageEntry>>,
    pub facts: Facts,
    pub surroundings: Surroundings,
}

/// What carries a step out.
#[derive(Clone, Debug)]
pub(crate) enum Runner {
    /// A plugin's runner, with these arguments.
    Plugin {
        plugin: PluginId,
        runner: RunnerName,
        arguments: Arguments,
        /// Whether its steps inherit variables besides those that are declared. Those are in no key, so what
        /// may be cached without the plan's word has to do without.
        inherits: bool,
    },
    /// Vox itself.
    BuiltIn(BuiltIn),
}

impl Runner {
    /// The plugin, where it is one.
    pub fn plugin(&self) -> Option<&PluginId> {
        match self {
            Self::Plugin { plugin, .. } => Some(plugin),
            Self::BuiltIn(_) => None,
        }
    }
}

impl Cast {
    /// Finds every plugin of `plan`.
    ///
    /// # Errors
    ///
    /// [`Error::Unresolved`] when one cannot be found or used, else [`Error::Plan`] when what the
    /// plan says does not fit.
    pub fn find(host: &Host, plan: &Plan, surroundings: Surroundings) -> Result<Self, Error> {
        let mut casting = Casting {
            host,
            plan,
            surroundings: &surroundings,
            runners: HashMap::new(),
            stages: HashMap::new(),
            facts: Facts::new(host),
            unresolved: Vec::new(),
            misfits: Vec::new(),
        };
        let runners = (0..plan.steps.len())
            .map(|index| casting.step(index))
            .collect::<Vec<_>>();
        let hooks = (0..plan.hooks.len())
            .map(|index| casting.hook(index))
            .collect::<Vec<_>>();
        casting.streams();
        casting.room();
        let Casting {
            unresolved,
            mut misfits,
            stages,
            facts,
            ..
        } = casting;
        if !unresolved.is_empty() {
            misfits.extend(unresolved);
            return Err(Error::Unresolved(plan.refuse(misfits)));
        }
        let runners: Option<Vec<(Runner, bool)>> = runners.into_iter().collect();
        match (runners, hooks.into_iter().collect()) {
            (Some(runners), Some(hooks)) if misfits.is_empty() => {
                let (runners, pure) = runners.into_iter().unzip();
                Ok(Self {
                    runners,
                    pure,
                    hooks,
                    stages,
                    facts,
                    surroundings,
                })
            }
            _ => Err(Error::Plan(plan.refuse(misfits))),
        }
    }
}

struct Casting<'a> {
    host: &'a Host,
    plan: &'a Plan,
    surroundings: &'a Surroundings,
    /// What is known of each runner that a step has named; none for one that cannot be used.
    runners: HashMap<(PluginId, RunnerName), Option<Known>>,
    stages: HashMap<PluginId, Option<StageEntry>>,
    facts: Facts,
    /// Plugins that are not there.
    unresolved: Vec<Finding>,
    /// What does not fit.
    misfits: Vec<Finding>,
}

/// A runner that a plugin serves.
struct Known {
    schema: ArgumentsSchema,
    pure: bool,
    inherits: bool,
}

impl<'a> Casting<'a> {
    fn step(&mut self, index: usize) -> Option<(Runner, bool)> {
        let plan = self.plan;
        let step = &plan.steps[index];
        let place = plan.way_to(index);
        for (port, input) in step.inputs() {
            for (at, transform) in input.through.iter().enumerate() {
                let through = ["inputs", port, "through"].map(Part::from);
                let way = place
                    .into_iter()
                    .chain(through)
                    .chain([at.into(), "stage".into()]);
                self.stage(&transform.stage, way);
            }
        }
        if let Some(directory) = &self.surroundings.directory {
            for (name, input) in step.inputs() {
                if let Some(path) = &input.path
                    && let Err(fault) = matching(directory, path)
                {
                    let inputs = ["inputs", name, "path"].map(Part::from);
                    let way = place.into_iter().chain(inputs);
                    let hint =
                        "a file that a step makes is one of its `outputs`, and read `from` it";
                    let message = format!("{fault}, and no step makes it");
                    self.misfits
                        .push(plan.finding(way, message, Some(hint.into())));
                }
            }
        }
        for (at, name) in step.secrets.iter().enumerate() {
            if !self.surroundings.secrets.contains_key(name) {
                let way = place.into_iter().chain(["secrets".into(), at.into()]);
                let message = format!("the secret `{}` is not set", name.escape_debug());
                let hint = format!("set the variable before the run: `export {name}=…`");
                self.misfits.push(plan.finding(way, message, Some(hint)));
            } else if self.surroundings.secrets[name].trim().len() < SHORTEST_SECRET {
                let way = place.into_iter().chain(["secrets".into(), at.into()]);
                let name = name.escape_debug();
                let message = format!("the secret `{name}` is too short to be masked");
                let hint = format!("one has {SHORTEST_SECRET} letters at least");
                self.misfits.push(plan.finding(way, message, Some(hint)));
            }
        }
        let (runner, pure) = match step.uses.as_str() {
            "plugin" => self.named_plugin(index, step)?,
            name if step.uses.is_built_in() => {
                let built_in = self.built_in(index, step, name)?;
                let pure = built_in.is_pure();
                (Runner::BuiltIn(built_in), pure)
            }
            _ => self.plugin_runner(index, step)?,
        };
        if step.cache == Some(true) && !pure && step.inputs.is_none() {
            let way = place.into_iter().chain(["cache".into()]);
            let message = format!(
                "the runner `{}` may read anything, and the step does not say what it reads",
                step.uses
            );
            let hint = "name what it reads in `inputs`; `inputs = {}` says that it reads nothing";
            self.misfits
                .push(plan.finding(way, message, Some(hint.into())));
        }
        Some((runner, pure))
    }

    /// A runner by its own name.
    fn plugin_runner(&mut self, index: usize, step: &'a Step) -> Option<(Runner, bool)> {
        let place = self.plan.way_to(index).into_iter();
        let plugin = match self.host.registry().runner(step.uses.as_str()) {
            Ok(plugin) => plugin.id().clone(),
            Err(error) => {
                let hint = match vox_contract::nearest(step.uses.as_str(), RunnerName::BUILT_IN) {
                    Some(near) => format!("did you mean `{near}`? {}", error.hint()),
                    None => error.hint(),
                };
                let way = place.chain(["uses".into()]);
                let finding = self.plan.finding(way, error.to_string(), Some(hint));
                // A plan that names it a thousand times is told so once.
                if !self
                    .unresolved
                    .iter()
                    .any(|other| other.message == finding.message && other.hint == finding.hint)
                {
                    self.unresolved.push(finding);
                }
                return None;
            }
        };
        let arguments = step.arguments.clone();
        self.runner(index, plugin, step.uses.clone(), arguments, &["with"])
    }

    /// `uses = "plugin"`: any plugin that exports `step`, by its id.
    fn named_plugin(&mut self, index: usize, step: &'a Step) -> Option<(Runner, bool)> {
        let built_in::PluginArguments {
            id,
            runner,
            arguments,
        } = self.decoded(index, step)?;
        let place = self.plan.way_to(index).into_iter();
        let way = place.clone().chain(["with".into(), "id".into()]);
        self.plugin(&id, ExtensionPoint::Step, way)?;
        let manifest = &self.host.plugin(&id).ok()?.manifest;
        let runners = &manifest.provides.runners;
        let runner = match (runner, runners.as_slice()) {
            (None, [only]) => only.clone(),
            (Some(runner), _) if runners.contains(&runner) => runner,
            (runner, _) => {
                let message = match runner {
                    Some(runner) => format!("plugin `{id}` has no runner `{runner}`"),
                    None => format!("plugin `{id}` has several runners"),
                };
                let known: Vec<&str> = runners.iter().map(RunnerName::as_str).collect();
                let hint = format!("write `runner = …`; it has {}", known.join(", "));
                let way = place.chain(["with".into(), "runner".into()]);
                self.misfits
                    .push(self.plan.finding(way, message, Some(hint)));
                return None;
            }
        };
        self.runner(index, id, runner, arguments, &["with", "with"])
    }

    /// Checks the arguments of a plugin's runner, which stand at `at` in the step.
    fn runner(
        &mut self,
        index: usize,
        plugin: PluginId,
        runner: RunnerName,
        arguments: Arguments,
        at: &[&'static str],
    ) -> Option<(Runner, bool)> {
        let seat = (plugin, runner);
        if !self.runners.contains_key(&seat) {
            let known = self.known(index, &seat);
            self.runners.insert(seat.clone(), known);
        }
        let known = self.runners.get(&seat)?.as_ref()?;
        let (plugin, runner) = seat;
        for fault in known.schema.faults(&arguments) {
            let within = fault.path.iter().map(|part| match part {
                PathPart::Key(key) => Part::from(key.as_str()),
                PathPart::Index(index) => Part::from(*index),
            });
            let place = self.plan.way_to(index).into_iter();
            let way = place
                .chain(at.iter().copied().map(Part::from))
                .chain(within);
            let message = format!("runner `{runner}`: {}", fault.message);
            self.misfits
                .push(self.plan.finding(way, message, fault.hint));
        }
        let runner = Runner::Plugin {
            plugin,
            runner,
            arguments,
            inherits: known.inherits,
        };
        Some((runner, known.pure))
    }

    /// Asks a runner for the schema of its arguments. What is wrong with it is told once, at the
    /// first step that names it.
    fn known(&mut self, index: usize, (plugin, name): &(PluginId, RunnerName)) -> Option<Known> {
        let schema = self
            .host
            .instance(plugin, InstanceOptions::default())
            .map_err(|error| error.to_string())
            .and_then(|mut instance| {
                self.facts.learn(&instance);
                instance
                    .step()
                    .and_then(|mut step| step.arguments_schema(name.as_str()))
                    .map_err(|error| error.to_string())
                    .map(|text| (text, instance.carrier_kind()))
            })
            .and_then(|(text, carrier)| match ArgumentsSchema::new(&text) {
                Ok(schema) => Ok((schema, carrier)),
                Err(fault) => Err(format!(
                    "plugin `{plugin}` answers an unusable schema: {fault}"
                )),
            });
        match schema {
            Ok((schema, carrier)) => Some(Known {
                schema,
                pure: carrier == Carrier::Component && super::facts::is_pure(self.host, plugin),
                inherits: carrier == Carrier::Native
                    && self.host.plugin(plugin).is_ok_and(|plugin| {
                        let declared = &plugin.manifest.provides.declared_environment;
                        !declared.contains(name)
                    }),
            }),
            Err(fault) => {
                let place = self.plan.way_to(index).into_iter().chain(["uses".into()]);
                let message = format!("runner `{name}` cannot be used: {fault}");
                let hint = Some(format!("`vox plugin info {plugin}` shows the plugin"));
                self.unresolved
                    .push(self.plan.finding(place, message, hint));
                None
            }
        }
    }

    fn built_in(&mut self, index: usize, step: &'a Step, name: &str) -> Option<BuiltIn> {
        let place = self.plan.way_to(index).into_iter();
        let made = match name {
            "fuse" => built_in::Fuse::new(self.decoded(index, step)?, step).map(BuiltIn::Fuse),
            "unfuse" => {
                built_in::Unfuse::new(self.decoded(index, step)?, step).map(BuiltIn::Unfuse)
            }
            "read" => built_in::Read::new(self.decoded(index, step)?, step).map(BuiltIn::Read),
            _ => built_in::Troupe::new(self.decoded(index, step)?, step).map(BuiltIn::Agent),
        };
        let built_in = match made {
            Ok(built_in) => built_in,
            Err(message) => {
                let way = place.chain(["with".into()]);
                self.misfits.push(self.plan.finding(way, message, None));
                return None;
            }
        };
        for (plugin, point, at) in built_in.plugins() {
            let way = place.clone().chain(["with".into()]);
            let way = way.chain(at.iter().map(|part| Part::from(part.as_str())));
            if point == ExtensionPoint::Stage {
                self.stage(plugin, way);
            } else {
                self.plugin(plugin, point, way);
            }
        }
        Some(built_in)
    }

    /// The arguments of one of Vox's own runners.
    fn decoded<T: DeserializeOwned + schemars::JsonSchema>(
        &mut self,
        index: usize,
        step: &Step,
    ) -> Option<T> {
        let schema = schemars::schema_for!(T).to_value().to_string();
        let place = self.plan.way_to(index).into_iter().chain(["with".into()]);
        let mut faults = match ArgumentsSchema::new(&schema) {
            Ok(schema) => schema.faults(&step.arguments),
            Err(_) => Vec::new(),
        };
        if faults.is_empty() {
            match serde_json::from_value(Value::Object(step.arguments.clone())) {
                Ok(decoded) => return Some(decoded),
                Err(error) => faults.push(super::arguments::ArgumentFault {
                    path: Vec::new(),
                    message: error.to_string(),
                    hint: None,
                }),
            }
        }
        for fault in faults {
            let within = fault.path.iter().map(|part| match part {
                PathPart::Key(key) => Part::from(key.as_str()),
                PathPart::Index(index) => Part::from(*index),
            });
            let message = format!("runner `{}`: {}", step.uses, fault.message);
            let way = place.clone().chain(within);
            self.misfits
                .push(self.plan.finding(way, message, fault.hint));
        }
        None
    }

    fn hook(&mut self, index: usize) -> Option<HookSource> {
        let hook = &self.plan.hooks[index];
        let way = ["hook".into(), index.into(), "uses".into()];
        self.plugin(&hook.uses, ExtensionPoint::Hook, way)?;
        let mut source = HookSource::new(hook.uses.clone());
        source.arguments = hook.arguments.clone();
        Some(source)
    }

    fn stage<'p>(&mut self, id: &PluginId, way: impl IntoIterator<Item = Part<'p>>) {
        if self.stages.contains_key(id) {
            return;
        }
        if self.plugin(id, ExtensionPoint::Stage, way).is_some()
            && let Ok(plugin) = self.host.plugin(id)
        {
            let entry = plugin.manifest.provides.stage.clone();
            self.stages.insert(id.clone(), entry);
        }
    }

    /// Checks that each stream begins at a port that is written, ends at one that is read, and
    /// carries what its stages and its reader take, as far as the manifests say.
    fn streams(&mut self) {
        let plan = self.plan;
        for stream in plan.graph().streams() {
            let (writer, reader) = (&plan.steps[stream.writer], &plan.steps[stream.reader]);
            let place = plan.way_to(stream.reader).into_iter();
            let input = place.chain(["inputs".into(), stream.input.as_str().into()]);
            let mut modality: Option<Modality> = None;
            if let Some(ports) = self.ports(stream.writer, writer) {
                match ports.writes.get(&stream.output) {
                    Some(written) => modality = Some(written.clone()),
                    None => {
                        let message = format!(
                            "`{}` makes no `{}`: it is neither an output of the step nor a port of \
                             the runner `{}`",
                            writer.key, stream.output, writer.uses
                        );
                        let known = ports.writes.keys().chain(writer.outputs.keys());
                        let hint = near(
                            &stream.output,
                            known.map(String::as_str),
                            "ports and outputs",
                        );
                        let way = input.clone().chain(["from".into()]);
                        self.misfits.push(plan.finding(way, message, Some(hint)));
                        continue;
                    }
                }
            }
            let through = reader.input(&stream.input).map(|input| &input.through);
            for (at, transform) in through.into_iter().flatten().enumerate() {
                let entry = self.stages.get(&transform.stage).cloned().flatten();
                let Some(entry) = entry else {
                    // Nothing is known of what it makes.
                    modality = None;
                    continue;
                };
                if let Some(comes) = &modality
                    && !comes.is_pattern()
                    && !entry.takes(comes.as_str())
                {
                    let accepted: Vec<_> = entry.accepts.iter().map(Modality::as_str).collect();
                    let message = format!(
                        "stage `{}` takes {}, and {comes} comes to it",
                        transform.stage,
                        accepted.join(", ")
                    );
                    let way = input.clone().chain(["through".into(), at.into()]);
                    let hint = "put a stage before it that makes what it takes";
                    self.misfits
                        .push(plan.finding(way, message, Some(hint.into())));
                }
                modality = entry.emits.or(modality);
            }
            let Some(ports) = self.ports(stream.reader, reader) else {
                continue;
            };
            match ports.reads.get(&stream.input) {
                None => {
                    let message = format!(
                        "the runner `{}` reads no port `{}`",
                        reader.uses, stream.input
                    );
                    let hint = near(
                        &stream.input,
                        ports.reads.keys().map(String::as_str),
                        "ports",
                    );
                    self.misfits.push(plan.finding(input, message, Some(hint)));
                }
                Some(accepted) => {
                    let fits = |comes: &Modality| {
                        comes.is_pattern() || accepted.iter().any(|one| one.takes(comes.as_str()))
                    };
                    if let Some(comes) = modality.filter(|comes| !fits(comes)) {
                        let accepted: Vec<_> = accepted.iter().map(Modality::as_str).collect();
                        let message = format!(
                            "the runner `{}` takes {} at `{}`, and {comes} comes to it",
                            reader.uses,
                            accepted.join(", "),
                            stream.input
                        );
                        self.misfits.push(plan.finding(input, message, None));
                    }
                }
            }
        }
    }

    /// What the plugin of a step says of its ports; none when it says nothing.
    fn ports(&self, index: usize, step: &Step) -> Option<RunnerPorts> {
        let (plugin, runner) = match step.uses.as_str() {
            "plugin" => {
                let id = step.arguments.get("id")?.as_str()?;
                let plugin = self.host.plugin(&id.parse().ok()?).ok()?;
                let runner = match step.arguments.get("runner") {
                    Some(runner) => runner.as_str()?.parse().ok()?,
                    None => plugin.manifest.provides.runners.first()?.clone(),
                };
                (plugin, runner)
            }
            name if step.uses.is_built_in() => {
                return built_in::ports(name, &self.plan.steps[index]);
            }
            name => (
                self.host.registry().runner(name).ok()?.clone(),
                step.uses.clone(),
            ),
        };
        plugin.manifest.provides.ports.get(&runner).cloned()
    }

    /// Checks that each step fits on the machine.
    fn room(&mut self) {
        let Machine { memory, gpus, .. } = self.surroundings.machine;
        for group in self.plan.graph().groups() {
            let costs = group
                .members
                .iter()
                .map(|step| Amount::of(&self.plan.steps[*step].resources));
            let Amount {
                memory: wanted_memory,
                gpus: wanted_gpus,
                ..
            } = costs.fold(Amount::default(), Amount::and);
            let who = match group.members.as_slice() {
                [_] => "the step asks",
                _ => "the steps that streams join here ask together",
            };
            // Told at the first of them that asks for something.
            let asks = |step: &&usize| {
                Amount::of(&self.plan.steps[**step].resources)
                    != Amount {
                        cpus: 1,
                        ..Amount::default()
                    }
            };
            let index = *group.members.iter().find(asks).unwrap_or(&group.members[0]);
            let place = self.plan.way_to(index).into_iter();
            let mut refuse = |part: &'static str, message: String| {
                let way = place.clone().chain(["resources".into(), part.into()]);
                let hint = "ask for less, or run it on a larger machine";
                self.misfits
                    .push(self.plan.finding(way, message, Some(hint.into())));
            };
            if wanted_memory > memory {
                let mib = |bytes: u64| bytes >> 20;
                refuse(
                    "memory",
                    format!(
                        "{who} for {} MiB of memory, and this machine allows {}",
                        mib(wanted_memory),
                        mib(memory)
                    ),
                );
            }
            if wanted_gpus > u64::from(gpus) {
                refuse(
                    "gpu",
                    format!(
                        "{who} for {wanted_gpus} graphics processors, and this machine has {gpus}"
                    ),
                );
            }
        }
    }

    /// Says whether the plugin `id` is there and serves `point`; what is wrong is noted.
    fn plugin<'p>(
        &mut self,
        id: &PluginId,
        point: ExtensionPoint,
        way: impl IntoIterator<Item = Part<'p>>,
    ) -> Option<()> {
        let serving = || -> Vec<&str> {
            let plugins = self.host.registry().extension_point(point);
            plugins.map_or_else(
                |_: RegistryError| Vec::new(),
                |plugins| plugins.iter().map(|plugin| plugin.id().as_str()).collect(),
            )
        };
        let (message, hint) = match self.host.plugin(id) {
            Ok(plugin)
                if plugin
                    .manifest
                    .provides
                    .extension_points
                    .contains_key(&point) =>
            {
                return Some(());
            }
            Ok(_) => {
                let message = format!("plugin `{id}` is not a {}", point.name());
                (message, near(id.as_str(), serving(), "installed ones"))
            }
            Err(error) => {
                let near = vox_contract::nearest(id.as_str(), serving());
                let install = || format!("`vox plugin install {id}` installs it");
                let hint = near.map_or_else(install, |near| format!("did you mean `{near}`?"));
                (error.to_string(), hint)
            }
        };
        self.unresolved
            .push(self.plan.finding(way, message, Some(hint)));
        None
    }
}
