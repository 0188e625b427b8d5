//! One live plugin instance, whichever carrier and whichever release of the code it has.
//!
//! An [`Instance`] outlives the code in it. After a trap, a panic or a limit its store is thrown
//! away, and the next call gets a fresh one; when a new release of the plugin serves, the next call
//! moves the instance over to it: a successor is started beside it, takes the state over by
//! `snapshot` and `restore`, and the old code is kept until the new one has answered
//! [`TRIAL_CALLS`] calls. A call that crashes the new code before that is made again on the old.
//!
//! What must stay true: one caller is inside at a time; a store that trapped is never entered
//! again; a call that is inside when something changes ends on the code on which it began.

mod change;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use vox_contract::{Carrier as CarrierKind, PluginId};

use crate::account::MeterGuard;
use crate::carriers::{Answer, Carrier, Failure, component, native};
use crate::contract::EXPORTS;
use crate::error::{CallError, readable};
use crate::host::{Inner, InstanceOptions};
use crate::json::JsonCallError;
use crate::services::{Caller, CancelToken, Services};
use crate::slot::{Release, Slot};

/// Calls that a new release has to answer in an instance before the old one goes.
const TRIAL_CALLS: u32 = 16;
/// A number of changes that no slot reaches: look before the next call.
const NOTHING_SEEN: u64 = u64::MAX;

/// A live, initialised instance of a plugin.
///
/// The clients of its extension points come from [`Instance::stage`], [`Instance::step`] and so
/// on; they borrow the instance mutably, which keeps it to one caller at a time. A call after a
/// crash gets fresh code, initialised like the first, that knows nothing of earlier calls.
/// Dropping the instance calls `lifecycle.shutdown` first, unless it crashed.
pub struct Instance {
    seat: Arc<Seat>,
    /// That of the seat, one step nearer for every call.
    slot: Arc<Slot>,
    release: Arc<Release>,
    exported: [bool; EXPORTS.len()],
    /// None after a crash, until the next call.
    live: Option<Live>,
    /// The slot's changes that were acted upon.
    seen: u64,
    /// It is being started, handed over or ended: changes do not concern it.
    frozen: bool,
    /// What is there has to prove itself: it was started after a failure, or is on trial.
    unsettled: bool,
    trial: Option<Trial>,
    /// On whose behalf it is entered, where it is kept for calls of other plugins.
    caller: Option<Caller>,
    /// A release that did not do for this instance.
    declined: Option<u64>,
    timeout: Option<Duration>,
    /// When calls have to be over, whatever they are given each.
    deadline: Option<Instant>,
    crashes: u64,
}

/// What an instance was asked for with; from it another can be started.
pub(crate) struct Seat {
    pub(crate) host: Weak<Inner>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) carrier: CarrierKind,
    pub(crate) options: InstanceOptions,
}

/// Code that can be entered, with all that belongs to it.
pub(crate) struct Live {
    pub(crate) carrier: Carrier,
    pub(crate) exported: [bool; EXPORTS.len()],
    pub(crate) services: Arc<Services>,
    pub(crate) meter: MeterGuard,
}

/// The first calls of a new release in an instance.
struct Trial {
    /// The code before the present one; an instance that was started afresh has none.
    former: Option<Box<Instance>>,
    calls_left: u32,
}

