//! `vox generate`, `vox chat` and `vox embed`, and models of the store that are damaged.
//!
//! A parrot repeats the text that it is to answer, so that its answer shows what a conversation is made of.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use vox_testkit::checkout;

use crate::training::Trainer;
use crate::{Ended, Place, path};

/// A user with a parrot, which has these settings in `Vox.toml`, and a model with a chat template in `talker`.
fn talker(settings: &str) -> Place {
    let place = Place::with(&["parrot"]);
    place.write("Vox.toml", &format!("[plugin.parrot]\n{settings}"));
    fs::create_dir(place.path().join("talker")).unwrap();
    let template =
        "{% for message in messages %}{{ message.role }}:{{ message.content }} {% endfor %}";
    place.write("talker/chat_template.jinja", template);
    place
}

/// What comes of a conversation in which these lines are said.
fn chat(place: &Place, words: &[&str], lines: &[&str]) -> Ended {
    let input = place.write("lines", &(lines.join("\n") + "\n"));
    let mut command = place.vox();
    command
        .arg("chat")
        .args(words)
        .stdin(fs::File::open(input).unwrap());
    Ended::of(&mut command)
}

/// What a parrot says to these words and this file as standard input.
fn generate(place: &Place, words: &[&str], input: &Path) -> Ended {
    let mut command = place.vox();
    command
        .args(["generate", "./talker"])
        .args(words)
        .stdin(fs::File::open(input).unwrap());
    Ended::of(&mut command)
}

#[test]
fn a_prompt_stands_after_the_model_or_behind_its_option_and_not_in_both_places() {
    let place = talker("");
    let nothing = Path::new("/dev/null");
    for words in [&["one two"][..], &["--prompt", "one two"]] {
        let ended = generate(&place, words, nothing).succeeded();
        assert_eq!(ended.stdout, "one two\n");
    }
    generate(&place, &["one", "--prompt", "two"], nothing)
        .failed(2, &["cannot be used with", "--prompt", "PROMPT"]);
}

#[test]
fn what_is_piped_is_the_prompt_without_the_end_of_its_last_line() {
    let place = talker("");
    let ways: [&[&str]; 3] = [&[], &["-"], &["--prompt", "-"]];
    for (piped, prompt) in [
        ("one two\n", "one two"),
        ("one\n\n", "one\n"),
        ("one", "one"),
    ] {
        let input = place.write("prompt", piped);
        for words in ways {
            let ended = generate(&place, words, &input).succeeded();
            assert_eq!(ended.stdout, format!("{prompt}\n"), "{words:?}");
        }
    }
}

