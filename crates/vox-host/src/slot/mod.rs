//! One plugin's place in a host: what state it is in, which release of its code serves, what it
//! costs, and how often it failed.
//!
//! Instances hold their slot and compare one number, [`Slot::changes`], before every call; only
//! when it has moved do they look at what happened ([`Slot::look`]): a pause, a new release, the
//! end. So a change reaches every instance at its next call, and a call that is inside goes on
//! undisturbed.
//!
//! What must stay true: the state moves by [`State::after`] alone; a [`Release`] is never changed
//! once it serves; whoever reads the state or the release has read [`Slot::changes`] before, so
//! that a change in between is noticed at the next call.

mod failures;
mod release;

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender};
use semver::Version;
use serde::Serialize;
use vox_contract::PluginId;

pub(crate) use failures::{Failures, Rest};
pub(crate) use release::{Code, Release};

use crate::account::Account;
use crate::lifecycle::{State, Step};
use crate::services::Permits;

/// How long the release before a new one is kept ready to take over again.
const PROBATION: Duration = Duration::from_secs(5);
/// Reloads that are remembered, the newest last.
const REMEMBERED: usize = 16;

/// How one reload went.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ReloadRecord {
    /// The version that served before.
    pub from: Version,
    /// The version that was to take over.
    pub to: Version,
    /// When the new release took over, or was found not to do.
    pub at: SystemTime,
    /// Why the old release serves, where it does.
    pub kept_old: Option<String>,
}

/// One plugin's place in a host.
#[derive(Debug)]
pub(crate) struct Slot {
    id: PluginId,
    pub(crate) account: Arc<Account>,
    pub(crate) permits: Arc<Permits>,
    changes: AtomicU64,
    /// Guards everything that changes together; nothing is called under it.
    table: Mutex<Table>,
    /// Held while code of the plugin is loaded, so that it is loaded once, and while it is
    /// reloaded, so that one reload follows the other.
    pub(crate) loading: Mutex<()>,
    /// Held while it is reloaded.
    pub(crate) reloading: Mutex<()>,
}

#[derive(Debug)]
struct Table {
    state: State,
    /// Why the state is what it is, where that is not plain.
    reason: Option<String>,
    release: Arc<Release>,
    trial: Option<Trial>,
    failures: Failures,
    reloads: Vec<ReloadRecord>,
    /// While paused: dropping the sender wakes whoever waits.
    gate: Option<(Sender<Infallible>, Receiver<Infallible>)>,
}

/// The time in which a new release has to prove itself.
#[derive(Debug)]
struct Trial {
    former: Arc<Release>,
    until: Instant,
}

impl Trial {
    fn lasts(&self) -> bool {
        Instant::now() < self.until
    }
}

/// What an instance finds when it looks.
pub(crate) enum Look {
    /// The release that serves.
    Serving(Arc<Release>),
    /// The receiver is disconnected when calls may go on.
    Paused(Receiver<Infallible>),
    /// No calls are taken.
    Refused(State, Option<String>),
}

impl Slot {
    pub(crate) fn new(release: Release, account: Arc<Account>, permits: Arc<Permits>) -> Self {
        Self {
            id: release.installed.id().clone(),
            account,
            permits,
            changes: AtomicU64::new(0),
            table: Mutex::new(Table {
                state: State::Unloaded,
                reason: None,
                release: Arc::new(release),
                trial: None,
                failures: Failures::default(),
                reloads: Vec::new(),
                gate: None,
            }),
            loading: Mutex::default(),
            reloading: Mutex::default(),
        }
    }

    /// The plugin's id.
    pub(crate) fn id(&self) -> &PluginId {
        &self.id
    }

    /// Counts what instances have to notice.
    #[inline]
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What an instance has to do with its next call.
    pub(crate) fn look(&self) -> Look {
        let table = self.table();
        match (&table.gate, table.state) {
            (Some((_, gate)), State::Paused) => Look::Paused(gate.clone()),
            (_, state) if state.serves() => Look::Serving(Arc::clone(&table.release)),
            (_, state) => Look::Refused(state, table.reason.clone()),
        }
    }

    /// The state, and why, where that is not plain.
    pub(crate) fn state(&self) -> (State, Option<String>) {
        let table = self.table();
        (table.state, table.reason.clone())
    }

    /// The release that serves.
    pub(crate) fn release(&self) -> Arc<Release> {
        Arc::clone(&self.table().release)
    }

    /// How the last reloads went, the newest last.
    pub(crate) fn reloads(&self) -> Vec<ReloadRecord> {
        self.table().reloads.clone()
    }

