//! Ops as they are printed.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use vox_crypto::{KeyId, PublicKey, Signature, canonical};
use vox_oplog::Op;

use crate::output::View;
use crate::output::style::{DIM, LITERAL, paint, plain};
use crate::record::written_time;

/// An op in one line.
#[derive(Debug, Serialize)]
pub(super) struct OpLine {
    pub(super) seq: u64,
    pub(super) kind: String,
    pub(super) time: String,
    pub(super) class: &'static str,
    pub(super) author: KeyId,
    pub(super) run: Option<String>,
    pub(super) step: Option<String>,
    /// What it says; null where that is no JSON.
    pub(super) payload: Option<Value>,
}

impl OpLine {
    pub(super) fn of(op: &Op) -> Self {
        Self {
            seq: op.seq,
            kind: op.kind.to_string(),
            time: written_time(op.time),
            class: op.class.name(),
            author: op.author.id(),
            run: op.run.clone(),
            step: op.step.clone(),
            payload: payload_of(op),
        }
    }

    /// Writes it in one line for people.
    pub(super) fn line(&self, out: &mut dyn Write) -> io::Result<()> {
        let time = paint(DIM, &self.time);
        write!(
            out,
            "{:>6}  {time}  {}",
            self.seq,
            paint(LITERAL, plain(&self.kind))
        )?;
        if let Some(run) = &self.run {
            write!(out, "  run {}", plain(run))?;
        }
        if let Some(step) = &self.step {
            write!(out, "  step {}", plain(step))?;
        }
        if let Some(said) = self.payload.as_ref().and_then(in_short) {
            write!(out, "  {}", plain(&said))?;
        }
        writeln!(out)
    }
}

/// An op with all that it says.
#[derive(Debug, Serialize)]
pub(super) struct OpView {
    #[serde(flatten)]
    line: OpLine,
    hash: String,
    previous: String,
    payload_hash: String,
    author_key: PublicKey,
    signature: Signature,
}

impl OpView {
    pub(super) fn of(op: &Op) -> Self {
        Self {
            line: OpLine::of(op),
            hash: op.hash().to_string(),
            previous: op.prev.to_string(),
            payload_hash: op.payload_hash.to_string(),
            author_key: op.author,
            signature: op.signature,
        }
    }
}

impl View for OpView {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { line, .. } = self;
        writeln!(
            out,
            "{} {}",
            paint(LITERAL, plain(&line.kind)),
            paint(DIM, format!("op {}", line.seq))
        )?;
        writeln!(out, "  time:      {}", line.time)?;
        if let Some(run) = &line.run {
            writeln!(out, "  run:       {}", plain(run))?;
        }
        if let Some(step) = &line.step {
            writeln!(out, "  step:      {}", plain(step))?;
        }
        writeln!(out, "  class:     {}", line.class)?;
        writeln!(out, "  author:    {}", self.author_key)?;
        writeln!(out, "  hash:      {}", self.hash)?;
        writeln!(out, "  previous:  {}", self.previous)?;
        writeln!(out, "  payload:   {}", self.payload_hash)?;
        writeln!(out, "  signature: {}", self.signature)?;
        match &line.payload {
            Some(Value::Object(members)) => {
                for (name, value) in members {
                    let text = value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned);
                    writeln!(out, "    {}: {}", paint(LITERAL, plain(name)), plain(&text))?;
                }
                Ok(())
            }
            Some(value) => writeln!(out, "    {}", plain(&value.to_string())),
            None => writeln!(
                out,
                "    {}",
                paint(DIM, "the payload holds bytes, which are not shown")
            ),
        }
    }
}

/// The payload as JSON. Byte strings have no form there.
fn payload_of(op: &Op) -> Option<Value> {
    canonical::decode_any(&op.payload).ok()
}

/// A payload in a few words: the texts and numbers that it begins with.
fn in_short(payload: &Value) -> Option<String> {
    let members = payload.as_object()?;
    let shown = members.iter().filter_map(|(name, value)| match value {
        Value::String(text) if text.len() <= 64 => Some(format!("{name}={text}")),
        Value::Number(number) => Some(format!("{name}={number}")),
        _ => None,
    });
    let shown: Vec<_> = shown.take(4).collect();
    (!shown.is_empty()).then(|| shown.join(" "))
}
