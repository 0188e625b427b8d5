//! The component model's own test scripts, run with the engine and the limits that plugins get.
//!
//! What must stay true: with the engine of [`Runtimes`], at the default stack and at the largest,
//! in stores bounded by [`bounded_store`] (memory, fuel, epochs), components behave as the
//! specification says. What plugins do without on purpose stands in [`LEFT_OUT`], each part with
//! its reason; it is refused, and how much of the scripts needs it is counted.
//!
//! The scripts are interpreted here, and not by the crate `wasmtime-wast`: that crate switches
//! features of wasmtime on (garbage collection, threads, async), so it would test another build
//! than the one which runs plugins, and its stores cannot carry a limiter.

mod script;
mod spectest;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use vox_contract::{EffectiveLimits, LimitName, LimitValue};
use wasmtime::component::Linker;
use wasmtime::{Engine, Store};

use self::script::{Counts, Script};
use super::limiter::Limiter;
use super::{Bounded, Runtimes, Stop, bounded_store};
use crate::account::{Account, MemoryBudget};

/// What a script's stores hold: what bounds a plugin's, without its services.
struct Guarded {
    limiter: Limiter,
}

impl Bounded for Guarded {
    fn limiter(&mut self) -> &mut Limiter {
        &mut self.limiter
    }

    fn may_go_on(&mut self) -> Result<(), Stop> {
        Ok(())
    }
}

/// A store that is bounded as a plugin's is with the default limits.
fn guarded(engine: &Engine) -> Store<Guarded> {
    let limits = EffectiveLimits::default();
    let budget = MemoryBudget::new(limits.memory);
    let account = Arc::new(Account::new(budget.share(1)));
    let limiter = Limiter::new(account, limits);
    bounded_store(engine, Guarded { limiter }, &limits)
}

/// The default of a guest's stack, and the most that a plugin may ask for.
fn stacks() -> [u64; 2] {
    let bytes = |value| match value {
        LimitValue::Bytes(bytes) => bytes.0,
        other => panic!("the stack is limited to {other}"),
    };
    [
        bytes(LimitName::Stack.default()),
        bytes(LimitName::Stack.ceiling()),
    ]
}

/// A part of the format that plugins do without: what scripts need it, and how it is refused.
struct LeftOut {
    /// What the paths of the scripts begin with.
    scripts: &'static [&'static str],
    /// How a command that needs it fails.
    refusal: &'static str,
    /// Why plugins do without it.
    #[expect(dead_code, reason = "for whoever reads the list")]
    reason: &'static str,
}

/// Everything that is left out. A script that needs one of these still runs; only its commands
/// that fail in this way, and those that build on them, are passed over, and they are counted.
const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        scripts: &[
            "specification/async/",
            "specification/binary/binary.wast",
            "specification/validation/indicies.wast",
            "specification/values/variants.wast",
            "specification-then/async/",
            "specification-then/values/trap-in-post-return.wast",
            "wasmtime/component-model/async/",
            "wasmtime/component-model-threading/",
        ],
        refusal: "the component model async feature",
        reason: "`concurrency_support(false)`: calls at half the cost, and the contract is sync",
    },
    LeftOut {
        scripts: &[
            "specification/binary/binary.wast",
            "specification/validation/indicies.wast",
            "specification/async/",
            "wasmtime/component-model-threading/",
        ],
        refusal: "requires the component model threading feature",
        reason: "a proposal that belongs to async",
    },
    LeftOut {
        scripts: &[
            "wasmtime/component-model/async/error-context.wast",
            "wasmtime/component-model/error-context-trap-in-post-return.wast",
        ],
        refusal: "requires the component model error-context feature",
        reason: "a proposal that belongs to async",
    },
    LeftOut {
        scripts: &[
            "specification/async/",
            "specification/values/post-return.wast",
            "wasmtime/component-model/async/",
            "wasmtime/component-model-threading/",
        ],
        refusal: "unexpected token",
        reason: "async and threads, in a notation that is older or newer than the parser's",
    },
    LeftOut {
        scripts: &[
            "specification-then/wasm-tools/instance-type.wast",
            "specification-then/wasm-tools/instantiate.wast",
            "specification/validation/instantiation.wast",
        ],
        refusal: "threads must be enabled for shared memories",
        reason: "wasmtime's `threads` is not built in: an instance has one caller at a time",
    },
    LeftOut {
        scripts: &[
            "specification/validation/instantiation.wast",
            "specification-then/wasm-tools/instantiate.wast",
            "specification-then/wasmtime/modules.wast",
            "wasmtime/component-model/modules.wast",
        ],
        refusal: "gc types are disallowed",
        reason: "wasmtime's `gc` is not built in: no guest toolchain of ours makes use of it",
    },
    LeftOut {
        scripts: &["wasmtime/component-model/gc/"],
        refusal: "requires the `cm-gc` feature",
        reason: "wasmtime's `gc` is not built in",
    },
    LeftOut {
        scripts: &[
            "specification/linking/tags.wast",
            "specification-then/wasm-tools/tags.wast",
            "specification-then/wasmtime/tags.wast",
            "wasmtime/component-model/modules.wast",
            "wasmtime/component-model/tags.wast",
        ],
        refusal: "exceptions proposal not enabled",
        reason: "wasmtime's `gc` is not built in, which exceptions need",
    },
    LeftOut {
        scripts: &[
            "specification-then/wasm-tools/memory64.wast",
            "specification-then/wasm-tools/resources.wast",
        ],
        refusal: "require the `cm64` feature",
        reason: "a proposal; guests are 32-bit",
    },
    LeftOut {
        scripts: &[
            "specification/binary/binary.wast",
            "specification/validation/attributes.wast",
            "specification-then/validation/implements.wast",
            "wasmtime/component-model/implements.wast",
        ],
        refusal: "the `cm-implements` feature is not active",
        reason: "a proposal",
    },
    LeftOut {
        scripts: &[
            "specification/binary/binary.wast",
            "specification/validation/max-value-size.wast",
            "specification/values/concat.wast",
            "wasmtime/component-model/fixed_length_lists.wast",
        ],
        refusal: "require the component model fixed-length lists feature",
        reason: "a proposal",
    },
    LeftOut {
        scripts: &[
            "specification/binary/binary.wast",
            "specification/values/concat.wast",
            "wasmtime/component-model/map-types.wast",
        ],
        refusal: "require the component model map feature",
        reason: "a proposal",
    },
    LeftOut {
        scripts: &["specification/validation/kebab.wast"],
        refusal: "conflicts with previous name",
        reason: "a rule that is newer than wasmtime 48",
    },
    LeftOut {
        scripts: &["specification/async/reentrance.wast"],
        refusal: "cannot enter component instance",
        reason: "allowed since wasmtime 48",
    },
    LeftOut {
        scripts: &["wasmtime/component-model/big-strings.wast"],
        refusal: "the limit `memory` of 16MiB was reached",
        reason: "the script takes 4 GiB, and that limit is there to refuse it",
    },
];

