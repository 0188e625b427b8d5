//! BLAKE3's tree of a large blob, by which a part of it is verified without the rest.
//!
//! BLAKE3 hashes its input as a binary tree over chunks of 1 KiB (the paper, section 2.1). A [`Tree`]
//! keeps one level of it: the chaining values of *groups* of [`GROUP_BYTES`] each. From them follows
//! the blob's digest, and whoever trusts the digest and has checked the tree against it once can verify
//! any group by its chaining value. A tree costs 32 bytes for each 64 KiB, a two-thousandth of the blob.
//!
//! What must stay true: the digest of a tree is the digest of the blob by [`crate::hash`], so that a
//! blob is named the same whether a tree of it was kept or not.

use blake3::hazmat::{ChainingValue, HasherExt as _, Mode, left_subtree_len};
use blake3::hazmat::{merge_subtrees_non_root, merge_subtrees_root};

use crate::Digest;

/// Bytes of a group. A power of two of BLAKE3's chunks: it is then a subtree of its own.
pub const GROUP_BYTES: usize = 64 * 1024;

/// Bytes of one chaining value in a written tree.
const VALUE_BYTES: usize = 32;

/// The chaining values of a blob's groups, in order. A blob of one group or less has none: its digest
/// verifies it as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    len: u64,
    groups: Vec<ChainingValue>,
}

impl Tree {
    /// Number of groups of a blob of `len` bytes that a tree holds values of.
    pub fn groups_of(len: u64) -> u64 {
        if len <= GROUP_BYTES as u64 {
            0
        } else {
            len.div_ceil(GROUP_BYTES as u64)
        }
    }

    /// The tree in writing, if these bytes are as many as a blob of `len` bytes has; it is to be
    /// compared with a digest ([`digest`](Self::digest)) before it is believed.
    pub fn from_bytes(len: u64, bytes: &[u8]) -> Option<Self> {
        let (values, rest) = bytes.as_chunks::<VALUE_BYTES>();
        let fits = rest.is_empty() && values.len() as u64 == Self::groups_of(len);
        fits.then(|| Self {
            len,
            groups: values.to_vec(),
        })
    }

    /// The tree in writing: the chaining values one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.groups.concat()
    }

    /// Bytes of the blob.
    pub fn blob_len(&self) -> u64 {
        self.len
    }

    /// The digest of the blob; none for a blob of one group, of which the tree says nothing.
    pub fn digest(&self) -> Option<Digest> {
        let (left, right) = self.halves(0, self.len)?;
        let root = merge_subtrees_root(&left, &right, Mode::Hash);
        Some(Digest::blake3(*root.as_bytes()))
    }

    /// Whether `group` is group number `index` of the blob whose tree this is.
    pub fn verify(&self, index: usize, group: &[u8]) -> bool {
        let start = index as u64 * GROUP_BYTES as u64;
        let len = (GROUP_BYTES as u64).min(self.len.saturating_sub(start));
        group.len() as u64 == len
            && self
                .groups
                .get(index)
                .is_some_and(|value| *value == chaining_value(start, group))
    }

    /// The chaining values of the two children of the node over `len` bytes from `start`; none for a
    /// node that is a group.
    fn halves(&self, start: u64, len: u64) -> Option<(ChainingValue, ChainingValue)> {
        if len <= GROUP_BYTES as u64 {
            return None;
        }
        let left = left_subtree_len(len);
        Some((
            self.value(start, left)?,
            self.value(start + left, len - left)?,
        ))
    }

    fn value(&self, start: u64, len: u64) -> Option<ChainingValue> {
        match self.halves(start, len) {
            Some((left, right)) => Some(merge_subtrees_non_root(&left, &right, Mode::Hash)),
            None => self
                .groups
                .get(usize::try_from(start / GROUP_BYTES as u64).ok()?)
                .copied(),
        }
    }
}

/// The chaining value of the group that begins at byte `start`; it must not be the whole blob.
fn chaining_value(start: u64, group: &[u8]) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start).update(group);
    hasher.finalize_non_root()
}

/// Makes the digest and the tree of a blob that arrives piece by piece.
#[derive(Debug, Clone, Default)]
pub struct TreeHasher {
    /// Bytes that came, those in `pending` included.
    len: u64,
    groups: Vec<ChainingValue>,
    /// The begin of a group, never more than one. It is hashed when more comes, because the last group
    /// of a blob of one group is hashed in another way.
    pending: Vec<u8>,
}

