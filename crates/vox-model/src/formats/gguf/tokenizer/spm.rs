//! The kind `llama`: SentencePiece BPE, whose merges follow from the scores.

use serde_json::{Value as Json, json};

use super::json::{TokenizerJson, replace, sequence};
use super::vocabulary::{TokenType, Vocabulary};
use super::{Ends, tokenizer_of};
use crate::formats::gguf::error::GgufFault;
use crate::formats::gguf::metadata::required;
use crate::formats::gguf::model::GgufModel;

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

/// The longest token that merges make, in bytes; several times what SentencePiece makes.
const LONGEST: usize = 256;

/// The most merges; ten times those of the largest vocabularies.
const MOST_MERGES: usize = 8_000_000;

/// Gemma's tokens as Hugging Face writes them: runs of spaces as SentencePiece does, and a tab as
/// itself and not as a byte.
pub(super) fn as_gemma<'m>(vocabulary: &Vocabulary<'m>) -> Result<Vocabulary<'m>, GgufFault> {
    let has_tab = vocabulary.tokens().iter().any(|token| token == "\t");
    vocabulary.with_texts(|id, token| {
        let is_spaces = !token.is_empty() && token.chars().all(|c| c == ' ');
        if is_spaces && vocabulary.token_type(id) == TokenType::UserDefined {
            SPACE.repeat(token.len())
        } else if token == "<0x09>" && !has_tab {
            "\t".to_owned()
        } else {
            token.to_owned()
        }
    })
}

pub(super) fn tokenizer<'v>(
    model: &GgufModel,
    vocabulary: &'v Vocabulary<'v>,
    ends: Ends,
) -> Result<TokenizerJson<'v>, GgufFault> {
    let metadata = model.gguf().metadata();
    let is_gemma = model.family().is_gemma();
    let prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?;
    let prefix = prefix.unwrap_or(!is_gemma);
    let mut tokenizer = tokenizer_of(vocabulary);
    tokenizer.byte_fallback = true;
    tokenizer.unknown = vocabulary
        .special
        .unknown
        .or_else(|| unknown(vocabulary))
        .and_then(|id| vocabulary.token(id));
    tokenizer.merges = merges(vocabulary)?;
    let spaces = replace(" ", SPACE);
    tokenizer.normalizer = if prefix {
        let prepend = json!({"prepend": SPACE, "type": "Prepend"});
        sequence("normalizers", vec![prepend, spaces])
    } else {
        spaces
    };
    if is_gemma {
        tokenizer.pre_tokenizer = json!({
            "behavior": "MergedWithPrevious",
            "invert": false,
            "pattern": {"String": " "},
            "type": "Split",
        });
    }
    let mut steps = vec![
        replace(SPACE, " "),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        steps.push(json!({"content": " ", "start": 1, "stop": 0, "type": "Strip"}));
    }
    tokenizer.decoder = sequence("decoders", steps);
    tokenizer.post_processor = ends.template(vocabulary).unwrap_or(Json::Null);
    Ok(tokenizer)
}

/// The token that is marked as the unknown one.
fn unknown(vocabulary: &Vocabulary<'_>) -> Option<usize> {
    let mut ids = 0..vocabulary.tokens().len();
    ids.find(|&id| vocabulary.token_type(id) == TokenType::Unknown)
}

/// Every way to make a token of two others, that with the highest score first, as Hugging Face
/// derives them from a SentencePiece model: then merging in their order joins what SentencePiece
/// would join. Control tokens and bytes are made of nothing.
fn merges<'v>(vocabulary: &'v Vocabulary<'v>) -> Result<Vec<(&'v str, &'v str)>, GgufFault> {
    struct Merge<'v> {
        pair: (&'v str, &'v str),
        score: f32,
        parts: (f32, f32),
    }
    let scores = required("tokenizer.ggml.scores", vocabulary.scores)?;
    // Adding zero leaves one zero of two, which compare as different below.
    let score = |id: usize| scores.get(id).copied().unwrap_or(0.0) + 0.0;
    let ids = vocabulary.ids()?;
    let mut merges: Vec<Merge<'v>> = Vec::new();
    for (id, token) in vocabulary.tokens().iter().enumerate() {
        let made = match vocabulary.token_type(id) {
            TokenType::Normal | TokenType::UserDefined | TokenType::Unused => true,
            TokenType::Control | TokenType::Unknown | TokenType::Byte => false,
        };
        if !made || token.len() > LONGEST {
            continue;
        }
        let first = merges.len();
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                merges.push(Merge {
                    pair: (left, right),
                    score: score(id),
                    parts: (score(left_id), score(right_id)),
                });
            }
        }
        if merges.len() > MOST_MERGES {
            return Err(GgufFault::Tokenizer {
                why: format!("its scores give more than {MOST_MERGES} merges"),
            });
        }
        let own = merges.get_mut(first..).unwrap_or_default();
        own.sort_by(|a, b| {
            let left = b.parts.0.total_cmp(&a.parts.0);
            left.then(b.parts.1.total_cmp(&a.parts.1))
        });
    }
    merges.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(merges.into_iter().map(|merge| merge.pair).collect())
}
