//! `vox embed`: texts as vectors.

use std::io::{self, BufRead as _, Write};

use clap::Args;
use serde::Serialize;

use super::serving::{ModelArgs, Opened};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::View;

/// Arguments of `vox embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The texts [default: the lines of standard input]
    texts: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Embedded {
    model: String,
    dimensions: usize,
    embeddings: Vec<Vec<f32>>,
}

impl View for Embedded {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for embedding in &self.embeddings {
            let numbers: Vec<String> = embedding.iter().map(ToString::to_string).collect();
            writeln!(out, "{}", numbers.join(" "))?;
        }
        Ok(())
    }
}

/// The lines of standard input.
fn lines() -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for (number, line) in (1_u64..).zip(io::stdin().lock().split(b'\n')) {
        let line = line.map_err(|error| Failure::input(&error))?;
        let mut text = String::from_utf8(line).map_err(|_| {
            let message = format!("line {number} of standard input is not UTF-8");
            Failure::new(Exit::InvalidInput, message)
        })?;
        if text.ends_with('\r') {
            text.pop();
        }
        texts.push(text);
    }
    Ok(texts)
}

/// Embeds.
pub(crate) fn run(context: &Context, arguments: &EmbedArgs) -> Result<Exit, Failure> {
    let Some(opened) = arguments.model.open(context, interrupt::token())? else {
        return Ok(Exit::Success);
    };
    let Opened {
        found, dispatcher, ..
    } = opened;
    let texts = match arguments.texts.as_slice() {
        [] => lines()?,
        texts => texts.to_vec(),
    };
    let mut answerer = found.load(dispatcher)?;
    let embeddings = answerer.embed(&texts)?.vectors;
    context.output.show(&Embedded {
        model: arguments.model.model.clone(),
        dimensions: embeddings.first().map_or(0, Vec::len),
        embeddings,
    })?;
    Ok(Exit::Success)
}
