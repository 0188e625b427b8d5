//! What a host promises to those who use it: laziness, choice, grants, cancellation, and calls
//! between plugins.

use std::fs;
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};
use vox_contract::Carrier;
use vox_host::contract::step::{Invocation, Outcome};
use vox_host::{CallError, Host, Instance, InstanceOptions};
use vox_testkit::{Recorder, World};

fn conformance(host: &Host, carrier: Carrier, recorder: &Arc<Recorder>) -> Instance {
    let mut options = recorder.options();
    options.carrier = Some(carrier);
    host.instance(&"conformance".parse().unwrap(), options)
        .unwrap()
}

fn invocation(arguments: &Value) -> Invocation {
    Invocation {
        run: "run".into(),
        step: "step".into(),
        runner: "conformance".into(),
        arguments: arguments.to_string(),
        environment: vec![],
        directory: "/".into(),
        attempt: 1,
        idempotency_key: "key".into(),
        inputs: vec![],
        outputs: vec![],
        input_files: vec![],
        output_files: vec![],
    }
}

fn run(instance: &mut Instance, arguments: Value) -> Result<Outcome, CallError> {
    instance.step().unwrap().run(&invocation(&arguments))
}

#[test]
fn opening_a_host_touches_no_payload() {
    let world = World::with(&["conformance", "hello"]);
    for id in ["conformance", "hello"] {
        let directory = world.directories().installed().join(id).join("0.1.0");
        for payload in fs::read_dir(directory).unwrap().flatten() {
            if payload.file_name() != "Plugin.toml" {
                fs::write(payload.path(), "not a payload at all").unwrap();
            }
        }
    }
    let host = world.host("");
    assert!(host.findings().is_empty());
    assert_eq!(host.selection().len(), 2);
}

#[test]
fn the_component_is_the_default_and_settings_and_options_choose_otherwise() {
    let world = World::with(&["hello"]);
    let hello = "hello".parse().unwrap();
    let carrier = |host: &Host, options| host.instance(&hello, options).unwrap().carrier_kind();
    assert_eq!(
        carrier(&world.host(""), InstanceOptions::default()),
        Carrier::Component
    );
    world.settings("[plugin.hello]\nprefer = \"native\"\n");
    let host = world.host("");
    assert_eq!(carrier(&host, InstanceOptions::default()), Carrier::Native);
    let mut options = InstanceOptions::default();
    options.carrier = Some(Carrier::Component);
    assert_eq!(carrier(&host, options), Carrier::Component);
}

#[test]
fn settings_configure_a_plugin_and_options_replace_members() {
    let world = World::with(&["conformance"]);
    world.settings("[plugin.conformance.config]\ncondition = \"from the project\"\n");
    let host = world.host("");
    let condition = |options| {
        let mut instance = host
            .instance(&"conformance".parse().unwrap(), options)
            .unwrap();
        instance.call_json("lifecycle.health", vec![]).unwrap()
    };
    assert_eq!(
        condition(InstanceOptions::default()),
        json!({"Degraded": "from the project"})
    );
    let mut options = InstanceOptions::default();
    options
        .config
        .insert("condition".into(), json!("from the call"));
    assert_eq!(condition(options), json!({"Degraded": "from the call"}));
}

#[test]
fn a_warm_start_takes_the_compiled_component_from_the_cache() {
    let world = World::with(&["hello"]);
    let cache = tempfile::tempdir().unwrap();
    let mut directories = world.directories().clone();
    directories.cache = cache.path().to_owned();
    let entries = || {
        let engines = fs::read_dir(cache.path().join("components"))
            .unwrap()
            .flatten();
        let entries = engines.flat_map(|engine| fs::read_dir(engine.path()).unwrap().flatten());
        entries
            .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
            .collect::<Vec<_>>()
    };
    let start = || {
        let host = Host::open(directories.clone(), Default::default()).unwrap();
        host.instance(&"hello".parse().unwrap(), InstanceOptions::default())
            .unwrap();
    };
    start();
    let cold = entries();
    assert_eq!(cold.len(), 1);
    start();
    assert_eq!(entries(), cold, "nothing was compiled or written again");

    // An entry that was cut off is compiled anew, and repaired.
    let whole = fs::read(&cold[0].0).unwrap();
    fs::remove_file(&cold[0].0).unwrap();
    fs::write(&cold[0].0, &whole[..whole.len() / 2]).unwrap();
    start();
    assert_eq!(fs::read(&cold[0].0).unwrap().len(), whole.len());
}

