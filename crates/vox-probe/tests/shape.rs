//! The JSON shape, and what a dispatcher reads of it.

use vox_probe::{DeviceKind, Hardware, MockProbe, Probe, SystemProbe};

#[test]
fn the_json_shape_is_stable() {
    let probe = MockProbe::cpu()
        .with_cuda("NVIDIA L4", 24 << 30, 8, 9)
        .with_metal("Apple M1", 10 << 30);
    let json = probe.probe().to_json();
    let expected = include_str!("shape.json");
    assert_eq!(json, expected);
    let back: Hardware = serde_json::from_str(&json).unwrap();
    assert_eq!(back, probe.probe());
}

#[test]
fn the_schema_has_every_field_of_the_shape() {
    let schema = Hardware::schema().to_value();
    let json: serde_json::Value = serde_json::from_str(include_str!("shape.json")).unwrap();
    for field in json.as_object().unwrap().keys() {
        assert!(schema["properties"][field].is_object(), "{field}");
    }
    let device = &schema["$defs"]["CudaDevice"]["properties"];
    assert_eq!(device["tier"]["maximum"], 100);
    for field in json["cuda"]["devices"][0].as_object().unwrap().keys() {
        assert!(device[field].is_object(), "{field}");
    }
}

#[test]
fn devices_come_best_first_and_the_cpu_is_always_there() {
    let probe = MockProbe::cpu()
        .with_cuda("NVIDIA T4", 15 << 30, 7, 5)
        .with_cuda("NVIDIA H200", 140 << 30, 9, 0)
        .with_cuda("Tesla K80", 12 << 30, 3, 7);
    let hardware = probe.probe();
    let names: Vec<_> = hardware
        .devices()
        .iter()
        .map(|device| device.name)
        .collect();
    assert_eq!(names, ["NVIDIA H200", "NVIDIA T4", "Mock CPU"]);
    let last = hardware.devices().pop().unwrap();
    assert_eq!(last.memory_total, Some(16 << 30));
    assert_eq!(last.memory_free, Some(12 << 30));
}

#[test]
fn a_device_that_cannot_be_used_is_named_with_the_reason() {
    let hardware = MockProbe::cpu()
        .with_cuda("Tesla K80", 12 << 30, 3, 7)
        .probe();
    assert_eq!(
        hardware.why_not(DeviceKind::Cuda),
        "Tesla K80: compute capability 3.7 is below 7.5"
    );
    let mut hidden = MockProbe::cpu()
        .with_cuda("NVIDIA L4", 24 << 30, 8, 9)
        .probe();
    hidden.cuda.devices[0].ordinal = None;
    assert_eq!(
        hidden.why_not(DeviceKind::Cuda),
        "NVIDIA L4: hidden by CUDA_VISIBLE_DEVICES"
    );
    assert!(!hidden.has(DeviceKind::Cuda));
}

#[test]
fn this_machine_has_a_cpu_and_memory() {
    let hardware = SystemProbe::new().probe();
    assert!(hardware.cpu.usable_threads >= 1);
    assert!((1..=30).contains(&hardware.cpu.tier));
    assert!(hardware.has(DeviceKind::Cpu));
    if cfg!(target_os = "linux") {
        let memory = &hardware.memory;
        assert!(memory.most().unwrap() > 0);
        assert!(memory.available.unwrap() <= memory.total.unwrap());
        assert!(!hardware.has(DeviceKind::Metal));
        assert_eq!(
            hardware.why_not(DeviceKind::Metal),
            "Metal: linux has no Metal"
        );
    }
}
