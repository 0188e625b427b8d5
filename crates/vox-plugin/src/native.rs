//! The native carrier's glue: instances behind C functions, and calls to the host.
//!
//! This module owns the process-wide link from a thread to the host that is calling it. Entering
//! an instance sets the thread's current host and leaving restores the one before, so that plugin
//! code calls [`crate::host`] without carrying a handle around.
//!
//! What must stay true: an instance is created, entered and destroyed by the host alone, one
//! caller at a time; the host's context lives as long as any link to it.

use std::cell::Cell;
use std::ffi::c_void;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::{Arc, Once};

use vox_abi::call::{Answer, Arguments, Malformed};
use vox_abi::{
    ABI_VERSION, Buffer, Function, HostVtable, Interface, PluginVtable, Slice, Status, call,
};

use crate::host::{self, log::Level};
use crate::{Error, Lifecycle, Result, Slot};

/// What the host holds of an instance, opaque to it.
struct Instance<T> {
    host: Arc<HostLink>,
    slot: Slot<T>,
}

/// A plugin's view of the host that made an instance.
struct HostLink {
    /// The host's interfaces by the SDK's own order; `None` where the host has none of that name.
    interfaces: [Option<Interface>; host::INTERFACES.len()],
    context: *const c_void,
    release: unsafe extern "C" fn(Buffer),
    release_context: unsafe extern "C" fn(*const c_void),
}

// SAFETY: the ABI says that host functions may be called from any thread with the same context.
unsafe impl Send for HostLink {}
// SAFETY: as for `Send`; nothing in it is written after it was made.
unsafe impl Sync for HostLink {}

impl Drop for HostLink {
    fn drop(&mut self) {
        // SAFETY: the link owns one reference to the context and gives it back once, here.
        unsafe { (self.release_context)(self.context) };
    }
}

thread_local! {
    /// The host that is calling on this thread; null outside of a call.
    static CURRENT: Cell<*const HostLink> = const { Cell::new(ptr::null()) };
}

/// Restores the previous host when a call ends.
struct Entered(*const HostLink);

impl Entered {
    fn new(link: *const HostLink) -> Self {
        Self(CURRENT.replace(link))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// A way to the host for threads that a plugin starts itself.
///
/// ```
/// use vox_plugin::{host, native::HostHandle};
///
/// # fn inside_a_call() {
/// if let Some(handle) = HostHandle::current() {
///     std::thread::spawn(move || handle.enter(|| host::cancel::should_cancel()));
/// }
/// # }
/// ```
///
/// There is no such handle in a component: it has one thread.
#[derive(Clone)]
pub struct HostHandle(Arc<HostLink>);

impl std::fmt::Debug for HostHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("HostHandle")
    }
}

impl HostHandle {
    /// The host that is calling on this thread; none outside of a call.
    pub fn current() -> Option<Self> {
        let link = CURRENT.get();
        if link.is_null() {
            return None;
        }
        // SAFETY: a current link is borrowed from an `Arc` that lives in the instance (or handle)
        // being entered, so its count can be raised.
        Some(Self(unsafe {
            Arc::increment_strong_count(link);
            Arc::from_raw(link)
        }))
    }

    /// Runs `work` on this thread with this host as the current one. A panic goes on to the caller;
    /// where no call of the host is under way on this thread to report it, it is logged first.
    pub fn enter<R>(&self, work: impl FnOnce() -> R) -> R {
        let entered = Entered::new(Arc::as_ptr(&self.0));
        if !entered.0.is_null() {
            return work();
        }
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let place = PANIC_LOCATION.take().unwrap_or_default();
            let text = format!(
                "a thread panicked at {place}: {}",
                call::panic_text(&*panic)
            );
            host::log::write(Level::Error, &text, &[]);
            drop(entered);
            resume_unwind(panic)
        })
    }
}

