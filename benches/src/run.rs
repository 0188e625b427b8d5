//! What a run costs: the `vox` command as a child of this program, from its start to its end, beside what
//! the record alone costs, `make`, and pipes.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use vox_build::{BuildOptions, Destination, Profile, Toolchain};
use vox_crypto::{SigningKey, canonical};
use vox_host::directories::Directories;
use vox_host::signing::{Allowed, TrustStore};
use vox_host::{Host, HostOptions};
use vox_oplog::{Class, NewOp, OpLog, Options};
use vox_run::{Engine, Plan, Surroundings};

use crate::fixture::on_disk;
use crate::measure::median;
use crate::report::Row;

/// Variable that makes this program the command `vox`.
pub const CHILD: &str = "VOX_BENCH_VOX";

/// Runs of each contender.
const ROUNDS: usize = 5;

/// A user with the plugins of the benches installed, on the disk of the checkout.
struct User {
    place: tempfile::TempDir,
}

impl User {
    /// Builds what is not built, and trusts it.
    fn new(plugins: &[&str]) -> anyhow::Result<Self> {
        let user = Self { place: on_disk()? };
        let root = user.data().join("plugins");
        let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
        let directories = Directories::new(user.data(), user.data().join("cache"));
        let mut grants = String::new();
        for plugin in plugins {
            let directory = match *plugin {
                "bench-plugin" | "bench-stage" => crates.join("plugin"),
                other => crates.join("../plugins").join(other),
            };
            if *plugin == "bench-stage" {
                // The same code, and only as a component.
                let from = root.join("bench-plugin/0.1.0");
                let to = root.join("bench-stage/0.1.0");
                fs::create_dir_all(&to)?;
                fs::copy(from.join("bench_plugin.wasm"), to.join("bench_plugin.wasm"))?;
                let manifest = fs::read_to_string(from.join("Plugin.toml"))?;
                let lines = manifest
                    .lines()
                    .filter(|line| !line.starts_with("native") && !line.starts_with("runners"));
                let manifest: Vec<&str> = lines.collect();
                let manifest = manifest
                    .join("\n")
                    .replace("bench-plugin\"", "bench-stage\"")
                    .replace("step = 1, ", "");
                fs::write(to.join("Plugin.toml"), manifest)?;
            } else {
                let mut options = BuildOptions::new(Destination::Root(root.clone()));
                options.quiet = true;
                options.profile = Profile::Release;
                options.toolchain = Some(Toolchain::find_installed(&directory)?);
                vox_build::build(&directory, &options, &mut |_| ())?;
            }
            let allowed = Allowed::at(plugin.parse()?, &root)?;
            TrustStore::change(&directories, |trust| trust.allow(allowed))?;
            let _ = writeln!(grants, "[plugin.{plugin}]\nstream_io = true");
            if *plugin == "exec" {
                grants.push_str("process = true\nevents = true\n");
            }
        }
        fs::write(user.data().join("grants.toml"), grants)?;
        // What makes and reads a stream computes for longer than a component may by default.
        let settings = "[plugin.bench-plugin]\nprefer = \"native\"\n\n\
                        [plugin.bench-plugin.limits]\ninstances = 2000\n";
        fs::write(user.path().join("Vox.toml"), settings)?;
        Ok(user)
    }

    fn path(&self) -> &Path {
        self.place.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The command `vox` in the user's directory; what it prints goes to a file, as lines.
    fn vox(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments)
            .current_dir(self.path())
            .env(CHILD, "1")
            .env("VOX_DATA", self.data())
            .env("VOX_CACHE", self.data().join("cache"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.path().join("printed"))?);
        Ok(command)
    }

    /// Seconds of `vox run` of this plan.
    fn run(&self, plan: &str, options: &[&str]) -> anyhow::Result<f64> {
        let file = self.path().join("plan.json");
        fs::write(&file, plan)?;
        let mut arguments = vec!["run", "plan.json"];
        arguments.extend(options);
        let mut command = self.vox(&arguments)?;
        let start = Instant::now();
        let status = command.status()?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(status.success(), "vox run ended with {status}");
        Ok(seconds)
    }
}

/// A plan of so many steps, each as `step` says of its number.
fn plan(steps: usize, step: impl Fn(usize) -> serde_json::Value) -> String {
    let steps: Vec<_> = (0..steps).map(step).collect();
    serde_json::json!({ "pipeline": { "name": "bench" }, "step": steps }).to_string()
}

