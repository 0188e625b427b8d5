//! Where unsafe code stands, against the list of ARCHITECTURE.md.
//!
//! A file has unsafe code where the word `unsafe` stands in it outside of comments and of what is quoted; within
//! macros and attributes it counts. Files below a directory `tests` may have it without being listed.

use std::fmt;

use anyhow::bail;

/// The heading of the list.
const HEADING: &str = "## Where unsafe code may stand";

/// Something in which list and files differ.
#[derive(Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A file has unsafe code and no place in the list.
    NotListed { file: String },
    /// A place in the list has no unsafe code.
    NotThere { place: String },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListed { file } => write!(
                f,
                "{file} has unsafe code and is not listed in ARCHITECTURE.md: do without, or add its line with the \
                 reason"
            ),
            Self::NotThere { place } => write!(
                f,
                "{place} is listed in ARCHITECTURE.md and has no unsafe code: remove its line there"
            ),
        }
    }
}

/// The files and directories where unsafe code may stand; a directory ends in `/`.
///
/// They are what stands as code in the first column of the table below the heading.
pub fn parse(page: &str) -> anyhow::Result<Vec<String>> {
    let section = page
        .lines()
        .skip_while(|line| *line != HEADING)
        .skip(1)
        .take_while(|line| !line.starts_with("## "));
    let cells = section.filter_map(|line| line.strip_prefix('|')?.split('|').next());
    let places: Vec<String> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    if places.is_empty() {
        bail!(
            "ARCHITECTURE.md does not list where unsafe code may stand: below `{HEADING}` a table is to have the \
             files and directories as code in its first column"
        );
    }
    Ok(places)
}

/// Compares files that have unsafe code with the places of the list.
pub fn check(files: &[String], places: &[String]) -> Vec<Wrong> {
    let not_listed = files
        .iter()
        .filter(|file| !is_of_tests(file) && !places.iter().any(|place| is_at(file, place)))
        .map(|file| Wrong::NotListed { file: file.clone() });
    let not_there = places
        .iter()
        .filter(|place| !files.iter().any(|file| is_at(file, place)))
        .map(|place| Wrong::NotThere {
            place: place.clone(),
        });
    not_listed.chain(not_there).collect()
}

fn is_at(file: &str, place: &str) -> bool {
    file == place || (place.ends_with('/') && file.starts_with(place))
}

/// Whether a file lies below a directory `tests`.
fn is_of_tests(file: &str) -> bool {
    let mut parts = file.split('/');
    // The last is the file's own name.
    parts.next_back();
    parts.any(|part| part == "tests")
}

/// Whether Rust source has unsafe code.
pub fn is_in(source: &str) -> bool {
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let word = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(rest, |end| &rest[..end]);
        if word == "unsafe" {
            return true;
        }
        let length = match first {
            _ if !word.is_empty() => {
                let is_prefix = matches!(word, "r" | "br" | "cr");
                let after = &rest[word.len()..];
                word.len() + if is_prefix { raw_string(after) } else { 0 }
            }
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '"' => string(rest),
            '\'' => character(rest),
            other => other.len_utf8(),
        };
        rest = &rest[length..];
    }
    false
}

/// Length of the comment `/* … */` that a text begins with; there may be others in it.
fn comment(text: &str) -> usize {
    let (mut depth, mut rest) = (0, text);
    while let Some(next) = rest.chars().next() {
        rest = if let Some(inner) = rest.strip_prefix("/*") {
            depth += 1;
            inner
        } else if let Some(outer) = rest.strip_prefix("*/") {
            depth -= 1;
            outer
        } else {
            &rest[next.len_utf8()..]
        };
        if depth == 0 {
            break;
        }
    }
    text.len() - rest.len()
}

/// Length of the string that a text begins with.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Length of what follows the `r` of a raw string; 0 where none follows.
fn raw_string(text: &str) -> usize {
    let inner = text.trim_start_matches('#');
    let hashes = &text[..text.len() - inner.len()];
    let Some(inner) = inner.strip_prefix('"') else {
        return 0;
    };
    let end = format!("\"{hashes}");
    let length = inner.find(end.as_str());
    length.map_or(text.len(), |length| hashes.len() + 1 + length + end.len())
}

