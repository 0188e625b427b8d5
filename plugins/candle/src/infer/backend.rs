//! The extension point `inference-backend`, over a [`Session`].

use std::path::{Path, PathBuf};

use vox_plugin::compute::{Device, DeviceKind as Kind, WeightFormat as Format};
use vox_plugin::host::generation;
use vox_plugin::inference_backend as contract;
use vox_plugin::{Error as Answer, InferenceBackend};

use super::{
    DeviceInfo, DeviceKind, Finish, Input, LoadOptions, Piece, Prompt, Request, Sampling, Session,
    WeightFormat, can_serve, devices,
};
use crate::error::Error;

/// What serves one model.
#[derive(Default)]
pub struct Serving {
    session: Option<Session>,
}

impl Serving {
    fn session(&mut self) -> vox_plugin::Result<&mut Session> {
        let session = self.session.as_mut();
        session
            .ok_or_else(|| Answer::Unavailable("no model is loaded; call `load` first".to_owned()))
    }
}

impl InferenceBackend for Serving {
    fn capabilities(&mut self) -> vox_plugin::Result<contract::Abilities> {
        Ok(contract::Abilities {
            devices: devices().into_iter().map(device).collect(),
            tier: None,
            formats: WeightFormat::ALL.iter().map(|&held| format(held)).collect(),
            context: None,
            streaming: true,
            embeddings: true,
            log_probabilities: true,
            conversations: false,
            splitting: true,
        })
    }

    fn can_serve(
        &mut self,
        model: contract::Model,
        options: contract::Options,
    ) -> vox_plugin::Result<contract::Verdict> {
        let refuse = |reason: String| {
            Ok(contract::Verdict {
                serves: false,
                reason,
                device: None,
                memory: 0,
            })
        };
        let Some(directory) = &model.directory else {
            return refuse(no_directory(&model.name));
        };
        let options = match load_options(&model, options) {
            Ok(options) => options,
            Err(error) => return refuse(error.to_string()),
        };
        let verdict = can_serve(Path::new(directory), &options);
        Ok(contract::Verdict {
            serves: verdict.serves,
            reason: verdict.reason,
            device: verdict.device.map(device),
            memory: verdict.memory,
        })
    }

    fn load(
        &mut self,
        model: contract::Model,
        options: contract::Options,
    ) -> vox_plugin::Result<contract::Loaded> {
        if self.session.is_some() {
            return Err(Answer::Invalid(
                "a model is loaded already; call `unload` first".to_owned(),
            ));
        }
        let Some(directory) = &model.directory else {
            return Err(Answer::NotFound(no_directory(&model.name)));
        };
        let options = load_options(&model, options).map_err(answer)?;
        let session = Session::load(Path::new(directory), &options).map_err(answer)?;
        let loaded = session.loaded();
        // Of a mix of formats, that which was asked for.
        let held = options.format.or_else(|| loaded.format.parse().ok());
        self.session = Some(session);
        Ok(contract::Loaded {
            device: device(loaded.device),
            format: held.map(format),
            context: count(loaded.context),
            vocabulary: count(loaded.vocabulary),
            layers: count(loaded.layers),
            memory: loaded.memory,
            dimensions: count(loaded.dimensions),
            answers: loaded.answers,
        })
    }

    fn ready(&mut self) -> vox_plugin::Result<()> {
        self.session().map(|_| ())
    }

    fn predict(&mut self, request: contract::Request) -> vox_plugin::Result<contract::Finished> {
        let request = asked(request)?;
        let session = self.session()?;
        let finished = session.predict(&request, &mut |piece| generation::emit(&sent(piece)));
        let finished = finished.map_err(answer)?;
        Ok(contract::Finished {
            reason: match finished.reason {
                Finish::Stop => contract::Finish::Stop,
                Finish::Length => contract::Finish::Length,
                Finish::Context => contract::Finish::Context,
                Finish::Cancelled => contract::Finish::Cancelled,
            },
            prompt_tokens: count(finished.prompt_tokens),
            cached_tokens: count(finished.cached_tokens),
            answer_tokens: count(finished.answer_tokens),
        })
    }

