//! `vox probe`: the hardware that is here.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use vox_probe::{Hardware, Probe as _, SystemProbe};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::style::{DIM, HEADING, LITERAL, paint, plain};
use crate::output::{self, View, bytes};

/// Arguments of `vox probe`.
#[derive(Debug, Args)]
#[command(
    after_help = "A tier is a number from 0 to 100 by which devices are ordered. Of the backends that can run a model, \
                  those\non CUDA devices are tried first, then Metal, then the processor; of one kind, the higher \
                  tier first.\nServers come last, or by the tier that their configuration gives them."
)]
pub struct ProbeArgs {
    /// The same as --format json
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of what is printed, and look at nothing
    #[arg(long, conflicts_with = "json")]
    schema: bool,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Found(Hardware);

impl View for Found {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Hardware {
            system,
            cpu,
            memory,
            cuda,
            metal,
            searches,
            ..
        } = &self.0;
        let tier = |tier: u8| paint(DIM, format!("tier {tier}")).to_string();
        writeln!(
            out,
            "{}  {} on {}",
            paint(HEADING, "system"),
            system.os,
            system.arch
        )?;
        writeln!(
            out,
            "{}     {}  {}",
            paint(HEADING, "cpu"),
            plain(&cpu.model),
            tier(cpu.tier)
        )?;
        writeln!(
            out,
            "        {} cores, {} threads usable; {}",
            cpu.physical_cores,
            cpu.usable_threads,
            cpu.features.join(" ")
        )?;
        let size = |size: Option<u64>| size.map_or_else(|| "unknown".to_owned(), bytes);
        writeln!(
            out,
            "{}  {}, of which {} available",
            paint(HEADING, "memory"),
            size(memory.total),
            size(memory.available)
        )?;
        for device in &cuda.devices {
            writeln!(
                out,
                "{}    {}  compute capability {}.{}, {}, {} free  {}",
                paint(HEADING, "cuda"),
                paint(LITERAL, plain(&device.name)),
                device.compute_capability.major,
                device.compute_capability.minor,
                bytes(device.memory_total),
                bytes(device.memory_free),
                tier(device.tier)
            )?;
        }
        for device in &metal.devices {
            writeln!(
                out,
                "{}   {}  {}  {}",
                paint(HEADING, "metal"),
                paint(LITERAL, plain(&device.name)),
                bytes(device.memory_total),
                tier(device.tier)
            )?;
        }
        for search in searches.iter().filter(|search| !search.found) {
            writeln!(
                out,
                "{}",
                paint(DIM, format!("no {}: {}", search.looked_for, search.detail))
            )?;
        }
        Ok(())
    }
}

/// Looks at the hardware.
pub(crate) fn run(context: &Context, arguments: &ProbeArgs) -> Result<Exit, Failure> {
    if arguments.schema {
        let mut text = Vec::new();
        output::json(&Hardware::schema(), &mut text)?;
        output::print(&text)?;
        return Ok(Exit::Success);
    }
    let found = Found(SystemProbe::default().probe());
    if arguments.json {
        let mut text = Vec::new();
        output::json(&found, &mut text)?;
        output::print(&text)?;
        return Ok(Exit::Success);
    }
    context.output.show(&found)?;
    Ok(Exit::Success)
}
