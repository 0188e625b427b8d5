//! The C ABI of the native carrier: what crosses between the host and a plugin's shared library.
//!
//! A library exports one static, [`ENTRY_SYMBOL`], a [`PluginVtable`]. The host checks its
//! `abi_version` and `size` before it reads anything else, then asks for instances; each instance
//! gets a [`HostVtable`] and a context for the calls in the other direction. Both tables list
//! [`Interface`]s by their contract name, and each interface its functions in contract order.
//!
//! What must stay true:
//!
//! - Every struct here is append-only. A field is never moved, removed or given a new meaning; a
//!   reader looks at `size` (or `count`) before it touches a field that was added later. A change
//!   that cannot be made so raises [`ABI_VERSION`].
//! - Every [`Function`] has one shape. Parameter *i* is `arguments[i]`: the bytes of a `string` or
//!   `list<u8>` as they lie in the caller's memory, valid during the call; a list of other numbers
//!   likewise, aligned as they are (an `exchanged` one is the callee's to change meanwhile); a
//!   number, `bool` or `char` as its little-endian bytes; or the
//!   [postcard](https://postcard.jamesmunns.com/wire-format) encoding of anything else. A reply is
//!   such an encoding; byte lists in it stand beside it, see [`call::Bulk`].
//! - No function unwinds. [`call::serve`] turns a panic into [`Status::PANICKED`].
//! - Memory goes back to who made it: a reply's [`Buffer`] is handed to its maker's `release`.

pub mod call;

use std::ffi::{CStr, c_void};

/// Version of this ABI. A host loads only libraries of its own version.
pub const ABI_VERSION: u32 = 1;

/// Name of the static [`PluginVtable`] that a native plugin exports.
pub const ENTRY_SYMBOL: &CStr = c"VOX_PLUGIN";

/// Borrowed bytes, valid as long as the call or the static that they belong to.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// First byte; never null, dangling when `length` is 0.
    pub data: *const u8,
    /// Number of bytes.
    pub length: usize,
}

impl Slice {
    /// Borrows `bytes`; the caller keeps them alive while the slice is in use.
    #[inline]
    pub const fn new(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            length: bytes.len(),
        }
    }

    /// Borrows numbers as they lie in memory, under the same condition.
    #[inline]
    pub const fn of_numbers<T: Number>(numbers: &[T]) -> Self {
        Self {
            data: numbers.as_ptr().cast(),
            length: size_of_val(numbers),
        }
    }

    /// Lends numbers to a callee that changes them, for one call.
    #[inline]
    pub const fn of_exchanged(numbers: &mut [f32]) -> Self {
        Self {
            data: numbers.as_mut_ptr().cast_const().cast(),
            length: size_of_val(numbers),
        }
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// Whoever made the slice must still keep the bytes alive and unchanged for `'a`.
    #[inline]
    pub const unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: `data` and `length` come from a live slice, by this function's contract.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }
}

/// A type of numbers whose lists cross as they lie in memory: every pattern of bits is a value of it,
/// and none of its bytes is padding.
///
/// # Safety
///
/// Both must be true of the type.
pub unsafe trait Number: Copy {}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        // SAFETY: plain numbers have neither padding nor invalid values.
        unsafe impl Number for $number {}
    )*};
}

numbers!(u16, u32, u64, i8, i16, i32, i64, f32, f64);

/// Owned bytes of a reply. Only the side that filled it may free it.
#[repr(C)]
#[derive(Debug)]
pub struct Buffer {
    data: *mut u8,
    length: usize,
    capacity: usize,
}

impl Buffer {
    /// A buffer that holds nothing and need not be freed.
    pub const EMPTY: Self = Self {
        data: std::ptr::null_mut(),
        length: 0,
        capacity: 0,
    };

    /// Hands `bytes` over to whoever reads the reply.
    #[inline]
    pub fn new(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Self {
            data: bytes.as_mut_ptr(),
            length: bytes.len(),
            capacity: bytes.capacity(),
        }
    }

    /// A reply of one byte, which takes no allocation: most answers are one of a few cases.
    #[inline]
    pub fn of_byte(byte: u8) -> Self {
        static BYTES: [u8; 256] = {
            let mut bytes = [0; 256];
            let mut byte = 0;
            while byte < bytes.len() {
                bytes[byte] = byte as u8;
                byte += 1;
            }
            bytes
        };
        Self {
            data: BYTES[usize::from(byte)..].as_ptr().cast_mut(),
            length: 1,
            capacity: 0,
        }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: a buffer that is not null was made from a vector of this length or from a static,
        // on this side or on the other, and lives until it is released.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }

    /// Frees the bytes.
    ///
    /// # Safety
    ///
    /// The buffer must have been made in this same library, so that its allocator is the one that
    /// frees it.
    #[inline]
    pub unsafe fn free(self) {
        // What has no capacity was not allocated.
        if !self.data.is_null() && self.capacity != 0 {
            // SAFETY: made from a vector with these parts by this library's `new`.
            drop(unsafe { Vec::from_raw_parts(self.data, self.length, self.capacity) });
        }
    }
}

/// How a call ended, and what the reply holds.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i32);

impl Status {
    /// Success without a value; the reply is empty.
    pub const OK: Self = Self(0);
    /// Success; the reply is the postcard encoding of the value.
    pub const VALUE: Self = Self(1);
    /// The function answered an error; the reply is the postcard encoding of the contract's
    /// `error`.
    pub const ERROR: Self = Self(2);
    /// The callee panicked; the reply is the message in UTF-8.
    pub const PANICKED: Self = Self(3);
    /// An argument could not be decoded; the reply says which, in UTF-8.
    pub const MALFORMED: Self = Self(4);
    /// The instance was not initialised.
    pub const UNINITIALISED: Self = Self(5);
}

/// A function of the contract.
///
/// `this` is the instance (plugin side) or the context (host side), `arguments` points to `count`
/// slices, and `reply` to a buffer that is [`Buffer::EMPTY`].
pub type Function = unsafe extern "C" fn(
    this: *mut c_void,
    arguments: *const Slice,
    count: usize,
    reply: *mut Buffer,
) -> Status;

/// The functions of one interface.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// Contract name with version: `vox:plugin/stage@1.0.0`.
    pub name: Slice,
    /// `count` functions, in the order in which the contract lists them.
    pub functions: *const Function,
    /// How many functions there are; a newer minor version of an interface has more.
    pub count: usize,
}