    /// Takes a step, for a reason that is kept.
    ///
    /// # Errors
    ///
    /// The state, where the step is not legal in it.
    pub(crate) fn step_because(&self, step: Step, reason: Option<String>) -> Result<State, State> {
        let mut table = self.table();
        self.step_in(&mut table, step, reason)
    }

    fn step_in(
        &self,
        table: &mut Table,
        step: Step,
        reason: Option<String>,
    ) -> Result<State, State> {
        let from = table.state;
        let to = from.after(step).ok_or(from)?;
        tracing::debug!(plugin = %self.id, %from, %to, reason, "vox.plugin.state");
        table.state = to;
        table.reason = reason;
        table.gate = (to == State::Paused).then(|| crossbeam_channel::bounded(0));
        if matches!(to, State::Loading | State::Unloaded) {
            table.failures = Failures::default();
        }
        self.changed();
        Ok(to)
    }

    /// Has a new release serve, or another one before any code was loaded; the one before it takes
    /// over again when the new one fails soon.
    pub(crate) fn publish(&self, release: impl Into<Arc<Release>>) {
        let mut table = self.table();
        let release = release.into();
        let former = std::mem::replace(&mut table.release, Arc::clone(&release));
        let record = ReloadRecord {
            from: former.installed.version().clone(),
            to: release.installed.version().clone(),
            at: SystemTime::now(),
            kept_old: None,
        };
        table.remember(record);
        table.failures = Failures::default();
        table.trial = Some(Trial {
            former,
            until: Instant::now() + PROBATION,
        });
        self.changed();
    }

    /// Remembers that a new release did not do and never served.
    pub(crate) fn kept_old(&self, to: Version, reason: String) {
        let mut table = self.table();
        let from = table.release.installed.version().clone();
        table.remember(ReloadRecord {
            from,
            to,
            at: SystemTime::now(),
            kept_old: Some(reason),
        });
    }

    /// Has the release before `failed` serve again, if that is the one that serves and it is still
    /// on probation. In any case the reason is kept with the reload.
    pub(crate) fn take_back(&self, failed: &Release, reason: &str) -> bool {
        let mut table = self.table();
        if table.release.number != failed.number {
            return false;
        }
        if let Some(record) = table.reloads.last_mut()
            && record.to == *failed.installed.version()
        {
            record.kept_old.get_or_insert_with(|| reason.to_owned());
        }
        let Some(trial) = table.trial.take_if(|trial| trial.lasts()) else {
            return false;
        };
        tracing::warn!(
            plugin = %self.id, version = %failed.installed.version(),
            serving = %trial.former.installed.version(), reason,
            "a new version failed and the old one serves again"
        );
        table.release = trial.former;
        table.failures = Failures::default();
        self.changed();
        true
    }

    /// Remembers that an instance crashed. Too many crashes in a row end in [`State::Error`].
    pub(crate) fn failed(&self, reason: &str) {
        let mut table = self.table();
        if table.failures.add(reason, Instant::now()) {
            let reason = format!(
                "it failed {} times in a row, the last time: {reason}",
                table.failures.count()
            );
            // From a state without a way to `error` it is being unloaded anyway.
            let _ = self.step_in(&mut table, Step::Fail, Some(reason));
        }
    }

    /// Whether a release serves and still has to prove itself.
    pub(crate) fn is_on_probation(&self, release: &Release) -> bool {
        let table = self.table();
        table.release.number == release.number && table.trial.as_ref().is_some_and(Trial::lasts)
    }

    /// Remembers that a fresh instance answered.
    pub(crate) fn succeeded(&self) {
        let mut table = self.table();
        table.trial.take_if(|trial| !trial.lasts());
        if table.failures.count() > 0 {
            table.failures = Failures::default();
        }
    }

    /// Whether the plugin has to rest before it is started again.
    pub(crate) fn rest(&self) -> Option<Rest> {
        self.table().failures.rest(Instant::now())
    }

    /// An instance is gone; the last one of a plugin that is being unloaded takes its code along.
    pub(crate) fn let_go(&self) {
        let mut table = self.table();
        if table.state == State::Draining && self.account.instances() == 0 {
            table.trial = None;
            table.release.forget();
            let _ = self.step_in(&mut table, Step::Drained, None);
        }
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remember(&mut self, record: ReloadRecord) {
        if self.reloads.len() == REMEMBERED {
            self.reloads.remove(0);
        }
        self.reloads.push(record);
    }
}
