//! What a manifest may not say: each refusal with its file, line, column and hint.

use std::path::Path;

use vox_contract::Manifest;

const HEAD: &str = "id = \"a\"\nversion = \"1.0.0\"\ndescription = \"d\"\nhost = \"^0.1\"\n";
const PAYLOAD: &str =
    "payload = { component = \"a.wasm\", native = { linux-x86_64 = \"a.so\" } }\n";
const STAGE: &str = "[provides]\nextension-points = { stage = 1 }\n";

/// The rendered refusal of a manifest.
#[track_caller]
fn refused(text: &str) -> String {
    let error = Manifest::parse(text, Path::new("p/Plugin.toml")).expect_err("it is refused");
    assert_eq!(error.file(), Path::new("p/Plugin.toml"));
    assert_eq!(error.source_text(), text);
    error.to_string()
}

/// The refusal of a manifest that is whole but for `line`, written as line 6.
#[track_caller]
fn refused_line(line: &str) -> String {
    refused(&format!("{HEAD}{PAYLOAD}{line}\n{STAGE}"))
}

/// The refusal of a manifest that is whole but for `[provides]`, whose first key is in line 7.
#[track_caller]
fn refused_provides(provides: &str) -> String {
    refused(&format!("{HEAD}{PAYLOAD}[provides]\n{provides}\n"))
}

#[test]
fn text_that_is_not_toml() {
    assert_eq!(
        refused("id = \"a\"\nversion = \n"),
        "p/Plugin.toml:2:11: not valid TOML: string values must be quoted, expected literal string"
    );
    assert_eq!(
        refused("id = \"a\"\nid = \"b\"\n"),
        "p/Plugin.toml:2:1: not valid TOML: duplicate key"
    );
}

#[test]
fn an_empty_manifest() {
    assert_eq!(
        refused(""),
        "p/Plugin.toml:1:1: `id` is missing\n  hint: add `id = \"my-plugin\"`\n\
         p/Plugin.toml:1:1: `version` is missing\n  hint: add `version = \"0.1.0\"`\n\
         p/Plugin.toml:1:1: `description` is missing\n  hint: add `description = \"What it is for\"`\n\
         p/Plugin.toml:1:1: `host` is missing\n  hint: add `host = \"^0.1\"`\n\
         p/Plugin.toml:1:1: `payload` is missing\n  \
         hint: add `[payload]` with `component = \"my_plugin.wasm\"`"
    );
}

#[test]
fn an_unknown_key() {
    assert_eq!(
        refused_line("licence = \"MIT\""),
        "p/Plugin.toml:6:1: unknown key `licence`\n  hint: did you mean `license`?"
    );
    assert_eq!(
        refused_line("limits = { memmory = \"1MiB\", colour = 1 }"),
        "p/Plugin.toml:6:12: unknown key `memmory` in `limits`\n  hint: did you mean `memory`?\n\
         p/Plugin.toml:6:30: unknown key `colour` in `limits`\n  \
         hint: use one of `memory`, `cpu`, `stack`, `kv`, `instances`, `call-depth`, \
         `hook-depth`, `dependencies`, `log-rate`, `event-rate`, `message`, `result`, \
         `resources`"
    );
}

#[test]
fn a_bad_id() {
    let grammar = "lower-case letters, digits, single `-` and `.` between them, each part \
                   starting with a letter";
    assert_eq!(
        refused(&format!(
            "{}{PAYLOAD}{STAGE}",
            HEAD.replace("\"a\"", "\"My_Plugin\"")
        )),
        format!(
            "p/Plugin.toml:1:6: plugin id `My_Plugin` contains a capital letter\n  \
             hint: write `my-plugin`: {grammar}"
        )
    );
    assert_eq!(
        refused(&format!(
            "{}{PAYLOAD}{STAGE}",
            HEAD.replace("\"a\"", "\"../..\"")
        )),
        format!(
            "p/Plugin.toml:1:6: plugin id `../..` contains a character that is not allowed\n  \
             hint: use {grammar}"
        )
    );
}

