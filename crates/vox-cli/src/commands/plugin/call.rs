//! `vox plugin call`: one function of a plugin with JSON arguments, for trying it by hand.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use vox_contract::{Carrier, GrantsFile, MANIFEST_FILE, Manifest, PluginId};
use vox_host::contract::{Chunk, ChunkHead, Error};
use vox_host::directories::{Root, RootKind};
use vox_host::{EventSink, Files, Host, InstanceOptions, Ports};

use super::grants::{self, Granting};
use super::named::{self, Named};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::View;
use crate::output::style::{DIM, LITERAL, paint, plain};
use crate::streams::{CHUNK_BYTES, text_chunk};

/// Bytes that a plugin may push before it is told to stop: they are kept until they are printed.
const MAX_PUSHED_BYTES: usize = 64 << 20;

/// Arguments of `vox plugin call`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each call gets an instance of its own. Bytes are given as a JSON string, an \
                        array of numbers, or {\"base64\": \"…\"}.\n\nvox plugin call ./shout \
                        stage.process '{\"modality\":\"text\",\"sequence\":0,\"timestamp\":0,\
                        \"attributes\":[]}' '\"hello\"' --grant all"
)]
pub struct CallArgs {
    /// An installed plugin (redact), or the directory of one (./redact)
    #[arg(value_name = "ID|PATH")]
    plugin: String,
    /// The function, such as `stage.process` or `lifecycle.health`
    #[arg(value_name = "INTERFACE.FUNCTION")]
    function: String,
    /// Its arguments, a JSON value for each
    #[arg(value_name = "JSON", value_parser = json_value)]
    arguments: Vec<Value>,
    /// The payload to use: component or native
    #[arg(long, value_name = "CARRIER", value_parser = carrier)]
    carrier: Option<Carrier>,
    /// Members of the plugin's configuration, a JSON object
    #[arg(long, value_name = "JSON", value_parser = json_value)]
    config: Option<Value>,
    /// A file that the plugin can pull from a port
    #[arg(long, value_name = "PORT=FILE")]
    input: Vec<Pair>,
    /// A file that the plugin can read as a blob
    #[arg(long, value_name = "ID=FILE")]
    blob: Vec<Pair>,
    /// What to grant for this call: `all`, or capabilities separated by commas
    #[arg(long, value_delimiter = ',', value_name = "CAPABILITIES")]
    grant: Vec<Granting>,
}

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("{error}; text is written with quotes, as in '\"text\"'"))
}

fn carrier(text: &str) -> Result<Carrier, String> {
    text.parse()
        .map_err(|error: vox_contract::UnknownWord| format!("{error}; {}", error.hint()))
}

/// A name with a file.
#[derive(Debug, Clone)]
struct Pair {
    name: String,
    file: PathBuf,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok(Self {
                name: name.to_owned(),
                file: file.into(),
            }),
            _ => Err("write a name and a file: `stdin=notes.txt`".to_owned()),
        }
    }
}

/// What a call came to.
#[derive(Debug, Serialize)]
struct Answer {
    /// What the function answered.
    result: Value,
    /// What the plugin pushed to its ports, in order.
    pushed: Vec<Pushed>,
    /// The events that it emitted, in order.
    events: Vec<Emitted>,
}

/// A chunk that a plugin pushed.
#[derive(Debug, Serialize)]
struct Pushed {
    port: String,
    head: ChunkHead,
    /// Its bytes, where they are text; null otherwise.
    text: Option<String>,
    /// Its bytes in base64, where they are no text; null otherwise.
    base64: Option<String>,
}

/// An event that a plugin emitted.
#[derive(Debug, Serialize)]
struct Emitted {
    name: String,
    payload: Value,
}

impl View for Answer {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for Pushed {
            port,
            head,
            text,
            base64,
        } in &self.pushed
        {
            let head = format!("#{} {}", head.sequence, plain(&head.modality));
            writeln!(out, "{} {}", paint(LITERAL, plain(port)), paint(DIM, head))?;
            let body = text.as_deref().or(base64.as_deref()).unwrap_or_default();
            writeln!(out, "{}", body.trim_end_matches('\n'))?;
        }
        for Emitted { name, payload } in &self.events {
            writeln!(
                out,
                "{} {payload}",
                paint(LITERAL, format!("event {}", plain(name)))
            )?;
        }
        writeln!(out, "{:#}", self.result)
    }
}

pub(super) fn run(context: &Context, arguments: &CallArgs) -> Result<Exit, Failure> {
    let (host, id) = host(context, arguments)?;
    let collected = Arc::new(Collected::open(&arguments.input)?);
    let mut options = InstanceOptions::default();
    options.carrier = arguments.carrier;
    options.config = match arguments.config.clone() {
        None => serde_json::Map::new(),
        Some(Value::Object(members)) => members,
        Some(_) => {
            return Err(Failure::usage(
                "--config takes a JSON object: '{\"key\": 1}'",
            ));
        }
    };
    options.ports = Arc::clone(&collected) as _;
    options.events = Arc::clone(&collected) as _;
    options.blobs = Arc::new(
        arguments
            .blob
            .iter()
            .map(|Pair { name, file }| (name.clone(), file.clone()))
            .collect::<Files>(),
    );
    options.cancel = interrupt::token();
    let _listening = context.listen(&host, &format!("plugin call {id} {}", arguments.function));
    let mut instance = host.instance(&id, options)?;
    let result = instance.call_json(&arguments.function, arguments.arguments.clone())?;
    // What it says when it is shut down belongs to the answer.
    drop(instance);
    context.output.show(&collected.answer(result))?;
    Ok(Exit::Success)
}

