//! Guests that take memory: in one step and in many, as memories, tables and core instances, and
//! more than their part of what all plugins share.

use vox_contract::LimitName;
use vox_host::{CallError, Error, LoadError};
use vox_testkit::{Guest, World};

use super::{
    assert_crashed, assert_exceeded, attack, attack_with, id, invoke, start, within, world,
};

/// Grows its memory by so many pages at a time, for ever.
fn grows(pages: u32) -> Guest {
    Guest::new().does(
        "invoke",
        &format!(
            "(loop $again (br_if $again
                (i32.ne (memory.grow (i32.const {pages})) (i32.const -1))))
             (i32.const 0)"
        ),
    )
}

#[test]
fn memory_grows_to_the_limit_in_one_step_or_in_many_and_no_further() {
    // 16 MiB are 256 pages.
    assert_exceeded(&attack(&grows(256)), LimitName::Memory);
    assert_exceeded(&attack(&grows(1)), LimitName::Memory);
    let to_the_limit = Guest::new().does(
        "invoke",
        "(if (i32.eq (memory.grow (i32.const 254)) (i32.const -1)) (then unreachable))
         (i32.const 0)",
    );
    attack(&to_the_limit).unwrap();
}

#[test]
fn memory_that_a_guest_bounds_itself_ends_there_without_a_trap() {
    attack(&grows(1).memory("2 4")).unwrap();
}

#[test]
fn memory_that_a_component_begins_with_counts() {
    let world = world(&[("guest", &Guest::new().memory("257"))]);
    let host = world.host("");
    let error = start(&host, "guest").unwrap_err();
    assert!(
        matches!(&error, Error::Exceeded { exceeded, .. } if exceeded.limit() == Some(LimitName::Memory)),
        "{error:?}"
    );
    assert_eq!(host.usage().memory, 0, "what it took is given back");
}

#[test]
fn a_limit_that_the_user_raises_holds_instead() {
    let settings = "[plugin.guest.limits]\nmemory = \"32MiB\"\n";
    assert_exceeded(&attack_with(&grows(100), settings, ""), LimitName::Memory);
    let twenty = Guest::new().does(
        "invoke",
        "(if (i32.eq (memory.grow (i32.const 320)) (i32.const -1)) (then unreachable)) (i32.const 0)",
    );
    assert_exceeded(&attack(&twenty), LimitName::Memory);
    attack_with(&twenty, settings, "").unwrap();
}

#[test]
fn tables_count_as_memory() {
    let guest = |kind: &str, step: u32| {
        Guest::new().with(&format!("(table $table 1 {kind})")).does(
            "invoke",
            &format!(
                "(loop $again (br_if $again (i32.ne (i32.const -1)
                    (table.grow $table (ref.null func) (i32.const {step})))))
                 (i32.const 0)"
            ),
        )
    };
    // In one step, and in many: 8 bytes an element.
    assert_exceeded(&attack(&guest("funcref", 4_000_000)), LimitName::Memory);
    assert_exceeded(&attack(&guest("funcref", 10_000)), LimitName::Memory);
}

#[test]
fn several_memories_count_together() {
    let memories = "(memory 100)".repeat(3);
    let world = world(&[("guest", &Guest::new().with(&memories))]);
    let host = world.host("");
    let error = start(&host, "guest").unwrap_err();
    assert!(
        matches!(&error, Error::Exceeded { exceeded, .. } if exceeded.limit() == Some(LimitName::Memory)),
        "{error:?}"
    );
}

#[test]
fn memories_and_tables_of_many_core_instances_count_together() {
    for item in ["(memory 100)", "(table 1000000 funcref)"] {
        let world = World::new();
        add_with_core_instances(&world, item, 3);
        let host = world.host("");
        let error = start(&host, "guest").unwrap_err();
        assert!(
            matches!(&error, Error::Exceeded { exceeded, .. } if exceeded.limit() == Some(LimitName::Memory)),
            "{error:?}"
        );
        assert_eq!(host.usage().memory, 0);
    }
}

