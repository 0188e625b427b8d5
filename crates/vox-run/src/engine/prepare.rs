//! Finds the plugins that a plan names, and checks arguments against their runners.
//!
//! All of it happens before the first step, so that a plan either can be run or is refused with
//! every place at which it cannot.

use std::collections::HashMap;

use vox_contract::{ExtensionPoint, Finding, PluginId, RunnerName};
use vox_host::hooks::HookSource;
use vox_host::registry::RegistryError;
use vox_host::{Host, InstanceOptions};

use super::arguments::{ArgumentsSchema, PathPart};
use crate::error::Error;
use crate::plan::{Part, Plan, Step, near};

/// The plugins of a plan.
#[derive(Debug)]
pub(crate) struct Cast {
    /// For each step, the plugin that serves its runner.
    pub runners: Vec<PluginId>,
    pub hooks: Vec<HookSource>,
}

impl Cast {
    /// Finds every plugin of `plan`.
    ///
    /// # Errors
    ///
    /// [`Error::Unresolved`] when one cannot be found or used, else [`Error::Plan`] when arguments
    /// do not fit.
    pub fn find(host: &Host, plan: &Plan) -> Result<Self, Error> {
        let mut casting = Casting {
            host,
            plan,
            runners: HashMap::new(),
            unresolved: Vec::new(),
            misfits: Vec::new(),
        };
        let runners = plan
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| casting.step(index, step))
            .collect::<Vec<_>>();
        let hooks = (0..plan.hooks.len())
            .map(|index| casting.hook(index))
            .collect::<Vec<_>>();
        let Casting {
            unresolved,
            mut misfits,
            ..
        } = casting;
        if !unresolved.is_empty() {
            misfits.extend(unresolved);
            return Err(Error::Unresolved(plan.refuse(misfits)));
        }
        match (runners.into_iter().collect(), hooks.into_iter().collect()) {
            (Some(runners), Some(hooks)) if misfits.is_empty() => Ok(Self { runners, hooks }),
            _ => Err(Error::Plan(plan.refuse(misfits))),
        }
    }
}

struct Casting<'a> {
    host: &'a Host,
    plan: &'a Plan,
    /// What is known of each runner that a step has named; none for one that cannot be used.
    runners: HashMap<&'a RunnerName, Option<Runner>>,
    /// Plugins that are not there.
    unresolved: Vec<Finding>,
    /// Arguments that do not fit.
    misfits: Vec<Finding>,
}

struct Runner {
    plugin: PluginId,
    schema: ArgumentsSchema,
}

impl<'a> Casting<'a> {
    fn step(&mut self, index: usize, step: &'a Step) -> Option<PluginId> {
        let place = [Part::from("step"), Part::from(index)];
        for (port, input) in &step.inputs {
            for (at, transform) in input.through.iter().enumerate() {
                let through = ["inputs", port, "through"].map(Part::from);
                let way = place
                    .into_iter()
                    .chain(through)
                    .chain([at.into(), "stage".into()]);
                self.plugin(&transform.stage, ExtensionPoint::Stage, way);
            }
        }
        if !self.runners.contains_key(&step.uses) {
            let runner = self.runner(index, &step.uses);
            self.runners.insert(&step.uses, runner);
        }
        let runner = self.runners.get(&step.uses)?.as_ref()?;
        for fault in runner.schema.faults(&step.arguments) {
            let within = fault.path.iter().map(|part| match part {
                PathPart::Key(key) => Part::from(key.as_str()),
                PathPart::Index(index) => Part::from(*index),
            });
            let way = place.into_iter().chain([Part::from("with")]).chain(within);
            let message = format!("runner `{}`: {}", step.uses, fault.message);
            self.misfits
                .push(self.plan.finding(way, message, fault.hint));
        }
        Some(runner.plugin.clone())
    }

    /// Finds a runner and asks for the schema of its arguments. What is wrong with it is told
    /// once, at the first step that names it.
    fn runner(&mut self, index: usize, name: &RunnerName) -> Option<Runner> {
        let place = ["step".into(), index.into(), "uses".into()];
        let plugin = match self.host.registry().runner(name.as_str()) {
            Ok(plugin) => plugin.id().clone(),
            Err(error) => {
                let hint = error.hint();
                self.unresolved
                    .push(self.plan.finding(place, error.to_string(), Some(hint)));
                return None;
            }
        };
        let schema = self
            .host
            .instance(&plugin, InstanceOptions::default())
            .map_err(|error| error.to_string())
            .and_then(|mut instance| {
                instance
                    .step()
                    .and_then(|mut step| step.arguments_schema(name.as_str()))
                    .map_err(|error| error.to_string())
            })
            .and_then(|text| {
                ArgumentsSchema::new(&text).map_err(|fault| {
                    format!("plugin `{plugin}` answers an unusable schema: {fault}")
                })
            });
        match schema {
            Ok(schema) => Some(Runner { plugin, schema }),
            Err(fault) => {
                let message = format!("runner `{name}` cannot be used: {fault}");
                let hint = Some(format!("`vox plugin info {plugin}` shows the plugin"));
                self.unresolved
                    .push(self.plan.finding(place, message, hint));
                None
            }
        }
    }

    fn hook(&mut self, index: usize) -> Option<HookSource> {
        let hook = &self.plan.hooks[index];
        let way = ["hook".into(), index.into(), "uses".into()];
        self.plugin(&hook.uses, ExtensionPoint::Hook, way)?;
        let mut source = HookSource::new(hook.uses.clone());
        source.arguments = hook.arguments.clone();
        Some(source)
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
