//! Which version of each plugin is used.
//!
//! Owns the choice: [`resolve`] takes the plugins that are wanted and answers with one version of
//! each and of everything that they depend on, the highest that fits together, in the order in
//! which they are to be loaded. [`select_all`] answers which version of every installed plugin
//! stands for it in lists and in the [registry](crate::registry).
//!
//! What restricts a choice: the `dependencies` and `conflicts` of manifests, the `version` of a
//! plugin in `Vox.toml`, and that a plugin can be used here at all (discovery has judged that;
//! versions that it passed over take part, so that an explanation can say why they do not serve).
//! The solver is `pubgrub`, whose derivation is put into sentences.
//!
//! **Invariant.** A plugin has no part in the failure of another that does not need it: `resolve`
//! looks at what it was asked for and what that leads to, and `select_all` records what fails and
//! goes on.

mod ranges;
mod report;
mod solver;

use std::collections::BTreeMap;
use std::sync::Arc;

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use semver::{Version, VersionReq};
use vox_contract::{PluginId, Settings};

use crate::inventory::{Finding, Installed, Inventory};
use solver::Solver;

/// Why no choice of versions works.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolutionError {
    /// No plugin of that id is in any root.
    #[error("no plugin `{id}` is installed{}", near(nearest.as_ref()))]
    NotInstalled {
        /// What was asked for.
        id: PluginId,
        /// The installed plugin with the most similar id.
        nearest: Option<PluginId>,
    },
    /// The requirements contradict each other, or something needed is not installed.
    #[error(
        "there are no versions of {} that can be used:\n{explanation}",
        listed(wanted)
    )]
    NoSolution {
        /// What was asked for.
        wanted: Vec<PluginId>,
        /// Why, one derivation a line.
        explanation: String,
        /// What to do about it.
        hint: String,
    },
    /// Plugins depend on each other in a circle, so that none can be loaded first.
    #[error("plugins depend on each other in a circle: {}", circle(cycle))]
    Cycle {
        /// The plugins of the circle, each depending on the next and the last on the first.
        cycle: Vec<(PluginId, Version)>,
    },
}

impl ResolutionError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotInstalled { id, nearest: None } => {
                format!(
                    "`vox plugin install {id}` installs it, `vox plugin list` shows what there is"
                )
            }
            Self::NotInstalled {
                id,
                nearest: Some(nearest),
            } => {
                format!("write `{nearest}`, or install it: `vox plugin install {id}`")
            }
            Self::NoSolution { hint, .. } => hint.clone(),
            Self::Cycle { .. } => {
                "one of them must do without the other: remove it, or install a version that does"
                    .to_owned()
            }
        }
    }
}

/// One version of each of some plugins.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    by_id: BTreeMap<PluginId, Arc<Installed>>,
    load_order: Vec<Arc<Installed>>,
}

impl Selection {
    /// The version chosen of a plugin; `None` when the plugin has no part in the selection.
    pub fn get(&self, id: &PluginId) -> Option<&Arc<Installed>> {
        self.by_id.get(id)
    }

    /// The plugins by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Installed>> {
        self.by_id.values()
    }

    /// The plugins in an order in which each comes after those that it depends on. After
    /// [`select_all`], where each plugin stands for itself, simply by id.
    pub fn load_order(&self) -> &[Arc<Installed>] {
        &self.load_order
    }

    /// How many plugins there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl FromIterator<Arc<Installed>> for Selection {
    /// Takes the plugins in the order of loading.
    fn from_iter<I: IntoIterator<Item = Arc<Installed>>>(plugins: I) -> Self {
        let load_order: Vec<_> = plugins.into_iter().collect();
        let by_id = load_order
            .iter()
            .map(|plugin| (plugin.id().clone(), plugin.clone()))
            .collect();
        Self { by_id, load_order }
    }
}

/// Chooses versions of the plugins that are `wanted` and of all that they depend on.
///
/// # Errors
///
/// [`ResolutionError`]; of several circles the first in the order of ids.
pub fn resolve(
    inventory: &Inventory,
    settings: &Settings,
    wanted: &[PluginId],
) -> Result<Selection, ResolutionError> {
    let solver = Solver::new(inventory, settings, wanted);
    if let Some(id) = wanted.iter().find(|id| !solver.knows(id)) {
        let nearest = vox_contract::nearest(id.as_str(), inventory.ids().map(PluginId::as_str));
        let nearest = inventory
            .ids()
            .find(|known| Some(known.as_str()) == nearest)
            .cloned();
        return Err(ResolutionError::NotInstalled {
            id: id.clone(),
            nearest,
        });
    }
    // The most frequent question by far, which needs no solver.
    if let [id] = wanted
        && let Some(plugin) = highest(inventory, settings, id)
        && plugin.manifest.dependencies.is_empty()
    {
        return Ok(Selection::from_iter([plugin.clone()]));
    }
    in_load_order(solver.solve()?)
}

