//! The host: everything that is installed, and the way to live instances of it.
//!
//! [`Host::open`] reads manifests and nothing else. Engines start, payloads are compiled or opened
//! and instances are made when somebody asks for them, and a plugin that cannot be had is an error
//! for whoever asked; the others go on being served.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use serde_json::Value;
use vox_contract::{Carrier as CarrierKind, Catalog, Grants, GrantsFile, PluginId, Settings};

use crate::carriers::{Carrier, Payload, component, native};
use crate::contract::{self, EXPORT_LIFECYCLE, EXPORTS, call::Target};
use crate::directories::Directories;
use crate::error::{Error, LoadError};
use crate::instance::Instance;
use crate::inventory::{Finding, Installed, Inventory};
use crate::registry::Registry;
use crate::resolution::{self, Selection};
use crate::services::{
    BlobSource, CancelToken, EventSink, IgnoreEvents, KvStore, NoBlobs, NoPorts, Ports, Services,
    Subscriptions, Topics, extension_point, kv,
};
use crate::{install::GrantStore, requirements, settings};

/// What a host is opened with.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct HostOptions {
    /// Plugins that are known but perhaps not installed, for messages that say what to install.
    pub catalog: Catalog,
    /// Verbs that the command line serves itself, so that no plugin may.
    pub built_in_verbs: Vec<&'static str>,
    /// Grants on top of those on disk, for this host only.
    pub grants: GrantsFile,
}

/// What an instance is connected to. The default connects it to nothing.
#[non_exhaustive]
pub struct InstanceOptions {
    /// The carrier to use; none leaves it to the project's settings, and then to the plugin: its
    /// component where it has one.
    pub carrier: Option<CarrierKind>,
    /// Members that replace those of the plugin's configuration in the project's settings.
    pub config: serde_json::Map<String, Value>,
    /// Its streams.
    pub ports: Arc<dyn Ports>,
    /// Its blobs.
    pub blobs: Arc<dyn BlobSource>,
    /// Who hears its events.
    pub events: Arc<dyn EventSink>,
    /// How it is told to stop.
    pub cancel: CancelToken,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        Self {
            carrier: None,
            config: serde_json::Map::new(),
            ports: Arc::new(NoPorts),
            blobs: Arc::new(NoBlobs),
            events: Arc::new(IgnoreEvents),
            cancel: CancelToken::new(),
        }
    }
}

/// A host with its plugins. Clones are the same host.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

/// Instances of one plugin that wait for the next `call`.
const MAX_IDLE: usize = 4;

/// Names the code of one payload: the plugin's directory and the carrier.
type PayloadKey = (PathBuf, CarrierKind);
/// A payload's place; its lock is held while the payload is being loaded, so that it is loaded
/// once, and nobody waits for another's.
type PayloadPlace = Arc<Mutex<Option<Arc<Payload>>>>;

struct Inner {
    directories: Directories,
    settings: Settings,
    inventory: Inventory,
    selection: Selection,
    registry: Registry,
    findings: Vec<Finding>,
    grants: RwLock<GrantsFile>,
    /// Guards the engine's start.
    runtime: Mutex<Option<Arc<component::Runtime>>>,
    /// Guards the table; a payload is loaded under its own lock.
    payloads: Mutex<HashMap<PayloadKey, PayloadPlace>>,
    /// Instances that plugins reach through `call`, while nobody is inside. Guards the table only:
    /// an instance is taken out to be entered, so no call ever waits for another.
    idle: Mutex<HashMap<PathBuf, Vec<Instance>>>,
    topics: Arc<Topics>,
    this: Weak<Inner>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Host")
            .field("directories", &self.0.directories)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Opens a host over the plugins in `directories`.
    ///
    /// # Errors
    ///
    /// The project's `Vox.toml` or a grants file is there and cannot be read. A plugin that cannot
    /// be used is no error but one of [`Host::findings`].
    pub fn open(directories: Directories, options: HostOptions) -> Result<Self, Error> {
        let _span = tracing::info_span!("vox.plugin.discover").entered();
        let settings = settings::of_project(&directories)?;
        let mut grants = GrantStore::open(&directories).load()?;
        grants.merge(options.grants);
        let inventory = Inventory::scan(&directories);
        let (selection, unresolved) = resolution::select_all(&inventory, &settings);
        let catalog = Arc::new(options.catalog);
        let (registry, contested) =
            Registry::build(&selection, &inventory, catalog, &options.built_in_verbs);
        let mut findings = inventory.findings();
        findings.extend(unresolved);
        findings.extend(contested);
        tracing::debug!(
            plugins = selection.len(),
            findings = findings.len(),
            "opened"
        );
        Ok(Self(Arc::new_cyclic(|this| Inner {
            directories,
            settings,
            inventory,
            selection,
            registry,
            findings,
            grants: RwLock::new(grants),
            runtime: Mutex::default(),
            payloads: Mutex::default(),
            idle: Mutex::default(),
            topics: Arc::default(),
            this: Weak::clone(this),
        })))
    }

