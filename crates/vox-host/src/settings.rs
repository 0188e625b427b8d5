//! The settings of the project in which a host works: its `Vox.toml`.

use vox_contract::{ManifestError, SETTINGS_FILE, Settings};

use crate::directories::Directories;

/// Reads the settings of the project; the default ones outside of a project and in one that has no
/// `Vox.toml`.
///
/// # Errors
///
/// When the file is there and cannot be read, or is refused.
pub fn of_project(directories: &Directories) -> Result<Settings, ManifestError> {
    let Some(project) = &directories.project else {
        return Ok(Settings::default());
    };
    match Settings::load(&project.join(SETTINGS_FILE)) {
        Err(ManifestError::Unreadable { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(Settings::default())
        }
        result => result,
    }
}