#[test]
fn a_bad_version_and_a_bad_host_range() {
    let head = HEAD.replace("1.0.0", "1.0").replace("^0.1", "0.1 or so");
    assert_eq!(
        refused(&format!("{head}{PAYLOAD}{STAGE}")),
        "p/Plugin.toml:2:11: `1.0` is not a version: unexpected end of input while parsing minor \
         version number\n  \
         hint: write major.minor.patch, such as `0.1.0`\n\
         p/Plugin.toml:4:8: `0.1 or so` is not a range of versions: expected comma after minor \
         version number, found 'o'\n  \
         hint: write for example `^1.2`, `>=0.1, <0.2` or `*`"
    );
}

#[test]
fn values_of_the_wrong_kind() {
    assert_eq!(
        refused_line("authors = \"me\"\nrequires = 1\nname = [\"a\"]\ndependencies = { x = 1 }"),
        "p/Plugin.toml:6:11: `authors` must be an array, not a string\n\
         p/Plugin.toml:7:12: `requires` must be a table, not a whole number\n\
         p/Plugin.toml:8:8: `name` must be a string, not an array\n\
         p/Plugin.toml:9:22: `x` must be a string, not a whole number"
    );
}

#[test]
fn an_empty_provides() {
    for provides in ["", "provides = {}\n", "[provides]\n"] {
        let line = if provides.is_empty() { "1:1" } else { "6:" };
        let text = refused(&format!("{HEAD}{PAYLOAD}{provides}"));
        assert!(text.starts_with(&format!("p/Plugin.toml:{line}")), "{text}");
        assert!(
            text.ends_with(
                ": the plugin provides nothing\n  \
                 hint: say what it serves: `[provides]` with `extension-points = { stage = 1 }`"
            ),
            "{text}"
        );
    }
    assert_eq!(
        refused_provides("runners = []\nextension-points = {}"),
        "p/Plugin.toml:6:2: the plugin provides nothing\n  \
         hint: say what it serves: `[provides]` with `extension-points = { stage = 1 }`"
    );
}

#[test]
fn white_space_in_a_runner_name() {
    assert_eq!(
        refused_provides("extension-points = { step = 1 }\nrunners = [\"run it\"]"),
        "p/Plugin.toml:8:12: runner name `run it` contains white space\n  \
         hint: write `run-it`: lower-case letters, digits, single `-` and `.` between them, each \
         part starting with a letter"
    );
}

#[test]
fn a_duplicate_verb() {
    assert_eq!(
        refused_provides(
            "extension-points = { command = 1 }\ncommands = [\n  \
             { verb = \"hello\", summary = \"a\" },\n  { verb = \"hello\", summary = \"b\" },\n]"
        ),
        "p/Plugin.toml:10:12: the verb `hello` stands twice in `commands`\n  \
         hint: remove one of them"
    );
}

#[test]
fn other_duplicates() {
    assert_eq!(
        refused_provides(
            "extension-points = { step = 1, hook = 1, service = 1 }\nrunners = [\"x\", \"x\"]\n\
             hooks = [{ point = \"pre_step\" }, { point = \"pre_step\", priority = 1 }]\n\
             topics = [\"a.b\", \"a.b\"]\nservices = [\"s\", \"s\"]"
        ),
        "p/Plugin.toml:8:17: `x` stands twice in `runners`\n  hint: remove one of them\n\
         p/Plugin.toml:9:44: the hook point `pre_step` stands twice in `hooks`\n  \
         hint: remove one of them\n\
         p/Plugin.toml:10:18: `a.b` stands twice in `topics`\n  hint: remove one of them\n\
         p/Plugin.toml:11:18: `s` stands twice in `services`\n  hint: remove one of them"
    );
}

