//! The page on limits: those of plugins from the contract's table, and the host's own from the
//! constants that set them, with what their documentation says.

use std::fmt::Write as _;

use anyhow::Context;

use vox_contract::{HookEntry, LimitName, PluginSettings};

use super::{Page, cell};
use crate::workspace::{Workspace, read};

/// Where the host's own limits are set: the file, and the names of the constants in it.
const LIMITS: &[(&str, &[&str])] = &[
    ("crates/vox-contract/src/document.rs", &["MAX_FILE_BYTES"]),
    ("crates/vox-contract/src/names.rs", &["MAX_NAME_BYTES"]),
    (
        "crates/vox-contract/src/skill.rs",
        &["MAX_DESCRIPTION_CHARS"],
    ),
    (
        "crates/vox-host/src/install/archive.rs",
        &["MAX_BYTES", "MAX_ENTRIES", "MAX_PATH_BYTES"],
    ),
    ("crates/vox-host/src/services/kv.rs", &["MAX_KEY"]),
    (
        "crates/vox-host/src/services/topics.rs",
        &["QUEUE", "QUEUE_BYTES"],
    ),
    (
        "crates/vox-host/src/signing/listing.rs",
        &["MAX_SIGNATURE_FILE_BYTES"],
    ),
    ("crates/vox-ml/src/data/lines.rs", &["MAX_LINE_BYTES"]),
    ("crates/vox-ml/src/data/source.rs", &["MAX_PASSAGE_BYTES"]),
    ("crates/vox-ml/src/data/template/mod.rs", &["FUEL"]),
    (
        "crates/vox-remote/src/server.rs",
        &["LONGEST_ANSWER", "LONGEST_ERROR"],
    ),
    ("crates/vox-run/src/cache/artifact.rs", &["MAX_DEPTH"]),
    (
        "crates/vox-run/src/engine/built_in/agent.rs",
        &["MESSAGES", "AGENTS"],
    ),
    ("crates/vox-run/src/engine/built_in/unfuse.rs", &["MEMORY"]),
    ("crates/vox-run/src/plan/check.rs", &["MAX_KEY_BYTES"]),
    ("crates/vox-run/src/plan/matrix.rs", &["MAX_MATRIX_STEPS"]),
    (
        "crates/vox-run/src/ports/channel.rs",
        &["CAPACITY", "CAPACITY_BYTES"],
    ),
    ("crates/vox-run/src/ports/mask.rs", &["SHORTEST_SECRET"]),
    ("crates/vox-run/src/ports/output.rs", &["LONGEST_LINE"]),
    ("crates/vox-run/src/record/history.rs", &["RECENT"]),
    ("crates/vox-run/src/record/journal.rs", &["MAX_TEXT"]),
    (
        "crates/vox-run/src/record/mod.rs",
        &["KEPT_RUNS", "KEPT_BYTES"],
    ),
    (
        "crates/vox-run/src/report.rs",
        &["REPORTED_LINES", "REPORTED_EVENTS"],
    ),
    (
        "crates/vox-serve/src/keys.rs",
        &["SHORTEST_KEY", "MAX_FILE_BYTES"],
    ),
];

/// The same for first-party plugins that run models.
const OF_MODELS: &[(&str, &[&str])] = &[
    (
        "plugins/candle/src/architecture/mod.rs",
        &[
            "LAYERS",
            "HIDDEN",
            "INTERMEDIATE",
            "HEADS",
            "HEAD",
            "VOCABULARY",
            "CONTEXT",
            "RANK",
        ],
    ),
    ("plugins/candle/src/infer/session.rs", &["MOST_THREADS"]),
    (
        "plugins/llama-cpp/src/gguf.rs",
        &["MOST_ENTRIES", "LONGEST_TEXT"],
    ),
];

pub fn page(workspace: &Workspace) -> anyhow::Result<Page> {
    let mut text = "# Limits\n\n\
        What is above a limit is refused with an error that names it, its value and where to raise \
        it.\n\n\
        ## Of a plugin\n\n\
        A plugin asks for other limits under `[limits]` in its \
        [`Plugin.toml`](plugin-manifest.md#limits), and gets at most the ceiling. What the user \
        sets under `[plugin.<id>.limits]` in [`Vox.toml`](settings.md#limits) holds instead, also \
        above the ceiling. `vox plugin info` shows what holds and where it comes from.\n\n\
        | limit | default | ceiling | what it bounds |\n|---|---|---|---|\n"
        .to_owned();
    for name in LimitName::ALL {
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} | {} |",
            name.default(),
            name.ceiling(),
            cell(name.bounds())
        );
    }
    let _ = write!(
        text,
        "\nOne call of a hook takes {} by the clock, or the `timeout` of its entry in the manifest, \
        which is {} at most. A plugin's `weight` in Vox.toml, its share of the memory that all have \
        together, is 1 to {}, and {} where none is set.\n\n\
        ## Of the host\n\n\
        | limit | value | set in |\n|---|---|---|\n",
        HookEntry::DEFAULT_TIMEOUT,
        HookEntry::MAX_TIMEOUT,
        PluginSettings::MAX_WEIGHT,
        PluginSettings::DEFAULT_WEIGHT,
    );
    constants(workspace, LIMITS, &mut text)?;
    text.push_str(
        "\n## Of models\n\n\
        What files of models may ask for of the plugins that run them; memory is not taken before these are met. \
        Models have a fraction of it.\n\n| limit | value | set in |\n|---|---|---|\n",
    );
    constants(workspace, OF_MODELS, &mut text)?;
    Ok(Page {
        file: "limits.md",
        source: "`crates/vox-contract/src/limits.rs` and the constants that the tables name",
        text,
    })
}

