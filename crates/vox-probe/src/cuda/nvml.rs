//! NVML, the NVIDIA Management Library, loaded at run time.
//!
//! The driver brings it, so that it is here where a device could be. Names, types and constants are those of
//! `nvml.h` (NVML API Reference Guide). The functions with a version in their name are the ones that every
//! driver since CUDA 10 has; those of instances (MIG) came with CUDA 11 and may be missing.
//!
//! What must stay true: every function is called between `nvmlInit_v2` and `nvmlShutdown`, with the type
//! that the header gives it, and no pointer that NVML handed out is kept beyond that.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

use libloading::{Library, Symbol};

use super::version_of;
use crate::hardware::Version;

/// A handle of a device or instance: valid until `nvmlShutdown`.
type Handle = *mut c_void;
/// `nvmlReturn_t`; 0 is success.
type Code = c_int;

/// `nvmlMemory_t`, in bytes.
#[repr(C)]
#[derive(Default)]
struct MemoryInformation {
    total: u64,
    free: u64,
    used: u64,
}

/// Longer than any text that NVML hands out: `NVML_DEVICE_UUID_V2_BUFFER_SIZE` and the buffer for names
/// are 96.
const TEXT: usize = 128;
/// `NVML_DEVICE_MIG_ENABLE`.
const SPLIT: c_uint = 1;

/// A device, or an instance of one.
pub(super) struct Device {
    pub(super) name: String,
    pub(super) uuid: Option<String>,
    pub(super) memory_total: u64,
    pub(super) memory_free: u64,
    pub(super) capability: Version,
}

/// NVML, initialised; shut down when dropped.
pub(super) struct Nvml {
    library: Library,
}

impl Nvml {
    /// Loads the library and initialises it. The error says why, without the library's name before it.
    pub(super) fn open(name: &str) -> Result<Self, String> {
        // SAFETY: the initialisers of what the dynamic linker finds by this name run; that is NVIDIA's
        // driver, or a file that the caller named to be trusted as that.
        let library = unsafe { Library::new(name) }.map_err(|error| reason(&error, name))?;
        let initialise: Symbol<'_, unsafe extern "C" fn() -> Code> =
            symbol(&library, "nvmlInit_v2")?;
        // SAFETY: `nvmlInit_v2` takes nothing and may be called at any time.
        let code = unsafe { initialise() };
        check(&library, "nvmlInit_v2", code)?;
        Ok(Self { library })
    }

    /// Such as `570.124.06`.
    pub(super) fn driver_version(&self) -> Result<String, String> {
        const NAME: &str = "nvmlSystemGetDriverVersion";
        type Function = unsafe extern "C" fn(*mut c_char, c_uint) -> Code;
        let function: Symbol<'_, Function> = symbol(&self.library, NAME)?;
        self.text(NAME, |buffer, length| {
            // SAFETY: the buffer is as long as is said.
            unsafe { function(buffer, length) }
        })
    }

    /// The newest CUDA that the driver runs.
    pub(super) fn cuda_version(&self) -> Result<Version, String> {
        const NAME: &str = "nvmlSystemGetCudaDriverVersion_v2";
        let function: Symbol<'_, unsafe extern "C" fn(*mut c_int) -> Code> =
            symbol(&self.library, NAME)?;
        let mut number = 0;
        // SAFETY: the pointer is to a number of the type that is written.
        let code = unsafe { function(&raw mut number) };
        check(&self.library, NAME, code)?;
        Ok(version_of(number))
    }

    /// How many devices there are, split or not.
    pub(super) fn device_count(&self) -> Result<c_uint, String> {
        const NAME: &str = "nvmlDeviceGetCount_v2";
        let function: Symbol<'_, unsafe extern "C" fn(*mut c_uint) -> Code> =
            symbol(&self.library, NAME)?;
        let mut count = 0;
        // SAFETY: the pointer is to a number of the type that is written.
        let code = unsafe { function(&raw mut count) };
        check(&self.library, NAME, code)?;
        Ok(count)
    }

    /// The device of this index, or, where it is split, its instances.
    pub(super) fn devices(&self, index: c_uint) -> Result<Vec<Device>, String> {
        const NAME: &str = "nvmlDeviceGetHandleByIndex_v2";
        let function: Symbol<'_, unsafe extern "C" fn(c_uint, *mut Handle) -> Code> =
            symbol(&self.library, NAME)?;
        let mut handle: Handle = ptr::null_mut();
        // SAFETY: the pointer is to a place for a handle.
        let code = unsafe { function(index, &raw mut handle) };
        check(&self.library, NAME, code)?;
        let capability = self.capability(handle)?;
        if !self.is_split(handle) {
            return Ok(vec![self.describe(handle, capability)?]);
        }
        let instances = self.instances(handle)?;
        let described = instances
            .into_iter()
            .map(|instance| self.describe(instance, capability));
        described.collect()
    }

    fn describe(&self, handle: Handle, capability: Version) -> Result<Device, String> {
        let memory = self.memory(handle)?;
        Ok(Device {
            name: self.device_text("nvmlDeviceGetName", handle)?,
            uuid: self.device_text("nvmlDeviceGetUUID", handle).ok(),
            memory_total: memory.total,
            memory_free: memory.free,
            capability,
        })
    }

    fn capability(&self, handle: Handle) -> Result<Version, String> {
        const NAME: &str = "nvmlDeviceGetCudaComputeCapability";
        type Function = unsafe extern "C" fn(Handle, *mut c_int, *mut c_int) -> Code;
        let function: Symbol<'_, Function> = symbol(&self.library, NAME)?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: the handle is NVML's, the pointers are to numbers of the type that is written.
        let code = unsafe { function(handle, &raw mut major, &raw mut minor) };
        check(&self.library, NAME, code)?;
        Ok(Version {
            major: major.unsigned_abs(),
            minor: minor.unsigned_abs(),
        })
    }

