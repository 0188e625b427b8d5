//! `cargo xtask peers`: what Vox is measured against.
//!
//! | peer | where it comes from | where it goes |
//! |---|---|---|
//! | Extism | the workspace `benches/peers`, so that nobody who only uses Vox builds it | `benches/peers/target/release` |
//! | llama.cpp, and SmolLM2 in its formats | [`llama`] | `benches/peers/target/llama.cpp` |
//! | PyTorch and PEFT | as for `cargo xtask reference ml` | `target/reference/ml` |

mod llama;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::workspace::{Workspace, announce, run as run_command};
use crate::{guest, reference};

/// Makes the peer of this name, or all.
pub fn run(workspace: &Workspace, peer: Option<&str>) -> anyhow::Result<()> {
    let target = workspace.root.join("benches/peers/target");
    match peer {
        Some("extism") => extism(workspace, &target)?,
        Some("llama.cpp") => llama::make(&target.join("llama.cpp"))?,
        Some("pytorch") => drop(reference::ml::torch(workspace)?),
        Some(other) => bail!("there is no peer `{other}`: name extism, llama.cpp or pytorch"),
        None => {
            extism(workspace, &target)?;
            llama::make(&target.join("llama.cpp"))?;
            reference::ml::torch(workspace)?;
        }
    }
    announce(format_args!("The peers are in {}", workspace.name(&target)));
    Ok(())
}

/// The directory of `llama-server`, and a model for it, where that peer was made.
pub fn llama_server(workspace: &Workspace) -> Option<(PathBuf, PathBuf)> {
    let directory = workspace.root.join("benches/peers/target/llama.cpp");
    let programs = directory.join("build/bin");
    let model = directory.join("model/smollm2-q8_0.gguf");
    let server = programs.join(format!("llama-server{}", env::consts::EXE_SUFFIX));
    (server.is_file() && model.is_file()).then_some((programs, model))
}

/// Builds the peers' workspace, and their guest, a core module that the guest toolchain of the plugins
/// compiles.
fn extism(workspace: &Workspace, target: &Path) -> anyhow::Result<()> {
    let directory = workspace.root.join("benches/peers");
    if !directory.join("Cargo.toml").is_file() {
        bail!(
            "there is no {}",
            workspace.name(&directory.join("Cargo.toml"))
        );
    }
    if directory.join("guest/Cargo.toml").is_file() {
        let toolchain = guest::ensure(workspace)?;
        announce("Building the peers' guest");
        let mut command = cargo_in(workspace, &directory.join("guest"));
        command.arg("--target-dir").arg(target.join("guest"));
        toolchain.configure(&mut command);
        run_command(&mut command)?;
    }
    announce("Building the peers");
    let mut command = cargo_in(workspace, &directory);
    run_command(command.arg("--target-dir").arg(target))
}

/// A release build of the crate or workspace in `directory`.
fn cargo_in(workspace: &Workspace, directory: &Path) -> Command {
    let mut command = workspace.cargo(["build", "--release", "--manifest-path"]);
    command.arg(directory.join("Cargo.toml"));
    command
}
