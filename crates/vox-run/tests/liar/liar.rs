//! A native plugin that answers what no contract allows. A step says in its arguments how; of its runners
//! one answers no schema at all, and one a schema that is none.
//!
//! It is compiled without dependencies and says the ABI once more in its own words. What is unsafe here
//! rests on one thing: the host keeps the ABI, whatever this plugin answers.

use std::ffi::c_void;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    length: usize,
}

#[repr(C)]
pub struct Buffer {
    data: *mut u8,
    length: usize,
    capacity: usize,
}

type Function = unsafe extern "C" fn(*mut c_void, *const Slice, usize, *mut Buffer) -> i32;

#[repr(C)]
pub struct Interface {
    name: Slice,
    functions: *const Function,
    count: usize,
}

#[repr(C)]
pub struct Plugin {
    abi_version: u32,
    size: u32,
    interfaces: *const Interface,
    interface_count: usize,
    create: unsafe extern "C" fn(*const Host, *const c_void) -> *mut c_void,
    destroy: unsafe extern "C" fn(*mut c_void),
    release: unsafe extern "C" fn(Buffer),
}

#[repr(C)]
pub struct Host {
    abi_version: u32,
    size: u32,
    interfaces: *const Interface,
    interface_count: usize,
    release: unsafe extern "C" fn(Buffer),
    release_context: unsafe extern "C" fn(*const c_void),
}

// SAFETY: what its pointers lead to are constants.
unsafe impl Sync for Interface {}
// SAFETY: as above.
unsafe impl Sync for Plugin {}

const OK: i32 = 0;
const VALUE: i32 = 1;
const ERROR: i32 = 2;

struct Liar {
    host: *const Host,
    context: *const c_void,
}

unsafe extern "C" fn create(host: *const Host, context: *const c_void) -> *mut c_void {
    Box::into_raw(Box::new(Liar { host, context })).cast()
}

unsafe extern "C" fn destroy(this: *mut c_void) {
    // SAFETY: `create` made it, and the host destroys it once.
    let liar = unsafe { Box::from_raw(this.cast::<Liar>()) };
    // SAFETY: the host's table outlives its plugins, and the context is the one that it gave.
    unsafe { ((*liar.host).release_context)(liar.context) };
}

unsafe extern "C" fn release(reply: Buffer) {
    if !reply.data.is_null() {
        // SAFETY: `answer` took the buffer from a `Vec`, and the host gives it back once.
        drop(unsafe { Vec::from_raw_parts(reply.data, reply.length, reply.capacity) });
    }
}

/// Answers bytes. The reply is the one that the host gave with the call.
fn answer(reply: *mut Buffer, status: i32, bytes: &[u8]) -> i32 {
    let mut bytes = std::mem::ManuallyDrop::new(bytes.to_vec());
    let buffer = Buffer { data: bytes.as_mut_ptr(), length: bytes.len(), capacity: bytes.capacity() };
    // SAFETY: the host gives room for a reply with each call.
    unsafe { reply.write(buffer) };
    status
}

/// The first argument.
///
/// # Safety
///
/// They are those of a call with at least one, whose bytes stay as long as the call.
unsafe fn first<'a>(arguments: *const Slice) -> &'a [u8] {
    // SAFETY: there is one.
    let Slice { data, length } = unsafe { *arguments };
    // SAFETY: the host's slices are never null, and stay until the call ends.
    unsafe { std::slice::from_raw_parts(data, length) }
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

unsafe extern "C" fn fine(_: *mut c_void, _: *const Slice, _: usize, _: *mut Buffer) -> i32 {
    OK
}

/// Answers `ready`, or nothing.
unsafe extern "C" fn ready(_: *mut c_void, _: *const Slice, _: usize, reply: *mut Buffer) -> i32 {
    answer(reply, VALUE, &[0])
}

unsafe extern "C" fn schema(
    _: *mut c_void,
    arguments: *const Slice,
    _: usize,
    reply: *mut Buffer,
) -> i32 {
    // SAFETY: the function takes one argument.
    match unsafe { first(arguments) } {
        // The letters of a text are UTF-8.
        b"mumbler" => answer(reply, VALUE, &[2, 0xff, 0xfe]),
        b"poet" => answer(reply, VALUE, b"\x04rose"),
        _ => answer(reply, VALUE, b"\x02{}"),
    }
}

/// An outcome is a number, a text and a list; all of them are zero where it is nothing but well.
unsafe extern "C" fn run(
    _: *mut c_void,
    arguments: *const Slice,
    _: usize,
    reply: *mut Buffer,
) -> i32 {
    // SAFETY: the function takes one argument.
    let invocation = unsafe { first(arguments) };
    let is_told = |how: &str| contains(invocation, &format!("\"answer\":\"{how}\""));
    if is_told("nothing") {
        OK
    } else if is_told("garbage") {
        answer(reply, VALUE, &[0xff; 16])
    } else if is_told("too little") {
        answer(reply, VALUE, &[0, 0])
    } else if is_told("too much") {
        answer(reply, VALUE, &[0, 0, 0, 9])
    } else if is_told("no text") {
        answer(reply, VALUE, &[0, 2, 0xff, 0xfe, 0])
    } else if is_told("a length of 4 GiB") {
        answer(reply, VALUE, &[0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0])
    } else if is_told("no error") {
        answer(reply, ERROR, &[0xff; 3])
    } else if is_told("no status") {
        answer(reply, 77, &[])
    } else {
        answer(reply, VALUE, &[0, 0, 0])
    }
}

const fn interface(name: &'static str, functions: &'static [Function]) -> Interface {
    Interface {
        name: Slice { data: name.as_ptr(), length: name.len() },
        functions: functions.as_ptr(),
        count: functions.len(),
    }
}

static INTERFACES: [Interface; 2] = [
    interface("vox:plugin/lifecycle@1.0.0", &[fine, ready, fine, fine, fine]),
    interface("vox:plugin/step@1.0.0", &[schema, run]),
];

// SAFETY: the host looks for a plugin's table under this name, and it is one.
#[unsafe(no_mangle)]
pub static VOX_PLUGIN: Plugin = Plugin {
    abi_version: 1,
    size: size_of::<Plugin>() as u32,
    interfaces: INTERFACES.as_ptr(),
    interface_count: INTERFACES.len(),
    create,
    destroy,
    release,
};
