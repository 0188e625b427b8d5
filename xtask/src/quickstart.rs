//! `cargo xtask quickstart`: from a fresh checkout to a finished first pipeline, and a first model that
//! was trained, killed on the way, and went on.
//!
//! Everything that it makes is below `target/quickstart`, the plugins' data and the compiled
//! components included: what the user has installed or granted is neither used nor touched.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use vox_build::Profile;

use crate::dist::{self, Distribution};
use crate::workspace::{Workspace, announce, run as run_command};

/// The pipeline that is run, from the root.
const PIPELINE: &str = "examples/quickstart/pipeline.toml";
/// The training, from the root.
const TRAINING: &str = "examples/quickstart/train.toml";
/// The pipeline in which the trained model writes, from the root.
const WRITING: &str = "examples/quickstart/write.toml";
/// Where the training puts what it makes, below `target/quickstart`.
const NOVELIST: &str = "novelist";
/// Steps after which the training is killed: half of them.
const KILLED_AFTER: usize = 50;

/// Builds, lays out, and runs.
pub fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let out = workspace.target.join("quickstart");
    let distribution = Distribution {
        name: "vox-ml",
        profile: Profile::Dev,
        archive: false,
    };
    let distribution = dist::lay_out(workspace, &distribution, &out)?;
    let vox = distribution.join(format!("vox{}", env::consts::EXE_SUFFIX));

    announce(format_args!("vox run {PIPELINE}"));
    run_command(in_sandbox(workspace, &vox, &out).args(["run", PIPELINE]))?;
    announce("vox hello");
    run_command(in_sandbox(workspace, &vox, &out).arg("hello"))?;

    train(workspace, &vox, &out)?;
    announce(format_args!("vox run {WRITING}"));
    // The model writes in a step, which sees of the environment what it is given.
    let path = env::join_paths(
        [distribution.clone()]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )?;
    run_command(in_sandbox(workspace, &vox, &out).env("PATH", path).args([
        "run",
        WRITING,
        "--env",
        "VOX_DATA",
        "--env",
        "VOX_CACHE",
    ]))?;
    announce("vox log verify");
    run_command(in_sandbox(workspace, &vox, &out).args(["log", "verify"]))?;

    println!(
        "\nVox is in {directory}; it runs where it lies, also when moved elsewhere.\n\n\
         To try next:\n\
         \x20   {vox} plugin list\n\
         \x20   {vox} run {PIPELINE} --format json\n\
         \x20   {vox} generate target/quickstart/{NOVELIST}/model --prompt \"Emma was\"\n\
         \x20   {vox} plugin new shout --path ../shout\n\n\
         The tutorial: docs/src/tutorial.md",
        directory = workspace.name(&distribution),
        vox = workspace.name(&vox),
    );
    Ok(())
}

/// Trains a model from scratch, kills the training half-way, and lets it go on.
fn train(workspace: &Workspace, vox: &Path, out: &Path) -> anyhow::Result<()> {
    let novelist = out.join(NOVELIST);
    if novelist.exists() {
        fs::remove_dir_all(&novelist)?;
    }
    let train = || {
        let mut command = in_sandbox(workspace, vox, out);
        command.args(["train", TRAINING, "--device", "cpu"]);
        command
    };
    announce(format_args!("vox train {TRAINING} --device cpu"));
    let mut training = train().spawn().context("the training does not start")?;
    // The table of the loss curve has a heading and a line for each step.
    let table = novelist.join("loss.csv");
    let steps =
        || fs::read_to_string(&table).map_or(0, |text| text.lines().count().saturating_sub(1));
    while steps() < KILLED_AFTER {
        if let Some(status) = training.try_wait()? {
            bail!("the training ended after {} steps with {status}", steps());
        }
        thread::sleep(Duration::from_millis(100));
    }
    // SIGKILL where there is one: nothing of it can clean up.
    training.kill()?;
    training.wait()?;
    println!("\nkilled after {} steps", steps());
    announce(format_args!("vox train {TRAINING} --device cpu --resume"));
    run_command(train().arg("--resume"))
}

/// `vox` in the root, with data and cache of its own.
fn in_sandbox(workspace: &Workspace, vox: &Path, out: &Path) -> Command {
    let mut command = Command::new(vox);
    command
        .current_dir(&workspace.root)
        .env("VOX_DATA", out.join("data"))
        .env("VOX_CACHE", out.join("cache"))
        .env_remove("VOX_PLUGIN_PATH");
    command
}
