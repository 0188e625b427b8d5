//! `cargo xtask test`: the plugins that the tests load, then every test.

use vox_build::Profile;

use crate::workspace::{Workspace, announce, run as run_command};
use crate::{guest, plugins};

/// Runs every test; `arguments` go to both runs of `cargo test`.
pub fn run(workspace: &Workspace, arguments: &[String]) -> anyhow::Result<()> {
    let toolchain = guest::ensure(workspace)?;
    let mut all = plugins::plugins_in(workspace, plugins::FIRST_PARTY)?;
    all.extend(plugins::plugins_in(workspace, plugins::FOR_TESTS)?);
    let root = workspace.target.join("vox-test/plugins");
    plugins::build(workspace, &all, &toolchain, Profile::Dev, &root)?;

    let cargo_test = |targets: &str| {
        let mut command = workspace.cargo(["test", "--workspace", "--no-fail-fast", targets]);
        command.env("VOX_TEST_PLUGINS", &root).args(arguments);
        run_command(&mut command)
    };
    announce("Running the examples in the documentation");
    let documented = cargo_test("--doc");
    announce("Running the tests");
    cargo_test("--all-targets")?;
    documented
}
