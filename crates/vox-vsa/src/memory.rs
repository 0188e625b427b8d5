//! The memory of known vectors, which makes an exact one of a noisy one.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::hypervector::{checked, matching};
use crate::ternary::{dot, squared_norm};
use crate::{Error, Hypervector, TernaryOperand};

/// A clean-up memory, also called item memory: known vectors, each under a key.
///
/// What is unbound from a bundle is only *like* what was bound; the memory tells which of the known
/// vectors it is most like, and gives that one back, exactly. How often it is the wrong one says
/// [`accuracy::error_probability`](crate::accuracy::error_probability).
///
/// All of its vectors have one number of dimensions, and there are never more of them than its
/// limit. A search compares the query with each.
///
/// ```
/// use vox_vsa::{Hypervector, ItemMemory};
///
/// let mut colours = ItemMemory::new(10_000, 100)?;
/// for name in ["red", "green", "blue"] {
///     colours.insert(name, Hypervector::symbol(name, 10_000)?)?;
/// }
/// let pair = |role, filler| {
///     Hypervector::symbol(role, 10_000)?.bind(&Hypervector::symbol(filler, 10_000)?)
/// };
/// let sky = Hypervector::bundle(&[pair("by day", "blue")?, pair("at dusk", "red")?])?;
///
/// let noisy = sky.unbind(&Hypervector::symbol("at dusk", 10_000)?)?;
/// let (key, vector, similarity) = colours.clean_up(&noisy)?.unwrap();
/// assert_eq!(*key, "red");
/// assert_eq!(vector, &Hypervector::symbol("red", 10_000)?);
/// assert!((0.4..0.6).contains(&similarity));
/// # Ok::<(), vox_vsa::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ItemMemory<K> {
    items: BTreeMap<K, Hypervector>,
    dimensions: usize,
    limit: usize,
}

/// What a query is most like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match<'memory, K> {
    /// Key of the vector.
    pub key: &'memory K,
    /// Cosine of the angle between the query and it.
    pub similarity: f32,
}

impl<K: Ord> ItemMemory<K> {
    /// An empty memory for up to `limit` vectors of so many dimensions.
    ///
    /// # Errors
    /// [`Error::Dimensions`] when `dimensions` is not a positive multiple of 8.
    pub fn new(dimensions: usize, limit: usize) -> Result<Self, Error> {
        Ok(Self {
            items: BTreeMap::new(),
            dimensions: checked(dimensions)?,
            limit,
        })
    }

    /// Keeps a vector under a key, and gives back the one that was there before.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when it has another number of dimensions, [`Error::Full`] when the key is
    /// new and the limit is reached. The memory is then as it was.
    pub fn insert(&mut self, key: K, vector: Hypervector) -> Result<Option<Hypervector>, Error> {
        matching(self.dimensions, vector.dimensions())?;
        if self.items.len() >= self.limit && !self.items.contains_key(&key) {
            return Err(Error::Full { limit: self.limit });
        }
        Ok(self.items.insert(key, vector))
    }

    /// Takes a vector out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Hypervector>
    where
        K: Borrow<Q>,
    {
        self.items.remove(key)
    }

    /// The vector under a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Hypervector>
    where
        K: Borrow<Q>,
    {
        self.items.get(key)
    }

    /// What the query is most like; of vectors that are equally alike, the one with the smallest
    /// key. Nothing when the memory is empty.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the query has another number of dimensions.
    pub fn nearest(&self, query: &impl TernaryOperand) -> Result<Option<Match<'_, K>>, Error> {
        let found = self.clean_up(query)?;
        Ok(found.map(|(key, _, similarity)| Match { key, similarity }))
    }

    /// What [`nearest`](Self::nearest) finds, with its vector.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when the query has another number of dimensions.
    pub fn clean_up(
        &self,
        query: &impl TernaryOperand,
    ) -> Result<Option<(&K, &Hypervector, f32)>, Error> {
        matching(self.dimensions, query.dimensions())?;
        // The vectors have one norm, so that their order is that of the integers.
        let products = self
            .items
            .iter()
            .map(|(key, vector)| (dot(vector, query), key, vector));
        let nearest = products.reduce(|best, next| match next.0.cmp(&best.0) {
            Ordering::Greater => next,
            Ordering::Less | Ordering::Equal => best,
        });
        Ok(nearest.map(|(product, key, vector)| {
            let norms = squared_norm(vector) as f64 * squared_norm(query) as f64;
            let similarity = if norms == 0.0 {
                0.0
            } else {
                product as f64 / norms.sqrt()
            };
            (key, vector, similarity as f32)
        }))
    }

    /// Keys and vectors in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &Hypervector)> {
        self.items.iter()
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of dimensions of each vector.
    pub const fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Most vectors that it takes.
    pub const fn limit(&self) -> usize {
        self.limit
    }
}
