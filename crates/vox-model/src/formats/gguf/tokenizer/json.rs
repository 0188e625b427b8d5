//! The written form of a tokenizer.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value as Json, json};

/// What stands in `tokenizer.json`. Maps within are sorted by key, so that their order does not
/// depend on how the JSON library is built.
pub(super) struct TokenizerJson<'v> {
    pub(super) added: Vec<Added<'v>>,
    pub(super) normalizer: Json,
    pub(super) pre_tokenizer: Json,
    pub(super) post_processor: Json,
    pub(super) decoder: Json,
    pub(super) unknown: Option<&'v str>,
    pub(super) byte_fallback: bool,
    pub(super) ignore_merges: bool,
    pub(super) vocabulary: &'v [String],
    pub(super) merges: Vec<(&'v str, &'v str)>,
}

/// A token that is found in a text before anything else is done to it.
#[derive(Debug, Serialize)]
pub(super) struct Added<'v> {
    pub(super) id: usize,
    pub(super) content: &'v str,
    pub(super) single_word: bool,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    pub(super) normalized: bool,
    pub(super) special: bool,
}

#[derive(Serialize)]
struct Written<'a> {
    version: &'static str,
    truncation: (),
    padding: (),
    added_tokens: &'a [Added<'a>],
    normalizer: &'a Json,
    pre_tokenizer: &'a Json,
    post_processor: &'a Json,
    decoder: &'a Json,
    model: Model<'a>,
}

#[derive(Serialize)]
struct Model<'a> {
    r#type: &'static str,
    dropout: (),
    unk_token: Option<&'a str>,
    continuing_subword_prefix: (),
    end_of_word_suffix: (),
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: Vocabulary<'a>,
    merges: &'a [(&'a str, &'a str)],
}

/// Tokens under their ids, in the order of these.
struct Vocabulary<'a>(&'a [String]);

impl Serialize for Vocabulary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, token) in self.0.iter().enumerate() {
            map.serialize_entry(token, &id)?;
        }
        map.end()
    }
}

impl TokenizerJson<'_> {
    pub(super) fn write(&self) -> String {
        let written = Written {
            version: "1.0",
            truncation: (),
            padding: (),
            added_tokens: &self.added,
            normalizer: &self.normalizer,
            pre_tokenizer: &self.pre_tokenizer,
            post_processor: &self.post_processor,
            decoder: &self.decoder,
            model: Model {
                r#type: "BPE",
                dropout: (),
                unk_token: self.unknown,
                continuing_subword_prefix: (),
                end_of_word_suffix: (),
                fuse_unk: self.byte_fallback,
                byte_fallback: self.byte_fallback,
                ignore_merges: self.ignore_merges,
                vocab: Vocabulary(self.vocabulary),
                merges: &self.merges,
            },
        };
        // Text under text can always be written.
        serde_json::to_string(&written).unwrap_or_default()
    }
}

/// One thing after another.
pub(super) fn sequence(kind: &str, steps: Vec<Json>) -> Json {
    json!({kind: steps, "type": "Sequence"})
}

/// Bytes as the 256 printable characters that stand for them.
pub(super) fn byte_level(trim_offsets: bool, use_regex: bool) -> Json {
    json!({
        "add_prefix_space": false,
        "trim_offsets": trim_offsets,
        "type": "ByteLevel",
        "use_regex": use_regex,
    })
}

/// One text in place of another; for normalizers and decoders.
pub(super) fn replace(pattern: &str, content: &str) -> Json {
    json!({"content": content, "pattern": {"String": pattern}, "type": "Replace"})
}

/// The texts that a pattern finds, apart from what stands between them.
pub(super) fn split(regex: &str) -> Json {
    json!({
        "behavior": "Isolated",
        "invert": false,
        "pattern": {"Regex": regex},
        "type": "Split",
    })
}

/// Puts tokens around a text and around each of a pair; `None` without any.
pub(super) fn template(begin: Option<(usize, &str)>, end: Option<(usize, &str)>) -> Option<Json> {
    if begin.is_none() && end.is_none() {
        return None;
    }
    let around = |sequence: &str, number: u8| {
        let token =
            |(_, token): (usize, &str)| json!({"SpecialToken": {"id": token, "type_id": number}});
        let text = json!({"Sequence": {"id": sequence, "type_id": number}});
        let parts = begin.map(token).into_iter().chain([text]);
        parts.chain(end.map(token)).collect::<Vec<_>>()
    };
    let first = around("A", 0);
    let pair = [around("A", 0), around("B", 1)].concat();
    let mut tokens: Vec<_> = begin.into_iter().chain(end).collect();
    tokens.sort_by(|left, right| left.1.cmp(right.1));
    let special = tokens.into_iter().map(|(id, token)| {
        let entry = json!({"id": token, "ids": [id], "tokens": [token]});
        (token.to_owned(), entry)
    });
    let special = Json::Object(special.collect());
    Some(json!({
        "pair": pair,
        "single": first,
        "special_tokens": special,
        "type": "TemplateProcessing",
    }))
}
