//! CUDA: the devices that NVML tells of, those of them that CUDA shows, and CUDA's libraries.

mod nvml;
mod visible;

use std::collections::BTreeSet;
use std::path::Path;

use self::nvml::Nvml;
use crate::hardware::{Cuda, CudaDevice, Search, SharedLibrary, Subject, Version};
use crate::platform::{self, Variables};
use crate::tier;

/// The libraries that programs of Vox's CUDA backend are linked with.
const LIBRARIES: [&str; 4] = ["cudart", "cublas", "curand", "nvrtc"];

/// What is here of CUDA; `library` is loaded in place of the system's NVML where it is given.
pub(crate) fn probe(
    library: Option<&Path>,
    variables: &Variables<'_>,
    searches: &mut Vec<Search>,
) -> Cuda {
    let mut cuda = Cuda::default();
    if let Some(nvml) = load(library, searches) {
        ask(&nvml, &mut cuda, searches);
        let shown = variables("CUDA_VISIBLE_DEVICES");
        let shown = shown.as_ref().map(|value| value.to_string_lossy());
        visible::assign_ordinals(&mut cuda.devices, shown.as_deref());
    }
    cuda.libraries = libraries(variables, searches);
    cuda
}

/// NVML, ready to be asked.
fn load(library: Option<&Path>, searches: &mut Vec<Search>) -> Option<Nvml> {
    let named = library.map(|path| path.to_string_lossy().into_owned());
    let names: Vec<&str> = match &named {
        Some(name) => vec![name],
        None => platform::NVML.to_vec(),
    };
    if names.is_empty() {
        let system = std::env::consts::OS;
        let why = format_args!("{system} has no CUDA");
        searches.push(Search::missed(Subject::Cuda, "NVML", why));
    }
    for name in names {
        match Nvml::open(name) {
            Ok(nvml) => {
                searches.push(Search::found(Subject::Cuda, name, "loaded"));
                return Some(nvml);
            }
            Err(why) => searches.push(Search::missed(Subject::Cuda, name, why)),
        }
    }
    None
}

/// Driver and devices; what NVML refuses is a search that says so.
fn ask(nvml: &Nvml, cuda: &mut Cuda, searches: &mut Vec<Search>) {
    let mut note = |what: &str, why: String| {
        searches.push(Search::missed(Subject::Cuda, what, why));
    };
    match nvml.driver_version() {
        Ok(version) => cuda.driver_version = Some(version),
        Err(why) => note("the driver's version", why),
    }
    match nvml.cuda_version() {
        Ok(version) => cuda.cuda_version = Some(version),
        Err(why) => note("the driver's version of CUDA", why),
    }
    let count = nvml.device_count().unwrap_or_else(|why| {
        note("the number of devices", why);
        0
    });
    if count == 0 {
        note("a device", "NVML lists none".to_owned());
    }
    for index in 0..count {
        match nvml.devices(index) {
            Ok(found) => cuda.devices.extend(found.into_iter().map(device)),
            Err(why) => note(&format!("device {index}"), why),
        }
    }
}

/// A device as it is reported.
fn device(found: nvml::Device) -> CudaDevice {
    CudaDevice {
        ordinal: None,
        tier: tier::cuda(found.memory_total, found.capability),
        name: found.name,
        uuid: found.uuid,
        memory_total: found.memory_total,
        memory_free: found.memory_free,
        compute_capability: found.capability,
    }
}

/// Every file of CUDA's libraries in the linker's directories and in installed toolkits, each once.
fn libraries(variables: &Variables<'_>, searches: &mut Vec<Search>) -> Vec<SharedLibrary> {
    let linker = platform::linker_directories(variables);
    let toolkits = platform::cuda_directories(variables);
    let places = linker.iter().map(|directory| (directory, true));
    let places = places.chain(toolkits.iter().map(|directory| (directory, false)));
    let mut seen = BTreeSet::new();
    let mut libraries: Vec<SharedLibrary> = Vec::new();
    for (directory, linkable) in places {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let Some(file) = path.file_name().and_then(|file| file.to_str()) else {
                continue;
            };
            let of = |name: &&str| platform::library_version(file, name).is_some();
            let Some(name) = LIBRARIES.into_iter().find(|name| of(name)) else {
                continue;
            };
            // A link without an end is no library.
            let Ok(real) = path.canonicalize() else {
                continue;
            };
            if !seen.insert(real.clone()) {
                continue;
            }
            let real_file = real.file_name().unwrap_or_default().to_string_lossy();
            let version = platform::library_version(&real_file, name).flatten();
            libraries.push(SharedLibrary {
                name: name.to_owned(),
                version: version.map(str::to_owned),
                path: real.display().to_string(),
                linkable,
            });
        }
    }
    libraries.sort_by(|one, other| (&one.name, &one.path).cmp(&(&other.name, &other.path)));
    for name in LIBRARIES {
        let paths = libraries.iter().filter(|library| library.name == name);
        let paths: Vec<&str> = paths.map(|library| library.path.as_str()).collect();
        searches.push(if paths.is_empty() {
            let directories = linker.len() + toolkits.len();
            let why = format_args!("in none of {directories} directories of libraries");
            Search::missed(Subject::Cuda, name, why)
        } else {
            Search::found(Subject::Cuda, name, paths.join(", "))
        });
    }
    libraries
}

/// NVML's and CUDA's number for a version: 12040 is 12.4.
fn version_of(number: i32) -> Version {
    let number = number.unsigned_abs();
    Version {
        major: number / 1000,
        minor: number % 1000 / 10,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_library_is_reported_once_with_the_version_of_the_file_that_links_lead_to() {
        let directory = tempfile::tempdir().unwrap();
        let linker = directory.path().join("linker");
        let toolkit = directory.path().join("toolkit");
        for place in [&linker, &toolkit.join("lib64")] {
            std::fs::create_dir_all(place).unwrap();
        }
        std::fs::write(linker.join("libcudart.so.12.4.127"), "").unwrap();
        symlink("libcudart.so.12.4.127", linker.join("libcudart.so.12")).unwrap();
        symlink("libcudart.so.12", linker.join("libcudart.so")).unwrap();
        symlink("nowhere", linker.join("libnvrtc.so")).unwrap();
        std::fs::write(toolkit.join("lib64/libcublas.so.13.0.2"), "").unwrap();
        std::fs::write(toolkit.join("lib64/libcublasLt.so.13"), "").unwrap();

        let variables = |name: &str| match name {
            "LD_LIBRARY_PATH" | "DYLD_LIBRARY_PATH" => Some(OsString::from(&linker)),
            "CUDA_PATH" => Some(OsString::from(&toolkit)),
            _ => None,
        };
        let mut searches = Vec::new();
        let found = libraries(&variables, &mut searches);
        let here = directory.path().canonicalize().unwrap();
        let here: Vec<_> = found
            .iter()
            .filter(|library| Path::new(&library.path).starts_with(&here))
            .map(|library| (&*library.name, library.version.as_deref(), library.linkable))
            .collect();
        let expected = [
            ("cublas", Some("13.0.2"), false),
            ("cudart", Some("12.4.127"), true),
        ];
        assert_eq!(here, expected);
        let cudart = searches.iter().find(|search| search.looked_for == "cudart");
        assert!(cudart.unwrap().found);
    }

    #[test]
    fn the_number_of_a_version_has_two_parts() {
        assert_eq!(version_of(12_040).to_string(), "12.4");
        assert_eq!(version_of(13_000).to_string(), "13.0");
        assert_eq!(version_of(11_080).to_string(), "11.8");
    }
}
