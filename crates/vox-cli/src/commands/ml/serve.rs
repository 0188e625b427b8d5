//! `vox serve`: models for programs that speak OpenAI's API.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use clap::builder::{NonEmptyStringValueParser, RangedU64ValueParser};
use crossbeam_channel::RecvTimeoutError;
use vox_host::contract::generation::Piece;
use vox_host::contract::inference_backend::{self as contract, Prompt, Request};
use vox_host::{CancelToken, Host};
use vox_ml::answer::{Answerer, DispatchError, Said};
use vox_ml::backend::BackendError;
use vox_ml::data::{Chat, Message};
use vox_serve::{
    Alternative, Backends, Completion, Embeddings, Engine, EngineError, Finish, Finished, Keys,
    ModelCard, Options, Part, ServeError, Server, Token,
};

use super::instances::{Held, Instances};
use super::serving::{Found, ModelArgs, Opened};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output;
use crate::output::style::{GOOD, LITERAL, WARNING, paint, plain};
use crate::record::now;

/// Arguments of `vox serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "POST /v1/chat/completions, /v1/completions, /v1/embeddings; GET /v1/models, /health, /metrics.\n\
                  Ctrl-C finishes what is being answered, and takes no more."
)]
pub struct ServeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What requests call the model [default: as it is called here, and a directory without the way to it]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,
    /// A file with the keys that may ask, one a line; only its owner may be able to read it. Keys in
    /// VOX_SERVE_KEYS, separated by commas, count as well
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Let anybody ask who can reach the address, without a key
    #[arg(long)]
    open: bool,
    /// Requests that are answered at once
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..),
        allow_negative_numbers = true
    )]
    parallel: usize,
    /// Requests that may wait
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 32,
        allow_negative_numbers = true
    )]
    queue: usize,
    /// Another limit, such as prompt_bytes=8388608 or queue_time=5min; a name that is none lists all
    #[arg(long, value_name = "NAME=VALUE", value_parser = limit)]
    limit: Vec<(String, String)>,
    /// A page's origin that may ask from a browser, such as http://localhost:3000
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
}

/// An address with its port; the name of a host is looked up.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| {
        format!("{error}; an address has a port, as 127.0.0.1:8080 and localhost:8080 have")
    })?;
    let found: Vec<_> = found.collect();
    // Clients that are told no other address ask at 127.0.0.1.
    let first = found.iter().find(|address| address.is_ipv4());
    let first = first.or(found.first());
    first
        .copied()
        .ok_or_else(|| "the host has no address".to_owned())
}