impl Trial {
    fn new(former: Option<Instance>) -> Self {
        Self {
            former: former.map(Box::new),
            calls_left: TRIAL_CALLS,
        }
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Instance")
            .field("plugin", self.plugin())
            .field("carrier", &self.carrier_kind())
            .field("alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

impl Live {
    /// Makes a call by the half that the carrier has of it. They are two so that the native one is
    /// small enough to become part of its caller: arguments that go through memory in pieces and
    /// are read back whole cost more than the call.
    #[inline(always)]
    fn call<R>(
        &mut self,
        bytes: usize,
        component: &mut impl FnMut(&mut component::Instance) -> Answer<R>,
        native: &mut impl FnMut(&mut native::Instance) -> Answer<R>,
    ) -> Answer<R> {
        let timing = self.meter.count_call(bytes);
        if timing.is_some() {
            self.services.clock.begin();
        }
        // Only a component is told of ticks.
        let (result, has_run) = match &mut self.carrier {
            Carrier::Component(instance) => {
                let result = instance.with_stack(component);
                (result, self.services.clock.has_run())
            }
            Carrier::Native(instance) => (native(instance), false),
        };
        if timing.is_some() || has_run {
            self.services.clock.end(timing, &self.meter);
        }
        result
    }
}

impl Instance {
    /// Takes code over and initialises it with `config`, a JSON object. It stays out of all
    /// changes until [`Instance::join`].
    pub(crate) fn start(
        seat: Arc<Seat>,
        release: Arc<Release>,
        live: Live,
        config: &str,
    ) -> Result<Self, CallError> {
        let mut instance = Self {
            slot: Arc::clone(&seat.slot),
            seat,
            release,
            exported: live.exported,
            live: Some(live),
            seen: NOTHING_SEEN,
            frozen: true,
            unsettled: true,
            trial: None,
            caller: None,
            declined: None,
            timeout: None,
            deadline: None,
            crashes: 0,
        };
        if let Err(error) = instance.lifecycle().and_then(|mut own| own.init(config)) {
            // There is nothing to shut down.
            instance.live = None;
            return Err(error);
        }
        Ok(instance)
    }

    /// From now on changes concern it.
    pub(crate) fn join(mut self) -> Self {
        self.frozen = false;
        if self.slot.is_on_probation(&self.release) {
            self.trial = Some(Trial::new(None));
        }
        self
    }

    /// Id of the plugin.
    pub fn plugin(&self) -> &PluginId {
        self.slot.id()
    }

    /// Version of the code that is in it.
    pub fn version(&self) -> &semver::Version {
        self.release.installed.version()
    }

    /// How the code is carried.
    pub fn carrier_kind(&self) -> CarrierKind {
        self.seat.carrier
    }

    /// The hash of the code that is in it.
    pub fn code(&self) -> Option<vox_crypto::Digest> {
        let code = self.release.code(self.seat.carrier)?;
        Some(code.digest)
    }

    /// Whether the code that is in it has not crashed. Where it has, the next call gets fresh
    /// code.
    pub fn is_alive(&self) -> bool {
        self.live.is_some()
    }

    /// How often its code crashed or was stopped, so that whoever keeps an instance notices that
    /// it begins anew.
    pub fn crashes(&self) -> u64 {
        self.crashes
    }

    /// Whether the plugin exports this interface, such as `metrics`.
    pub fn exports(&self, interface: &str) -> bool {
        EXPORTS
            .iter()
            .zip(self.exported)
            .any(|(known, exported)| exported && known.name == interface)
    }

    /// Has every later call end after so long, host functions included; none lets it take the time
    /// that it needs. A component is stopped; native code is told by `should-cancel` and cannot be
    /// stopped.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
        if let Some(live) = &self.live {
            live.services.clock.set_deadline(None);
        }
    }

    /// Has every later call end at this moment, as [`Instance::set_timeout`] has it; whoever reads
    /// the clock anyway spares each call from doing so.
    #[inline]
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
        if let Some(live) = &self.live {
            live.services.clock.set_deadline(deadline);
        }
    }

    /// Has every later call told to stop by another token than the one that the instance was asked
    /// for with: what is cancelled once stays so, and an instance may outlive that.
    pub fn set_cancel(&mut self, cancel: CancelToken) {
        self.set_caller(Caller {
            cancel,
            deadline: self.deadline,
            hook_depth: self.seat.options.hook_depth,
            ..Caller::default()
        });
    }

    /// Calls an exported function by name, `stage.process`, with a JSON value for each parameter.
    ///
    /// Bytes are given as a string (its UTF-8 bytes), as an array of numbers, or as
    /// `{"base64": "…"}`.
    ///
    /// # Errors
    ///
    /// There is no such function, the values do not fit its parameters, or the call fails.
    pub fn call_json(
        &mut self,
        function: &str,
        arguments: Vec<serde_json::Value>,
    ) -> Result<serde_json::Value, JsonCallError> {
        let (interface, function) = function.split_once('.').unwrap_or((function, ""));
        crate::contract::call_json(self, interface, function, arguments)
    }

    /// Says on whose behalf it is entered from now on.
    pub(crate) fn set_caller(&mut self, caller: Caller) {
        let former = self.trial.as_ref().and_then(|trial| trial.former.as_ref());
        let former = former.and_then(|former| former.services());
        for services in self.services().into_iter().chain(former) {
            services.set_caller(caller.clone());
        }
        self.caller = Some(caller);
    }

    /// How long whoever calls waits for it.
    fn patience(&self) -> Caller {
        let services = self.services();
        let caller = self.caller.as_ref();
        let cancel = match services {
            Some(services) => services.cancel_token(),
            None => caller
                .map_or(&self.seat.options.cancel, |caller| &caller.cancel)
                .clone(),
        };
        let given = || caller.and_then(|caller| caller.deadline);
        Caller {
            cancel,
            deadline: self.ends().or_else(given),
            ..Caller::default()
        }
    }

    /// What the code in it may use of the world; none after a crash.
    pub(crate) fn services(&self) -> Option<&Arc<Services>> {
        self.live.as_ref().map(|live| &live.services)
    }

    /// Refuses what the plugin does not export.
    #[inline]
    pub(crate) fn require(&self, interface: usize) -> Result<(), CallError> {
        if self.exported[interface] {
            return Ok(());
        }
        Err(CallError::NotExported {
            plugin: self.plugin().clone(),
            function: EXPORTS[interface].name,
        })
    }

    /// Counts bytes of text and data that a call answered.
    #[inline]
    pub(crate) fn count_out(&self, bytes: usize) {
        if let Some(live) = &self.live {
            live.meter.count_out(bytes);
        }
    }

    /// Makes one call, which hands over so many `bytes` of text and data. All calls of all
    /// extension points come through here, with what it takes for each carrier. The call is made a
    /// second time when it crashes code that is on trial.
    #[inline]
    pub(crate) fn enter<R>(
        &mut self,
        function: &'static str,
        bytes: usize,
        mut component: impl FnMut(&mut component::Instance) -> Answer<R>,
        mut native: impl FnMut(&mut native::Instance) -> Answer<R>,
    ) -> Result<R, CallError> {
        // Even a span that nobody wants costs several nanoseconds, which is what a call costs.
        let _span = tracing::level_enabled!(tracing::Level::TRACE).then(|| {
            tracing::trace_span!("vox.plugin.call", plugin = %self.plugin(), function).entered()
        });
        if self.seen != self.slot.changes() || self.live.is_none() {
            // What moves over or is started takes the time of this call along.
            self.start_time();
            self.attend(function)?;
            self.start_time();
        } else if self.timeout.is_some() {
            self.start_time();
        }
        let Some(live) = &mut self.live else {
            return Err(self.not_restarted(function, "it has crashed"));
        };
        match live.call(bytes, &mut component, &mut native) {
            Ok(value) => {
                if self.unsettled {
                    self.settle();
                }
                Ok(value)
            }
            Err(failure) => self.recover(function, *failure, bytes, component, native),
        }
    }

    #[cold]
    fn start_time(&self) {
        if let (Some(live), Some(ends)) = (&self.live, self.ends()) {
            live.services.clock.set_deadline(Some(ends));
        }
    }

    /// When a call that begins now has to be over.
    fn ends(&self) -> Option<Instant> {
        let timeout = self.timeout.map(|timeout| Instant::now() + timeout);
        timeout.into_iter().chain(self.deadline).min()
    }

    /// The call brought an answer, so what is there works.
    #[cold]
    fn settle(&mut self) {
        if self.frozen {
            return;
        }
        if let Some(trial) = &mut self.trial {
            trial.calls_left = trial.calls_left.saturating_sub(1);
            if trial.calls_left > 0 {
                return;
            }
            self.trial = None;
        }
        self.slot.succeeded();
        self.unsettled = false;
    }

    /// Says what a carrier's failure means; where code on trial crashed, makes the call again on
    /// the code before it.
    #[cold]
    fn recover<R>(
        &mut self,
        function: &'static str,
        failure: Failure,
        bytes: usize,
        mut component: impl FnMut(&mut component::Instance) -> Answer<R>,
        mut native: impl FnMut(&mut native::Instance) -> Answer<R>,
    ) -> Result<R, CallError> {
        let blameless = match &failure {
            Failure::Cancelled => true,
            // It had no more time than whoever called it through another plugin.
            Failure::TimedOut => self.ends().is_none(),
            Failure::Exceeded(exceeded) => !exceeded.is_of_code(),
            _ => false,
        };
        let error = self.fail(function, failure);
        if self.live.is_some() {
            if self.unsettled {
                self.settle();
            }
            return Err(error);
        }
        if self.frozen {
            return Err(error);
        }
        let trial = self.trial.take();
        if blameless {
            return Err(error);
        }
        let Some(trial) = trial else {
            self.slot.failed(&error.to_string());
            return Err(error);
        };
        let taken_back = self.slot.take_back(&self.release, &error.to_string());
        let Some(former) = trial.former else {
            // Nothing of the old code is here to go on with; the next call starts it.
            if !taken_back {
                self.slot.failed(&error.to_string());
            }
            return Err(error);
        };
        self.declined = Some(self.release.number);
        self.adopt(*former);
        self.unsettled = false;
        self.start_time();
        let Some(live) = &mut self.live else {
            return Err(error);
        };
        match live.call(bytes, &mut component, &mut native) {
            Ok(value) => Ok(value),
            Err(failure) => {
                let error = self.fail(function, *failure);
                if self.live.is_none() {
                    self.slot.failed(&error.to_string());
                }
                Err(error)
            }
        }
    }

    /// Says what a carrier's failure means, and throws crashed code away.
    fn fail(&mut self, function: &'static str, failure: Failure) -> CallError {
        let plugin = self.plugin().clone();
        let error = match failure {
            Failure::Refused(error) => {
                if let Some(live) = &self.live {
                    live.meter.count_error();
                }
                return CallError::Refused {
                    plugin,
                    function,
                    error,
                };
            }
            Failure::NotExported => return CallError::NotExported { plugin, function },
            Failure::Protocol(detail) => {
                return CallError::Protocol {
                    plugin,
                    function,
                    detail,
                };
            }
            Failure::Cancelled => CallError::Cancelled { plugin, function },
            Failure::TimedOut => CallError::TimedOut { plugin, function },
            Failure::Exceeded(exceeded) => CallError::Exceeded {
                plugin,
                function,
                exceeded,
            },
            Failure::Crashed(trap) => {
                let panic = self
                    .live
                    .as_ref()
                    .and_then(|live| live.services.take_panic());
                CallError::Crashed {
                    plugin,
                    function,
                    message: readable(&panic.unwrap_or(trap)),
                }
            }
        };
        self.crashes += 1;
        if let Some(live) = self.live.take()
            && !matches!(error, CallError::Cancelled { .. })
        {
            live.meter.count_trap();
            tracing::warn!(plugin = %self.plugin(), function, %error, "a plugin crashed");
        }
        error
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.trial = None;
        if let Some(live) = &self.live {
            // The last words of an instance whose run was cancelled are heard all the same.
            live.services.set_caller(Default::default());
            self.frozen = true;
            self.timeout = None;
            self.deadline = None;
            let ended = self.lifecycle().and_then(|mut own| own.shutdown());
            if let Err(error) = ended {
                tracing::warn!(plugin = %self.plugin(), %error, "a plugin did not shut down cleanly");
            }
            // A thread that native code has left behind is told to end.
            if let Some(live) = &self.live {
                live.services.cancel_token().cancel();
            }
        }
        self.live = None;
        // Also when it had crashed, in `shutdown` at the latest: it may be the last that is waited
        // for.
        self.slot.let_go();
    }
}