#[test]
fn programs_are_told_in_a_word_why_an_answer_ended_and_all_that_they_are_told_is_documented() {
    let place = talker("");
    let told = place.json(&["generate", "./talker", "one two"]);
    assert_eq!(
        (&told["finish"], &told["text"]),
        (&json!("stop"), &json!("one two"))
    );
    let page = fs::read_to_string(checkout().join("docs/src/how-to/run-models.md")).unwrap();
    for key in told.as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{key}`")), "{key}: {told:#}");
    }
    let cut = place.json(&["generate", "./talker", "one two", "--max-tokens", "1"]);
    assert_eq!(cut["finish"], "length", "{cut:#}");
}

#[test]
fn numbers_that_make_no_sense_are_refused_with_those_that_do() {
    let place = talker("");
    for (flag, value, word) in [
        ("--temperature", "NaN", "from 0 to 100"),
        ("--temperature", "-1", "from 0 to 100"),
        ("--top-p", "1.5", "from 0 to 1"),
        ("--min-p", "-0.5", "from 0 to 1"),
        ("--repetition-penalty", "0", "from 0.01 to 100"),
        ("--context", "0", "--context"),
        ("-n", "-1", "--max-tokens"),
    ] {
        generate(&place, &["one", flag, value], Path::new("/dev/null"))
            .failed(2, &["invalid value", word]);
    }
    let queue = ["serve", "./talker", "--queue", "-1"];
    place.run(queue).failed(2, &["invalid value", "--queue"]);
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_prompt_a_terminal_is_told_how_to_give_one() {
    let place = talker("");
    // Either end of one is a terminal.
    let terminal = Path::new("/dev/ptmx");
    let ways: [&[&str]; 2] = [&[], &["-"]];
    for words in ways {
        generate(&place, words, terminal)
            .failed(2, &["there is no prompt", "vox generate MODEL", "pipe"]);
    }
}

#[test]
fn the_commands_of_a_conversation_do_what_they_say() {
    let place = talker("");
    let lines = [
        "/retry",
        "hello",
        "/history",
        "/system Be brief.",
        "/retry",
        "/save kept.json",
        "again",
        "/undo",
        "third",
        "/reset",
        "alone",
        "/load kept.json",
        "",
        "bye",
        "/save",
        "/load missing.json",
        "/nonsense",
        "/help",
        "/quit",
        "nobody hears this",
    ];
    let ended = chat(&place, &["./talker"], &lines).succeeded();
    let answers: Vec<_> = ended.stdout.lines().collect();
    let kept = "system:Be brief. user:hello assistant:system:Be brief. user:hello ";
    assert_eq!(
        answers,
        [
            "user:hello ",
            "system:Be brief. user:hello ",
            &format!("{kept} user:again "),
            &format!("{kept} user:third "),
            "system:Be brief. user:alone ",
            &format!("{kept} user:bye "),
        ]
    );
    for word in [
        "there is nothing to answer yet",
        "user hello\nassistant user:hello\n",
        "kept in kept.json",
        "name a file",
        "missing.json",
        "there is no command /nonsense",
        "/undo          forget",
    ] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
}

#[test]
fn a_conversation_that_was_saved_goes_on() {
    let place = talker("");
    chat(&place, &["./talker"], &["hello", "/save kept.json"]).succeeded();
    let words = ["./talker", "--load", "kept.json", "--system", "Be brief."];
    let ended = chat(&place, &words, &["on"]).succeeded();
    assert_eq!(
        ended.stdout,
        "system:Be brief. user:hello assistant:user:hello  user:on \n"
    );
}

#[test]
fn a_line_that_is_not_utf8_is_named_and_a_conversation_goes_on_after_it() {
    let place = talker("");
    let input = place.path().join("lines");
    fs::write(&input, b"hello\nh\xff\nagain\n").unwrap();
    let run = |command: &str| {
        let mut vox = place.vox();
        vox.args([command, "./talker"])
            .stdin(fs::File::open(&input).unwrap());
        Ended::of(&mut vox)
    };
    let ended = run("chat").succeeded();
    assert_eq!(
        ended.stdout,
        "user:hello \nuser:hello assistant:user:hello  user:again \n"
    );
    let why = "line 2 of standard input is not UTF-8";
    assert!(ended.stderr.contains(why), "{}", ended.stderr);
    run("embed").failed(5, &[why]);
}

/// A conversation under way.
struct Talk {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    notes: BufReader<ChildStderr>,
}

impl Talk {
    /// With a parrot that never comes to an end by itself.
    fn begin(place: &Place) -> Self {
        let mut command = place.vox();
        command
            .args(["chat", "./talker", "-n", "4000000000"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            questions: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            notes: BufReader::new(child.stderr.take().unwrap()),
            child,
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.questions, "{line}").unwrap();
    }

    /// Reads the answer until this word was said.
    fn wait_for(&mut self, word: &str) {
        let mut said = Vec::new();
        while said != word.as_bytes() {
            said.clear();
            let read = self.answers.read_until(b' ', &mut said).unwrap();
            assert!(read > 0, "the conversation ended before `{word}`");
        }
    }

    /// Reads the rest of the answer, which has an end.
    fn wait_for_the_end_of_the_answer(&mut self) {
        let mut rest = String::new();
        self.answers.read_line(&mut rest).unwrap();
        assert!(rest.ends_with('\n'), "the conversation ended with it");
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    /// The exit code, and what was noted. The input is still open.
    fn end(mut self) -> (Option<i32>, String) {
        let mut noted = String::new();
        self.notes.read_to_string(&mut noted).unwrap();
        (self.child.wait().unwrap().code(), noted)
    }
}

#[test]
fn ctrl_c_ends_an_answer_and_the_conversation_goes_on() {
    // One component hears of it by itself, the other is stopped by the host and loaded anew.
    for (carrier, manners) in [
        ("component", ""),
        ("component", "deaf = true\nheedless = true\n"),
        ("native", ""),
        ("native", "deaf = true\n"),
    ] {
        let place = talker(&format!(
            "prefer = \"{carrier}\"\n[plugin.parrot.config]\nendless = true\n{manners}"
        ));
        let mut talk = Talk::begin(&place);
        for question in ["one", "two"] {
            talk.say(question);
            talk.wait_for("again ");
            talk.interrupt();
            talk.wait_for_the_end_of_the_answer();
        }
        talk.say("/history");
        talk.say("/quit");
        let (code, noted) = talk.end();
        assert_eq!(code, Some(0), "{carrier} {manners}");
        assert_eq!(noted.matches("interrupted").count(), 2);
        // What was said before it was interrupted stays said.
        for line in [
            "user one\nassistant user:one again",
            "user two\nassistant user:one assistant:user:one again",
        ] {
            assert!(noted.contains(line), "{carrier} {manners}: {line}");
        }
    }
}

#[test]
fn ctrl_c_ends_a_conversation_that_waits_for_a_question() {
    let place = talker("");
    let mut talk = Talk::begin(&place);
    talk.say("/help");
    let mut noted = String::new();
    talk.notes.read_line(&mut noted).unwrap();
    assert!(noted.starts_with("/help"), "{noted}");
    talk.interrupt();
    let (code, noted) = talk.end();
    assert_eq!(code, Some(130), "{noted}");
    // There is nothing that another one could end.
    assert!(!noted.contains("interrupted"), "{noted}");
}

#[test]
fn a_trained_model_talks_through_its_template_and_a_question_that_is_too_long_costs_nothing() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    let place = trainer.place();
    let template = "{% for message in messages %}{{ message.content }}{% endfor %}";
    place.write("out/model/chat_template.jinja", template);
    let words = ["out/model", "--temperature", "0", "-n", "8"];
    let asked = ["generate", "--chat", "--prompt", "the cat"];
    let answer = place.run(asked.iter().chain(&words)).succeeded().stdout;
    let long = "the cat ".repeat(100);
    let ended = chat(place, &words, &[&long, "the cat"]).succeeded();
    // The long one is answered with a note alone.
    assert_eq!(ended.stdout, format!("\n{answer}"));
    assert!(
        ended.stderr.contains("/undo and /reset make room"),
        "{}",
        ended.stderr
    );
}

#[test]
fn where_a_training_is_named_instead_of_its_model_the_model_is_pointed_to() {
    let place = talker("");
    fs::create_dir_all(place.path().join("out/model")).unwrap();
    place.write("out/model/config.json", "{}");
    for command in ["generate", "serve", "embed"] {
        place
            .run([command, "./out"])
            .failed(3, &["./out has a training", "the model is in ./out/model"]);
    }
}

#[test]
fn a_context_that_the_model_has_not_is_refused_with_the_reason_alone() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    let words = ["generate", "out/model", "the cat", "--context", "100000"];
    let ended = trainer.place().run(words).failed(1, &["100000", "tokens"]);
    for word in ["inference-backend.load", "WARN"] {
        assert!(!ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
}

#[test]
fn texts_become_vectors_of_one_length() {
    let trainer = Trainer::new();
    let config = trainer.config("out");
    trainer.train(&config, &[]).succeeded();
    let place = trainer.place();
    let embedded = place.json(&["embed", "out/model", "the cat", "the dog"]);
    assert_eq!(embedded["model"], "out/model");
    assert_eq!(embedded["dimensions"], 64);
    let vectors: Vec<Vec<f64>> = serde_json::from_value(embedded["embeddings"].clone()).unwrap();
    assert_eq!(vectors.len(), 2);
    assert_ne!(vectors[0], vectors[1]);
    for vector in &vectors {
        assert_eq!(vector.len(), 64);
        let length: f64 = vector.iter().map(|number| number * number).sum();
        assert!((length - 1.0).abs() < 1e-3, "{length}");
    }

    // A line of standard input is a text, and for people a line is a vector.
    let input = place.write("lines", "the cat\nthe dog\n");
    let mut command = place.vox();
    command
        .args(["embed", "out/model"])
        .stdin(fs::File::open(input).unwrap());
    let ended = Ended::of(&mut command).succeeded();
    let lines: Vec<Vec<f64>> = ended
        .stdout
        .lines()
        .map(|line| {
            line.split(' ')
                .map(|number| number.parse().unwrap())
                .collect()
        })
        .collect();
    assert_eq!(lines.len(), 2);
    for (line, vector) in lines.iter().zip(&vectors) {
        let likeness: f64 = line
            .iter()
            .zip(vector)
            .map(|(one, other)| one * other)
            .sum();
        assert!((likeness - 1.0).abs() < 1e-3, "{likeness}");
    }
}

/// The file in the store that holds a file of a bundle.
fn blob(place: &Place, model: &str, file: &str) -> PathBuf {
    let info = place.json(&["model", "info", model]);
    let files = info["manifest"]["files"].as_array().unwrap();
    let entry = files.iter().find(|entry| entry["path"] == file).unwrap();
    let digest = entry["blake3"].as_str().unwrap();
    let hex = digest.strip_prefix("blake3:").unwrap();
    let blobs = place.data().join("store/blobs");
    blobs.join(&hex[..2]).join(&hex[2..])
}

/// Changes a byte in the middle of a file; its size stays, and so does its time.
fn flip(file: &Path) {
    let metadata = fs::metadata(file).unwrap();
    let mut permissions = metadata.permissions();
    permissions.set_mode(0o644);
    fs::set_permissions(file, permissions).unwrap();
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
    let times = fs::FileTimes::new().set_modified(metadata.modified().unwrap());
    let open = fs::File::options().write(true).open(file).unwrap();
    open.set_times(times).unwrap();
}

#[test]
fn a_model_with_a_byte_that_was_flipped_is_neither_run_nor_trained_nor_merged() {
    let trainer = Trainer::new();
    let config = trainer.config("base");
    // So large that its weights are verified while they are loaded.
    let larger = [
        "--steps",
        "2",
        "--set",
        "scratch.hidden=256",
        "--set",
        "scratch.intermediate=512",
    ];
    trainer.train(&config, &larger).succeeded();
    let place = trainer.place();
    let import = ["model", "import", "base/model", "--name", "tiny"];
    place.run(import).succeeded();
    let adapt = trainer.adapter("tiny", "adapted");
    trainer.train(&adapt, &[]).succeeded();
    let generate = ["generate", "tiny", "the cat", "-n", "4"];
    place.run(generate).succeeded();

    let weights = blob(place, "tiny", "model.safetensors");
    assert!(fs::metadata(&weights).unwrap().len() > 1 << 20);
    flip(&weights);
    let other = trainer.adapter("tiny", "other");
    for words in [
        &generate[..],
        &["embed", "tiny", "the cat"],
        &["generate", "adapted/model", "the cat"],
        &["train", path(&other)],
        &["model", "merge", "adapted/model", "merged"],
    ] {
        let ended = place.run(words);
        assert_eq!(ended.stdout, "", "{words:?}");
        ended.failed(5, &["model.safetensors", "import the bundle again"]);
    }
    assert!(!place.path().join("merged").exists());
    place.run(import).succeeded();
    place.run(generate).succeeded();

    flip(&blob(place, "tiny", "config.json"));
    place.run(generate).failed(5, &["config.json"]);
}
