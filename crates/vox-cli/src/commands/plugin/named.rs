//! What a word on the command line names.
//!
//! A word that is a plugin id means the plugin of that id; anything else is a path. So `redact` is
//! the plugin and `./redact` the directory, whatever lies around.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use semver::Version;
use vox_contract::{MANIFEST_FILE, Manifest, PluginId};

use crate::error::Failure;
use crate::exit::Exit;

/// Where a build puts a plugin, below its crate: a root, so that `VOX_PLUGIN_PATH` can name it.
pub(crate) const BUILD_ROOT: &str = "target/plugins";

/// What says how a plugin is built whose crate stands elsewhere: of one crate with three sets of features, the
/// directories of two plugins hold the manifest and this.
const BUILT_ELSEWHERE: &str = "README.md";

/// A plugin by its id, or by where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    /// The plugin of this id.
    Id(PluginId),
    /// A directory or an archive.
    Path(PathBuf),
}

impl Named {
    /// Takes a word for what it is. An archive may be named like a plugin, and is there or is not.
    pub(crate) fn new(word: &str) -> Self {
        match PluginId::new(word) {
            Ok(id) if !Path::new(word).is_file() => Self::Id(id),
            _ => Self::Path(word.into()),
        }
    }
}

/// A plugin, and which version of it if that was said: `redact`, `redact@0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdAndVersion {
    pub(crate) id: PluginId,
    pub(crate) version: Option<Version>,
}

impl FromStr for IdAndVersion {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (id, version) = match word.split_once('@') {
            Some((id, version)) => (id, Some(version)),
            None => (word, None),
        };
        let id = plugin_id(id)?;
        let version = version.map(Version::parse).transpose();
        let version = version.map_err(|error| format!("{error}; a version is written `1.2.3`"))?;
        Ok(Self { id, version })
    }
}

/// A plugin id from the command line.
pub(crate) fn plugin_id(word: &str) -> Result<PluginId, String> {
    PluginId::new(word).map_err(|error| format!("{error}; {}", error.hint()))
}

/// The directory or archive that can be used as it is: for the source of a plugin, what was built
/// from it.
///
/// # Errors
///
/// There is nothing, or the source has not been built, or its manifest has changed since.
pub(crate) fn usable(path: &Path) -> Result<PathBuf, Failure> {
    if !path.exists() {
        let message = format!("there is no file or directory {}", path.display());
        return Err(Failure::new(Exit::NotFound, message));
    }
    let manifest_file = path.join(MANIFEST_FILE);
    if !manifest_file.is_file() {
        return Ok(path.to_owned());
    }
    let is_crate = path.join("Cargo.toml").is_file();
    if !is_crate && !path.join(BUILT_ELSEWHERE).is_file() {
        return Ok(path.to_owned());
    }
    let manifest = Manifest::load(&manifest_file)?;
    if !is_crate && has_payload(path, &manifest) {
        return Ok(path.to_owned());
    }
    let built = vox_build::directory_in_root(&path.join(BUILD_ROOT), &manifest);
    let why = match Manifest::load(&built.join(MANIFEST_FILE)) {
        Ok(packaged) if packaged == manifest => return Ok(built),
        Ok(_) => "its Plugin.toml has changed since it was built",
        Err(_) => "it has not been built",
    };
    let message = format!(
        "{} is the source of the plugin `{}`, and {why}",
        path.display(),
        manifest.id
    );
    let hint = match is_crate {
        true => format!("`vox plugin build {}` builds it", path.display()),
        false => format!(
            "{} says how it is built",
            path.join(BUILT_ELSEWHERE).display()
        ),
    };
    Err(Failure::new(Exit::NotFound, message).hint(hint))
}

/// Whether a payload lies beside the manifest, for whichever machine.
fn has_payload(path: &Path, manifest: &Manifest) -> bool {
    let payload = &manifest.payload;
    let mut files = payload
        .component
        .iter()
        .chain(payload.native.values())
        .chain(&payload.skill);
    files.any(|file| path.join(file).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_id_names_a_plugin_and_anything_else_a_path() {
        assert_eq!(
            Named::new("acme.redact"),
            Named::Id("acme.redact".parse().unwrap())
        );
        for path in [
            "./redact",
            "redact/",
            "../x",
            ".",
            "redact-0.1.0.vox",
            "/abs",
        ] {
            assert_eq!(Named::new(path), Named::Path(path.into()), "{path}");
        }
    }

    #[test]
    fn a_plugin_whose_crate_stands_elsewhere_is_taken_from_where_it_is_built_or_says_how() {
        let directory = tempfile::tempdir().unwrap();
        let manifest = "id = \"gpu\"\nversion = \"0.1.0\"\ndescription = \"d\"\nhost = \">=0.1\"\n\
            [payload]\ncomponent = \"gpu.wasm\"\n[provides]\nextension-points = { stage = 1 }\n";
        std::fs::write(directory.path().join(MANIFEST_FILE), manifest).unwrap();
        // Without a word on how it is built it is a package, whatever it lacks.
        assert_eq!(usable(directory.path()).unwrap(), directory.path());
        std::fs::write(directory.path().join(BUILT_ELSEWHERE), "make it").unwrap();
        let refused = usable(directory.path()).unwrap_err();
        assert!(refused.message().contains("has not been built"));
        let hint = refused.hint_text().unwrap_or_default();
        assert!(hint.contains("says how it is built"), "{hint}");
        let built = directory.path().join(BUILD_ROOT).join("gpu/0.1.0");
        std::fs::create_dir_all(&built).unwrap();
        std::fs::write(built.join(MANIFEST_FILE), manifest).unwrap();
        assert_eq!(usable(directory.path()).unwrap(), built);
        std::fs::write(directory.path().join("gpu.wasm"), "").unwrap();
        assert_eq!(usable(directory.path()).unwrap(), directory.path());
    }

    #[test]
    fn a_version_follows_the_id() {
        let parsed: IdAndVersion = "redact@0.1.0".parse().unwrap();
        assert_eq!(parsed.version, Some(Version::new(0, 1, 0)));
        assert_eq!("redact".parse::<IdAndVersion>().unwrap().version, None);
        assert!(
            "redact@1"
                .parse::<IdAndVersion>()
                .unwrap_err()
                .contains("1.2.3")
        );
        assert!(
            "Redact"
                .parse::<IdAndVersion>()
                .unwrap_err()
                .contains("write `redact`")
        );
    }
}