/// The table that a plugin of type `T` exports.
#[doc(hidden)]
pub const fn vtable<T: Lifecycle>(interfaces: &'static [Interface]) -> PluginVtable {
    PluginVtable {
        abi_version: ABI_VERSION,
        size: size_of::<PluginVtable>() as u32,
        interfaces: interfaces.as_ptr(),
        interface_count: interfaces.len(),
        create: create::<T>,
        destroy: destroy::<T>,
        release,
    }
}

unsafe extern "C" fn create<T: Lifecycle>(
    host: *const HostVtable,
    context: *const c_void,
) -> *mut c_void {
    let made = catch_unwind(AssertUnwindSafe(|| {
        report_panics_to_the_host();
        // SAFETY: the host passes its own table, a static.
        let link = Arc::new(unsafe { link(host, context)? });
        let instance = Box::new(Instance::<T> {
            host: link,
            slot: Slot::EMPTY,
        });
        Some(Box::into_raw(instance).cast::<c_void>())
    }));
    made.ok().flatten().unwrap_or(ptr::null_mut())
}

/// Reads the host's table; `None` when it is of another ABI.
///
/// # Safety
///
/// `host` must point to a host's table.
unsafe fn link(host: *const HostVtable, context: *const c_void) -> Option<HostLink> {
    // SAFETY: every version of the table begins with its ABI version and size.
    let (abi_version, size) = unsafe { ((*host).abi_version, (*host).size as usize) };
    if abi_version != ABI_VERSION
        || size < offset_of!(HostVtable, release_context) + size_of::<usize>()
    {
        return None;
    }
    // SAFETY: the table is of this ABI and has every field that is read here.
    let table = unsafe { &*host };
    let offered = if table.interface_count == 0 {
        &[]
    } else {
        // SAFETY: the table says that it has this many interfaces, which are static.
        unsafe { std::slice::from_raw_parts(table.interfaces, table.interface_count) }
    };
    let interfaces = host::INTERFACES.map(|name| {
        offered
            .iter()
            // SAFETY: names of the host's interfaces are static.
            .find(|interface| unsafe { interface.name.bytes() } == name.as_bytes())
            .copied()
    });
    Some(HostLink {
        interfaces,
        context,
        release: table.release,
        release_context: table.release_context,
    })
}

unsafe extern "C" fn destroy<T: Lifecycle>(instance: *mut c_void) {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the host gives back, once, what `create` made.
        let instance = unsafe { Box::from_raw(instance.cast::<Instance<T>>()) };
        let Instance { host, slot } = *instance;
        let _entered = Entered::new(Arc::as_ptr(&host));
        drop(slot);
    }));
    if let Err(panic) = ended {
        call::forget_panic(panic);
    }
}

unsafe extern "C" fn release(reply: Buffer) {
    // SAFETY: the host gives back a reply that this library made.
    unsafe { reply.free() };
}

