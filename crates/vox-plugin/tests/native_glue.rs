//! The native glue against a host made by hand: what crosses the C ABI, who frees what, and what
//! happens to panics. No library is loaded here, so the whole of it runs under Miri:
//! `cargo +nightly miri test -p vox-plugin --test native_glue`.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use vox_plugin::native::HostHandle;
use vox_plugin::stage::Opening;
use vox_plugin::storage::Entry;
use vox_plugin::vox_abi::call::{self, Answer, Encoded, Scalar};
use vox_plugin::vox_abi::{
    ABI_VERSION, Buffer, Function, HostVtable, Interface, PluginVtable, Slice, Status,
};
use vox_plugin::{ChunkHead, Error, Result, Stage, Storage, host, plugin};

/// Pushes what it gets, keeps objects, and panics on request.
#[plugin(stage, storage)]
#[derive(Default)]
struct Subject {
    appended: Vec<u8>,
}

impl Stage for Subject {
    fn open(&mut self, opening: Opening) -> Result<()> {
        match opening.arguments.as_str() {
            "panic" => panic!("told to: {}", opening.step),
            "thread" => {
                let handle = HostHandle::current().expect("a call is going on");
                let worker = std::thread::spawn(move || handle.enter(|| host::config::get("key")));
                let value = worker.join().expect("the thread does not panic");
                Err(Error::Failed(value.unwrap_or_default()))
            }
            "thread-panic" => {
                let handle = HostHandle::current().expect("a call is going on");
                let worker = std::thread::spawn(move || handle.enter(|| panic!("in a thread")));
                let panicked = worker.join().is_err();
                Err(Error::Failed(panicked.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn process(&mut self, head: ChunkHead, data: &[u8]) -> Result<()> {
        host::stream::push("out", &head, data, Some(7))
    }

    fn finish(&mut self) -> Result<()> {
        host::kv::set("no", b"such interface")
    }
}

impl Storage for Subject {
    fn stat(&mut self, key: &str) -> Result<Option<u64>> {
        Ok((key == "known").then_some(self.appended.len() as u64))
    }

    fn read(&mut self, _key: &str, offset: u64, length: u32) -> Result<Vec<u8>> {
        Ok(self.appended[offset as usize..][..length as usize].to_vec())
    }

    fn begin(&mut self, key: &str) -> Result<u64> {
        Err(Error::NotFound(key.to_owned()))
    }

    fn append(&mut self, _upload: u64, data: &[u8]) -> Result<()> {
        self.appended.extend_from_slice(data);
        Ok(())
    }

    fn commit(&mut self, _upload: u64) -> Result<()> {
        Ok(())
    }

    fn abort(&mut self, _upload: u64) -> Result<()> {
        Ok(())
    }

    fn remove(&mut self, _key: &str) -> Result<bool> {
        Ok(true)
    }

    fn enumerate(&mut self, prefix: &str, _after: &str, limit: u32) -> Result<Vec<Entry>> {
        Ok((0..limit)
            .map(|number| Entry {
                key: format!("{prefix}{number}"),
                size: 1,
            })
            .collect())
    }
}

/// What the host by hand remembers.
#[derive(Default)]
struct Context {
    /// Address and bytes of what was pushed.
    pushed: Mutex<Vec<(usize, Vec<u8>)>>,
    /// Messages of log records.
    logged: Mutex<Vec<String>>,
}

/// References to contexts that were given back.
static RELEASED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn push(
    this: *mut c_void,
    arguments: *const Slice,
    count: usize,
    reply: *mut Buffer,
) -> Status {
    // SAFETY: the glue calls with its context, `count` live slices and an empty reply.
    unsafe {
        let context = &*this.cast::<Context>();
        call::serve(arguments, count, reply, |arguments| {
            assert_eq!(arguments.text(0)?, "out");
            let head: ChunkHead = arguments.value(1)?;
            let data = arguments.bytes(2)?;
            assert_eq!(arguments.value::<Option<u32>>(3)?, Some(7));
            if head.sequence == 99 {
                return Ok(Answer::error(&Error::TimedOut("full".to_owned())));
            }
            context
                .pushed
                .lock()
                .unwrap()
                .push((data.as_ptr() as usize, data.to_vec()));
            Ok(Answer::Unit)
        })
    }
}

unsafe extern "C" fn config_get(
    _: *mut c_void,
    arguments: *const Slice,
    count: usize,
    reply: *mut Buffer,
) -> Status {
    // SAFETY: as for `push`.
    unsafe {
        call::serve(arguments, count, reply, |arguments| {
            Ok(Answer::value(&Some(format!(
                "value of {}",
                arguments.text(0)?
            ))))
        })
    }
}

unsafe extern "C" fn log_write(
    this: *mut c_void,
    arguments: *const Slice,
    count: usize,
    reply: *mut Buffer,
) -> Status {
    // SAFETY: as for `push`.
    unsafe {
        let context = &*this.cast::<Context>();
        call::serve(arguments, count, reply, |arguments| {
            let message = arguments.text(1)?.to_owned();
            context.logged.lock().unwrap().push(message);
            Ok(Answer::Unit)
        })
    }
}

unsafe extern "C" fn release(reply: Buffer) {
    // SAFETY: this library made it: the test and the glue share an allocator.
    unsafe { reply.free() };
}

unsafe extern "C" fn release_context(context: *const c_void) {
    RELEASED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the one reference that `create` was given.
    drop(unsafe { Arc::from_raw(context.cast::<Context>()) });
}

static OFFERED: [Interface; 3] = [
    Interface::new("vox:plugin/config@1.0.0", &[config_get as Function]),
    Interface::new("vox:plugin/log@1.0.0", &[log_write as Function]),
    Interface::new("vox:plugin/stream@1.0.0", &[push as Function]),
];

static HOST: HostVtable = HostVtable {
    abi_version: ABI_VERSION,
    size: size_of::<HostVtable>() as u32,
    interfaces: OFFERED.as_ptr(),
    interface_count: OFFERED.len(),
    release,
    release_context,
};

/// The plugin's table, as a host finds it.
fn vtable() -> &'static PluginVtable {
    unsafe extern "Rust" {
        #[link_name = "VOX_PLUGIN"]
        safe static TABLE: PluginVtable;
    }
    &TABLE
}

/// An instance with the context that it was given.
struct Instance {
    this: *mut c_void,
    context: Arc<Context>,
}

impl Instance {
    fn new() -> Self {
        let context = Arc::<Context>::default();
        let given = Arc::into_raw(Arc::clone(&context));
        // SAFETY: the table is this crate's own, the context one reference.
        let this = unsafe { (vtable().create)(&HOST, given.cast()) };
        assert!(!this.is_null());
        Self { this, context }
    }

    fn started() -> Self {
        let instance = Self::new();
        assert_eq!(
            instance.call("lifecycle", 0, &[Slice::new(b"{}")]).0,
            Status::OK
        );
        instance
    }

    fn call(&self, interface: &str, function: usize, arguments: &[Slice]) -> (Status, Vec<u8>) {
        let table = vtable();
        // SAFETY: the table's interfaces are statics of this crate.
        let interfaces =
            unsafe { std::slice::from_raw_parts(table.interfaces, table.interface_count) };
        let name = format!("vox:plugin/{interface}@1.0.0");
        let interface = interfaces
            .iter()
            // SAFETY: names are statics.
            .find(|interface| unsafe { interface.name.bytes() } == name.as_bytes())
            .expect("the interface is exported");
        let mut reply = Buffer::EMPTY;
        // SAFETY: a live instance, live slices, an empty reply, and one caller.
        let status = unsafe {
            let function = interface.function(function).expect("the function is there");
            function(self.this, arguments.as_ptr(), arguments.len(), &mut reply)
        };
        let bytes = reply.bytes().to_vec();
        // SAFETY: given back to its maker.
        unsafe { (table.release)(reply) };
        (status, bytes)
    }

    fn open(&self, arguments: &str) -> (Status, Vec<u8>) {
        let opening = Opening {
            run: "r".into(),
            step: "s".into(),
            arguments: arguments.into(),
        };
        self.call("stage", 0, &[Encoded::new(&opening).slice()])
    }

    fn process(&self, sequence: u64, data: &[u8]) -> (Status, Vec<u8>) {
        let head = ChunkHead {
            modality: "text".into(),
            sequence,
            timestamp: 0,
            attributes: vec![],
        };
        self.call("stage", 1, &[Encoded::new(&head).slice(), Slice::new(data)])
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: live, nobody inside, not used afterwards.
        unsafe { (vtable().destroy)(self.this) };
    }
}

/// The contract's error in a reply.
fn error(reply: &[u8]) -> Error {
    call::decode(reply).unwrap_or_else(|call::Malformed(text)| panic!("{text}"))
}

#[test]
fn a_slice_reaches_the_plugin_and_the_host_again_without_a_copy() {
    let instance = Instance::started();
    let data = vec![5; 1000];
    assert_eq!(instance.process(1, &data).0, Status::OK);
    let pushed = instance.context.pushed.lock().unwrap();
    assert_eq!(pushed.as_slice(), [(data.as_ptr() as usize, data.clone())]);
}

#[test]
fn values_and_errors_cross_in_both_directions() {
    let instance = Instance::started();
    let upload = 3_u64.to_bytes();
    assert_eq!(
        instance
            .call("storage", 3, &[Slice::new(&upload), Slice::new(b"abcdef")])
            .0,
        Status::OK
    );
    let (status, reply) = instance.call("storage", 0, &[Slice::new(b"known")]);
    assert_eq!(
        (status, call::decode::<Option<u64>>(&reply).ok()),
        (Status::VALUE, Some(Some(6)))
    );
    let (status, reply) = instance.call(
        "storage",
        1,
        &[
            Slice::new(b"k"),
            Slice::new(&2_u64.to_bytes()),
            Slice::new(&3_u32.to_bytes()),
        ],
    );
    assert_eq!(
        (status, call::decode_bulk::<Vec<u8>>(&reply).ok()),
        (Status::VALUE, Some(b"cde".to_vec()))
    );
    let (status, reply) = instance.call("storage", 2, &[Slice::new(b"key")]);
    assert_eq!(
        (status, error(&reply)),
        (Status::ERROR, Error::NotFound("key".into()))
    );
    let (status, reply) = instance.process(99, b"x");
    assert_eq!(
        (status, error(&reply)),
        (Status::ERROR, Error::TimedOut("full".into()))
    );
}

#[test]
fn an_interface_that_the_host_lacks_is_unavailable() {
    let instance = Instance::started();
    let (status, reply) = instance.call("stage", 2, &[]);
    assert_eq!(status, Status::ERROR);
    assert!(matches!(error(&reply), Error::Unavailable(text) if text.contains("kv.set")));
}

#[test]
fn a_panic_is_caught_with_its_message_and_place() {
    let instance = Instance::started();
    let (status, reply) = instance.open("panic");
    assert_eq!(status, Status::PANICKED);
    let text = String::from_utf8(reply).unwrap();
    assert!(
        text.contains("native_glue.rs:") && text.ends_with(": told to: s"),
        "{text}"
    );
}

#[test]
fn an_instance_that_was_not_initialised_says_so() {
    let instance = Instance::new();
    assert_eq!(instance.open("").0, Status::UNINITIALISED);
    let (status, reply) = instance.call("lifecycle", 4, &[]);
    assert_eq!(status, Status::ERROR);
    assert!(matches!(error(&reply), Error::Unavailable(_)));
}

#[test]
fn malformed_arguments_are_refused_before_the_plugin_sees_them() {
    let instance = Instance::started();
    for arguments in [&[][..], &[Slice::new(&[0xff; 3])], &[Slice::new(b"")]] {
        assert_eq!(instance.call("stage", 0, arguments).0, Status::MALFORMED);
    }
    assert_eq!(
        instance.call("storage", 0, &[Slice::new(&[0xff])]).0,
        Status::MALFORMED
    );
    assert_eq!(
        instance
            .call("storage", 3, &[Slice::new(b"123"), Slice::new(b"")])
            .0,
        Status::MALFORMED
    );
}

#[test]
fn another_thread_reaches_the_host_through_a_handle() {
    let instance = Instance::started();
    let (status, reply) = instance.open("thread");
    assert_eq!(
        (status, error(&reply)),
        (Status::ERROR, Error::Failed("value of key".into()))
    );
}

#[test]
fn a_panic_in_a_thread_of_the_plugin_is_logged_and_goes_on() {
    let instance = Instance::started();
    let (_, reply) = instance.open("thread-panic");
    assert_eq!(error(&reply), Error::Failed("true".into()));
    let logged = instance.context.logged.lock().unwrap();
    assert!(
        matches!(&logged[..], [text] if text.contains("native_glue.rs:") && text.ends_with(": in a thread")),
        "{logged:?}"
    );
}

#[test]
fn outside_of_a_call_the_host_is_unavailable() {
    assert!(HostHandle::current().is_none());
    assert!(matches!(host::kv::get("k"), Err(Error::Unavailable(_))));
    assert_eq!(host::config::get("k"), None);
    assert!(!host::cancel::should_cancel());
}

#[test]
fn the_context_is_given_back_once() {
    let before = RELEASED.load(Ordering::SeqCst);
    let instance = Instance::started();
    let context = Arc::clone(&instance.context);
    assert_eq!(Arc::strong_count(&context), 3);
    drop(instance);
    assert_eq!(Arc::strong_count(&context), 1);
    assert!(RELEASED.load(Ordering::SeqCst) > before);
}

#[test]
fn a_host_of_another_abi_gets_no_instance() {
    for (abi_version, size) in [
        (ABI_VERSION + 1, size_of::<HostVtable>() as u32),
        (ABI_VERSION, 8),
    ] {
        let other = HostVtable {
            abi_version,
            size,
            interfaces: ptr::null(),
            interface_count: 0,
            release,
            release_context,
        };
        // SAFETY: the table is read by its version and size only; the context is not taken.
        assert!(unsafe { (vtable().create)(&other, ptr::null()) }.is_null());
    }
}
