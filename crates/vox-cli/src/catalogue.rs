//! The catalogue that this `vox` goes by: the one of its distribution, else the one built in.

use std::path::{Path, PathBuf};

use vox_contract::{Catalog, CatalogPlugin};
use vox_host::directories::Directories;

use crate::error::Failure;
use crate::sdk;

/// The catalogue of the sources that this command was built from.
const BUILT_IN: &str = include_str!("../../../catalog.toml");

/// A catalogue, and where it is.
#[derive(Debug)]
pub(crate) struct Catalogue {
    /// What it lists.
    pub(crate) catalog: Catalog,
    /// The directory that the sources of its plugins count from; none when it is built in and the
    /// checkout is gone.
    pub(crate) directory: Option<PathBuf>,
    /// The file; none when it is built in and the checkout is gone.
    file: Option<PathBuf>,
}

impl Catalogue {
    /// The catalogue of a distribution lies beside the executable.
    pub(crate) fn find(directories: &Directories) -> Result<Self, Failure> {
        let bundled = directories
            .bundle
            .iter()
            .map(|bundle| bundle.join("catalog.toml"));
        if let Some(file) = bundled.into_iter().find(|file| file.is_file()) {
            let catalog = Catalog::load(&file)?;
            return Ok(Self {
                catalog,
                directory: directories.bundle.clone(),
                file: Some(file),
            });
        }
        let directory = sdk::checkout();
        let file = directory
            .as_ref()
            .map(|directory| directory.join("catalog.toml"));
        let catalog = Catalog::parse(BUILT_IN, Path::new("the catalogue built into vox"))?;
        Ok(Self {
            catalog,
            directory,
            file: file.filter(|file| file.is_file()),
        })
    }

    /// Where a plugin's source lies on this machine; none when the source is an address, or not
    /// here.
    pub(crate) fn source_of(&self, plugin: &CatalogPlugin) -> Option<PathBuf> {
        let source = self.directory.as_ref()?.join(&plugin.source);
        source.is_dir().then_some(source)
    }

    /// The file; one in `scratch` when there is none.
    pub(crate) fn file(&self, scratch: &Path) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = scratch.join("catalog.toml");
        std::fs::write(&file, BUILT_IN).map_err(|error| Failure::io("write", &file, &error))?;
        Ok(file)
    }
}
