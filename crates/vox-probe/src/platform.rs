//! What differs between operating systems, in one place.
//!
//! Owns: where each system tells of its CPU, its memory and its Metal devices, how NVML's file is called,
//! and how libraries are found and named. What the systems answer is text; the modules below read it,
//! and are built everywhere, so that their tests run everywhere.

mod linux;
mod macos;
mod windows;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::hardware::{Caches, Memory, MetalDevice, Search, Subject};

/// Reads one variable of the environment: [`std::env::var_os`], or a table in a test.
pub(crate) type Variables<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// What a system tells of its CPU.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuDescription {
    pub(crate) model: Option<String>,
    pub(crate) physical_cores: Option<usize>,
    pub(crate) logical_cores: Option<usize>,
    pub(crate) caches: Caches,
}

/// What NVML's library is called, the likelier name first; nothing where there is no NVML.
pub(crate) const NVML: &[&str] = if cfg!(windows) {
    &["nvml.dll"]
} else if cfg!(target_vendor = "apple") {
    &[]
} else {
    &["libnvidia-ml.so.1", "libnvidia-ml.so"]
};

/// The processor.
pub(crate) fn cpu(searches: &mut Vec<Search>) -> CpuDescription {
    if cfg!(target_vendor = "apple") {
        let text = ask(Subject::Cpu, &macos::SYSCTL, searches);
        macos::cpu(&text.unwrap_or_default())
    } else if cfg!(windows) {
        let text = ask(Subject::Cpu, &windows::CPU, searches);
        windows::cpu(&text.unwrap_or_default())
    } else {
        linux::cpu(Path::new("/"), searches)
    }
}

/// The memory, with the limits of this process.
pub(crate) fn memory(searches: &mut Vec<Search>) -> Memory {
    if cfg!(target_vendor = "apple") {
        let sizes = ask(Subject::Memory, &macos::SYSCTL, searches).unwrap_or_default();
        let pages = ask(Subject::Memory, &macos::VM_STAT, searches).unwrap_or_default();
        macos::memory(&sizes, &pages)
    } else if cfg!(windows) {
        let text = ask(Subject::Memory, &windows::MEMORY, searches);
        windows::memory(&text.unwrap_or_default())
    } else {
        linux::memory(Path::new("/"), searches)
    }
}

/// The Metal devices of a machine with so much memory.
pub(crate) fn metal(memory: Option<u64>, searches: &mut Vec<Search>) -> Vec<MetalDevice> {
    if !cfg!(target_os = "macos") {
        let system = std::env::consts::OS;
        searches.push(Search::missed(
            Subject::Metal,
            "Metal",
            format_args!("{system} has no Metal"),
        ));
        return Vec::new();
    }
    let limits = ask(Subject::Metal, &macos::SYSCTL, searches).unwrap_or_default();
    let displays = ask(Subject::Metal, &macos::DISPLAYS, searches).unwrap_or_default();
    macos::metal(&displays, &limits, memory, searches)
}

/// What a program of the system prints, whether or not it likes all of its arguments: `sysctl` fails
/// where one name of many is unknown. The search is written down.
fn ask(subject: Subject, command: &[&str], searches: &mut Vec<Search>) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let printed = Command::new(program)
        .args(arguments)
        .output()
        .and_then(|output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.trim().is_empty() {
                let message = String::from_utf8_lossy(&output.stderr);
                return Err(io::Error::other(message.trim().to_owned()));
            }
            Ok(text)
        });
    match printed {
        Ok(text) => {
            searches.push(Search::found(subject, program, "answered"));
            Some(text)
        }
        Err(error) => {
            searches.push(Search::missed(subject, program, error));
            None
        }
    }
}