    /// Where this host looks.
    pub fn directories(&self) -> &Directories {
        &self.0.directories
    }

    /// The project's settings.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Every version of every plugin that was found, and what was passed over.
    pub fn inventory(&self) -> &Inventory {
        &self.0.inventory
    }

    /// The version that serves, for each plugin.
    pub fn selection(&self) -> &Selection {
        &self.0.selection
    }

    /// Who serves which name.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// What was noticed while looking at manifests: plugins that cannot be used, and why.
    pub fn findings(&self) -> &[Finding] {
        &self.0.findings
    }

    /// What a plugin is granted.
    pub fn grants(&self, plugin: &PluginId) -> Grants {
        self.0.grants(plugin)
    }

    /// The version of a plugin that serves.
    ///
    /// # Errors
    ///
    /// It is not installed, or none of its versions can be used.
    pub fn plugin(&self, id: &PluginId) -> Result<Arc<Installed>, Error> {
        self.0.plugin(id)
    }

    /// Loads a plugin's payload and checks it against its manifest, without making an instance;
    /// answers the names of the interfaces that it exports.
    ///
    /// # Errors
    ///
    /// Everything that keeps a plugin from being used, up to `init`.
    pub fn check(
        &self,
        plugin: &Installed,
        carrier: CarrierKind,
    ) -> Result<Vec<&'static str>, Error> {
        let payload = self.0.payload(plugin, carrier)?;
        let exported = payload.exported();
        Ok(EXPORTS
            .iter()
            .zip(exported)
            .filter(|(_, has)| **has)
            .map(|(known, _)| known.name)
            .collect())
    }

    /// Makes an initialised instance of a plugin.
    ///
    /// # Errors
    ///
    /// The plugin is not installed, something that it depends on or needs of this machine is
    /// missing, its payload cannot be loaded or is not what its manifest says, or its `init`
    /// fails.
    pub fn instance(&self, id: &PluginId, options: InstanceOptions) -> Result<Instance, Error> {
        let plugin = self.0.plugin(id)?;
        self.0.instance(&plugin, options)
    }
}

impl Inner {
    fn plugin(&self, id: &PluginId) -> Result<Arc<Installed>, Error> {
        if let Some(plugin) = self.selection.get(id) {
            return Ok(Arc::clone(plugin));
        }
        let resolved =
            resolution::resolve(&self.inventory, &self.settings, std::slice::from_ref(id))?;
        resolved
            .get(id)
            .cloned()
            .ok_or_else(|| Error::NotInstalled { plugin: id.clone() })
    }

    fn grants(&self, plugin: &PluginId) -> Grants {
        let grants = self.grants.read().unwrap_or_else(PoisonError::into_inner);
        grants.of(plugin).cloned().unwrap_or_default()
    }

