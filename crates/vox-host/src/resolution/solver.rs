//! The installed plugins as a problem for `pubgrub`.
//!
//! Three kinds of package. [`Package::Request`] is what was asked for; it depends on any version of
//! each plugin wanted, and on [`Package::Settings`], which carries the requirements of `Vox.toml`
//! so that an explanation can name the file. All others are plugins.
//!
//! A requirement of `Vox.toml` and a conflict allow absence ([`Choice::Absent`]), a dependency does
//! not; see [`super::ranges`]. Absence is chosen whenever it is allowed, and it is decided last, so
//! that nothing is chosen that nobody needs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use pubgrub::{Dependencies, DependencyProvider, PackageResolutionStatistics, PubGrubError};
use semver::{Version, VersionReq};
use vox_contract::{PluginId, Settings};

use super::ranges::{Choice, Choices, all_but, any_version, or_absent, versions_of};
use super::{ResolutionError, report};
use crate::inventory::{Installed, Inventory, Reason};

/// What the solver decides about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Package {
    /// What was asked for.
    Request,
    /// The requirements of `Vox.toml`.
    Settings,
    /// A plugin.
    Plugin(PluginId),
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("the request"),
            Self::Settings => f.write_str("Vox.toml"),
            Self::Plugin(id) => id.fmt(f),
        }
    }
}

/// The problem: what is wanted, and what there is to choose from.
pub(super) struct Solver<'a> {
    inventory: &'a Inventory,
    wanted: &'a [PluginId],
    required: BTreeMap<&'a PluginId, &'a VersionReq>,
    /// Versions that discovery passed over, the highest first.
    unusable: HashMap<&'a PluginId, Vec<(&'a Version, &'a Reason)>>,
}

impl<'a> Solver<'a> {
    pub(super) fn new(
        inventory: &'a Inventory,
        settings: &'a Settings,
        wanted: &'a [PluginId],
    ) -> Self {
        let required = settings.plugins.iter();
        let required = required
            .filter_map(|(id, plugin)| Some((id, plugin.version.as_ref()?)))
            .collect();
        let mut unusable: HashMap<_, Vec<_>> = HashMap::new();
        for passed_over in inventory.passed_over() {
            if let Some(manifest) = passed_over.manifest.as_deref()
                && inventory.get(&manifest.id, &manifest.version).is_none()
            {
                let versions = unusable.entry(&manifest.id).or_default();
                versions.push((&manifest.version, &passed_over.reason));
            }
        }
        for versions in unusable.values_mut() {
            versions.sort_by_key(|(version, _)| Reverse(*version));
        }
        Self {
            inventory,
            wanted,
            required,
            unusable,
        }
    }

    /// True when a version of the plugin is in a root, whether it can be used or not.
    pub(super) fn knows(&self, id: &PluginId) -> bool {
        !self.inventory.versions(id).is_empty() || self.unusable.contains_key(id)
    }

    /// Every version of a plugin that is in a root: those that can be used, then the others.
    pub(super) fn known(&self, id: &PluginId) -> impl Iterator<Item = &'a Version> + use<'a> {
        let usable = self
            .inventory
            .versions(id)
            .iter()
            .map(|plugin| plugin.version());
        let unusable = self.unusable.get(id).cloned().unwrap_or_default();
        usable.chain(unusable.into_iter().map(|(version, _)| version))
    }

    /// The chosen plugins, in no order.
    pub(super) fn solve(&self) -> Result<Vec<Arc<Installed>>, ResolutionError> {
        let solution = match pubgrub::resolve(self, Package::Request, only_version()) {
            Ok(solution) => solution,
            Err(PubGrubError::NoSolution(tree)) => {
                let (explanation, hint) = report::explain(self, tree);
                let wanted = self.wanted.to_vec();
                return Err(ResolutionError::NoSolution {
                    wanted,
                    explanation,
                    hint,
                });
            }
            Err(
                PubGrubError::ErrorRetrievingDependencies { source, .. }
                | PubGrubError::ErrorChoosingVersion { source, .. }
                | PubGrubError::ErrorInShouldCancel(source),
            ) => match source {},
        };
        let chosen = solution
            .into_iter()
            .filter_map(|(package, choice)| match (package, choice) {
                (Package::Plugin(id), Choice::Version(version)) => {
                    self.inventory.get(&id, &version).cloned()
                }
                _ => None,
            });
        let mut chosen: Vec<_> = chosen.collect();
        chosen.sort_by(|a, b| a.id().cmp(b.id()));
        Ok(chosen)
    }

