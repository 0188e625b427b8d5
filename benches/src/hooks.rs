//! What it costs to ask a chain of hooks.

use std::hint::black_box;

use vox_contract::{Carrier, HookPoint};
use vox_host::contract::hook::Event;
use vox_host::hooks::{Answer, HookChain, HookOptions, HookSource, Occasion};

use crate::fixture::Fixture;
use crate::measure::in_turns;
use crate::report::Row;

/// Hooks of the chain.
const HOOKS: usize = 10;

/// Ten hooks that do nothing, by components.
pub fn component(name: &'static str) -> anyhow::Result<Row> {
    chain(name, Carrier::Component, 10_000.0, "under 10 us")
}

/// Ten hooks that do nothing, natively.
pub fn native(name: &'static str) -> anyhow::Result<Row> {
    chain(name, Carrier::Native, 2_000.0, "under 2 us")
}

/// A chain of ten hooks against ten calls of one hook, with the same event.
fn chain(
    name: &'static str,
    carrier: Carrier,
    limit: f64,
    goal: &'static str,
) -> anyhow::Result<Row> {
    let fixture = Fixture::new()?;
    let mut source = HookSource::new("bench-plugin".parse()?);
    source.carrier = Some(carrier);
    let mut options = HookOptions::default();
    options.run = "01K9Z6W3Q8F4V5N7R2T1".to_owned();
    let sources = std::iter::repeat_n(source, HOOKS);
    let chain = HookChain::open(fixture.host(), sources, &options)?;
    let occasion = Occasion {
        step: "summarise-chapters",
        detail: r#"{"port":"out"}"#,
        ..Occasion::default()
    };
    let event = Event {
        point: HookPoint::OnMetrics.to_string(),
        run: options.run.clone(),
        step: occasion.step.to_owned(),
        timestamp: 0,
        detail: occasion.detail.to_owned(),
    };
    let mut alone = fixture.instance(carrier)?;
    let mut hook = alone.hook()?;
    let (value, peer) = in_turns(
        || {
            let answer = chain.ask(&HookPoint::OnMetrics, black_box(&occasion), &mut |notice| {
                panic!("{notice}")
            });
            assert_eq!(answer, Answer::Continue, "the hooks do nothing");
        },
        || {
            for _ in 0..HOOKS {
                let answer = hook.handle(black_box(&event), &[]);
                black_box(answer.expect("the plugin takes it"));
            }
        },
    );
    Ok(Row {
        name,
        value,
        unit: "ns",
        peer,
        peer_name: "ten calls of one hook",
        ratio: value / peer,
        goal,
        met: value < limit,
        detail: None,
    })
}