impl TreeHasher {
    /// A hasher that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) -> &mut Self {
        while !bytes.is_empty() {
            if self.pending.len() == GROUP_BYTES {
                self.close_group();
            }
            // Whole groups that something follows need no copy.
            while self.pending.is_empty() && bytes.len() > GROUP_BYTES {
                let (group, rest) = bytes.split_at(GROUP_BYTES);
                self.groups.push(chaining_value(self.len, group));
                self.len += GROUP_BYTES as u64;
                bytes = rest;
            }
            let (part, rest) = bytes.split_at(bytes.len().min(GROUP_BYTES - self.pending.len()));
            self.pending.extend_from_slice(part);
            self.len += part.len() as u64;
            bytes = rest;
        }
        self
    }

    /// The digest of everything that came, and its tree.
    pub fn finish(mut self) -> (Digest, Tree) {
        if self.groups.is_empty() {
            let digest = crate::hash(&self.pending);
            let tree = Tree {
                len: self.len,
                groups: Vec::new(),
            };
            return (digest, tree);
        }
        self.close_group();
        let tree = Tree {
            len: self.len,
            groups: self.groups,
        };
        let digest = tree.digest().unwrap_or_else(|| crate::hash(&[]));
        (digest, tree)
    }

    fn close_group(&mut self) {
        let start = self.len - self.pending.len() as u64;
        self.groups.push(chaining_value(start, &self.pending));
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blob(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
    }

    fn tree_of(blob: &[u8]) -> (Digest, Tree) {
        let mut hasher = TreeHasher::new();
        hasher.update(blob);
        hasher.finish()
    }

    #[test]
    fn the_digest_of_a_tree_is_the_digest_of_the_blob() {
        const G: usize = GROUP_BYTES;
        for len in [
            0,
            1,
            G - 1,
            G,
            G + 1,
            2 * G,
            2 * G + 1,
            3 * G,
            5 * G + 77,
            8 * G,
        ] {
            let blob = blob(len);
            let (digest, tree) = tree_of(&blob);
            assert_eq!(digest, crate::hash(&blob), "{len}");
            assert_eq!(tree.groups.len() as u64, Tree::groups_of(len as u64));
            let read = Tree::from_bytes(len as u64, &tree.to_bytes()).unwrap();
            assert_eq!(read.digest().unwrap_or(digest), digest);
        }
    }

    #[test]
    fn each_group_verifies_in_its_place_and_nothing_else_does() {
        let blob = blob(3 * GROUP_BYTES + 5);
        let (_, tree) = tree_of(&blob);
        let groups: Vec<_> = blob.chunks(GROUP_BYTES).collect();
        for (index, group) in groups.iter().enumerate() {
            assert!(tree.verify(index, group));
            assert!(!tree.verify((index + 1) % 4, group));
            let mut flipped = group.to_vec();
            flipped[group.len() / 2] ^= 1;
            assert!(!tree.verify(index, &flipped));
            assert!(!tree.verify(index, &group[1..]));
        }
        assert!(!tree.verify(4, &[]));
    }

    #[test]
    fn a_tree_of_another_size_is_refused() {
        let (_, tree) = tree_of(&blob(2 * GROUP_BYTES));
        let bytes = tree.to_bytes();
        assert!(Tree::from_bytes(3 * GROUP_BYTES as u64, &bytes).is_none());
        assert!(Tree::from_bytes(2 * GROUP_BYTES as u64, &bytes[1..]).is_none());
        assert!(Tree::from_bytes(u64::MAX, &bytes).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_does_not_matter_how_the_blob_was_cut(
            len in 0..4 * GROUP_BYTES,
            cuts in proptest::collection::vec(0..4 * GROUP_BYTES, 0..6),
        ) {
            let blob = blob(len);
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (len + 1)).collect();
            cuts.sort_unstable();
            let mut hasher = TreeHasher::new();
            let mut at = 0;
            for cut in cuts.into_iter().chain([len]) {
                hasher.update(&blob[at..cut]);
                at = cut;
            }
            prop_assert_eq!(hasher.finish(), tree_of(&blob));
        }
    }
}