/// Chooses the version that stands for each installed plugin: the highest that could be used if it
/// were asked for alone. What is found on the way: plugins with no such version, and chosen plugins
/// that conflict with each other.
pub fn select_all(inventory: &Inventory, settings: &Settings) -> (Selection, Vec<Finding>) {
    let mut chosen: Vec<Arc<Installed>> = Vec::new();
    let mut findings = Vec::new();
    for id in inventory.ids() {
        match resolve(inventory, settings, std::slice::from_ref(id)) {
            Ok(selection) => chosen.extend(selection.get(id).cloned()),
            Err(error) => findings.push(Finding::Unresolved {
                plugin: id.clone(),
                error,
            }),
        }
    }
    let selection = Selection::from_iter(chosen);
    for plugin in selection.iter() {
        for (with, range) in &plugin.manifest.conflicts {
            let other = selection
                .get(with)
                .filter(|other| range.matches(other.version()));
            findings.extend(other.map(|other| Finding::Conflicting {
                plugin: plugin.id().clone(),
                version: plugin.version().clone(),
                with: with.clone(),
                range: range.clone(),
                found: other.version().clone(),
            }));
        }
    }
    (selection, findings)
}

/// The highest version that `Vox.toml` allows.
fn highest<'a>(
    inventory: &'a Inventory,
    settings: &Settings,
    id: &PluginId,
) -> Option<&'a Arc<Installed>> {
    let allowed = required_version(settings, id);
    let fits =
        |plugin: &&Arc<Installed>| allowed.is_none_or(|range| range.matches(plugin.version()));
    inventory.versions(id).iter().find(fits)
}

/// What `Vox.toml` says about the version of a plugin.
fn required_version<'a>(settings: &'a Settings, id: &PluginId) -> Option<&'a VersionReq> {
    settings
        .plugins
        .get(id)
        .and_then(|plugin| plugin.version.as_ref())
}

/// Puts plugins that have all their dependencies among them into the order of loading.
fn in_load_order(chosen: Vec<Arc<Installed>>) -> Result<Selection, ResolutionError> {
    let mut graph = DiGraph::<&Arc<Installed>, ()>::with_capacity(chosen.len(), 0);
    let nodes: BTreeMap<&PluginId, NodeIndex> = chosen
        .iter()
        .map(|plugin| (plugin.id(), graph.add_node(plugin)))
        .collect();
    for plugin in &chosen {
        for dependency in plugin.manifest.dependencies.keys() {
            // From what is needed to what needs it: the order of loading.
            if let (Some(needed), Some(needing)) = (nodes.get(dependency), nodes.get(plugin.id())) {
                graph.update_edge(*needed, *needing, ());
            }
        }
    }
    match toposort(&graph, None) {
        Ok(order) => Ok(order.into_iter().map(|node| graph[node].clone()).collect()),
        Err(_) => Err(ResolutionError::Cycle {
            cycle: cycle_of(&graph),
        }),
    }
}

/// A circle of the graph, each plugin depending on the next, beginning with its least id.
fn cycle_of(graph: &DiGraph<&Arc<Installed>, ()>) -> Vec<(PluginId, Version)> {
    let circles = tarjan_scc(graph)
        .into_iter()
        .filter(|nodes| nodes.len() > 1);
    let least = |nodes: &Vec<NodeIndex>| nodes.iter().map(|node| graph[*node].id()).min();
    let Some(nodes) = circles.min_by(|a, b| least(a).cmp(&least(b))) else {
        return Vec::new();
    };
    // Every node leads to another of its component, so that a walk comes back to where it was.
    let mut walk: Vec<NodeIndex> = Vec::new();
    let mut next = nodes.iter().min_by_key(|node| graph[**node].id()).copied();
    while let Some(node) = next {
        if let Some(start) = walk.iter().position(|walked| *walked == node) {
            walk.drain(..start);
            break;
        }
        walk.push(node);
        next = graph
            .neighbors_directed(node, petgraph::Incoming)
            .filter(|neighbour| nodes.contains(neighbour))
            .min_by_key(|neighbour| graph[*neighbour].id());
    }
    let start = walk
        .iter()
        .enumerate()
        .min_by_key(|(_, node)| graph[**node].id());
    let start = start.map_or(0, |(start, _)| start);
    walk.rotate_left(start);
    walk.iter()
        .map(|node| (graph[*node].id().clone(), graph[*node].version().clone()))
        .collect()
}

fn near(nearest: Option<&PluginId>) -> String {
    nearest
        .map(|id| format!("; there is `{id}`"))
        .unwrap_or_default()
}

fn listed(wanted: &[PluginId]) -> String {
    let quoted: Vec<String> = wanted.iter().map(|id| format!("`{id}`")).collect();
    quoted.join(" and ")
}

fn circle(cycle: &[(PluginId, Version)]) -> String {
    let around = cycle.iter().chain(cycle.first());
    let names: Vec<String> = around
        .map(|(id, version)| format!("{id} {version}"))
        .collect();
    names.join(" -> ")
}