#[test]
fn nothing_is_granted_by_default_and_a_refusal_says_how_to_grant() {
    let world = World::with(&["conformance"]);
    let host = world.host("");
    let recorder = Recorder::new();
    let deeds = [
        (json!({"do": "kv", "key": "k", "value": "v"}), "kv"),
        (json!({"do": "copy"}), "stream_io"),
        (
            json!({"do": "emit", "name": "n", "payload": "{}"}),
            "events",
        ),
        (json!({"do": "blob", "id": "b"}), "blob"),
        (json!({"do": "vsa", "dimensions": 8}), "vsa_ops"),
        (
            json!({"do": "call", "plugin": "hello", "function": "f", "arguments": "[]"}),
            "plugin_call",
        ),
        (json!({"do": "topics", "topic": "t"}), "topics"),
    ];
    for carrier in Carrier::ALL {
        let mut instance = conformance(&host, carrier, &recorder);
        for (deed, capability) in &deeds {
            let error = run(&mut instance, deed.clone()).unwrap_err().to_string();
            let wanted = format!("`{capability}");
            assert!(
                error.contains(&wanted)
                    && error.contains("` is not granted; grant it with")
                    && error.contains("vox plugin grant conformance"),
                "{error}"
            );
        }
        // Always granted, and the refusals did the instance no harm.
        run(&mut instance, json!({"do": "log", "message": "m"})).unwrap();
        run(&mut instance, json!({"do": "config", "key": "k"})).unwrap();
        assert!(recorder.take().is_empty());
    }
}

#[test]
fn a_scoped_grant_covers_its_scope_only() {
    let world = World::with(&["conformance"]);
    let host = world.host("[plugin.conformance]\ntopics = [\"news.*\"]\n");
    let mut instance = conformance(&host, Carrier::Component, &Recorder::new());
    run(
        &mut instance,
        json!({"do": "topics", "topic": "news.sport"}),
    )
    .unwrap();
    let error = run(&mut instance, json!({"do": "topics", "topic": "mail"})).unwrap_err();
    assert!(error.to_string().contains("topics=mail"), "{error}");
}

#[test]
fn values_outlive_the_host_and_pass_from_one_carrier_to_the_other() {
    let world = World::with(&["conformance"]);
    let grants = "[plugin.conformance]\nkv = true\n";
    let mut native = conformance(&world.host(grants), Carrier::Native, &Recorder::new());
    run(&mut native, json!({"do": "keep", "key": "k", "value": "v"})).unwrap();
    drop(native);
    let mut component = conformance(&world.host(grants), Carrier::Component, &Recorder::new());
    let outcome = run(&mut component, json!({"do": "keep", "key": "k"})).unwrap();
    assert_eq!(outcome.attributes[0].value, "Some([118])");
}

#[test]
fn cancelling_stops_a_guest_that_asks_and_one_that_does_not() {
    let world = World::with(&["conformance"]);
    let host = world.host("[plugin.conformance]\nevents = true\n");
    let cancelled = |carrier, deed: Value| {
        let recorder = Recorder::new();
        let working = recorder.listen();
        let mut options = recorder.options();
        options.carrier = Some(carrier);
        let cancel = options.cancel.clone();
        let mut instance = host
            .instance(&"conformance".parse().unwrap(), options)
            .unwrap();
        let call = thread::spawn(move || (run(&mut instance, deed), instance.is_alive()));
        assert_eq!(working.recv().unwrap(), "working");
        cancel.cancel();
        call.join().unwrap()
    };
    for carrier in Carrier::ALL {
        let (outcome, alive) = cancelled(carrier, json!({"do": "until-cancelled"}));
        match carrier {
            Carrier::Native => assert_eq!(outcome.unwrap().code, 130),
            // A guest that computes may be stopped before it asks.
            Carrier::Component => assert!(
                matches!(
                    &outcome,
                    Ok(Outcome { code: 130, .. }) | Err(CallError::Cancelled { .. })
                ),
                "{outcome:?} {alive}"
            ),
        }
    }
    let (outcome, alive) = cancelled(Carrier::Component, json!({"do": "spin"}));
    assert!(
        matches!(outcome, Err(CallError::Cancelled { .. })),
        "{outcome:?}"
    );
    assert!(!alive);
}

