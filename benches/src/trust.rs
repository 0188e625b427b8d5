//! What enforcement costs: limits and accounting on a call, a refusal, a new instance, and a plugin
//! that is replaced while it is called.

use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use vox_contract::Carrier;
use vox_host::Reloaded;

use crate::calls::Raw;
use crate::fixture::{Fixture, record};
use crate::measure::{in_turns, resident};
use crate::report::Row;

/// How often the plugin is replaced.
const RELOADS: usize = 100;
/// How many clients call it meanwhile.
const CLIENTS: usize = 2;
/// Live instances of one process.
const INSTANCES: usize = 1000;

/// A component call with every limit and all accounting, against the same call of the same
/// component in wasmtime with neither epochs nor limiter.
pub fn limits_overhead(name: &'static str) -> anyhow::Result<Row> {
    let fixture = Fixture::new()?;
    let mut instance = fixture.instance(Carrier::Component)?;
    let mut stage = instance.stage()?;
    let ours = record();
    let mut raw = Raw::bare(&fixture.component()?)?;
    let theirs = Raw::record(&ours);
    let (value, peer) = in_turns(
        || stage.open(black_box(&ours)).expect("the plugin takes it"),
        || raw.open(black_box(&theirs)),
    );
    let ratio = value / peer;
    Ok(Row {
        name,
        value,
        unit: "ns",
        peer,
        peer_name: "wasmtime without limits",
        ratio,
        goal: "at most 1.15",
        met: ratio <= 1.15,
        detail: None,
    })
}

/// A host call that is refused, as the difference of a call that makes one and a call that makes
/// none. Among what it costs is that the guest takes the refusal apart and frees its text.
pub fn host_denied(name: &'static str) -> anyhow::Result<Row> {
    let fixture = Fixture::new()?;
    let mut denied = fixture.instance(Carrier::Component)?;
    let mut plain = fixture.instance(Carrier::Component)?;
    let (mut denied, mut plain) = (denied.storage()?, plain.storage()?);
    anyhow::ensure!(denied.remove("k")?, "the plugin says that it was refused");
    let (with, without) = in_turns(
        || {
            black_box(denied.remove(black_box("k")).expect("it answers"));
        },
        || {
            black_box(plain.remove(black_box("-")).expect("it answers"));
        },
    );
    let value = with - without;
    Ok(Row {
        name,
        value,
        unit: "ns",
        peer: without,
        peer_name: "the call without it",
        ratio: value / without,
        goal: "under 200 ns",
        met: value < 200.0,
        detail: None,
    })
}

/// Making and dropping an initialised instance, against doing that in wasmtime alone.
pub fn instantiate(name: &'static str) -> anyhow::Result<Row> {
    let fixture = Fixture::new()?;
    let raw = Raw::factory(&fixture.component()?)?;
    fixture.instance(Carrier::Component)?;
    let (value, peer) = in_turns(
        || drop(black_box(fixture.instance(Carrier::Component))),
        || drop(black_box(raw.make())),
    );
    let ratio = value / peer;
    Ok(Row {
        name,
        value: value / 1000.0,
        unit: "us",
        peer: peer / 1000.0,
        peer_name: "wasmtime alone",
        ratio,
        goal: "at most 1.5",
        met: ratio <= 1.5,
        detail: None,
    })
}

/// Memory of each of a thousand live component instances, against that of as many in wasmtime
/// alone.
pub fn instances_1000(name: &'static str) -> anyhow::Result<Row> {
    let fixture = Fixture::new()?;
    let raw = Raw::factory(&fixture.component()?)?;
    drop((fixture.instance(Carrier::Component)?, raw.make()));
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / INSTANCES as f64;

    let before = resident()?;
    let ours = (0..INSTANCES)
        .map(|_| fixture.instance(Carrier::Component))
        .collect::<Result<Vec<_>, _>>()?;
    let value = each(before, resident()?);
    let counted = fixture.host().usage();
    drop(ours);
    let before = resident()?;
    let theirs = (0..INSTANCES).map(|_| raw.make()).collect::<Vec<_>>();
    let peer = each(before, resident()?);
    drop(theirs);
    Ok(Row {
        name,
        value: value / 1024.0,
        unit: "KiB",
        peer: peer / 1024.0,
        peer_name: "wasmtime alone",
        ratio: value / peer,
        goal: "none set",
        met: counted.instances == INSTANCES as u64,
        detail: Some(format!(
            "{} instances live, {} KiB of address space each counted against the budget",
            counted.instances,
            counted.memory / INSTANCES as u64 / 1024
        )),
    })
}

/// Calls that failed or were lost while two clients called without pause and the plugin was
/// replaced a hundred times.
pub fn reload_under_load(name: &'static str) -> anyhow::Result<Row> {
    under_load(name, Carrier::Component)
}

