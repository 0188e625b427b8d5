//! Inputs out of a corpus: an entry, changed in a few places.

use proptest::collection::vec;
use proptest::prelude::*;

/// The longest input that is made.
const LONGEST: usize = 64 << 10;

/// What stands in files and encodings where readers err: ends of ranges, and what opens, closes and
/// separates.
const COMMON: &[&[u8]] = &[
    b"\0",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\"",
    b"'",
    b"\"\"\"",
    b"'''",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"[",
    b"]",
    b"[[",
    b"]]",
    b"{",
    b"}",
    b"=",
    b",",
    b":",
    b".",
    b"#",
    b"-",
    b"---\n",
    b"_",
    b"*",
    b"0",
    b"-1",
    b"1e999",
    b"nan",
    b"0x",
    b"9223372036854775807",
    b"18446744073709551616",
    b"true",
    b"null",
    b"\xc3\x9f",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\xa6\x80",
    b"../",
    b"/",
];

/// One change. Places are parts of the input's length, of 65,536, so that an input keeps its
/// meaning while others are made smaller.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// Flips a bit.
    Flip {
        /// Where.
        at: u16,
        /// Which bit of the byte.
        bit: u8,
    },
    /// Puts a word in.
    Insert {
        /// Where.
        at: u16,
        /// Which word.
        word: usize,
    },
    /// Puts a word over what is there.
    Overwrite {
        /// Where.
        at: u16,
        /// Which word.
        word: usize,
    },
    /// Takes bytes out.
    Remove {
        /// Where.
        at: u16,
        /// How many.
        length: u8,
    },
    /// Cuts the end off.
    Cut {
        /// Where.
        at: u16,
    },
    /// Writes bytes several times more.
    Repeat {
        /// Where.
        at: u16,
        /// How many bytes.
        length: u8,
        /// How often.
        times: u16,
    },
    /// Copies lines of another entry in.
    Splice {
        /// Where.
        at: u16,
        /// Which entry.
        entry: usize,
        /// From where.
        from: u16,
        /// How many bytes.
        length: u8,
    },
}

/// Inputs made of `corpus` with a vocabulary of `words`.
pub fn mutated(
    corpus: Vec<Vec<u8>>,
    words: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&'static [u8]> = words
        .iter()
        .map(|word| word.as_bytes())
        .chain(COMMON.iter().copied())
        .collect();
    (
        0..corpus.len(),
        vec(mutation(words.len(), corpus.len()), 0..8),
    )
        .prop_map(move |(entry, mutations)| {
            let mut input = corpus[entry].clone();
            for mutation in &mutations {
                mutation.apply(&mut input, &words, &corpus);
                input.truncate(LONGEST);
            }
            input
        })
}

fn mutation(words: usize, entries: usize) -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    prop_oneof![
        3 => (any::<u16>(), 0..8_u8).prop_map(|(at, bit)| Flip { at, bit }),
        4 => (any::<u16>(), 0..words).prop_map(|(at, word)| Insert { at, word }),
        4 => (any::<u16>(), 0..words).prop_map(|(at, word)| Overwrite { at, word }),
        2 => (any::<u16>(), 1..32_u8).prop_map(|(at, length)| Remove { at, length }),
        1 => any::<u16>().prop_map(|at| Cut { at }),
        1 => (any::<u16>(), 1..32_u8, 1..600_u16)
            .prop_map(|(at, length, times)| Repeat { at, length, times }),
        3 => (any::<u16>(), 0..entries, any::<u16>(), 1..128_u8)
            .prop_map(|(at, entry, from, length)| Splice { at, entry, from, length }),
    ]
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>, words: &[&[u8]], corpus: &[Vec<u8>]) {
        match *self {
            Self::Flip { at, bit } => {
                let at = place(at, input.len());
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Insert { at, word } => insert(input, at, words[word]),
            Self::Overwrite { at, word } => {
                let at = place(at, input.len());
                let end = (at + words[word].len()).min(input.len());
                input.splice(at..end, words[word].iter().copied());
            }
            Self::Remove { at, length } => {
                let at = place(at, input.len());
                let end = (at + usize::from(length)).min(input.len());
                input.drain(at..end);
            }
            Self::Cut { at } => input.truncate(place(at, input.len())),
            Self::Repeat { at, length, times } => {
                let from = place(at, input.len());
                let end = (from + usize::from(length)).min(input.len());
                let piece = input[from..end].repeat(usize::from(times));
                insert(input, at, &piece);
            }
            Self::Splice {
                at,
                entry,
                from,
                length,
            } => {
                let other = &corpus[entry];
                let from = place(from, other.len());
                let end = (from + usize::from(length)).min(other.len());
                insert(input, at, &other[from..end]);
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, at: u16, piece: &[u8]) {
    let at = place(at, input.len());
    input.splice(at..at, piece.iter().copied());
}

fn place(at: u16, length: usize) -> usize {
    (usize::from(at) * (length + 1)) >> 16
}
