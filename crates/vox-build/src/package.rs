//! A plugin's directory, as a host finds it in a root: the manifest and the files that it names.
//!
//! What must stay true: a package appears whole or not at all. It is put together in a hidden
//! directory beside its place and then moved there. The package that it replaces, if there is one,
//! is moved away just before, and back should the second move fail; files that a running host has
//! open stay what they were.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vox_contract::{Carrier, MANIFEST_FILE, Manifest};

use crate::BuildError;

/// A package that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Package {
    /// Where it is.
    pub directory: PathBuf,
    /// The payload files in it, as the manifest writes them.
    pub files: Vec<PathBuf>,
    /// Payload files that the manifest names and the package lacks: libraries for other platforms,
    /// or the carrier that was not asked for.
    pub left_out: Vec<PathBuf>,
}

/// The place of a plugin in a root: `<root>/<id>/<version>`.
pub fn directory_in_root(root: &Path, manifest: &Manifest) -> PathBuf {
    root.join(manifest.id.as_str())
        .join(manifest.version.to_string())
}

/// Puts a plugin's package together in `directory`, replacing what is there.
///
/// `source` holds `Plugin.toml`, from which `manifest` was read. `built` are the files that were
/// made for this machine; they get the names that the manifest gives them. Every other payload is
/// taken from `source` if it lies there ready made, and left out otherwise.
///
/// # Errors
/// [`BuildError::MissingFile`] when the skill is not in `source`, or when nothing that the manifest
/// names would be in the package. [`BuildError::Io`] names the file at fault.
pub fn package(
    source: &Path,
    manifest: &Manifest,
    built: &BTreeMap<Carrier, PathBuf>,
    directory: &Path,
) -> Result<Package, BuildError> {
    let parent = match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(BuildError::io("create", parent))?;
    let staging = tempfile::Builder::new()
        .prefix(".vox-build-")
        .tempdir_in(parent)
        .map_err(BuildError::io("create a directory in", parent))?;

    let new = staging.path().join("new");
    fs::create_dir(&new).map_err(BuildError::io("create", &new))?;
    let mut package = Package {
        directory: directory.into(),
        files: Vec::new(),
        left_out: Vec::new(),
    };
    for (name, file) in payload_files(source, manifest, built) {
        if file.is_file() {
            copy(&file, &new.join(name))?;
            package.files.push(name.into());
        } else {
            package.left_out.push(name.into());
        }
    }
    let skill = manifest.payload.skill.as_deref();
    let missing = skill.filter(|skill| package.left_out.iter().any(|file| file == skill));
    let nothing = package
        .left_out
        .first()
        .filter(|_| package.files.is_empty());
    if let Some(file) = missing.or(nothing.map(PathBuf::as_path)) {
        return Err(BuildError::MissingFile {
            manifest: source.join(MANIFEST_FILE),
            file: file.into(),
        });
    }
    copy(&source.join(MANIFEST_FILE), &new.join(MANIFEST_FILE))?;
    replace(directory, &new, &staging.path().join("old"))?;
    Ok(package)
}

/// Each payload by the name that the manifest gives it, with the file that it is copied from.
fn payload_files<'a>(
    source: &Path,
    manifest: &'a Manifest,
    built: &BTreeMap<Carrier, PathBuf>,
) -> Vec<(&'a Path, PathBuf)> {
    let payload = &manifest.payload;
    let for_here = Carrier::ALL
        .into_iter()
        .filter_map(|carrier| Some((payload.file_for(carrier)?, built.get(&carrier)?)));
    let mut files: BTreeMap<&Path, PathBuf> = payload
        .component
        .iter()
        .chain(payload.native.values())
        .chain(&payload.skill)
        .map(|name| (name.as_path(), source.join(name)))
        .collect();
    files.extend(for_here.map(|(name, file)| (name, file.clone())));
    files.into_iter().collect()
}

/// Copies a file, making the directories above it.
fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(BuildError::io("create", parent))?;
    }
    fs::copy(from, to).map_err(BuildError::io("copy", from))?;
    Ok(())
}

/// Moves `new` to `place`, and what was there to `old`.
fn replace(place: &Path, new: &Path, old: &Path) -> Result<(), BuildError> {
    let replaces = place.symlink_metadata().is_ok();
    if replaces {
        fs::rename(place, old).map_err(BuildError::io("move away", place))?;
    }
    fs::rename(new, place).map_err(|error| {
        if replaces {
            // Should this fail too, the error at hand is still the one to mend first.
            let _ = fs::rename(old, place);
        }
        BuildError::io("move a package to", place)(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const MANIFEST: &str = r#"
        id = "shout"
        version = "1.2.3"
        description = "Says it louder"
        host = "*"
        [payload]
        component = "code/shout.wasm"
        skill = "SKILL.md"
        native = { plan9-x86_64 = "shout.9" }
        [provides]
        extension-points = { stage = 1 }
    "#;

    /// A plugin's directory with its manifest, in which the other platform is one that exists and
    /// is not this one.
    fn plugin(files: &[(&str, &str)]) -> (TempDir, Manifest) {
        let other = if cfg!(target_os = "windows") {
            "linux"
        } else {
            "windows"
        };
        let text = MANIFEST.replace("plan9", other);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MANIFEST_FILE), &text).unwrap();
        for (name, contents) in files {
            fs::write(dir.path().join(name), contents).unwrap();
        }
        let manifest = Manifest::load(&dir.path().join(MANIFEST_FILE)).unwrap();
        (dir, manifest)
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_get_the_names_of_the_manifest_and_what_is_not_there_is_reported() {
        let (source, manifest) = plugin(&[("SKILL.md", "skill"), ("made", "component")]);
        let root = tempfile::tempdir().unwrap();
        let directory = directory_in_root(root.path(), &manifest);
        let built = BTreeMap::from([(Carrier::Component, source.path().join("made"))]);
        let package = package(source.path(), &manifest, &built, &directory).unwrap();

        assert_eq!(directory, root.path().join("shout/1.2.3"));
        assert_eq!(names(&directory), ["Plugin.toml", "SKILL.md", "code"]);
        let component = fs::read_to_string(directory.join("code/shout.wasm")).unwrap();
        assert_eq!(component, "component");
        assert_eq!(package.left_out, [PathBuf::from("shout.9")]);
    }

    #[test]
    fn a_new_package_replaces_the_old_one_and_leaves_nothing_beside_it() {
        let (source, manifest) = plugin(&[("SKILL.md", "new")]);
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("shout");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("stale"), "").unwrap();
        package(source.path(), &manifest, &BTreeMap::new(), &directory).unwrap();
        assert_eq!(names(&directory), ["Plugin.toml", "SKILL.md"]);
        assert_eq!(names(root.path()), ["shout"]);
    }

    #[test]
    fn a_package_that_cannot_be_made_leaves_the_old_one_untouched() {
        let (source, manifest) = plugin(&[("shout.9", "library")]);
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("shout");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("old"), "").unwrap();
        let error = package(source.path(), &manifest, &BTreeMap::new(), &directory).unwrap_err();
        assert!(error.to_string().contains("names SKILL.md"), "{error}");
        assert_eq!(names(&directory), ["old"]);
        assert_eq!(names(root.path()), ["shout"]);
    }
}