#[test]
fn a_component_is_made_of_a_bounded_number_of_core_instances() {
    let world = World::new();
    add_with_core_instances(&world, "", 40);
    let error = start(&world.host(""), "guest").unwrap_err();
    assert!(error.to_string().contains("count too high"), "{error}");
}

/// Adds a plugin `guest` with so many more core instances of a module with these items.
fn add_with_core_instances(world: &World, items: &str, count: u32) {
    let directory = world.add_guest("guest", &Guest::new());
    let file = directory.join("guest.wasm");
    let mut component = std::fs::read(&file).unwrap();
    let module = wat::parse_str(format!("(module {items})")).unwrap();
    let index = sections(&component).filter(|id| *id == 1).count() as u32;
    append(&mut component, 1, &module);
    let mut instances = Vec::new();
    leb(&mut instances, count);
    for _ in 0..count {
        // Instantiate the module with no arguments.
        instances.push(0);
        leb(&mut instances, index);
        leb(&mut instances, 0);
    }
    append(&mut component, 2, &instances);
    std::fs::write(file, component).unwrap();
}

/// The ids of a component's sections.
fn sections(component: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 8;
    std::iter::from_fn(move || {
        let id = *component.get(at)?;
        let (mut size, mut shift) = (0, 0);
        loop {
            at += 1;
            size |= usize::from(component[at] & 0x7f) << shift;
            shift += 7;
            if component[at] & 0x80 == 0 {
                break;
            }
        }
        at += 1 + size;
        Some(id)
    })
}

fn append(component: &mut Vec<u8>, id: u8, content: &[u8]) {
    component.push(id);
    leb(component, content.len() as u32);
    component.extend_from_slice(content);
}

fn leb(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[test]
fn memory_that_the_limits_do_not_count_is_not_to_be_had() {
    // Shared memory grows past a store's limiter, garbage-collected objects lie outside of linear
    // memory, and exceptions are such objects.
    for item in [
        "(memory 1 2 shared)",
        "(type $pair (struct (field i64) (field i64))) (func (drop (struct.new_default $pair)))",
        "(tag $tag) (func (throw $tag))",
    ] {
        let world = World::new();
        add_with_core_instances(&world, item, 1);
        let error = start(&world.host(""), "guest").unwrap_err();
        assert!(
            matches!(error, Error::Load(LoadError::Malformed { .. })),
            "{item}: {error:?}"
        );
    }
}

#[test]
fn a_greedy_plugin_leaves_another_what_is_kept_for_it() {
    let world = world(&[("greedy", &grows(1)), ("modest", &takes(12))]);
    // Kept for each by weight: 1 MiB of the half of 4 MiB.
    world.settings("[host]\nmemory = \"4MiB\"\n");
    let host = world.host("");
    within(move || {
        // The modest plugin is known, but holds no memory yet.
        drop(start(&host, "modest").unwrap());
        let mut greedy = start(&host, "greedy").unwrap();
        let error = invoke(&mut greedy).unwrap_err();
        assert!(
            matches!(&error, CallError::Exceeded { exceeded, .. } if exceeded.limit().is_none()),
            "{error:?}"
        );
        assert!(
            error.to_string().contains("`memory` under `[host]`"),
            "{error}"
        );

        // Many instances of the greedy plugin take all that is to be had.
        let hoard: Vec<_> = std::iter::from_fn(|| start(&host, "greedy").ok()).collect();
        assert!(hoard.len() > 16);
        let usage = host.status(&id("greedy")).unwrap().usage;
        assert!(usage.memory <= 3 << 20, "{}", usage.memory);
        invoke(&mut start(&host, "modest").unwrap()).unwrap();
    });
}

/// Takes so many pages more, or traps.
fn takes(pages: u32) -> Guest {
    Guest::new().does("invoke", &format!(
        "(if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1)) (then unreachable)) (i32.const 0)"
    ))
}

#[test]
fn a_guest_that_reads_beyond_its_memory_crashes_alone() {
    let guest = Guest::new().does("invoke", "(i32.load (i32.const 0x7fffffff))");
    assert_crashed(&attack(&guest), "out of bounds");
}
