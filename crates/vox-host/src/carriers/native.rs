//! The native carrier: plugins as shared libraries, trusted and at full speed.
//!
//! What bounds a thing's life: a [`Library`] is never unloaded (its statics, threads and
//! thread-locals may outlive any instance), so its tables are `'static`; an [`Instance`] ends when
//! dropped; the services that an instance calls live until both the instance and every handle
//! that the plugin made of them are gone.
//!
//! What must stay true: an instance is entered through `&mut self` only, so by one caller at a
//! time; nothing of the library is run before its format, ABI version and table size were checked
//! (initialisers of the library itself run when it is opened: native plugins are trusted code).

use std::ffi::{OsStr, c_void};
use std::io::{self, Write};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use object::{Architecture, Object};
use vox_abi::call::{self, Malformed};
use vox_abi::{
    ABI_VERSION, Buffer, ENTRY_SYMBOL, HostVtable, Interface, PluginVtable, Slice, Status,
};
use vox_contract::{EffectiveLimits, LimitName};

use super::{Answer, Failure};
use crate::contract::{EXPORTS, NATIVE_INTERFACES};
use crate::error::{LimitExceeded, LoadError};
use crate::services::Services;

/// Exported interfaces in the order of [`EXPORTS`].
type Tables = [Option<Interface>; EXPORTS.len()];

/// A loaded library, checked against the ABI.
pub(crate) struct Library {
    vtable: &'static PluginVtable,
    tables: &'static Tables,
    exported: [bool; EXPORTS.len()],
}

impl Library {
    /// Loads the library whose `bytes` stand in `file`, from a copy of its own under `cache`: what
    /// was read is what runs, and a file that is replaced later cannot change mapped code.
    pub(crate) fn load(file: &Path, bytes: &[u8], cache: &Path) -> Result<Self, LoadError> {
        check_format(file, bytes)?;
        let copy = copy(bytes, &cache.join("native")).map_err(|error| LoadError::Unreadable {
            file: file.to_owned(),
            error,
        })?;
        // SAFETY: opening runs the library's initialisers. The user trusts native plugins, and
        // the format was checked, so what runs is what the user installed.
        let library = unsafe { libloading::Library::new(AsRef::<OsStr>::as_ref(&copy)) }.map_err(
            |error| LoadError::Unloadable {
                file: file.to_owned(),
                detail: with_source(&error),
            },
        )?;
        // Never unloaded; see the module's documentation.
        let library = ManuallyDrop::new(library);
        // SAFETY: only the address is taken here; what is behind it is checked before it is used.
        let vtable =
            unsafe { library.get::<*const PluginVtable>(ENTRY_SYMBOL.to_bytes_with_nul()) }
                .ok()
                .and_then(|symbol| NonNull::new((*symbol).cast_mut()))
                .ok_or_else(|| LoadError::NoEntrySymbol {
                    file: file.to_owned(),
                })?;
        let vtable = check_vtable(file, vtable)?;
        // As long-lived as the library that it points into, which is never unloaded.
        let tables = &*Box::leak(Box::new(tables(vtable)));
        let exported = std::array::from_fn(|index| tables[index].is_some());
        Ok(Self {
            vtable,
            tables,
            exported,
        })
    }

    /// Which of [`EXPORTS`] the library has.
    pub(crate) fn exported(&self) -> &[bool; EXPORTS.len()] {
        &self.exported
    }

    /// Makes an instance, not yet initialised.
    pub(crate) fn instantiate(&self, services: Arc<Services>) -> Result<Instance, Failure> {
        let limits = services.limits;
        let context = Arc::into_raw(services).cast::<c_void>();
        // SAFETY: the vtable was checked when the library was loaded; the context is one
        // reference to the services, which the plugin gives back through `release_context`.
        let this = unsafe { (self.vtable.create)(&HOST, context) };
        match NonNull::new(this) {
            Some(this) => Ok(Instance {
                vtable: self.vtable,
                tables: self.tables,
                this,
                limits,
            }),
            // The plugin may have taken the reference before it failed, so it is left to it.
            None => Err(Failure::Protocol("`create` made no instance".to_owned())),
        }
    }
}

