//! OpenAI's official clients against the server.
//!
//! The packages are installed once, below the target directory. Where Python or Node is missing, or the
//! packages cannot be had, the test says why on standard error and is passed over.

mod kit;
#[path = "../../../tests/skipped.rs"]
mod skipped;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::{Served, chat, options, serve};
use serde_json::json;
use vox_serve::{Keys, Options};

/// The versions that the server is tried with.
const PYTHON_PACKAGE: &str = "openai==3.57.0";
const NODE_PACKAGE: &str = "openai@7.59.0";
const KEY: &str = "0123456789abcdef-key";

/// The servers that a client asks.
struct Servers {
    open: Served,
    keyed: Served,
    full: Served,
}

impl Servers {
    fn start() -> Self {
        let servers = Self {
            open: serve(Options::default()),
            keyed: serve(options(|options| {
                options.keys = Keys::from_variable("KEYS", KEY).unwrap();
            })),
            full: serve(options(|options| options.queue = 0)),
        };
        // The one that there is a turn for has no end, and its client waits.
        let asked = servers
            .full
            .begin("/v1/chat/completions", &chat("held", json!({})));
        servers.full.began();
        std::mem::forget(asked);
        servers
    }

    fn arguments(&self) -> [String; 4] {
        let address = |served: &Served| served.address.to_string();
        [
            address(&self.open),
            address(&self.keyed),
            address(&self.full),
            KEY.to_owned(),
        ]
    }

    /// Runs a client, and looks at what it left.
    fn ask(&self, client: &mut Command) {
        let output = client.args(self.arguments()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let wrong = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}\n{wrong}");
        assert!(told.contains("passed"), "{told}\n{wrong}");
        eprint!("{told}");
        self.open
            .until_metric("vox_serve_cancelled_total{reason=\"client-left\"} 1");
    }
}

/// A directory with what `install` puts there, once; or why it cannot be had.
fn installed(
    name: &str,
    install: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(directory);
    }
    // What a run before this one did not finish.
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    install(&directory)?;
    fs::write(&complete, "").map_err(|error| error.to_string())?;
    Ok(directory)
}

/// Runs a program; where that fails, the last line of what it says.
fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let shown = program.display();
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    let last = told.lines().rfind(|line| !line.trim().is_empty());
    Err(format!("{shown}: {}", last.unwrap_or("it failed")))
}

fn client(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(file)
}

#[test]
fn the_official_client_for_python_is_answered() {
    let environment = installed("openai-python-3.57.0", |directory| {
        let shown = directory.display().to_string();
        run("python3".as_ref(), &["-m", "venv", &shown])?;
        let python = directory.join("bin/python");
        let pip = ["-m", "pip", "install", "--quiet", PYTHON_PACKAGE];
        run(&python, &pip)
    });
    match environment {
        Err(reason) => skipped::because(format_args!("the Python client cannot be had: {reason}")),
        Ok(environment) => Servers::start()
            .ask(Command::new(environment.join("bin/python")).arg(client("client.py"))),
    }
}

#[test]
fn the_official_client_for_node_is_answered() {
    let modules = installed("openai-node-7.59.0", |directory| {
        let shown = directory.display().to_string();
        let quiet = ["--no-audit", "--no-fund", "--loglevel=error"];
        let npm = ["install", "--prefix", &shown, NODE_PACKAGE];
        run("npm".as_ref(), &[&npm[..], &quiet[..]].concat())
    });
    match modules {
        Err(reason) => {
            skipped::because(format_args!("the client for Node cannot be had: {reason}"))
        }
        Ok(modules) => {
            Servers::start().ask(Command::new("node").arg(client("client.mjs")).arg(modules))
        }
    }
}
