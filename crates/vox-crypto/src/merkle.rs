//! One hash over the hashes of several files, such as the shards of a model's weights.
//!
//! It is the Merkle tree of RFC 9162, section 2.1.1, with SHA3-512 in place of SHA-256: a leaf is
//! `H(0x00 ‖ digest)`, a node `H(0x01 ‖ left ‖ right)`, and of `n` leaves the left side takes the largest
//! power of two below `n`. The input of a leaf is the SHA3-512 digest of a file.
//!
//! What must stay true: the root commits to the number of files, their order and their digests. A peer
//! that has the root and all leaves, which are small, checks the leaves against the root once, and each
//! file that it fetches against its leaf; one that has a single leaf checks it with [`Proof`].

use crate::{Algorithm, Digest, Hasher};

/// The root over these digests, in this order; none without any.
pub fn root(leaves: &[Digest]) -> Option<Digest> {
    match leaves {
        [] => None,
        [one] => Some(leaf(one)),
        more => {
            let (left, right) = more.split_at(left_of(more.len()));
            Some(node(&root(left)?, &root(right)?))
        }
    }
}

/// What shows that one digest is a leaf of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Place of the leaf, from 0.
    pub index: usize,
    /// Number of leaves.
    pub leaves: usize,
    /// The hashes beside the way from the leaf to the root, the leaf's sibling first.
    pub siblings: Vec<Digest>,
}

impl Proof {
    /// The proof for leaf number `index`; none when there is no such leaf.
    pub fn of(leaves: &[Digest], index: usize) -> Option<Self> {
        if index >= leaves.len() {
            return None;
        }
        let mut siblings = Vec::new();
        let (mut below, mut at) = (leaves, index);
        while below.len() > 1 {
            let (left, right) = below.split_at(left_of(below.len()));
            let (here, beside) = if at < left.len() {
                (left, right)
            } else {
                at -= left.len();
                (right, left)
            };
            siblings.push(root(beside)?);
            below = here;
        }
        siblings.reverse();
        Some(Self {
            index,
            leaves: leaves.len(),
            siblings,
        })
    }

    /// Whether `digest` is the leaf that this proof is about, under `root`.
    pub fn verify(&self, root: &Digest, digest: &Digest) -> bool {
        if self.index >= self.leaves {
            return false;
        }
        // The sides on the way down, from the root to the leaf.
        let mut sides = Vec::new();
        let (mut count, mut at) = (self.leaves, self.index);
        while count > 1 {
            let left = left_of(count);
            let is_left = at < left;
            sides.push(is_left);
            (count, at) = if is_left {
                (left, at)
            } else {
                (count - left, at - left)
            };
        }
        if sides.len() != self.siblings.len() {
            return false;
        }
        let way = self.siblings.iter().zip(sides.iter().rev());
        let found = way.fold(leaf(digest), |hash, (sibling, is_left)| {
            if *is_left {
                node(&hash, sibling)
            } else {
                node(sibling, &hash)
            }
        });
        found == *root
    }
}

/// Leaves on the left side of `count`, which is at least 2.
fn left_of(count: usize) -> usize {
    count.next_power_of_two() / 2
}

fn leaf(digest: &Digest) -> Digest {
    let mut hasher = Hasher::of(Algorithm::Sha3_512);
    hasher.update(&[0]).update(digest.as_bytes()).finish()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Hasher::of(Algorithm::Sha3_512);
    hasher
        .update(&[1])
        .update(left.as_bytes())
        .update(right.as_bytes())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_with;

    fn leaves(count: u8) -> Vec<Digest> {
        (0..count)
            .map(|at| hash_with(Algorithm::Sha3_512, &[at]))
            .collect()
    }

    #[test]
    fn the_root_follows_the_shape_of_rfc_9162() {
        let all = leaves(3);
        let two = node(&leaf(&all[0]), &leaf(&all[1]));
        assert_eq!(root(&all), Some(node(&two, &leaf(&all[2]))));
        assert_eq!(root(&all[..1]), Some(leaf(&all[0])));
        assert_eq!(root(&[]), None);
    }

    #[test]
    fn the_root_depends_on_each_leaf_on_their_order_and_on_their_number() {
        let all = leaves(6);
        let expected = root(&all);
        for index in 0..all.len() {
            let mut other = all.clone();
            other[index] = hash_with(Algorithm::Sha3_512, b"another");
            assert_ne!(root(&other), expected);
            let mut swapped = all.clone();
            swapped.swap(index, (index + 1) % all.len());
            assert_ne!(root(&swapped), expected);
        }
        assert_ne!(root(&all[..5]), expected);
        // A node cannot pass for a leaf.
        let inner = [node(&leaf(&all[0]), &leaf(&all[1]))];
        assert_ne!(root(&inner), root(&all[..2]));
    }

    #[test]
    fn a_proof_verifies_its_leaf_and_no_other() {
        for count in 1..=9 {
            let all = leaves(count);
            let root = root(&all).unwrap();
            for (index, digest) in all.iter().enumerate() {
                let proof = Proof::of(&all, index).unwrap();
                assert!(proof.verify(&root, digest));
                for other in all.iter().filter(|other| *other != digest) {
                    assert!(!proof.verify(&root, other));
                }
                let elsewhere = Proof {
                    index: index + 1,
                    ..proof.clone()
                };
                assert!(!elsewhere.verify(&root, digest));
                let longer = Proof {
                    siblings: [proof.siblings.clone(), vec![root]].concat(),
                    ..proof
                };
                assert!(!longer.verify(&root, digest));
            }
            assert!(Proof::of(&all, all.len()).is_none());
        }
    }
}