#[test]
fn names_without_their_extension_point() {
    assert_eq!(
        refused_provides(
            "runners = [\"x\"]\ncommands = [{ verb = \"v\", summary = \"s\" }]\n\
             hooks = [{ point = \"on_error\" }]\nservices = [\"s\"]"
        ),
        "p/Plugin.toml:7:1: `runners` needs the extension point `step`\n  \
         hint: add `step = 1` to `extension-points`\n\
         p/Plugin.toml:8:1: `commands` needs the extension point `command`\n  \
         hint: add `command = 1` to `extension-points`\n\
         p/Plugin.toml:9:1: `hooks` needs the extension point `hook`\n  \
         hint: add `hook = 1` to `extension-points`\n\
         p/Plugin.toml:10:1: `services` needs the extension point `service`\n  \
         hint: add `service = 1` to `extension-points`"
    );
}

#[test]
fn what_is_said_of_a_runner_that_is_not_served() {
    assert_eq!(
        refused_provides(
            "extension-points = { step = 1 }\nrunners = [\"x\"]\nports = { y = {} }\n\
             declared-environment = [\"x\", \"z\"]"
        ),
        "p/Plugin.toml:9:1: `ports` names `y`, which is not among `runners`\n  \
         hint: add it there, or remove it here\n\
         p/Plugin.toml:10:1: `declared-environment` names `z`, which is not among `runners`\n  \
         hint: add it there, or remove it here"
    );
}

#[test]
fn an_extension_point_that_nothing_could_reach() {
    assert_eq!(
        refused_provides("extension-points = { step = 1 }"),
        "p/Plugin.toml:7:1: the extension point `step` is served, and `runners` names nothing\n  \
         hint: add `runners = [...]`, or remove `step`: nothing could reach it"
    );
}

#[test]
fn an_unknown_extension_point_or_revision() {
    assert_eq!(
        refused_provides(
            "extension-points = { stag = 1, metrics = 0, storage = -1, modality = \"1\" }"
        ),
        "p/Plugin.toml:7:22: unknown extension point `stag`\n  hint: did you mean `stage`?\n\
         p/Plugin.toml:7:42: revisions are counted from 1\n  hint: write `metrics = 1`\n\
         p/Plugin.toml:7:55: `revision` cannot be -1: it is out of range\n\
         p/Plugin.toml:7:70: `revision` must be a whole number, not a string"
    );
}

#[test]
fn an_extension_point_that_no_component_can_serve() {
    assert_eq!(
        refused(&format!(
            "{HEAD}payload = {{ component = \"a.wasm\" }}\n\
             provides = {{ extension-points = {{ ml-backend = 1 }} }}\n"
        )),
        "p/Plugin.toml:6:35: the extension point `ml-backend` can only be served by a native \
         library\n  \
         hint: add a `native` payload, or remove the extension point"
    );
}

#[test]
fn an_unknown_hook_point_and_a_bad_topic() {
    assert_eq!(
        refused_provides(
            "extension-points = { hook = 1 }\nhooks = [{ point = \"pre-step\" }, { priority = 1 }]\n\
             topics = [\"a..b\", \"*\"]"
        ),
        "p/Plugin.toml:8:20: unknown hook point `pre-step`\n  hint: did you mean `pre_step`?\n\
         p/Plugin.toml:8:34: `point` is missing in `hooks`\n  hint: add `point = \"pre_step\"`\n\
         p/Plugin.toml:9:11: `a..b` is not a topic\n  \
         hint: write words of letters, digits, `-` and `_` joined by dots, such as \
         `wordstat.counts`, or `wordstat.*` for all below one\n\
         p/Plugin.toml:9:19: `*` is not a topic\n  \
         hint: write words of letters, digits, `-` and `_` joined by dots, such as \
         `wordstat.counts`, or `wordstat.*` for all below one"
    );
}

