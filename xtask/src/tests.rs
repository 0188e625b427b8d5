//! `cargo xtask test`: the plugins and the model that the tests load, then every test, and which of them were skipped.

use std::env;
use std::iter;
use std::path::PathBuf;
use std::time::Duration;

use vox_build::Profile;

use crate::skips::Skips;
use crate::workspace::{Workspace, announce, explain, run as run_command, run_within};
use crate::{guest, peers, plugins, smollm2};

/// How long the compiled tests may take together, several times what they do.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Runs every test; `arguments` go to both runs of `cargo test`.
pub fn run(workspace: &Workspace, arguments: &[String]) -> anyhow::Result<()> {
    let toolchain = guest::ensure(workspace)?;
    let mut all = plugins::plugins_in(workspace, plugins::FIRST_PARTY)?;
    all.extend(plugins::plugins_in(workspace, plugins::FOR_TESTS)?);
    all.retain(plugins::Plugin::is_built_everywhere);
    let root = workspace.target.join("vox-test/plugins");
    plugins::build(workspace, &all, &toolchain, Profile::Dev, &root)?;

    let cargo_test = |options: &[&str]| {
        let mut command = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
        command
            .env("VOX_TEST_PLUGINS", &root)
            .args(options)
            .args(arguments);
        command
    };
    announce("Compiling the tests");
    run_command(&mut cargo_test(&["--all-targets", "--no-run"]))?;
    let model = model(workspace);
    announce("Running the examples in the documentation");
    let documented = run_command(&mut cargo_test(&["--doc"]));
    announce("Running the tests");
    let mut tests = cargo_test(&["--all-targets"]);
    tests.envs(model.iter().map(|bundle| (smollm2::BUNDLE, bundle)));
    if let Some((programs, model)) = peers::llama_server(workspace) {
        // The plugin of llama.cpp meets the real server.
        let path = env::var_os("PATH").unwrap_or_default();
        let path = iter::once(programs).chain(env::split_paths(&path));
        tests.env("PATH", env::join_paths(path)?);
        tests.env("VOX_TEST_GGUF", model);
    }
    let (tested, said) = run_within(LONGEST, &mut tests);
    announce(Skips::of(&said));
    tested?;
    documented
}

/// The bundle of the real model. Where it cannot be had, the tests of it say that they are skipped.
fn model(workspace: &Workspace) -> Option<PathBuf> {
    // The tests of the command line made it.
    let vox = format!("debug/vox{}", env::consts::EXE_SUFFIX);
    match smollm2::bundle(workspace, || Ok(workspace.target.join(vox))) {
        Ok(bundle) => Some(bundle),
        Err(error) => {
            announce(format_args!(
                "The tests of the real model will be skipped: {}",
                explain(&error)
            ));
            None
        }
    }
}
