//! The answer of a probe: plain data, the same in Rust and in JSON.

use std::fmt;

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use crate::cpu::Level;

/// What hardware is here, and what was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Hardware {
    /// The revision of this shape, [`Hardware::REVISION`].
    pub revision: u32,
    /// The operating system.
    pub system: System,
    /// The processor.
    pub cpu: Cpu,
    /// The memory that the processor works in.
    pub memory: Memory,
    /// NVIDIA's devices and what runs programs on them.
    pub cuda: Cuda,
    /// Apple's devices.
    pub metal: Metal,
    /// What was looked for, in that order, found or not.
    pub searches: Vec<Search>,
}

/// An operating system, in the words of [`std::env::consts`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct System {
    /// `linux`, `macos`, `windows`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
}

/// A processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Cpu {
    /// Its name, as its maker or the system writes it; `unknown` where neither does.
    pub model: String,
    /// Cores, of all sockets; the logical ones where the system does not tell them apart.
    pub physical_cores: usize,
    /// Threads that the machine runs at a time.
    pub logical_cores: usize,
    /// Threads that this process may run at a time: affinity and quotas of control groups considered.
    pub usable_threads: usize,
    /// The instruction sets that kernels may use, as Rust's `target_feature` names them, sorted. AMX
    /// is never among them.
    pub features: Vec<String>,
    /// What the instruction sets come to.
    pub level: Level,
    /// The caches of the first core.
    pub caches: Caches,
    /// 0 to 30: see [`crate::tier::cpu`].
    #[schemars(range(max = 100))]
    pub tier: u8,
}

/// Sizes of the caches that a core sees, in bytes; `None` where the system does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Caches {
    /// For data, the first level.
    pub l1_data: Option<u64>,
    /// The second level.
    pub l2: Option<u64>,
    /// The third level, which cores share.
    pub l3: Option<u64>,
}

/// Memory, in bytes; `None` where the system does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Memory {
    /// What the machine has.
    pub total: Option<u64>,
    /// What this process can have now without anything being swapped out: the machine's available memory,
    /// or what is left below a control group's limit, whichever is less.
    pub available: Option<u64>,
    /// The least limit of the control groups that this process is in, where it is below `total`.
    pub limit: Option<u64>,
    /// The file that holds the limit.
    pub limit_source: Option<String>,
}

impl Memory {
    /// The most that this process can ever have: the machine's memory, or the limit.
    pub fn most(&self) -> Option<u64> {
        match (self.total, self.limit) {
            (Some(total), Some(limit)) => Some(total.min(limit)),
            (total, limit) => total.or(limit),
        }
    }
}

/// NVIDIA's devices, as NVML tells of them, and what runs programs on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Cuda {
    /// The driver's version, such as `570.124.06`; `None` where no driver is.
    pub driver_version: Option<String>,
    /// The newest version of CUDA that the driver runs.
    pub cuda_version: Option<Version>,
    /// The devices, in NVML's order. Of one that is split into instances (MIG), the instances.
    pub devices: Vec<CudaDevice>,
    /// The files of CUDA's libraries that were found: `cudart`, `cublas`, `curand` and `nvrtc`.
    pub libraries: Vec<SharedLibrary>,
}

/// A device that CUDA programs run on, or an instance of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct CudaDevice {
    /// The number by which this process names the device to CUDA; `None` where `CUDA_VISIBLE_DEVICES`
    /// hides it.
    ///
    /// NVML orders by the bus; CUDA does so too where `CUDA_DEVICE_ORDER=PCI_BUS_ID` or all devices are
    /// of one kind, and otherwise puts its fastest first.
    pub ordinal: Option<u32>,
    /// Its name, such as `NVIDIA H200`.
    pub name: String,
    /// The name that stays its own: `GPU-…` or, of an instance, `MIG-…`.
    pub uuid: Option<String>,
    /// Its memory, in bytes.
    pub memory_total: u64,
    /// What nobody uses of it now, in bytes.
    pub memory_free: u64,
    /// Which instructions it has: 9.0 for Hopper.
    pub compute_capability: Version,
    /// 0 where it cannot be used, otherwise 31 to 100: see [`crate::tier::cuda`].
    #[schemars(range(max = 100))]
    pub tier: u8,
}

/// Two numbers with a dot between, ordered as versions are.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub struct Version {
    /// Before the dot.
    pub major: u32,
    /// After it.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

/// A file of a shared library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct SharedLibrary {
    /// Its name without prefix, version and suffix, such as `cudart`.
    pub name: String,
    /// The version in its file's name, links resolved; `None` where there is none.
    pub version: Option<String>,
    /// The file, links resolved.
    pub path: String,
    /// Whether the dynamic linker finds it by its bare name.
    pub linkable: bool,
}

/// Apple's devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Metal {
    /// The devices that Metal programs run on.
    pub devices: Vec<MetalDevice>,
}

/// A device that Metal programs run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MetalDevice {
    /// Its name, such as `Apple M3 Max`.
    pub name: String,
    /// Its cores, where the system tells.
    pub cores: Option<u32>,
    /// The newest Metal that it knows, such as `Metal 3`, where the system tells.
    pub version: Option<String>,
    /// Whether it works in the CPU's memory.
    pub unified: bool,
    /// The memory that it can work in, in bytes: its own, or the part of a unified memory that the
    /// system lets it keep.
    pub memory_total: u64,
    /// 31 to 60: see [`crate::tier::metal`].
    #[schemars(range(max = 100))]
    pub tier: u8,
}

