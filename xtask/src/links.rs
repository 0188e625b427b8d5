//! Links within Markdown: every file and heading that a page points to is there, and every part of a file that it
//! includes.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::workspace::read;

/// A page, as far as links are concerned.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Where links lead to, with their lines.
    pub links: Vec<(usize, String)>,
    /// The names of its headings, as a link writes them behind `#`.
    pub headings: Vec<String>,
    /// What it includes, `file` or `file:anchor`, with the lines; in code too.
    pub includes: Vec<(usize, String)>,
}

impl Page {
    /// Reads a page. What stands in code is neither link nor heading.
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let mut in_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            page.includes
                .extend(included(line).map(|included| (number, included.to_owned())));
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            } else if !in_code {
                let targets = targets(&without_code(line)).into_iter();
                page.links.extend(targets.map(|target| (number, target)));
                page.headings
                    .extend(heading(line).map(|heading| page.unused_name(&heading)));
            }
        }
        page
    }

    /// The name of a heading; the second of one text ends in `-1`, and so on.
    fn unused_name(&self, heading: &str) -> String {
        let name = heading_name(heading);
        let mut candidates =
            std::iter::once(name.clone()).chain((1..).map(|count| format!("{name}-{count}")));
        candidates
            .find(|candidate| !self.headings.contains(candidate))
            .unwrap_or(name)
    }
}

/// The links of these pages that lead nowhere, each as `file:line: what is missing`. Links out of
/// the checkout are not followed. `root` is taken from the front of every name.
pub fn broken(pages: &[PathBuf], root: &Path) -> anyhow::Result<Vec<String>> {
    let mut read_pages: BTreeMap<PathBuf, Page> = BTreeMap::new();
    for path in pages {
        read_pages.insert(path.clone(), Page::parse(&read(path)?));
    }
    let mut broken = Vec::new();
    for (path, page) in &read_pages {
        for (line, link) in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                beside(path, file)
            };
            let missing = if !target.exists() {
                Some(format!("there is no {file}"))
            } else if heading.is_empty() {
                None
            } else {
                let known = match read_pages.get(&target) {
                    Some(page) => page.headings.iter().any(|known| known == heading),
                    None => Page::parse(&read(&target)?)
                        .headings
                        .iter()
                        .any(|known| known == heading),
                };
                (!known).then(|| format!("{link} names no heading"))
            };
            let name = path.strip_prefix(root).unwrap_or(path).display();
            broken.extend(missing.map(|missing| format!("{name}:{line}: {missing}")));
        }
        for (line, included) in &page.includes {
            let (file, anchor) = included.split_once(':').unwrap_or((included, ""));
            let target = beside(path, file);
            let begin = format!("ANCHOR: {anchor}");
            let missing = if !target.exists() {
                format!("there is no {file}")
            } else if anchor.is_empty() || read(&target)?.lines().any(|line| line.ends_with(&begin))
            {
                continue;
            } else {
                format!("{file} has no anchor {anchor}")
            };
            let name = path.strip_prefix(root).unwrap_or(path).display();
            broken.push(format!("{name}:{line}: {missing}"));
        }
    }
    Ok(broken)
}

/// The file that a link in `page` means, without `.` and `..` in its path.
fn beside(page: &Path, link: &str) -> PathBuf {
    let mut path = page.parent().unwrap_or(Path::new("")).to_owned();
    for component in Path::new(link).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

/// The targets of the links `[text](target)` in a line.
fn targets(line: &str) -> Vec<String> {
    let starts = line.match_indices("](").map(|(at, found)| at + found.len());
    starts
        .filter_map(|start| line[start..].split_once(')'))
        .filter_map(|(target, _)| target.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

/// What mdBook puts in the place of a line, if it includes something.
fn included(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("{{#include ")?;
    let (included, _) = rest.split_once("}}")?;
    Some(included.trim())
}

/// The text of a heading, if the line is one.
fn heading(line: &str) -> Option<String> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    ((1..=6).contains(&level) && text.starts_with(' ')).then(|| text.trim().to_owned())
}

/// A heading's name as mdBook and GitHub make it: lower case, spaces as hyphens, and of the other
/// characters only letters, digits, `-` and `_`.
fn heading_name(heading: &str) -> String {
    heading
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_headings_are_read_outside_of_code_alone() {
        let page = Page::parse(
            "# `vox run`: plans\n[a](b.md#c) and [d](<e f>)\n```\n# no\n[no](no)\n```\n`[no](no)` [x](y)\n## A\n## A\n",
        );
        assert_eq!(page.headings, ["vox-run-plans", "a", "a-1"]);
        let links: Vec<_> = page
            .links
            .iter()
            .map(|(line, link)| (*line, link.as_str()))
            .collect();
        assert_eq!(links, [(2, "b.md#c"), (2, "<e"), (7, "y")]);
    }

    #[test]
    fn a_link_to_a_file_or_heading_that_is_not_there_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let page = dir.path().join("sub/page.md");
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("other.md"), "# There\n").unwrap();
        let text = "[1](../other.md#there) [2](https://a.example/x)\n[3](../other.md#gone)\n[4](gone.md) [5](#here)\n# Here\n";
        std::fs::write(&page, text).unwrap();
        let broken = broken(&[page], dir.path()).unwrap();
        assert_eq!(
            broken,
            [
                "sub/page.md:2: ../other.md#gone names no heading",
                "sub/page.md:3: there is no gone.md"
            ]
        );
    }

    #[test]
    fn what_is_included_and_is_not_there_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let code = "// ANCHOR: there\nfn a() {}\n// ANCHOR_END: there\n";
        std::fs::write(dir.path().join("a.rs"), code).unwrap();
        let page = dir.path().join("page.md");
        let text = "```rust\n{{#include a.rs:there}}\n{{#include a.rs:here}}\n```\n{{#include a.rs}}\n{{#include b.rs}}\n";
        std::fs::write(&page, text).unwrap();
        let broken = broken(&[page], dir.path()).unwrap();
        assert_eq!(
            broken,
            [
                "page.md:3: a.rs has no anchor here",
                "page.md:6: there is no b.rs"
            ]
        );
    }
}
