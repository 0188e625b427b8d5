//! The cache of keys and values of a layer, and attention over it.
//!
//! Keys are held as a matrix of weights is, with sixteen positions for its rows, and values with sixteen elements for
//! its rows and positions for its columns: so scores and sums over values are products of [`packed`](super::packed)
//! weights. A query's numbers do not depend on which others are computed with it.

use super::packed::groups::{F16, Number, Piece};
use super::packed::{Epilogue, Multiply};
use super::pool::{Tile, Tiles};
use super::rows::softmax;
use super::simd::{Kernel, LANES, Level, Simd};

/// How keys and values are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CacheFormat {
    /// As f32.
    F32,
    /// In IEEE half precision, as llama.cpp does by default.
    #[default]
    F16,
}

impl CacheFormat {
    /// Bytes of a number.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// Sixteen positions of one element of a key, or sixteen elements of the value at one position.
#[derive(Debug)]
enum Store {
    F32(Vec<[f32; LANES]>),
    F16(Vec<[F16; LANES]>),
}

/// Keys and values of one layer.
#[derive(Debug)]
pub struct Cache {
    store: Store,
    kv_heads: usize,
    head: usize,
    capacity: usize,
}

impl Cache {
    /// A cache for `capacity` positions and so many heads of `head` elements; all its memory is taken now.
    ///
    /// # Panics
    ///
    /// Where a size is 0.
    pub fn new(format: CacheFormat, kv_heads: usize, head: usize, capacity: usize) -> Self {
        assert!(kv_heads > 0 && head > 0 && capacity > 0, "a cache has room");
        let capacity = capacity.next_multiple_of(LANES);
        let mut cache = Self {
            store: Store::F32(Vec::new()),
            kv_heads,
            head,
            capacity,
        };
        let length = kv_heads * cache.of_head();
        cache.store = match format {
            CacheFormat::F32 => Store::F32(vec![[0.0; LANES]; length]),
            CacheFormat::F16 => Store::F16(vec![[F16(0); LANES]; length]),
        };
        cache
    }

    /// How keys and values are held.
    pub fn format(&self) -> CacheFormat {
        match self.store {
            Store::F32(_) => CacheFormat::F32,
            Store::F16(_) => CacheFormat::F16,
        }
    }

    /// Positions that it has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.kv_heads * self.of_head() * LANES * self.format().size()
    }

    /// Takes memory for `positions`, where there is less; what is held stays. Nothing is freed.
    pub fn reserve(&mut self, positions: usize) {
        if positions <= self.capacity {
            return;
        }
        let mut larger = Self::new(self.format(), self.kv_heads, self.head, positions);
        match (&self.store, &mut larger.store) {
            (Store::F32(from), Store::F32(to)) => copy(self.shape(), from, larger.capacity, to),
            (Store::F16(from), Store::F16(to)) => copy(self.shape(), from, larger.capacity, to),
            _ => unreachable!("both are of one format"),
        }
        *self = larger;
    }

    fn shape(&self) -> HeadShape {
        HeadShape {
            head: self.head,
            keys: self.keys(),
            capacity: self.capacity,
        }
    }

    /// Sixteens that the keys of a head take.
    fn keys(&self) -> usize {
        self.capacity / LANES * self.head
    }

    /// Sixteens that keys and values of a head take.
    fn of_head(&self) -> usize {
        self.keys() + self.head.div_ceil(LANES) * self.capacity
    }

    /// The cache cut into its heads, for threads to write.
    pub fn heads(&mut self) -> HeadTiles<'_> {
        let size = self.of_head();
        let shape = self.shape();
        match &mut self.store {
            Store::F32(store) => HeadTiles::F32(Tiles::rows(store, size), shape),
            Store::F16(store) => HeadTiles::F16(Tiles::rows(store, size), shape),
        }
    }
}

/// Copies the heads of a cache into one of a larger capacity.
fn copy<T: Copy>(shape: HeadShape, from: &[T], capacity: usize, to: &mut [T]) {
    let groups = shape.head.div_ceil(LANES);
    let keys = capacity / LANES * shape.head;
    let heads = from.chunks_exact(shape.keys + groups * shape.capacity);
    for (from, to) in heads.zip(to.chunks_exact_mut(keys + groups * capacity)) {
        let (from_keys, from_values) = from.split_at(shape.keys);
        let (to_keys, to_values) = to.split_at_mut(keys);
        to_keys[..shape.keys].copy_from_slice(from_keys);
        let values = from_values.chunks_exact(shape.capacity);
        for (from, to) in values.zip(to_values.chunks_exact_mut(capacity)) {
            to[..shape.capacity].copy_from_slice(from);
        }
    }
}

