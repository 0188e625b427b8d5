//! Votes counted in many dimensions at once.
//!
//! The counters stand upright: plane `p` holds bit `p` of each, and a vector is added to all of them
//! by a ripple of half adders (a *bit-sliced* or carry-save counter, as in H. Warren, "Hacker's
//! Delight", section 5-1). A block of 1,024 dimensions is counted to its end before the next one, so
//! that its planes stay in registers or in the first cache.

/// Words of a block.
const BLOCK: usize = 16;

/// Words of one block, one bit for each counter.
pub(crate) type Block = [u64; BLOCK];

/// Counters of one block.
pub(crate) struct Tally {
    /// Exactly as many as the largest sum needs.
    planes: Vec<Block>,
    /// What the counters hold at most by now.
    at_most: usize,
}

impl Tally {
    /// Counters that hold sums of up to `largest`.
    pub(crate) fn new(largest: usize) -> Self {
        Self {
            planes: vec![[0; BLOCK]; width(largest)],
            at_most: 0,
        }
    }

    /// Sets all counters to zero.
    pub(crate) fn clear(&mut self) {
        self.planes.fill([0; BLOCK]);
        self.at_most = 0;
    }

    /// Adds the bits of two votes: one full adder for both, where two half adders would ripple twice.
    pub(crate) fn add(&mut self, a: &Block, b: &Block) {
        self.at_most += 2;
        let Some(plane) = self.planes.first_mut() else {
            return;
        };
        let mut carry = [0; BLOCK];
        for at in 0..BLOCK {
            let either = a[at] ^ b[at];
            carry[at] = a[at] & b[at] | plane[at] & either;
            plane[at] ^= either;
        }
        self.ripple(1, carry);
    }

    /// Adds 1 where the bit of `one` is set and 2 where that of `two` is; no bit is set in both.
    pub(crate) fn add_one_or_two(&mut self, one: &Block, two: &Block) {
        self.at_most += 2;
        let Some(plane) = self.planes.first_mut() else {
            return;
        };
        // Where the first plane carries, the bit of `one` is set, and so that of `two` is clear.
        let carry = std::array::from_fn(|at| plane[at] & one[at] | two[at]);
        *plane = std::array::from_fn(|at| plane[at] ^ one[at]);
        self.ripple(1, carry);
    }

    /// Adds the carry to the planes from `first` on, as far as one can get.
    fn ripple(&mut self, first: usize, mut carry: Block) {
        let last = width(self.at_most).min(self.planes.len());
        for plane in &mut self.planes[first..last] {
            for at in 0..BLOCK {
                (plane[at], carry[at]) = (plane[at] ^ carry[at], plane[at] & carry[at]);
            }
        }
    }

    /// A bit for each counter: whether it holds at least `goal`.
    pub(crate) fn at_least(&self, goal: usize) -> Block {
        if width(goal) > self.planes.len() {
            return [0; BLOCK];
        }
        // The borrow of the subtraction of `goal`, plane by plane.
        let mut less = [0; BLOCK];
        for (place, plane) in self.planes.iter().enumerate() {
            let wanted = if goal >> place & 1 == 1 { !0 } else { 0 };
            for at in 0..BLOCK {
                less[at] = !plane[at] & (wanted | less[at]) | wanted & less[at];
            }
        }
        less.map(|word| !word)
    }
}

/// Bits of a number.
const fn width(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()) as usize
}

/// Where the blocks of so many words start.
pub(crate) fn starts(words: usize) -> impl Iterator<Item = usize> {
    (0..words).step_by(BLOCK)
}

/// The block that starts there, filled up with zeros at the end.
pub(crate) fn block(words: &[u64], start: usize) -> Block {
    let rest = &words[start..];
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// Appends the block, cut to `words` words in all.
pub(crate) fn extend(into: &mut Vec<u64>, block: &Block, words: usize) {
    let missing = words - into.len();
    into.extend(&block[..missing.min(BLOCK)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counters_compare_with_any_goal(
            votes in proptest::collection::vec(any::<Block>(), 1..70),
            goal in 0_usize..90,
        ) {
            let mut tally = Tally::new(votes.len());
            for votes in votes.chunks(2) {
                tally.add(&votes[0], votes.get(1).unwrap_or(&[0; BLOCK]));
            }
            let found = tally.at_least(goal);
            for (at, bit) in (0..BLOCK).flat_map(|at| (0..64).map(move |bit| (at, bit))) {
                let sum = votes.iter().filter(|vote| vote[at] >> bit & 1 == 1).count();
                prop_assert_eq!(found[at] >> bit & 1 == 1, sum >= goal);
            }
        }
    }
}
