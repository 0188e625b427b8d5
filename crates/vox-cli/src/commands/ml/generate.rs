//! `vox generate`: text that goes on after a prompt.

use std::io::{self, IsTerminal as _, Read as _, Write};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use vox_host::contract::inference_backend::{Finish, Prompt};
use vox_ml::data::{Chat, Message};

use super::serving::{ModelArgs, Opened, SamplingArgs};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::style::{DIM, WARNING, paint, plain};
use crate::output::{self, View};

/// Arguments of `vox generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model goes on after; `-`, or nothing, reads it from standard input
    #[arg(value_name = "PROMPT")]
    text: Option<String>,
    /// The same as an option
    #[arg(short, long, value_name = "TEXT", conflicts_with = "text")]
    prompt: Option<String>,
    /// Put the prompt as a question, through the model's chat template
    #[arg(long)]
    chat: bool,
    /// What the model is to be, with --chat
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Print the log-probabilities of the tokens, with so many alternatives; with --format json
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, default_missing_value = "0")]
    logprobs: Option<u32>,
}

impl GenerateArgs {
    /// The prompt as it is written, or else what standard input has.
    fn prompt(&self) -> Result<String, Failure> {
        match self.text.as_ref().or(self.prompt.as_ref()) {
            Some(prompt) if prompt != "-" => return Ok(prompt.clone()),
            _ => {}
        }
        if io::stdin().is_terminal() {
            let hint = "write one after the model, as in `vox generate MODEL \"Once upon a time\"`, or pipe one in";
            return Err(Failure::usage("there is no prompt").hint(hint));
        }
        let mut bytes = Vec::new();
        io::stdin()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::input(&error))?;
        let mut prompt = String::from_utf8(bytes)
            .map_err(|_| Failure::new(Exit::InvalidInput, "standard input is not UTF-8"))?;
        // That ends a file, or what `echo` prints, and was not meant to be gone on after.
        if prompt.ends_with('\n') {
            prompt.pop();
        }
        Ok(prompt)
    }
}

/// An answer.
#[derive(Debug, Serialize)]
struct Generated {
    text: String,
    /// `stop`, `length`, `context` or `cancelled`.
    finish: &'static str,
    prompt_tokens: u32,
    answer_tokens: u32,
    tokens_per_second: f64,
    seconds_to_first_token: f64,
    backend: String,
    device: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<vox_host::contract::generation::Piece>,
}

/// Why an answer ended, as the contract has it.
fn in_a_word(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Context => "context",
        Finish::Cancelled => "cancelled",
    }
}

impl View for Generated {
    /// The text was printed as it came; here comes what is known at the end.
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out)
    }
}

/// Generates.
pub(crate) fn run(context: &Context, arguments: &GenerateArgs) -> Result<Exit, Failure> {
    let Some(opened) = arguments.model.open(context, interrupt::token())? else {
        return Ok(Exit::Success);
    };
    let Opened {
        found, dispatcher, ..
    } = opened;
    let mut prompt = arguments.prompt()?;
    if arguments.chat {
        let template = found.template.as_ref().ok_or_else(|| {
            Failure::new(Exit::InvalidInput, "the model has no chat template")
                .hint("without `--chat` it goes on after the prompt as it is")
        })?;
        let system = arguments
            .system
            .iter()
            .map(|text| Message::new("system", text));
        let chat = Chat {
            messages: system.chain([Message::new("user", &prompt)]).collect(),
            ..Chat::default()
        };
        prompt = template.render(&chat, true).map_err(|fault| {
            Failure::new(
                Exit::InvalidInput,
                format!("the chat template refuses the prompt: {fault}"),
            )
        })?;
    }
    let mut request = arguments.sampling.request(Prompt::Text(prompt));
    request.alternatives = arguments.logprobs;
    let mut answerer = found.load(dispatcher)?;
    let cancel = interrupt::token();
    let (is_human, mut tokens) = (context.output.is_human(), Vec::new());
    let begin = Instant::now();
    let mut first = None;
    let mut failed = None;
    let answered = answerer.answer(&request, &mut |said| {
        if said.piece.is_some() {
            first.get_or_insert_with(|| begin.elapsed());
        }
        if is_human
            && !said.text.is_empty()
            && let Err(failure) = output::print(said.text.as_bytes())
        {
            failed.get_or_insert(failure);
        }
        if request.alternatives.is_some() {
            tokens.extend(said.piece.clone());
        }
        failed.is_none() && !cancel.is_cancelled()
    })?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    let seconds = begin.elapsed().as_secs_f64();
    let first = first.map_or(0.0, |first| first.as_secs_f64());
    let model = answerer.model();
    let after = f64::from(answered.finished.answer_tokens.saturating_sub(1));
    let generated = Generated {
        finish: in_a_word(answered.finished.reason),
        prompt_tokens: answered.finished.prompt_tokens,
        answer_tokens: answered.finished.answer_tokens,
        tokens_per_second: after / (seconds - first).max(1e-9),
        seconds_to_first_token: first,
        backend: model.plugin().to_string(),
        device: model.loaded().device.id.clone(),
        text: answered.text,
        tokens,
    };
    context.output.show(&generated)?;
    for (plugin, error) in &answered.died {
        output::complain(format_args!(
            "{} backend {} died and another went on: {}\n",
            paint(WARNING, "note:"),
            plain(plugin),
            plain(error)
        ));
    }
    if is_human && io::stderr().is_terminal() {
        let text = format!(
            "{} tokens, {:.1} a second, the first after {:.2} s; {} on {}",
            generated.answer_tokens,
            generated.tokens_per_second,
            generated.seconds_to_first_token,
            generated.backend,
            generated.device
        );
        output::complain(format_args!("{}\n", paint(DIM, text)));
    }
    Ok(if cancel.is_cancelled() {
        Exit::Interrupted
    } else {
        Exit::Success
    })
}