    fn instance(&self, plugin: &Installed, options: InstanceOptions) -> Result<Instance, Error> {
        let id = plugin.id();
        let _span =
            tracing::info_span!("vox.plugin.start", plugin = %id, version = %plugin.version())
                .entered();
        let dependencies =
            resolution::resolve(&self.inventory, &self.settings, std::slice::from_ref(id))?;
        requirements::check_libraries(&plugin.manifest).map_err(|missing| Error::Library {
            plugin: id.clone(),
            missing,
        })?;
        let carrier = self.carrier(plugin, options.carrier)?;
        let payload = self.payload(plugin, carrier)?;

        let mut config = self
            .settings
            .of(id)
            .map(|own| own.config.clone())
            .unwrap_or_default();
        config.extend(options.config);
        let config = Value::Object(config);
        let text = config.to_string();
        let capacity = plugin
            .manifest
            .limits
            .kv
            .map_or(kv::DEFAULT_CAPACITY, |bytes| bytes.0);
        let services = Arc::new(Services {
            plugin: id.clone(),
            grants: self.grants(id),
            config,
            ports: options.ports,
            blobs: options.blobs,
            events: options.events,
            cancel: options.cancel,
            kv: KvStore::new(&self.directories.data, id, capacity),
            subscriptions: Subscriptions::new(Arc::clone(&self.topics)),
            dependencies,
            calls: self.this.clone(),
            panic: Mutex::new(None),
        });
        let (carrier, exported) = match &*payload {
            Payload::Component(payload) => {
                let runtime = self.runtime()?;
                let made = payload.instantiate(&runtime, Arc::clone(&services));
                (
                    made.map(|made| Carrier::Component(Box::new(made))),
                    *payload.exported(),
                )
            }
            Payload::Native(library) => {
                let made = library.instantiate(Arc::clone(&services));
                (made.map(Carrier::Native), *library.exported())
            }
        };
        let carrier = carrier.map_err(|failure| Error::Instantiate {
            plugin: id.clone(),
            detail: failure.to_string(),
        })?;
        Ok(Instance::start(
            carrier,
            declared(plugin, exported),
            services,
            &text,
        )?)
    }

    /// Which carrier an instance gets.
    fn carrier(
        &self,
        plugin: &Installed,
        asked: Option<CarrierKind>,
    ) -> Result<CarrierKind, Error> {
        let preferred = asked.or_else(|| self.settings.of(plugin.id()).and_then(|own| own.prefer));
        let available = CarrierKind::ALL
            .into_iter()
            .filter(|carrier| plugin.payload(*carrier).is_some());
        let available = available.collect::<Vec<_>>();
        match preferred {
            Some(carrier) if available.contains(&carrier) => Ok(carrier),
            None if !available.is_empty() => Ok(available[0]),
            wanted => Err(Error::NoPayload {
                plugin: plugin.id().clone(),
                wanted,
                available,
                missing: plugin.missing.clone(),
            }),
        }
    }

    /// The loaded payload of a plugin; loads it at the first use.
    fn payload(&self, plugin: &Installed, carrier: CarrierKind) -> Result<Arc<Payload>, Error> {
        let place = {
            let mut payloads = lock(&self.payloads);
            Arc::clone(
                payloads
                    .entry((plugin.directory.clone(), carrier))
                    .or_default(),
            )
        };
        let mut place = lock(&place);
        if let Some(payload) = &*place {
            return Ok(Arc::clone(payload));
        }
        let file = plugin.payload(carrier).ok_or_else(|| Error::NoPayload {
            plugin: plugin.id().clone(),
            wanted: Some(carrier),
            available: Vec::new(),
            missing: plugin.missing.clone(),
        })?;
        let _span =
            tracing::info_span!("vox.plugin.load", plugin = %plugin.id(), carrier = carrier.name())
                .entered();
        let payload = match carrier {
            CarrierKind::Component => {
                Payload::Component(Box::new(component::Payload::load(&*self.runtime()?, file)?))
            }
            CarrierKind::Native => Payload::Native(native::Library::load(file)?),
        };
        check_exports(plugin, file, payload.exported())?;
        let payload = Arc::new(payload);
        *place = Some(Arc::clone(&payload));
        Ok(payload)
    }

    fn runtime(&self) -> Result<Arc<component::Runtime>, Error> {
        let mut runtime = lock(&self.runtime);
        if let Some(runtime) = &*runtime {
            return Ok(Arc::clone(runtime));
        }
        let started = Arc::new(component::Runtime::start(&self.directories.cache)?);
        *runtime = Some(Arc::clone(&started));
        Ok(started)
    }
}

