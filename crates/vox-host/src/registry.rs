//! Which plugin serves what.
//!
//! Owns the maps from runners, verbs, services, extension points, hook points and topics to the
//! selected plugins. It is built from manifests, so it costs no payload.
//!
//! **Registration never overwrites.** A name that two plugins provide belongs to neither: looking
//! it up is an error that names both ([`Contested`]), and so is a verb that the command line has
//! itself. The other names of those plugins are served. An extension point, a hook point and a
//! topic may have many providers and are never contested.
//!
//! A name that nobody provides is an error that names who would ([`Missing`]): plugins that the
//! catalogue lists, and plugins that are here and cannot be used.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use vox_contract::{
    Catalog, ExtensionPoint, HookPoint, Need, PluginId, Provides, RunnerName, ServiceName, Verb,
};

use crate::inventory::{Finding, Installed, Inventory, PassedOver};
use crate::resolution::Selection;

/// Why a look-up has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Several provide it.
    #[error(transparent)]
    Contested(Contested),
    /// Nobody provides it.
    #[error(transparent)]
    Missing(Box<Missing>),
}

impl RegistryError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Contested(contested) => contested.hint(),
            Self::Missing(missing) => missing.hint(),
        }
    }
}

/// A name that several provide, so that nobody serves it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contested {
    /// What it is, such as ``the runner `exec` ``.
    pub what: String,
    /// The plugins that provide it, by id.
    pub providers: Vec<PluginId>,
    /// True when the command line itself has a verb of that name.
    pub built_in: bool,
}

impl Contested {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let commands: Vec<String> = self
            .providers
            .iter()
            .map(|id| format!("`vox plugin remove {id}`"))
            .collect();
        match commands.as_slice() {
            [one] => format!("{one} removes the plugin; the built-in verb is served meanwhile"),
            _ => format!("keep one of them: {}", commands.join(" or ")),
        }
    }
}

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut providers: Vec<String> = self
            .providers
            .iter()
            .map(|id| format!("plugin `{id}`"))
            .collect();
        if self.built_in {
            providers.insert(0, "Vox itself".to_owned());
        }
        write!(
            f,
            "{} is provided by {}, so none of them serves it",
            self.what,
            providers.join(" and ")
        )
    }
}

impl std::error::Error for Contested {}

/// Something that no installed plugin provides.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// What it is, such as ``the runner `exec` ``.
    pub what: String,
    /// The extension point that a plugin serves to provide it.
    pub extension_point: ExtensionPoint,
    /// The most similar name that is provided.
    pub nearest: Option<String>,
    /// Plugins in the catalogue that provide it.
    pub known: Vec<PluginId>,
    /// Plugins that are here and would provide it, each as `redact 0.1.0`, and why they do not.
    pub unusable: Vec<(String, String)>,
}

