//! Replacing a plugin's code while it serves.
//!
//! Everything that can fail is done beside the old code: the files are read and their content
//! compared with what serves, the new code is loaded, an instance of it started and asked for its
//! health. Only then is the new release published; every instance moves over at its next call
//! ([`crate::Instance`]), and the old release stays ready until the new one has proved itself
//! ([`Slot`]). Whatever fails leaves the old release serving, with the reason kept.

use std::sync::Arc;

use semver::Version;
use serde::Serialize;
use vox_contract::{Bytes, Carrier as CarrierKind, Manifest, PluginId};

use super::{Host, Inner, InstanceOptions, Origin, lock};
use crate::error::Error;
use crate::instance::Seat;
use crate::inventory::{Installed, Inventory};
use crate::lifecycle::{State, Step};
use crate::resolution;
use crate::slot::{Release, Slot};

/// What became of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Reloaded {
    /// The files are the same as those that serve.
    Unchanged,
    /// The new version serves.
    Replaced {
        /// The version before.
        from: Version,
        /// The version that serves.
        to: Version,
    },
    /// No code of the plugin was loaded; the next use takes what is there now.
    NotLoaded,
}

/// Bytes of native libraries that reloads may leave behind, where the user sets no other number.
const RETAINED: u64 = 512 << 20;

impl Host {
    /// Has the plugin's files as they are now take over from the code that serves. A plugin in
    /// state [`State::Error`] is tried again.
    ///
    /// # Errors
    ///
    /// The new version does not do, and the old one goes on; or the plugin is paused, draining or
    /// being reloaded.
    pub fn reload(&self, plugin: &PluginId) -> Result<Reloaded, Error> {
        let _span = tracing::info_span!("vox.plugin.reload", %plugin).entered();
        let slot = self.0.slot_of(plugin)?;
        let _turn = lock(&slot.reloading);
        match slot.state().0 {
            State::Unloaded => {
                let fresh = self
                    .0
                    .fresh(&slot)
                    .map_err(|reason| not_reloaded(&slot, reason))?;
                slot.publish(self.0.release(fresh));
                Ok(Reloaded::NotLoaded)
            }
            State::Error => {
                let fresh = self
                    .0
                    .fresh(&slot)
                    .map_err(|reason| not_reloaded(&slot, reason))?;
                let release = self.0.release(fresh);
                let carriers = slot.release().loaded();
                slot.publish(release);
                let release = slot.release();
                let carrier = match carriers.first() {
                    Some((carrier, _)) => *carrier,
                    None => self.0.carrier(&release.installed, None)?,
                };
                self.0.code(&slot, &release, carrier)?;
                Ok(Reloaded::NotLoaded)
            }
            _ => {
                self.0.take_step(&slot, Step::Reload, None)?;
                let result = self.0.replace(&slot);
                match result {
                    Ok(Reloaded::Replaced { from, to }) => {
                        if slot.step_because(Step::Reloaded, None).is_err() {
                            // The old code failed for good meanwhile; the new one is there.
                            self.0.take_step(&slot, Step::Load, None)?;
                            self.0.take_step(&slot, Step::Loaded, None)?;
                        }
                        tracing::info!(%from, %to, "reloaded");
                        Ok(Reloaded::Replaced { from, to })
                    }
                    Ok(unchanged) => {
                        self.0.take_step(&slot, Step::KeptOld, None)?;
                        Ok(unchanged)
                    }
                    Err((to, reason)) => {
                        // In no other state than `error`, if the old code failed for good too.
                        let _ = slot.step_because(Step::KeptOld, None);
                        let to = to.unwrap_or_else(|| slot.release().installed.version().clone());
                        slot.kept_old(to, reason.clone());
                        tracing::warn!(reason, "the old version goes on serving");
                        Err(not_reloaded(&slot, reason))
                    }
                }
            }
        }
    }
}

/// Why a reload did not happen, and the version that it was to bring where that is known.
type Refusal = (Option<Version>, String);

