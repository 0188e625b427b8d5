//! How many instances of plugins the groups of a plan take, and how many there may be.
//!
//! A plugin's limit `instances` holds for all that there are of it, whatever for. What a group takes is known
//! before it starts: one for each of its steps, one for each stage of its streams, and one for each plugin that
//! a runner of Vox's own may call. Hooks have theirs from the beginning of the run to its end.
//!
//! What must stay true: groups that together take no more than is said here meet no limit by themselves. Not
//! known before, and not counted, are the instances that plugins bring about: of those that they call, of agents
//! that agents start, and of hooks within hooks.

use std::collections::{BTreeMap, HashMap};

use vox_contract::PluginId;

use super::Engine;
use super::prepare::Runner;
use crate::schedule::Instances;

/// What each group of the plan takes, and what there is for all of them.
pub(super) fn of_groups(engine: &Engine) -> Instances {
    let Engine { host, plan, cast } = engine;
    let graph = plan.graph();
    let mut instances = Instances::default();
    let mut known: HashMap<PluginId, usize> = HashMap::new();
    for group in graph.groups() {
        let mut taken: BTreeMap<usize, u32> = BTreeMap::new();
        let mut take = |plugin: &PluginId| {
            let place = known.get(plugin).copied();
            let place = place.unwrap_or_else(|| {
                instances.free.push(room(engine, plugin));
                let last = instances.free.len() - 1;
                known.insert(plugin.clone(), last);
                last
            });
            *taken.entry(place).or_default() += 1;
        };
        for step in &group.members {
            match &cast.runners[*step] {
                Runner::Plugin { plugin, .. } => take(plugin),
                Runner::BuiltIn(built_in) => built_in.may_call(host).iter().for_each(&mut take),
            }
        }
        for stream in &group.streams {
            let stream = &graph.streams()[*stream];
            let input = plan.steps[stream.reader].input(&stream.input);
            let stages = input.into_iter().flat_map(|input| &input.through);
            stages.for_each(|transform| take(&transform.stage));
        }
        // A group that takes more than there may be at all is started alone, and is told of the limit.
        let taken = taken
            .into_iter()
            .map(|(place, count)| (place, count.min(instances.free[place])))
            .collect();
        instances.taken.push(taken);
    }
    instances
}

/// How many instances of a plugin its limit leaves for groups beside those of the hooks; one at least.
fn room(engine: &Engine, plugin: &PluginId) -> u32 {
    let Engine { host, cast, .. } = engine;
    let Ok(installed) = host.plugin(plugin) else {
        return u32::MAX;
    };
    let limits = host.settings().limits(plugin, &installed.manifest.limits);
    let hooks = cast.hooks.iter().filter(|hook| hook.plugin == *plugin);
    let hooks = u32::try_from(hooks.count()).unwrap_or(u32::MAX);
    limits.instances.saturating_sub(hooks).max(1)
}
