//! From a plugin on disk to a live instance of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use vox_contract::{Carrier as CarrierKind, EffectiveLimits, LimitName, MANIFEST_FILE, Manifest};

use super::{Inner, InstanceOptions, lock};
use crate::account::Account;
use crate::carriers::component::wasi::Surroundings;
use crate::carriers::{Carrier, Failure, Payload, component, native};
use crate::contract::{EXPORT_LIFECYCLE, EXPORTS};
use crate::error::{CallError, Error, LimitExceeded, LoadError};
use crate::instance::{Instance, Live, Seat};
use crate::inventory::Installed;
use crate::lifecycle::{State, Step};
use crate::resolution::{self, Selection};
use crate::services::{Caller, KvStore, Permits, Services, Subscriptions, WaitEnd};
use crate::signing::{self, Admission, SignedFiles, Time, TrustStore};
use crate::slot::{Code, Look, Release, Slot};
use crate::{clock::CallClock, requirements};

impl Inner {
    /// The place of a plugin that was found; made when it is first asked for.
    pub(super) fn slot(&self, plugin: &Installed) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(&plugin.directory) {
            return Arc::clone(slot);
        }
        let id = plugin.id();
        let weight = self.settings.weight(id);
        let slot = Arc::new(Slot::new(
            self.release(Arc::new(plugin.clone())),
            Arc::new(Account::new(self.budget.share(weight))),
            self.permits(id),
        ));
        slots.insert(plugin.directory.clone(), Arc::clone(&slot));
        slot
    }

    /// A release of a plugin as it stands on disk; nothing is loaded.
    pub(super) fn release(&self, installed: Arc<Installed>) -> Release {
        let set = self
            .settings
            .of(installed.id())
            .map(|own| own.limits)
            .unwrap_or_default();
        let limits = EffectiveLimits::of(&installed.manifest.limits, &set);
        Release::new(self.count_release(), installed, limits)
    }

    /// What all instances of a plugin are granted.
    pub(super) fn permits(&self, plugin: &vox_contract::PluginId) -> Arc<Permits> {
        let mut permits = lock(&self.permits);
        let granted = permits.entry(plugin.clone());
        Arc::clone(granted.or_insert_with(|| Arc::new(Permits::new(self.grants(plugin)))))
    }

    /// Makes an instance of whatever release serves, and lets it follow every change. While the
    /// plugin is paused this waits, for as long as `caller` does.
    pub(super) fn instance(
        &self,
        slot: &Arc<Slot>,
        options: InstanceOptions,
        caller: &Caller,
    ) -> Result<Instance, Error> {
        let mut release = slot.release();
        let plugin = Arc::clone(&release.installed);
        let id = plugin.id();
        let _span =
            tracing::info_span!("vox.plugin.start", plugin = %id, version = %plugin.version())
                .entered();
        self.check_needs(&release)?;
        let carrier = self.carrier(&plugin, options.carrier)?;
        self.code(slot, &release, carrier)?;
        loop {
            match slot.look() {
                Look::Serving(serving) => {
                    release = serving;
                    break;
                }
                Look::Paused(gate) => caller
                    .wait_for(&gate)
                    .map_err(|end| end.into_error(id.clone(), "lifecycle.init"))?,
                Look::Refused(state, reason) => {
                    return Err(Error::NotServing {
                        plugin: id.clone(),
                        state,
                        reason,
                    });
                }
            }
        }
        if let Some(rest) = slot.rest() {
            return Err(CallError::BackingOff {
                plugin: id.clone(),
                function: "lifecycle.init",
                failures: rest.failures,
                wait: rest.left,
                reason: rest.last,
            }
            .into());
        }
        let seat = Arc::new(Seat {
            host: self.this.clone(),
            slot: Arc::clone(slot),
            carrier,
            options,
        });
        let start = |release: &Arc<Release>| {
            let origin = Origin {
                caller: Some(caller),
                from: None,
                most: release.limits.instances,
            };
            let started = self.start(&seat, release, &origin);
            let failed = match &started {
                Err(error) if is_failure(error, caller) => Some(error.to_string()),
                _ => None,
            };
            (started, failed)
        };
        let (mut started, mut failed) = start(&release);
        if let Some(reason) = &failed
            && slot.take_back(&release, reason)
        {
            (started, failed) = start(&slot.release());
        }
        if let Some(reason) = &failed {
            slot.failed(reason);
        }
        started.map(Instance::join)
    }

    /// Refuses a release that needs more than it may, or what is not there.
    pub(super) fn check_needs(&self, release: &Release) -> Result<(), Error> {
        let plugin = &release.installed;
        let allowed = release.limits.dependencies;
        if plugin.manifest.dependencies.len() > allowed as usize {
            return Err(Error::Exceeded {
                plugin: plugin.id().clone(),
                exceeded: LimitExceeded::new(LimitName::Dependencies, &release.limits),
            });
        }
        self.dependencies(release)?;
        requirements::check_libraries(&plugin.manifest).map_err(|missing| Error::Library {
            plugin: plugin.id().clone(),
            missing,
        })
    }

    /// Starts an instance of a release, which no change concerns until it joins.
    pub(crate) fn start(
        &self,
        seat: &Arc<Seat>,
        release: &Arc<Release>,
        origin: &Origin<'_>,
    ) -> Result<Instance, Error> {
        self.try_start(seat, release, origin).inspect_err(|_| {
            // It counted as one for a while, and the plugin may have been unloaded meanwhile.
            seat.slot.let_go();
        })
    }

    fn try_start(
        &self,
        seat: &Arc<Seat>,
        release: &Arc<Release>,
        origin: &Origin<'_>,
    ) -> Result<Instance, Error> {
        let Seat { slot, options, .. } = &**seat;
        let id = slot.id();
        let code = self.code(slot, release, seat.carrier)?;
        let limits = release.limits;
        let meter = slot
            .account
            .open_meter(origin.most)
            .ok_or_else(|| Error::Exceeded {
                plugin: id.clone(),
                exceeded: LimitExceeded::new(LimitName::Instances, &limits),
            })?;
        let mut config = self
            .settings
            .of(id)
            .map(|own| own.config.clone())
            .unwrap_or_default();
        config.extend(options.config.clone());
        let config = Value::Object(config);
        let text = config.to_string();
        let subscriptions = match origin.from {
            Some(from) => Arc::clone(&from.subscriptions),
            None => Arc::new(Subscriptions::new(Arc::clone(&self.topics))),
        };
        let services = Services {
            plugin: id.clone(),
            permits: Arc::clone(&slot.permits),
            trusted: code.standing.is_trusted(),
            limits,
            config,
            ports: Arc::clone(&options.ports),
            reduction: Arc::clone(&options.reduction),
            generation: Arc::clone(&options.generation),
            blobs: Arc::clone(&options.blobs),
            events: Arc::clone(&options.events),
            cancel: std::sync::Mutex::new(options.cancel.clone()),
            caller: std::sync::Mutex::new(Caller {
                hook_depth: options.hook_depth,
                ..Caller::default()
            }),
            surroundings: Surroundings {
                project: self.directories.project.clone(),
                home: std::env::home_dir(),
                resolver: Arc::clone(&options.resolver),
            },
            kv: KvStore::new(&self.directories.data, id, limits.kv),
            subscriptions,
            dependencies: self.dependencies(release)?,
            calls: self.this.clone(),
            account: Arc::clone(&slot.account),
            meter: meter.share(),
            clock: CallClock::default(),
            records: Arc::clone(&release.records),
            messages: Arc::clone(&release.messages),
            panic: Default::default(),
        };
        if let Some(caller) = origin.caller {
            *lock(&services.cancel) = caller.cancel.clone();
            services.clock.set_deadline(caller.deadline);
        }
        if let Some(from) = origin.from {
            *lock(&services.cancel) = from.cancel_token();
            *lock(&services.caller) = lock(&from.caller).clone();
            services.clock.set_deadline(from.clock.deadline());
        }
        let services = Arc::new(services);
        let carrier = match &code.payload {
            Payload::Component(payload) => {
                let runtime = self.runtimes.with_stack(limits.stack)?;
                payload
                    .instantiate(&runtime, Arc::clone(&services), &slot.account, &limits)
                    .map(|made| Carrier::Component(Box::new(made)))
            }
            Payload::Native(library) => library
                .instantiate(Arc::clone(&services))
                .map(Carrier::Native),
        };
        let live = Live {
            carrier: carrier.map_err(|failure| self.not_started(slot, failure))?,
            exported: declared(&release.installed, *code.payload.exported()),
            services,
            meter,
        };
        Ok(Instance::start(
            Arc::clone(seat),
            Arc::clone(release),
            live,
            &text,
        )?)
    }

    fn not_started(&self, slot: &Slot, failure: Failure) -> Error {
        let plugin = slot.id().clone();
        match failure {
            Failure::Exceeded(exceeded) => Error::Exceeded { plugin, exceeded },
            Failure::Cancelled => WaitEnd::Cancelled
                .into_error(plugin, "lifecycle.init")
                .into(),
            Failure::TimedOut => WaitEnd::Late.into_error(plugin, "lifecycle.init").into(),
            failure => Error::Instantiate {
                plugin,
                detail: failure.to_string(),
            },
        }
    }

    /// A release with all that it depends on, resolved when it is first asked for.
    fn dependencies(&self, release: &Release) -> Result<Arc<Selection>, Error> {
        let mut known = lock(&release.dependencies);
        if let Some(known) = &*known {
            return Ok(Arc::clone(known));
        }
        let id = release.installed.id();
        let resolved = Arc::new(resolution::resolve(
            &self.inventory,
            &self.settings,
            std::slice::from_ref(id),
        )?);
        *known = Some(Arc::clone(&resolved));
        Ok(resolved)
    }

    /// Which carrier an instance gets.
    pub(super) fn carrier(
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

    /// The code of a release; loads it at the first use.
    pub(super) fn code(
        &self,
        slot: &Slot,
        release: &Release,
        carrier: CarrierKind,
    ) -> Result<Arc<Code>, Error> {
        if let Some(code) = release.code(carrier) {
            return Ok(code);
        }
        let _turn = lock(&slot.loading);
        if let Some(code) = release.code(carrier) {
            return Ok(code);
        }
        let first = matches!(slot.state().0, State::Unloaded | State::Error);
        if first {
            self.take_step(slot, Step::Load, None)?;
        }
        match self.load(&release.installed, &release.limits, carrier) {
            Ok(code) => {
                let code = Arc::new(code);
                release.keep(carrier, Arc::clone(&code));
                if first {
                    self.take_step(slot, Step::Loaded, None)?;
                }
                Ok(code)
            }
            Err(error) => {
                if first {
                    self.take_step(slot, Step::Fail, Some(error.to_string()))?;
                }
                Err(error)
            }
        }
    }

    /// Takes a step of a plugin's state.
    pub(super) fn take_step(
        &self,
        slot: &Slot,
        step: Step,
        reason: Option<String>,
    ) -> Result<State, Error> {
        slot.step_because(step, reason)
            .map_err(|state| Error::IllegalStep {
                plugin: slot.id().clone(),
                state,
                step,
            })
    }

    /// Reads a payload once, and loads exactly the bytes that were read.
    fn load(
        &self,
        plugin: &Installed,
        limits: &EffectiveLimits,
        carrier: CarrierKind,
    ) -> Result<Code, Error> {
        let file = plugin.payload(carrier).ok_or_else(|| Error::NoPayload {
            plugin: plugin.id().clone(),
            wanted: Some(carrier),
            available: Vec::new(),
            missing: plugin.missing.clone(),
        })?;
        let _span =
            tracing::info_span!("vox.plugin.load", plugin = %plugin.id(), carrier = carrier.name())
                .entered();
        let since = Instant::now();
        let mut trust = TrustStore::load(&self.directories)?;
        trust.merge(self.extra_trust.clone());
        let Admission { standing, signed } =
            signing::admit(&trust, &self.directories, plugin, carrier, Time::now())?;
        check_manifest(plugin, signed.as_ref())?;
        let bytes = std::fs::read(file).map_err(|error| LoadError::Unreadable {
            file: file.to_owned(),
            error,
        })?;
        if let Some(signed) = &signed {
            signed.check(file.strip_prefix(&plugin.directory).unwrap_or(file), &bytes)?;
        }
        let payload = match carrier {
            CarrierKind::Component => {
                let runtime = self.runtimes.with_stack(limits.stack)?;
                Payload::Component(Box::new(component::Payload::load(&runtime, file, &bytes)?))
            }
            CarrierKind::Native => Payload::Native(native::Library::load(
                file,
                &bytes,
                &self.directories.cache,
            )?),
        };
        check_exports(plugin, file, payload.exported())?;
        let digest = vox_crypto::hash(&bytes);
        if carrier == CarrierKind::Native {
            lock(&self.libraries).insert(digest, bytes.len() as u64);
        }
        Ok(Code {
            payload,
            digest,
            standing,
            took: since.elapsed(),
        })
    }
}