    fn embed(&mut self, texts: Vec<String>) -> vox_plugin::Result<contract::Embedded> {
        let embedded = self.session()?.embed(&texts).map_err(answer)?;
        Ok(contract::Embedded {
            numbers: embedded.numbers,
            tokens: count(embedded.tokens),
        })
    }

    fn forward_layers(
        &mut self,
        first: u32,
        end: u32,
        position: u32,
        tokens: &[u32],
        hidden: &[f32],
    ) -> vox_plugin::Result<Vec<f32>> {
        let input = match first {
            0 => Input::Tokens(tokens),
            _ => Input::Hidden(hidden),
        };
        let layers = first as usize..end as usize;
        let session = self.session()?;
        session
            .forward_layers(layers, input, position as usize)
            .map_err(answer)
    }

    fn unload(&mut self) -> vox_plugin::Result<()> {
        self.session = None;
        Ok(())
    }
}

/// What the host is told of a failure: whose fault it is.
pub(crate) fn answer(error: Error) -> Answer {
    let text = error.to_string();
    match error {
        Error::Request { .. } | Error::WrongKind { .. } => Answer::Invalid(text),
        Error::Device { .. } | Error::Memory { .. } => Answer::Unavailable(text),
        Error::NoWeights(_) | Error::MissingShard { .. } => Answer::NotFound(text),
        _ => Answer::Failed(text),
    }
}

fn no_directory(name: &str) -> String {
    format!("`{name}` has no bundle here; import it with `vox model import`")
}

/// A count as the contract has it; one that is larger is not told apart.
fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(crate) fn device(info: DeviceInfo) -> Device {
    Device {
        id: info.id,
        kind: match info.kind {
            DeviceKind::Cpu => Kind::Cpu,
            DeviceKind::Cuda => Kind::Cuda,
            DeviceKind::Metal => Kind::Metal,
        },
        name: info.name,
        memory: info.memory,
        available: info.available,
    }
}

fn format(format: WeightFormat) -> Format {
    match format {
        WeightFormat::F32 => Format::F32,
        WeightFormat::BF16 => Format::Bf16,
        WeightFormat::F16 => Format::F16,
        WeightFormat::Q8_0 => Format::Q80,
        WeightFormat::Q4_0 => Format::Q40,
        WeightFormat::Q4KM => Format::Q4K,
    }
}

fn load_options(model: &contract::Model, options: contract::Options) -> crate::Result<LoadOptions> {
    let format = match options.format {
        None => None,
        Some(Format::F32) => Some(WeightFormat::F32),
        Some(Format::Bf16) => Some(WeightFormat::BF16),
        Some(Format::F16) => Some(WeightFormat::F16),
        Some(Format::Q80) => Some(WeightFormat::Q8_0),
        Some(Format::Q40) => Some(WeightFormat::Q4_0),
        Some(Format::Q4K) => Some(WeightFormat::Q4KM),
        Some(Format::Nf4) => {
            let why = "nf4 is a format of trainings; take q4_0 or q4_k_m";
            return Err(Error::request("format", why));
        }
    };
    Ok(LoadOptions {
        device: options.device,
        threads: options.threads as usize,
        format,
        context: options.context.map(|context| context as usize),
        adapter: model.adapter.as_ref().map(PathBuf::from),
    })
}

fn asked(request: contract::Request) -> vox_plugin::Result<Request> {
    let sampling = request.sampling;
    Ok(Request {
        prompt: match request.prompt {
            contract::Prompt::Text(text) => Prompt::Text(text),
            contract::Prompt::Tokens(tokens) => Prompt::Tokens(tokens),
            contract::Prompt::Conversation(_) => {
                return Err(Answer::Invalid(
                    "this backend takes no conversations: they become text by the model's template"
                        .to_owned(),
                ));
            }
        },
        answered: request.answered,
        sampling: Sampling {
            temperature: sampling.temperature,
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            repetition_penalty: sampling.repetition_penalty,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            seed: sampling.seed,
        },
        max_tokens: request.max_tokens as usize,
        stop: request.stop,
        alternatives: request.alternatives.map(|count| count as usize),
    })
}

