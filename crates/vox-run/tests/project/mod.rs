//! A project in which plans run, with a record of its own.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use vox_contract::{Carrier, GrantsFile};
use vox_crypto::SigningKey;
use vox_host::directories::Directories;
use vox_host::{Host, HostOptions};
use vox_oplog::{Op, OpLog, Query};
use vox_run::machine::Machine;
use vox_run::record::RecordedRun;
use vox_run::{
    Engine, Error, History, Plan, Record, Resume, RunEvent, RunId, RunOptions, RunReport,
    Surroundings,
};
use vox_store::Store;
use vox_testkit::World;

/// What the test plugin is granted: what makes nothing of it that could read more than it is given.
pub const GRANTS: &str = "[plugin.conformance]\nstream_io = true\nevents = true\n";

/// A project.
pub struct Project {
    pub world: World,
    pub record: Record,
    log: Arc<OpLog>,
    pub surroundings: Surroundings,
}

/// What a run told and came to.
pub struct Told {
    pub report: RunReport,
    pub events: Vec<RunEvent>,
}

impl Project {
    /// A project in which the test plugin is carried as a native library, which can reach files.
    pub fn new() -> Self {
        Self::on(Carrier::Native)
    }

    /// A project in which the test plugin is carried so.
    pub fn on(carrier: Carrier) -> Self {
        let world = World::with(&["conformance"]);
        world.settings(&format!("[plugin.conformance]\nprefer = \"{carrier}\"\n"));
        fs::create_dir(world.path().join("work")).unwrap();
        let (record, log) = record_at(&world.path().join("data"));
        let mut surroundings = Surroundings::default();
        // As many as a plan may want, whatever the machine has.
        surroundings.machine = Machine::detect().with_cpus(4).with_gpus(1);
        Self {
            world,
            record,
            log,
            surroundings,
        }
    }

    /// Where its steps work.
    pub fn directory(&self) -> PathBuf {
        self.world.path().join("work")
    }

    /// Where its record is.
    pub fn data(&self) -> PathBuf {
        self.world.path().join("data")
    }

    /// Writes a file where its steps work.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.directory().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads a file where its steps work.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.directory().join(path)).unwrap()
    }

    /// A host of it.
    pub fn host(&self) -> Host {
        self.world.host(GRANTS)
    }

    /// The engine for these steps, or why there is none.
    pub fn prepare(&self, steps: &[Value]) -> Result<Engine, Error> {
        Engine::prepare(&self.host(), plan(steps), self.surroundings.clone())
    }

    /// The engine for these steps.
    pub fn engine(&self, steps: &[Value]) -> Engine {
        self.prepare(steps)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// The engine for these steps with hooks: the test plugin as `guard`, which is in the world by
    /// [`World::add_hook`], once for each of these reactions to a point.
    pub fn guarded(&self, steps: &[Value], point: &str, reactions: &[&str]) -> Engine {
        let hooks: Vec<Value> = reactions
            .iter()
            .map(|reaction| json!({ "uses": "guard", "with": { "hooks": { point: reaction } } }))
            .collect();
        let plan = json!({ "pipeline": { "name": "test" }, "step": steps, "hook": hooks });
        let plan = Plan::parse(&plan.to_string(), "test.json").unwrap();
        let host = self
            .world
            .host(&format!("{GRANTS}[plugin.guard]\nevents = true\n"));
        Engine::prepare(&host, plan, self.surroundings.clone()).unwrap()
    }

    /// Options of a run that is recorded.
    pub fn options(&self) -> RunOptions {
        let mut options = RunOptions::new(self.directory());
        options.jobs = 4.try_into().unwrap();
        options.record = Some(self.record.clone());
        options
    }

    /// Runs these steps to their end.
    pub fn run(&self, steps: &[Value]) -> Told {
        self.run_with(steps, |_| ())
    }

    /// Runs these steps to their end, with other options.
    pub fn run_with(&self, steps: &[Value], adjust: impl FnOnce(&mut RunOptions)) -> Told {
        let mut options = self.options();
        adjust(&mut options);
        told(&self.engine(steps), &options)
    }

    /// Goes on with a run.
    pub fn resume(&self, steps: &[Value], run: RunId) -> Told {
        self.resume_by(&self.engine(steps), run)
    }

    /// Goes on with a run by this engine.
    pub fn resume_by(&self, engine: &Engine, run: RunId) -> Told {
        let recorded = self.recorded(run);
        let resume = Resume::of(&recorded, engine.plan());
        resume
            .check(engine.plan(), &self.directory(), &recorded, &self.record)
            .unwrap_or_else(|error| panic!("{error}"));
        let mut options = self.options();
        options.id = run;
        options.resume = Some(resume);
        told(engine, &options)
    }

    /// What the record says of runs.
    pub fn history(&self) -> History {
        self.record.history().unwrap()
    }

    /// What the record says of a run.
    pub fn recorded(&self, run: RunId) -> RecordedRun {
        self.history().load(run).unwrap()
    }

    /// The ops of a run, in order.
    pub fn ops(&self, run: RunId) -> Vec<Op> {
        let query = Query {
            run: Some(run.to_string()),
            ..Query::default()
        };
        let reader = self.log.reader().unwrap();
        reader.ops(query).map(Result::unwrap).collect()
    }

    /// The log.
    pub fn log(&self) -> &OpLog {
        &self.log
    }

    /// Opens the record anew, as the next process does: what the one before needed of the store it
    /// needs no more.
    pub fn reopen(&mut self) {
        let (record, log) = record_at(&self.data());
        (self.record, self.log) = (record, log);
    }
}

/// A record in this directory.
pub fn record_at(data: &Path) -> (Record, Arc<OpLog>) {
    fs::create_dir_all(data).unwrap();
    let key = SigningKey::from_secret(&[7; 32]);
    let log = Arc::new(OpLog::open(data.join("log"), key, Default::default()).unwrap());
    let (store, _) = Store::open(data.join("store"), Default::default()).unwrap();
    (Record::new(Arc::clone(&log), store, data), log)
}

/// A host of another process's [`World`], which is at this path.
pub fn host_at(world: &Path) -> Host {
    host_with(world, GRANTS)
}

/// The same with other grants.
pub fn host_with(world: &Path, grants: &str) -> Host {
    let cache = vox_testkit::checkout().join("target/vox-test/cache");
    let directories = Directories::new(world.join("data"), cache).with_project(world);
    let mut options = HostOptions::default();
    options.grants = GrantsFile::parse(grants, Path::new("grants of the test")).unwrap();
    Host::open(directories, options).unwrap()
}

/// The plan of these steps.
pub fn plan(steps: &[Value]) -> Plan {
    let plan = json!({ "pipeline": { "name": "test" }, "step": steps });
    Plan::parse(&plan.to_string(), "test.json").unwrap_or_else(|error| panic!("{error}"))
}

/// Carries a plan out.
pub fn told(engine: &Engine, options: &RunOptions) -> Told {
    let mut events = Vec::new();
    let report = engine.run(options, &mut |event| events.push(event.clone()));
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    Told { report, events }
}

/// Every file below a directory, by its path from there, with what it holds.
pub fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap().flatten() {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}
