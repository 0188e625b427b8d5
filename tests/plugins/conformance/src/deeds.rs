//! What the `conformance` runner does on request: one deed for each host interface, and some that
//! no plugin should do.

use std::collections::BTreeMap;

use serde::Deserialize;
use vox_plugin::host::call::Target;
use vox_plugin::host::log::Level;
use vox_plugin::step::{Invocation, Outcome};
use vox_plugin::{Attribute, ChunkHead, Error, Result, attribute, from_json, host};

use crate::files;

/// The step's arguments.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Deed {
    /// Gives the invocation back.
    Echo,
    /// Sets, gets and deletes a value.
    Kv { key: String, value: String },
    /// Sets a value and leaves it, or gets it.
    Keep { key: String, value: Option<String> },
    /// Copies port `in` to port `out`.
    Copy,
    /// Pushes to a port with a time-out.
    Push { port: String, timeout_ms: u32 },
    /// Reads its configuration.
    Config { key: String },
    /// Logs at every level.
    Log { message: String },
    /// Emits an event.
    Emit { name: String, payload: String },
    /// Reads a blob in pieces.
    Blob { id: String },
    /// Binds, bundles and compares vectors.
    Vsa { dimensions: u32 },
    /// Calls another plugin.
    Call {
        plugin: Option<String>,
        service: Option<String>,
        point: Option<String>,
        function: String,
        arguments: String,
    },
    /// Publishes, and receives its own message.
    Topics { topic: String },
    /// Works until it is cancelled.
    UntilCancelled,
    /// Works for ever.
    Spin,
    /// Panics.
    Panic { message: String },
    /// Overflows its stack.
    Recurse,
    /// Starts a thread that calls the host until it is told to end; native code only.
    Thread,
    /// Answers a large result.
    Large { bytes: usize },
    /// Does one after the other, until one ends with a code; answers the facts of all.
    All { deeds: Vec<Self> },
    /// Ends with a code.
    End { code: i32 },
    /// Answers these facts.
    Facts { facts: BTreeMap<String, String> },
    /// Fails each try before this one.
    FailBefore {
        attempt: u32,
        /// With an error in place of a code.
        #[serde(default)]
        error: bool,
    },
    /// Goes on for a while after it was cancelled, and ends with a code.
    Linger { polls: u64, code: i32 },
    /// Writes a variable of its environment to a port that people read, and answers it.
    Reveal {
        variable: String,
        /// Emits it too.
        #[serde(default)]
        event: bool,
        /// Fails with it in the end.
        #[serde(default)]
        error: bool,
    },
    /// Pushes these chunks to a port.
    Write { port: String, chunks: Vec<Piece> },
    /// Emits an event `chunk` for each chunk of a port.
    Tell { port: String },
    /// Appends a line to a file of the run's directory.
    Note { file: String, line: String },
    /// Appends each chunk of a port to a file of the run's directory, as a line.
    NoteEach { port: String, file: String },
    /// Waits until a file of the run's directory is there.
    Wait { file: String },
    /// Makes an output, or a member of one that is a directory.
    Make {
        output: String,
        #[serde(default)]
        member: Option<String>,
        text: String,
        #[serde(default)]
        executable: bool,
    },
    /// Makes an output of the files that it is given.
    Join { output: String },
    /// Answers the files that it is given.
    Given,
}

/// A chunk as the arguments say it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Piece {
    text: String,
    #[serde(default)]
    modality: Option<String>,
    #[serde(default)]
    timestamp: u64,
}

/// Carries a step out.
pub fn run(invocation: &Invocation) -> Result<Outcome> {
    let deed = from_json(&invocation.arguments)?;
    let (code, attributes) = perform(deed, invocation)?;
    Ok(Outcome {
        code,
        summary: invocation.step.clone(),
        attributes,
    })
}

