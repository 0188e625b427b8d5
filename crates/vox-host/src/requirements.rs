//! What a plugin needs of the machine, checked before any of its code is loaded.
//!
//! Owns two checks. [`check_platform`] compares the manifest with this build of the host and costs
//! nothing; discovery makes it. [`check_libraries`] looks on disk for the native libraries that a
//! plugin names; it is made before its native payload is loaded, so that the message names the
//! library and not a symbol that the dynamic linker missed.
//!
//! A library's version is the highest that the names of its files state, links followed:
//! `libcudart.so.12`, a link to `libcudart.so.12.4.127`, is version 12.4.127.

use std::fmt;
use std::path::PathBuf;

use semver::Version;
use vox_contract::{LibraryVersion, Manifest, Platform, RequiredLibrary};

use crate::inventory::Finding;
use crate::platform;
use crate::resolution::Selection;

/// The version of this host, which a manifest's `host` is compared with. A pre-release of the host
/// counts as the release that it leads to, or no plugin could be tried with it.
pub static HOST_VERSION: Version = Version::new(
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
);

/// A part of this crate's version, read when it is compiled.
const fn number(digits: &str) -> u64 {
    match u64::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("cargo gives versions as numbers"),
    }
}

/// A plugin is for other machines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is for {wanted}, and this is {here}", here = Platform::current())]
pub struct WrongPlatform {
    wanted: String,
}

/// A native library that a plugin needs is not there, or not in the version that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingLibrary {
    /// What the plugin needs.
    pub library: RequiredLibrary,
    /// What was found in its place: the file and the version that its name states.
    pub found: Option<(PathBuf, Option<LibraryVersion>)>,
}

impl MissingLibrary {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let name = &self.library.name;
        format!(
            "install `{name}`; if it is installed, name its directory in {} before starting Vox",
            platform::LIBRARY_PATH_VARIABLE
        )
    }
}

impl fmt::Display for MissingLibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RequiredLibrary { name, version } = &self.library;
        write!(f, "it needs the library `{name}`")?;
        if let Some(version) = version {
            write!(f, " in version {version} or later")?;
        }
        match &self.found {
            None => f.write_str(", which is not installed"),
            Some((path, Some(version))) => {
                write!(f, ", and {} is version {version}", path.display())
            }
            Some((path, None)) => write!(f, ", and {} does not state its version", path.display()),
        }
    }
}

impl std::error::Error for MissingLibrary {}

/// Compares `requires.os` and `requires.arch` with this build of the host.
///
/// # Errors
///
/// [`WrongPlatform`] names what the plugin is for and what this is.
pub fn check_platform(manifest: &Manifest) -> Result<(), WrongPlatform> {
    let here = Platform::current();
    let allows = |list: &[String], value: &str| {
        list.is_empty() || list.iter().any(|allowed| allowed == value)
    };
    let requires = &manifest.requires;
    if allows(&requires.os, &here.os) && allows(&requires.arch, &here.arch) {
        return Ok(());
    }
    let lists = [&requires.os, &requires.arch];
    let lists = lists
        .into_iter()
        .filter(|list| !list.is_empty())
        .map(|list| list.join(" or "));
    Err(WrongPlatform {
        wanted: lists.collect::<Vec<_>>().join(" on "),
    })
}

/// Looks for the native libraries in `requires.libraries` where the dynamic linker would, and
/// answers with the first that is missing.
///
/// # Errors
///
/// [`MissingLibrary`] names the library, what is wanted and what was found.
pub fn check_libraries(manifest: &Manifest) -> Result<(), MissingLibrary> {
    if manifest.requires.libraries.is_empty() {
        return Ok(());
    }
    let directories = platform::library_directories(&|name| std::env::var_os(name));
    check_libraries_in(&manifest.requires.libraries, &directories)
}

/// The native libraries that selected plugins need for their native payloads and that are missing.
/// Reads the linker's directories, so it is for `vox plugin doctor` and not for a start.
pub fn missing_libraries(selection: &Selection) -> Vec<Finding> {
    let native = selection.iter().filter(|plugin| plugin.native.is_some());
    native
        .filter_map(|plugin| {
            let missing = check_libraries(&plugin.manifest).err()?;
            Some(Finding::Library {
                plugin: plugin.id().clone(),
                missing,
            })
        })
        .collect()
}

fn check_libraries_in(
    libraries: &[RequiredLibrary],
    directories: &[PathBuf],
) -> Result<(), MissingLibrary> {
    for library in libraries {
        let found = best_of(&library.name, directories);
        let satisfied = found
            .as_ref()
            .is_some_and(|(_, found)| match &library.version {
                None => true,
                Some(wanted) => found.as_ref().is_some_and(|found| found >= wanted),
            });
        if !satisfied {
            return Err(MissingLibrary {
                library: library.clone(),
                found,
            });
        }
    }
    Ok(())
}

/// The file of a library whose name states the highest version.
fn best_of(name: &str, directories: &[PathBuf]) -> Option<(PathBuf, Option<LibraryVersion>)> {
    let files = directories
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok());
    files
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let file = entry.file_name();
            let stated = platform::library_version(file.to_str()?, name)?.and_then(parse_version);
            let path = entry.path();
            // A link states less than the file that it leads to.
            let target = path.canonicalize().ok()?;
            let precise = target.file_name().and_then(|file| file.to_str());
            let precise = precise
                .and_then(|file| platform::library_version(file, name).flatten())
                .and_then(parse_version);
            Some((path, precise.max(stated)))
        })
        .max_by(|(_, a), (_, b)| a.cmp(b))
}

fn parse_version(text: &str) -> Option<LibraryVersion> {
    let numbers: Option<Vec<u32>> = text.split('.').map(|number| number.parse().ok()).collect();
    numbers.map(|numbers| LibraryVersion::new(&numbers))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::path::Path;

    use super::*;

    fn check_one(
        name: &str,
        version: Option<&[u32]>,
        directory: &Path,
    ) -> Result<(), MissingLibrary> {
        let version = version.map(LibraryVersion::new);
        let library = RequiredLibrary {
            name: name.to_owned(),
            version,
        };
        check_libraries_in(&[library], &[directory.to_path_buf()])
    }

    #[test]
    fn the_version_of_the_file_that_a_link_leads_to_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join("libcudart.so.12.4.127"), "").unwrap();
        std::os::unix::fs::symlink("libcudart.so.12.4.127", path.join("libcudart.so.12")).unwrap();
        std::os::unix::fs::symlink("libcudart.so.12", path.join("libcudart.so")).unwrap();
        check_one("cudart", None, path).unwrap();
        check_one("cudart", Some(&[12, 4]), path).unwrap();
        check_one("cudart", Some(&[12, 4, 127]), path).unwrap();

        let error = check_one("cudart", Some(&[12, 10]), path).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("`cudart` in version 12.10 or later"),
            "{text}"
        );
        assert!(text.contains("is version 12.4.127"), "{text}");
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("libcudart_static.a"), "").unwrap();
        let error = check_one("cudart", Some(&[12, 0]), directory.path()).unwrap_err();
        let expected =
            "it needs the library `cudart` in version 12.0 or later, which is not installed";
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().contains("LD_LIBRARY_PATH"));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_no_library() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("gone", directory.path().join("libfoo.so.1")).unwrap();
        assert!(check_one("foo", None, directory.path()).is_err());
    }
}