    fn memory(&self, handle: Handle) -> Result<MemoryInformation, String> {
        const NAME: &str = "nvmlDeviceGetMemoryInfo";
        type Function = unsafe extern "C" fn(Handle, *mut MemoryInformation) -> Code;
        let function: Symbol<'_, Function> = symbol(&self.library, NAME)?;
        let mut memory = MemoryInformation::default();
        // SAFETY: the handle is NVML's, the structure is laid out as `nvmlMemory_t`.
        let code = unsafe { function(handle, &raw mut memory) };
        check(&self.library, NAME, code)?;
        Ok(memory)
    }

    /// Whether the device is split into instances; a device or driver that knows of none is not.
    fn is_split(&self, handle: Handle) -> bool {
        type Function = unsafe extern "C" fn(Handle, *mut c_uint, *mut c_uint) -> Code;
        let function: Result<Symbol<'_, Function>, _> =
            symbol(&self.library, "nvmlDeviceGetMigMode");
        let Ok(function) = function else {
            return false;
        };
        let (mut now, mut next) = (0, 0);
        // SAFETY: the handle is NVML's, the pointers are to numbers of the type that is written.
        let code = unsafe { function(handle, &raw mut now, &raw mut next) };
        code == 0 && now == SPLIT
    }

    /// The instances of a split device; places that none takes are passed over.
    fn instances(&self, handle: Handle) -> Result<Vec<Handle>, String> {
        const COUNT: &str = "nvmlDeviceGetMaxMigDeviceCount";
        let function: Symbol<'_, unsafe extern "C" fn(Handle, *mut c_uint) -> Code> =
            symbol(&self.library, COUNT)?;
        let mut places = 0;
        // SAFETY: the handle is NVML's, the pointer is to a number of the type that is written.
        let code = unsafe { function(handle, &raw mut places) };
        check(&self.library, COUNT, code)?;

        type Function = unsafe extern "C" fn(Handle, c_uint, *mut Handle) -> Code;
        let function: Symbol<'_, Function> =
            symbol(&self.library, "nvmlDeviceGetMigDeviceHandleByIndex")?;
        let taken = (0..places).filter_map(|place| {
            let mut instance: Handle = ptr::null_mut();
            // SAFETY: the handle is NVML's, the pointer is to a place for a handle.
            let code = unsafe { function(handle, place, &raw mut instance) };
            (code == 0).then_some(instance)
        });
        Ok(taken.collect())
    }

    /// What a function that writes a text about a device writes.
    fn device_text(&self, name: &str, handle: Handle) -> Result<String, String> {
        type Function = unsafe extern "C" fn(Handle, *mut c_char, c_uint) -> Code;
        let function: Symbol<'_, Function> = symbol(&self.library, name)?;
        self.text(name, |buffer, length| {
            // SAFETY: the handle is NVML's, the buffer is as long as is said.
            unsafe { function(handle, buffer, length) }
        })
    }

    /// What `write` writes into a buffer of the length that it is told.
    fn text(
        &self,
        name: &str,
        write: impl FnOnce(*mut c_char, c_uint) -> Code,
    ) -> Result<String, String> {
        let mut buffer = [0_u8; TEXT];
        let code = write(buffer.as_mut_ptr().cast(), TEXT as c_uint);
        check(&self.library, name, code)?;
        let text = CStr::from_bytes_until_nul(&buffer)
            .map_err(|_| format!("{name} wrote a text without an end"))?;
        Ok(text.to_string_lossy().into_owned())
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        let function: Result<Symbol<'_, unsafe extern "C" fn() -> Code>, _> =
            symbol(&self.library, "nvmlShutdown");
        if let Ok(shut_down) = function {
            // SAFETY: `nvmlInit_v2` has succeeded, and nothing that NVML handed out is used any more.
            unsafe { shut_down() };
        }
    }
}

/// A function of the library by its name, to be called as the `F` that the header gives it.
fn symbol<'l, F>(library: &'l Library, name: &str) -> Result<Symbol<'l, F>, String> {
    // SAFETY: every caller names a function of `nvml.h` and takes a pointer to an unsafe function for `F`,
    // so that its type is answered for where it is called.
    unsafe { library.get(name.as_bytes()) }.map_err(|_| format!("it has no function {name}"))
}

/// Success, or NVML's own words for what it is not.
fn check(library: &Library, name: &str, code: Code) -> Result<(), String> {
    if code == 0 {
        return Ok(());
    }
    let function: Result<Symbol<'_, unsafe extern "C" fn(Code) -> *const c_char>, _> =
        symbol(library, "nvmlErrorString");
    let words = function.ok().and_then(|words| {
        // SAFETY: `nvmlErrorString` takes any number, at any time, and answers a static text.
        let text = unsafe { words(code) };
        if text.is_null() {
            return None;
        }
        // SAFETY: it is not null, and ends with a zero as texts of C do.
        let text = unsafe { CStr::from_ptr(text) };
        Some(text.to_string_lossy().into_owned())
    });
    let words = words.unwrap_or_else(|| "an error without words".to_owned());
    Err(format!("{name}: {words} (code {code})"))
}

/// Why a library was not loaded, without its name, which whoever reads it has before them.
fn reason(error: &libloading::Error, name: &str) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let text = cause.unwrap_or_else(|| error.to_string());
    let own = format!("{name}: ");
    text.strip_prefix(&own).unwrap_or(&text).to_owned()
}
