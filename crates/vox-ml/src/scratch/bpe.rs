//! A byte-level BPE tokenizer, learnt from a text.
//!
//! Pairs of neighbouring tokens are merged, the most frequent first, as in R. Sennrich et al.,
//! "Neural machine translation of rare words with subword units", 2016; over bytes, as GPT-2 has it,
//! so that any text can be written. Counts are kept up to date around each merge instead of being
//! taken anew, and a queue hands out the most frequent pair; an entry that is out of date is put
//! back with its present count when it comes up.
//!
//! What must stay true: the same text gives the same tokenizer. Of pairs with the same count the one
//! with the smaller numbers is merged first, as in the `tokenizers` library, whose numbering this is.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use serde_json::{Map, Value, json};

use super::words::words;

/// The token before and after every text.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// The smallest vocabulary: the bytes and the end of a text.
pub const LEAST_VOCABULARY: u32 = 257;

/// A pair is merged when it occurs at least this often.
const LEAST_COUNT: u64 = 2;

/// Longer words play no part in what is learnt: they are no words, and would cost much.
const MAX_WORD_BYTES: usize = 256;

/// The number of the first byte's token, after the end of a text.
const FIRST_BYTE: u32 = 1;

/// Counts the words of a text, and learns a tokenizer from them.
#[derive(Debug, Default)]
pub struct BpeTrainer {
    counts: HashMap<Box<str>, u64>,
}

impl BpeTrainer {
    /// Counts the words of a text.
    pub fn feed(&mut self, text: &str) {
        for word in words(text).filter(|word| word.len() <= MAX_WORD_BYTES) {
            match self.counts.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    self.counts.insert(word.into(), 1);
                }
            }
        }
    }

    /// Learns a tokenizer of at most `vocabulary` tokens. It has fewer where no pair is left that
    /// occurs twice, and never fewer than [`LEAST_VOCABULARY`].
    pub fn train(&self, vocabulary: u32) -> Bpe {
        let mut learning = Learning::new(&self.counts);
        let wanted = vocabulary.saturating_sub(LEAST_VOCABULARY) as usize;
        while learning.bpe.merges.len() < wanted && learning.merge_next() {}
        learning.bpe
    }
}

/// A byte-level BPE tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bpe {
    /// The bytes of each token; none for the end of a text, which is token 0.
    tokens: Vec<Vec<u8>>,
    /// The pair that each token after those of bytes was merged from.
    merges: Vec<(u32, u32)>,
}

type Pair = (u32, u32);

/// A tokenizer that is being learnt.
struct Learning {
    bpe: Bpe,
    /// The tokens of each word, and how often it occurs.
    words: Vec<(Vec<u32>, u64)>,
    counts: HashMap<Pair, u64>,
    /// The words in which a pair occurs, or did.
    places: HashMap<Pair, BTreeSet<usize>>,
    queue: BinaryHeap<(u64, Reverse<Pair>)>,
}

impl Learning {
    fn new(counts: &HashMap<Box<str>, u64>) -> Self {
        let (bpe, numbers) = Bpe::of_bytes();
        let mut words: Vec<(&str, u64)> = counts
            .iter()
            .map(|(word, count)| (word.as_ref(), *count))
            .collect();
        words.sort_unstable();
        let words = words.into_iter().map(|(word, count)| {
            let tokens = word.bytes().map(|byte| numbers[usize::from(byte)]);
            (tokens.collect(), count)
        });
        let mut learning = Self {
            bpe,
            words: words.collect(),
            counts: HashMap::new(),
            places: HashMap::new(),
            queue: BinaryHeap::new(),
        };
        for (at, (tokens, count)) in learning.words.iter().enumerate() {
            for pair in pairs(tokens) {
                *learning.counts.entry(pair).or_default() += count;
                learning.places.entry(pair).or_default().insert(at);
            }
        }
        let entries = learning.counts.iter();
        learning.queue = entries
            .map(|(pair, count)| (*count, Reverse(*pair)))
            .collect();
        learning
    }

    /// Merges the most frequent pair; false when none is frequent enough.
    fn merge_next(&mut self) -> bool {
        while let Some((count, Reverse(pair))) = self.queue.pop() {
            let present = self.counts.get(&pair).copied().unwrap_or_default();
            if present != count {
                self.queue.push((present, Reverse(pair)));
            } else if count < LEAST_COUNT {
                return false;
            } else {
                self.merge(pair);
                return true;
            }
        }
        false
    }

