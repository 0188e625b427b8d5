//! What a call costs, by either carrier.

use std::hint::black_box;

use vox_contract::Carrier;
use vox_host::contract::{Error, stage::Opening};
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Config, Engine, Store, UpdateDeadline};

use crate::fixture::{Fixture, head, record};
use crate::measure::{alone, in_turns};
use crate::report::Row;

/// The contract as wasmtime alone binds it.
mod raw {
    #![allow(missing_docs, unused_qualifications, clippy::all)]
    wasmtime::component::bindgen!({ path: "../wit", world: "every-plugin" });
}

/// A component call through the host, one record of 64 bytes, against the same call of the same
/// component in wasmtime alone, with the same settings of the engine.
pub fn component(name: &'static str) -> anyhow::Result<Row> {
    let fixture = Fixture::new()?;
    let mut instance = fixture.instance(Carrier::Component)?;
    let mut stage = instance.stage()?;
    let ours = record();

    let mut raw = Raw::new(&fixture.component()?)?;
    let theirs = Raw::record(&ours);
    let (value, peer) = in_turns(
        || stage.open(black_box(&ours)).expect("the plugin takes it"),
        || raw.open(black_box(&theirs)),
    );
    let ratio = value / peer;
    Ok(Row {
        name,
        value,
        unit: "ns",
        peer,
        peer_name: "wasmtime alone",
        ratio,
        goal: "at most 1.2",
        met: ratio <= 1.2,
        detail: None,
    })
}

/// Nanoseconds of a component call through the host.
pub fn component_alone() -> anyhow::Result<f64> {
    let fixture = Fixture::new()?;
    let mut instance = fixture.instance(Carrier::Component)?;
    let mut stage = instance.stage()?;
    let record = record();
    Ok(alone(|| {
        stage.open(black_box(&record)).expect("the plugin takes it")
    }))
}

/// A native call with a small encoded payload, against the component call of it.
pub fn native(name: &'static str) -> anyhow::Result<Row> {
    let fixture = Fixture::new()?;
    let mut native = fixture.instance(Carrier::Native)?;
    let mut component = fixture.instance(Carrier::Component)?;
    let record = record();
    let (mut native, mut component) = (native.stage()?, component.stage()?);
    let (value, peer) = in_turns(
        || {
            native
                .open(black_box(&record))
                .expect("the plugin takes it")
        },
        || {
            component
                .open(black_box(&record))
                .expect("the plugin takes it")
        },
    );
    Ok(Row {
        name,
        value,
        unit: "ns",
        peer,
        peer_name: "the same call of the component",
        ratio: value / peer,
        goal: "at most 150 ns",
        met: value <= 150.0,
        detail: None,
    })
}

/// What a native call with a borrowed slice costs above a direct virtual call.
pub fn native_slice(name: &'static str) -> anyhow::Result<Row> {
    trait Append {
        fn append(&mut self, upload: u64, data: &[u8]) -> Result<(), Error>;
    }
    struct Direct(u64);
    impl Append for Direct {
        fn append(&mut self, _upload: u64, data: &[u8]) -> Result<(), Error> {
            self.0 += data.len() as u64;
            Ok(())
        }
    }
    let fixture = Fixture::new()?;
    let mut instance = fixture.instance(Carrier::Native)?;
    let mut storage = instance.storage()?;
    let mut direct: Box<dyn Append> = black_box(Box::new(Direct(0)));
    let data = vec![7; 4096];
    let (value, peer) = in_turns(
        || {
            storage
                .append(black_box(1), black_box(&data))
                .expect("the plugin takes it")
        },
        || {
            direct
                .append(black_box(1), black_box(&data))
                .expect("it is taken")
        },
    );
    Ok(Row {
        name,
        value,
        unit: "ns",
        peer,
        peer_name: "a virtual call",
        ratio: value / peer,
        goal: "at most 10 ns above",
        met: value - peer <= 10.0,
        detail: None,
    })
}

/// 64 KiB through a stage and out again natively, against one copy of them.
pub fn stage_native_64k(name: &'static str) -> anyhow::Result<Row> {
    let (value, peer) = stage_64k(Carrier::Native)?;
    let ratio = value / peer;
    Ok(Row {
        name,
        value,
        unit: "ns",
        peer,
        peer_name: "memcpy of 64 KiB",
        ratio,
        goal: "below 1: no copy",
        met: ratio < 1.0,
        detail: None,
    })
}

