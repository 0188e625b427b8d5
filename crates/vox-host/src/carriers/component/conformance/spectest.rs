//! What scripts expect to find in their host: a few functions, a module, and two resources.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::Module;
use wasmtime::component::{Linker, Resource, ResourceType};

use super::Guarded;

/// The host's first resource.
struct First;
/// The host's second resource.
struct Second;

/// What happened to resources so far.
#[derive(Default)]
struct Drops {
    count: AtomicU32,
    last: AtomicU32,
}

/// Puts the host's side of the scripts into `linker`.
pub(super) fn add_to(linker: &mut Linker<Guarded>) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    linker
        .root()
        .func_wrap("host-return-two", |_, ()| Ok((2_u32,)))?;
    linker
        .root()
        .func_wrap("host-echo-u32", |_, (value,): (u32,)| Ok((value,)))?;

    let mut host = linker.instance("host")?;
    host.func_wrap("return-three", |_, ()| Ok((3_u32,)))?;
    host.func_wrap("return-hi", |_, ()| Ok(("hi".to_owned(),)))?;
    host.instance("nested")?
        .func_wrap("return-four", |_, ()| Ok((4_u32,)))?;
    let module = r#"(module (global (export "g") i32 i32.const 100)
                            (func (export "f") (result i32) i32.const 101))"#;
    let module = wat::parse_str(module).map_err(wasmtime::Error::from)?;
    host.module("simple-module", &Module::new(&engine, module)?)?;

    let drops = Arc::new(Drops::default());
    let seen = Arc::clone(&drops);
    host.resource("resource1", ResourceType::host::<First>(), move |_, rep| {
        seen.count.fetch_add(1, Ordering::SeqCst);
        seen.last.store(rep, Ordering::SeqCst);
        Ok(())
    })?;
    host.resource("resource2", ResourceType::host::<Second>(), |_, _| Ok(()))?;
    // The same type once more; what it is dropped as is decided by the name that was imported.
    host.resource("resource1-again", ResourceType::host::<First>(), |_, _| {
        Err(wasmtime::Error::msg("dropped under its second name"))
    })?;
    host.func_wrap("[constructor]resource1", |_, (rep,): (u32,)| {
        Ok((Resource::<First>::new_own(rep),))
    })?;
    host.func_wrap(
        "[static]resource1.assert",
        |_, (resource, rep): (Resource<First>, u32)| must(resource.rep() == rep, "another rep"),
    )?;
    let seen = Arc::clone(&drops);
    host.func_wrap("[static]resource1.last-drop", move |_, ()| {
        Ok((seen.last.load(Ordering::SeqCst),))
    })?;
    host.func_wrap("[static]resource1.drops", move |_, ()| {
        Ok((drops.count.load(Ordering::SeqCst),))
    })?;
    host.func_wrap(
        "[method]resource1.simple",
        |_, (resource, rep): (Resource<First>, u32)| {
            must(
                !resource.owned() && resource.rep() == rep,
                "not that borrow",
            )
        },
    )?;
    host.func_wrap(
        "[method]resource1.take-borrow",
        |_, (one, other): (Resource<First>, Resource<First>)| {
            must(!one.owned() && !other.owned(), "an own for a borrow")
        },
    )?;
    host.func_wrap(
        "[method]resource1.take-own",
        |_, (one, other): (Resource<First>, Resource<First>)| {
            must(!one.owned() && other.owned(), "not a borrow and an own")
        },
    )
}

/// Fails the script's call unless what the guest passed is as it must be.
fn must(holds: bool, otherwise: &'static str) -> wasmtime::Result<()> {
    if holds {
        Ok(())
    } else {
        Err(wasmtime::Error::msg(otherwise))
    }
}
