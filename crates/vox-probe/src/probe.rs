//! Who tells what hardware is here.

use std::env;
use std::path::PathBuf;
use std::thread;

use crate::cpu::{self, Level};
use crate::cuda;
use crate::hardware::{
    Caches, Cpu, Cuda, CudaDevice, Hardware, Memory, Metal, MetalDevice, Search, Subject, System,
    Version,
};
use crate::platform;
use crate::tier;

/// Tells what hardware is here.
pub trait Probe {
    /// Looks, now. What cannot be found out is absent, and the searches say why.
    fn probe(&self) -> Hardware;
}

/// Looks at this machine: some milliseconds on Linux, a second where programs of the system have to be
/// asked (macOS, Windows).
#[derive(Debug, Clone, Default)]
pub struct SystemProbe {
    nvml: Option<PathBuf>,
}

impl SystemProbe {
    /// Looks where the system keeps things.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads this file as NVML, and no other.
    #[must_use]
    pub fn with_nvml(mut self, library: impl Into<PathBuf>) -> Self {
        self.nvml = Some(library.into());
        self
    }

    /// The memory alone: well below a millisecond on Linux, and as long as a whole probe elsewhere.
    pub fn memory() -> Memory {
        platform::memory(&mut Vec::new())
    }
}

impl Probe for SystemProbe {
    fn probe(&self) -> Hardware {
        let mut searches = Vec::new();
        let cpu = this_cpu(&mut searches);
        let memory = platform::memory(&mut searches);
        let variables = |name: &str| env::var_os(name);
        let cuda = cuda::probe(self.nvml.as_deref(), &variables, &mut searches);
        let devices = platform::metal(memory.total, &mut searches);
        Hardware {
            revision: Hardware::REVISION,
            system: System {
                os: env::consts::OS.to_owned(),
                arch: env::consts::ARCH.to_owned(),
            },
            cpu,
            memory,
            cuda,
            metal: Metal { devices },
            searches,
        }
    }
}

/// What the instructions of the CPU say, and what the system says of it.
fn this_cpu(searches: &mut Vec<Search>) -> Cpu {
    let described = platform::cpu(searches);
    let usable = thread::available_parallelism().map_or(1, usize::from);
    let logical = described.logical_cores.unwrap_or(usable);
    let physical = described.physical_cores.unwrap_or(logical);
    let features = cpu::features();
    let level = Level::of(&features);
    Cpu {
        model: described.model.unwrap_or_else(|| "unknown".to_owned()),
        physical_cores: physical,
        logical_cores: logical,
        usable_threads: usable,
        features,
        level,
        caches: described.caches,
        // More cores than it may use are of no use to it.
        tier: tier::cpu(level, physical.min(usable)),
    }
}

/// Tells what it was made to tell.
#[derive(Debug, Clone)]
pub struct MockProbe {
    hardware: Hardware,
}

impl MockProbe {
    /// Tells of this hardware.
    pub fn new(hardware: Hardware) -> Self {
        Self { hardware }
    }

    /// A Linux machine with 4 cores, AVX2 and 16 GiB, of which 12 are free, and nothing more.
    pub fn cpu() -> Self {
        let features = ["avx2", "f16c", "fma"].map(str::to_owned).to_vec();
        let level = Level::of(&features);
        Self::new(Hardware {
            revision: Hardware::REVISION,
            system: System {
                os: "linux".to_owned(),
                arch: "x86_64".to_owned(),
            },
            cpu: Cpu {
                model: "Mock CPU".to_owned(),
                physical_cores: 4,
                logical_cores: 8,
                usable_threads: 8,
                features,
                level,
                caches: Caches {
                    l1_data: Some(32 << 10),
                    l2: Some(512 << 10),
                    l3: Some(8 << 20),
                },
                tier: tier::cpu(level, 4),
            },
            memory: Memory {
                total: Some(16 << 30),
                available: Some(12 << 30),
                limit: None,
                limit_source: None,
            },
            cuda: Cuda::default(),
            metal: Metal::default(),
            searches: vec![Search::missed(
                Subject::Cuda,
                "libnvidia-ml.so.1",
                "cannot open shared object file: No such file or directory",
            )],
        })
    }

    /// With one more CUDA device of this name, memory in bytes (nine tenths of it free) and compute
    /// capability, beside a driver for CUDA 13.0.
    #[must_use]
    pub fn with_cuda(mut self, name: &str, memory: u64, major: u32, minor: u32) -> Self {
        let compute_capability = Version { major, minor };
        let cuda = &mut self.hardware.cuda;
        let index = cuda.devices.len() as u32;
        cuda.driver_version = Some("580.65.06".to_owned());
        cuda.cuda_version = Some(Version {
            major: 13,
            minor: 0,
        });
        cuda.devices.push(CudaDevice {
            ordinal: Some(index),
            name: name.to_owned(),
            uuid: Some(format!("GPU-00000000-0000-0000-0000-{index:012}")),
            memory_total: memory,
            memory_free: memory / 10 * 9,
            compute_capability,
            tier: tier::cuda(memory, compute_capability),
        });
        let searches = &mut self.hardware.searches;
        searches.retain(|search| search.subject != Subject::Cuda);
        searches.push(Search::found(
            Subject::Cuda,
            "libnvidia-ml.so.1",
            "driver 580.65.06",
        ));
        self
    }

    /// With one more Metal device of this name that works in so many bytes of a unified memory.
    #[must_use]
    pub fn with_metal(mut self, name: &str, memory: u64) -> Self {
        self.hardware.metal.devices.push(MetalDevice {
            name: name.to_owned(),
            cores: None,
            version: Some("Metal 3".to_owned()),
            unified: true,
            memory_total: memory,
            tier: tier::metal(memory),
        });
        self
    }
}

impl Probe for MockProbe {
    fn probe(&self) -> Hardware {
        self.hardware.clone()
    }
}
