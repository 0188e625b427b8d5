//! Files that come with plugins and projects: whatever stands in them, reading ends, costs little,
//! and either brings something that can be written and read again, or says where it is wrong.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use serde::Serialize;
use vox_contract::{Catalog, GrantsFile, Manifest, ManifestError, Settings, Skill};
use vox_fuzz::{bound, ensure, fuzz, peak_of};
use vox_host::signing::{SignedFiles, TrustStore};
use vox_run::Plan;

/// Every file of that name below the checkout's sources.
fn files(name: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut waiting: Vec<_> = ["plugins", "tests", "examples", "crates", "benches"]
        .map(|below| vox_testkit::checkout().join(below))
        .into();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                waiting.push(path);
            } else if entry.file_name() == name {
                found.push(fs::read(path).unwrap());
            }
        }
    }
    found
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Reads what may be text. Files that are none are refused before.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn cheap<T>(bytes: &[u8], read: impl FnOnce() -> T) -> Result<T, String> {
    let (value, peak) = peak_of(read);
    let most = bound(256 << 10, 1024, bytes.len());
    ensure!(
        peak <= most,
        "{peak} bytes of memory for {} bytes of input",
        bytes.len()
    );
    Ok(value)
}

/// Each problem is within the text, at a line and column that are there, and says something.
fn placed(error: &ManifestError, text: &str) -> Result<(), String> {
    ensure!(!error.problems().is_empty(), "a refusal without a reason");
    for problem in error.problems() {
        let lines = text.split('\n').count();
        ensure!(
            problem.span.end <= text.len()
                && problem.span.start <= problem.span.end
                && (1..=lines).contains(&problem.line)
                && problem.column >= 1
                && !problem.message.trim().is_empty(),
            "a problem that is nowhere: {problem:?}"
        );
        ensure!(
            !problem.message.chars().any(char::is_control),
            "a message with control characters: {problem:?}"
        );
    }
    Ok(())
}

/// Reads, and what was read is written, read again, and the same.
fn there_and_back<T: PartialEq + Debug>(
    bytes: &[u8],
    parse: impl Fn(&str) -> Result<T, ManifestError>,
    write: impl Fn(&T) -> Result<String, String>,
) -> Result<(), String> {
    let text = text(bytes);
    match cheap(bytes, || parse(&text))? {
        Err(error) => placed(&error, &text),
        Ok(value) => {
            let written = write(&value)?;
            let again = parse(&written)
                .map_err(|error| format!("what was written is refused: {error}\n{written}"))?;
            ensure!(again == value, "{value:?} became {again:?}\n{written}");
            Ok(())
        }
    }
}

fn toml<T: Serialize>(value: &T) -> Result<String, String> {
    toml::to_string(value).map_err(|error| format!("it cannot be written: {error}"))
}

#[test]
fn any_plugin_toml_is_read_or_refused() {
    let mut corpus = files("Plugin.toml");
    corpus.push(include_bytes!("../../../crates/vox-contract/tests/full.toml").to_vec());
    let file = Path::new("Plugin.toml");
    fuzz(
        corpus,
        &[
            "[limits]",
            "[conflicts]",
            "native = {",
            "16 MiB",
            ">=0.1, <0.2",
            "^1",
            "[[capabilities]]",
            "scope",
        ],
        |bytes| there_and_back(bytes, |text| Manifest::parse(text, file), toml),
    );
}

#[test]
fn any_grants_toml_is_read_or_refused() {
    let mut corpus = files("grants.toml");
    corpus.extend(texts(&[
        "[plugin.redact]\nkv = true\nfile_read = [\"/data/*\", \"a\"]\nagent_spawn = 3\n",
        "[plugin.\"acme.redact\"]\ntopics = [\"a\"]\n[plugin.b]\n",
        "[project.\"/home/ada/work\"]\n\
         grants = \"blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262\"\n",
    ]));
    let file = Path::new("grants.toml");
    fuzz(
        corpus,
        &["[plugin.a]", "network = [", "agent_spawn = "],
        |bytes| {
            there_and_back(
                bytes,
                |text| GrantsFile::parse(text, file),
                |grants| Ok(grants.to_toml()),
            )
        },
    );
}

#[test]
fn any_vox_toml_is_read_or_refused() {
    let mut corpus = files("Vox.toml");
    corpus.extend(texts(&[
        "[host]\nmemory = \"1 GiB\"\n[plugin.redact]\nversion = \"^1\"\nprefer = \"native\"\n\
         config = { rules = [\"a\", { b = 1.5 }], when = true }\nlimits = { cpu = \"2s\", kv = \"1 MiB\" }\n\
         grants = { kv = true, network = [\"api.example.org\"] }\n",
    ]));
    let file = Path::new("Vox.toml");
    fuzz(
        corpus,
        &[
            "[plugin.a.limits]",
            "[plugin.a.config]",
            "unlimited",
            "prefer",
            "1979-05-27",
        ],
        |bytes| there_and_back(bytes, |text| Settings::parse(text, file), toml),
    );
}

