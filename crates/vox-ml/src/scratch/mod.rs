//! A model to begin with: the shape of a small Llama, and a tokenizer learnt from the user's text.
//!
//! What is written is a directory as Hugging Face lays models out, without weights: those are the
//! backend's to make, from the training's seed.

mod bpe;
mod words;

use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::{Record, Source};
use crate::error::Error;

pub use bpe::{Bpe, BpeTrainer, END_OF_TEXT, LEAST_VOCABULARY};

/// Matrices are fastest with sides that are multiples of this.
const VOCABULARY_MULTIPLE: u32 = 64;

/// The files of a tokenizer that go with a model.
const TOKENIZER_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// The shape of a Llama.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dimensions {
    /// Layers.
    pub layers: u32,
    /// Width of the hidden state; a multiple of `heads`. Multiples of 256 can be quantised.
    pub hidden: u32,
    /// Heads of attention.
    pub heads: u32,
    /// Heads of keys and values; a divisor of `heads`.
    pub kv_heads: u32,
    /// Width of the feed-forward part.
    pub intermediate: u32,
    /// The longest context, in tokens.
    pub context: u32,
    /// Base of the rotary positions.
    pub rope_theta: f64,
    /// Whether the output uses the embedding's weights.
    pub tie_embeddings: bool,
}

impl Dimensions {
    /// What is wrong with the shape, and what to write instead; each with the key at fault.
    pub fn faults(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut faults = Vec::new();
        let sizes = [
            ("layers", self.layers),
            ("hidden", self.hidden),
            ("heads", self.heads),
            ("kv-heads", self.kv_heads),
            ("intermediate", self.intermediate),
            ("context", self.context),
        ];
        for (key, size) in sizes {
            if size == 0 {
                faults.push((key, format!("`{key}` cannot be 0"), "write at least 1"));
            }
        }
        if !faults.is_empty() {
            return faults;
        }
        if !self.hidden.is_multiple_of(self.heads) {
            let message = format!("{} is no multiple of {} heads", self.hidden, self.heads);
            faults.push(("hidden", message, "each head has the same width"));
        } else if !(self.hidden / self.heads).is_multiple_of(2) {
            let message = format!("each head has a width of {}", self.hidden / self.heads);
            faults.push(("hidden", message, "rotary positions need an even width"));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let message = format!("{} is no divisor of {} heads", self.kv_heads, self.heads);
            faults.push(("kv-heads", message, "as many heads share each of them"));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta > 1.0) {
            let message = format!("`rope-theta` cannot be {}", self.rope_theta);
            faults.push(("rope-theta", message, "10000 is usual"));
        }
        faults
    }

    /// Number of weights, with a vocabulary of this many tokens.
    pub fn parameters(&self, vocabulary: u32) -> u64 {
        let [hidden, heads, kv, wide, layers, vocabulary] = [
            self.hidden,
            self.heads,
            self.kv_heads,
            self.intermediate,
            self.layers,
            vocabulary,
        ]
        .map(u64::from);
        let kv_width = hidden / heads.max(1) * kv;
        let attention = 2 * hidden * hidden + 2 * hidden * kv_width;
        let layer = attention + 3 * hidden * wide + 2 * hidden;
        let embeddings = if self.tie_embeddings { 1 } else { 2 };
        layers * layer + embeddings * vocabulary * hidden + hidden
    }

    /// The file `config.json` of such a model.
    pub fn to_json(&self, vocabulary: u32, begin: Option<u32>, end: Option<u32>) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": begin,
            "eos_token_id": end,
            "head_dim": self.hidden / self.heads.max(1),
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.context,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-5,
            "rope_scaling": null,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tie_embeddings,
            "torch_dtype": "float32",
            "use_cache": true,
            "vocab_size": vocabulary,
        })
    }
}