    fn merge(&mut self, pair: Pair) {
        let merged = self.bpe.push(pair);
        let mut changed = BTreeSet::new();
        for at in self.places.remove(&pair).unwrap_or_default() {
            let Some((tokens, count)) = self.words.get_mut(at) else {
                continue;
            };
            for gone in pairs(tokens) {
                if let Some(total) = self.counts.get_mut(&gone) {
                    *total = total.saturating_sub(*count);
                }
            }
            replace(tokens, pair, merged);
            for there in pairs(tokens) {
                *self.counts.entry(there).or_default() += *count;
                if there.0 == merged || there.1 == merged {
                    self.places.entry(there).or_default().insert(at);
                    changed.insert(there);
                }
            }
        }
        self.counts.remove(&pair);
        for pair in changed {
            let count = self.counts.get(&pair).copied().unwrap_or_default();
            self.queue.push((count, Reverse(pair)));
        }
    }
}

fn pairs(tokens: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    tokens.windows(2).map(|pair| (pair[0], pair[1]))
}

/// Puts `merged` wherever the pair stands, from the left.
fn replace(tokens: &mut Vec<u32>, pair: Pair, merged: u32) {
    let mut from = 0;
    let mut to = 0;
    while from < tokens.len() {
        let is_pair = tokens[from] == pair.0 && tokens.get(from + 1) == Some(&pair.1);
        tokens[to] = if is_pair { merged } else { tokens[from] };
        from += if is_pair { 2 } else { 1 };
        to += 1;
    }
    tokens.truncate(to);
}

impl Bpe {
    /// A tokenizer with bytes alone, and the token of each byte.
    fn of_bytes() -> (Self, [u32; 256]) {
        let mut bytes: Vec<u8> = (0..=u8::MAX).collect();
        bytes.sort_by_key(|byte| character(*byte));
        let mut numbers = [0; 256];
        let mut tokens = vec![Vec::new()];
        for (number, byte) in (FIRST_BYTE..).zip(bytes) {
            numbers[usize::from(byte)] = number;
            tokens.push(vec![byte]);
        }
        let merges = Vec::new();
        (Self { tokens, merges }, numbers)
    }

    /// Adds the token that a pair becomes.
    fn push(&mut self, pair: Pair) -> u32 {
        let part = |number: u32| {
            self.tokens
                .get(number as usize)
                .cloned()
                .unwrap_or_default()
        };
        let bytes = [part(pair.0), part(pair.1)].concat();
        self.tokens.push(bytes);
        self.merges.push(pair);
        (self.tokens.len() - 1) as u32
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// The bytes of a token; none of the end of a text, which stands in no text.
    pub fn bytes(&self, token: u32) -> &[u8] {
        self.tokens.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// The tokens of a text, without the end of a text around it.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let (_, numbers) = Self::of_bytes();
        let merged = (LEAST_VOCABULARY..).zip(&self.merges);
        let ranks: HashMap<Pair, u32> = merged.map(|(token, pair)| (*pair, token)).collect();
        let mut encoded = Vec::new();
        for word in words(text) {
            let bytes = word.bytes().map(|byte| numbers[usize::from(byte)]);
            let mut tokens: Vec<u32> = bytes.collect();
            let next = |tokens: &[u32]| {
                let known = pairs(tokens).filter_map(|pair| Some((*ranks.get(&pair)?, pair)));
                known.min()
            };
            while let Some((token, pair)) = next(&tokens) {
                replace(&mut tokens, pair, token);
            }
            encoded.append(&mut tokens);
        }
        encoded
    }

    /// The file `tokenizer.json`, as the `tokenizers` library reads it. A text that is encoded with
    /// special tokens begins with [`END_OF_TEXT`].
    pub fn to_json(&self) -> Value {
        let written = |token: u32| -> String {
            self.bytes(token)
                .iter()
                .map(|byte| character(*byte))
                .collect()
        };
        let names = (0..self.vocabulary()).map(|token| match token {
            0 => END_OF_TEXT.to_owned(),
            token => written(token),
        });
        let vocabulary: Map<String, Value> = names
            .zip(0_u32..)
            .map(|(name, token)| (name, token.into()))
            .collect();
        let merges = self.merges.iter();
        let merges: Vec<[String; 2]> = merges
            .map(|(left, right)| [written(*left), written(*right)])
            .collect();
        // Decoding has no use for the first of these; the library writes it so.
        let byte_level = |prefix: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true,
                "use_regex": true,
            })
        };
        let end = json!({ "SpecialToken": { "id": END_OF_TEXT, "type_id": 0 } });
        let text = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": [{
                "id": 0, "content": END_OF_TEXT, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            }],
            "normalizer": null,
            "pre_tokenizer": byte_level(false),
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [end, text("A")],
                "pair": [end, text("A"), end, text("B")],
                "special_tokens": {
                    END_OF_TEXT: { "id": END_OF_TEXT, "ids": [0], "tokens": [END_OF_TEXT] },
                },
            },
            "decoder": byte_level(true),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocabulary,
                "merges": merges,
            },
        })
    }
}