/// Length of the character that a text begins with, or of the mark before the name of a lifetime.
fn character(text: &str) -> usize {
    let mut inner = text.chars().skip(1);
    match (inner.next(), inner.next()) {
        (Some('\\'), Some(escaped)) => {
            let from = 2 + escaped.len_utf8();
            let end = text[from..].find('\'');
            end.map_or(text.len(), |end| from + end + 1)
        }
        (Some(one), Some('\'')) => one.len_utf8() + 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[&str], places: &[&str]) -> Vec<String> {
        let owned =
            |names: &[&str]| -> Vec<String> { names.iter().map(|&n| n.to_owned()).collect() };
        let wrong = check(&owned(files), &owned(places));
        wrong.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn places_are_the_code_in_the_first_column_below_the_heading() {
        let page = "| `a.rs` | x |\n## Where unsafe code may stand\n\nIn `b.rs`:\n\n| place | why |\n|---|---|\n\
                    | `c/`, `d.rs` | as `e` |\n| `f.rs` | |\n\n## Next\n| `g.rs` | |\n";
        assert_eq!(parse(page).unwrap(), ["c/", "d.rs", "f.rs"]);
    }

    #[test]
    fn a_page_without_places_is_refused() {
        assert!(parse("## Where unsafe code may stand\n\nNowhere.\n").is_err());
        assert!(parse("| `a.rs` | x |\n").is_err());
    }

    #[test]
    fn a_file_that_is_not_listed_is_named_also_beside_one_that_is() {
        let wrong = told(&["a/b.rs", "a/bc.rs", "d/e/f.rs"], &["a/b.rs", "d/"]);
        assert!(
            matches!(wrong.as_slice(), [one] if one.starts_with("a/bc.rs has unsafe code")),
            "{wrong:#?}"
        );
    }

    #[test]
    fn a_place_without_unsafe_code_is_named() {
        let wrong = told(&["a/b.rs"], &["a/b.rs", "a/c/", "a/b"]);
        assert!(
            matches!(wrong.as_slice(), [one, two]
                if one.starts_with("a/c/ is listed") && two.starts_with("a/b is listed")),
            "{wrong:#?}"
        );
    }

    #[test]
    fn what_lies_below_a_directory_tests_needs_no_place() {
        let wrong = told(&["a/b.rs", "a/tests/c/d.rs", "tests/e.rs"], &["a/b.rs"]);
        assert_eq!(wrong, [""; 0]);
        let wrong = told(&["a/tests.rs", "a/b.rs"], &["a/b.rs"]);
        assert_eq!(wrong.len(), 1, "{wrong:#?}");
    }

    #[test]
    fn code_is_unsafe_where_the_word_stands_in_it() {
        for source in [
            "unsafe { x() }",
            "fn a<'a>(b: &'a str) { unsafe { b } }",
            "#[unsafe(no_mangle)] fn a() {}",
            "quote! { unsafe fn #name() {} }",
            "/* a /* b */ */ unsafe impl Send for A {}",
            "// a\nunsafe impl Send for A {}",
            r#"("a\"", 'b', '\'', '"', b'\\', r"\"); unsafe {}"#,
            "r#\"\"#; unsafe {}",
        ] {
            assert!(is_in(source), "{source}");
        }
    }

    #[test]
    fn comments_strings_and_longer_words_are_not_unsafe() {
        for source in [
            "",
            "//! nothing unsafe",
            "a(); // unsafe",
            "/* a /* b */ unsafe */ c();",
            "#![forbid(unsafe_code)]",
            r#"a("unsafe", "\" unsafe", '"', "unsafe")"#,
            "a(\"b\n unsafe { }\n\")",
            "r\"\\\"; b(\"unsafe\")",
            "br##\"\"# unsafe \"##",
        ] {
            assert!(!is_in(source), "{source}");
        }
    }
}
