//! The kind `gpt2`: byte-level BPE with merges.

use serde_json::json;

use super::json::{TokenizerJson, byte_level, sequence, split};
use super::vocabulary::Vocabulary;
use super::{Ends, tokenizer_of};
use crate::formats::gguf::error::GgufFault;
use crate::formats::gguf::family::Family;
use crate::formats::gguf::metadata::required;
use crate::formats::gguf::model::GgufModel;

/// A way to split text before merging, with what goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Splitting {
    /// GPT-2's pattern.
    Gpt2,
    /// Each digit apart, then GPT-2's pattern.
    DigitsGpt2,
    /// Qwen 2's pattern, on composed Unicode.
    Qwen2,
    /// Llama 3's pattern, up to three digits together; whole words are looked up before merging.
    Llama3,
    /// Mistral's pattern since Nemo, which knows upper and lower case.
    Tekken,
}

/// The names of `tokenizer.ggml.pre`, as llama.cpp groups them.
const SPLITTINGS: &[(Splitting, &[&str])] = &[
    (
        Splitting::Gpt2,
        &["gpt-2", "phi-2", "mpt", "olmo", "jais", "roberta-bpe"],
    ),
    (
        Splitting::DigitsGpt2,
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
    ),
    (
        Splitting::Qwen2,
        &["qwen2", "stablelm2", "deepseek-r1-qwen", "megrez"],
    ),
    (
        Splitting::Llama3,
        &["llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2"],
    ),
    (Splitting::Tekken, &["tekken"]),
];

const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The splitting that the metadata say, or the family's own where they do not; then a note.
fn splitting(model: &GgufModel) -> Result<(Splitting, Option<String>), GgufFault> {
    let pre = model.gguf().metadata().text("tokenizer.ggml.pre")?;
    if let Some(pre) = pre.filter(|&pre| pre != "default") {
        let mut all = SPLITTINGS.iter();
        let found = all.find(|(_, names)| names.contains(&pre));
        return match found {
            Some((splitting, _)) => Ok((*splitting, None)),
            None => Err(GgufFault::PreTokenizer {
                pre: pre.to_owned(),
                known: known(),
            }),
        };
    }
    let (splitting, name) = match model.family() {
        Family::Qwen2 | Family::Qwen3 => (Splitting::Qwen2, "qwen2"),
        _ => (Splitting::Gpt2, "gpt-2"),
    };
    let note = format!(
        "the file does not say how its tokenizer splits text (`tokenizer.ggml.pre`); `{name}` is \
         assumed"
    );
    Ok((splitting, Some(note)))
}

fn known() -> String {
    let names = SPLITTINGS.iter().flat_map(|(_, names)| *names);
    names.copied().collect::<Vec<_>>().join(", ")
}

/// Whether a begin token is put before texts where the file does not say.
pub(super) fn begins_texts(model: &GgufModel) -> Result<bool, GgufFault> {
    let (splitting, _) = splitting(model)?;
    Ok(matches!(splitting, Splitting::Llama3 | Splitting::Tekken))
}

pub(super) fn tokenizer<'v>(
    model: &'v GgufModel,
    vocabulary: &'v Vocabulary<'v>,
    ends: Ends,
    notes: &mut Vec<String>,
) -> Result<TokenizerJson<'v>, GgufFault> {
    let (splitting, note) = splitting(model)?;
    notes.extend(note);
    let key = "tokenizer.ggml.merges";
    let merges = required(key, model.gguf().metadata().texts(key)?)?;
    let mut tokenizer = tokenizer_of(vocabulary);
    tokenizer.merges = pairs(merges, vocabulary)?;
    tokenizer.ignore_merges = matches!(splitting, Splitting::Llama3 | Splitting::Tekken);
    let by = |regex| sequence("pretokenizers", vec![split(regex), byte_level(true, false)]);
    tokenizer.pre_tokenizer = match splitting {
        Splitting::Gpt2 => byte_level(true, true),
        Splitting::DigitsGpt2 => {
            let digits = json!({"individual_digits": true, "type": "Digits"});
            sequence("pretokenizers", vec![digits, byte_level(true, true)])
        }
        Splitting::Qwen2 => by(QWEN2),
        Splitting::Llama3 => by(LLAMA3),
        Splitting::Tekken => by(TEKKEN),
    };
    if splitting == Splitting::Qwen2 {
        tokenizer.normalizer = json!({"type": "NFC"});
    }
    tokenizer.decoder = byte_level(true, true);
    // Offsets of tokens take in the space before a word, as GPT-2's do.
    let offsets = byte_level(false, true);
    tokenizer.post_processor = match ends.template(vocabulary) {
        Some(template) => sequence("processors", vec![offsets, template]),
        None => offsets,
    };
    Ok(tokenizer)
}

/// The merges as pairs, both of which and what they make are tokens.
fn pairs<'v>(
    merges: &'v [String],
    vocabulary: &'v Vocabulary<'v>,
) -> Result<Vec<(&'v str, &'v str)>, GgufFault> {
    let ids = vocabulary.ids()?;
    let mut made = String::new();
    let mut pair = |merge: &'v String| {
        let (left, right) = merge.split_once(' ')?;
        made.clear();
        made.push_str(left);
        made.push_str(right);
        let known = [left, right, &made]
            .iter()
            .all(|part| ids.contains_key(part));
        known.then_some((left, right))
    };
    let pairs = merges.iter().enumerate().map(|(number, merge)| {
        pair(merge).ok_or_else(|| GgufFault::Tokenizer {
            why: format!(
                "merge {number}, `{}`, does not make a token of two",
                merge.escape_debug()
            ),
        })
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_to_split_has_two_meanings() {
        let names: Vec<&str> = SPLITTINGS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn what_is_written_has_its_keys_sorted() {
        let serde_json::Value::Object(map) = byte_level(true, false) else {
            panic!("no object");
        };
        assert!(map.keys().is_sorted());
    }
}