fn noop(number: usize) -> serde_json::Value {
    serde_json::json!({ "key": format!("step-{number}"), "uses": "bench-noop", "cache": false })
}

/// A chain: each needs the one before.
fn chained(number: usize) -> serde_json::Value {
    let mut step = noop(number);
    if number > 0 {
        step["needs"] = serde_json::json!([format!("step-{}", number - 1)]);
    }
    step
}

/// Seconds in which so many pairs of ops are recorded by two threads, the second of each pair durably:
/// what the record of steps that start and end costs by itself.
fn recorded(steps: usize, threads: usize) -> anyhow::Result<f64> {
    let place = on_disk()?;
    let log = OpLog::open(
        place.path(),
        SigningKey::from_secret(&[7; 32]),
        Options::default(),
    )?;
    let log = Arc::new(log);
    let said = canonical::encode(&serde_json::json!({ "steps": ["step-1"], "attempt": 1 }))?;
    let start = Instant::now();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (log, said) = (Arc::clone(&log), said.clone());
                scope.spawn(move || -> anyhow::Result<()> {
                    for _ in 0..steps / threads {
                        let op = |kind| NewOp::new(kind, said.clone());
                        // Written before the next one, and not waited for, as by a run.
                        drop(log.submit(op("run.steps-started")?.class(Class::Warm).run("r"))?);
                        log.append(op("run.steps-ended")?.class(Class::Warm).run("r"))?;
                    }
                    Ok(())
                })
            })
            .collect();
        for worker in workers {
            worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        anyhow::Ok(())
    })?;
    Ok(start.elapsed().as_secs_f64())
}

/// What a step that does nothing adds to a run: scheduled, recorded durably, shown.
pub fn empty_step(name: &'static str) -> anyhow::Result<Row> {
    const STEPS: usize = 200;
    let user = User::new(&["bench-plugin"])?;
    let (long, short) = (plan(STEPS + 1, chained), plan(1, chained));
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    user.run(&short, &[])?;
    for _ in 0..ROUNDS {
        let alone = user.run(&short, &[])?;
        ours.push((user.run(&long, &[])? - alone) * 1e3 / STEPS as f64);
        peers.push(recorded(STEPS, 1)? * 1e3 / STEPS as f64);
    }
    let (value, peer) = (median(ours), median(peers));
    Ok(Row {
        name,
        value,
        unit: "ms",
        peer,
        peer_name: "recording that a step starts and ends",
        ratio: value / peer,
        goal: "under 3 ms",
        met: value < 3.0,
        detail: None,
    })
}

/// A run of 1,000 independent steps that do nothing.
pub fn noop1000(name: &'static str) -> anyhow::Result<Row> {
    let user = User::new(&["bench-plugin"])?;
    let steps = plan(1_000, noop);
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    user.run(&steps, &[])?;
    for _ in 0..ROUNDS {
        ours.push(user.run(&steps, &[])?);
        peers.push(recorded(1_000, 2)?);
    }
    let (value, peer) = (median(ours), median(peers));
    Ok(Row {
        name,
        value,
        unit: "s",
        peer,
        peer_name: "recording that 1,000 steps start and end",
        ratio: value / peer,
        goal: "under 2 s",
        met: value < 2.0,
        detail: None,
    })
}

/// The same graph of programs that do nothing, by `vox run` and by `make -j2`.
pub fn noop1000_vs_make(name: &'static str) -> anyhow::Result<Row> {
    let user = User::new(&["exec"])?;
    let command = serde_json::json!({ "command": ["true"] });
    let steps = plan(
        1_000,
        |number| serde_json::json!({ "key": format!("step-{number}"), "uses": "exec", "with": command }),
    );
    let makefile = user.path().join("Makefile");
    let mut file = fs::File::create(&makefile)?;
    let targets: Vec<String> = (0..1_000).map(|number| format!("step-{number}")).collect();
    writeln!(file, "all: {0}\n.PHONY: all {0}", targets.join(" "))?;
    for target in &targets {
        // A name with a slash, so that make starts the program and no shell either.
        writeln!(file, "{target}:\n\t@/bin/true")?;
    }
    drop(file);
    let make = || -> anyhow::Result<f64> {
        let start = Instant::now();
        let status = Command::new("make")
            .args(["-j2", "-f"])
            .arg(&makefile)
            .current_dir(user.path())
            .stdout(Stdio::null())
            .status()
            .context("make is needed: `apt-get install make`")?;
        ensure!(status.success(), "make ended with {status}");
        Ok(start.elapsed().as_secs_f64())
    };
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(user.run(&steps, &["-j", "2"])?);
        peers.push(make()?);
    }
    let (value, peer) = (median(ours), median(peers));
    Ok(Row {
        name,
        value,
        unit: "s",
        peer,
        peer_name: "make -j2, which records nothing",
        ratio: value / peer,
        goal: "none, to be known",
        met: true,
        detail: None,
    })
}