#[test]
fn bad_capabilities() {
    assert_eq!(
        refused(&format!(
            "{HEAD}{PAYLOAD}{STAGE}\
             [[capabilities]]\nname = \"netwerk\"\nreason = \"r\"\n\
             [[capabilities]]\nname = \"kv\"\nscope = [\"x\"]\nreason = \" \"\n\
             [[capabilities]]\nname = \"network\"\nscope = [\"a\", \"a\", \"\"]\n\
             [[capabilities]]\nname = \"events\"\nreason = \"r\"\n\
             [[capabilities]]\nname = \"events\"\nreason = \"r\"\n"
        )),
        "p/Plugin.toml:9:8: unknown capability `netwerk`\n  hint: did you mean `network`?\n\
         p/Plugin.toml:13:1: the capability `kv` has no scope\n  \
         hint: remove `scope`: it is granted as a whole\n\
         p/Plugin.toml:14:10: `reason` is empty\n  hint: write something, or leave it out\n\
         p/Plugin.toml:15:1: `reason` is missing in `capabilities`\n  \
         hint: add `reason = \"why the user should grant it\"`\n\
         p/Plugin.toml:17:15: `a` stands twice in `scope`\n  hint: remove one of them\n\
         p/Plugin.toml:17:20: an entry of `scope` is empty\n  hint: remove it\n\
         p/Plugin.toml:22:8: the capability `events` is asked for twice\n  \
         hint: ask once, with all that is wanted in its `scope`"
    );
}

#[test]
fn no_payload() {
    for payload in ["[payload]\n", "[payload]\nnative = {}\n"] {
        assert_eq!(
            refused(&format!("{HEAD}{payload}{STAGE}")),
            "p/Plugin.toml:5:1: there is no payload\n  \
             hint: name at least one file: `component`, `native` or `skill`"
        );
    }
}

#[test]
fn payload_paths_that_leave_the_directory() {
    let hint = "\n  hint: name a file in the plugin's directory, with `/` between folders";
    for (path, fault) in [
        ("../a.wasm", "leads out of the plugin's directory"),
        ("x/../../a.wasm", "leads out of the plugin's directory"),
        ("/etc/passwd", "is not relative"),
        ("C:/a.wasm", "has a character that not every system allows"),
        ("a//b", "has an empty part"),
        ("./a", "has an empty part"),
        ("", "is empty"),
    ] {
        assert_eq!(
            refused(&format!(
                "{HEAD}payload = {{ component = \"{path}\" }}\n{STAGE}"
            )),
            format!("p/Plugin.toml:5:25: the path `{path}` {fault}{hint}")
        );
    }
    assert_eq!(
        refused(&format!("{HEAD}payload = {{ skill = 'a\\b' }}\n")),
        format!(
            "p/Plugin.toml:5:21: the path `a\\\\b` has a character that not every system allows{hint}"
        )
    );
}

#[test]
fn unknown_platforms() {
    assert_eq!(
        refused(&format!(
            "{HEAD}[payload.native]\nlinux-amd64 = \"a.so\"\nlinux = \"b.so\"\n\
             [requires]\nos = [\"linx\"]\narch = [\"arm64\"]\n{STAGE}"
        )),
        format!(
            "p/Plugin.toml:6:1: unknown architecture `amd64`\n  hint: it is called `x86_64` here\n\
             p/Plugin.toml:7:1: unknown platform `linux`\n  \
             hint: write system and processor, such as `{}`\n\
             p/Plugin.toml:9:7: unknown operating system `linx`\n  hint: did you mean `linux`?\n\
             p/Plugin.toml:10:9: unknown architecture `arm64`\n  \
             hint: it is called `aarch64` here",
            vox_contract::Platform::current()
        )
    );
}

#[test]
fn a_bad_library() {
    assert_eq!(
        refused_line("requires = { libraries = [{ version = \"12.x\" }] }"),
        "p/Plugin.toml:6:27: `name` is missing in `libraries`\n  hint: add `name = \"cudart\"`\n\
         p/Plugin.toml:6:39: `12.x` is not the version of a library\n  \
         hint: write numbers joined by dots, such as `12.0`"
    );
}

#[test]
fn a_skill_that_provides_something() {
    assert_eq!(
        refused(&format!(
            "{HEAD}payload = {{ skill = \"SKILL.md\" }}\n{STAGE}"
        )),
        "p/Plugin.toml:6:2: a skill serves no extension point, runner, verb, hook, topic or \
         service\n  \
         hint: remove `[provides]`, or add a `component` or `native` payload"
    );
}