// SAFETY: an interface is a view of statics that are never written.
unsafe impl Sync for Interface {}
// SAFETY: as for `Sync`.
unsafe impl Send for Interface {}

impl Interface {
    /// Describes an interface whose name and functions are static.
    pub const fn new(name: &'static str, functions: &'static [Function]) -> Self {
        Self {
            name: Slice::new(name.as_bytes()),
            functions: functions.as_ptr(),
            count: functions.len(),
        }
    }

    /// The function at `index`, if this interface is new enough to have it.
    ///
    /// # Safety
    ///
    /// `functions` must point to `count` functions that are never unloaded.
    #[inline]
    pub unsafe fn function(&self, index: usize) -> Option<Function> {
        // SAFETY: `index` is in bounds of the `count` functions that the caller vouches for.
        (index < self.count).then(|| unsafe { *self.functions.add(index) })
    }
}

/// What a native plugin exports under [`ENTRY_SYMBOL`].
#[repr(C)]
#[derive(Debug)]
pub struct PluginVtable {
    /// [`ABI_VERSION`] of the SDK that built the plugin.
    pub abi_version: u32,
    /// Size of this struct in bytes, as the plugin knows it.
    pub size: u32,
    /// `interface_count` interfaces that the plugin serves, `lifecycle` among them.
    pub interfaces: *const Interface,
    /// How many interfaces there are.
    pub interface_count: usize,
    /// Makes an instance, not yet initialised. It owns one reference to `context` and gives it
    /// back through `host.release_context` when it no longer calls the host. Null when the
    /// instance could not be made.
    pub create:
        unsafe extern "C" fn(host: *const HostVtable, context: *const c_void) -> *mut c_void,
    /// Ends an instance. It is not used afterwards.
    pub destroy: unsafe extern "C" fn(instance: *mut c_void),
    /// Frees a reply that this plugin made.
    pub release: unsafe extern "C" fn(reply: Buffer),
}

// SAFETY: the table is a static that is never written.
unsafe impl Sync for PluginVtable {}

/// What the host offers to a native plugin.
#[repr(C)]
#[derive(Debug)]
pub struct HostVtable {
    /// [`ABI_VERSION`] of the host.
    pub abi_version: u32,
    /// Size of this struct in bytes, as the host knows it.
    pub size: u32,
    /// `interface_count` host interfaces. Their functions may be called from any thread.
    pub interfaces: *const Interface,
    /// How many interfaces there are.
    pub interface_count: usize,
    /// Frees a reply that the host made.
    pub release: unsafe extern "C" fn(reply: Buffer),
    /// Gives an instance's reference to its context back.
    pub release_context: unsafe extern "C" fn(context: *const c_void),
}

// SAFETY: the table is a static that is never written.
unsafe impl Sync for HostVtable {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout is a promise to libraries that are already built. New fields go to the end, and
    /// their offsets are added here; no number here ever changes.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn layouts_are_those_of_abi_version_1() {
        assert_eq!(ABI_VERSION, 1);
        assert_eq!(
            (
                size_of::<Slice>(),
                size_of::<Buffer>(),
                size_of::<Interface>()
            ),
            (16, 24, 32)
        );
        assert_eq!(std::mem::offset_of!(PluginVtable, size), 4);
        assert_eq!(std::mem::offset_of!(PluginVtable, interfaces), 8);
        assert_eq!(std::mem::offset_of!(PluginVtable, interface_count), 16);
        assert_eq!(std::mem::offset_of!(PluginVtable, create), 24);
        assert_eq!(std::mem::offset_of!(PluginVtable, destroy), 32);
        assert_eq!(std::mem::offset_of!(PluginVtable, release), 40);
        assert_eq!(size_of::<PluginVtable>(), 48);
        assert_eq!(std::mem::offset_of!(HostVtable, interfaces), 8);
        assert_eq!(std::mem::offset_of!(HostVtable, interface_count), 16);
        assert_eq!(std::mem::offset_of!(HostVtable, release), 24);
        assert_eq!(std::mem::offset_of!(HostVtable, release_context), 32);
        assert_eq!(size_of::<HostVtable>(), 40);
    }

    #[test]
    fn a_buffer_gives_back_what_was_put_in() {
        for byte in [0, 1, 255] {
            let buffer = Buffer::of_byte(byte);
            assert_eq!(buffer.bytes(), [byte]);
            // SAFETY: made here.
            unsafe { buffer.free() };
        }
        let buffer = Buffer::new(vec![1, 2, 3]);
        assert_eq!(buffer.bytes(), [1, 2, 3]);
        // SAFETY: made by `new` just above.
        unsafe { buffer.free() };
        assert_eq!(Buffer::EMPTY.bytes(), [0u8; 0]);
    }
}
