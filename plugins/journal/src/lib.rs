//! The hook `journal`: writes down what happens in a run.
//!
//! Each event that its manifest names becomes an entry. The entry is told to whoever watches the
//! run, as the event `journal.entry`, and kept with the last ones before it under the key `journal`,
//! one line of JSON each, where it outlives the process. Chunks are left out: they may be many.
//!
//! ```toml
//! [[hook]]
//! uses = "journal"
//! with = { entries = 1000 }
//! ```
//!
//! `entries` is how many are kept, 200 unless it is set; of very long ones fewer are.
//!
//! What must stay true: a journal watches. When an entry cannot be written, the run goes on; the
//! reason is logged, and the instance calls itself degraded until an entry can be written again.

mod entries;

use std::num::NonZeroUsize;

use serde::Deserialize;
use vox_plugin::hook::{Event, Outcome};
use vox_plugin::host::log::Level;
use vox_plugin::lifecycle::{Condition, SavedState};
use vox_plugin::serde_json;
use vox_plugin::{Error, Hook, Lifecycle, Result, attribute, failed, from_json, host, plugin};

use crate::entries::{Entry, with_line};

/// The key under which the journal is kept.
const KEY: &str = "journal";
/// The event that tells an entry.
const EVENT: &str = "journal.entry";
/// Version of the state: the number of entries written, eight bytes, least significant first.
const STATE_VERSION: u32 = 1;

/// The plugin's configuration.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    entries: NonZeroUsize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entries: const { NonZeroUsize::new(200).unwrap() },
        }
    }
}

/// The plugin; an instance watches one run.
#[plugin(lifecycle, hook)]
struct Journal {
    config: Config,
    /// Entries that this instance, or the one whose place it took, has written.
    written: u64,
    /// Why the last entry could not be written.
    trouble: Option<Error>,
}

impl Lifecycle for Journal {
    fn init(config: &str) -> Result<Self> {
        Ok(Self {
            config: from_json(config)?,
            written: 0,
            trouble: None,
        })
    }

    fn health(&mut self) -> Condition {
        match &self.trouble {
            None => Condition::Ready,
            Some(error) => Condition::Degraded(format!("the last entry is lost: {error}")),
        }
    }

    fn snapshot(&mut self) -> Result<Option<SavedState>> {
        Ok(Some(SavedState {
            version: STATE_VERSION,
            state: self.written.to_le_bytes().to_vec(),
        }))
    }

    fn restore(&mut self, version: u32, state: &[u8]) -> Result<()> {
        match (version, state.try_into()) {
            (STATE_VERSION, Ok(written)) => {
                self.written = u64::from_le_bytes(written);
                Ok(())
            }
            (STATE_VERSION, Err(_)) => Err(Error::Invalid(format!(
                "the state has {} bytes instead of 8",
                state.len()
            ))),
            _ => Err(Error::Invalid(format!(
                "the state has version {version}, and this journal reads version {STATE_VERSION}"
            ))),
        }
    }
}

impl Hook for Journal {
    fn handle(&mut self, event: Event, _payload: &[u8]) -> Result<Outcome> {
        self.trouble = self.write(event).err();
        if let Some(error) = &self.trouble {
            let fields = [attribute("reason", error.to_string())];
            host::log::write(Level::Warn, "an entry could not be written", &fields);
        }
        Ok(Outcome::Continue)
    }
}

impl Journal {
    fn write(&mut self, event: Event) -> Result<()> {
        self.written += 1;
        let line = serde_json::to_string(&Entry::new(self.written, event)).map_err(failed)?;
        let told = host::events::emit(EVENT, &line);
        // Read each time: another run may have written in between.
        let journal = host::kv::get(KEY)?.unwrap_or_default();
        host::kv::set(KEY, &with_line(&journal, &line, self.config.entries))?;
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_entries_are_kept_unless_told_otherwise() {
        assert_eq!(Journal::init("{}").unwrap().config.entries.get(), 200);
        assert_eq!(
            Journal::init(r#"{"entries":7}"#)
                .unwrap()
                .config
                .entries
                .get(),
            7
        );
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused() {
        for config in [r#"{"entries":0}"#, r#"{"entires":7}"#] {
            assert!(
                matches!(Journal::init(config), Err(Error::Invalid(_))),
                "{config}"
            );
        }
    }

    #[test]
    fn a_successor_goes_on_counting() {
        let mut before = Journal::init("{}").unwrap();
        before.written = 41;
        let state = before.snapshot().unwrap().unwrap();
        let mut after = Journal::init("{}").unwrap();
        after.restore(state.version, &state.state).unwrap();
        assert_eq!(after.written, 41);
        assert!(after.restore(2, &state.state).is_err());
        assert!(after.restore(1, b"short").is_err());
    }

    #[test]
    fn a_journal_that_cannot_write_is_degraded_and_stops_nothing() {
        // Outside of a call there is no host to keep anything.
        let mut journal = Journal::init("{}").unwrap();
        let event = Event {
            point: "pre_pipeline".into(),
            run: "r".into(),
            step: String::new(),
            timestamp: 0,
            detail: "{}".into(),
        };
        assert_eq!(journal.handle(event, &[]).unwrap(), Outcome::Continue);
        assert!(matches!(journal.health(), Condition::Degraded(_)));
    }
}
