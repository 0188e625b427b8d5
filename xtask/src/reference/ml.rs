//! The fixtures of language models: what PyTorch, `transformers`, PEFT, bitsandbytes and llama.cpp compute.
//!
//! Owns: the environment that they run in, the adapters that Vox exports for PEFT, and the order of the programs
//! beside the fixtures; each program's head says what it writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python::{environment_python, pip, program, real_model};
use crate::smollm2;
use crate::workspace::{Workspace, announce, output_of, run as run_command};

/// Where the fixtures stand.
const FIXTURES: &str = "plugins/candle/tests/reference";
/// Where the environment and the bundle are, below `target`.
const DIRECTORY: &str = "reference/ml";
/// The text that the small tokenizer is trained on.
const TEXT: &str = "examples/quickstart/data/emma.txt";
/// How llama.cpp is built: for any processor of the kind, since its native build crashes on some, and without
/// what nothing here calls.
const LLAMA_CPP: &str = "-DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF";
/// Where a test writes the adapters that it exports.
const EXPORTED: &str = "VOX_EXPORTED";

/// Makes all fixtures anew.
pub(super) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let fixtures = workspace.root.join(FIXTURES);
    let programs = fixtures.join("programs");
    let directory = workspace.target.join(DIRECTORY);
    let python = torch(workspace)?;
    let bundle = smollm2::bundle(workspace, || workspace.build_program("vox", false))?;
    let run = |name: &str, arguments: &[&Path]| {
        announce(format_args!("Running {name}"));
        let mut command = program(&python, &programs, name);
        command
            .args(arguments)
            // PEFT writes the names of an adapter's modules in the order of a set.
            .env("PYTHONHASHSEED", "0")
            // And asks the hub for a base by its name.
            .env("HF_HUB_OFFLINE", "1")
            .env("PYTHONWARNINGS", "ignore");
        command
    };

    run_command(&mut run("models.py", &[&fixtures.join("models")]))?;
    let later = later_transformers(&python, &directory, &programs)?;
    run_command(run("configs_5.py", &[&fixtures]).env("PYTHONPATH", later))?;
    run_command(&mut run("lora.py", &[&fixtures]))?;
    export_adapters(workspace, &fixtures.join("exported"))?;
    run_command(&mut run("peft_check.py", &[&fixtures]))?;
    run_command(&mut run("nf4.py", &[&fixtures.join("nf4.safetensors")]))?;
    let text = workspace.root.join(TEXT);
    run_command(&mut run("tokenizer.py", &[&fixtures, &text, &bundle]))?;
    run_command(&mut run("smollm2.py", &[&fixtures, &bundle]))?;
    run_command(&mut run("smollm2_lora.py", &[&fixtures, &bundle]))?;
    llama_cpp(&python, &programs)?;
    let model = real_model(&python, &workspace.target.join("reference/model"))?;
    run_command(&mut run("smollm2_llama.py", &[&fixtures, &bundle, &model]))?;
    announce(format_args!("The fixtures are in {FIXTURES}"));
    Ok(())
}

/// A Python with PyTorch and what stands on it.
///
/// Nothing is installed but what is named. On Linux PyTorch wants libraries of CUDA, which are larger
/// than all else together and of no use here: stand-ins take their place.
pub fn torch(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let programs = workspace.root.join(FIXTURES).join("programs");
    let python = environment_python(&workspace.target.join(DIRECTORY).join("python"))?;
    announce("Installing PyTorch and the packages that stand on it");
    run_command(
        pip(&python)
            .args(["install", "--quiet", "--no-cache-dir", "--no-deps"])
            .arg("--requirement")
            .arg(programs.join("requirements.txt")),
    )?;
    if cfg!(target_os = "linux") {
        let packages = output_of(Command::new(&python).args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
        ]))?;
        let mut stand_ins = program(&python, &programs, "torch_without_cuda.py");
        run_command(stand_ins.arg(packages.trim()))?;
    }
    Ok(python)
}

/// A directory of packages that has version 5 of `transformers`.
fn later_transformers(python: &Path, directory: &Path, programs: &Path) -> anyhow::Result<PathBuf> {
    let packages = directory.join("transformers-5");
    if !packages.is_dir() {
        run_command(
            pip(python)
                .args(["install", "--quiet", "--no-cache-dir", "--no-deps"])
                .arg("--target")
                .arg(&packages)
                .arg("--requirement")
                .arg(programs.join("requirements-5.txt")),
        )?;
    }
    Ok(packages)
}

/// Builds llama.cpp into the environment, where it is not there yet; that takes minutes and a C++ compiler.
fn llama_cpp(python: &Path, programs: &Path) -> anyhow::Result<()> {
    announce("Building llama.cpp");
    run_command(
        pip(python)
            .args(["install", "--quiet", "--no-cache-dir", "--no-deps"])
            .arg("--requirement")
            .arg(programs.join("requirements-llama.txt"))
            .env("CMAKE_ARGS", LLAMA_CPP),
    )
}

/// Has a test of the plugin train adapters and export them, for PEFT to read.
fn export_adapters(workspace: &Workspace, to: &Path) -> anyhow::Result<()> {
    announce("Exporting adapters");
    let mut export = workspace.cargo(["test", "--workspace", "--test", "adapters_for_peft"]);
    // The other tests there read what this one writes.
    run_command(
        export
            .args(["--", "exported_adapters_are_made_anew"])
            .env(EXPORTED, to),
    )
}