/// Learns a tokenizer of at most `vocabulary` tokens from the texts of a source: of conversations
/// what is said, of prompts and completions both.
///
/// # Errors
/// As [`Source::records`]; lines that cannot be used are left out with `skip_invalid`.
pub fn learn_tokenizer(source: &Source, vocabulary: u32, skip_invalid: bool) -> Result<Bpe, Error> {
    let mut trainer = BpeTrainer::default();
    for record in source.records() {
        let record = match record {
            Ok(located) => located.record,
            Err(Error::Line(_)) if skip_invalid => continue,
            Err(error) => return Err(error),
        };
        match record {
            Record::Text(passage) => trainer.feed(&passage.text),
            Record::Completion { prompt, completion } => {
                trainer.feed(&prompt);
                trainer.feed(&completion);
            }
            Record::Chat(chat) => {
                let said = chat.messages.iter().filter_map(|message| message.content());
                said.for_each(|content| trainer.feed(&content));
            }
        }
    }
    Ok(trainer.train(vocabulary))
}

/// Writes a model with the tokenizer `bpe` to `directory`, which is made. Its vocabulary is the
/// tokenizer's, rounded up to a multiple of 64.
///
/// # Errors
/// [`Error::Write`].
pub fn write_model(directory: &Path, dimensions: &Dimensions, bpe: &Bpe) -> Result<(), Error> {
    let vocabulary = bpe.vocabulary().next_multiple_of(VOCABULARY_MULTIPLE);
    let tokenizer = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": null,
        "pad_token": null,
        "clean_up_tokenization_spaces": false,
        "model_max_length": dimensions.context,
    });
    let generation = json!({ "bos_token_id": 0, "eos_token_id": 0 });
    let files = [
        (
            "config.json",
            dimensions.to_json(vocabulary, Some(0), Some(0)),
        ),
        ("generation_config.json", generation),
        ("tokenizer.json", bpe.to_json()),
        ("tokenizer_config.json", tokenizer),
    ];
    fs::create_dir_all(directory).map_err(Error::write(directory))?;
    for (name, content) in files {
        write(&directory.join(name), &content)?;
    }
    Ok(())
}

/// Writes a model with the tokenizer of the model in `from`, whose files are copied.
///
/// # Errors
/// [`Error::Read`], [`Error::Write`]; [`Error::ModelFile`] when it has no vocabulary.
pub fn write_model_like(
    directory: &Path,
    dimensions: &Dimensions,
    from: &Path,
) -> Result<(), Error> {
    let path = from.join("tokenizer.json");
    let bytes = fs::read(&path).map_err(Error::read(&path))?;
    let tokenizer: Value = serde_json::from_slice(&bytes).map_err(|error| Error::ModelFile {
        path: path.clone(),
        message: format!("not JSON: {error}"),
    })?;
    let largest = largest_token(&tokenizer).ok_or_else(|| Error::ModelFile {
        path: path.clone(),
        message: "there is no vocabulary in it".into(),
    })?;
    let vocabulary = (largest + 1).next_multiple_of(VOCABULARY_MULTIPLE);
    let ends = crate::data::template::end_tokens(from)?;
    let number = |token: Option<&String>| token.and_then(|token| number_of(&tokenizer, token));
    let (begin, end) = (number(ends.begin.as_ref()), number(ends.end.as_ref()));
    fs::create_dir_all(directory).map_err(Error::write(directory))?;
    for name in TOKENIZER_FILES {
        let (source, target) = (from.join(name), directory.join(name));
        if source.exists() {
            fs::copy(&source, &target).map_err(Error::write(&target))?;
        }
    }
    let config = dimensions.to_json(vocabulary, begin, end);
    write(&directory.join("config.json"), &config)
}