/// A line for each constant.
fn constants(
    workspace: &Workspace,
    limits: &[(&str, &[&str])],
    text: &mut String,
) -> anyhow::Result<()> {
    for (file, names) in limits {
        let source = read(&workspace.root.join(file))?;
        for name in *names {
            let limit = constant(&source, name).with_context(|| {
                format!("{file} has no documented constant {name}: mend the list in xtask/src/docs/limits.rs")
            })?;
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | `{file}`, `{name}` |",
                cell(&limit.docs),
                limit.value
            );
        }
    }
    Ok(())
}

/// A constant as it stands in a source file.
#[derive(Debug, PartialEq, Eq)]
struct Constant {
    docs: String,
    value: String,
}

/// Finds `const NAME: …` with its documentation, as rustfmt leaves it: the value on the same line
/// or the next.
fn constant(source: &str, name: &str) -> Option<Constant> {
    let start = format!("const {name}: ");
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    let at = lines.iter().position(|line| {
        line.split_once(&start)
            .is_some_and(|(before, _)| before.is_empty() || before.starts_with("pub"))
    })?;
    let statement = lines[at..].join(" ");
    let (_, value) = statement.split_once(';')?.0.split_once('=')?;
    let above = lines[..at]
        .iter()
        .rev()
        .map_while(|line| line.strip_prefix("///"));
    let mut docs: Vec<&str> = above.map(str::trim).collect();
    docs.reverse();
    // The first paragraph says what it limits; what follows is for who changes it.
    let docs = docs
        .split(|line| line.is_empty())
        .next()
        .unwrap_or_default()
        .join(" ");
    (!docs.is_empty()).then(|| Constant {
        docs: without_links(&docs),
        value: readable(value.trim(), is_of_bytes(name, &docs)),
    })
}

/// Documentation without the brackets of links, which lead nowhere from this page.
fn without_links(docs: &str) -> String {
    docs.replace("[`", "`").replace("`]", "`")
}

/// Whether a constant counts bytes: its name or its documentation says so.
fn is_of_bytes(name: &str, docs: &str) -> bool {
    let words = ["byte", "kib", "mib", "gib"];
    let said = format!("{name} {docs}").to_lowercase();
    words.iter().any(|word| said.contains(word))
}

/// A value as people read it: `1 << 20` as a number without underscores, or as 1MiB where it counts bytes.
fn readable(value: &str, is_of_bytes: bool) -> String {
    let value = value.replace('_', "");
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let product: Option<u64> = match value.split_once("<<") {
        Some((base, shift)) => number(base).zip(number(shift)).and_then(|(base, shift)| {
            base.checked_mul(1_u64.checked_shl(u32::try_from(shift).ok()?)?)
        }),
        None => value.split('*').map(number).product(),
    };
    match product {
        Some(number) if is_of_bytes && number >= 64 << 10 && number.is_multiple_of(1024) => {
            vox_contract::Bytes(number).to_string()
        }
        Some(number) => number.to_string(),
        None => format!("`{value}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_found_with_the_first_paragraph_of_its_documentation() {
        let source = "/// Of another.\nconst OTHER: u8 = 1;\n\n/// Bytes of\n/// [`Key`].\n///\n/// Because.\npub(crate) const MAX: u64 = 64 * 1024;\n";
        let expected = Constant {
            docs: "Bytes of `Key`.".into(),
            value: "64KiB".into(),
        };
        assert_eq!(constant(source, "MAX"), Some(expected));
        assert_eq!(constant(source, "MA"), None);
    }

    #[test]
    fn values_are_written_as_people_read_them() {
        for (value, is_of_bytes, text) in [
            ("1 << 30", true, "1GiB"),
            ("1 << 18", false, "262144"),
            ("10_000", true, "10000"),
            ("1024", true, "1024"),
            ("256", false, "256"),
            ("A + 1", true, "`A + 1`"),
        ] {
            assert_eq!(readable(value, is_of_bytes), text);
        }
        assert!(is_of_bytes("MAX_BYTES", "") && is_of_bytes("MAX", "The most: 64 KiB."));
        assert!(!is_of_bytes("HIDDEN", "Elements of a hidden state."));
    }
}