/// 64 KiB through a stage and out again as a component: one copy in and one out at the least.
pub fn stage_component_64k(name: &'static str) -> anyhow::Result<Row> {
    let (value, peer) = stage_64k(Carrier::Component)?;
    let ratio = value / peer;
    Ok(Row {
        name,
        value,
        unit: "ns",
        peer,
        peer_name: "memcpy of 64 KiB",
        ratio,
        goal: "none set",
        met: true,
        detail: None,
    })
}

fn stage_64k(carrier: Carrier) -> anyhow::Result<(f64, f64)> {
    let fixture = Fixture::new()?;
    let mut instance = fixture.instance(carrier)?;
    let mut stage = instance.stage()?;
    let (head, data) = (head(), vec![b'x'; 64 * 1024]);
    let mut copy = vec![0; data.len()];
    Ok(in_turns(
        || {
            stage
                .process(black_box(&head), black_box(&data))
                .expect("the plugin takes it")
        },
        || black_box(&mut copy).copy_from_slice(black_box(&data)),
    ))
}

/// An instance of the component in wasmtime alone.
pub struct Raw {
    store: Store<()>,
    stage: raw::exports::vox::plugin::stage::Guest,
}

/// Makes instances of the component in wasmtime alone.
pub struct Factory {
    pre: InstancePre<()>,
    lifecycle: raw::exports::vox::plugin::lifecycle::GuestIndices,
    stage: raw::exports::vox::plugin::stage::GuestIndices,
    epochs: bool,
}

impl Raw {
    /// With the settings of the engine that Vox has.
    pub fn new(bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Factory::new(bytes, true)?.make())
    }

    /// With nothing that could bound it.
    pub fn bare(bytes: &[u8]) -> anyhow::Result<Self> {
        Ok(Factory::new(bytes, false)?.make())
    }

    /// For many instances, with the settings of the engine that Vox has.
    pub fn factory(bytes: &[u8]) -> anyhow::Result<Factory> {
        Factory::new(bytes, true)
    }

    /// The record as wasmtime's own bindings have it.
    pub fn record(ours: &Opening) -> raw::exports::vox::plugin::stage::Opening {
        raw::exports::vox::plugin::stage::Opening {
            run: ours.run.clone(),
            step: ours.step.clone(),
            arguments: ours.arguments.clone(),
        }
    }

    /// Calls `stage.open`.
    pub fn open(&mut self, record: &raw::exports::vox::plugin::stage::Opening) {
        let answer = self.stage.call_open(&mut self.store, record);
        answer.expect("no trap").expect("the plugin takes it");
    }
}

impl Factory {
    fn new(bytes: &[u8], epochs: bool) -> anyhow::Result<Self> {
        let make = || -> wasmtime::Result<Self> {
            let mut config = Config::new();
            config.concurrency_support(false);
            config.epoch_interruption(epochs);
            let engine = Engine::new(&config)?;
            let component = Component::new(&engine, bytes)?;
            let mut linker = Linker::<()>::new(&engine);
            // The calls that are measured use none of the imports.
            linker.define_unknown_imports_as_traps(&component)?;
            let pre = linker.instantiate_pre(&component)?;
            Ok(Self {
                lifecycle: raw::exports::vox::plugin::lifecycle::GuestIndices::new(&pre)?,
                stage: raw::exports::vox::plugin::stage::GuestIndices::new(&pre)?,
                pre,
                epochs,
            })
        };
        make().map_err(|error| anyhow::anyhow!("{error:#}"))
    }

    /// An initialised instance.
    pub fn make(&self) -> Raw {
        let make = || -> wasmtime::Result<Raw> {
            let mut store = Store::new(self.pre.engine(), ());
            if self.epochs {
                store.set_epoch_deadline(1);
                store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
            }
            let instance = self.pre.instantiate(&mut store)?;
            let lifecycle = self.lifecycle.load(&mut store, &instance)?;
            lifecycle
                .call_init(&mut store, "{}")?
                .map_err(|error| wasmtime::Error::msg(format!("{error:?}")))?;
            let stage = self.stage.load(&mut store, &instance)?;
            Ok(Raw { store, stage })
        };
        make().expect("the component can be instantiated")
    }
}
