//! What a catalogue answers, and what it may not say.

use std::path::Path;

use vox_contract::{Catalog, CatalogPlugin, ExtensionPoint, ManifestError, Need};

const TEXT: &str = r#"
[[plugin]]
id = "exec"
description = "Runs a program as a step"
source = "plugins/exec"
payloads = ["native"]
extension-points = ["step"]
runners = ["exec"]
capabilities = ["process", "stream_io"]

[[plugin]]
id = "redact"
description = "Masks secrets in a text stream"
source = "plugins/redact"
payloads = ["component", "native"]
extension-points = ["stage"]
capabilities = ["stream_io"]

[[plugin]]
id = "hello"
description = "Greets someone; a step further than nothing"
source = "plugins/hello"
payloads = ["component"]
extension-points = ["command"]
commands = ["hello"]

[[distribution]]
name = "full"
description = "All"
extends = "run"
plugins = ["hello", "exec"]

[[distribution]]
name = "base"
description = "Bare"

[[distribution]]
name = "run"
description = "Pipelines"
extends = "base"
plugins = ["exec", "redact"]
"#;

fn catalog() -> Catalog {
    Catalog::parse(TEXT, Path::new("catalog.toml")).unwrap()
}

fn refused(text: &str) -> String {
    Catalog::parse(text, Path::new("catalog.toml"))
        .expect_err("it is refused")
        .to_string()
}

fn ids(plugins: impl IntoIterator<Item = impl std::borrow::Borrow<CatalogPlugin>>) -> Vec<String> {
    plugins
        .into_iter()
        .map(|plugin| plugin.borrow().id.to_string())
        .collect()
}

#[test]
fn a_distribution_has_the_plugins_of_what_it_extends_first_and_none_twice() {
    let catalog = catalog();
    assert_eq!(ids(catalog.distribution("base").unwrap()), [""; 0]);
    assert_eq!(
        ids(catalog.distribution("run").unwrap()),
        ["exec", "redact"]
    );
    assert_eq!(
        ids(catalog.distribution("full").unwrap()),
        ["exec", "redact", "hello"]
    );
}

#[test]
fn an_unknown_distribution_is_an_error_that_names_the_nearest() {
    let error = catalog().distribution("ful").unwrap_err();
    assert!(matches!(error, ManifestError::UnknownDistribution { .. }));
    assert_eq!(
        error.to_string(),
        "catalog.toml: there is no distribution `ful`\n  hint: did you mean `full`?"
    );
}

#[test]
fn providers_are_found_by_what_they_serve() {
    let catalog = catalog();
    let found = |need| ids(catalog.providers_of(need));
    assert_eq!(found(Need::Runner("exec")), ["exec"]);
    assert_eq!(found(Need::Verb("hello")), ["hello"]);
    assert_eq!(
        found(Need::ExtensionPoint(ExtensionPoint::Stage)),
        ["redact"]
    );
    assert_eq!(found(Need::Runner("hello")), [""; 0]);
}

#[test]
fn search_puts_the_best_fit_first_and_wants_every_word() {
    let catalog = catalog();
    assert_eq!(ids(catalog.search("step")), ["exec", "hello"]);
    assert_eq!(ids(catalog.search("Hello")), ["hello"]);
    assert_eq!(ids(catalog.search("stream_io")), ["exec", "redact"]);
    assert_eq!(ids(catalog.search("step program")), ["exec"]);
    assert_eq!(ids(catalog.search("redcat")), ["redact"]);
    assert_eq!(ids(catalog.search("database")), [""; 0]);
    assert_eq!(catalog.search(" ").len(), 3);
}

#[test]
fn distributions_that_extend_each_other_are_refused_with_the_circle() {
    assert_eq!(
        refused(
            &TEXT
                .replace(
                    "description = \"Bare\"",
                    "description = \"\"\nextends = \"full\""
                )
                .replace("description = \"\"", "description = \"Bare\"")
        ),
        "catalog.toml:30:11: distributions extend each other: full -> run -> base -> full\n  \
         hint: remove one `extends`"
    );
    assert_eq!(
        refused("[[distribution]]\nname = \"a\"\ndescription = \"d\"\nextends = \"a\"\n"),
        "catalog.toml:4:11: distributions extend each other: a -> a\n  hint: remove one `extends`"
    );
}

#[test]
fn what_a_catalogue_may_not_say_is_refused_with_its_place() {
    assert_eq!(
        refused(
            "[[plugin]]\nid = \"a\"\ndescription = \"d\"\nsource = \"s\"\npayloads = [\"wasm\"]\n\
             extension-point = []\n[[plugin]]\nid = \"a\"\n\
             [[distribution]]\nname = \"x\"\ndescription = \"d\"\nextends = \"y\"\nplugins = [\"b\"]\n"
        ),
        "catalog.toml:5:13: unknown kind of payload `wasm`\n  \
         hint: use one of `component`, `native`, `skill`\n\
         catalog.toml:6:1: unknown key `extension-point` in `plugin`\n  \
         hint: did you mean `extension-points`?\n\
         catalog.toml:7:1: `description` is missing in `plugin`\n  \
         hint: add `description = \"What it is for\"`\n\
         catalog.toml:7:1: `source` is missing in `plugin`\n  \
         hint: add `source = \"plugins/redact\"`\n\
         catalog.toml:7:1: the plugin has no payloads\n  \
         hint: add `payloads = [\"component\", \"native\"]`\n\
         catalog.toml:8:6: the plugin `a` stands twice in the catalogue\n  \
         hint: remove one of them\n\
         catalog.toml:12:11: there is no distribution `y` to extend\n  hint: did you mean `x`?\n\
         catalog.toml:13:12: the catalogue lists no plugin `b`\n  hint: did you mean `a`?"
    );
}

#[test]
fn the_catalogue_of_vox_is_valid_and_its_largest_distribution_holds_every_plugin_but_those_of_gpus()
{
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalog.toml");
    let catalog = Catalog::load(&file).unwrap_or_else(|error| panic!("{error}"));
    let full = catalog.distribution("vox-full").unwrap();
    let left_out = catalog.plugins.iter().map(|plugin| plugin.id.as_str());
    let left_out = left_out.filter(|id| !full.iter().any(|held| held.id.as_str() == *id));
    // They are built where the toolkit of the GPU is.
    assert_eq!(
        left_out.collect::<Vec<_>>(),
        ["candle-cuda", "candle-metal"]
    );
    assert_eq!(catalog.distribution("vox-base").unwrap().len(), 0);
}