/// Serves a call of an extension point.
///
/// # Safety
///
/// As [`serve_slot`].
#[doc(hidden)]
#[inline]
pub unsafe fn serve<T: Lifecycle>(
    this: *mut c_void,
    arguments: *const Slice,
    count: usize,
    reply: *mut Buffer,
    body: impl FnOnce(&mut T, Arguments<'_>) -> Result<Answer, Malformed>,
) -> Status {
    // SAFETY: passed on.
    unsafe {
        serve_slot::<T>(
            this,
            arguments,
            count,
            reply,
            |slot, arguments| match &mut slot.value {
                Some(plugin) => body(plugin, arguments),
                None => Ok(Answer::Uninitialised),
            },
        )
    }
}

/// Serves a call of `lifecycle`.
///
/// # Safety
///
/// `this` must be a live instance of a `T` plugin that nobody else is inside; `arguments` must
/// point to `count` live slices and `reply` to an empty buffer.
#[doc(hidden)]
#[inline]
pub unsafe fn serve_slot<T: Lifecycle>(
    this: *mut c_void,
    arguments: *const Slice,
    count: usize,
    reply: *mut Buffer,
    body: impl FnOnce(&mut Slot<T>, Arguments<'_>) -> Result<Answer, Malformed>,
) -> Status {
    // SAFETY: the caller vouches for the instance and for being alone in it.
    let instance = unsafe { &mut *this.cast::<Instance<T>>() };
    // The thread-local is looked up once, and no guard is needed: `serve` does not unwind.
    let status = CURRENT.with(|current| {
        let previous = current.replace(Arc::as_ptr(&instance.host));
        // SAFETY: the caller vouches for the arguments and the reply.
        let status = unsafe {
            call::serve(arguments, count, reply, |arguments| {
                body(&mut instance.slot, arguments)
            })
        };
        current.set(previous);
        status
    });
    if status == Status::PANICKED {
        // SAFETY: `serve` has just filled the reply.
        unsafe { add_location(&mut *reply) };
    }
    status
}

/// Calls a function of the host that can answer an error.
pub(crate) fn call_host<T>(
    interface: usize,
    function: usize,
    name: &str,
    slices: &[Slice],
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<T> {
    let link = CURRENT.get();
    if link.is_null() {
        return Err(Error::Unavailable(format!(
            "`{name}` was called outside of a call from the host; other threads enter a HostHandle first"
        )));
    }
    // SAFETY: a current link is kept alive by the instance or handle that is being entered.
    let link = unsafe { &*link };
    let Some(callee) = link.function(interface, function) else {
        return Err(Error::Unavailable(format!(
            "this host does not offer `{name}` of contract {}",
            crate::CONTRACT_VERSION
        )));
    };
    let mut reply = Buffer::EMPTY;
    // SAFETY: the function is the host's, called with the context that came with it, live slices
    // and an empty reply.
    let status = unsafe {
        callee(
            link.context.cast_mut(),
            slices.as_ptr(),
            slices.len(),
            &mut reply,
        )
    };
    let result = read_reply(status, name, reply.bytes(), decode);
    // SAFETY: the reply goes back to the host that made it.
    unsafe { (link.release)(reply) };
    result
}

/// Calls a function of the host that always has an answer; where there is no host, the default.
pub(crate) fn call_host_or_default<T: Default>(
    interface: usize,
    function: usize,
    name: &str,
    slices: &[Slice],
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> T {
    call_host(interface, function, name, slices, decode).unwrap_or_default()
}

impl HostLink {
    fn function(&self, interface: usize, function: usize) -> Option<Function> {
        // SAFETY: the host's interfaces are statics of the host.
        self.interfaces[interface].and_then(|interface| unsafe { interface.function(function) })
    }
}

fn read_reply<T>(
    status: Status,
    name: &str,
    reply: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<T> {
    let malformed =
        |Malformed(error)| Error::Failed(format!("`{name}`: unreadable reply: {error}"));
    match status {
        Status::OK | Status::VALUE => decode(reply).map_err(malformed),
        Status::ERROR => Err(call::decode(reply).unwrap_or_else(malformed)),
        _ => Err(Error::Failed(format!(
            "`{name}` failed in the host: {}",
            String::from_utf8_lossy(reply)
        ))),
    }
}

thread_local! {
    /// Where the last panic inside a call happened.
    static PANIC_LOCATION: Cell<Option<String>> = const { Cell::new(None) };
}

/// Panics where the host is current are reported to it, by `serve_slot` or [`HostHandle::enter`];
/// others print as usual.
fn report_panics_to_the_host() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if CURRENT.get().is_null() {
                previous(panic);
            } else {
                PANIC_LOCATION.set(panic.location().map(ToString::to_string));
            }
        }));
    });
}

#[cold]
fn add_location(reply: &mut Buffer) {
    if let Some(location) = PANIC_LOCATION.take() {
        let message = String::from_utf8_lossy(reply.bytes());
        let located = format!("panicked at {location}: {message}").into_bytes();
        let plain = std::mem::replace(reply, Buffer::new(located));
        // SAFETY: `serve` of this library made it.
        unsafe { plain.free() };
    }
}