/// A run of 1,000 steps whose results are all in the cache.
pub fn cached1000(name: &'static str) -> anyhow::Result<Row> {
    let user = User::new(&["bench-plugin"])?;
    let steps = plan(1_000, |number| {
        serde_json::json!({
            "key": format!("step-{number}"), "uses": "bench-noop", "cache": true, "inputs": {},
            "env": { "NUMBER": number.to_string() },
        })
    });
    let peer = user.run(&steps, &[])?;
    let ours: anyhow::Result<Vec<f64>> = (0..ROUNDS).map(|_| user.run(&steps, &[])).collect();
    let value = median(ours?) * 1e3;
    Ok(Row {
        name,
        value,
        unit: "ms",
        peer: peer * 1e3,
        peer_name: "the run that filled the cache",
        ratio: value / (peer * 1e3),
        goal: "under 300 ms",
        met: value < 300.0,
        detail: None,
    })
}

/// Reading and checking a plan of 10,000 steps.
pub fn graph10000(name: &'static str) -> anyhow::Result<Row> {
    let user = User::new(&["bench-plugin"])?;
    let mut text = "[pipeline]\nname = \"bench\"\n".to_owned();
    for number in 0..10_000 {
        let _ = writeln!(
            text,
            "[[step]]\nkey = \"step-{number}\"\nuses = \"bench-noop\""
        );
        if number > 2 {
            let (one, other) = (number - 1, number / 2);
            let _ = writeln!(text, "needs = [\"step-{one}\", \"step-{other}\"]");
        }
    }
    let directories = Directories::new(user.data(), user.data().join("cache"));
    let host = Host::open(directories, HostOptions::default())?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let plan = Plan::parse(&text, "plan.toml")?;
        let engine = Engine::prepare(&host, plan, Surroundings::default())?;
        ours.push(start.elapsed().as_secs_f64() * 1e3);
        drop(engine);
        let start = Instant::now();
        let parsed: toml::Table = toml::from_str(&text)?;
        peers.push(start.elapsed().as_secs_f64() * 1e3);
        drop(parsed);
    }
    let (value, peer) = (median(ours), median(peers));
    Ok(Row {
        name,
        value,
        unit: "ms",
        peer,
        peer_name: "parsing the TOML alone",
        ratio: value / peer,
        goal: "under 200 ms",
        met: value < 200.0,
        detail: None,
    })
}

/// What the thread that draws the live view of a run of 10,000 steps takes, as a share of one core.
///
/// Runs differ in processor time by more than that, so it cannot be told from two of them.
pub fn live10000(name: &'static str) -> anyhow::Result<Row> {
    let user = User::new(&["bench-plugin"])?;
    fs::write(user.path().join("plan.json"), plan(10_000, noop))?;
    let program = std::env::current_exe()?;
    // A terminal of its own, which `script` makes. What runs on it notes which process it is.
    let line = format!(
        "echo $$ > process; exec {} run plan.json",
        program.display()
    );
    let process = user.path().join("process");
    let (mut shares, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        // That of the last round has ended.
        fs::write(&process, "")?;
        let mut command = Command::new("script");
        command
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .current_dir(user.path())
            .env(CHILD, "1")
            .env("VOX_DATA", user.data())
            .env("VOX_CACHE", user.data().join("cache"))
            .env("TERM", "xterm")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let before = children();
        let start = Instant::now();
        let script = command.spawn().context("`script` makes a terminal")?;
        let drawn = drawing(script, &process)?;
        let seconds = start.elapsed().as_secs_f64();
        shares.push(drawn / seconds * 100.0);
        peers.push((children() - before) / seconds * 100.0);
    }
    let (value, peer) = (median(shares), median(peers));
    Ok(Row {
        name,
        value,
        unit: "%",
        peer,
        peer_name: "the run and its terminal, all threads",
        ratio: value / peer,
        goal: "under 5 % of a core",
        met: value < 5.0,
        detail: Some("of the thread that draws; what hands events to it is not counted".to_owned()),
    })
}

