//! `cargo xtask reference`: makes the fixtures that say what GGUF models and operations on hypervectors
//! are, what stands in files of text, audio and images, and what language models compute and how they
//! are trained, with the reference Python packages.
//!
//! The programs in `xtask/reference`, and those beside the fixtures of language models, make them;
//! `requirements*.txt` there pin what they use. What must stay true: nothing of Vox has a part in what is
//! expected (but that its importer makes the weights of SmolLM2 floats, for itself and for
//! `transformers`), and the same packages make the same files again.

pub mod ml;

use std::fs;

use anyhow::{Context, bail};

use crate::python::{program, python, real_model};
use crate::workspace::{Workspace, announce, run as run_command};

/// Where the fixtures stand.
const FIXTURES: &str = "crates/vox-model/tests/fixtures/gguf";
const HYPERVECTORS: &str = "crates/vox-vsa/tests/fixtures/torchhd";
const TRAINING_DATA: &str = "crates/vox-ml/tests/fixtures";

/// Makes the fixtures of one name anew, or all.
pub fn run(workspace: &Workspace, fixtures: Option<&str>) -> anyhow::Result<()> {
    match fixtures {
        Some("gguf") => gguf(workspace),
        Some("hypervectors") => hypervectors(workspace),
        Some("training-data") => training_data(workspace),
        Some("ml") => ml::run(workspace),
        Some(other) => {
            bail!("there are no fixtures `{other}`: name gguf, hypervectors, training-data or ml")
        }
        None => {
            gguf(workspace)?;
            hypervectors(workspace)?;
            training_data(workspace)?;
            ml::run(workspace)
        }
    }
}

/// Has `torchhd` compute with random vectors. PyTorch takes gigabytes, so it has an environment of its
/// own, and whoever makes the other fixtures need not have it.
fn hypervectors(workspace: &Workspace) -> anyhow::Result<()> {
    let programs = workspace.root.join("xtask/reference");
    let fixtures = workspace.root.join(HYPERVECTORS);
    fs::create_dir_all(&fixtures)
        .with_context(|| format!("cannot create {}", fixtures.display()))?;
    let python = python(
        &workspace.target.join("reference/torchhd"),
        &programs.join("requirements-hypervectors.txt"),
    )?;
    announce("Computing with hypervectors");
    run_command(program(&python, &programs, "hypervectors.py").arg(fixtures))?;
    announce(format_args!("The fixtures are in {HYPERVECTORS}"));
    Ok(())
}

/// Has `tokenizers` learn a tokenizer, and `transformers` render conversations.
fn training_data(workspace: &Workspace) -> anyhow::Result<()> {
    let programs = workspace.root.join("xtask/reference");
    let python = python(
        &workspace.target.join("reference/training"),
        &programs.join("requirements-training.txt"),
    )?;
    announce("Learning a tokenizer and rendering conversations");
    let fixtures = workspace.root.join(TRAINING_DATA);
    run_command(program(&python, &programs, "training_data.py").arg(fixtures))?;
    announce(format_args!("The fixtures are in {TRAINING_DATA}"));
    Ok(())
}

/// Makes the fixtures of GGUF models, then tries the tokenizers that Vox rebuilds with the library that
/// reads them, and writes down those that agree with the references.
fn gguf(workspace: &Workspace) -> anyhow::Result<()> {
    let programs = workspace.root.join("xtask/reference");
    let fixtures = workspace.root.join(FIXTURES);
    let directory = workspace.target.join("reference");
    let rebuilt = directory.join("rebuilt");
    for made in [&fixtures, &rebuilt] {
        fs::create_dir_all(made).with_context(|| format!("cannot create {}", made.display()))?;
    }
    let python = python(
        &directory.join("python"),
        &programs.join("requirements.txt"),
    )?;
    let model = real_model(&python, &directory.join("model"))?;

    announce("Making blocks and models");
    let blocks = fixtures.join("blocks");
    run_command(program(&python, &programs, "blocks.py").arg(blocks))?;
    run_command(
        program(&python, &programs, "models.py")
            .arg(&fixtures)
            .arg(&model),
    )?;

    announce("Making text, audio and images");
    run_command(program(&python, &programs, "media.py").arg(workspace.root.join("plugins")))?;

    announce("Rebuilding the tokenizers");
    let mut rebuild = workspace.cargo(["test", "--workspace", "--test", "gguf_models"]);
    rebuild
        .env("VOX_REBUILT", &rebuilt)
        .env("VOX_SMOLLM2_GGUF", &model);
    run_command(&mut rebuild)?;
    let mut check = program(&python, &programs, "tokenizers_check.py");
    run_command(check.arg(&fixtures).arg(&rebuilt))?;
    announce(format_args!("The fixtures are in {FIXTURES}"));
    Ok(())
}