/// A limit's name and its value.
fn limit(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=');
    let (name, value) = parts.ok_or("it is a name, `=`, and a value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl ServeArgs {
    /// What requests call the model.
    fn name(&self) -> String {
        let model = &self.model.model;
        if let Some(name) = &self.name {
            return name.clone();
        }
        let last = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
        // Only of a path that ends with `..`, or is no more than `.`, has the system to say where it leads.
        let path = Path::new(model);
        last(path)
            .or_else(|| last(&path.canonicalize().ok()?))
            .unwrap_or_else(|| model.clone())
    }

    /// How the server behaves, and what it bounds.
    fn options(&self) -> Result<Options, Failure> {
        let refused =
            |error: vox_serve::KeyError| Failure::new(Exit::InvalidInput, error.to_string());
        let mut options = Options::default();
        options.listen = self.listen;
        options.open = self.open;
        options.origins.clone_from(&self.origin);
        options.served = self.parallel;
        options.queue = self.queue;
        for (name, value) in &self.limit {
            let set = options.set_limit(name, value);
            set.map_err(|error| Failure::usage(error.to_string()))?;
        }
        if let Some(file) = &self.keys {
            let keys = Keys::from_file(file).map_err(refused)?;
            options.keys = options.keys.and(keys);
        }
        if let Ok(keys) = std::env::var(KEYS) {
            let keys = Keys::from_variable(KEYS, &keys).map_err(refused)?;
            options.keys = options.keys.and(keys);
        }
        // Before a model is loaded for nothing.
        options
            .check(options.listen)
            .map_err(|error| no_server(&error))?;
        Ok(options)
    }
}

/// Why there is no server, with the words of the command line.
fn no_server(error: &ServeError) -> Failure {
    let message = error.to_string();
    match error {
        ServeError::Open { .. } => Failure::new(Exit::Failed, message).hint(
            "`--keys FILE` or VOX_SERVE_KEYS has the keys that may ask; `--open` lets everybody ask",
        ),
        ServeError::Option {
            name: "origins",
            reason,
        } => Failure::usage(format!("`--origin` {reason}")),
        ServeError::Option { .. } => Failure::usage(message),
        _ => Failure::new(Exit::Failed, message),
    }
}

/// The model that is served, in as many instances as requests are answered at once.
struct Served {
    host: Host,
    model: ModelArgs,
    found: Found,
    card: ModelCard,
    /// The weights are shared.
    instances: Instances<Answerer>,
    /// Backends that died.
    died: AtomicU64,
    /// Those of them in whose place there was another again.
    replaced: AtomicU64,
}

impl Served {
    /// Works with an instance. One whose backends have all died is loaded anew, here and before the next request.
    fn with<T>(
        &self,
        held: &mut Held<'_, Answerer>,
        work: impl FnOnce(&mut Answerer) -> Result<T, DispatchError>,
    ) -> Result<T, EngineError> {
        if held.answerer().is_err() {
            // Where it fails, the answerer says why.
            let _ = self.renew(held);
        }
        let answerer = held.answerer().map_err(EngineError::Unavailable)?;
        let before = answerer.replaced();
        let result = work(answerer);
        let replaced = answerer.replaced() - before;
        let died = match &result {
            Err(DispatchError::Backend(error)) => error.is_the_backends(),
            // The prompt is to blame, and what the backend remembers is kept.
            Err(DispatchError::TooLong { .. }) | Ok(_) => false,
            Err(_) => true,
        };
        let lost = replaced + u64::from(died);
        self.died.fetch_add(lost, Ordering::Relaxed);
        self.replaced.fetch_add(replaced, Ordering::Relaxed);
        if let Err(error) = &result
            && died
        {
            // First of all it gives back what it holds, which the next one may need.
            held.set(Err(error.to_string()));
            if let Err(reason) = self.renew(held) {
                tracing::warn!(reason, "no backend serves the model; it is tried again");
            }
        }
        result.map_err(refusal)
    }

    /// Loads an instance anew, and says so once it can answer: whoever reads that may ask.
    fn renew(&self, held: &mut Held<'_, Answerer>) -> Result<(), String> {
        held.set(self.load());
        let plugin = held.answerer()?.model().plugin().to_string();
        self.replaced.fetch_add(1, Ordering::Relaxed);
        output::complain(format_args!(
            "{} {} again by {}\n",
            paint(GOOD, "serving"),
            paint(LITERAL, plain(&self.card.id)),
            plain(&plugin)
        ));
        Ok(())
    }

    /// Loads the model into the best backend that can serve it now.
    fn load(&self) -> Result<Answerer, String> {
        let dispatcher = self
            .model
            .dispatch(&self.host, &self.found, CancelToken::new())
            .map_err(|failure| failure.message().to_owned())?;
        let mut answerer = Answerer::load(dispatcher).map_err(|error| error.to_string())?;
        let ready = answerer.model().ready();
        ready.map_err(|error| error.to_string())?;
        Ok(answerer)
    }

    /// Loads an instance anew that cannot answer. False where there is one, and nothing serves it.
    fn mend(&self) -> bool {
        let Some(mut broken) = self.instances.hold_broken() else {
            return true;
        };
        self.renew(&mut broken).is_ok()
    }

    fn prompt(&self, prompt: &vox_serve::Prompt) -> Result<Prompt, EngineError> {
        Ok(match prompt {
            vox_serve::Prompt::Text(text) => Prompt::Text(text.clone()),
            vox_serve::Prompt::Tokens(tokens) => Prompt::Tokens(tokens.clone()),
            vox_serve::Prompt::Conversation(messages) => {
                let Some(template) = &self.found.template else {
                    if self.found.bundle.is_some() {
                        let why =
                            "the model has no chat template; /v1/completions goes on after a text";
                        return Err(EngineError::Refused(why.to_owned()));
                    }
                    let said = messages.iter().map(|message| contract::Message {
                        role: message.role.clone(),
                        content: message.content.clone(),
                    });
                    return Ok(Prompt::Conversation(said.collect()));
                };
                let said = messages
                    .iter()
                    .map(|message| Message::new(&message.role, &message.content));
                let chat = Chat {
                    messages: said.collect(),
                    ..Chat::default()
                };
                let text = template.render(&chat, true).map_err(|fault| {
                    EngineError::Refused(format!("the chat template refuses the messages: {fault}"))
                })?;
                Prompt::Text(text)
            }
        })
    }
}

fn refusal(error: DispatchError) -> EngineError {
    use vox_host::CallError;
    use vox_host::contract::Error;
    match error {
        DispatchError::Backend(BackendError::Call {
            source: CallError::Refused { error, .. },
            ..
        }) => match error {
            Error::Invalid(why) | Error::NotFound(why) => EngineError::Refused(reason(&why)),
            Error::Unavailable(why) => EngineError::Unavailable(why),
            error => EngineError::Failed(error.to_string()),
        },
        DispatchError::TooLong { tokens, context } => EngineError::TooLong {
            tokens: tokens.into(),
            context,
        },
        error => EngineError::Unavailable(error.to_string()),
    }
}

/// What a backend says of a prompt or of texts, without the name that they have in the contract: the server says
/// which member of the request they came in.
fn reason(why: &str) -> String {
    let mut names = ["`prompt`: ", "`tokens`: ", "`texts`: "].into_iter();
    let reason = names.find_map(|name| why.strip_prefix(name));
    reason.unwrap_or(why).to_owned()
}

fn part(said: &Said) -> Part {
    Part {
        text: said.text.clone(),
        token: said.piece.clone().map(|piece| {
            let Piece {
                token,
                text,
                log_probability,
                alternatives,
            } = piece;
            let alternatives = alternatives.into_iter().map(|other| Alternative {
                token: other.token,
                text: other.text,
                log_probability: other.log_probability,
            });
            Token {
                token,
                text,
                log_probability,
                alternatives: alternatives.collect(),
            }
        }),
    }
}

impl Engine for Served {
    fn models(&self) -> Vec<ModelCard> {
        vec![self.card.clone()]
    }

    fn complete(
        &self,
        request: &Completion,
        hear: &mut dyn FnMut(Part) -> bool,
    ) -> Result<Finished, EngineError> {
        let sampling = &request.sampling;
        let asked = Request {
            prompt: self.prompt(&request.prompt)?,
            answered: String::new(),
            sampling: contract::Sampling {
                temperature: sampling.temperature,
                top_k: sampling.top_k,
                top_p: sampling.top_p,
                min_p: sampling.min_p,
                repetition_penalty: sampling.repetition_penalty,
                presence_penalty: sampling.presence_penalty,
                frequency_penalty: sampling.frequency_penalty,
                seed: sampling.seed,
            },
            max_tokens: request.max_tokens,
            stop: request.stop.clone(),
            alternatives: request.alternatives,
        };
        let mut held = self.instances.hold(Some(&asked.prompt));
        let answered = self.with(&mut held, |answerer| {
            answerer.answer(&asked, &mut |said| hear(part(said)))
        })?;
        held.answered(asked.prompt, &answered.text);
        drop(held);
        let finished = answered.finished;
        Ok(Finished {
            reason: match finished.reason {
                contract::Finish::Stop => Finish::Stop,
                contract::Finish::Length => Finish::Length,
                contract::Finish::Context => Finish::Context,
                contract::Finish::Cancelled => Finish::Cancelled,
            },
            prompt_tokens: finished.prompt_tokens,
            cached_tokens: finished.cached_tokens,
            answer_tokens: finished.answer_tokens,
        })
    }

    fn embed(&self, _: &str, texts: &[String]) -> Result<Embeddings, EngineError> {
        let embedded = self.with(&mut self.instances.hold(None), |answerer| {
            Ok(answerer.embed(texts)?)
        })?;
        Ok(Embeddings {
            vectors: embedded.vectors,
            prompt_tokens: embedded.tokens,
        })
    }

    fn ready(&self) -> Result<(), String> {
        self.instances.ready()
    }

    fn backends(&self) -> Backends {
        Backends {
            died: self.died.load(Ordering::Relaxed),
            replaced: self.replaced.load(Ordering::Relaxed),
        }
    }
}

/// Serves.
pub(crate) fn run(context: &Context, arguments: &ServeArgs) -> Result<Exit, Failure> {
    let options = arguments.options()?;
    let Some(opened) = arguments.model.open(context, CancelToken::new())? else {
        return Ok(Exit::Success);
    };
    let Opened {
        host,
        found,
        dispatcher,
    } = opened;
    let mut answerers = vec![found.load(dispatcher)?];
    while answerers.len() < options.served {
        answerers.push(Answerer::load(arguments.model.dispatch(
            &host,
            &found,
            CancelToken::new(),
        )?)?);
    }
    let (plugin, loaded) = {
        let model = answerers[0].model();
        (model.plugin().to_string(), model.loaded().clone())
    };
    let card = ModelCard {
        id: arguments.name(),
        created: now().unsigned_abs() / 1_000_000,
        owned_by: plugin.clone(),
        context: loaded.context,
        can_complete: loaded.answers,
        can_embed: loaded.dimensions > 0,
        fingerprint: found
            .bundle
            .as_ref()
            .and_then(|bundle| bundle.bundle_hash())
            .map(|hash| hash.to_string()),
    };
    let served = Arc::new(Served {
        host,
        model: arguments.model.clone(),
        found,
        card,
        instances: Instances::new(answerers),
        died: AtomicU64::new(0),
        replaced: AtomicU64::new(0),
    });
    // From here on Ctrl-C ends the server in order.
    let cancel = interrupt::token();
    let engine = Arc::clone(&served) as Arc<dyn Engine>;
    let server = Server::bind(engine, options).map_err(|error| no_server(&error))?;
    output::complain(format_args!(
        "{} {} at {} by {} on {}\n",
        paint(GOOD, "serving"),
        paint(LITERAL, plain(&served.card.id)),
        paint(LITERAL, format!("http://{}/v1", server.address())),
        plain(&plugin),
        loaded.device.id
    ));
    let ended = thread::scope(|scope| {
        scope.spawn(|| {
            let mut pause = SOON;
            while cancel.cancelled().recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pause = match served.mend() {
                    true => SOON,
                    false => (pause * 2).min(AT_LATEST),
                };
            }
        });
        // Disconnected by Ctrl-C, and nothing ever comes.
        let _ = cancel.cancelled().recv();
        server.shutdown()
    });
    if ended.unfinished > 0 {
        output::complain(format_args!(
            "{} {} answers did not end in time\n",
            paint(WARNING, "note:"),
            ended.unfinished
        ));
    }
    Ok(Exit::Success)
}

/// After how long it is tried to load an instance anew that cannot answer; each time twice as long.
const SOON: Duration = Duration::from_secs(1);
const AT_LATEST: Duration = Duration::from_secs(30);
/// Where keys may stand besides a file.
const KEYS: &str = "VOX_SERVE_KEYS";
