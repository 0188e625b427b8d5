//! What can go wrong between a configuration and a batch.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::ConfigError;

/// An error of a tokenizer, which lives behind the plugin boundary.
pub type TokenizerError = Box<dyn std::error::Error + Send + Sync>;

/// Why data, a template or a configuration could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is refused, with everything that is wrong with it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file or directory could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory has no file that could be data.
    #[error(
        "{}: there is no data in this directory: put files with text or JSONL into it, or name \
         other files",
        path.display()
    )]
    NoFiles {
        /// The directory.
        path: PathBuf,
    },
    /// A file that should hold data is not text.
    #[error("{}: {reason}: data is text or JSONL in UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// What shows it.
        reason: NotText,
    },
    /// One line, or the example on it, cannot be used.
    #[error(transparent)]
    Line(#[from] LineError),
    /// All data together make no example.
    #[error(
        "{}: there are no examples in the data{}: training needs at least one",
        path.display(),
        if *skipped == 0 { String::new() } else { format!(" ({skipped} invalid lines were left out)") }
    )]
    NoExamples {
        /// The first file, or the only one.
        path: PathBuf,
        /// Lines that were left out.
        skipped: u64,
    },
    /// The evaluation split leaves nothing to train on.
    #[error(
        "all {examples} examples belong to the evaluation split, none is left to train on: give a \
         smaller `evaluation-fraction` or `evaluation-count`, or more data"
    )]
    NothingToTrain {
        /// Examples in all.
        examples: u64,
    },
    /// The data has conversations, and the model has no chat template.
    #[error(
        "{}: the data has `messages`, and the model has no chat template: use a model that has one \
         (`chat_template` in tokenizer_config.json, or chat_template.jinja), or data with `text` \
         or `prompt` and `completion`",
        path.display()
    )]
    NoTemplate {
        /// The file with conversations.
        path: PathBuf,
    },
    /// A chat template cannot be read.
    #[error("{origin}: the chat template is not valid: {message}")]
    Template {
        /// The file that it stands in.
        origin: String,
        /// What is wrong, with the line.
        message: String,
    },
    /// A file of a model is not what it should be.
    #[error("{}: {message}", path.display())]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A token that marks the end of a text is no single token of the vocabulary.
    #[error(
        "the model's end-of-text token `{token}` is {found} tokens to its tokenizer, not one: its \
         tokenizer_config.json and tokenizer.json do not belong together"
    )]
    EndToken {
        /// The token as it is written.
        token: String,
        /// What the tokenizer made of it.
        found: usize,
    },
    /// A tokenizer failed for a reason that is not the data's.
    #[error("the tokenizer failed: {source}")]
    Tokenizer {
        /// What it said.
        source: TokenizerError,
    },
    /// A tokenizer gave a token that the model does not have.
    #[error(
        "the tokenizer made token {token}, and the model has only {vocabulary}: its tokenizer and \
         its weights do not belong together"
    )]
    Vocabulary {
        /// The token.
        token: u32,
        /// Number of tokens that the model has.
        vocabulary: u32,
    },
    /// A file of tokens, or a loss curve, is damaged.
    #[error("{}: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The caller gave the work up.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The error for a path that cannot be read.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    /// The error for a path that cannot be written.
    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }
}

/// What shows that a file is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotText {
    /// It has a byte of zeros, at this offset.
    Binary(usize),
    /// It begins with the byte order mark of UTF-16.
    Utf16,
    /// It begins as a file that gzip, zstd, xz or zip made.
    Compressed,
    /// It is neither a file nor a directory.
    Special,
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary(offset) => {
                write!(f, "this is a binary file (a zero byte at offset {offset})")
            }
            Self::Utf16 => f.write_str("this file is in UTF-16"),
            Self::Compressed => f.write_str("this file is compressed"),
            Self::Special => f.write_str("this is neither a file nor a directory"),
        }
    }
}

/// A line of the data that cannot be used. It may be left out where the user asked for that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {fault}", file.display())]
pub struct LineError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; where several lines make one text, the first of them.
    pub line: u64,
    /// What is wrong with it.
    pub fault: LineFault,
}

/// What is wrong with a line, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// There is nothing on a line that should hold JSON.
    #[error("the line is empty: expected an object with {expected}")]
    Empty {
        /// The keys of such an object.
        expected: &'static str,
    },
    /// The line is longer than what is read at once.
    #[error(
        "the line is longer than {} MiB: cut it into several, or give it line breaks",
        crate::data::MAX_LINE_BYTES >> 20
    )]
    TooLong,
    /// The line is not UTF-8.
    #[error("byte {column} of the line is not UTF-8: save the file as UTF-8")]
    Encoding {
        /// Place in the line, counted from 1.
        column: usize,
    },
    /// The line is not JSON.
    #[error("not valid JSON: {message}: expected an object with {expected}")]
    Json {
        /// What the parser said.
        message: String,
        /// The keys of such an object.
        expected: &'static str,
    },
    /// The JSON has another shape.
    #[error("{found}: expected an object with {expected}")]
    Shape {
        /// What stands there.
        found: String,
        /// The keys of such an object.
        expected: &'static str,
    },
    /// The first line of a file is JSON, or was to be, and does not show which kind of data it is.
    #[error(
        "{found}: expected JSONL, on each line an object with `text`, with `prompt` and `completion`, \
         or with `messages`; to learn it as text, write `format = \"plain\"` in `data`"
    )]
    NoKind {
        /// What stands there.
        found: String,
    },
    /// A message is of a role that no model was trained with, as far as its template tells.
    #[error(
        "message {message} has the role `{}`, which the chat template does not name: expected `system`, \
         `user`, `assistant` or `tool`",
        role.escape_debug()
    )]
    Role {
        /// Number of the message, counted from 1.
        message: usize,
        /// Its role.
        role: String,
    },
    /// The chat template refuses the conversation, or fails on it.
    #[error("the chat template refuses this conversation: {message}")]
    Template {
        /// What it raised.
        message: String,
    },
    /// The template's output does not show where an answer stands.
    #[error(
        "cannot tell where answer {answer} stands in what the chat template makes of the \
         conversation"
    )]
    Answer {
        /// Number of the message, counted from 1.
        answer: usize,
    },
    /// The tokenizer refuses the text.
    #[error("the tokenizer refuses this text: {message}")]
    Tokenizer {
        /// What it said.
        message: String,
    },
    /// The example has more tokens than the context has room for.
    #[error(
        "the example has {tokens} tokens, and the context has room for {room}: raise `context` in \
         `data`, or cut what is too long with `overlong = \"cut\"`"
    )]
    Overlong {
        /// Tokens of the example.
        tokens: usize,
        /// The most that it may have.
        room: usize,
    },
    /// Nothing in the example is to be learnt.
    #[error("there is nothing to learn in this example: {reason}")]
    NothingToLearn {
        /// Why not.
        reason: &'static str,
    },
}