/// The character by which GPT-2's files write a byte: itself where it is visible, else one after
/// U+0100, in order.
fn character(byte: u8) -> char {
    let visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if visible(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !visible(*byte)).count();
    char::from_u32(0x100 + before as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trained(text: &str, vocabulary: u32) -> Bpe {
        let mut trainer = BpeTrainer::default();
        trainer.feed(text);
        trainer.train(vocabulary)
    }

    fn shown(bpe: &Bpe, from: u32) -> Vec<String> {
        (from..bpe.vocabulary())
            .map(|token| String::from_utf8_lossy(bpe.bytes(token)).into_owned())
            .collect()
    }

    #[test]
    fn the_most_frequent_pair_is_merged_first() {
        // The example of the paper's section 3.2: `es`, `est`, `lo`, then `low`.
        let text = "low low low low low lower lower newest newest newest newest newest newest \
                    widest widest widest";
        let bpe = trained(text, 257 + 5);
        let merged = shown(&bpe, 257);
        assert_eq!(merged[..2], ["es", "est"], "{merged:?}");
    }

    #[test]
    fn counts_after_merges_are_those_of_counting_anew() {
        let text = "aaaa aaa aa abab abba baab bbbb the then there other mother father ".repeat(3);
        let mut counts = HashMap::new();
        for word in words(&text) {
            *counts.entry(word.into()).or_default() += 1;
        }
        let mut learning = Learning::new(&counts);
        while learning.merge_next() {
            let mut anew: HashMap<Pair, u64> = HashMap::new();
            for (tokens, count) in &learning.words {
                pairs(tokens).for_each(|pair| *anew.entry(pair).or_default() += count);
            }
            learning.counts.retain(|_, count| *count > 0);
            assert_eq!(learning.counts, anew);
        }
    }

    #[test]
    fn a_text_without_repetition_gives_bytes_alone() {
        assert_eq!(trained("abcdefg", 1000).vocabulary(), LEAST_VOCABULARY);
        assert_eq!(trained("", 1000).vocabulary(), LEAST_VOCABULARY);
        assert_eq!(trained("aa aa aa aa", 3).vocabulary(), LEAST_VOCABULARY);
    }

    #[test]
    fn the_same_text_gives_the_same_tokenizer() {
        let text = "one two three two one three two one two ".repeat(9);
        assert_eq!(trained(&text, 300), trained(&text, 300));
        assert_eq!(trained(&text, 300).to_json(), trained(&text, 300).to_json());
    }

    #[test]
    fn the_file_has_a_name_for_every_token_and_for_every_merge() {
        let bpe = trained(&"Äpfel und Birnen, Äpfel und Birnen\n".repeat(5), 280);
        let json = bpe.to_json();
        let vocabulary = json["model"]["vocab"].as_object().unwrap();
        assert_eq!(vocabulary.len(), bpe.vocabulary() as usize);
        assert_eq!(vocabulary[END_OF_TEXT], 0);
        // As in GPT-2's own vocab.json: a space, a line break, and the bytes of `Ä`.
        assert!(vocabulary.contains_key("Ġ") && vocabulary.contains_key("Ċ"));
        assert!(vocabulary.contains_key("Ã") && vocabulary.contains_key("Ħ"));
        for (token, merge) in (LEAST_VOCABULARY..).zip(json["model"]["merges"].as_array().unwrap())
        {
            let name = format!(
                "{}{}",
                merge[0].as_str().unwrap(),
                merge[1].as_str().unwrap()
            );
            assert_eq!(vocabulary[&name], token);
        }
    }

    #[test]
    fn text_becomes_fewer_tokens() {
        let text = "the cat sat on the mat and the dog sat on the log ".repeat(20);
        let bpe = trained(&text, 300);
        assert!(bpe.encode(&text).len() * 3 < text.len());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_the_text(text in "[a-c é🦀\n]{0,40}") {
            let bpe = trained("abc abcabc caab é🦀 é🦀 abc\n\nabc", 290);
            let bytes: Vec<u8> = bpe
                .encode(&text)
                .iter()
                .flat_map(|token| bpe.bytes(*token))
                .copied()
                .collect();
            prop_assert_eq!(bytes, text.into_bytes());
        }
    }
}