/// The same with the native library.
pub fn reload_under_load_native(name: &'static str) -> anyhow::Result<Row> {
    under_load(name, Carrier::Native)
}

fn under_load(name: &'static str, carrier: Carrier) -> anyhow::Result<Row> {
    let fixture = Fixture::new()?;
    let plugin = "bench-plugin".parse()?;
    let over = AtomicBool::new(false);
    let failed = AtomicU64::new(0);
    let record = record();
    let bytes = record.arguments.len() as u64;
    // Both releases are compiled once before the clock runs, as a user's next version is when it
    // is built or first tried.
    let _warm = fixture.instance(carrier)?;
    for number in 0..2 {
        release(&fixture, carrier, number)?;
        fixture.host().reload(&plugin)?;
    }
    let (clients, replaced) = thread::scope(|scope| -> anyhow::Result<_> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<(u64, Vec<u64>)> {
                    let mut instance = fixture.instance(carrier)?;
                    let mut times = Histogram::new();
                    let mut made = 0u64;
                    while !over.load(Ordering::Relaxed) {
                        let since = Instant::now();
                        match instance.stage()?.open(&record) {
                            Ok(()) => made += 1,
                            Err(_) => {
                                failed.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        times.add(since.elapsed().as_nanos() as u64);
                    }
                    // The plugin counts the bytes that it was given, and its state goes over.
                    let counted = instance.storage()?.stat("")?.unwrap_or(0) / bytes;
                    Ok((made.abs_diff(counted), times.0))
                })
            })
            .collect();
        let mut replaced = 0;
        for number in 0..RELOADS {
            release(&fixture, carrier, number)?;
            let outcome = fixture.host().reload(&plugin)?;
            replaced += usize::from(matches!(outcome, Reloaded::Replaced { .. }));
        }
        over.store(true, Ordering::Relaxed);
        let clients = clients
            .into_iter()
            .map(|client| client.join().expect("a client does not panic"))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok((clients, replaced))
    })?;
    let lost: u64 = clients.iter().map(|(lost, _)| lost).sum();
    let mut times = Histogram::new();
    clients.iter().for_each(|(_, own)| times.merge(own));
    let value = (failed.into_inner() + lost) as f64;
    let median = times.quantile(0.5);
    let longest = times.longest();
    let pause = (longest - median) as f64 / 1e6;
    Ok(Row {
        name,
        value,
        unit: "calls",
        peer: pause,
        peer_name: "longest pause beyond the median call, in ms",
        ratio: value,
        goal: "none failed or lost, pauses under 5 ms",
        met: value == 0.0 && replaced == RELOADS && pause < 5.0,
        detail: Some(format!(
            "{} calls, {replaced} replacements; ns a call: median {median}, p99 {}, p99.99 {}, p99.9999 {}, longest {longest}",
            times.count(),
            times.quantile(0.99),
            times.quantile(0.9999),
            times.quantile(0.999_999),
        )),
    })
}

/// Writes another release: the same code with another number at its end, which a component carries
/// as a custom section and a library behind all that is loaded of it.
fn release(fixture: &Fixture, carrier: Carrier, number: usize) -> anyhow::Result<()> {
    let number = b'0' + (number % 2) as u8;
    let (file, mut bytes) = fixture.payload(carrier)?;
    match carrier {
        Carrier::Component => bytes.extend([0, 3, 1, b'r', number]),
        Carrier::Native => bytes.push(number),
    }
    let aside = file.with_extension("aside");
    fs::write(&aside, bytes)?;
    Ok(fs::rename(aside, file)?)
}

/// Times by size: buckets that are a sixteenth of their lower end wide.
struct Histogram(Vec<u64>);

impl Histogram {
    fn new() -> Self {
        Self(vec![0; 64 * 16])
    }

    fn add(&mut self, nanos: u64) {
        self.0[bucket(nanos)] += 1;
    }

    fn merge(&mut self, other: &[u64]) {
        self.0
            .iter_mut()
            .zip(other)
            .for_each(|(own, other)| *own += other);
    }

    fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The upper end of the bucket below which this part of all times lies.
    fn quantile(&self, part: f64) -> u64 {
        let wanted = (self.count() as f64 * part).ceil() as u64;
        let mut seen = 0;
        let at = self.0.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        at.map_or(0, upper)
    }

    fn longest(&self) -> u64 {
        self.0.iter().rposition(|count| *count > 0).map_or(0, upper)
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(16);
    let power = nanos.ilog2();
    let sixteenth = (nanos >> (power - 4)) & 15;
    power as usize * 16 + sixteenth as usize
}

fn upper(bucket: usize) -> u64 {
    let (power, sixteenth) = (bucket / 16, bucket % 16);
    (17 + sixteenth as u64) << power.saturating_sub(4)
}
