//! Answers over real plugins: which backend gives them, and what becomes of one that dies on the way.

use std::fs;

use vox_host::contract::generation::Piece;
use vox_host::contract::inference_backend::{Finish, Model, Options, Prompt, Request, Sampling};
use vox_host::{CancelToken, Host};
use vox_ml::answer::{Answerer, DispatchError, Dispatcher, Said};
use vox_ml::backend::Embeddings;
use vox_probe::{MockProbe, Probe as _};
use vox_testkit::World;

/// Payloads of a plugin, as its manifest writes them.
#[derive(Clone, Copy)]
enum Payload {
    Component,
    Native,
}

/// A world with parrots of these ids, each with its configuration as TOML.
struct Aviary(World);

impl Aviary {
    fn with(parrots: &[(&str, Payload, &str)]) -> Self {
        let world = World::new();
        let from = vox_testkit::plugin("parrot");
        let manifest = fs::read_to_string(from.join("Plugin.toml")).unwrap();
        let mut settings = String::new();
        for (id, payload, config) in parrots {
            let left_out = match payload {
                Payload::Component => "native =",
                Payload::Native => "component =",
            };
            let lines = manifest.lines().filter(|line| !line.starts_with(left_out));
            let manifest = lines
                .map(|line| match line {
                    "id = \"parrot\"" => format!("id = \"{id}\"\n"),
                    line => format!("{line}\n"),
                })
                .collect::<String>();
            let files: Vec<_> = fs::read_dir(&from)
                .unwrap()
                .map(|entry| entry.unwrap())
                .filter(|entry| entry.file_name() != "Plugin.toml")
                .map(|entry| {
                    let name = entry.file_name().into_string().unwrap();
                    (name, fs::read(entry.path()).unwrap())
                })
                .collect();
            let files: Vec<_> = files
                .iter()
                .map(|(name, bytes)| (name.as_str(), &bytes[..]))
                .collect();
            world.add(id, &manifest, &files);
            settings += &format!("[plugin.{id}.config]\n{config}\n");
        }
        fs::write(world.path().join("Vox.toml"), settings).unwrap();
        Self(world)
    }

    fn host(&self) -> Host {
        self.0.host("")
    }
}

fn ask(host: &Host) -> Dispatcher {
    ask_on(host, &MockProbe::cpu())
}

/// On a machine with this hardware.
fn ask_on(host: &Host, probe: &MockProbe) -> Dispatcher {
    ask_for(host, probe, None)
}

/// For a context.
fn ask_for(host: &Host, probe: &MockProbe, context: Option<u32>) -> Dispatcher {
    let model = Model {
        adapter: None,
        name: "seed".to_owned(),
        directory: None,
    };
    let options = Options {
        device: None,
        threads: 0,
        format: None,
        context,
    };
    Dispatcher::ask(host, model, options, None, probe, CancelToken::new()).unwrap()
}

fn request(prompt: &str) -> Request {
    Request {
        prompt: Prompt::Text(prompt.to_owned()),
        answered: String::new(),
        sampling: Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
        },
        max_tokens: 64,
        stop: Vec::new(),
        alternatives: None,
    }
}

/// Answers, with everything that was handed on.
fn answer(
    answerer: &mut Answerer,
    request: &Request,
) -> (Result<vox_ml::answer::Answered, DispatchError>, Vec<Said>) {
    let mut heard = Vec::new();
    let answered = answerer.answer(request, &mut |said| {
        heard.push(said.clone());
        true
    });
    (answered, heard)
}

#[test]
fn both_carriers_answer_token_by_token() {
    for payload in [Payload::Component, Payload::Native] {
        let aviary = Aviary::with(&[("one", payload, "")]);
        let mut answerer = Answerer::load(ask(&aviary.host())).unwrap();
        let (answered, heard) = answer(&mut answerer, &request("polly wants a ß"));
        let answered = answered.unwrap();
        assert_eq!(answered.text, "polly wants a ß");
        assert_eq!(answered.finished.reason, Finish::Stop);
        assert_eq!(answered.finished.answer_tokens, 4);
        let texts: Vec<_> = heard.iter().map(|said| said.text.as_str()).collect();
        assert_eq!(texts, ["polly ", "wants ", "a ", "ß"]);
        let token = |piece: &Option<Piece>| piece.as_ref().and_then(|piece| piece.token);
        assert_eq!(token(&heard[3].piece), Some(4));
        let Embeddings { vectors, tokens } =
            answerer.embed(&["a".to_owned(), "abc".to_owned()]).unwrap();
        assert_eq!(tokens, 4);
        assert_eq!(vectors, [[1.0, -0.5], [3.0, -0.5]]);
    }
}

