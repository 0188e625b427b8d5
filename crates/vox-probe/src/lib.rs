//! What hardware is here: CUDA devices, Metal, the CPU and its memory.
//!
//! A [`Probe`] answers a [`Hardware`], which is plain data with a stable JSON shape: what was found, what
//! was looked for, and why something was not found. [`SystemProbe`] looks at this machine, [`MockProbe`]
//! tells what a test wants to be so.
//!
//! ```
//! use vox_probe::{DeviceKind, MockProbe, Probe};
//!
//! let probe = MockProbe::cpu().with_cuda("NVIDIA H200", 141 << 30, 9, 0);
//! let hardware = probe.probe();
//! let best = &hardware.devices()[0];
//! assert_eq!((best.kind, best.tier), (DeviceKind::Cuda, 84));
//!
//! let hardware = MockProbe::cpu().probe();
//! assert_eq!(
//!     hardware.why_not(DeviceKind::Cuda),
//!     "libnvidia-ml.so.1: cannot open shared object file: No such file or directory"
//! );
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `hardware` | [`Hardware`] and what it is made of |
//! | [`tier`] | the number by which devices are ordered, with its formula |
//! | `cpu` | which instructions this CPU has, and the [`Level`] that kernels are chosen by |
//! | `cuda` | NVML, loaded at run time; which devices CUDA shows; which libraries of CUDA are here |
//! | `platform` | all that differs between operating systems |
//! | `fingerprint` | [`Fingerprint`]: what a bit-exact continuation depends on |
//! | `probe` | [`Probe`], [`SystemProbe`], [`MockProbe`] |
//!
//! # What must stay true
//!
//! - Probing fails at nothing: what cannot be found out is absent from the answer, and a [`Search`] says
//!   why.
//! - Nothing of CUDA or Metal is linked: this crate runs where neither is.
//! - The JSON shape only grows; [`Hardware::REVISION`] counts what a reader could trip over.

mod cpu;
mod cuda;
mod fingerprint;
mod hardware;
mod platform;
mod probe;
pub mod tier;

pub use cpu::Level;
pub use fingerprint::Fingerprint;
pub use hardware::{
    Caches, Cpu, Cuda, CudaDevice, Device, DeviceKind, Hardware, Memory, Metal, MetalDevice,
    Search, SharedLibrary, Subject, System, Version,
};
pub use probe::{MockProbe, Probe, SystemProbe};
