//! `cargo xtask quickstart`: from a fresh checkout to a finished first pipeline, and a first model that
//! was trained, killed on the way, and went on.
//!
//! Everything that it makes is below `target/quickstart`.

use std::env;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::sandbox::Sandbox;
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
const KILLED_AFTER: usize = 80;

/// Builds, lays out, and runs.
pub fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let sandbox = Sandbox::lay_out(workspace)?;
    sandbox.run(&["run", PIPELINE])?;
    sandbox.run(&["hello"])?;
    train(&sandbox)?;
    write(&sandbox)?;
    sandbox.run(&["log", "verify"])?;

    println!(
        "\nVox is in {directory}; it runs where it lies, also when moved elsewhere.\n\n\
         To try next:\n\
         \x20   {vox} plugin list\n\
         \x20   {vox} run {PIPELINE} --format json\n\
         \x20   {vox} generate target/quickstart/{NOVELIST}/model \"Emma was\"\n\
         \x20   {vox} plugin new shout --path ../shout\n\n\
         The tutorial: docs/src/tutorial.md",
        directory = workspace.name(&sandbox.distribution),
        vox = workspace.name(&sandbox.vox),
    );
    Ok(())
}

/// Trains a model from scratch, kills the training half-way, and lets it go on.
fn train(sandbox: &Sandbox) -> anyhow::Result<()> {
    let novelist = sandbox.out.join(NOVELIST);
    if novelist.exists() {
        fs::remove_dir_all(&novelist)?;
    }
    announce(format_args!("vox train {TRAINING} --device cpu"));
    let mut training = sandbox.vox(&["train", TRAINING, "--device", "cpu"]);
    let mut training = training.spawn().context("the training does not start")?;
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
    sandbox.run(&["train", TRAINING, "--device", "cpu", "--resume"])
}

/// Lets the model write in a step, which sees of the environment what it is given.
fn write(sandbox: &Sandbox) -> anyhow::Result<()> {
    let path = env::join_paths(
        [sandbox.distribution.clone()]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )?;
    announce(format_args!("vox run {WRITING}"));
    let arguments = ["run", WRITING, "--env", "VOX_DATA", "--env", "VOX_CACHE"];
    run_command(sandbox.vox(&arguments).env("PATH", path))
}