impl Missing {
    /// The command that installs a plugin that provides it, when the catalogue lists one.
    pub fn install_command(&self) -> Option<String> {
        self.known
            .first()
            .map(|id| format!("vox plugin install {id}"))
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        if !self.unusable.is_empty() {
            return "`vox plugin doctor` says what to do about it".to_owned();
        }
        match (self.install_command(), &self.nearest) {
            (Some(command), _) => format!("install it: `{command}`"),
            (None, Some(nearest)) => format!("did you mean `{nearest}`?"),
            (None, None) => "`vox plugin search <words>` looks through the catalogue, \
                             `vox plugin list` shows what is installed"
                .to_owned(),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no plugin provides {}", self.what)?;
        if !self.what.contains("extension point") {
            write!(f, " (extension point `{}`)", self.extension_point)?;
        }
        for (name, why) in &self.unusable {
            write!(f, "; {name} would, and cannot be used: {why}")?;
        }
        if !self.known.is_empty() {
            let known: Vec<String> = self.known.iter().map(|id| format!("`{id}`")).collect();
            write!(f, "; known to provide it: {}", known.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Missing {}

/// A plugin that is called at a hook point.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RegisteredHook {
    /// The plugin.
    pub plugin: Arc<Installed>,
    /// Lower ones are called first.
    pub priority: i32,
}

/// Who has a name.
#[derive(Debug, Clone)]
enum Claim {
    Sole(Arc<Installed>),
    Contested(Contested),
}

/// What the selected plugins serve.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    runners: BTreeMap<RunnerName, Claim>,
    verbs: BTreeMap<Verb, Claim>,
    services: BTreeMap<ServiceName, Claim>,
    extension_points: BTreeMap<ExtensionPoint, Vec<Arc<Installed>>>,
    hooks: BTreeMap<HookPoint, Vec<RegisteredHook>>,
    topics: Vec<(String, Arc<Installed>)>,
    catalog: Arc<Catalog>,
    /// Plugins that are here and not selected, for messages.
    passed_over: Vec<PassedOver>,
    unselected: Vec<Arc<Installed>>,
}

impl Registry {
    /// Registers what the plugins of a selection provide.
    ///
    /// `built_in` are the verbs of the command line itself. `inventory` and `catalog` are used for
    /// the messages of look-ups that fail. The findings are the names that are contested.
    pub fn build(
        selection: &Selection,
        inventory: &Inventory,
        catalog: Arc<Catalog>,
        built_in: &[&str],
    ) -> (Self, Vec<Finding>) {
        let read = inventory
            .passed_over()
            .iter()
            .filter(|passed| passed.manifest.is_some());
        let unselected = inventory.ids().filter(|id| selection.get(id).is_none());
        let mut registry = Self {
            catalog,
            passed_over: read.cloned().collect(),
            unselected: unselected
                .flat_map(|id| inventory.versions(id).first())
                .cloned()
                .collect(),
            ..Self::default()
        };
        for plugin in selection.iter() {
            registry.add(plugin, built_in);
        }
        for hooks in registry.hooks.values_mut() {
            hooks.sort_by(|a, b| {
                a.priority
                    .cmp(&b.priority)
                    .then_with(|| a.plugin.id().cmp(b.plugin.id()))
            });
        }
        let claims = registry.runners.values().chain(registry.verbs.values());
        let contested = claims
            .chain(registry.services.values())
            .filter_map(|claim| match claim {
                Claim::Contested(contested) => Some(Finding::Contested(contested.clone())),
                Claim::Sole(_) => None,
            });
        let findings = contested.collect();
        (registry, findings)
    }

    /// The plugin that serves a runner.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when nobody or more than one plugin does; so for the other look-ups.
    pub fn runner(&self, name: &str) -> Result<&Arc<Installed>, RegistryError> {
        self.look_up(&self.runners, name, Need::Runner(name))
    }

    /// The plugin that serves a verb.
    ///
    /// # Errors
    ///
    /// As [`runner`](Self::runner); a verb that is built in counts as one that is served.
    pub fn verb(&self, name: &str) -> Result<&Arc<Installed>, RegistryError> {
        self.look_up(&self.verbs, name, Need::Verb(name))
    }

    /// The plugin that serves a service.
    ///
    /// # Errors
    ///
    /// As [`runner`](Self::runner).
    pub fn service(&self, name: &str) -> Result<&Arc<Installed>, RegistryError> {
        self.look_up(&self.services, name, Need::Service(name))
    }

    /// The plugins that serve an extension point, by id; at least one.
    ///
    /// # Errors
    ///
    /// [`RegistryError::Missing`] when there is none.
    pub fn extension_point(
        &self,
        point: ExtensionPoint,
    ) -> Result<&[Arc<Installed>], RegistryError> {
        match self.extension_points.get(&point) {
            Some(plugins) => Ok(plugins),
            None => Err(self.missing(Need::ExtensionPoint(point), None)),
        }
    }

    /// The plugins that are called at a hook point, in the order of their calls: by priority, and
    /// by id where that is the same.
    pub fn hooks(&self, point: &HookPoint) -> &[RegisteredHook] {
        self.hooks.get(point).map_or(&[], Vec::as_slice)
    }

    /// The plugins whose manifests say that they publish to a topic.
    pub fn publishers(&self, topic: &str) -> impl Iterator<Item = &Arc<Installed>> {
        self.topics
            .iter()
            .filter(move |(pattern, _)| covers(pattern, topic))
            .map(|(_, plugin)| plugin)
    }

    /// The verbs that are served, with their summaries, in alphabetical order.
    pub fn verbs(&self) -> impl Iterator<Item = (&Verb, &str, &Arc<Installed>)> {
        self.verbs.iter().filter_map(|(verb, claim)| {
            let Claim::Sole(plugin) = claim else {
                return None;
            };
            let entry = plugin
                .manifest
                .provides
                .commands
                .iter()
                .find(|entry| entry.verb == *verb)?;
            Some((verb, entry.summary.as_str(), plugin))
        })
    }

    /// The runners that are served, in alphabetical order.
    pub fn runners(&self) -> impl Iterator<Item = (&RunnerName, &Arc<Installed>)> {
        sole(&self.runners)
    }

    /// The services that are served, in alphabetical order.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, &Arc<Installed>)> {
        sole(&self.services)
    }

    fn add(&mut self, plugin: &Arc<Installed>, built_in: &[&str]) {
        let Provides {
            extension_points,
            runners,
            ports: _,
            declared_environment: _,
            stage: _,
            commands,
            hooks,
            topics,
            services,
        } = &plugin.manifest.provides;
        for runner in runners {
            claim(
                &mut self.runners,
                runner,
                Need::Runner(runner.as_str()),
                plugin,
                runner.is_built_in(),
            );
        }
        for command in commands {
            let verb = &command.verb;
            let taken = built_in.contains(&verb.as_str());
            claim(
                &mut self.verbs,
                verb,
                Need::Verb(verb.as_str()),
                plugin,
                taken,
            );
        }
        for service in services {
            claim(
                &mut self.services,
                service,
                Need::Service(service.as_str()),
                plugin,
                false,
            );
        }
        for point in extension_points.keys() {
            self.extension_points
                .entry(*point)
                .or_default()
                .push(plugin.clone());
        }
        for hook in hooks {
            let registered = RegisteredHook {
                plugin: plugin.clone(),
                priority: hook.priority,
            };
            self.hooks
                .entry(hook.point.clone())
                .or_default()
                .push(registered);
        }
        self.topics
            .extend(topics.iter().map(|topic| (topic.clone(), plugin.clone())));
    }

    fn look_up<'r, N: Ord + Borrow<str>>(
        &'r self,
        claims: &'r BTreeMap<N, Claim>,
        name: &str,
        need: Need<'_>,
    ) -> Result<&'r Arc<Installed>, RegistryError> {
        match claims.get(name) {
            Some(Claim::Sole(plugin)) => Ok(plugin),
            Some(Claim::Contested(contested)) => Err(RegistryError::Contested(contested.clone())),
            None => {
                let nearest = vox_contract::nearest(name, claims.keys().map(Borrow::borrow));
                Err(self.missing(need, nearest.map(str::to_owned)))
            }
        }
    }

