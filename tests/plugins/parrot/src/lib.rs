//! A backend for the tests: its answer is its prompt, a word a token. By its configuration it says that it is
//! on another device (`device = "cuda"`, `"cuda:1"`, `"metal"`, `"remote"`), with so many bytes free
//! (`available = 9000`) of which it needs some (`needs = 5000`), with a tier (`tier = 40`) and a most of context
//! (`context = 32`) of its own; refuses every model (`refuses = "why"`), dies before the token of a number
//! (`dies-before = 2`), talks on when no more is wanted (`deaf = true`) or when it is cancelled
//! (`heedless = true`), never comes to an end by itself (`endless = true`), or ends with a text that is no token's
//! (`leaves = "\u{fffd}"`).

use std::iter;

use vox_plugin::compute::{Device, DeviceKind};
use vox_plugin::host::{cancel, config, generation};
use vox_plugin::inference_backend::{
    Abilities, Embedded, Finish, Finished, Loaded, Model, Options, Prompt, Request, Verdict,
};
use vox_plugin::{Error, InferenceBackend, Result, plugin};

/// It remembers nothing.
#[plugin(inference_backend)]
#[derive(Default)]
pub struct Parrot;

/// A text of the configuration.
fn text(key: &str) -> Option<String> {
    config::get(key).map(|json| json.trim_matches('"').to_owned())
}

/// A number of the configuration; 0 where there is none.
fn number(key: &str) -> u64 {
    text(key)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn device() -> Device {
    let id = text("device").unwrap_or_else(|| "cpu".to_owned());
    let kind = match id.split(':').next() {
        Some("cuda") => DeviceKind::Cuda,
        Some("metal") => DeviceKind::Metal,
        Some("remote") => DeviceKind::Remote,
        _ => DeviceKind::Cpu,
    };
    Device {
        id,
        kind,
        name: "A perch".to_owned(),
        memory: 0,
        available: number("available"),
    }
}

impl InferenceBackend for Parrot {
    fn capabilities(&mut self) -> Result<Abilities> {
        Ok(Abilities {
            devices: vec![device()],
            tier: text("tier").and_then(|tier| tier.parse().ok()),
            formats: Vec::new(),
            context: text("context").and_then(|context| context.parse().ok()),
            streaming: true,
            embeddings: true,
            log_probabilities: false,
            conversations: false,
            splitting: false,
        })
    }

    fn can_serve(&mut self, _: Model, _: Options) -> Result<Verdict> {
        let refusal = text("refuses");
        Ok(Verdict {
            serves: refusal.is_none(),
            reason: refusal.unwrap_or_else(|| "it repeats anything".to_owned()),
            device: Some(device()),
            memory: number("needs"),
        })
    }

    fn load(&mut self, _: Model, _: Options) -> Result<Loaded> {
        Ok(Loaded {
            device: device(),
            format: None,
            context: 64,
            // As many words as the context has.
            vocabulary: 64,
            layers: 0,
            memory: 0,
            dimensions: 2,
            answers: true,
        })
    }

    fn ready(&mut self) -> Result<()> {
        Ok(())
    }

    fn predict(&mut self, request: Request) -> Result<Finished> {
        let Prompt::Text(prompt) = &request.prompt else {
            return Err(Error::Invalid("it repeats texts alone".to_owned()));
        };
        let Some(rest) = prompt.strip_prefix(&request.answered) else {
            let why = format!("`{}` is not how its answer begins", request.answered);
            return Err(Error::Invalid(why));
        };
        let dies_before = text("dies-before").and_then(|number| number.parse().ok());
        let mut finished = Finished {
            reason: Finish::Stop,
            prompt_tokens: prompt.split_inclusive(' ').count() as u32,
            cached_tokens: 0,
            answer_tokens: 0,
        };
        let is_heedless = text("heedless").is_some();
        let more = text("endless").into_iter();
        let more = more.flat_map(|_| iter::repeat("again "));
        for word in rest.split_inclusive(' ').chain(more) {
            if !is_heedless && cancel::should_cancel() {
                return Err(Error::Cancelled);
            }
            if finished.answer_tokens == request.max_tokens {
                finished.reason = Finish::Length;
                break;
            }
            assert!(
                dies_before != Some(finished.answer_tokens),
                "the parrot is no more"
            );
            finished.answer_tokens += 1;
            let piece = generation::Piece {
                token: Some(finished.answer_tokens),
                text: word.to_owned(),
                log_probability: None,
                alternatives: Vec::new(),
            };
            if !generation::emit(&piece) && text("deaf").is_none() {
                finished.reason = Finish::Cancelled;
                break;
            }
        }
        if let Some(rest) = text("leaves") {
            let piece = generation::Piece {
                token: None,
                text: rest,
                log_probability: None,
                alternatives: Vec::new(),
            };
            if !generation::emit(&piece) {
                finished.reason = Finish::Cancelled;
            }
        }
        Ok(finished)
    }

    fn embed(&mut self, texts: Vec<String>) -> Result<Embedded> {
        let numbers = texts.iter().flat_map(|text| [text.len() as f32, -0.5]);
        Ok(Embedded {
            numbers: numbers.collect(),
            tokens: texts.iter().map(|text| text.len() as u32).sum(),
        })
    }

    fn forward_layers(
        &mut self,
        _first: u32,
        _end: u32,
        _position: u32,
        _tokens: &[u32],
        _hidden: &[f32],
    ) -> Result<Vec<f32>> {
        Err(Error::Unavailable("a parrot has no layers".to_owned()))
    }

    fn unload(&mut self) -> Result<()> {
        Ok(())
    }
}
