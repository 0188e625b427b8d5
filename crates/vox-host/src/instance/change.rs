//! What happens to an instance between two calls: it waits while its plugin is paused, moves over to
//! a new release or back to the old one, and gets fresh code after a crash.
//!
//! What must stay true: whatever fails here leaves the instance with code that works, or with none
//! and an error; its state is handed over at most once for each move.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::{Instance, Trial};
use crate::contract::lifecycle::Condition;
use crate::error::CallError;
use crate::host::{Origin, is_failure};
use crate::slot::{Look, Release};

impl Instance {
    /// Acts upon what happened to the plugin since the last call.
    #[cold]
    pub(super) fn attend(&mut self, function: &'static str) -> Result<(), CallError> {
        if self.frozen {
            return Ok(());
        }
        let (changes, release) = loop {
            let changes = self.slot.changes();
            match self.slot.look() {
                Look::Serving(release) => break (changes, release),
                Look::Paused(gate) => self.wait(&gate, function)?,
                Look::Refused(state, reason) => {
                    return Err(CallError::NotServing {
                        plugin: self.plugin().clone(),
                        function,
                        state,
                        reason,
                    });
                }
            }
        };
        let stays = self.seat.options.stays && self.live.is_some();
        if release.number != self.release.number && self.declined != Some(release.number) && !stays
        {
            self.move_to(release);
        }
        if self.live.is_none() {
            self.restart(function)?;
        }
        self.seen = changes;
        Ok(())
    }

    /// Waits until a paused plugin is resumed, its run cancelled, or its time over.
    fn wait(
        &self,
        gate: &Receiver<std::convert::Infallible>,
        function: &'static str,
    ) -> Result<(), CallError> {
        let caller = self.patience();
        caller
            .wait_for(gate)
            .map_err(|end| end.into_error(self.plugin().clone(), function))
    }

    /// Moves over to another release, or stays with what works.
    fn move_to(&mut self, release: Arc<Release>) {
        let _span = tracing::info_span!(
            "vox.plugin.take_over", plugin = %self.plugin(),
            from = %self.version(), to = %release.installed.version(),
        )
        .entered();
        if self.live.is_none() {
            self.trial = None;
            self.release = release;
            return;
        }
        if let Some(former) = self.trial.take().and_then(|trial| trial.former)
            && former.release.number == release.number
        {
            // The release was taken back. What it learnt is worth having, but no condition.
            let mut former = *former;
            if let Err(reason) = self.hand_over(&mut former) {
                tracing::warn!(plugin = %self.plugin(), reason, "the state of a version that was taken back is lost");
            }
            self.adopt(former);
            self.unsettled = false;
            return;
        }
        match self.successor(&release) {
            Ok(mut successor) => {
                std::mem::swap(&mut self.live, &mut successor.live);
                std::mem::swap(&mut self.release, &mut successor.release);
                std::mem::swap(&mut self.exported, &mut successor.exported);
                self.trial = Some(Trial::new(Some(successor)));
                self.unsettled = true;
            }
            Err(reason) => {
                tracing::warn!(plugin = %self.plugin(), reason, "an instance stays with the old version");
                self.slot.take_back(&release, &reason);
                self.declined = Some(release.number);
            }
        }
    }

    /// A started instance of another release that has this one's state.
    fn successor(&mut self, release: &Arc<Release>) -> Result<Self, String> {
        let host = self.seat.host.upgrade().ok_or("the host is closing")?;
        let mut successor = host
            .start(&self.seat, release, &Origin::beside(self.services()))
            .map_err(|error| error.to_string())?;
        successor.require_health()?;
        self.hand_over(&mut successor)?;
        Ok(successor)
    }

    /// Refuses to go on with an instance that says that it cannot serve.
    pub(crate) fn require_health(&mut self) -> Result<(), String> {
        let condition = self.lifecycle().and_then(|mut own| own.health());
        match condition.map_err(|error| error.to_string())? {
            Condition::Ready | Condition::Degraded(_) => Ok(()),
            Condition::Failing(why) => Err(format!("its health is `failing`: {why}")),
        }
    }

    /// Gives this instance's state to `successor`.
    fn hand_over(&mut self, successor: &mut Self) -> Result<(), String> {
        self.frozen = true;
        let saved = self.lifecycle().and_then(|mut own| own.snapshot());
        self.frozen = false;
        let saved = saved.map_err(|error| format!("its state could not be taken: {error}"))?;
        let Some(saved) = saved else {
            return Ok(());
        };
        successor
            .lifecycle()
            .and_then(|mut own| own.restore(saved.version, &saved.state))
            .map_err(|error| format!("it did not take the state over: {error}"))
    }

    /// Goes on with the code of another instance, which was frozen; what is here ends.
    pub(super) fn adopt(&mut self, mut other: Self) {
        std::mem::swap(&mut self.live, &mut other.live);
        std::mem::swap(&mut self.release, &mut other.release);
        std::mem::swap(&mut self.exported, &mut other.exported);
    }

    /// Starts fresh code after a crash.
    fn restart(&mut self, function: &'static str) -> Result<(), CallError> {
        if let Some(rest) = self.slot.rest() {
            return Err(CallError::BackingOff {
                plugin: self.plugin().clone(),
                function,
                failures: rest.failures,
                wait: rest.left,
                reason: rest.last,
            });
        }
        let Some(host) = self.seat.host.upgrade() else {
            return Err(self.not_restarted(function, "the host is closing"));
        };
        let patience = self.patience();
        let origin = Origin {
            caller: Some(&patience),
            from: None,
            most: self.release.limits.instances,
        };
        let fresh = host.start(&self.seat, &self.release, &origin);
        match fresh {
            Ok(fresh) => {
                self.adopt(fresh);
                if let Some(caller) = self.caller.clone() {
                    self.set_caller(caller);
                }
                self.unsettled = true;
                if self.slot.is_on_probation(&self.release) {
                    self.trial = Some(Trial::new(None));
                }
                Ok(())
            }
            Err(error) => {
                let reason = error.to_string();
                let is_failure = is_failure(&error, &patience);
                if is_failure && !self.slot.take_back(&self.release, &reason) {
                    self.slot.failed(&reason);
                }
                Err(self.not_restarted(function, &reason))
            }
        }
    }

    pub(super) fn not_restarted(&self, function: &'static str, reason: &str) -> CallError {
        CallError::NotRestarted {
            plugin: self.plugin().clone(),
            function,
            reason: reason.to_owned(),
        }
    }
}