/// A host that serves the plugin, and its id. A plugin that is named by its path is served from
/// there, whatever else is installed.
fn host(context: &Context, arguments: &CallArgs) -> Result<(Host, PluginId), Failure> {
    let open = |roots: Vec<Root>, manifest: Option<&Manifest>| {
        let mut directories = context.directories.clone();
        directories.roots = roots;
        let mut granted = GrantsFile::default();
        if let Some(manifest) = manifest {
            let own = granted.of_mut(&manifest.id);
            grants::granted(&arguments.grant, manifest)
                .into_iter()
                .for_each(|grant| own.add(grant));
        }
        context.host_in(directories, granted)
    };
    let roots = context.directories.roots.clone();
    match Named::new(&arguments.plugin) {
        Named::Id(id) => {
            let installed = context.host()?.plugin(&id)?;
            Ok((open(roots, Some(&installed.manifest))?, id))
        }
        Named::Path(path) => {
            let directory = named::usable(&path)?;
            let directory = std::path::absolute(&directory).unwrap_or(directory);
            let manifest = Manifest::load(&directory.join(MANIFEST_FILE))?;
            let own = Root {
                path: directory.clone(),
                kind: RootKind::Environment,
            };
            let host = open(
                std::iter::once(own.clone()).chain(roots).collect(),
                Some(&manifest),
            )?;
            let serves = host
                .plugin(&manifest.id)
                .is_ok_and(|plugin| plugin.directory == directory);
            // A higher version elsewhere would be used in its place.
            let host = if serves {
                host
            } else {
                open(vec![own], Some(&manifest))?
            };
            Ok((host, manifest.id))
        }
    }
}

/// The ports and events of the instance: inputs from files, everything else kept.
#[derive(Debug, Default)]
struct Collected {
    inputs: Mutex<BTreeMap<String, (File, u64)>>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    pushed: Vec<(String, Chunk)>,
    bytes: usize,
    events: Vec<Emitted>,
}

impl Collected {
    fn open(inputs: &[Pair]) -> Result<Self, Failure> {
        let open = |Pair { name, file }: &Pair| {
            let opened = File::open(file).map_err(|error| Failure::io("open", file, &error))?;
            Ok((name.clone(), (opened, 0)))
        };
        let inputs = inputs.iter().map(open).collect::<Result<_, Failure>>()?;
        Ok(Self {
            inputs: Mutex::new(inputs),
            kept: Mutex::default(),
        })
    }

    fn answer(&self, result: Value) -> Answer {
        let Kept { pushed, events, .. } = std::mem::take(&mut *lock(&self.kept));
        let pushed = pushed.into_iter().map(|(port, Chunk { head, data })| {
            let (text, base64) = match String::from_utf8(data) {
                Ok(text) => (Some(text), None),
                Err(error) => (None, Some(BASE64.encode(error.as_bytes()))),
            };
            Pushed {
                port,
                head,
                text,
                base64,
            }
        });
        Answer {
            result,
            pushed: pushed.collect(),
            events,
        }
    }
}

impl Ports for Collected {
    fn push(
        &self,
        port: &str,
        head: ChunkHead,
        data: &[u8],
        _: Option<Duration>,
    ) -> Result<(), Error> {
        let mut kept = lock(&self.kept);
        if kept.bytes + data.len() > MAX_PUSHED_BYTES {
            return Err(Error::Failed(format!(
                "a call by hand keeps at most {MAX_PUSHED_BYTES} bytes of output"
            )));
        }
        kept.bytes += data.len();
        kept.pushed.push((
            port.to_owned(),
            Chunk {
                head,
                data: data.to_vec(),
            },
        ));
        Ok(())
    }

    fn pull(&self, port: &str, _: Option<Duration>) -> Result<Option<Chunk>, Error> {
        let mut inputs = lock(&self.inputs);
        let Some((file, sequence)) = inputs.get_mut(port) else {
            return Err(Error::NotFound(format!(
                "no stream is connected to port `{port}`; `--input {port}=<file>` connects a file"
            )));
        };
        let mut data = Vec::new();
        let read = file.take(CHUNK_BYTES as u64).read_to_end(&mut data);
        read.map_err(|error| Error::Failed(format!("port `{port}`: {error}")))?;
        if data.is_empty() {
            return Ok(None);
        }
        *sequence += 1;
        Ok(Some(text_chunk(*sequence - 1, data)))
    }
}

impl EventSink for Collected {
    fn emit(&self, _: &PluginId, name: &str, payload: &str) {
        let payload = serde_json::from_str(payload).unwrap_or_else(|_| payload.into());
        lock(&self.kept).events.push(Emitted {
            name: name.to_owned(),
            payload,
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_in_chunks_without_gaps_and_then_ends() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("in");
        std::fs::write(&file, vec![b'x'; CHUNK_BYTES + 1]).unwrap();
        let ports = Collected::open(&[Pair {
            name: "stdin".into(),
            file,
        }])
        .unwrap();
        let chunk = ports.pull("stdin", None).unwrap().unwrap();
        assert_eq!((chunk.head.sequence, chunk.data.len()), (0, CHUNK_BYTES));
        let chunk = ports.pull("stdin", None).unwrap().unwrap();
        assert_eq!((chunk.head.sequence, chunk.data.len()), (1, 1));
        assert!(ports.pull("stdin", None).unwrap().is_none());
        assert!(matches!(ports.pull("other", None), Err(Error::NotFound(_))));
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_base64() {
        let ports = Collected::default();
        ports
            .push("out", text_chunk(0, vec![]).head, b"\xff", None)
            .unwrap();
        let answer = ports.answer(Value::Null);
        assert_eq!(
            (
                answer.pushed[0].text.as_deref(),
                answer.pushed[0].base64.as_deref()
            ),
            (None, Some("/w=="))
        );
    }
}
