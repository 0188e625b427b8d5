//! `cargo xtask test`: the plugins that the tests load, then every test.

use std::time::Duration;

use vox_build::Profile;

use crate::workspace::{Workspace, announce, run as run_command, run_within};
use crate::{guest, plugins};

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
    announce("Running the examples in the documentation");
    let documented = run_command(&mut cargo_test(&["--doc"]));
    announce("Running the tests");
    run_within(LONGEST, &mut cargo_test(&["--all-targets"]))?;
    documented
}