impl Inner {
    /// Loads the files as they are now beside the code that serves, tries them, and has them serve.
    fn replace(&self, slot: &Arc<Slot>) -> Result<Reloaded, Refusal> {
        let serving = slot.release();
        let fresh = self.fresh(slot).map_err(|reason| (None, reason))?;
        let to = fresh.version().clone();
        let refuse = |reason: String| (Some(to.clone()), reason);
        check_provides(&serving.installed.manifest, &fresh.manifest).map_err(refuse)?;

        let release = Arc::new(self.release(Arc::clone(&fresh)));
        self.check_needs(&release)
            .map_err(|error| refuse(error.to_string()))?;
        let mut changed = serving.installed.manifest != fresh.manifest;
        for (carrier, old) in serving.loaded() {
            let code = self.load_beside(slot, &release, carrier).map_err(refuse)?;
            changed |= code.digest != old.digest;
        }
        if !changed {
            return Ok(Reloaded::Unchanged);
        }
        for (carrier, _) in release.loaded() {
            self.try_out(slot, &release, carrier).map_err(refuse)?;
        }
        let from = serving.installed.version().clone();
        slot.publish(release);
        Ok(Reloaded::Replaced { from, to })
    }

    /// The plugin as its files are now, in the highest version that the settings allow.
    fn fresh(&self, slot: &Slot) -> Result<Arc<Installed>, String> {
        let inventory = Inventory::scan(&self.directories);
        let id = slot.id();
        let chosen = resolution::resolve(&inventory, &self.settings, std::slice::from_ref(id))
            .map_err(|error| error.to_string())?;
        chosen
            .get(id)
            .cloned()
            .ok_or_else(|| "it is not installed any more".to_owned())
    }

    fn load_beside(
        &self,
        slot: &Slot,
        release: &Release,
        carrier: CarrierKind,
    ) -> Result<Arc<crate::slot::Code>, String> {
        if carrier == CarrierKind::Native {
            let cap = self.settings.host.retained.map_or(RETAINED, Bytes::get);
            let retained = self.retained_bytes();
            if retained >= cap {
                return Err(format!(
                    "native libraries of earlier reloads hold {}, and {} is the most; start the \
                     process anew, or raise `retained` under `[host]` in Vox.toml",
                    Bytes(retained),
                    Bytes(cap),
                ));
            }
        }
        self.code(slot, release, carrier)
            .map_err(|error| error.to_string())
    }

    /// Starts an instance that nobody uses, and asks for its health.
    fn try_out(
        &self,
        slot: &Arc<Slot>,
        release: &Arc<Release>,
        carrier: CarrierKind,
    ) -> Result<(), String> {
        let seat = Arc::new(Seat {
            host: self.this.clone(),
            slot: Arc::clone(slot),
            carrier,
            options: InstanceOptions::default(),
        });
        let mut instance = self
            .start(&seat, release, &Origin::beside(None))
            .map_err(|error| error.to_string())?;
        instance.require_health()
    }
}

fn not_reloaded(slot: &Slot, reason: String) -> Error {
    Error::NotReloaded {
        plugin: slot.id().clone(),
        serving: slot.release().installed.version().clone(),
        reason,
    }
}

/// A new version has to serve at least what the old one serves: instances and the names in the
/// registry outlive it.
fn check_provides(old: &Manifest, new: &Manifest) -> Result<(), String> {
    let (old, new) = (&old.provides, &new.provides);
    let points = old
        .extension_points
        .keys()
        .find(|point| !new.extension_points.contains_key(point))
        .map(|point| format!("extension point `{point}`"));
    let runner = old
        .runners
        .iter()
        .find(|name| !new.runners.contains(name))
        .map(|name| format!("runner `{name}`"));
    let service = old
        .services
        .iter()
        .find(|name| !new.services.contains(name))
        .map(|name| format!("service `{name}`"));
    let command = old
        .commands
        .iter()
        .find(|had| !new.commands.iter().any(|has| has.verb == had.verb))
        .map(|command| format!("command `{}`", command.verb));
    match points.or(runner).or(service).or(command) {
        None => Ok(()),
        Some(missing) => Err(format!(
            "it does not provide {missing} any more, which the version that serves does"
        )),
    }
}
