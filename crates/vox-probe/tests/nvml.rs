//! NVML as it answers, by a library that answers like it: no machine of the tests has a device.

#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::process::Command;

use vox_probe::{DeviceKind, Hardware, Probe, Subject, SystemProbe, Version};

/// `tests/nvml.c` with these definitions, as a shared library.
fn built(definitions: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("libnvidia-ml.so.1");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/nvml.c");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .args(definitions)
        .arg(source)
        .status()
        .expect("a C compiler, as blake3 and SQLite need it too");
    assert!(status.success());
    (directory, library)
}

fn probed(definitions: &[&str]) -> Hardware {
    let (_directory, library) = built(definitions);
    SystemProbe::new().with_nvml(library).probe()
}

fn missed(hardware: &Hardware) -> Vec<String> {
    let of_nvml = |name: &str| !["cudart", "cublas", "curand", "nvrtc"].contains(&name);
    hardware
        .searches
        .iter()
        .filter(|search| search.subject == Subject::Cuda && !search.found)
        .filter(|search| of_nvml(&search.looked_for))
        .map(|search| format!("{}: {}", search.looked_for, search.detail))
        .collect()
}

#[test]
fn devices_are_reported_as_nvml_tells_of_them() {
    let hardware = probed(&[]);
    assert_eq!(missed(&hardware), Vec::<String>::new());
    let cuda = &hardware.cuda;
    assert_eq!(cuda.driver_version.as_deref(), Some("570.124.06"));
    let version = Version {
        major: 12,
        minor: 8,
    };
    assert_eq!(cuda.cuda_version, Some(version));
    assert_eq!(cuda.devices.len(), 2);
    let device = &cuda.devices[1];
    assert_eq!(device.name, "NVIDIA H200");
    assert_eq!(device.uuid.as_deref(), Some("GPU-00000001"));
    assert_eq!(device.memory_total, 150_754_820_096);
    assert_eq!(device.memory_free, 150_000_000_000);
    assert_eq!(device.compute_capability.to_string(), "9.0");
    assert_eq!(device.tier, 84);
    let best = &hardware.devices()[0];
    assert_eq!((best.kind, best.ordinal), (DeviceKind::Cuda, 0));
    assert_eq!(hardware.why_not(DeviceKind::Cuda), "");
}

#[test]
fn a_split_device_is_reported_as_its_instances() {
    let hardware = probed(&["-DSPLIT"]);
    let devices = &hardware.cuda.devices;
    assert_eq!(devices.len(), 4);
    assert_eq!(devices[0].uuid.as_deref(), Some("MIG-00000010"));
    assert_eq!(devices[0].memory_total, 18_000_000_000);
    assert_eq!(devices[0].compute_capability.to_string(), "9.0");
}

#[test]
fn a_driver_that_does_not_run_is_reported_in_its_own_words() {
    let hardware = probed(&["-DINIT=9"]);
    assert!(hardware.cuda.devices.is_empty());
    let why = hardware.why_not(DeviceKind::Cuda);
    let words = "nvmlInit_v2: Driver Not Loaded (code 9)";
    assert!(why.ends_with(words), "{why}");
}

#[test]
fn a_lost_device_is_named_and_the_others_are_reported() {
    let hardware = probed(&["-DLOST"]);
    assert_eq!(hardware.cuda.devices.len(), 1);
    let words = "device 0: nvmlDeviceGetHandleByIndex_v2: GPU is lost (code 15)";
    assert_eq!(missed(&hardware), [words]);
}

#[test]
fn a_library_that_is_not_nvml_or_not_there_is_named_with_the_reason() {
    let hardware = SystemProbe::new()
        .with_nvml("/nowhere/libnvidia-ml.so.1")
        .probe();
    assert_eq!(
        hardware.why_not(DeviceKind::Cuda),
        "/nowhere/libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
    );
    let hardware = probed(&["-DNOT_NVML"]);
    let why = hardware.why_not(DeviceKind::Cuda);
    assert!(why.ends_with("it has no function nvmlInit_v2"), "{why}");
}
