//! How many different words there are, and how often each occurs, in bounded memory.
//!
//! Up to [`EXACT_WORDS`] different words are counted one by one. Those that come later are not:
//! their number is estimated by HyperLogLog (P. Flajolet et al., 2007) with 2^14 registers, whose
//! standard error is 0.8 %. The frequent words of a text come early, so that the most frequent ones
//! are still right.

use std::cmp::Reverse;
use std::collections::HashMap;

/// Different words that are counted one by one.
pub const EXACT_WORDS: usize = 65_536;

/// log2 of the number of registers.
const PRECISION: u32 = 14;
const REGISTERS: usize = 1 << PRECISION;

/// Counts words.
#[derive(Debug)]
pub struct WordCounts {
    /// Occurrences of each word, of at most `limit` of them.
    exact: HashMap<Box<str>, u64>,
    limit: usize,
    /// Present once there are more.
    estimate: Option<HyperLogLog>,
}

impl Default for WordCounts {
    fn default() -> Self {
        Self::with_limit(EXACT_WORDS)
    }
}

impl WordCounts {
    fn with_limit(limit: usize) -> Self {
        Self {
            exact: HashMap::new(),
            limit,
            estimate: None,
        }
    }

    /// Counts an occurrence of `word`.
    pub fn add(&mut self, word: &str) {
        if let Some(occurrences) = self.exact.get_mut(word) {
            *occurrences += 1;
        } else if self.exact.len() < self.limit {
            self.exact.insert(word.into(), 1);
        } else {
            let known = &self.exact;
            self.estimate
                .get_or_insert_with(|| known.keys().map(|word| &**word).collect())
                .add(word);
        }
    }

    /// How many different words there were.
    pub fn distinct(&self) -> f64 {
        let exact = self.exact.len() as f64;
        // At least one more than were counted has been seen.
        self.estimate
            .as_ref()
            .map_or(exact, |estimate| estimate.count().max(exact + 1.0).round())
    }

    /// The `most` most frequent words of at least `length` characters; where two are equally
    /// frequent, in the order of the alphabet.
    pub fn top(&self, most: usize, length: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<(&str, u64)> = self
            .exact
            .iter()
            .map(|(word, occurrences)| (&**word, *occurrences))
            .filter(|(word, _)| word.chars().count() >= length)
            .collect();
        words.sort_unstable_by_key(|(word, occurrences)| (Reverse(*occurrences), *word));
        words.truncate(most);
        words
    }
}

/// An estimate of the size of a set.
#[derive(Debug)]
struct HyperLogLog {
    registers: Vec<u8>,
}

impl<'a> FromIterator<&'a str> for HyperLogLog {
    fn from_iter<I: IntoIterator<Item = &'a str>>(words: I) -> Self {
        let mut set = Self {
            registers: vec![0; REGISTERS],
        };
        words.into_iter().for_each(|word| set.add(word));
        set
    }
}

impl HyperLogLog {
    fn add(&mut self, word: &str) {
        let hash = hash(word.as_bytes());
        let register = &mut self.registers[(hash >> (64 - PRECISION)) as usize];
        // The position of the first set bit behind the register's number.
        let rank = (hash << PRECISION).leading_zeros().min(64 - PRECISION) + 1;
        *register = (*register).max(rank as u8);
    }

    /// The estimate. It is used for far more words than registers, where it needs none of the
    /// corrections for small sets.
    fn count(&self) -> f64 {
        let registers = REGISTERS as f64;
        let alpha = 0.7213 / (1.0 + 1.079 / registers);
        let sum: f64 = self
            .registers
            .iter()
            .map(|rank| f64::from(*rank).exp2().recip())
            .sum();
        alpha * registers * registers / sum
    }
}

/// FNV-1a with the finaliser of MurmurHash3, the same on every platform.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ fnv >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ mixed >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_words_are_counted_exactly() {
        let mut counts = WordCounts::default();
        for word in ["whale", "sea", "whale", "ship", "sea", "a", "a", "a"] {
            counts.add(word);
        }
        assert_eq!(counts.distinct(), 4.0);
        assert_eq!(counts.top(2, 3), [("sea", 2), ("whale", 2)]);
        assert_eq!(counts.top(9, 1)[0], ("a", 3));
        assert_eq!(counts.top(9, 4), [("whale", 2), ("ship", 1)]);
    }

    #[test]
    fn many_words_are_estimated_within_three_percent() {
        let mut counts = WordCounts::default();
        for number in 0..300_000 {
            counts.add(&format!("word{number}"));
            counts.add("whale");
        }
        let error = counts.distinct() / 300_001.0 - 1.0;
        assert!(error.abs() < 0.03, "{error}");
        assert_eq!(counts.exact.len(), EXACT_WORDS);
        assert_eq!(counts.top(1, 1), [("whale", 300_000)]);
    }

    #[test]
    fn the_estimate_is_more_than_what_was_counted() {
        let mut counts = WordCounts::with_limit(2);
        for word in ["a", "b", "c"] {
            counts.add(word);
        }
        assert!(counts.distinct() >= 3.0);
    }
}
