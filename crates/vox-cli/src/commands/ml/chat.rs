//! `vox chat`: a conversation with a model.

use std::fs;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::thread;

use clap::Args;
use crossbeam_channel::{Receiver, bounded, select};
use vox_host::contract::inference_backend::{Message as Said, Prompt};
use vox_ml::answer::DispatchError;
use vox_ml::data::{Chat, Message};

use super::serving::{Found, ModelArgs, Opened, SamplingArgs};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output;
use crate::output::style::{DIM, LITERAL, WARNING, paint, plain};

/// Arguments of `vox chat`.
#[derive(Debug, Args)]
#[command(
    after_help = "A line that begins with a slash is a command; /help lists them. Ctrl-C ends an answer, and where\n\
                  none is being given the conversation; so does Ctrl-D."
)]
pub struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What the model is to be
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Go on with a conversation that was saved with /save
    #[arg(long, value_name = "FILE")]
    load: Option<PathBuf>,
    #[command(flatten)]
    sampling: SamplingArgs,
}

const HELP: &str = "\
/help          this list
/history       what was said
/system TEXT   what the model is to be, from now on
/retry         the last answer once more
/undo          forget the last question and its answer
/reset         begin anew
/save FILE     keep the conversation
/load FILE     go on with one that was kept
/quit          the end
";

/// What was said so far, by role.
#[derive(Debug, Default)]
struct Conversation {
    messages: Vec<(String, String)>,
}

impl Conversation {
    fn push(&mut self, role: &str, content: &str) {
        self.messages.push((role.to_owned(), content.to_owned()));
    }

    fn set_system(&mut self, text: &str) {
        self.messages.retain(|(role, _)| role != "system");
        if !text.is_empty() {
            self.messages
                .insert(0, ("system".to_owned(), text.to_owned()));
        }
    }

    fn reset(&mut self) {
        self.messages.retain(|(role, _)| role == "system");
    }

    /// Forgets the last answer; true where there was one.
    fn forget_answer(&mut self) -> bool {
        let is_answer = self
            .messages
            .last()
            .is_some_and(|(role, _)| role == "assistant");
        if is_answer {
            self.messages.pop();
        }
        is_answer
    }

    fn save(&self, path: &str) -> Result<(), Failure> {
        let messages: Vec<_> = self
            .messages
            .iter()
            .map(|(role, content)| serde_json::json!({ "role": role, "content": content }))
            .collect();
        let text = serde_json::json!({ "messages": messages }).to_string();
        fs::write(path, text + "\n").map_err(|error| Failure::io("write", path.as_ref(), &error))
    }

    /// Reads a conversation as JSON with `messages`: a line of a data set is one.
    fn load(path: &std::path::Path) -> Result<Self, Failure> {
        #[derive(serde::Deserialize)]
        struct Kept {
            messages: Vec<Entry>,
        }
        #[derive(serde::Deserialize)]
        struct Entry {
            role: String,
            content: String,
        }
        let text = fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
        let kept: Kept = serde_json::from_str(&text).map_err(|error| {
            Failure::new(Exit::InvalidInput, format!("{}: {error}", path.display()))
        })?;
        let messages = kept.messages.into_iter();
        Ok(Self {
            messages: messages.map(|entry| (entry.role, entry.content)).collect(),
        })
    }

    /// The prompt, through the model's own template where it is here.
    fn prompt(&self, found: &Found) -> Result<Prompt, Failure> {
        if found.bundle.is_none() {
            let said = self.messages.iter().map(|(role, content)| Said {
                role: role.clone(),
                content: content.clone(),
            });
            return Ok(Prompt::Conversation(said.collect()));
        }
        let template = found.template.as_ref().ok_or_else(|| {
            Failure::new(Exit::InvalidInput, "the model has no chat template")
                .hint("`vox generate` goes on after a text as it is")
        })?;
        let messages = self.messages.iter();
        let chat = Chat {
            messages: messages
                .map(|(role, content)| Message::new(role, content))
                .collect(),
            ..Chat::default()
        };
        let text = template.render(&chat, true).map_err(|fault| {
            Failure::new(
                Exit::InvalidInput,
                format!("the chat template refuses the conversation: {fault}"),
            )
        })?;
        Ok(Prompt::Text(text))
    }
}

/// What a line means.
enum Line<'a> {
    Question(&'a str),
    /// The last question once more.
    Again,
    Nothing,
    End,
}

