//! What 100 installed plugins cost a host that uses none of them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use vox_host::directories::Directories;
use vox_host::{Host, HostOptions};

use crate::measure::median;
use crate::report::Row;

/// Variable that makes this program a child that opens a host over the plugins that it names.
pub const CHILD: &str = "VOX_BENCH_START_CHILD";
/// Runs of each contender.
const RUNS: usize = 21;
/// Installed plugins.
const PLUGINS: usize = 100;

/// Opens a host and reports its own peak memory in KiB.
pub fn child(data: &Path) -> anyhow::Result<()> {
    let host = Host::open(
        Directories::new(data, data.join("cache")),
        HostOptions::default(),
    )?;
    anyhow::ensure!(host.findings().is_empty(), "{:?}", host.findings());
    let status =
        std::fs::read_to_string("/proc/self/status").context("memory is read from /proc")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("VmHWM")?;
    println!(
        "{} {}",
        host.selection().len(),
        peak.trim().trim_end_matches(" kB")
    );
    Ok(())
}

/// A process that opens a host over 100 plugins, from its start to its end.
pub fn warm100(name: &'static str) -> anyhow::Result<Row> {
    let (full, empty) = (installed(PLUGINS)?, installed(0)?);
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(run(full.path(), PLUGINS)?.0);
        peers.push(run(empty.path(), 0)?.0);
    }
    let (value, peer) = (median(ours), median(peers));
    Ok(Row {
        name,
        value,
        unit: "ms",
        peer,
        peer_name: "the same process with no plugins",
        ratio: value / peer,
        goal: "under 20 ms",
        met: value < 20.0,
        detail: None,
    })
}

/// Peak memory of that process, beside the same with plugins whose payloads are a thousand times
/// larger: what is never used is never read.
pub fn warm100_memory(name: &'static str) -> anyhow::Result<Row> {
    let full = installed(PLUGINS)?;
    let heavy = installed(PLUGINS)?;
    for plugin in std::fs::read_dir(heavy.path().join("plugins"))?.flatten() {
        let payload = std::fs::File::options()
            .write(true)
            .open(plugin.path().join("0.1.0/payload.wasm"))?;
        payload.set_len(1024 * 1024)?;
    }
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(run(heavy.path(), PLUGINS)?.1);
        peers.push(run(full.path(), PLUGINS)?.1);
    }
    let (value, peer) = (median(ours), median(peers));
    let ratio = value / peer;
    Ok(Row {
        name,
        value,
        unit: "KiB",
        peer,
        peer_name: "payloads of 1 KiB in place of 1 MiB",
        ratio,
        goal: "at most 1.05",
        met: ratio <= 1.05,
        detail: None,
    })
}

/// Runs a child; answers its milliseconds and its peak memory in KiB.
fn run(data: &Path, plugins: usize) -> anyhow::Result<(f64, f64)> {
    let program = std::env::current_exe()?;
    let start = Instant::now();
    let output = Command::new(program)
        .env(CHILD, data)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    let text = String::from_utf8(output.stdout)?;
    let (count, peak) = text
        .trim()
        .split_once(' ')
        .context("the child prints two numbers")?;
    anyhow::ensure!(
        count.parse::<usize>()? == plugins,
        "{count} of {plugins} plugins were found"
    );
    Ok((milliseconds, peak.parse()?))
}

/// A data directory with this many plugins.
fn installed(count: usize) -> anyhow::Result<tempfile::TempDir> {
    let data = tempfile::tempdir()?;
    std::fs::create_dir_all(data.path().join("plugins"))?;
    for number in 0..count {
        let directory = data.path().join(format!("plugins/plugin-{number}/0.1.0"));
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("payload.wasm"), [0; 1024])?;
        std::fs::write(
            directory.join("Plugin.toml"),
            format!(
                r#"id = "plugin-{number}"
name = "Plugin {number}"
version = "0.1.0"
description = "One of many plugins that are installed and not used"
authors = ["The Vox developers"]
license = "Apache-2.0 OR MIT"
homepage = "https://example.org/plugin-{number}"
host = ">=0.1, <0.2"

[payload]
component = "payload.wasm"

[provides]
extension-points = {{ step = 1, stage = 1, hook = 1, command = 1 }}
runners = ["runner-{number}"]
commands = [{{ verb = "verb-{number}", summary = "Does something" }}]
hooks = [{{ point = "pre_step", priority = {number} }}]

[[capabilities]]
name = "stream_io"
reason = "reads the text and hands it on"

[[capabilities]]
name = "kv"
reason = "remembers what it saw"

[limits]
memory = "16MiB"
cpu = "100ms"
"#
            ),
        )?;
    }
    Ok(data)
}