#[test]
fn where_a_backend_dies_another_goes_on_after_what_was_said() {
    for payload in [Payload::Component, Payload::Native] {
        let aviary = Aviary::with(&[
            ("mortal", payload, "device = \"cuda\"\ndies-before = 2"),
            ("next", payload, ""),
        ]);
        let mut answerer = Answerer::load(ask(&aviary.host())).unwrap();
        assert_eq!(answerer.model().plugin().as_str(), "mortal");
        let (answered, heard) = answer(&mut answerer, &request("one two three four"));
        let answered = answered.unwrap();
        assert_eq!(answered.text, "one two three four");
        assert_eq!(answered.finished.answer_tokens, 4);
        let all: String = heard.iter().map(|said| said.text.as_str()).collect();
        assert_eq!(all, "one two three four");
        assert_eq!(answered.died.len(), 1);
        assert_eq!(answered.died[0].0, "mortal");
        assert!(
            answered.died[0].1.contains("the parrot is no more"),
            "{:?}",
            answered.died
        );
        // The one that goes on answers from now on.
        assert_eq!(answerer.model().plugin().as_str(), "next");
        assert_eq!(answerer.replaced(), 1);
        let considered = &answerer.dispatcher().explanation().considered;
        let chosen: Vec<_> = considered.iter().filter(|entry| entry.chosen).collect();
        assert_eq!(chosen.len(), 1);
        assert_eq!(chosen[0].plugin.as_str(), "next");
    }
}

#[test]
fn tokens_that_were_answered_before_a_death_count() {
    let aviary = Aviary::with(&[
        (
            "mortal",
            Payload::Native,
            "device = \"cuda\"\ndies-before = 2",
        ),
        ("next", Payload::Native, ""),
    ]);
    let mut answerer = Answerer::load(ask(&aviary.host())).unwrap();
    let limited = Request {
        max_tokens: 3,
        ..request("one two three four five")
    };
    let answered = answer(&mut answerer, &limited).0.unwrap();
    assert_eq!(answered.text, "one two three ");
    assert_eq!(answered.finished.reason, Finish::Length);
}

#[test]
fn what_is_left_of_a_character_at_the_end_is_heard_and_is_no_token() {
    let aviary = Aviary::with(&[("one", Payload::Native, "leaves = \"\u{fffd}\"")]);
    let mut answerer = Answerer::load(ask(&aviary.host())).unwrap();
    let limited = Request {
        max_tokens: 2,
        ..request("one two three")
    };
    let (answered, heard) = answer(&mut answerer, &limited);
    let answered = answered.unwrap();
    assert_eq!(answered.text, "one two \u{fffd}");
    assert_eq!(answered.finished.reason, Finish::Length);
    assert_eq!(answered.finished.answer_tokens, 2);
    let said: Vec<_> = heard
        .iter()
        .map(|said| (said.text.as_str(), said.piece.is_some()))
        .collect();
    assert_eq!(said, [("one ", true), ("two ", true), ("\u{fffd}", false)]);
}

#[test]
fn where_every_backend_dies_the_reason_is_told_and_what_was_said_stays_said() {
    let aviary = Aviary::with(&[("mortal", Payload::Native, "dies-before = 1")]);
    let mut answerer = Answerer::load(ask(&aviary.host())).unwrap();
    let (answered, heard) = answer(&mut answerer, &request("one two"));
    let error = answered.unwrap_err().to_string();
    assert!(error.contains("the parrot is no more"), "{error}");
    assert_eq!(heard.len(), 1);
    assert_eq!(answerer.replaced(), 0);
}

#[test]
fn a_request_that_makes_no_sense_is_not_taken_to_another_backend() {
    let aviary = Aviary::with(&[
        ("first", Payload::Native, "device = \"cuda\""),
        ("second", Payload::Native, ""),
    ]);
    let mut answerer = Answerer::load(ask(&aviary.host())).unwrap();
    let senseless = Request {
        prompt: Prompt::Tokens(vec![1]),
        ..request("")
    };
    let error = answer(&mut answerer, &senseless).0.unwrap_err().to_string();
    assert!(error.contains("it repeats texts alone"), "{error}");
    assert_eq!(answerer.model().plugin().as_str(), "first");
}

