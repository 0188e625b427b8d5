//! The order of hooks, and what becomes of their answers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vox_contract::{HookFailure, HookPoint, PluginId};

use super::watcher::{Question, Watcher};
use super::{
    Abort, Answer, Fault, HookError, HookOptions, HookSource, HookSwitches, Notice, Occasion,
};
use crate::contract::hook::{Event, Outcome};
use crate::host::Host;
use crate::instance::Instance;
use crate::platform::recent;

/// The hooks of a run. Asked from any thread; a hook is inside one answer at a time.
pub struct HookChain {
    run: String,
    watchers: Vec<Watcher>,
    /// By point, in the order in which they are called.
    order: BTreeMap<HookPoint, Vec<Entry>>,
    host: Host,
    switches: HookSwitches,
    /// The changes of the switches that the entries know of.
    seen: AtomicU64,
    /// Held while the entries learn of changes.
    refreshing: Mutex<()>,
}

/// One hook at one point.
struct Entry {
    watcher: usize,
    priority: i32,
    limit: Duration,
    failure: HookFailure,
    on: AtomicBool,
}

impl Entry {
    fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for HookChain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plugins: Vec<_> = self.watchers.iter().map(Watcher::plugin).collect();
        formatter
            .debug_struct("HookChain")
            .field("run", &self.run)
            .field("plugins", &plugins)
            .finish_non_exhaustive()
    }
}

impl HookChain {
    /// Starts an instance of every hook that is on at some point; the others are started when they
    /// are first asked. At which points a hook is called, and how, is what its manifest says now;
    /// a later version of the plugin changes nothing of that.
    ///
    /// # Errors
    ///
    /// The first hook that cannot be started, unless its policy is `open` at every point at which
    /// it is on; then it is told of at the first of them, and takes no part.
    pub fn open(
        host: &Host,
        sources: impl IntoIterator<Item = HookSource>,
        options: &HookOptions,
    ) -> Result<Self, Abort> {
        let mut chain = Self {
            run: options.run.clone(),
            watchers: Vec::new(),
            order: BTreeMap::new(),
            host: host.clone(),
            switches: options.switches.clone(),
            // No count of changes: the entries have to learn what is on.
            seen: AtomicU64::new(u64::MAX),
            refreshing: Mutex::default(),
        };
        for source in sources {
            let plugin = host.plugin(&source.plugin).map_err(|error| Abort {
                plugin: source.plugin.clone(),
                reason: not_started(error.to_string()),
            })?;
            for entry in &plugin.manifest.provides.hooks {
                let point = chain.order.entry(entry.point.clone());
                point.or_default().push(Entry {
                    watcher: chain.watchers.len(),
                    priority: entry.priority,
                    limit: entry.time_limit(),
                    failure: entry.failure(),
                    on: AtomicBool::new(false),
                });
            }
            let watcher = Watcher::new(host.clone(), source, options.clone());
            chain.watchers.push(watcher);
        }
        let watchers = &chain.watchers;
        for entries in chain.order.values_mut() {
            entries.sort_by_key(|entry| {
                let plugin = watchers[entry.watcher].plugin();
                (entry.priority, plugin, entry.watcher)
            });
        }
        chain.attend();
        for (index, watcher) in chain.watchers.iter().enumerate() {
            chain.start(index, watcher)?;
        }
        Ok(chain)
    }

