//! NVIDIA's toolkit: one that is installed, or one that is laid out of NVIDIA's wheels.
//!
//! The wheels have the compiler, headers and libraries, and lack what makes a toolkit of them: the names without
//! versions by which a linker asks, and the driver's library, which comes with a driver alone. In its place stands
//! one with the functions of `cuda.h`, which do nothing.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::python::python;
use crate::workspace::{Workspace, announce, entries, output_of, run as run_command, write};

/// What is installed, from the root.
const REQUIREMENTS: &str = "xtask/cuda/requirements.txt";

/// Variables by which programs find a toolkit.
const VARIABLES: [&str; 4] = [
    "CUDA_HOME",
    "CUDA_PATH",
    "CUDA_ROOT",
    "CUDA_TOOLKIT_ROOT_DIR",
];

/// A toolkit in a directory.
pub struct Toolkit {
    root: PathBuf,
    /// Where a stand-in of the driver's library lies.
    driver: PathBuf,
}

impl Toolkit {
    /// The one in a directory.
    pub fn installed(workspace: &Workspace, root: &Path) -> anyhow::Result<Self> {
        if !root.join("bin/nvcc").is_file() {
            bail!("{} is no CUDA toolkit: it has no bin/nvcc", root.display());
        }
        let toolkit = Self {
            root: root.canonicalize()?,
            driver: workspace.target.join("cuda/driver"),
        };
        toolkit.stand_in(&toolkit.root.join("include/cuda.h"))?;
        Ok(toolkit)
    }

    /// Installs the wheels, about a gigabyte, into `target/cuda`, and lays a toolkit out of them.
    pub fn of_wheels(workspace: &Workspace) -> anyhow::Result<Self> {
        let directory = workspace.target.join("cuda");
        announce("Installing NVIDIA's wheels");
        let python = python(
            &directory.join("python"),
            &workspace.root.join(REQUIREMENTS),
        )?;
        let place = "import sysconfig; print(sysconfig.get_path('purelib'))";
        let packages = output_of(Command::new(&python).args(["-c", place]))?;
        let wheels = Path::new(packages.trim()).join("nvidia/cu13");
        let toolkit = Self {
            root: directory.join("toolkit"),
            driver: directory.join("driver"),
        };
        toolkit.lay_out(&wheels)?;
        Ok(toolkit)
    }

    /// The directory of its libraries.
    pub fn libraries(&self) -> PathBuf {
        self.root.join("lib64")
    }

    /// The directory of the stand-in of the driver's library.
    pub fn driver(&self) -> PathBuf {
        self.driver.clone()
    }

    /// Has a command, and all that it starts, compile with this toolkit.
    pub fn configure(&self, command: &mut Command) -> anyhow::Result<()> {
        for variable in VARIABLES {
            command.env(variable, &self.root);
        }
        let programs = self.root.join("bin");
        let others = env::var_os("PATH").unwrap_or_default();
        let path = [programs.clone()]
            .into_iter()
            .chain(env::split_paths(&others));
        command
            .env("NVCC", programs.join("nvcc"))
            .env("PATH", env::join_paths(path)?);
        Ok(())
    }

    fn lay_out(&self, wheels: &Path) -> anyhow::Result<()> {
        let libraries = self.libraries();
        if libraries.exists() {
            fs::remove_dir_all(&libraries)?;
        }
        fs::create_dir_all(&libraries)?;
        for part in ["bin", "include", "nvvm"] {
            link(&wheels.join(part), &self.root.join(part))?;
        }
        for file in entries(&wheels.join("lib"))? {
            let Some(name) = file.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            link(&file, &libraries.join(name))?;
            if let Some(plain) = without_version(name) {
                link(&file, &libraries.join(plain))?;
            }
        }
        self.stand_in(&wheels.join("include/cuda.h"))?;
        link(&self.driver, &libraries.join("stubs"))
    }

    /// Compiles a library with the functions that a header of the driver declares.
    fn stand_in(&self, header: &Path) -> anyhow::Result<()> {
        // With the second come the functions of old versions, under their own names.
        let ways: [&[&str]; 2] = [&[], &["-D__CUDA_API_VERSION_INTERNAL"]];
        let mut functions = BTreeSet::new();
        for way in ways {
            let text = output_of(Command::new("cc").args(["-E", "-P"]).args(way).arg(header))?;
            functions.extend(declared(&text).into_iter().map(str::to_owned));
        }
        let mut source = String::new();
        for function in functions {
            // 100 is `CUDA_ERROR_NO_DEVICE`. Writing to a `String` cannot fail.
            let _ = writeln!(source, "int {function}(void) {{ return 100; }}");
        }
        let file = self.driver.join("cuda.c");
        write(&file, &source)?;
        let library = self.driver.join("libcuda.so.1");
        run_command(
            Command::new("cc")
                .args([
                    "-shared",
                    "-fPIC",
                    "-nostdlib",
                    "-Wl,-soname,libcuda.so.1",
                    "-o",
                ])
                .arg(&library)
                .arg(&file),
        )?;
        link(&library, &self.driver.join("libcuda.so"))
    }
}

/// The functions of the driver that a text declares: names that begin with `cu` and an upper-case letter, before a
/// parenthesis.
fn declared(text: &str) -> Vec<&str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let parts = text.match_indices('(').filter_map(|(at, _)| {
        let before = text[..at].trim_end();
        before.rsplit(|letter| !is_word(letter)).next()
    });
    let is_function = |name: &&str| {
        name.strip_prefix("cu")
            .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_uppercase()))
    };
    parts.filter(is_function).collect()
}

/// The name of a shared library by which a linker asks: `libcudart.so` of `libcudart.so.13`.
fn without_version(name: &str) -> Option<&str> {
    let end = name.find(".so.")? + ".so".len();
    name.get(..end)
}

/// Makes a link, in the place of one that is there.
fn link(to: &Path, from: &Path) -> anyhow::Result<()> {
    if from.is_symlink() {
        fs::remove_file(from).with_context(|| format!("cannot remove {}", from.display()))?;
    }
    if !to.exists() {
        bail!("NVIDIA's wheels lack {}", to.display());
    }
    symlink(to, from).with_context(|| format!("cannot make the link {}", from.display()))
}

#[cfg(unix)]
fn symlink(to: &Path, from: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, from)
}

#[cfg(not(unix))]
fn symlink(_to: &Path, _from: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_the_driver_are_those_that_its_header_declares() {
        let text = "typedef enum { CUDA_SUCCESS = 0 } CUresult;\n\
            CUresult cuInit(unsigned int Flags);\nCUresult cuMemAlloc_v2\n(CUdeviceptr *dptr, size_t size);\n\
            typedef void (*CUhostFn)(void *userData);\nvoid cudaless(int cu);\n";
        assert_eq!(declared(text), ["cuInit", "cuMemAlloc_v2"]);
    }

    #[test]
    fn libraries_are_asked_for_without_their_version() {
        assert_eq!(without_version("libcudart.so.13"), Some("libcudart.so"));
        assert_eq!(
            without_version("libnvrtc-builtins.so.13.0"),
            Some("libnvrtc-builtins.so")
        );
        assert_eq!(without_version("libcudadevrt.a"), None);
    }
}