/// What was looked for, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Search {
    /// What it was looked for.
    pub subject: Subject,
    /// A file, library or program.
    pub looked_for: String,
    /// Whether it was there and of use.
    pub found: bool,
    /// What it said, or why it could not.
    pub detail: String,
}

impl Search {
    /// It was there; `detail` is what it said.
    pub(crate) fn found(subject: Subject, looked_for: &str, detail: impl fmt::Display) -> Self {
        Self {
            subject,
            looked_for: looked_for.to_owned(),
            found: true,
            detail: detail.to_string(),
        }
    }

    /// It was of no use; `detail` is why.
    pub(crate) fn missed(subject: Subject, looked_for: &str, detail: impl fmt::Display) -> Self {
        Self {
            found: false,
            ..Self::found(subject, looked_for, detail)
        }
    }
}

/// What a search was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Subject {
    /// The processor.
    Cpu,
    /// Its memory.
    Memory,
    /// NVIDIA's devices.
    Cuda,
    /// Apple's devices.
    Metal,
}

/// A kind of device that models run on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// NVIDIA's.
    Cuda,
    /// Apple's.
    Metal,
    /// The processor itself.
    Cpu,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cuda => "CUDA",
            Self::Metal => "Metal",
            Self::Cpu => "CPU",
        })
    }
}

/// A device of any kind, as a dispatcher compares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device<'h> {
    /// Whose it is.
    pub kind: DeviceKind,
    /// The number by which a program of its kind names it.
    pub ordinal: u32,
    /// Its name.
    pub name: &'h str,
    /// 1 to 100, more is better: see [`crate::tier`].
    pub tier: u8,
    /// The memory that a model can ever have on it, in bytes; `None` where unknown.
    pub memory_total: Option<u64>,
    /// What is free of that now; `None` where unknown.
    pub memory_free: Option<u64>,
}

impl Hardware {
    /// The revision of the shape. It grows when a field changes its meaning or goes; not when one is
    /// added.
    pub const REVISION: u32 = 1;

    /// The devices that can be used, the best first; the CPU is always among them.
    ///
    /// Devices of one tier stand in the order CUDA, Metal, CPU, then by ordinal.
    pub fn devices(&self) -> Vec<Device<'_>> {
        let cuda = self.cuda.devices.iter().filter_map(|device| {
            let ordinal = device.ordinal?;
            (device.tier > 0).then_some(Device {
                kind: DeviceKind::Cuda,
                ordinal,
                name: &device.name,
                tier: device.tier,
                memory_total: Some(device.memory_total),
                memory_free: Some(device.memory_free),
            })
        });
        let metal = self.metal.devices.iter().zip(0..);
        let metal = metal.map(|(device, ordinal)| Device {
            kind: DeviceKind::Metal,
            ordinal,
            name: &device.name,
            tier: device.tier,
            memory_total: Some(device.memory_total),
            memory_free: if device.unified {
                self.memory
                    .available
                    .map(|free| free.min(device.memory_total))
            } else {
                None
            },
        });
        let cpu = Device {
            kind: DeviceKind::Cpu,
            ordinal: 0,
            name: &self.cpu.model,
            tier: self.cpu.tier.max(1),
            memory_total: self.memory.most(),
            memory_free: self.memory.available,
        };
        let mut devices: Vec<_> = cuda.chain(metal).chain([cpu]).collect();
        devices.sort_by_key(|device| (std::cmp::Reverse(device.tier), device.kind, device.ordinal));
        devices
    }

    /// Whether a device of the kind can be used.
    pub fn has(&self, kind: DeviceKind) -> bool {
        self.devices().iter().any(|device| device.kind == kind)
    }

    /// Why no device of the kind can be used, for a message; empty where one can.
    pub fn why_not(&self, kind: DeviceKind) -> String {
        if self.has(kind) {
            return String::new();
        }
        let subject = match kind {
            DeviceKind::Cuda => Subject::Cuda,
            DeviceKind::Metal => Subject::Metal,
            DeviceKind::Cpu => Subject::Cpu,
        };
        let mut reasons: Vec<String> = Vec::new();
        if kind == DeviceKind::Cuda {
            reasons.extend(self.cuda.devices.iter().map(|device| {
                let name = &device.name;
                let capability = device.compute_capability;
                match device.ordinal {
                    None => format!("{name}: hidden by CUDA_VISIBLE_DEVICES"),
                    Some(_) => format!(
                        "{name}: compute capability {capability} is below {}",
                        crate::tier::LEAST_CAPABILITY
                    ),
                }
            }));
        }
        if reasons.is_empty() {
            let missed = |search: &&Search| search.subject == subject && !search.found;
            reasons.extend(
                self.searches
                    .iter()
                    .filter(missed)
                    // Which libraries of CUDA are missing matters to whoever has a device.
                    .take(1)
                    .map(|search| format!("{}: {}", search.looked_for, search.detail)),
            );
        }
        if reasons.is_empty() {
            reasons.push(format!("there is no {kind} device"));
        }
        reasons.join("; ")
    }

    /// The schema of the JSON shape.
    pub fn schema() -> Schema {
        schemars::schema_for!(Self)
    }

    /// The JSON text, pretty, with a line end.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        // Texts, numbers and lists alone: nothing that JSON has no form for.
        text.unwrap_or_default() + "\n"
    }
}