/// Refuses a plugin whose manifest is not the one any more that was read when it was found: what
/// was signed must be what is acted upon.
fn check_manifest(plugin: &Installed, signed: Option<&SignedFiles>) -> Result<(), Error> {
    let file = plugin.directory.join(MANIFEST_FILE);
    let text = std::fs::read_to_string(&file).map_err(|error| LoadError::Unreadable {
        file: file.clone(),
        error,
    })?;
    if let Some(signed) = signed {
        signed.check(Path::new(MANIFEST_FILE), text.as_bytes())?;
    }
    match Manifest::parse(&text, &file) {
        Ok(manifest) if manifest == plugin.manifest => Ok(()),
        _ => Err(LoadError::ManifestChanged { file }.into()),
    }
}

/// Whether a plugin that could not be started is to blame: not when its caller had no time left, or
/// when there is no room for one instance more.
pub(crate) fn is_failure(error: &Error, caller: &Caller) -> bool {
    match error {
        Error::Instantiate { .. } | Error::Call(CallError::Crashed { .. }) => true,
        Error::Exceeded { exceeded, .. } | Error::Call(CallError::Exceeded { exceeded, .. }) => {
            exceeded.is_of_code()
        }
        Error::Call(CallError::TimedOut { .. }) => caller.deadline.is_none(),
        _ => false,
    }
}

/// What an instance is started for.
pub(crate) struct Origin<'a> {
    /// On whose behalf it begins: it is cancelled with its caller and has no more time.
    pub(crate) caller: Option<&'a Caller>,
    /// The instance whose place it takes: what that listens to, and on whose behalf it is entered,
    /// goes over to it.
    pub(crate) from: Option<&'a Arc<Services>>,
    /// How many instances the plugin may have with this one.
    pub(crate) most: u32,
}

impl Origin<'_> {
    /// An instance beside others, for the time of a change: those are not counted against the
    /// limit, or a plugin that has reached it could never be reloaded.
    pub(crate) fn beside(from: Option<&Arc<Services>>) -> Origin<'_> {
        Origin {
            caller: None,
            from,
            most: u32::MAX,
        }
    }
}

impl Payload {
    /// Which of [`EXPORTS`] the code has.
    pub(super) fn exported(&self) -> &[bool; EXPORTS.len()] {
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
    file: &Path,
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