    fn versions(&self, id: &PluginId, range: &VersionReq) -> Choices {
        versions_of(range, self.known(id))
    }

    /// What a plugin demands of others. One that it both depends on and conflicts with must be in
    /// what is left.
    fn demands(&self, plugin: &Installed) -> BTreeMap<PluginId, Choices> {
        let mut demands: BTreeMap<PluginId, Choices> = BTreeMap::new();
        for (id, range) in &plugin.manifest.dependencies {
            demands.insert(id.clone(), self.versions(id, range));
        }
        for (id, range) in &plugin.manifest.conflicts {
            let left = all_but(&self.versions(id, range));
            demands
                .entry(id.clone())
                .and_modify(|demand| *demand = demand.intersection(&left))
                .or_insert(left);
        }
        demands
    }
}

impl DependencyProvider for Solver<'_> {
    type P = Package;
    type V = Choice;
    type VS = Choices;
    type M = String;
    type Err = Infallible;
    /// Plugins that must be used first, of these the more troublesome, then those with less to
    /// choose from.
    type Priority = (bool, u32, Reverse<usize>);

    fn prioritize(
        &self,
        package: &Package,
        range: &Choices,
        statistics: &PackageResolutionStatistics,
    ) -> Self::Priority {
        let versions = match package {
            Package::Request | Package::Settings => 0,
            Package::Plugin(id) => self.inventory.versions(id).len(),
        };
        let needed = !range.contains(&Choice::Absent);
        (needed, statistics.conflict_count(), Reverse(versions))
    }

    fn choose_version(
        &self,
        package: &Package,
        range: &Choices,
    ) -> Result<Option<Choice>, Infallible> {
        if range.contains(&Choice::Absent) {
            return Ok(Some(Choice::Absent));
        }
        let allowed = |choice: &Choice| range.contains(choice);
        Ok(match package {
            Package::Request | Package::Settings => Some(only_version()).filter(allowed),
            Package::Plugin(id) => self
                .known(id)
                .map(|version| Choice::Version(version.clone()))
                .find(allowed),
        })
    }

    fn get_dependencies(
        &self,
        package: &Package,
        choice: &Choice,
    ) -> Result<Dependencies<Package, Choices, String>, Infallible> {
        let demands: Vec<(Package, Choices)> = match (package, choice) {
            (Package::Request, _) => {
                let wanted = self.wanted.iter();
                let wanted = wanted.map(|id| (Package::Plugin(id.clone()), any_version()));
                let settings = (!self.required.is_empty())
                    .then(|| (Package::Settings, Choices::singleton(only_version())));
                wanted.chain(settings).collect()
            }
            (Package::Settings, _) => {
                let required = self.required.iter();
                required
                    .map(|(id, range)| {
                        let allowed = or_absent(&self.versions(id, range));
                        (Package::Plugin((*id).clone()), allowed)
                    })
                    .collect()
            }
            (Package::Plugin(_), Choice::Absent) => Vec::new(),
            (Package::Plugin(id), Choice::Version(version)) => {
                match self.inventory.get(id, version) {
                    Some(plugin) => {
                        let demands = self.demands(plugin).into_iter();
                        demands
                            .map(|(id, demand)| (Package::Plugin(id), demand))
                            .collect()
                    }
                    None => return Ok(Dependencies::Unavailable(self.why_unusable(id, version))),
                }
            }
        };
        Ok(Dependencies::Available(demands.into_iter().collect()))
    }
}

impl Solver<'_> {
    fn why_unusable(&self, id: &PluginId, version: &Version) -> String {
        let versions = self.unusable.get(id).into_iter().flatten();
        let reason = versions.clone().find(|(other, _)| *other == version);
        reason.map_or_else(
            || "it is not installed".to_owned(),
            |(_, reason)| reason.to_string(),
        )
    }
}

/// The version of what is no plugin.
fn only_version() -> Choice {
    Choice::Version(Version::new(0, 0, 0))
}