#[test]
fn any_catalog_toml_is_read_or_refused() {
    let mut corpus = files("catalog.toml");
    corpus.push(fs::read(vox_testkit::checkout().join("catalog.toml")).unwrap());
    let file = Path::new("catalog.toml");
    fuzz(
        corpus,
        &["[[plugin]]", "[[distribution]]", "extends = "],
        |bytes| there_and_back(bytes, |text| Catalog::parse(text, file), toml),
    );
}

#[test]
fn any_trust_toml_is_read_or_refused() {
    let key = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let corpus = vec![
        format!(
            "[[key]]\nkey = \"{key}\"\nname = \"me\"\nadded = \"2026-11-21T07:30:00Z\"\n\
             expires = \"2027-11-21T00:00:00Z\"\n[[pin]]\nplugin = \"redact\"\nkey = \"{key}\"\n\
             highest = \"1.2.0\"\n[[allow]]\nplugin = \"exec\"\nroot = \"/home/me/plugins\"\n"
        )
        .into_bytes(),
    ];
    let file = Path::new("trust.toml");
    fuzz(
        corpus,
        &[
            "[[key]]",
            "[[pin]]",
            "[[allow]]",
            "9999-12-31T23:59:59Z",
            "0000-00-00T00:00:00Z",
        ],
        |bytes| {
            there_and_back(
                bytes,
                |text| TrustStore::parse(text, file),
                |trust| Ok(trust.to_toml()),
            )
        },
    );
}

#[test]
fn any_plugin_sig_is_what_signing_writes_or_refused() {
    let corpus = texts(&[concat!(
        "vox plugin signature 1\nplugin redact\nversion 0.1.0\n",
        "key ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n",
        "signed 2026-11-21T07:30:00Z\nexpires 2027-11-21T00:00:00Z\n",
        "file af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262 0 Plugin.toml\n",
        "file af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262 7 a/b.wasm\n",
        "signature ed25519:e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155",
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b\n",
    )]);
    let file = Path::new("Plugin.sig");
    fuzz(
        corpus,
        &["file ", "expires ", "18446744073709551615"],
        |bytes| {
            match cheap(bytes, || SignedFiles::parse(bytes, file))? {
                Ok(listing) => ensure!(
                    listing.to_text().as_bytes() == bytes,
                    "a second way to write it"
                ),
                Err(error) => ensure!(
                    error.to_string().contains("Plugin.sig"),
                    "no file in: {error}"
                ),
            }
            Ok(())
        },
    );
}

#[test]
fn any_skill_md_is_read_or_refused() {
    let mut corpus = files("SKILL.md");
    corpus.extend(texts(&[
        "---\nname: a\ndescription: >\n  some\n  words\ntools:\n  - b\n  - c\n---\nbody\n",
        "---\nname: 'a'\ndescription: \"x: y\"\ntools: [b, c]\n---\n",
    ]));
    let file = Path::new("SKILL.md");
    fuzz(
        corpus,
        &["---\n", "tools: [", "description: |\n", "- ", "&x", "!!str"],
        |bytes| {
            let text = text(bytes);
            match cheap(bytes, || Skill::parse(&text, file))? {
                Ok(skill) => ensure!(text.ends_with(&skill.body), "a body of its own: {skill:?}"),
                Err(error) => placed(&error, &text)?,
            }
            Ok(())
        },
    );
}

#[test]
fn any_pipeline_is_read_or_refused_in_both_notations() {
    let mut corpus = files("pipeline.toml");
    let json: Vec<_> = corpus
        .iter()
        .filter_map(|bytes| Plan::parse(&text(bytes), "pipeline.toml").ok())
        .map(|plan| serde_json::to_vec(&plan).unwrap())
        .collect();
    assert!(!json.is_empty(), "no pipeline of the repository is valid");
    corpus.extend(json);
    fuzz(
        corpus,
        &[
            "[[step]]",
            "[[hook]]",
            "needs = [",
            "inputs = {",
            "through = [",
            ".stdout",
            "\"from\":",
        ],
        |bytes| {
            let text = text(bytes);
            match cheap(bytes, || Plan::parse(&text, "pipeline.toml"))? {
                Err(error) => {
                    ensure!(!error.problems().is_empty(), "a refusal without a reason");
                    for problem in error.problems() {
                        ensure!(
                            problem.span.end <= text.len()
                                && problem.span.start <= problem.span.end,
                            "a problem that is nowhere: {problem:?}"
                        );
                    }
                }
                Ok(plan) => {
                    let written =
                        serde_json::to_string(&plan).map_err(|error| error.to_string())?;
                    let again = Plan::parse(&written, "pipeline.json").map_err(|error| {
                        format!("what was written is refused: {error}\n{written}")
                    })?;
                    let again = serde_json::to_string(&again).map_err(|error| error.to_string())?;
                    ensure!(again == written, "{written} became {again}");
                }
            }
            Ok(())
        },
    );
}
