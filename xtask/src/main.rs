//! Vox's own automation: `cargo xtask <command>`.
//!
//! | command | does |
//! |---|---|
//! | `quickstart` | from a fresh checkout to a finished first pipeline |
//! | `finetune` | a language model that learns something, asked before and after |
//! | `test` | every test |
//! | `fuzz` | the fuzzers, for longer than the tests run them |
//! | `ci` | every check, then every test |
//! | `arch-check` | compares the crates' dependencies, and where unsafe code stands, with ARCHITECTURE.md |
//! | `catalog` | compares catalog.toml, manifests, skills and the contract with each other |
//! | `docs`, `book` | the generated pages, and the book that they are part of |
//! | `dist` | a distribution and its archive |
//! | `bench`, `peers` | measurements, and what Vox is measured against |
//! | `reference` | fixtures that the reference Python packages make |
//! | `cuda`, `metal` | the plugins `candle-cuda` and `candle-metal` |
//! | `gpu-suite`, `gpu-check` | a folder of checks for a machine with a GPU, and running them there |
//!
//! What must stay true: a check that fails says which command mends it; everything that can be
//! built for development is built for development alone, and for the whole workspace at once
//! wherever the features of a heavy dependency could otherwise differ between two commands, so
//! that nothing heavy is compiled twice.

mod arch;
mod bench;
mod candle;
mod catalog;
mod ci;
mod dist;
mod docs;
mod finetune;
mod fuzz;
mod gpu_suite;
mod guest;
mod links;
mod peers;
mod plugins;
mod python;
mod quickstart;
mod reference;
mod sandbox;
mod sdk;
mod skips;
mod smollm2;
mod tests;
mod workspace;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::workspace::{Workspace, explain};

/// Vox's own automation.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build Vox and its plugins, lay a distribution out, and run a first pipeline with it
    Quickstart,
    /// Fine-tune a language model, and ask it before and after
    Finetune,
    /// Run every test
    Test {
        /// What `cargo test` takes besides, such as a part of a test's name
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Feed what Vox reads from strangers inputs that nobody wrote; the tests do so for a moment
    Fuzz {
        /// archive, calls, files, models or payload; without it, all of them
        target: Option<String>,
        /// For how many seconds each fuzzer runs
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The number that the inputs come from, 1 where none is given
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Run every check that a change must pass, then every test
    Ci,
    /// Compare the crates' dependencies, and where unsafe code stands, with ARCHITECTURE.md
    ArchCheck,
    /// Check that catalogue, manifests, skills, ABI number and reference pages agree
    Catalog {
        /// Write the plugins of catalog.toml anew from their manifests
        #[arg(long)]
        write: bool,
    },
    /// Generate the reference pages in docs/src/reference
    Docs {
        /// Change nothing; fail when a page is not what would be generated
        #[arg(long)]
        check: bool,
    },
    /// Build the book in docs/ with mdBook
    Book,
    /// Build a distribution and its archive in target/dist
    Dist {
        /// Its name in catalog.toml
        name: String,
        /// Optimise, as for handing out
        #[arg(long)]
        release: bool,
    },
    /// Measure; without names, everything
    Bench {
        /// Measurements to take, by name
        names: Vec<String>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Build what Vox is measured against
    Peers {
        /// extism, llama.cpp or pytorch; without it, all of them
        peer: Option<String>,
    },
    /// Make fixtures anew, with the reference Python packages
    Reference {
        /// gguf, hypervectors, training-data or ml; without it, all of them
        fixtures: Option<String>,
    },
    /// Build the plugin candle-cuda, with NVIDIA's toolkit from PyPI: no toolkit, driver or GPU is needed
    Cuda(CudaArguments),
    /// Build the plugin candle-metal, on a Mac
    Metal,
    /// Pack host, plugins, model and checks for a machine with a GPU into target/gpu-suite
    GpuSuite {
        #[command(flatten)]
        cuda: CudaArguments,
        /// cuda, or cpu to try the suite itself
        #[arg(long, default_value = "cuda", value_parser = ["cuda", "cpu"])]
        device: String,
        /// The host's program [default: one that is built for release]
        #[arg(long, value_name = "FILE")]
        vox: Option<PathBuf>,
        /// Leave out the model and CUDA's libraries: one is made there, and the others looked for, also in
        /// the packages of Python
        #[arg(long)]
        lean: bool,
        /// Run it here at once
        #[arg(long)]
        run: bool,
    },
    /// Run the checks of a suite, on the machine with the GPU; no checkout is needed
    GpuCheck {
        /// The suite's folder
        #[arg(default_value = ".")]
        folder: PathBuf,
        /// Seconds after which what is left is skipped
        #[arg(long, default_value_t = 340)]
        limit: u64,
    },
}

#[derive(Args)]
struct CudaArguments {
    /// The compute capability of the GPUs that it is for, such as 80, 89 or 90 [default: $CUDA_COMPUTE_CAP,
    /// else 90]
    #[arg(long, value_name = "NUMBER")]
    capability: Option<String>,
    /// A toolkit that is installed, in place of NVIDIA's wheels
    #[arg(long, value_name = "DIR")]
    toolkit: Option<PathBuf>,
}

impl CudaArguments {
    fn build(&self, workspace: &Workspace) -> anyhow::Result<candle::Cuda> {
        let capability = self.capability.clone();
        let capability = capability.or_else(|| env::var("CUDA_COMPUTE_CAP").ok());
        let capability = capability.as_deref().unwrap_or("90");
        candle::cuda(workspace, capability, self.toolkit.as_deref())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    if let Command::GpuCheck { folder, limit } = &command {
        return gpu_suite::check::run(folder, Duration::from_secs(*limit));
    }
    let workspace = Workspace::open()?;
    match command {
        Command::Quickstart => quickstart::run(&workspace),
        Command::Finetune => finetune::run(&workspace),
        Command::Test { arguments } => tests::run(&workspace, &arguments),
        Command::Fuzz {
            target,
            seconds,
            seed,
        } => fuzz::run(&workspace, target.as_deref(), seconds, seed),
        Command::Ci => ci::run(&workspace),
        Command::ArchCheck => arch::run(&workspace),
        Command::Catalog { write: true } => catalog::write(&workspace),
        Command::Catalog { write: false } => catalog::check(&workspace),
        Command::Docs { check: true } => docs::check(&workspace),
        Command::Docs { check: false } => docs::write(&workspace),
        Command::Book => docs::book(&workspace),
        Command::Dist { name, release } => dist::run(&workspace, &name, release),
        Command::Bench { names, json } => bench::run(&workspace, &names, json),
        Command::Peers { peer } => peers::run(&workspace, peer.as_deref()),
        Command::Reference { fixtures } => reference::run(&workspace, fixtures.as_deref()),
        Command::Cuda(arguments) => arguments.build(&workspace).map(|_| ()),
        Command::Metal => candle::metal(&workspace),
        Command::GpuSuite {
            cuda,
            device,
            vox,
            lean,
            run,
        } => {
            let suite = gpu_suite::Suite {
                device: &device,
                vox: vox.as_deref(),
                lean,
                run,
            };
            gpu_suite::run(&workspace, &suite, || cuda.build(&workspace))
        }
        // It needs no checkout, and was run above.
        Command::GpuCheck { .. } => Ok(()),
    }
}