/// An instance in a library.
#[derive(Debug)]
pub(crate) struct Instance {
    vtable: &'static PluginVtable,
    tables: &'static Tables,
    this: NonNull<c_void>,
    limits: EffectiveLimits,
}

// SAFETY: the ABI lets an instance be entered from any thread, by one caller at a time.
unsafe impl Send for Instance {}

impl Instance {
    /// Calls function `function` of interface `interface`, both as the contract counts them.
    #[inline]
    pub(crate) fn call<T>(
        &mut self,
        interface: usize,
        function: usize,
        arguments: &[Slice],
        decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Answer<T> {
        let function = self.tables[interface]
            .as_ref()
            // SAFETY: the table is a static of a library that is never unloaded.
            .and_then(|table| unsafe { table.function(function) })
            .ok_or_else(|| Box::new(Failure::NotExported))?;
        let mut reply = Buffer::EMPTY;
        // SAFETY: `this` is a live instance of the library that `function` belongs to, and
        // `&mut self` makes this the only caller inside; the arguments outlive the call.
        let status = unsafe {
            function(
                self.this.as_ptr(),
                arguments.as_ptr(),
                arguments.len(),
                &mut reply,
            )
        };
        if status == Status::OK {
            return decode(&[]).map_err(|error| Box::new(protocol(error)));
        }
        self.take(status, reply, decode)
    }

    /// Reads a reply that carries something, and gives it back to the library.
    #[inline(never)]
    fn take<T>(
        &self,
        status: Status,
        reply: Buffer,
        decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Answer<T> {
        let result = if reply.bytes().len() as u64 > self.limits.result {
            Err(Failure::Exceeded(LimitExceeded::new(
                LimitName::Result,
                &self.limits,
            )))
        } else {
            read(status, &reply, decode)
        };
        // SAFETY: the reply goes back to the library that made it.
        unsafe { (self.vtable.release)(reply) };
        result.map_err(Box::new)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: the instance is live, nobody is inside, and it is not used afterwards.
        unsafe { (self.vtable.destroy)(self.this.as_ptr()) };
    }
}

/// Reads a reply that carries something.
fn read<T>(
    status: Status,
    reply: &Buffer,
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<T, Failure> {
    let text = || String::from_utf8_lossy(reply.bytes()).into_owned();
    match status {
        Status::VALUE => decode(reply.bytes()).map_err(protocol),
        Status::ERROR => Err(call::decode(reply.bytes()).map_or_else(protocol, Failure::Refused)),
        Status::PANICKED => Err(Failure::Crashed(text())),
        Status::MALFORMED => Err(Failure::Protocol(text())),
        Status::UNINITIALISED => Err(Failure::Protocol(
            "the instance was not initialised".to_owned(),
        )),
        Status(other) => Err(Failure::Protocol(format!("unknown status {other}"))),
    }
}

fn protocol(Malformed(detail): Malformed) -> Failure {
    Failure::Protocol(detail)
}

/// What native plugins get of the host.
static HOST: HostVtable = HostVtable {
    abi_version: ABI_VERSION,
    size: size_of::<HostVtable>() as u32,
    interfaces: NATIVE_INTERFACES.as_ptr(),
    interface_count: NATIVE_INTERFACES.len(),
    release,
    release_context,
};

unsafe extern "C" fn release(reply: Buffer) {
    // SAFETY: the plugin gives back a reply that this host made.
    unsafe { reply.free() };
}

unsafe extern "C" fn release_context(context: *const c_void) {
    // SAFETY: the plugin gives back the one reference that `instantiate` gave it.
    drop(unsafe { Arc::from_raw(context.cast::<Services>()) });
}

/// The services behind a context.
///
/// # Safety
///
/// `context` must be one that [`Library::instantiate`] gave to a plugin which has not given it
/// back yet.
#[inline]
pub(crate) unsafe fn services<'a>(context: *mut c_void) -> &'a Services {
    // SAFETY: the plugin holds a reference to the services while it calls.
    unsafe { &*context.cast::<Services>() }
}

/// A copy of a library, named by its content so that the same code is opened once however often it
/// is loaded. One that is there already is taken only when nobody else can change it while it runs.
fn copy(bytes: &[u8], directory: &Path) -> io::Result<PathBuf> {
    let place = directory.join(format!(
        "{}{}",
        vox_crypto::hash(bytes).to_hex(),
        std::env::consts::DLL_SUFFIX
    ));
    crate::platform::create_private_dir(directory)?;
    if !crate::platform::is_own(directory) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "others may write to {}, where native code is kept; `chmod go-w` mends it",
                directory.display()
            ),
        ));
    }
    let taken =
        crate::platform::is_own(&place) && std::fs::read(&place).is_ok_and(|there| there == bytes);
    if taken {
        return Ok(place);
    }
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.persist(&place).map_err(|error| error.error)?;
    Ok(place)
}

