//! The instances of one hook.
//!
//! A hook that is asked from outside of all hooks is always the same instance, so it remembers
//! what it has seen of the run. Asked from within another hook, or from within itself, it is
//! another instance, one for each depth: the outer one is busy, and may be busy with waiting for
//! this very answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use vox_contract::{PluginId, WallTime};

use super::{HookError, HookOptions, HookSource};
use crate::contract::hook::{Event, Outcome};
use crate::error::CallError;
use crate::host::{Host, InstanceOptions};
use crate::instance::Instance;
use crate::platform::{RECENT, recent};

/// A hook with its instances.
pub(super) struct Watcher {
    source: HookSource,
    host: Host,
    options: HookOptions,
    /// Asked from outside of all hooks. Held during a call, under which only instances of greater
    /// depth are waited for.
    outer: Mutex<Place>,
    /// Asked from within hooks, by depth from 2 on; each held like `outer`. Guards the table only.
    inner: Mutex<BTreeMap<u32, Arc<Mutex<Place>>>>,
    /// Whether it was told that it cannot be started.
    told: AtomicBool,
}

/// Where an instance stands.
#[derive(Default)]
enum Place {
    /// Nobody was asked here yet.
    #[default]
    Empty,
    Taken(Box<Instance>),
    /// It could not be started, which is not tried again.
    Failed(String),
}

/// One question to a hook.
pub(super) struct Question<'a> {
    pub(super) event: &'a Event,
    pub(super) payload: &'a [u8],
    /// How many hooks are inside each other with this one.
    pub(super) depth: u32,
    /// When it is asked.
    pub(super) now: Instant,
    /// How long it may take.
    pub(super) limit: Duration,
    /// When it has to be over in any case.
    pub(super) deadline: Option<Instant>,
}

impl Watcher {
    pub(super) fn new(host: Host, source: HookSource, options: HookOptions) -> Self {
        Self {
            source,
            host,
            options,
            outer: Mutex::new(Place::Empty),
            inner: Mutex::default(),
            told: AtomicBool::new(false),
        }
    }

    pub(super) fn plugin(&self) -> &PluginId {
        &self.source.plugin
    }

    /// Whether it was not told yet that it cannot be started; from now on it was.
    pub(super) fn is_news(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }

    /// Starts the instance that is asked from outside of all hooks.
    pub(super) fn start(&self) -> Result<(), HookError> {
        lock(&self.outer).instance(self, 1).map(drop)
    }

    /// Asks; answers with the time at which the answer was there.
    #[inline]
    pub(super) fn ask(&self, question: &Question<'_>) -> (Result<Outcome, HookError>, Instant) {
        if question.depth == 1 {
            self.ask_at(&self.outer, question)
        } else {
            let place = lock(&self.inner).entry(question.depth).or_default().clone();
            self.ask_at(&place, question)
        }
    }

    fn ask_at(
        &self,
        place: &Mutex<Place>,
        question: &Question<'_>,
    ) -> (Result<Outcome, HookError>, Instant) {
        // Waiting for one's turn, and starting an instance, take nothing off the hook's time.
        let mut now = question.now;
        let mut place = match place.try_lock() {
            Ok(place) => place,
            Err(TryLockError::Poisoned(place)) => place.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let place = lock(place);
                now = recent();
                place
            }
        };
        let fresh = matches!(*place, Place::Empty);
        let instance = match place.instance(self, question.depth) {
            Ok(instance) => instance,
            Err(error) => return (Err(error), recent()),
        };
        if fresh {
            now = recent();
        }
        let own = now + question.limit;
        let deadline = question.deadline.map_or(own, |outer| outer.min(own));
        instance.set_deadline(Some(deadline));
        let answer = instance
            .hook()
            .and_then(|mut hook| hook.handle(question.event, question.payload));
        let now = recent();
        let late = |stopped| HookError::TimedOut {
            plugin: self.plugin().clone(),
            limit: WallTime(question.limit),
            stopped,
        };
        let answer = match answer {
            // Whether it was in time is told by the exact clock, where that is in question.
            Ok(_) if now + RECENT > deadline && Instant::now() > deadline => Err(late(false)),
            Ok(outcome) => Ok(outcome),
            Err(CallError::TimedOut { .. }) => Err(late(true)),
            Err(error) => Err(error.into()),
        };
        (answer, now)
    }

    /// Hands out every instance that was started, the outermost first.
    pub(super) fn visit(&self, visitor: &mut dyn FnMut(&mut Instance)) {
        let inner: Vec<_> = lock(&self.inner).values().map(Arc::clone).collect();
        for place in std::iter::once(&self.outer).chain(inner.iter().map(|place| &**place)) {
            if let Place::Taken(instance) = &mut *lock(place) {
                // That of the last question is over.
                instance.set_deadline(None);
                visitor(instance);
            }
        }
    }
}

impl Place {
    /// The instance that stands here, started where none does.
    #[inline]
    fn instance(&mut self, watcher: &Watcher, depth: u32) -> Result<&mut Instance, HookError> {
        if let Self::Empty = self {
            *self = Self::start(watcher, depth);
        }
        match self {
            Self::Taken(instance) => Ok(instance),
            Self::Failed(reason) => Err(HookError::NotStarted {
                reason: reason.clone(),
            }),
            Self::Empty => Err(HookError::NotStarted {
                reason: "it was not started".to_owned(),
            }),
        }
    }

    #[cold]
    fn start(watcher: &Watcher, depth: u32) -> Self {
        let Watcher {
            source,
            host,
            options,
            ..
        } = watcher;
        let options = InstanceOptions {
            carrier: source.carrier,
            config: source.arguments.clone(),
            events: Arc::clone(&options.events),
            cancel: options.cancel.clone(),
            hook_depth: depth,
            ..InstanceOptions::default()
        };
        match host.instance(&source.plugin, options) {
            Ok(instance) => Self::Taken(Box::new(instance)),
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