/// All scripts for components, by their names: paths below the root of the scripts, with `/`. One
/// is our own.
fn scripts() -> Vec<(String, PathBuf)> {
    let root = vox_testkit::component_scripts();
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = [
        "specification",
        "specification-then",
        "wasmtime/component-model",
        "wasmtime/component-model-threading",
    ]
    .map(|below| root.join(below))
    .into();
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "wast")
            {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.push((name.replace('\\', "/"), path));
            }
        }
    }
    let own = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/carriers/component/conformance/post_return.wast"
    );
    found.push(("vox/post_return.wast".to_owned(), own.into()));
    found.sort();
    found
}

/// How commands of a script may fail that need what is left out.
fn refusals(name: &str) -> Vec<&'static str> {
    LEFT_OUT
        .iter()
        .filter(|left_out| left_out.scripts.iter().any(|start| name.starts_with(start)))
        .map(|left_out| left_out.refusal)
        .collect()
}

/// Runs every script with a stack of that many bytes; answers what they asserted and which
/// refusals were met.
fn run_all(stack: u64) -> (usize, Counts, BTreeSet<&'static str>) {
    let cache = tempfile::tempdir().unwrap();
    let runtime = Runtimes::new(cache.path()).with_stack(stack).unwrap();
    let engine = runtime.engine();
    let (mut ran, mut counts, mut met) = (0, Counts::default(), BTreeSet::new());
    let mut failed = Vec::new();
    for (name, path) in scripts() {
        let mut linker = Linker::new(engine);
        linker.allow_shadowing(true);
        spectest::add_to(&mut linker).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        ran += 1;
        match Script::new(engine, linker, refusals(&name)).run(&name, &text) {
            Ok(report) => {
                counts.add(report.counts);
                met.extend(report.refused);
            }
            Err(error) => failed.push(error),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {ran} scripts failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    (ran, counts, met)
}

#[test]
fn components_behave_as_specified_at_every_size_of_stack() {
    // Exact, so that nothing drops out unseen; the scripts are pinned by their digests.
    let wanted = Counts {
        components: 628,
        returns: 341,
        traps: 121,
        refusals: 966,
        passed_over: 1212,
    };
    for stack in stacks() {
        let (ran, counts, _) = run_all(stack);
        assert_eq!((ran, counts), (224, wanted), "{stack} bytes of stack");
    }
}

#[test]
fn what_is_left_out_is_refused_and_nothing_is_listed_in_vain() {
    let (_, _, met) = run_all(stacks()[0]);
    let listed: BTreeSet<&str> = LEFT_OUT.iter().map(|left_out| left_out.refusal).collect();
    assert_eq!(met, listed);
}
