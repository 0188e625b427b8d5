use super::super::pool::Pool;
use super::*;
use crate::kernels::simd::tests::{levels, numbers};
use std::num::NonZeroUsize;

const KV_HEADS: usize = 2;

/// A cache that holds keys and values for `length` positions.
fn cache(format: CacheFormat, head: usize, length: usize) -> Cache {
    let mut cache = Cache::new(format, KV_HEADS, head, length);
    let (keys, values) = (numbers(1, length * 2 * head), numbers(2, length * 2 * head));
    let mut pool = Pool::new(NonZeroUsize::MIN);
    let of = |position: usize, kv_head: usize| {
        let first = (position * KV_HEADS + kv_head) * head;
        (&keys[first..first + head], &values[first..first + head])
    };
    macro_rules! write {
        ($tiles:ident, $shape:ident) => {
            pool.tiles($tiles, &mut [()], |tile, ()| {
                for position in 0..length {
                    let (key, value) = of(position, tile.first_row);
                    $shape.write(tile, position, key, value);
                }
            })
        };
    }
    match cache.heads() {
        HeadTiles::F32(tiles, shape) => write!(tiles, shape),
        HeadTiles::F16(tiles, shape) => write!(tiles, shape),
    }
    cache
}

/// Attention by its definition, over what [`cache`] was given.
fn expected(head: usize, length: usize, queries: Queries<'_>) -> Vec<f32> {
    let (keys, values) = (numbers(1, length * 2 * head), numbers(2, length * 2 * head));
    let mut out = Vec::new();
    for (row, query) in queries.rows.chunks(head).enumerate() {
        let visible = queries.visible(row);
        let of = |position: usize| (position * KV_HEADS + queries.kv_head) * head;
        let scores: Vec<f64> = visible
            .clone()
            .map(|position| {
                let key = &keys[of(position)..][..head];
                query
                    .iter()
                    .zip(key)
                    .map(|(&q, &k)| f64::from(q * k))
                    .sum::<f64>()
                    .exp()
            })
            .collect();
        let total: f64 = scores.iter().sum();
        for element in 0..head {
            let terms = visible.clone().zip(&scores);
            let sum: f64 = terms
                .map(|(position, score)| score * f64::from(values[of(position) + element]))
                .sum();
            out.push((sum / total) as f32);
        }
    }
    out
}

fn attended(level: Level, cache: &Cache, head: usize, queries: Queries<'_>) -> Vec<f32> {
    let mut out = vec![0.0; queries.rows.len()];
    let rows = queries.rows.len() / head;
    let mut scratch = vec![f32::NAN; scores(rows, cache.capacity())];
    attend(level, cache, queries, &mut scratch, &mut out);
    out
}

#[test]
fn attention_is_what_its_definition_says() {
    for (head, format, allowed) in [
        (64, CacheFormat::F32, 1e-5),
        (64, CacheFormat::F16, 2e-3),
        (8, CacheFormat::F32, 1e-5),
        (80, CacheFormat::F16, 2e-3),
    ] {
        let length = 90;
        let cache = cache(format, head, length);
        for (heads, rows_of_head, position) in [(1, 1, 0), (3, 1, 89), (1, 17, 3), (2, 9, 60)] {
            for window in [None, Some(5), Some(33), Some(1000)] {
                let rows = numbers(3, heads * rows_of_head * head);
                let queries = Queries {
                    kv_head: 1,
                    rows: &rows,
                    position,
                    rows_of_head,
                    window,
                };
                let out = attended(Level::best(), &cache, head, queries);
                for (out, expected) in out.iter().zip(expected(head, length, queries)) {
                    assert!((out - expected).abs() < allowed, "{out} for {expected}");
                }
            }
        }
    }
}

#[test]
fn levels_and_company_change_no_bit() {
    let levels = levels();
    let head = 64;
    for format in [CacheFormat::F32, CacheFormat::F16] {
        let cache = cache(format, head, 120);
        let rows = numbers(4, 11 * head);
        for window in [None, Some(21)] {
            let queries = Queries {
                kv_head: 0,
                rows: &rows,
                position: 100,
                rows_of_head: 11,
                window,
            };
            let together = attended(Level::Portable, &cache, head, queries);
            for &level in &levels {
                assert_eq!(
                    attended(level, &cache, head, queries),
                    together,
                    "{}",
                    level.name()
                );
                for row in 0..11 {
                    let alone = Queries {
                        rows: &rows[row * head..][..head],
                        position: 100 + row,
                        rows_of_head: 1,
                        ..queries
                    };
                    let alone = attended(level, &cache, head, alone);
                    assert_eq!(alone, together[row * head..][..head], "{}", level.name());
                }
            }
        }
    }
}

#[test]
fn a_cache_that_grows_keeps_what_it_holds() {
    for (format, head) in [(CacheFormat::F32, 8), (CacheFormat::F16, 80)] {
        let mut cache = cache(format, head, 40);
        let rows = numbers(5, 3 * head);
        let queries = Queries {
            kv_head: 1,
            rows: &rows,
            position: 37,
            rows_of_head: 3,
            window: None,
        };
        let before = attended(Level::best(), &cache, head, queries);
        cache.reserve(1000);
        assert_eq!(cache.capacity(), 1008);
        assert_eq!(attended(Level::best(), &cache, head, queries), before);
    }
}

#[test]
fn a_cache_takes_the_memory_that_it_says() {
    let cache = Cache::new(CacheFormat::F16, 3, 64, 100);
    assert_eq!(cache.capacity(), 112);
    assert_eq!(cache.bytes(), 3 * 112 * 64 * 2 * 2);
}
