//! The loops over words that every operation comes down to.
//!
//! They are written so that the compiler makes SIMD of them with what every processor of a target
//! has (SSE2, NEON): fixed blocks, no branches, no calls. So there is one code for all machines, one
//! result, nothing to detect when the program runs, and nothing unsafe.
//!
//! What must stay true: `dimensions` counts bits from the least significant of the first word, and
//! words have no bit set beyond them.

/// Bits in a word.
pub(crate) const WORD: usize = u64::BITS as usize;

/// Words that are counted at once: 256 bits, one to four SIMD registers.
const LANES: usize = 4;
/// Words between two counts of set bits.
const BLOCK: usize = 8 * LANES;

type Lanes = [u64; LANES];

/// Counts the set bits of what `combine` makes of the words at each place of the inputs, which are
/// equally long.
///
/// Eight words are added up before the bits of one are counted (Harley and Seal's carry-save tree,
/// in H. Warren, "Hacker's Delight", section 5-1): on x86-64 without its instruction for it, which a
/// portable build may not use, the counting is what takes long.
pub(crate) fn count_ones<const INPUTS: usize>(
    inputs: [&[u64]; INPUTS],
    combine: impl Fn([u64; INPUTS]) -> u64,
) -> u64 {
    let split = inputs.map(|words| words.as_chunks::<BLOCK>());
    let blocks = split.first().map_or(0, |(blocks, _)| blocks.len());
    let (mut ones, mut twos, mut fours) = ([0; LANES], [0; LANES], [0; LANES]);
    let mut eights = 0;
    for block in 0..blocks {
        let block = split.map(|(blocks, _)| &blocks[block]);
        let combined: [u64; BLOCK] =
            std::array::from_fn(|at| combine(std::array::from_fn(|input| block[input][at])));
        let lanes =
            |at: usize| -> Lanes { std::array::from_fn(|lane| combined[at * LANES + lane]) };
        let (two_a, sum) = full_add(ones, lanes(0), lanes(1));
        let (two_b, sum) = full_add(sum, lanes(2), lanes(3));
        let (four_a, two) = full_add(twos, two_a, two_b);
        let (two_a, sum) = full_add(sum, lanes(4), lanes(5));
        let (two_b, sum) = full_add(sum, lanes(6), lanes(7));
        let (four_b, two) = full_add(two, two_a, two_b);
        let (eight, four) = full_add(fours, four_a, four_b);
        (ones, twos, fours) = (sum, two, four);
        eights += ones_of(eight);
    }
    let rest = split.map(|(_, rest)| rest);
    let rest_length = rest.first().map_or(0, |rest| rest.len());
    let rest: u64 = (0..rest_length)
        .map(|at| u64::from(combine(rest.map(|words| words[at])).count_ones()))
        .sum();
    8 * eights + 4 * ones_of(fours) + 2 * ones_of(twos) + ones_of(ones) + rest
}

/// Adds three bits in each place: the carry and the sum.
#[inline(always)]
fn full_add(a: Lanes, b: Lanes, c: Lanes) -> (Lanes, Lanes) {
    let (mut carry, mut sum) = ([0; LANES], [0; LANES]);
    for lane in 0..LANES {
        let either = a[lane] ^ b[lane];
        carry[lane] = a[lane] & b[lane] | either & c[lane];
        sum[lane] = either ^ c[lane];
    }
    (carry, sum)
}

#[inline(always)]
fn ones_of(lanes: Lanes) -> u64 {
    lanes.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// The bits rotated: bit `i` of `words` is bit `i + positions` of the result, counted around the
/// end at `dimensions`. The caller clears what stands beyond.
pub(crate) fn rotated(words: &[u64], dimensions: usize, positions: isize) -> Vec<u64> {
    // A vector of more than isize::MAX dimensions would not fit into memory.
    let forward = positions.rem_euclid(dimensions as isize) as usize;
    if forward == 0 {
        return words.to_vec();
    }
    let mut into = vec![0; words.len()];
    or_shifted_up(&mut into, words, forward);
    or_shifted_down(&mut into, words, dimensions - forward);
    into
}

/// Clears the bits of the last word that are beyond the last dimension.
pub(crate) fn clear_beyond(words: &mut [u64], dimensions: usize) {
    debug_assert_eq!(words.len(), dimensions.div_ceil(WORD));
    if let (Some(last), used @ 1..) = (words.last_mut(), dimensions % WORD) {
        *last &= (1 << used) - 1;
    }
}

/// Reads words from bytes, the least significant first; the last word may be cut short.
pub(crate) fn from_bytes(bytes: &[u8]) -> Box<[u64]> {
    let (whole, rest) = bytes.as_chunks::<{ WORD / 8 }>();
    let mut words = Vec::with_capacity(bytes.len().div_ceil(WORD / 8));
    words.extend(whole.iter().map(|bytes| u64::from_le_bytes(*bytes)));
    if !rest.is_empty() {
        let mut word = [0; WORD / 8];
        word[..rest.len()].copy_from_slice(rest);
        words.push(u64::from_le_bytes(word));
    }
    words.into()
}

/// Writes the bytes that hold `dimensions` bits, a multiple of 8.
pub(crate) fn extend_bytes(bytes: &mut Vec<u8>, words: &[u64], dimensions: usize) {
    let end = bytes.len() + dimensions / 8;
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.truncate(end);
}

/// Adds the bits of `from` to `into`, each `positions` further up; what passes the end is lost.
fn or_shifted_up(into: &mut [u64], from: &[u64], positions: usize) {
    let (skip, bits) = (positions / WORD, positions % WORD);
    let into = into.get_mut(skip..).unwrap_or_default();
    for (slot, word) in into.iter_mut().zip(from) {
        *slot |= word << bits;
    }
    if bits != 0 {
        for (slot, word) in into.iter_mut().skip(1).zip(from) {
            *slot |= word >> (WORD - bits);
        }
    }
}

/// Adds the bits of `from` to `into`, each `positions` further down; what passes the start is lost.
fn or_shifted_down(into: &mut [u64], from: &[u64], positions: usize) {
    let (skip, bits) = (positions / WORD, positions % WORD);
    let from = from.get(skip..).unwrap_or_default();
    for (slot, word) in into.iter_mut().zip(from) {
        *slot |= word >> bits;
    }
    if bits != 0 {
        for (slot, word) in into.iter_mut().zip(from.iter().skip(1)) {
            *slot |= word << (WORD - bits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Up to four blocks and a rest.
        #[test]
        fn counting_in_blocks_counts_every_bit_once(
            pairs in proptest::collection::vec(any::<(u64, u64)>(), 0..150),
        ) {
            let (a, b): (Vec<u64>, Vec<u64>) = pairs.iter().copied().unzip();
            let naive: u32 = pairs.iter().map(|(a, b)| (a & b).count_ones()).sum();
            prop_assert_eq!(count_ones([&a, &b], |[a, b]| a & b), u64::from(naive));
        }

        #[test]
        fn counting_in_blocks_carries_where_all_bits_are_set(length in 0_usize..200) {
            let ones = vec![!0; length];
            prop_assert_eq!(count_ones([&ones], |[word]| word), 64 * length as u64);
        }
    }
}
