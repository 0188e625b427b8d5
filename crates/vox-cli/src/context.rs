//! What every command starts from: the directories of this process and how to print.

use vox_contract::GrantsFile;
use vox_host::control::ControlServer;
use vox_host::directories::Directories;
use vox_host::{Host, HostOptions};

use crate::catalogue::Catalogue;
use crate::cli::BUILT_IN_VERBS;
use crate::error::Failure;
use crate::output::Output;

/// The surroundings of a command.
#[derive(Debug)]
pub(crate) struct Context {
    /// How to print.
    pub(crate) output: Output,
    /// Where things are.
    pub(crate) directories: Directories,
}

impl Context {
    /// The surroundings of this process.
    pub(crate) fn from_environment(output: Output) -> Result<Self, Failure> {
        Ok(Self {
            output,
            directories: Directories::from_environment()?,
        })
    }

    /// Opens the host. Reads manifests and nothing else.
    pub(crate) fn host(&self) -> Result<Host, Failure> {
        self.host_in(self.directories.clone(), GrantsFile::default())
    }

    /// Opens a host over other directories, with grants of its own on top of those on disk.
    pub(crate) fn host_in(
        &self,
        directories: Directories,
        grants: GrantsFile,
    ) -> Result<Host, Failure> {
        let mut options = HostOptions::default();
        options.catalog = self.catalogue()?.catalog;
        options.built_in_verbs = BUILT_IN_VERBS.to_vec();
        options.grants = grants;
        Ok(Host::open(directories, options)?)
    }

    /// Lets this user's other processes look at the plugins of `host` and steer them, for as long
    /// as the answer is kept. What the process works on is told in a few words. One that cannot
    /// listen works all the same.
    pub(crate) fn listen(&self, host: &Host, command: &str) -> Option<ControlServer> {
        let listening = host.serve_control(command);
        listening
            .inspect_err(|error| tracing::debug!(%error, "this process cannot be watched"))
            .ok()
    }

    /// Reads the catalogue.
    pub(crate) fn catalogue(&self) -> Result<Catalogue, Failure> {
        Catalogue::find(&self.directories)
    }
}