#[test]
fn bad_dependencies_and_conflicts() {
    assert_eq!(
        refused_line(
            "dependencies = { a = \"*\", B = \"1\", c = \"one\" }\nconflicts = { a = \"*\" }"
        ),
        "p/Plugin.toml:6:18: `a` names itself in `dependencies`\n  hint: remove it\n\
         p/Plugin.toml:6:27: plugin id `B` contains a capital letter\n  \
         hint: write `b`: lower-case letters, digits, single `-` and `.` between them, each part \
         starting with a letter\n\
         p/Plugin.toml:6:40: `one` is not a range of versions: unexpected character 'o' while \
         parsing major version number\n  \
         hint: write for example `^1.2`, `>=0.1, <0.2` or `*`\n\
         p/Plugin.toml:7:15: `a` names itself in `conflicts`\n  hint: remove it"
    );
}

#[test]
fn bad_limits() {
    assert_eq!(
        refused_line("limits = { memory = \"16MB\", cpu = \"0.1s\", stack = \"0B\", kv = 1 }"),
        "p/Plugin.toml:6:21: `16MB` is not a number of bytes\n  \
         hint: write a whole number and one of B, KiB, MiB, GiB, such as `16MiB`\n\
         p/Plugin.toml:6:35: `0.1s` is not an amount of processor time\n  \
         hint: write a whole number and one of ns, us, ms, s, such as `100ms`, or `unlimited`\n\
         p/Plugin.toml:6:51: `stack` cannot be nothing\n  \
         hint: write what is needed, or leave it out\n\
         p/Plugin.toml:6:62: `kv` must be a string, not a whole number"
    );
}

#[test]
fn limits_of_nothing_where_nothing_would_work() {
    assert_eq!(
        refused_line("limits = { instances = 0, call-depth = -1, kv = \"0B\", log-rate = 0 }"),
        "p/Plugin.toml:6:24: `instances` cannot be nothing\n  \
         hint: write what is needed, or leave it out\n\
         p/Plugin.toml:6:40: `call-depth` cannot be -1: it is out of range"
    );
}

#[test]
fn a_hook_that_may_take_too_long_or_would_stop_what_cannot_be_stopped() {
    assert_eq!(
        refused_provides(
            "extension-points = { hook = 1 }\nhooks = [{ point = \"pre_step\", timeout = \"0s\" }, \
             { point = \"post_step\", timeout = \"61s\" },\n\
             { point = \"on_error\", on-failure = \"closed\" },\n\
             { point = \"pre_fusion\", on-failure = \"shut\" }]"
        ),
        "p/Plugin.toml:8:42: `timeout` cannot be nothing\n  hint: leave it out for 1s\n\
         p/Plugin.toml:8:83: `timeout` cannot be longer than 60s\n  hint: leave it out for 1s\n\
         p/Plugin.toml:9:36: at `on_error` nothing can be stopped\n  hint: leave `on-failure` out\n\
         p/Plugin.toml:10:38: unknown policy `shut`\n  hint: use one of `open`, `closed`"
    );
}

#[test]
fn a_bad_license_and_homepage() {
    assert_eq!(
        refused_line("license = \"MIT/Apache-2.0\"\nhomepage = \"example.org\""),
        "p/Plugin.toml:6:11: `MIT/Apache-2.0` is not a license expression: `MIT/Apache-2.0` is no \
         license id\n  \
         hint: write SPDX ids joined by AND or OR, such as `Apache-2.0 OR MIT`\n\
         p/Plugin.toml:7:12: `example.org` is not a web address\n  \
         hint: write it in full, such as `https://example.org/redact`"
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = "id = \"A B\"\nverison = \"1\"\ndescription = \"\"\nhost = \"^0.1\"\n";
    let error = Manifest::parse(text, Path::new("Plugin.toml")).unwrap_err();
    let lines: Vec<(usize, usize)> = error
        .problems()
        .iter()
        .map(|problem| (problem.line, problem.column))
        .collect();
    assert_eq!(lines, [(1, 1), (1, 1), (1, 6), (2, 1), (3, 15)]);
    let misspelt = &error.problems()[3];
    assert_eq!(&text[misspelt.span.clone()], "verison");
    assert_eq!(misspelt.hint.as_deref(), Some("did you mean `version`?"));
}