/// Talks.
pub(crate) fn run(context: &Context, arguments: &ChatArgs) -> Result<Exit, Failure> {
    let mut cancel = interrupt::token();
    let Some(opened) = arguments.model.open(context, cancel.clone())? else {
        return Ok(Exit::Success);
    };
    let Opened {
        host,
        found,
        dispatcher,
    } = opened;
    let mut conversation = match &arguments.load {
        Some(path) => Conversation::load(path)?,
        None => Conversation::default(),
    };
    if let Some(system) = &arguments.system {
        conversation.set_system(system);
    }
    // Refused before anything is loaded, where the model cannot talk.
    if found.bundle.is_some() && found.template.is_none() {
        conversation.prompt(&found)?;
    }
    let mut answerer = found.load(dispatcher)?;
    let is_terminal = io::stdin().is_terminal();
    let lines = lines();
    let mut number = 0_u64;
    loop {
        interrupt::set_idle(true);
        if is_terminal {
            output::print(b"> ")?;
        }
        let line = select! {
            recv(lines) -> line => Some(line),
            recv(cancel.cancelled()) -> _ => None,
        };
        let Some(line) = line.filter(|_| !cancel.is_cancelled()) else {
            if is_terminal {
                // What is written next does not begin behind the question.
                output::print(b"\n")?;
            }
            return Ok(Exit::Interrupted);
        };
        // Disconnected at the end of the input.
        let Ok(line) = line else {
            return Ok(Exit::Success);
        };
        let line = line.map_err(|error| Failure::input(&error))?;
        number += 1;
        // What was said before is not lost by it.
        let Ok(line) = String::from_utf8(line) else {
            note(&format!(
                "line {number} of standard input is not UTF-8, and is passed over"
            ));
            continue;
        };
        match understand(line.trim(), &mut conversation)? {
            Line::End => return Ok(Exit::Success),
            Line::Nothing => continue,
            Line::Again => {}
            Line::Question(text) => conversation.push("user", text),
        }
        let request = arguments.sampling.request(conversation.prompt(&found)?);
        let mut text = String::new();
        let mut failed = None;
        interrupt::set_idle(false);
        let answered = answerer.answer(&request, &mut |said| {
            text.push_str(&said.text);
            if let Err(failure) = output::print(said.text.as_bytes()) {
                failed.get_or_insert(failure);
            }
            failed.is_none() && !cancel.is_cancelled()
        });
        if let Some(failure) = failed {
            return Err(failure);
        }
        output::print(b"\n")?;
        match answered {
            Ok(answered) => {
                conversation.push("assistant", &text);
                if answered.finished.answer_tokens >= arguments.sampling.max_tokens() {
                    note("the answer was cut off; `-n` allows more tokens");
                }
            }
            // What was said is not lost because there is too much of it.
            Err(DispatchError::TooLong { tokens, context }) => {
                conversation.messages.pop();
                note(&format!(
                    "the conversation has {tokens} tokens or more, and the context is {context} with the answer; \
                     /undo and /reset make room, /save keeps it"
                ));
            }
            // Nor because no more of it was wanted.
            Err(_) if cancel.is_cancelled() => conversation.push("assistant", &text),
            Err(error) => return Err(error.into()),
        }
        if cancel.is_cancelled() {
            cancel = interrupt::renewed();
            if answerer.model().is_alive() {
                answerer.set_cancel(cancel.clone());
            } else {
                let model = &arguments.model;
                answerer = found.load(model.dispatch(&host, &found, cancel.clone())?)?;
            }
        }
    }
}

/// The lines of standard input, as a thread of its own reads them: a read cannot be given up at Ctrl-C, waiting
/// for a thread can. Disconnected at the end of the input.
fn lines() -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = bounded(0);
    thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn understand<'a>(line: &'a str, conversation: &mut Conversation) -> Result<Line<'a>, Failure> {
    let Some(command) = line.strip_prefix('/') else {
        return Ok(if line.is_empty() {
            Line::Nothing
        } else {
            Line::Question(line)
        });
    };
    let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
    let rest = rest.trim();
    match name {
        "help" => output::complain(format_args!("{HELP}")),
        "quit" | "exit" => return Ok(Line::End),
        "reset" => conversation.reset(),
        "system" => conversation.set_system(rest),
        "undo" => {
            conversation.forget_answer();
            if conversation
                .messages
                .last()
                .is_some_and(|(role, _)| role == "user")
            {
                conversation.messages.pop();
            }
        }
        "retry" => {
            conversation.forget_answer();
            if conversation
                .messages
                .last()
                .is_some_and(|(role, _)| role == "user")
            {
                return Ok(Line::Again);
            }
            note("there is nothing to answer yet");
        }
        "history" => {
            for (role, content) in &conversation.messages {
                output::complain(format_args!("{} {}\n", paint(DIM, role), plain(content)));
            }
        }
        "save" | "load" if rest.is_empty() => note("name a file"),
        // A file that cannot be had is no reason to lose the conversation.
        "save" => match conversation.save(rest) {
            Ok(()) => output::complain(format_args!("{}\n", paint(DIM, format!("kept in {rest}")))),
            Err(failure) => note(failure.message()),
        },
        "load" => match Conversation::load(rest.as_ref()) {
            Ok(loaded) => *conversation = loaded,
            Err(failure) => note(failure.message()),
        },
        other => {
            let text = format!(
                "there is no command /{other}; {} lists them",
                paint(LITERAL, "/help")
            );
            note(&text);
        }
    }
    Ok(Line::Nothing)
}

fn note(text: &str) {
    output::complain(format_args!("{} {text}\n", paint(WARNING, "note:")));
}