/// Directories in which the dynamic linker looks for a library by its bare name, in its order.
pub(crate) fn linker_directories(variables: &Variables<'_>) -> Vec<PathBuf> {
    let (variable, standard) = if cfg!(windows) {
        ("PATH", Vec::new())
    } else if cfg!(target_vendor = "apple") {
        let standard = ["/usr/local/lib", "/opt/homebrew/lib", "/usr/lib"];
        ("DYLD_LIBRARY_PATH", standard.map(PathBuf::from).to_vec())
    } else {
        (
            "LD_LIBRARY_PATH",
            linux::library_directories(Path::new("/")),
        )
    };
    let named = variables(variable).unwrap_or_default();
    let named = std::env::split_paths(&named).filter(|directory| !directory.as_os_str().is_empty());
    named.chain(standard).collect()
}

/// Directories in which CUDA's libraries lie where the dynamic linker does not look: those of the
/// toolkits that variables name, and of those that are installed in the usual place.
pub(crate) fn cuda_directories(variables: &Variables<'_>) -> Vec<PathBuf> {
    let named = ["CUDA_PATH", "CUDA_HOME"];
    let mut toolkits: Vec<PathBuf> = named
        .into_iter()
        .filter_map(|name| Some(PathBuf::from(variables(name)?)))
        .collect();
    if !cfg!(windows) {
        let installed = std::fs::read_dir("/usr/local").into_iter().flatten();
        let mut installed: Vec<PathBuf> = installed
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default();
                name.to_string_lossy().starts_with("cuda")
            })
            .collect();
        installed.sort();
        toolkits.extend(installed);
    }
    let below: &[&str] = if cfg!(windows) {
        &["bin", "bin/x64"]
    } else {
        &["lib64", "lib"]
    };
    let places = toolkits
        .iter()
        .flat_map(|toolkit| below.iter().map(|place| toolkit.join(place)));
    places.collect()
}

/// The version in the file name of a shared library, when the file is one of library `name`: of
/// `libcudart.so.12.4` and `cudart64_12.dll` it is 12.4 and 12 of `cudart`, `libcudart.so` has none.
///
/// The outer `None` says that the file is not of this library.
pub(crate) fn library_version<'a>(file: &'a str, name: &str) -> Option<Option<&'a str>> {
    let unix = || {
        let rest = file.strip_prefix("lib")?.strip_prefix(name)?;
        if let Some(version) = rest.strip_suffix(".dylib") {
            return Some(version.strip_prefix('.'));
        }
        let rest = rest.strip_prefix(".so")?;
        match rest.strip_prefix('.') {
            Some(version) => Some(Some(version)),
            None => rest.is_empty().then_some(None),
        }
    };
    let windows = || {
        let stem = file.strip_suffix(".dll")?.strip_prefix(name)?;
        let version = stem.strip_prefix("64_").or_else(|| stem.strip_prefix('_'));
        match version {
            Some(version) => Some(Some(version)),
            None => stem.is_empty().then_some(None),
        }
    };
    unix().or_else(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_library_stands_in_its_file_name() {
        let cases = [
            ("libcudart.so.12.4.127", Some(Some("12.4.127"))),
            ("libcudart.so", Some(None)),
            ("cudart64_12.dll", Some(Some("12"))),
            ("cudart.dll", Some(None)),
            ("libcudart.13.dylib", Some(Some("13"))),
            ("libcudart_static.a", None),
            ("libcudart2.so.1", None),
            ("libcudartlt.so.1", None),
            ("cudartLt64_12.dll", None),
            ("libcudart.some", None),
        ];
        for (file, version) in cases {
            assert_eq!(library_version(file, "cudart"), version, "{file}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_is_missing_or_says_nothing_is_a_search_that_says_why() {
        let mut searches = Vec::new();
        let nowhere = "/nowhere/at/all";
        assert_eq!(ask(Subject::Cpu, &[nowhere], &mut searches), None);
        let said = ask(
            Subject::Cpu,
            &["/bin/sh", "-c", "echo it is broken >&2; exit 3"],
            &mut searches,
        );
        assert_eq!(said, None);
        assert_eq!(searches[0].looked_for, nowhere);
        assert!(searches[0].detail.contains("No such file"), "{searches:?}");
        assert_eq!(searches[1].detail, "it is broken");
        assert!(searches.iter().all(|search| !search.found));
    }
}