/// Does something; answers its code and the facts.
fn perform(deed: Deed, invocation: &Invocation) -> Result<(i32, Vec<Attribute>)> {
    let mut code = 0;
    let facts = match deed {
        Deed::Echo => echo(invocation),
        Deed::Kv { key, value } => {
            let before = host::kv::get(&key)?;
            host::kv::set(&key, value.as_bytes())?;
            let after = host::kv::get(&key)?;
            let deleted = host::kv::delete(&key)?;
            vec![
                attribute("before", format!("{before:?}")),
                attribute("after", format!("{after:?}")),
                attribute("deleted", deleted.to_string()),
            ]
        }
        Deed::Keep {
            key,
            value: Some(value),
        } => {
            host::kv::set(&key, value.as_bytes())?;
            Vec::new()
        }
        Deed::Keep { key, value: None } => {
            vec![attribute("value", format!("{:?}", host::kv::get(&key)?))]
        }
        Deed::Copy => {
            let mut chunks = 0;
            while let Some(chunk) = host::stream::pull("in", None)? {
                host::stream::push("out", &chunk.head, &chunk.data, None)?;
                chunks += 1;
            }
            vec![attribute("chunks", chunks.to_string())]
        }
        Deed::Push { port, timeout_ms } => {
            host::stream::push(
                &port,
                &vox_plugin::text_chunk(0),
                b"pushed",
                Some(timeout_ms),
            )?;
            Vec::new()
        }
        Deed::Config { key } => vec![attribute("value", format!("{:?}", host::config::get(&key)))],
        Deed::Log { message } => {
            for level in [
                Level::Error,
                Level::Warn,
                Level::Info,
                Level::Debug,
                Level::Trace,
            ] {
                host::log::write(level, &message, &[attribute("step", &invocation.step)]);
            }
            Vec::new()
        }
        Deed::Emit { name, payload } => {
            host::events::emit(&name, &payload)?;
            Vec::new()
        }
        Deed::Blob { id } => {
            let size = host::blob::size(&id)?;
            let middle = host::blob::read(&id, size / 2, 4)?;
            let beyond = host::blob::read(&id, size + 1, 4)?;
            vec![
                attribute("size", size.to_string()),
                attribute("middle", format!("{middle:?}")),
                attribute("beyond", format!("{beyond:?}")),
            ]
        }
        Deed::Vsa { dimensions } => vsa(dimensions)?,
        Deed::Call {
            plugin,
            service,
            point,
            function,
            arguments,
        } => {
            let target = match (plugin, service, point) {
                (Some(id), _, _) => Target::Plugin(id),
                (_, Some(name), _) => Target::Service(name),
                (_, _, point) => Target::ExtensionPoint(point.unwrap_or_default()),
            };
            vec![attribute(
                "result",
                host::call::invoke(&target, &function, &arguments)?,
            )]
        }
        Deed::Topics { topic } => {
            let subscription = host::topics::subscribe(&topic)?;
            let taken = host::topics::publish(&topic, b"news")?;
            let message = host::topics::receive(subscription, 1000)?;
            let nothing = host::topics::receive(subscription, 0)?;
            host::topics::unsubscribe(subscription)?;
            vec![
                attribute("taken", taken.to_string()),
                attribute("message", format!("{message:?}")),
                attribute("nothing", format!("{nothing:?}")),
            ]
        }
        Deed::UntilCancelled => {
            host::events::emit("working", "{}")?;
            while !host::cancel::should_cancel() {
                std::hint::spin_loop();
            }
            code = 130;
            Vec::new()
        }
        Deed::Spin => {
            host::events::emit("working", "{}")?;
            spin()
        }
        Deed::Panic { message } => panic!("{message}"),
        Deed::Recurse => vec![attribute(
            "depth",
            recurse(invocation.attempt.into()).to_string(),
        )],
        Deed::Thread => {
            call_from_a_thread();
            Vec::new()
        }
        Deed::Large { bytes } => vec![attribute("large", "x".repeat(bytes))],
        Deed::All { deeds } => {
            let mut facts = Vec::new();
            for deed in deeds {
                let (ended, more) = perform(deed, invocation)?;
                facts.extend(more);
                code = ended;
                if code != 0 {
                    break;
                }
            }
            facts
        }
        Deed::End { code: wanted } => {
            code = wanted;
            Vec::new()
        }
        Deed::Facts { facts } => facts
            .into_iter()
            .map(|(key, value)| attribute(key, value))
            .collect(),
        Deed::FailBefore { attempt, error } => {
            if invocation.attempt < attempt {
                if error {
                    let told = format!("told to fail at try {}", invocation.attempt);
                    return Err(Error::Failed(told));
                }
                code = 75;
            }
            Vec::new()
        }
        Deed::Linger {
            polls,
            code: wanted,
        } => {
            linger(polls)?;
            code = wanted;
            Vec::new()
        }
        Deed::Reveal {
            variable,
            event,
            error,
        } => {
            let value = reveal(invocation, &variable, event)?;
            if error {
                return Err(Error::Failed(format!("it is {value}")));
            }
            vec![attribute("value", value)]
        }
        Deed::Write { port, chunks } => {
            for (sequence, piece) in (0..).zip(chunks) {
                let head = ChunkHead {
                    modality: piece.modality.unwrap_or_else(|| "text".to_owned()),
                    sequence,
                    timestamp: piece.timestamp,
                    attributes: Vec::new(),
                };
                host::stream::push(&port, &head, piece.text.as_bytes(), None)?;
            }
            Vec::new()
        }
        Deed::Tell { port } => {
            while let Some(chunk) = host::stream::pull(&port, None)? {
                let attributes = chunk.head.attributes.iter();
                let attributes: BTreeMap<&str, &str> = attributes
                    .map(|one| (one.key.as_str(), one.value.as_str()))
                    .collect();
                let told = serde_json::json!({
                    "modality": chunk.head.modality,
                    "sequence": chunk.head.sequence,
                    "timestamp": chunk.head.timestamp,
                    "attributes": attributes,
                    "data": chunk.data,
                });
                host::events::emit("chunk", &told.to_string())?;
            }
            Vec::new()
        }
        Deed::Note { file, line } => {
            files::note(invocation, &file, &line)?;
            Vec::new()
        }
        Deed::NoteEach { port, file } => {
            while let Some(chunk) = host::stream::pull(&port, None)? {
                files::note(invocation, &file, &String::from_utf8_lossy(&chunk.data))?;
            }
            Vec::new()
        }
        Deed::Wait { file } => {
            files::wait(invocation, &file)?;
            Vec::new()
        }
        Deed::Make {
            output,
            member,
            text,
            executable,
        } => {
            files::make(invocation, &output, member.as_deref(), &text, executable)?;
            Vec::new()
        }
        Deed::Join { output } => {
            files::join(invocation, &output)?;
            Vec::new()
        }
        Deed::Given => files::given(invocation),
    };
    Ok((code, facts))
}