/// What plugins reach of other plugins.
impl crate::services::Calls for Inner {
    fn locate(
        &self,
        caller: &Services,
        target: &Target,
    ) -> Result<Arc<Installed>, contract::Error> {
        let not_found =
            |error: &dyn std::fmt::Display| contract::Error::NotFound(error.to_string());
        match target {
            Target::Plugin(id) => {
                let id = PluginId::new(id)
                    .map_err(|error| contract::Error::Invalid(error.to_string()))?;
                match caller.dependencies.get(&id) {
                    Some(plugin) => Ok(Arc::clone(plugin)),
                    None => self.plugin(&id).map_err(|error| not_found(&error)),
                }
            }
            Target::Service(name) => self
                .registry
                .service(name)
                .cloned()
                .map_err(|error| not_found(&error)),
            Target::ExtensionPoint(name) => {
                let point = extension_point(name)?;
                match self
                    .registry
                    .extension_point(point)
                    .map_err(|error| not_found(&error))?
                {
                    [one] => Ok(Arc::clone(one)),
                    several => Err(contract::Error::Invalid(format!(
                        "extension point `{name}` is served by {}; name one of them",
                        several
                            .iter()
                            .map(|plugin| plugin.id().as_str())
                            .collect::<Vec<_>>()
                            .join(", ")
                    ))),
                }
            }
        }
    }

    fn invoke(
        &self,
        plugin: &Installed,
        function: &str,
        arguments: Vec<Value>,
    ) -> Result<Value, contract::Error> {
        let idle = lock(&self.idle)
            .get_mut(&plugin.directory)
            .and_then(Vec::pop);
        let mut instance = match idle {
            Some(instance) => instance,
            None => self
                .instance(plugin, InstanceOptions::default())
                .map_err(|error| contract::Error::Unavailable(error.to_string()))?,
        };
        let result = instance
            .call_json(function, arguments)
            .map_err(|error| match error {
                crate::JsonCallError::Call(crate::CallError::Refused { error, .. }) => error,
                crate::JsonCallError::Call(error) => contract::Error::Failed(error.to_string()),
                error => contract::Error::Invalid(error.to_string()),
            });
        if instance.is_alive() {
            let mut table = lock(&self.idle);
            let idle = table.entry(plugin.directory.clone()).or_default();
            if idle.len() < MAX_IDLE {
                idle.push(instance);
            }
        }
        result
    }
}

impl Payload {
    /// Which of [`EXPORTS`] the code has.
    fn exported(&self) -> &[bool; EXPORTS.len()] {
        match self {
            Self::Component(payload) => payload.exported(),
            Self::Native(library) => library.exported(),
        }
    }
}

/// What an instance is called through: what the code exports and the manifest declares.
fn declared(plugin: &Installed, mut exported: [bool; EXPORTS.len()]) -> [bool; EXPORTS.len()] {
    let points = &plugin.manifest.provides.extension_points;
    for (index, known) in EXPORTS.iter().enumerate() {
        let declared = points.keys().any(|point| point.name() == known.name);
        exported[index] &= declared || index == EXPORT_LIFECYCLE;
    }
    exported
}

/// Refuses a payload that serves nothing, or less than its manifest says.
fn check_exports(
    plugin: &Installed,
    file: &std::path::Path,
    exported: &[bool; EXPORTS.len()],
) -> Result<(), LoadError> {
    let serves_something = exported
        .iter()
        .enumerate()
        .any(|(index, has)| *has && index != EXPORT_LIFECYCLE);
    if !exported[EXPORT_LIFECYCLE] || !serves_something {
        return Err(LoadError::NothingExported {
            file: file.to_owned(),
        });
    }
    let points = &plugin.manifest.provides.extension_points;
    let missing = points
        .keys()
        .map(|point| point.name())
        .filter(|name| {
            EXPORTS
                .iter()
                .zip(exported)
                .any(|(known, has)| known.name == *name && !has)
        })
        .collect::<Vec<_>>();
    if missing.is_empty() {
        return Ok(());
    }
    Err(LoadError::NotProvided {
        plugin: plugin.id().clone(),
        file: file.to_owned(),
        missing,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
