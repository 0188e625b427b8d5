//! A native plugin that calls the host as it is told, byte by byte, with arguments that no SDK
//! would pass. `service.invoke` is how it is told; every other function answers that it was
//! cancelled, or the first of the values that it has.
//!
//! It is compiled without dependencies and says the ABI once more in its own words. What is unsafe
//! here rests on one thing: the host keeps the ABI, whatever this plugin makes of it.

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

unsafe impl Sync for Interface {}
unsafe impl Sync for Plugin {}

const OK: i32 = 0;
const VALUE: i32 = 1;
const ERROR: i32 = 2;

struct Puppet {
    host: *const Host,
    context: *const c_void,
}

fn buffer(bytes: Vec<u8>) -> Buffer {
    let mut bytes = std::mem::ManuallyDrop::new(bytes);
    Buffer { data: bytes.as_mut_ptr(), length: bytes.len(), capacity: bytes.capacity() }
}

unsafe fn bytes<'a>(slice: Slice) -> &'a [u8] {
    unsafe { std::slice::from_raw_parts(slice.data, slice.length) }
}

unsafe extern "C" fn create(host: *const Host, context: *const c_void) -> *mut c_void {
    Box::into_raw(Box::new(Puppet { host, context })).cast()
}

unsafe extern "C" fn destroy(this: *mut c_void) {
    let puppet = unsafe { Box::from_raw(this.cast::<Puppet>()) };
    unsafe { ((*puppet.host).release_context)(puppet.context) };
}

unsafe extern "C" fn release(reply: Buffer) {
    if !reply.data.is_null() {
        drop(unsafe { Vec::from_raw_parts(reply.data, reply.length, reply.capacity) });
    }
}

unsafe extern "C" fn fine(_: *mut c_void, _: *const Slice, _: usize, _: *mut Buffer) -> i32 {
    OK
}

/// Answers the error `cancelled`.
unsafe extern "C" fn cancelled(_: *mut c_void, _: *const Slice, _: usize, reply: *mut Buffer) -> i32 {
    unsafe { reply.write(buffer(vec![5])) };
    ERROR
}

/// Answers `ready`, or nothing.
unsafe extern "C" fn first(_: *mut c_void, _: *const Slice, _: usize, reply: *mut Buffer) -> i32 {
    unsafe { reply.write(buffer(vec![0])) };
    VALUE
}

unsafe extern "C" fn invoke(
    this: *mut c_void,
    arguments: *const Slice,
    count: usize,
    reply: *mut Buffer,
) -> i32 {
    let puppet = unsafe { &*this.cast::<Puppet>() };
    let arguments = unsafe { std::slice::from_raw_parts(arguments, count) };
    let answer = unsafe { puppet.call(bytes(arguments[1])) };
    unsafe { reply.write(buffer(list(&answer))) };
    VALUE
}

/// The encoding of a `list<u8>` as a reply: an empty list, and its length and bytes beside it.
fn list(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![0];
    encoded.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    encoded.extend_from_slice(bytes);
    encoded
}

impl Puppet {
    /// Calls the host. The request is interface, function and number of arguments, a byte each,
    /// and of each argument its length in two bytes and the argument. The answer is the status in
    /// four bytes and the reply.
    unsafe fn call(&self, request: &[u8]) -> Vec<u8> {
        let ([interface, function, count], mut rest) = request.split_first_chunk().unwrap();
        let mut slices = Vec::new();
        // In places of their own, which are aligned for any number, and which the host may change.
        let mut places = Vec::new();
        for _ in 0..*count {
            let (length, after) = rest.split_first_chunk::<2>().unwrap();
            let (argument, after) = after.split_at(u16::from_le_bytes(*length).into());
            let mut place = vec![0_u64; argument.len() / 8 + 1];
            let data = place.as_mut_ptr().cast::<u8>();
            unsafe { std::ptr::copy_nonoverlapping(argument.as_ptr(), data, argument.len()) };
            slices.push(Slice { data, length: argument.len() });
            places.push(place);
            rest = after;
        }
        let host = unsafe { &*self.host };
        let interface = unsafe { &*host.interfaces.add((*interface).into()) };
        let function = unsafe { *interface.functions.add((*function).into()) };
        let mut reply = Buffer { data: std::ptr::null_mut(), length: 0, capacity: 0 };
        let context = self.context.cast_mut();
        let status = unsafe { function(context, slices.as_ptr(), slices.len(), &mut reply) };
        let mut answer = status.to_le_bytes().to_vec();
        if !reply.data.is_null() {
            answer.extend_from_slice(unsafe { bytes(Slice { data: reply.data, length: reply.length }) });
        }
        unsafe { (host.release)(reply) };
        answer
    }
}

const fn interface(name: &'static str, functions: &'static [Function]) -> Interface {
    Interface {
        name: Slice { data: name.as_ptr(), length: name.len() },
        functions: functions.as_ptr(),
        count: functions.len(),
    }
}

static INTERFACES: [Interface; 9] = [
    interface("vox:plugin/lifecycle@1.0.0", &[fine, first, cancelled, cancelled, fine]),
    interface("vox:plugin/service@1.0.0", &[invoke]),
    interface("vox:plugin/agent@1.0.0", &[cancelled as Function; 2]),
    interface("vox:plugin/command@1.0.0", &[cancelled as Function; 2]),
    interface("vox:plugin/hook@1.0.0", &[cancelled]),
    interface("vox:plugin/metrics@1.0.0", &[cancelled]),
    interface("vox:plugin/modality@1.0.0", &[first, cancelled]),
    interface("vox:plugin/step@1.0.0", &[cancelled as Function; 2]),
    interface("vox:plugin/storage@1.0.0", &[cancelled as Function; 8]),
];

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
