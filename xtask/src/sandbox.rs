//! A distribution in the checkout, with data of its own.
//!
//! What the examples make is below a directory of `target`, the plugins' data, the models and the
//! compiled components included: what the user has installed or granted is neither used nor touched.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use vox_build::Profile;

use crate::dist::{self, Distribution};
use crate::workspace::{Workspace, announce, run as run_command};

/// A distribution that was laid out, and where its data are.
pub struct Sandbox {
    /// The root of the checkout, where programs run.
    root: PathBuf,
    /// Where everything is.
    pub out: PathBuf,
    /// The distribution.
    pub distribution: PathBuf,
    /// Its `vox`.
    pub vox: PathBuf,
}

impl Sandbox {
    /// Builds the distribution with a language model's plugins, and lays it out in
    /// `target/quickstart`.
    pub fn lay_out(workspace: &Workspace) -> anyhow::Result<Self> {
        let out = workspace.target.join("quickstart");
        let distribution = Distribution {
            name: "vox-ml",
            profile: Profile::Dev,
            archive: false,
        };
        let distribution = dist::lay_out(workspace, &distribution, &out)?;
        Ok(Self {
            root: workspace.root.clone(),
            out,
            vox: distribution.join(format!("vox{}", env::consts::EXE_SUFFIX)),
            distribution,
        })
    }

    /// `vox` in the root.
    pub fn vox(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.vox);
        command
            .args(arguments)
            .current_dir(&self.root)
            .env("VOX_DATA", self.out.join("data"))
            .env("VOX_CACHE", self.out.join("cache"))
            .env_remove("VOX_PLUGIN_PATH");
        command
    }

    /// Says what `vox` is run with, and runs it.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        announce(format_args!("vox {}", arguments.join(" ")));
        run_command(&mut self.vox(arguments))
    }

    /// Runs `vox`, and answers what it prints.
    pub fn output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.vox(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "`vox {}` failed ({}): {said}",
            arguments.join(" "),
            output.status
        );
        String::from_utf8(output.stdout).context("its output is not UTF-8")
    }
}
