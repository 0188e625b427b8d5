//! Which examples share a row.
//!
//! Packing puts whole examples beside one another, so that little of a row is padding; which of them
//! a token may look at is told by segment numbers. The rule is best fit, longest first: each example
//! goes into the row in which it leaves the least room. With rows of at least twice the examples'
//! usual length it wastes a few in a hundred columns (Ding et al., "Fewer Truncations Improve
//! Language Modeling", 2024, section 3), and it never cuts an example.
//!
//! What must stay true: which row an example is in follows from the lengths and their order alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How examples become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    /// Several examples share a row.
    #[default]
    Packed,
    /// Each example has a row of its own, padded to the longest of its micro-batch.
    Padded,
}

/// The rows, each with the numbers of its examples in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Where each row begins in `examples`, and where the last ends.
    starts: Vec<u64>,
    examples: Vec<u32>,
}

impl Layout {
    /// Puts examples that take `lengths` columns each into rows of `columns`. A length that is larger
    /// than a row counts as a whole row.
    ///
    /// It takes time and memory in proportion to the number of examples.
    pub fn packed(lengths: &[u32], columns: u32) -> Self {
        let mut longest_first: Vec<u32> = (0..count(lengths)).collect();
        // Stable, so that of two of a length the earlier one comes first.
        longest_first.sort_by_key(|example| std::cmp::Reverse(lengths[*example as usize]));
        // Rows by the room that they have left, those with none left out.
        let mut open: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut row_of = vec![0_u32; lengths.len()];
        let mut rows = 0;
        for example in longest_first {
            let length = lengths[example as usize].min(columns);
            let room = open.range(length..).next().map(|(room, _)| *room);
            let (row, room) = match room.and_then(|room| Some((take(&mut open, room)?, room))) {
                Some(found) => found,
                None => {
                    rows += 1;
                    (rows - 1, columns)
                }
            };
            if room > length {
                open.entry(room - length).or_default().push(row);
            }
            row_of[example as usize] = row;
        }
        Self::of_rows(&row_of, rows)
    }

    /// Gives each of `examples` examples a row.
    pub fn padded(examples: u32) -> Self {
        Self {
            starts: (0..=u64::from(examples)).collect(),
            examples: (0..examples).collect(),
        }
    }

    fn of_rows(row_of: &[u32], rows: u32) -> Self {
        let mut starts = vec![0_u64; rows as usize + 1];
        for row in row_of {
            starts[*row as usize + 1] += 1;
        }
        for row in 0..rows as usize {
            starts[row + 1] += starts[row];
        }
        let mut next = starts.clone();
        let mut examples = vec![0; row_of.len()];
        for (example, row) in (0..).zip(row_of) {
            let place = &mut next[*row as usize];
            examples[*place as usize] = example;
            *place += 1;
        }
        Self { starts, examples }
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.starts.len() as u64 - 1
    }

    /// The examples of a row; none for a row that is not there.
    pub fn row(&self, row: u64) -> &[u32] {
        let row = usize::try_from(row).unwrap_or(usize::MAX);
        let bounds = row
            .checked_add(1)
            .and_then(|end| self.starts.get(row..=end));
        let Some(&[start, end]) = bounds else {
            return &[];
        };
        self.examples
            .get(start as usize..end as usize)
            .unwrap_or_default()
    }
}

/// Examples are numbered with 32 bits; the dataset refuses more.
fn count(lengths: &[u32]) -> u32 {
    u32::try_from(lengths.len()).unwrap_or(u32::MAX)
}

/// One of the rows that have this much room left.
fn take(open: &mut BTreeMap<u32, Vec<u32>>, room: u32) -> Option<u32> {
    let rows = open.get_mut(&room)?;
    let row = rows.pop();
    if rows.is_empty() {
        open.remove(&room);
    }
    row
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(layout: &Layout) -> Vec<Vec<u32>> {
        (0..layout.rows())
            .map(|row| layout.row(row).to_vec())
            .collect()
    }

    #[test]
    fn each_example_goes_where_it_leaves_the_least_room() {
        let layout = Layout::packed(&[3, 7, 2, 6, 10, 1], 10);
        assert_eq!(rows(&layout), [vec![4], vec![0, 1], vec![2, 3, 5]]);
        assert!(layout.row(3).is_empty() && layout.row(u64::MAX).is_empty());
    }

    #[test]
    fn nothing_makes_no_rows() {
        assert_eq!(Layout::packed(&[], 10).rows(), 0);
        assert_eq!(Layout::padded(0).rows(), 0);
    }

    #[test]
    fn padding_gives_each_example_a_row() {
        assert_eq!(rows(&Layout::padded(3)), [[0], [1], [2]]);
    }

    proptest! {
        #[test]
        fn each_example_is_in_one_row_and_no_row_is_overfull(
            lengths in proptest::collection::vec(1_u32..=50, 0..300),
            columns in 50_u32..100,
        ) {
            let layout = Layout::packed(&lengths, columns);
            let mut seen = vec![0; lengths.len()];
            for row in 0..layout.rows() {
                let examples = layout.row(row);
                prop_assert!(!examples.is_empty() && examples.is_sorted());
                let taken: u32 = examples.iter().map(|example| lengths[*example as usize]).sum();
                prop_assert!(taken <= columns);
                for example in examples {
                    seen[*example as usize] += 1;
                }
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
            // Two rows that are at most half full would have become one.
            let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
            prop_assert!(layout.rows() <= 1 + 2 * total / u64::from(columns));
        }
    }
}