fn sent(piece: Piece) -> generation::Piece {
    let alternatives = piece
        .alternatives
        .into_iter()
        .map(|other| generation::Alternative {
            token: other.token,
            text: other.text,
            log_probability: other.log_probability,
        });
    generation::Piece {
        token: piece.token,
        text: piece.text,
        log_probability: piece.log_probability,
        alternatives: alternatives.collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;
    use crate::architecture::Family;
    use crate::tiny;

    fn model(directory: Option<&Path>) -> contract::Model {
        contract::Model {
            name: "tiny".to_owned(),
            directory: directory.map(|path| path.display().to_string()),
            adapter: None,
        }
    }

    fn options() -> contract::Options {
        contract::Options {
            device: Some("cpu".to_owned()),
            threads: 1,
            format: None,
            context: Some(64),
        }
    }

    #[test]
    fn a_model_is_looked_at_loaded_used_and_given_back() {
        let directory = TempDir::new().unwrap();
        let mut config = tiny::config(Family::Llama);
        config["eos_token_id"] = Value::Null;
        tiny::write(directory.path(), &config);
        let mut serving = Serving::default();
        let verdict = serving.can_serve(model(Some(directory.path())), options());
        assert!(verdict.unwrap().serves);
        assert!(matches!(serving.ready(), Err(Answer::Unavailable(_))));
        let loaded = serving
            .load(model(Some(directory.path())), options())
            .unwrap();
        assert_eq!(
            (loaded.context, loaded.layers, loaded.dimensions),
            (64, 3, 32)
        );
        assert_eq!(loaded.format, Some(Format::F32));
        assert!(loaded.answers);
        let again = serving.load(model(Some(directory.path())), options());
        assert!(matches!(again, Err(Answer::Invalid(_))));
        let embeddings = serving
            .embed(vec!["the".to_owned(), "rain".to_owned()])
            .unwrap();
        assert_eq!((embeddings.numbers.len(), embeddings.tokens), (64, 4));
        let hidden = serving.forward_layers(0, 1, 0, &[1, 2], &[]).unwrap();
        assert_eq!(hidden.len(), 64);
        let refused = serving.forward_layers(0, 9, 0, &[1, 2], &[]);
        assert!(matches!(refused, Err(Answer::Invalid(_))));
        serving.unload().unwrap();
        assert!(serving.ready().is_err());
    }

    #[test]
    fn an_encoder_says_that_it_makes_embeddings_and_answers_nothing() {
        let directory = TempDir::new().unwrap();
        tiny::write(directory.path(), &tiny::config(Family::Bert));
        let mut serving = Serving::default();
        let loaded = serving
            .load(model(Some(directory.path())), options())
            .unwrap();
        assert_eq!((loaded.dimensions, loaded.answers), (32, false));
    }

    #[test]
    fn a_model_without_a_bundle_is_refused_with_what_to_do() {
        let mut serving = Serving::default();
        let verdict = serving.can_serve(model(None), options()).unwrap();
        assert!(!verdict.serves);
        assert!(
            verdict.reason.contains("vox model import"),
            "{}",
            verdict.reason
        );
        assert!(matches!(
            serving.load(model(None), options()),
            Err(Answer::NotFound(_))
        ));
        let nf4 = contract::Options {
            format: Some(Format::Nf4),
            ..options()
        };
        let verdict = serving.can_serve(model(Some(Path::new("/"))), nf4).unwrap();
        assert!(
            verdict.reason.contains("nf4 is a format of trainings"),
            "{}",
            verdict.reason
        );
    }
}
