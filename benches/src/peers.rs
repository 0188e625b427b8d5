//! Peers that bring their own engine: programs of the workspace `benches/peers`, which
//! `cargo xtask peers` builds. Each prints its figure as one JSON object.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::Deserialize;

use crate::calls;
use crate::measure::median;
use crate::report::Row;

/// Turns that both take.
const TURNS: usize = 3;

#[derive(Deserialize)]
struct Figure {
    nanoseconds: f64,
}

/// The component call of a 64-byte record against Extism's call of a plugin with 64 bytes.
pub fn component_vs_extism(name: &'static str) -> anyhow::Result<Row> {
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.push(calls::component_alone()?);
        peers.push(run("extism-peer")?);
    }
    let (value, peer) = (median(ours), median(peers));
    let ratio = peer / value;
    Ok(Row {
        name,
        value,
        unit: "ns",
        peer,
        peer_name: "Extism",
        ratio,
        goal: "at least 15 times faster",
        met: ratio >= 15.0,
        detail: None,
    })
}

fn run(peer: &str) -> anyhow::Result<f64> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers/target/release")
        .join(peer);
    let output = Command::new(&program).output().with_context(|| {
        format!(
            "{} does not run; `cargo xtask peers` builds it",
            program.display()
        )
    })?;
    anyhow::ensure!(
        output.status.success(),
        "{}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice::<Figure>(&output.stdout)?.nanoseconds)
}