#[test]
fn a_text_that_ends_the_answer_is_not_handed_on_and_ends_it() {
    // What it says after that comes too late on any machine.
    let aviary = Aviary::with(&[("one", Payload::Native, "deaf = true")]);
    let mut answerer = Answerer::load(ask(&aviary.host())).unwrap();
    let stopping = Request {
        stop: vec!["c d".to_owned()],
        ..request("a b c d e f")
    };
    let (answered, heard) = answer(&mut answerer, &stopping);
    let answered = answered.unwrap();
    assert_eq!(answered.text, "a b ");
    assert_eq!(answered.finished.reason, Finish::Stop);
    assert_eq!(answered.finished.answer_tokens, 4);
    let all: String = heard.iter().map(|said| said.text.as_str()).collect();
    assert_eq!(all, "a b ");
}

#[test]
fn an_answer_ends_at_the_token_after_which_no_more_is_wanted() {
    for payload in [Payload::Component, Payload::Native] {
        let aviary = Aviary::with(&[("one", payload, "")]);
        let mut answerer = Answerer::load(ask(&aviary.host())).unwrap();
        let mut count = 0;
        let answered = answerer.answer(&request("a b c d e f"), &mut |_| {
            count += 1;
            count < 2
        });
        let answered = answered.unwrap();
        assert_eq!(answered.finished.reason, Finish::Cancelled);
        // Nobody hears anything after that.
        assert_eq!((count, answered.text.as_str()), (2, "a b "));
    }
}

#[test]
fn after_an_answer_that_was_cancelled_the_same_backend_gives_another() {
    // The host stops a component itself.
    for (payload, manners) in [
        (Payload::Component, "heedless = true"),
        (Payload::Native, ""),
    ] {
        let endless = format!("device = \"cuda\"\nendless = true\ndeaf = true\n{manners}");
        let aviary = Aviary::with(&[("one", payload, endless.as_str()), ("two", payload, "")]);
        let mut answerer = Answerer::load(ask(&aviary.host())).unwrap();
        let endless = Request {
            max_tokens: u32::MAX,
            ..request("a b")
        };
        for _ in 0..2 {
            let cancel = CancelToken::new();
            answerer.set_cancel(cancel.clone());
            let mut count = 0;
            let answered = answerer.answer(&endless, &mut |_| {
                count += 1;
                if count == 3 {
                    cancel.cancel();
                }
                true
            });
            let error = match answered {
                Err(DispatchError::Backend(error)) => error,
                answered => panic!("it came to an end by itself: {answered:?}"),
            };
            // No other backend was asked to go on with it.
            assert!(!error.is_the_backends(), "{error}");
            assert!(count >= 3, "{count}");
            assert_eq!(answerer.model().plugin().as_str(), "one");
        }
        // Then it has to load its model anew.
        let is_native = matches!(payload, Payload::Native);
        assert_eq!(answerer.model().is_alive(), is_native);
    }
}

#[test]
fn devices_come_in_their_order_and_every_refusal_is_told() {
    let aviary = Aviary::with(&[
        ("cpu", Payload::Native, ""),
        ("gpu", Payload::Native, "device = \"cuda\""),
        (
            "shy",
            Payload::Native,
            "device = \"cuda\"\nrefuses = \"its cage is closed\"",
        ),
    ]);
    let dispatcher = ask(&aviary.host());
    let considered = &dispatcher.explanation().considered;
    let ids: Vec<_> = considered
        .iter()
        .map(|entry| entry.plugin.as_str())
        .collect();
    assert_eq!(ids, ["gpu", "cpu", "shy"]);
    assert!(considered[0].chosen && !considered[1].chosen);
    assert_eq!(considered[2].reason, "its cage is closed");

    let shy = Aviary::with(&[("shy", Payload::Native, "refuses = \"its cage is closed\"")]);
    let error = Answerer::load(ask(&shy.host())).unwrap_err();
    assert!(
        error.to_string().contains("shy: its cage is closed"),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("vox plugin search"));
}