/// The heads of a cache, as tiles.
pub enum HeadTiles<'a> {
    /// Of numbers in single precision.
    F32(Tiles<'a, [f32; LANES]>, HeadShape),
    /// Of numbers in half precision.
    F16(Tiles<'a, [F16; LANES]>, HeadShape),
}

/// How the numbers of a head lie in a cache.
#[derive(Debug, Clone, Copy)]
pub struct HeadShape {
    head: usize,
    keys: usize,
    capacity: usize,
}

impl HeadShape {
    /// Writes key and value of a position into the tile of their head.
    ///
    /// # Panics
    ///
    /// Where the position is beyond the cache, or key or value are not of a head's size.
    pub fn write<N: Number>(
        self,
        head: &mut Tile<'_, [N; LANES]>,
        position: usize,
        key: &[f32],
        value: &[f32],
    ) {
        assert!(
            position < self.capacity,
            "position {position} is in the cache"
        );
        assert!(
            key.len() == self.head && value.len() == self.head,
            "a head's numbers"
        );
        let (keys, values) = head.row(0).split_at_mut(self.keys);
        let (group, lane) = (position / LANES, position % LANES);
        for (to, &key) in keys[group * self.head..][..self.head].iter_mut().zip(key) {
            to[lane] = N::nearest(key);
        }
        let sixteens = value.chunks(LANES).zip(values.chunks_mut(self.capacity));
        for (value, of_elements) in sixteens {
            for (to, &value) in of_elements[position].iter_mut().zip(value) {
                *to = N::nearest(value);
            }
        }
    }
}

/// Queries of some positions, all of one head of keys and values.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// The head of keys and values that they see.
    pub kv_head: usize,
    /// Rows of a head's size, turned by their positions and scaled.
    pub rows: &'a [f32],
    /// The position of the first row; each that follows is at the next, and after `rows_of_head` rows the next head
    /// begins with this one again.
    pub position: usize,
    /// Rows of each head.
    pub rows_of_head: usize,
    /// Positions that a query sees, its own among them; `None` for all before it.
    pub window: Option<usize>,
}

impl Queries<'_> {
    /// The positions that the query of a row sees.
    fn visible(&self, row: usize) -> std::ops::Range<usize> {
        let end = self.position + row % self.rows_of_head + 1;
        end - self.window.map_or(end, |window| window.clamp(1, end))..end
    }
}

/// Scores that [`attend`] needs a scratch for, with so many rows and positions.
pub const fn scores(rows: usize, capacity: usize) -> usize {
    rows * capacity.next_multiple_of(LANES)
}

/// Of each row of queries the mean of the values, weighted by the softmax of its products with the keys.
///
/// The positions of all queries must have been written. `scratch` has room for [`scores`]; `out` has as many rows, of a
/// head's size.
///
/// # Panics
///
/// Where a buffer is too small, or a position or the head is not in the cache.
pub fn attend(
    level: Level,
    cache: &Cache,
    queries: Queries<'_>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let rows = queries.rows.len() / cache.head;
    assert!(
        rows > 0 && out.len() == rows * cache.head,
        "as many rows come out as go in"
    );
    assert!(
        rows.is_multiple_of(queries.rows_of_head),
        "heads have the same rows"
    );
    let last = queries.position + queries.rows_of_head;
    assert!(
        last <= cache.capacity && queries.kv_head < cache.kv_heads,
        "queries are in the cache"
    );
    let start = queries.visible(0).start / LANES * LANES;
    let end = last.next_multiple_of(LANES);
    let scratch = &mut scratch[..rows * (end - start)];
    let of_head = queries.kv_head * cache.of_head()..(queries.kv_head + 1) * cache.of_head();
    /// Attends over the numbers of one format.
    macro_rules! run {
        ($store:ident) => {{
            let (keys, values) = $store[of_head].split_at(cache.keys());
            level.run(Attend {
                keys: &keys[start / LANES * cache.head..end / LANES * cache.head],
                values,
                capacity: cache.capacity,
                head: cache.head,
                start,
                end,
                queries,
                scores: scratch,
                out,
            });
        }};
    }
    match &cache.store {
        Store::F32(store) => run!(store),
        Store::F16(store) => run!(store),
    }
}