    fn missing(&self, need: Need<'_>, nearest: Option<String>) -> RegistryError {
        let passed_over = self.passed_over.iter().filter_map(|passed_over| {
            let manifest = passed_over.manifest.as_deref()?;
            serves(&manifest.provides, need)
                .then(|| (passed_over.name(), passed_over.reason.to_string()))
        });
        let unselected = self
            .unselected
            .iter()
            .filter(|plugin| serves(&plugin.manifest.provides, need));
        let unselected = unselected.map(|plugin| {
            let name = format!("{} {}", plugin.id(), plugin.version());
            (name, "its dependencies cannot be resolved".to_owned())
        });
        RegistryError::Missing(Box::new(Missing {
            what: need.to_string(),
            extension_point: need.extension_point(),
            nearest,
            known: self
                .catalog
                .providers_of(need)
                .map(|plugin| plugin.id.clone())
                .collect(),
            unusable: passed_over.chain(unselected).collect(),
        }))
    }
}

/// Enters a claim; a second one makes the name contested.
fn claim<N: Ord + Clone>(
    claims: &mut BTreeMap<N, Claim>,
    name: &N,
    need: Need<'_>,
    plugin: &Arc<Installed>,
    built_in: bool,
) {
    let contested = |mut providers: Vec<PluginId>| {
        providers.push(plugin.id().clone());
        Claim::Contested(Contested {
            what: need.to_string(),
            providers,
            built_in,
        })
    };
    let claim = match claims.get(name) {
        None if built_in => contested(Vec::new()),
        None => Claim::Sole(plugin.clone()),
        Some(Claim::Sole(first)) => contested(vec![first.id().clone()]),
        Some(Claim::Contested(earlier)) => contested(earlier.providers.clone()),
    };
    claims.insert(name.clone(), claim);
}

fn sole<N>(claims: &BTreeMap<N, Claim>) -> impl Iterator<Item = (&N, &Arc<Installed>)> {
    claims.iter().filter_map(|(name, claim)| match claim {
        Claim::Sole(plugin) => Some((name, plugin)),
        Claim::Contested(_) => None,
    })
}

fn serves(provides: &Provides, need: Need<'_>) -> bool {
    match need {
        Need::ExtensionPoint(point) => provides.extension_points.contains_key(&point),
        Need::Runner(name) => provides.runners.iter().any(|runner| runner == name),
        Need::Verb(name) => provides
            .commands
            .iter()
            .any(|command| command.verb == *name),
        Need::Service(name) => provides.services.iter().any(|service| service == name),
    }
}

/// True when a topic is the one named, or one below `<name>.*`.
fn covers(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(above) => topic
            .strip_prefix(above)
            .is_some_and(|rest| rest.starts_with('.')),
        None => pattern == topic,
    }
}
