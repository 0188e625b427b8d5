//! The states of a plugin in a host, and the steps between them.
//!
//! This is the whole of the state machine: a pure function over two small enums, so that what is
//! legal stands in one table ([`State::after`]), which the documentation shows and a property test
//! walks. What the steps mean for code and instances is the business of `slot`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a plugin is to its host at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Known by its manifest; no code of it is loaded.
    #[default]
    Unloaded,
    /// Its code is being read, checked and compiled or opened.
    Loading,
    /// It serves.
    Active,
    /// It is loaded, and calls wait until it is resumed.
    Paused,
    /// It serves, while a new version is made ready beside it.
    Reloading,
    /// Calls that are inside finish; new ones are refused.
    Draining,
    /// It failed too often, or could not be loaded, and is not called; the reason is kept.
    Error,
}

impl State {
    /// Every state, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Unloaded,
        Self::Loading,
        Self::Active,
        Self::Paused,
        Self::Reloading,
        Self::Draining,
        Self::Error,
    ];

    /// The word that commands and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Reloading => "reloading",
            Self::Draining => "draining",
            Self::Error => "error",
        }
    }

    /// The state to which a step leads; none where the step is not legal.
    pub const fn after(self, step: Step) -> Option<Self> {
        use State::{Active, Draining, Error, Loading, Paused, Reloading, Unloaded};
        Some(match (self, step) {
            (Unloaded | Error, Step::Load) => Loading,
            (Loading, Step::Loaded) => Active,
            (Active, Step::Pause) => Paused,
            (Paused, Step::Resume) => Active,
            (Active, Step::Reload) => Reloading,
            (Reloading, Step::Reloaded | Step::KeptOld) => Active,
            (Active | Paused | Error, Step::Unload) => Draining,
            (Draining, Step::Drained) => Unloaded,
            (Loading | Active | Paused | Reloading, Step::Fail) => Error,
            _ => return None,
        })
    }

    /// Whether a call may be made, or may wait to be made.
    pub const fn serves(self) -> bool {
        matches!(self, Self::Active | Self::Paused | Self::Reloading)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that is done with a plugin, or that befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Its code is asked for.
    Load,
    /// Its code can be used.
    Loaded,
    /// The user holds its calls back.
    Pause,
    /// The user lets them go on.
    Resume,
    /// Its files have changed, or the user asks.
    Reload,
    /// The new version took over.
    Reloaded,
    /// The new version did not do; the old one goes on.
    KeptOld,
    /// The user has it go.
    Unload,
    /// The last of its instances is gone.
    Drained,
    /// It cannot be loaded, or failed too often.
    Fail,
}

impl Step {
    /// Every step, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Load,
        Self::Loaded,
        Self::Pause,
        Self::Resume,
        Self::Reload,
        Self::Reloaded,
        Self::KeptOld,
        Self::Unload,
        Self::Drained,
        Self::Fail,
    ];

    /// The words that messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Loaded => "loaded",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Reload => "reload",
            Self::Reloaded => "reloaded",
            Self::KeptOld => "kept old",
            Self::Unload => "unload",
            Self::Drained => "drained",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_reached_and_left() {
        let reached = |start: State| {
            let mut reached = vec![start];
            let mut next = 0;
            while let Some(state) = reached.get(next).copied() {
                next += 1;
                for after in Step::ALL.iter().filter_map(|step| state.after(*step)) {
                    if !reached.contains(&after) {
                        reached.push(after);
                    }
                }
            }
            reached.len()
        };
        for state in State::ALL {
            assert_eq!(reached(state), State::ALL.len(), "from {state}");
        }
    }
}