/// All tokens of a `tokenizer.json` with their numbers.
fn tokens(tokenizer: &Value) -> impl Iterator<Item = (&str, u32)> {
    let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let vocabulary = tokenizer["model"]["vocab"]
        .as_object()
        .into_iter()
        .flatten();
    let vocabulary = vocabulary.filter_map(move |(token, at)| Some((token.as_str(), number(at)?)));
    // Unigram models have a list of tokens with scores.
    let list = tokenizer["model"]["vocab"].as_array().into_iter().flatten();
    let list = (0..)
        .zip(list)
        .filter_map(|(at, entry)| Some((entry.get(0)?.as_str()?, at)));
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let added =
        added.filter_map(move |added| Some((added["content"].as_str()?, number(&added["id"])?)));
    vocabulary.chain(list).chain(added)
}

fn largest_token(tokenizer: &Value) -> Option<u32> {
    tokens(tokenizer).map(|(_, number)| number).max()
}

fn number_of(tokenizer: &Value, wanted: &str) -> Option<u32> {
    let mut tokens = tokens(tokenizer);
    tokens.find_map(|(token, number)| (token == wanted).then_some(number))
}

fn write(path: &Path, content: &Value) -> Result<(), Error> {
    fs::write(path, format!("{content:#}\n")).map_err(Error::write(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Format;

    const SMALL: Dimensions = Dimensions {
        layers: 4,
        hidden: 256,
        heads: 4,
        kv_heads: 2,
        intermediate: 768,
        context: 256,
        rope_theta: 10_000.0,
        tie_embeddings: true,
    };

    fn json(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn parameters_are_counted_as_the_published_model_has_them() {
        // SmolLM2-135M's config.json; its safetensors have 134,515,008 weights.
        let smollm2 = Dimensions {
            layers: 30,
            hidden: 576,
            heads: 9,
            kv_heads: 3,
            intermediate: 1536,
            context: 8192,
            rope_theta: 100_000.0,
            tie_embeddings: true,
        };
        assert_eq!(smollm2.parameters(49_152), 134_515_008);
        assert!(smollm2.faults().is_empty());
    }

    #[test]
    fn a_shape_that_cannot_be_is_refused_at_each_key() {
        let wrong = Dimensions {
            heads: 3,
            kv_heads: 2,
            rope_theta: f64::NAN,
            ..SMALL
        };
        let keys: Vec<&str> = wrong.faults().iter().map(|(key, ..)| *key).collect();
        assert_eq!(keys, ["hidden", "kv-heads", "rope-theta"]);
        let none = Dimensions {
            layers: 0,
            heads: 0,
            ..SMALL
        };
        assert_eq!(none.faults().len(), 2);
    }

    #[test]
    fn a_model_is_written_with_what_it_needs_and_others_can_be_made_like_it() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("a.txt");
        fs::write(&text, "the cat sat on the mat\n".repeat(50)).unwrap();
        let source = Source::open(&[&text], Format::Auto).unwrap();
        let bpe = learn_tokenizer(&source, 265, false).unwrap();
        assert_eq!(bpe.vocabulary(), 265);

        let model = dir.path().join("model");
        write_model(&model, &SMALL, &bpe).unwrap();
        let config = json(&model.join("config.json"));
        assert_eq!(
            (&config["vocab_size"], &config["hidden_size"]),
            (&json!(320), &json!(256))
        );
        assert_eq!(config["head_dim"], 64);
        let ends = crate::data::template::end_tokens(&model).unwrap();
        assert_eq!(ends.end.as_deref(), Some(END_OF_TEXT));

        let like = dir.path().join("like");
        write_model_like(&like, &SMALL, &model).unwrap();
        assert_eq!(json(&like.join("config.json")), config);
        assert_eq!(
            fs::read(like.join("tokenizer.json")).unwrap(),
            fs::read(model.join("tokenizer.json")).unwrap()
        );
    }

    #[test]
    fn a_model_without_a_vocabulary_is_no_source_of_a_tokenizer() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        let error = write_model_like(&dir.path().join("x"), &SMALL, dir.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("tokenizer.json: there is no vocabulary"),
            "{error}"
        );
    }
}