/// Goes on for `polls` looks after the one that said that it is cancelled.
fn linger(polls: u64) -> Result<()> {
    host::events::emit("working", "{}")?;
    while !host::cancel::should_cancel() {
        std::hint::spin_loop();
    }
    for _ in 0..polls {
        std::hint::black_box(host::cancel::should_cancel());
    }
    Ok(())
}

/// Writes a variable to a port that people read, and answers it.
fn reveal(invocation: &Invocation, variable: &str, event: bool) -> Result<String> {
    let mut environment = invocation.environment.iter();
    let value = environment
        .find(|one| one.key == variable)
        .map(|one| one.value.clone())
        .ok_or_else(|| Error::NotFound(format!("variable `{variable}`")))?;
    let line = format!("it is {value}\n");
    host::stream::push("stdout", &vox_plugin::text_chunk(0), line.as_bytes(), None)?;
    if event {
        let payload = serde_json::json!({ "value": value });
        host::events::emit("revealed", &payload.to_string())?;
        let payload = serde_json::json!({ "done": 1, "message": value });
        host::events::emit("progress", &payload.to_string())?;
    }
    Ok(value)
}

fn echo(invocation: &Invocation) -> Vec<Attribute> {
    let mut facts = vec![
        attribute("run", &invocation.run),
        attribute("runner", &invocation.runner),
        attribute("directory", &invocation.directory),
        attribute("attempt", invocation.attempt.to_string()),
        attribute("idempotency-key", &invocation.idempotency_key),
        attribute("inputs", invocation.inputs.join(",")),
        attribute("outputs", invocation.outputs.join(",")),
    ];
    facts.extend(invocation.environment.iter().cloned());
    facts
}

fn vsa(dimensions: u32) -> Result<Vec<Attribute>> {
    let [red, circle, blue, square] =
        ["red", "circle", "blue", "square"].map(|name| host::vsa::symbol(name, dimensions));
    let (red, circle, blue, square) = (red?, circle?, blue?, square?);
    let pairs = [
        host::vsa::bind(&red, &circle)?,
        host::vsa::bind(&blue, &square)?,
    ];
    let scene = host::vsa::bundle(&pairs)?;
    let answer = host::vsa::unbind(&scene, &red)?;
    Ok(vec![
        attribute(
            "circle",
            host::vsa::similarity(&answer, &circle)?.to_string(),
        ),
        attribute(
            "square",
            host::vsa::similarity(&answer, &square)?.to_string(),
        ),
    ])
}

/// Calls the host from a thread that does not know when its instance ends.
#[cfg(not(target_family = "wasm"))]
fn call_from_a_thread() {
    let Some(handle) = vox_plugin::native::HostHandle::current() else {
        return;
    };
    std::thread::spawn(move || {
        handle.enter(|| {
            // What the host answers is of no interest, only that it does.
            let _ = host::events::emit("thread-begins", "{}");
            while !host::cancel::should_cancel() {
                let _ = host::config::get("key");
                let _ = host::topics::subscribe("thread").map(host::topics::unsubscribe);
                let _ = host::kv::get("key");
                let target = Target::Plugin("hello".to_owned());
                let _ = host::call::invoke(&target, "command.describe", r#"["hello"]"#);
            }
            let _ = host::events::emit("thread-ends", "{}");
        });
    });
}

#[cfg(target_family = "wasm")]
fn call_from_a_thread() {}

/// Works for ever.
pub fn spin() -> ! {
    loop {
        std::hint::black_box(0);
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    if depth == u64::MAX {
        frame[0]
    } else {
        recurse(depth + 1) + std::hint::black_box(frame[1]) % 2
    }
}