/// Refuses a file that is not a library for this machine, before anything of it runs.
fn check_format(file: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    let parsed = object::File::parse(bytes).map_err(|error| LoadError::NotALibrary {
        file: file.to_owned(),
        detail: error.to_string(),
    })?;
    let wanted = (crate::platform::BINARY_FORMAT, architecture());
    let found = (parsed.format(), parsed.architecture());
    if found != wanted {
        return Err(LoadError::OtherMachine {
            file: file.to_owned(),
            found: format!("{:?} for {:?}", found.0, found.1),
            wanted: format!("{:?} for {:?}", wanted.0, wanted.1),
        });
    }
    Ok(())
}

/// This process's architecture.
fn architecture() -> Architecture {
    match std::env::consts::ARCH {
        "x86_64" => Architecture::X86_64,
        "aarch64" => Architecture::Aarch64,
        "riscv64" => Architecture::Riscv64,
        _ => Architecture::Unknown,
    }
}

/// Checks a plugin's table from the front: nothing is read that its version or size leaves open.
fn check_vtable(
    file: &Path,
    vtable: NonNull<PluginVtable>,
) -> Result<&'static PluginVtable, LoadError> {
    // SAFETY: in every version the symbol is a static that begins with these two numbers.
    let (version, size) = unsafe { ((*vtable.as_ptr()).abi_version, (*vtable.as_ptr()).size) };
    if version != ABI_VERSION {
        return Err(LoadError::AbiVersion {
            file: file.to_owned(),
            found: version,
            wanted: ABI_VERSION,
        });
    }
    let wanted = size_of::<PluginVtable>() as u32;
    if size < wanted {
        return Err(LoadError::VtableSize {
            file: file.to_owned(),
            found: size,
            wanted,
        });
    }
    // SAFETY: of this ABI version and long enough, so it is what `PluginVtable` describes; a
    // static of a library that is never unloaded.
    Ok(unsafe { vtable.as_ref() })
}

/// Finds the exported interfaces by name.
fn tables(vtable: &'static PluginVtable) -> Tables {
    let offered: &[Interface] = if vtable.interface_count == 0 {
        &[]
    } else {
        // SAFETY: the table says that it has this many interfaces, statics like itself.
        unsafe { std::slice::from_raw_parts(vtable.interfaces, vtable.interface_count) }
    };
    EXPORTS.map(|known| {
        offered
            .iter()
            // SAFETY: names of interfaces are statics of the library.
            .find(|interface| unsafe { interface.name.bytes() } == known.full_name.as_bytes())
            .copied()
    })
}

/// An error with its causes on one line.
fn with_source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