    fn start(&self, index: usize, watcher: &Watcher) -> Result<(), Abort> {
        let mut on = self
            .order
            .iter()
            .flat_map(|(point, entries)| entries.iter().map(move |entry| (point, entry)))
            .filter(|(_, entry)| entry.watcher == index && entry.is_on())
            .peekable();
        if on.peek().is_none() {
            return Ok(());
        }
        match watcher.start() {
            Err(error) if on.any(|(point, entry)| entry.stops(point)) => Err(Abort {
                plugin: watcher.plugin().clone(),
                reason: error.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether anyone would be asked at this point.
    pub fn watches(&self, point: &HookPoint) -> bool {
        self.attend();
        self.order
            .get(point)
            .is_some_and(|entries| entries.iter().any(Entry::is_on))
    }

    /// Asks the hooks of a point, one after the other, until one aborts. Each gets the payload as
    /// the one before it left it. `notice` is told what they do wrong and what changes nothing.
    pub fn ask(
        &self,
        point: &HookPoint,
        occasion: &Occasion<'_>,
        notice: &mut dyn FnMut(&Notice<'_>),
    ) -> Answer {
        self.attend();
        let entries = self.order.get(point).map_or(&[][..], Vec::as_slice);
        if !entries.iter().any(Entry::is_on) {
            return Answer::Continue;
        }
        let event = Event {
            point: point.name().into_owned(),
            run: self.run.clone(),
            step: occasion.step.to_owned(),
            timestamp: timestamp(),
            detail: occasion.detail.to_owned(),
        };
        let mut replacement: Option<Vec<u8>> = None;
        let mut now = recent();
        for entry in entries.iter().filter(|entry| entry.is_on()) {
            let watcher = &self.watchers[entry.watcher];
            let (answer, answered) = watcher.ask(&Question {
                event: &event,
                payload: replacement.as_deref().unwrap_or(occasion.payload),
                depth: occasion.nesting.next(),
                now,
                limit: entry.limit,
                deadline: occasion.nesting.deadline(),
            });
            now = answered;
            let abort = |reason| {
                let plugin = watcher.plugin().clone();
                Answer::Abort(Abort { plugin, reason })
            };
            let fault = match answer {
                Ok(Outcome::Continue) => continue,
                Ok(Outcome::Replace(bytes)) if point.may_replace() => {
                    replacement = Some(bytes);
                    continue;
                }
                Ok(Outcome::Replace(_)) => Fault::Replaced,
                Ok(Outcome::Drop) if point.may_drop() => return Answer::Drop,
                Ok(Outcome::Drop) => Fault::Dropped,
                Ok(Outcome::Abort(reason)) if point.may_abort() => return abort(reason),
                Ok(Outcome::Abort(reason)) => Fault::Aborted { reason },
                Err(error) if entry.stops(point) => return abort(could_not(&error)),
                // That is not tried again, and is no other failure at another point.
                Err(HookError::NotStarted { .. }) if !watcher.is_news() => continue,
                Err(error) => Fault::Failed(error),
            };
            notice(&Notice {
                plugin: watcher.plugin(),
                point,
                step: occasion.step,
                fault,
            });
        }
        replacement.map_or(Answer::Continue, Answer::Replace)
    }

    /// Hands out every instance that was started, for its metrics. Waits for those that are busy.
    pub fn visit(&self, mut visitor: impl FnMut(&mut Instance)) {
        self.watchers
            .iter()
            .for_each(|watcher| watcher.visit(&mut visitor));
    }

    /// Has the entries learn of what was switched since they last did.
    #[inline]
    fn attend(&self) {
        if self.seen.load(Ordering::Acquire) != self.switches.changes() {
            self.refresh();
        }
    }

    #[cold]
    fn refresh(&self) {
        let _turn = self
            .refreshing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let changes = self.switches.changes();
        for (point, entries) in &self.order {
            for entry in entries {
                let on = self.is_on(self.watchers[entry.watcher].plugin(), point);
                entry.on.store(on, Ordering::Relaxed);
            }
        }
        self.seen.store(changes, Ordering::Release);
    }

    fn is_on(&self, plugin: &PluginId, point: &HookPoint) -> bool {
        self.switches
            .switched(plugin, point)
            .unwrap_or_else(|| self.host.settings().hook_is_on(plugin, point))
    }
}

impl Entry {
    /// Whether a failure at this point stops what the point precedes.
    fn stops(&self, point: &HookPoint) -> bool {
        self.failure == HookFailure::Closed && point.may_abort()
    }
}

fn not_started(reason: String) -> String {
    HookError::NotStarted { reason }.to_string()
}

fn could_not(error: &HookError) -> String {
    format!("it could not answer: {error}")
}

/// Nanoseconds since the Unix epoch.
fn timestamp() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
