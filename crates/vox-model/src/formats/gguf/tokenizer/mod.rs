//! `tokenizer.json`, in the form of Hugging Face's `tokenizers` library, from the metadata.
//!
//! | module | owns |
//! |---|---|
//! | `vocabulary` | the tokens with their types and scores, and which of them are special |
//! | `bpe` | the kind `gpt2`: byte-level BPE with merges, and the ways to split text before it |
//! | `spm` | the kind `llama`: SentencePiece BPE, whose merges follow from the scores |
//! | `json` | the written form |
//!
//! What must stay true: every token keeps its id, and the same metadata give the same bytes.

mod bpe;
mod json;
mod spm;
mod vocabulary;

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::error::GgufFault;
use super::metadata::Metadata;
use super::model::{GgufModel, Rebuilt};
use json::TokenizerJson;
use vocabulary::Vocabulary;

/// The two kinds of tokenizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `gpt2`.
    Bytes,
    /// `llama`.
    Pieces,
}

fn kind(metadata: &Metadata) -> Result<Kind, GgufFault> {
    let key = "tokenizer.ggml.model";
    match metadata.text(key)? {
        Some("gpt2") => Ok(Kind::Bytes),
        Some("llama") => Ok(Kind::Pieces),
        Some(model) => Err(GgufFault::TokenizerModel {
            model: model.to_owned(),
        }),
        None => Err(GgufFault::MissingKey {
            key: key.to_owned(),
        }),
    }
}

pub(super) fn rebuild(model: &GgufModel) -> Result<Rebuilt, GgufFault> {
    let metadata = model.gguf().metadata();
    let kind = kind(metadata)?;
    let mut vocabulary = Vocabulary::read(metadata)?;
    if kind == Kind::Pieces && model.family().is_gemma() {
        vocabulary = spm::as_gemma(&vocabulary)?;
    }
    let mut notes = Vec::new();
    let ends = Ends::of(model, kind)?;
    let tokenizer = match kind {
        Kind::Bytes => bpe::tokenizer(model, &vocabulary, ends, &mut notes)?,
        Kind::Pieces => spm::tokenizer(model, &vocabulary, ends)?,
    };
    Ok(Rebuilt {
        text: tokenizer.write(),
        notes,
    })
}

pub(super) fn rebuild_config(model: &GgufModel) -> Result<Rebuilt, GgufFault> {
    let metadata = model.gguf().metadata();
    let vocabulary = Vocabulary::read(metadata)?;
    let ends = Ends::of(model, kind(metadata)?)?;
    let mut notes = Vec::new();
    let mut config: BTreeMap<&str, Json> = BTreeMap::new();
    config.insert("tokenizer_class", "PreTrainedTokenizerFast".into());
    config.insert("clean_up_tokenization_spaces", false.into());
    config.insert("add_bos_token", ends.begin.into());
    config.insert("add_eos_token", ends.end.into());
    let special = &vocabulary.special;
    for (name, id) in [
        ("bos_token", special.begin),
        ("eos_token", special.end),
        ("unk_token", special.unknown),
        ("pad_token", special.padding),
    ] {
        if let Some(token) = id.and_then(|id| vocabulary.token(id)) {
            config.insert(name, token.into());
        }
    }
    let context = format!("{}.context_length", model.family().architecture());
    if let Some(length) = metadata.whole(&context)? {
        config.insert("model_max_length", length.into());
    }
    if let Some(template) = metadata.text("tokenizer.chat_template")? {
        config.insert("chat_template", template.into());
    }
    let others = metadata
        .iter()
        .filter_map(|(key, _)| key.strip_prefix("tokenizer.chat_template."));
    for name in others {
        let name = name.escape_debug();
        notes.push(format!(
            "the chat template `{name}` is left out; only the default one is kept"
        ));
    }
    // Text under text can always be written.
    let mut text = serde_json::to_string_pretty(&config).unwrap_or_default();
    text.push('\n');
    Ok(Rebuilt { text, notes })
}

/// What is put around every text.
#[derive(Debug, Clone, Copy)]
struct Ends {
    begin: bool,
    end: bool,
}

impl Ends {
    fn of(model: &GgufModel, kind: Kind) -> Result<Self, GgufFault> {
        let metadata = model.gguf().metadata();
        let default = match kind {
            Kind::Pieces => true,
            Kind::Bytes => bpe::begins_texts(model)?,
        };
        let begin = metadata.bool("tokenizer.ggml.add_bos_token")?;
        let end = metadata.bool("tokenizer.ggml.add_eos_token")?;
        Ok(Self {
            begin: begin.unwrap_or(default),
            end: end.unwrap_or(false),
        })
    }

    /// The template that puts them there; `None` where there is nothing to put.
    fn template(self, vocabulary: &Vocabulary<'_>) -> Option<Json> {
        let id = |wanted: bool, id: Option<usize>| id.filter(|_| wanted);
        let named = |id: usize| vocabulary.token(id).map(|token| (id, token));
        let begin = id(self.begin, vocabulary.special.begin).and_then(named);
        let end = id(self.end, vocabulary.special.end).and_then(named);
        json::template(begin, end)
    }
}

/// A tokenizer of BPE with what both kinds share.
fn tokenizer_of<'v>(vocabulary: &'v Vocabulary<'v>) -> TokenizerJson<'v> {
    TokenizerJson {
        added: vocabulary.added(),
        normalizer: Json::Null,
        pre_tokenizer: Json::Null,
        post_processor: Json::Null,
        decoder: Json::Null,
        unknown: None,
        byte_fallback: false,
        ignore_merges: false,
        vocabulary: vocabulary.tokens(),
        merges: Vec::new(),
    }
}
