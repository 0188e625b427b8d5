//! A chain of test hooks, and the run that they watch.

// Each test binary uses what it needs.
#![allow(dead_code)]

use std::sync::{Arc, Mutex, OnceLock, Weak};

use serde_json::{Value, json};
use vox_contract::{Carrier, HookPoint, PluginId};
use vox_host::contract::Error;
use vox_host::hooks::{
    Abort, Answer, HookChain, HookOptions, HookSource, HookSwitches, Nesting, Occasion,
};
use vox_host::{Emitter, EventSink, Host};
use vox_testkit::World;

/// A test hook.
pub struct Hook {
    pub id: &'static str,
    pub carrier: Carrier,
    /// What its manifest says of every point, besides the point.
    pub entry: Value,
    /// What it does, by point.
    pub reactions: Value,
    /// Further members of its configuration.
    pub arguments: Value,
}

impl Hook {
    pub fn new(id: &'static str, carrier: Carrier, reactions: Value) -> Self {
        Self {
            id,
            carrier,
            entry: json!({}),
            reactions,
            arguments: json!({}),
        }
    }

    /// The same with other words of the manifest on every point.
    pub fn entry(mut self, entry: Value) -> Self {
        self.entry = entry;
        self
    }

    fn install(&self, world: &World) {
        let points = self.reactions.as_object().unwrap().keys();
        let entries = points.map(|point| {
            let mut entry = self.entry.clone();
            entry["point"] = json!(point);
            entry
        });
        world.add_hook(self.id, &entries.collect());
    }

    fn source(&self) -> HookSource {
        let mut source = HookSource::new(self.id.parse().unwrap());
        source.carrier = Some(self.carrier);
        source.arguments = self.arguments.as_object().unwrap().clone();
        let hooks = self.reactions.clone();
        source.arguments.insert("hooks".into(), hooks);
        source
    }
}

/// What a run would be: asks its hooks, hears their events and fires custom points.
pub struct Run {
    pub world: World,
    pub host: Host,
    pub chain: HookChain,
    pub switches: HookSwitches,
    heard: Arc<Heard>,
}

/// Hears what hooks emit.
#[derive(Default)]
struct Heard {
    run: OnceLock<Weak<Run>>,
    events: Mutex<Vec<(String, String)>>,
    /// What emitters were answered.
    refused: Mutex<Vec<Error>>,
}

impl Run {
    /// Opens a chain of hooks that may emit events and call each other.
    pub fn open(hooks: &[Hook]) -> Arc<Self> {
        Self::with(hooks, "").unwrap()
    }

    /// The same with a `Vox.toml`.
    pub fn with(hooks: &[Hook], settings: &str) -> Result<Arc<Self>, Abort> {
        let world = World::new();
        let mut grants = String::new();
        let mut ids: Vec<_> = hooks.iter().map(|hook| hook.id).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in &ids {
            hooks
                .iter()
                .find(|hook| hook.id == *id)
                .unwrap()
                .install(&world);
            grants.push_str(&format!(
                "[plugin.{id}]\nevents = true\nplugin_call = true\n"
            ));
        }
        world.settings(settings);
        let host = world.host(&grants);
        let heard = Arc::<Heard>::default();
        let switches = HookSwitches::default();
        let mut options = HookOptions::default();
        options.run = "run".to_owned();
        options.events = Arc::clone(&heard) as _;
        options.switches = switches.clone();
        let chain = HookChain::open(&host, hooks.iter().map(Hook::source), &options)?;
        let run = Arc::new(Self {
            world,
            host,
            chain,
            switches,
            heard,
        });
        run.heard.run.set(Arc::downgrade(&run)).unwrap();
        Ok(run)
    }

    /// Asks at a point; answers the notices too.
    pub fn ask(&self, point: &str) -> (Answer, Vec<String>) {
        let occasion = Occasion {
            step: "a",
            detail: "{}",
            payload: b"abc",
            nesting: Nesting::default(),
        };
        let mut notices = Vec::new();
        let answer = self
            .chain
            .ask(&self::point(point), &occasion, &mut |notice| {
                notices.push(notice.to_string());
            });
        (answer, notices)
    }

    /// Asks at a point where something is to be stopped; answers by whom, and why.
    pub fn aborted(&self, point: &str) -> (String, String) {
        match self.ask(point) {
            (Answer::Abort(Abort { plugin, reason }), _) => (plugin.to_string(), reason),
            other => panic!("{other:?}"),
        }
    }

    /// Asks at a point where one thing goes wrong and nothing is stopped; answers what is told.
    pub fn told(&self, point: &str) -> String {
        match self.ask(point) {
            (Answer::Continue, notices) if notices.len() == 1 => notices[0].clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The hooks that were called since this was last asked, each with the point.
    pub fn called(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.heard.events.lock().unwrap())
    }

    /// What emitters were answered since this was last asked, where it was an error.
    pub fn refused(&self) -> Vec<Error> {
        std::mem::take(&mut *self.heard.refused.lock().unwrap())
    }
}

impl EventSink for Heard {
    fn emit(&self, plugin: &PluginId, name: &str, _payload: &str) {
        let event = (plugin.to_string(), name.to_owned());
        self.events.lock().unwrap().push(event);
    }

    fn fire(&self, emitter: Emitter<'_>, point: &HookPoint, payload: &str) -> Result<(), Error> {
        let Some(run) = self.run.get().and_then(Weak::upgrade) else {
            return Ok(());
        };
        let fired = emitter.nesting().and_then(|nesting| {
            let occasion = Occasion {
                detail: "{}",
                payload: payload.as_bytes(),
                nesting,
                ..Occasion::default()
            };
            match run.chain.ask(point, &occasion, &mut |_| ()) {
                Answer::Abort(abort) => Err(Error::Failed(abort.to_string())),
                _ => Ok(()),
            }
        });
        if let Err(error) = &fired {
            self.refused.lock().unwrap().push(error.clone());
        }
        fired
    }
}

/// A hook point by its name.
pub fn point(name: &str) -> HookPoint {
    name.parse().unwrap()
}

/// A plugin's id.
pub fn id(id: &str) -> PluginId {
    id.parse().unwrap()
}