#[test]
fn of_one_kind_the_device_with_the_higher_tier_comes_first_and_cuda_before_metal_before_the_processor()
 {
    let aviary = Aviary::with(&[
        ("far", Payload::Native, "device = \"remote\""),
        ("processor", Payload::Native, ""),
        ("apple", Payload::Native, "device = \"metal:0\""),
        ("old", Payload::Native, "device = \"cuda:0\""),
        ("strange", Payload::Native, "device = \"cuda:7\""),
        ("young", Payload::Native, "device = \"cuda:1\""),
    ]);
    let probe = MockProbe::cpu()
        .with_cuda("Tesla T4", 15 << 30, 7, 5)
        .with_cuda("NVIDIA H200", 140 << 30, 9, 0)
        .with_metal("Apple M3 Max", 48 << 30);
    let mut dispatcher = ask_on(&aviary.host(), &probe);
    let considered = &dispatcher.explanation().considered;
    let order: Vec<_> = considered
        .iter()
        .map(|entry| (entry.plugin.as_str(), entry.tier))
        .collect();
    assert_eq!(
        order,
        [
            ("young", Some(84)),
            ("old", Some(62)),
            ("strange", None),
            ("apple", Some(52)),
            ("processor", Some(12)),
            ("far", None),
        ]
    );
    assert!(considered[0].chosen);
    // They are also loaded in that order.
    assert_eq!(dispatcher.load().unwrap().plugin().as_str(), "young");
    assert_eq!(dispatcher.load().unwrap().plugin().as_str(), "old");
}

#[test]
fn a_backend_says_the_tier_of_a_device_that_the_probe_does_not_find() {
    let aviary = Aviary::with(&[
        // What the probe knows better.
        ("boaster", Payload::Native, "device = \"cpu\"\ntier = 99"),
        ("weak", Payload::Native, "device = \"remote\"\ntier = 5"),
        ("alike", Payload::Native, "device = \"remote\"\ntier = 12"),
        ("far", Payload::Native, "device = \"remote\""),
        (
            "strange",
            Payload::Component,
            "device = \"metal:3\"\ntier = 40",
        ),
        (
            "strong",
            Payload::Component,
            "device = \"remote\"\ntier = 200",
        ),
    ]);
    let dispatcher = ask_on(&aviary.host(), &MockProbe::cpu());
    let considered = &dispatcher.explanation().considered;
    let order: Vec<_> = considered
        .iter()
        .map(|entry| (entry.plugin.as_str(), entry.tier))
        .collect();
    assert_eq!(
        order,
        [
            ("strong", Some(100)),
            ("strange", Some(40)),
            ("boaster", Some(12)),
            ("alike", Some(12)),
            ("weak", Some(5)),
            ("far", None),
        ]
    );
    assert!(considered[0].chosen);
}

#[test]
fn a_context_above_a_backends_own_limit_is_refused_with_both_numbers() {
    let aviary = Aviary::with(&[
        ("any", Payload::Native, ""),
        ("short", Payload::Native, "context = 32"),
    ]);
    let host = aviary.host();
    let serving = |context| {
        let dispatcher = ask_for(&host, &MockProbe::cpu(), context);
        let considered = dispatcher.explanation().considered.clone();
        let serving = considered.iter().filter(|entry| entry.serves).count();
        (serving, considered[1].reason.clone())
    };
    assert_eq!(serving(None).0, 2);
    assert_eq!(serving(Some(32)).0, 2);
    let (count, reason) = serving(Some(33));
    assert_eq!(count, 1);
    assert!(reason.contains("33") && reason.contains("32"), "{reason}");
}

#[test]
fn a_model_that_fits_into_the_machine_and_not_into_the_process_is_refused_with_both_numbers() {
    let aviary = Aviary::with(&[
        (
            "large",
            Payload::Native,
            "needs = 6000000000\navailable = 12000000000",
        ),
        (
            "small",
            Payload::Native,
            "needs = 3000000000\navailable = 12000000000",
        ),
        // It counts with memory of others as well.
        (
            "split",
            Payload::Native,
            "needs = 20000000000\navailable = 12000000000",
        ),
    ]);
    let mut hardware = MockProbe::cpu().probe();
    hardware.memory.available = Some(4_000_000_000);
    hardware.memory.limit_source = Some("/sys/fs/cgroup/memory.max".to_owned());
    let probe = MockProbe::new(hardware);
    let dispatcher = ask_on(&aviary.host(), &probe);
    let considered = &dispatcher.explanation().considered;
    let serving: Vec<_> = considered
        .iter()
        .map(|entry| (entry.plugin.as_str(), entry.serves, entry.available))
        .collect();
    let free = 4_000_000_000;
    assert_eq!(
        serving,
        [
            ("small", true, free),
            ("split", true, free),
            ("large", false, free),
        ]
    );
    let reason = &considered[2].reason;
    for word in ["6000000000", "4000000000", "/sys/fs/cgroup/memory.max"] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
}
