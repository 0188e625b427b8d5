//! `cargo xtask finetune`: a language model that learns to make calendar entries.
//!
//! The same questions, which the training never sees, are put before and after it. The adapter is
//! served beside its model, without a merge.

use std::fs;

use anyhow::Context as _;
use serde_json::Value;

use crate::sandbox::Sandbox;
use crate::workspace::{Workspace, announce};

/// The model.
const MODEL: &str = "smollm2-135m-instruct";
/// The training, from the root.
const TRAINING: &str = "examples/finetune/train.toml";
/// What it does not see, from the root.
const HELD_OUT: &str = "examples/finetune/data/held-out.jsonl";
/// Where the training puts what it makes, below `target`.
const OUTPUT: &str = "finetune/calendar";
/// How many questions are put.
const QUESTIONS: usize = 10;

/// A question, and the entry that it should become.
struct Question {
    text: String,
    entry: Value,
}

/// Asks, trains, and asks again.
pub fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let sandbox = Sandbox::lay_out(workspace)?;
    let questions = questions(workspace)?;
    sandbox.run(&["model", "import", MODEL])?;
    announce(format_args!("What {MODEL} answers"));
    let before = ask(&sandbox, MODEL, &questions)?;

    let output = workspace.target.join(OUTPUT);
    if output.exists() {
        fs::remove_dir_all(&output)?;
    }
    sandbox.run(&["train", TRAINING, "--device", "cpu"])?;

    let adapter = output.join("model");
    announce(format_args!(
        "What it answers with {}",
        workspace.name(&adapter)
    ));
    let after = ask(&sandbox, &adapter.to_string_lossy(), &questions)?;
    println!(
        "\nEntries that are exactly right: {before} of {count} before, {after} of {count} after.\n\
         The loss curve: {}",
        workspace.name(&output.join("loss.svg")),
        count = questions.len(),
    );
    Ok(())
}

/// The first questions of the file.
fn questions(workspace: &Workspace) -> anyhow::Result<Vec<Question>> {
    let text = fs::read_to_string(workspace.root.join(HELD_OUT))?;
    let question = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let content = |at: usize| line["messages"][at]["content"].as_str();
        Some(Question {
            text: content(0)?.to_owned(),
            entry: serde_json::from_str(content(1)?).ok()?,
        })
    };
    let questions = text.lines().take(QUESTIONS).map(question);
    questions
        .collect::<Option<_>>()
        .with_context(|| format!("{HELD_OUT} is not a file of conversations with entries"))
}

/// Puts the questions, prints the answers, and counts those that are the entry.
fn ask(sandbox: &Sandbox, model: &str, questions: &[Question]) -> anyhow::Result<usize> {
    let mut right = 0;
    for Question { text, entry } in questions {
        let answer = sandbox.output(&[
            "generate",
            model,
            "--chat",
            "--prompt",
            text,
            "--temperature",
            "0",
            "--max-tokens",
            "80",
        ])?;
        let is_right =
            serde_json::from_str::<Value>(answer.trim()).is_ok_and(|answer| answer == *entry);
        right += usize::from(is_right);
        println!("> {text}\n{}\n", answer.trim());
    }
    Ok(right)
}