struct Attend<'a, N> {
    /// The keys of the positions from `start` to `end`.
    keys: &'a [[N; LANES]],
    /// All values of the head.
    values: &'a [[N; LANES]],
    capacity: usize,
    head: usize,
    start: usize,
    end: usize,
    queries: Queries<'a>,
    scores: &'a mut [f32],
    out: &'a mut [f32],
}

impl<N: Number> Kernel for Attend<'_, N>
where
    [N; LANES]: Piece<Input = f32>,
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let seen = self.end - self.start;
        let rows = self.queries.rows.len() / self.head;
        let scores = Multiply {
            pieces: self.keys,
            length: self.head,
            groups: 0..seen / LANES,
            x: self.queries.rows,
            stride: self.head,
            out: &mut Tile::whole(self.scores, seen),
            epilogue: Epilogue::default(),
        };
        scores.run(simd);
        for (row, scores) in self.scores.chunks_exact_mut(seen).enumerate() {
            let visible = self.queries.visible(row);
            let visible = visible.start - self.start..visible.end - self.start;
            let factor = simd.splat(softmax(simd, scores, visible));
            for score in scores.as_chunks_mut::<LANES>().0 {
                simd.store(simd.mul(simd.load(score), factor), score);
            }
        }
        // One sixteen of elements after the other, as the values of each lie apart.
        let mut out = Tile::whole(self.out, self.head);
        let mut x = Sums::<N> {
            values: self.values,
            capacity: self.capacity,
            start: self.start,
            seen,
            scores: self.scores,
            rows,
        };
        x.write(simd, &mut out);
    }
}

/// Sums of values, weighted by scores.
struct Sums<'a, N> {
    values: &'a [[N; LANES]],
    capacity: usize,
    start: usize,
    seen: usize,
    scores: &'a [f32],
    rows: usize,
}

impl<N: Number> Sums<'_, N>
where
    [N; LANES]: Piece<Input = f32>,
{
    /// The values of sixteen elements at the positions that are seen.
    #[inline(always)]
    fn group(&self, group: usize) -> &[[N; LANES]] {
        &self.values[group * self.capacity + self.start..][..self.seen]
    }

    #[inline(always)]
    fn block<S: Simd, const M: usize, const G: usize>(
        &self,
        simd: S,
        group: usize,
        row: usize,
        out: &mut Tile<'_, f32>,
    ) {
        let mut values: [&[[N; LANES]]; G] = [&[]; G];
        for g in 0..G {
            values[g] = self.group(group + g);
        }
        let mut scores: [&[f32]; M] = [&[]; M];
        for m in 0..M {
            scores[m] = &self.scores[(row + m) * self.seen..][..self.seen];
        }
        let sums = <[N; LANES] as Piece>::products::<S, M, G>(simd, values, scores);
        for m in 0..M {
            let to = out.row(row + m);
            for g in 0..G {
                let first = (group + g) * LANES;
                let last = to.len().min(first + LANES);
                Epilogue::default().write(simd, sums[m][g], group + g, &mut to[first..last]);
            }
        }
    }

    #[inline(always)]
    fn write<S: Simd>(&mut self, simd: S, out: &mut Tile<'_, f32>) {
        let groups = out.columns().div_ceil(LANES);
        let mut row = 0;
        if S::ROWS >= 8 {
            while row + 8 <= self.rows {
                for group in 0..groups {
                    self.block::<S, 8, 1>(simd, group, row, out);
                }
                row += 8;
            }
        }
        if S::ROWS >= 4 {
            while row + 4 <= self.rows {
                for group in 0..groups {
                    self.block::<S, 4, 1>(simd, group, row, out);
                }
                row += 4;
            }
        }
        while row < self.rows {
            let mut group = 0;
            while group + 4 <= groups {
                self.block::<S, 1, 4>(simd, group, row, out);
                group += 4;
            }
            while group < groups {
                self.block::<S, 1, 1>(simd, group, row, out);
                group += 1;
            }
            row += 1;
        }
    }
}

#[cfg(test)]
mod tests;
