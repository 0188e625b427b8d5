//! What Vox costs, beside what it is measured against: `cargo xtask bench [NAME…] [--json]`.
//!
//! Every figure is taken together with its peer's, in turns within one process where both fit into
//! one, so that their ratio holds on a machine whose speed drifts. A bench is a function that
//! measures and a goal for the ratio; [`report`] prints.

mod calls;
mod fixture;
mod hooks;
mod measure;
mod ml;
mod oplog;
mod peers;
mod report;
mod run;
mod start;
mod store;
mod trust;
mod vsa;

use std::process::ExitCode;

use clap::Parser;

use report::{Report, Row};

/// Measures Vox beside its peers.
#[derive(Parser)]
struct Arguments {
    /// Benches whose names begin so; all without any.
    names: Vec<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Names the benches and measures nothing.
    #[arg(long)]
    list: bool,
}

/// A bench: its name and what measures it.
type Bench = (&'static str, fn(&'static str) -> anyhow::Result<Row>);

/// Every bench, in the order in which they run.
const BENCHES: &[Bench] = &[
    ("call.component", calls::component),
    ("call.component.vs-extism", peers::component_vs_extism),
    ("call.native", calls::native),
    ("call.native.slice", calls::native_slice),
    ("stage.native.64k", calls::stage_native_64k),
    ("stage.component.64k", calls::stage_component_64k),
    ("limits.overhead", trust::limits_overhead),
    ("host.denied", trust::host_denied),
    ("hooks.chain10.component", hooks::component),
    ("hooks.chain10.native", hooks::native),
    ("instantiate", trust::instantiate),
    ("instances.1000", trust::instances_1000),
    ("reload.under-load", trust::reload_under_load),
    ("reload.under-load.native", trust::reload_under_load_native),
    ("start.warm100", start::warm100),
    ("start.warm100.memory", start::warm100_memory),
    ("store.import", store::import),
    ("import.gguf", store::import_gguf),
    ("oplog.append", oplog::append),
    ("oplog.durable-step", oplog::durable_step),
    ("oplog.verify", oplog::verify),
    ("oplog.open1m", oplog::open1m),
    ("run.empty-step", run::empty_step),
    ("run.noop1000", run::noop1000),
    ("run.noop1000.vs-make", run::noop1000_vs_make),
    ("run.cached1000", run::cached1000),
    ("run.graph10000", run::graph10000),
    ("run.live10000", run::live10000),
    ("stream.native", run::stream_native),
    ("stream.component", run::stream_component),
    ("vsa.bind", vsa::bind),
    ("vsa.similarity", vsa::similarity),
    ("vsa.bundle", vsa::bundle),
    ("ml.generate.q8_0", ml::generate_q8_0),
    ("ml.generate.q4_0", ml::generate_q4_0),
    ("ml.prompt.q8_0", ml::prompt_q8_0),
    ("ml.prompt.q4_0", ml::prompt_q4_0),
    ("ml.lora", ml::lora),
    ("ml.qlora.memory", ml::qlora_memory),
    ("ml.boundary", ml::boundary),
    ("ml.first-token", ml::first_token),
    ("ml.first-token.start", ml::first_token_start),
];

fn main() -> anyhow::Result<ExitCode> {
    // Children that benches made of this program, to be measured from outside.
    if std::env::var_os(run::CHILD).is_some() {
        return Ok(vox_cli::main());
    }
    measure().map(|()| ExitCode::SUCCESS)
}

fn measure() -> anyhow::Result<()> {
    if let Some(plugins) = std::env::var_os(start::CHILD) {
        return start::child(plugins.as_ref());
    }
    if let Ok(task) = std::env::var(ml::CHILD) {
        return ml::child(&task);
    }
    let arguments = Arguments::parse();
    let wanted = |name: &str| {
        arguments.names.is_empty()
            || arguments
                .names
                .iter()
                .any(|prefix| name.starts_with(prefix.as_str()))
    };
    let chosen = BENCHES
        .iter()
        .filter(|(name, _)| wanted(name))
        .collect::<Vec<_>>();
    anyhow::ensure!(
        !chosen.is_empty(),
        "no bench begins so; `--list` names them"
    );
    let mut report = Report::new(arguments.json);
    for (name, bench) in chosen {
        if arguments.list {
            println!("{name}");
        } else {
            report.print(&bench(name)?)?;
        }
    }
    Ok(())
}
