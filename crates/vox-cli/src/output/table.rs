//! Tables for people: columns as wide as their widest cell, two spaces between them.

use std::fmt;

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::{shortened, style};

/// A cell: text without escapes, and its style.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A cell in a style.
    pub fn styled(style: Style, text: impl fmt::Display) -> Self {
        let text = style::plain(&text.to_string());
        Self { text, style }
    }
}

impl<T: fmt::Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(Style::new(), text)
    }
}

/// Rows below a head.
#[derive(Debug)]
pub struct Table {
    head: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
    /// Columns whose cells end at the same place.
    to_the_right: Vec<usize>,
}

impl Table {
    /// A table with these titles.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        let head = head.map(|title| Cell::styled(style::STRONG, title)).into();
        Self {
            head,
            rows: Vec::new(),
            to_the_right: Vec::new(),
        }
    }

    /// Aligns a column of numbers.
    #[must_use]
    pub fn right(mut self, column: usize) -> Self {
        self.to_the_right.push(column);
        self
    }

    /// Makes the table as narrow as so many columns of letters where it can: gives up columns by
    /// their titles, in the order of the list, until the rest fits.
    pub fn fit(&mut self, room: usize, given_up: &[&str]) {
        for title in given_up {
            if self.width() <= room {
                return;
            }
            self.give_up(title);
        }
    }

    /// Gives a column up by its title.
    pub fn give_up(&mut self, title: &str) {
        if let Some(column) = self.column(title) {
            self.remove(column);
        }
    }

    /// Makes the table as narrow as so many columns of letters where it can by shortening the cells
    /// of one column, to no fewer than `least`.
    pub fn squeeze(&mut self, room: usize, title: &str, least: usize) {
        let Some(column) = self.column(title) else {
            return;
        };
        let others = self.width() - self.widths()[column];
        let left = room.saturating_sub(others).max(least);
        for cell in self.rows.iter_mut().map(|row| &mut row[column]) {
            cell.text = shortened(std::mem::take(&mut cell.text), left);
        }
    }

    fn column(&self, title: &str) -> Option<usize> {
        self.head.iter().position(|cell| cell.text == title)
    }

    fn remove(&mut self, column: usize) {
        self.head.remove(column);
        for row in &mut self.rows {
            row.remove(column);
        }
        self.to_the_right.retain(|right| *right != column);
        for right in &mut self.to_the_right {
            if *right > column {
                *right -= 1;
            }
        }
    }

    /// The width of each column.
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.head.len()];
        let rows = std::iter::once(&self.head).chain(&self.rows);
        for (index, cell) in rows.flat_map(|row| row.iter().enumerate()) {
            widths[index] = widths[index].max(cell.text.width());
        }
        widths
    }

    /// The width of the whole.
    fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut gap = 0;
            for (index, cell) in row.iter().enumerate() {
                let room = widths[index] - cell.text.width();
                let (before, after) = if self.to_the_right.contains(&index) {
                    (room, 0)
                } else {
                    (0, room)
                };
                // Space is written when something follows it, so that no line ends in it.
                if !cell.text.is_empty() {
                    write!(f, "{:1$}", "", gap + before)?;
                    write!(f, "{}", style::paint(cell.style, &cell.text))?;
                    gap = after + 2;
                } else {
                    gap += room + 2;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_space() {
        let mut table = Table::new(["ID", "SIZE", "NOTE"]).right(1);
        table.row(["redact".into(), 7.into(), "".into()]);
        table.row(["größe".into(), 1024.into(), "x".into()]);
        let text = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(text, "ID      SIZE  NOTE\nredact     7\ngröße   1024  x\n");
    }

    #[test]
    fn where_there_is_no_room_the_columns_go_that_matter_least() {
        let mut table = Table::new(["ID", "NOTE", "SIZE"]).right(2);
        table.row(["redact".into(), "x".into(), 1024.into()]);
        table.row(["größe".into(), "".into(), 7.into()]);
        table.fit(18, &["NOTE", "SIZE"]);
        let whole = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert!(whole.starts_with("ID      NOTE  SIZE\n"), "{whole}");
        table.fit(17, &["NOTE", "SIZE"]);
        let narrow = anstream::adapter::strip_str(&table.to_string()).to_string();
        assert_eq!(narrow, "ID      SIZE\nredact  1024\ngröße      7\n");
        table.fit(1, &["NOTE", "SIZE"]);
        assert_eq!(table.head.len(), 1);
    }

    #[test]
    fn a_column_is_shortened_to_what_the_others_leave_and_no_further_than_it_may() {
        let mut table = Table::new(["ID", "NOTE", "SIZE"]).right(2);
        table.row(["redact".into(), "takes names out".into(), 1024.into()]);
        table.row(["a".into(), "x".into(), 7.into()]);
        let shown = |table: &Table| anstream::adapter::strip_str(&table.to_string()).to_string();
        let whole = shown(&table);
        table.squeeze(29, "NOTE", 4);
        assert_eq!(shown(&table), whole);
        table.squeeze(24, "NOTE", 4);
        let narrow =
            "ID      NOTE        SIZE\nredact  takes nam…  1024\na       x              7\n";
        assert_eq!(shown(&table), narrow);
        table.squeeze(2, "NOTE", 6);
        assert_eq!(shown(&table).lines().nth(1), Some("redact  takes…  1024"));
    }
}