/// Waits for the end of a run on a terminal; answers the seconds of processor time of the thread that
/// draws, as it was last seen.
fn drawing(mut script: Child, process: &Path) -> anyhow::Result<f64> {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let mut drawer: Option<PathBuf> = None;
    let mut seconds = 0.0;
    loop {
        if let Some(status) = script.try_wait()? {
            ensure!(
                status.success(),
                "vox run on a terminal ended with {status}"
            );
            ensure!(drawer.is_some(), "no thread that draws was seen");
            return Ok(seconds);
        }
        drawer = drawer.or_else(|| drawer_of(process));
        seconds = drawer.as_deref().and_then(on_processor).unwrap_or(seconds);
        thread::sleep(LOOK_EVERY);
    }
}

/// The thread that draws, of the process that is noted in this file, in `/proc`.
fn drawer_of(process: &Path) -> Option<PathBuf> {
    let process = fs::read_to_string(process).ok()?;
    let threads = fs::read_dir(format!("/proc/{}/task", process.trim())).ok()?;
    let mut threads = threads.flatten().map(|entry| entry.path());
    threads.find(|thread| {
        let name = fs::read_to_string(thread.join("comm"));
        name.is_ok_and(|name| name.trim() == "vox-live")
    })
}

/// Seconds that a thread in `/proc` was on a processor; none once it has ended.
fn on_processor(thread: &Path) -> Option<f64> {
    let statistics = fs::read_to_string(thread.join("schedstat")).ok()?;
    let nanoseconds: f64 = statistics.split(' ').next()?.parse().ok()?;
    Some(nanoseconds / 1e9)
}

/// Seconds of processor time of all children that have ended.
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let fields: Vec<f64> = after
        .split_whitespace()
        .filter_map(|field| field.parse().ok())
        .collect();
    // The state is a letter; cutime and cstime are the 16th and 17th fields, in hundredths.
    fields.get(12).copied().unwrap_or(0.0) / 100.0 + fields.get(13).copied().unwrap_or(0.0) / 100.0
}

/// 1 GiB of chunks of 64 KiB through three stages.
fn stream(user: &User, stage: &str) -> anyhow::Result<f64> {
    let plan = |through: serde_json::Value| {
        serde_json::json!({
            "pipeline": { "name": "bench" },
            "step": [
                { "key": "source", "uses": "bench-source" },
                { "key": "sink", "uses": "bench-sink",
                  "inputs": { "in": { "from": "source.out", "through": through } } },
            ],
        })
        .to_string()
    };
    let stage = serde_json::json!({ "stage": stage });
    let whole = user.run(
        &plan(serde_json::json!([stage, stage, stage])),
        &["--no-record"],
    )?;
    Ok(1024.0 / whole)
}

/// MiB a second through `cat | cat | cat | cat`.
fn pipes() -> anyhow::Result<f64> {
    let start = Instant::now();
    let status = Command::new("sh")
        .args([
            "-c",
            "head -c 1073741824 /dev/zero | cat | cat | cat | cat >/dev/null",
        ])
        .status()?;
    if !status.success() {
        bail!("the pipes ended with {status}");
    }
    Ok(1024.0 / start.elapsed().as_secs_f64())
}

fn beside_pipes(
    name: &'static str,
    stage: &str,
    goal: &'static str,
    least: f64,
) -> anyhow::Result<Row> {
    let user = User::new(&["bench-plugin", "bench-stage"])?;
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    stream(&user, stage)?;
    for _ in 0..ROUNDS {
        ours.push(stream(&user, stage)?);
        peers.push(pipes()?);
    }
    let (value, peer) = (median(ours), median(peers));
    Ok(Row {
        name,
        value,
        unit: "MiB/s",
        peer,
        peer_name: "head | cat | cat | cat | cat",
        ratio: value / peer,
        goal,
        met: value / peer >= least,
        detail: Some("from the start of the command to its end".to_owned()),
    })
}

/// Three native stages.
pub fn stream_native(name: &'static str) -> anyhow::Result<Row> {
    beside_pipes(name, "bench-plugin", "at least 0.5 times", 0.5)
}

/// Three stages that are components.
pub fn stream_component(name: &'static str) -> anyhow::Result<Row> {
    beside_pipes(name, "bench-stage", "at least 0.15 times", 0.15)
}