#[test]
fn a_guest_that_overflows_its_stack_is_stopped_alone_and_the_limit_is_named() {
    let world = World::with(&["conformance"]);
    let host = world.host("");
    let mut instance = conformance(&host, Carrier::Component, &Recorder::new());
    let error = run(&mut instance, json!({"do": "recurse"})).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CallError::Exceeded { .. }), "{error:?}");
    assert!(
        text.contains("the limit `stack` of 64KiB was reached"),
        "{text}"
    );
    let mut other = conformance(&host, Carrier::Component, &Recorder::new());
    run(&mut other, json!({"do": "echo"})).unwrap();
}

#[test]
fn plugins_reach_each_other_by_id_and_by_service_but_not_in_a_circle() {
    let world = World::with(&["conformance", "hello"]);
    let host =
        world.host("[plugin.conformance]\nplugin_call = true\n[plugin.hello]\nstream_io = true\n");
    for carrier in Carrier::ALL {
        let mut instance = conformance(&host, carrier, &Recorder::new());
        let call = |target: &str, name: &str, function: &str| json!({"do": "call", target: name, "function": function, "arguments": "[\"hello\"]"});
        let outcome = run(&mut instance, call("plugin", "hello", "command.describe")).unwrap();
        assert!(outcome.attributes[0].value.contains("Greets someone"));
        let circle = run(&mut instance, call("service", "reverse", "service.invoke")).unwrap_err();
        assert!(
            circle
                .to_string()
                .contains("in a circle: conformance → conformance"),
            "{circle}"
        );
        let several = run(&mut instance, call("point", "command", "command.describe")).unwrap_err();
        assert!(
            several.to_string().contains("conformance, hello"),
            "{several}"
        );
    }
}

#[test]
fn a_plugin_cannot_shut_down_another_nor_learn_of_any_without_a_grant() {
    let world = World::with(&["conformance", "hello"]);
    let allowed = world.host("[plugin.conformance]\nplugin_call = true\n");
    let denied = world.host("");
    for carrier in Carrier::ALL {
        let mut instance = conformance(&allowed, carrier, &Recorder::new());
        let shutdown = json!({"do": "call", "plugin": "hello", "function": "lifecycle.shutdown", "arguments": "[]"});
        let error = run(&mut instance, shutdown).unwrap_err().to_string();
        assert!(error.contains("for the host alone"), "{error}");

        let mut instance = conformance(&denied, carrier, &Recorder::new());
        for target in ["point", "service"] {
            let probe = json!({"do": "call", target: "command", "function": "command.describe", "arguments": "[]"});
            let error = run(&mut instance, probe).unwrap_err().to_string();
            assert!(error.contains("`plugin_call` is not granted"), "{error}");
            assert!(!error.contains("hello"), "{error}");
        }
    }
}

#[test]
fn a_call_that_does_not_fit_says_what_would() {
    let world = World::with(&["conformance"]);
    let mut instance = conformance(&world.host(""), Carrier::Native, &Recorder::new());
    let mut error = |function: &str, arguments: Value| {
        instance
            .call_json(function, arguments.as_array().cloned().unwrap())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("stage.fold", json!([])),
        "`stage.fold` is no function of the contract; `stage` has open, process, finish"
    );
    assert!(error("stages", json!([])).contains("one of lifecycle, step, stage"));
    assert_eq!(
        error("stage.process", json!([])),
        "0 given, but the function takes 2 argument(s): head, data"
    );
    assert!(error("stage.process", json!([{}, "x"])).starts_with("argument `head`: missing field"));
}

/// A cache that others may write to could hold anything: nothing is taken from it.
#[test]
fn compiled_code_is_not_taken_from_where_others_may_write() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::with(&["hello"]);
    let cache = tempfile::tempdir().unwrap();
    let mut directories = world.directories().clone();
    directories.cache = cache.path().to_owned();
    let start = || {
        let host = Host::open(directories.clone(), Default::default()).unwrap();
        host.instance(&"hello".parse().unwrap(), InstanceOptions::default())
            .map(drop)
    };
    start().unwrap();
    let engine = fs::read_dir(cache.path().join("components"))
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    let entry = fs::read_dir(&engine)
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    // Were this read, the process would run or refuse it; it is neither looked at nor replaced.
    fs::write(&entry, "planted").unwrap();
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o777)).unwrap();
    start().unwrap();
    assert_eq!(fs::read(&entry).unwrap(), b"planted");
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o700)).unwrap();
    start().unwrap();
    assert_ne!(fs::read(&entry).unwrap(), b"planted", "one's own is mended");
}
