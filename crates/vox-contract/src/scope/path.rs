//! Paths in scopes.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::ScopeError;

/// What a path in a scope starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The root of the file system.
    Root,
    /// The project's directory.
    Project,
    /// The user's home, written `~`.
    Home,
}

/// A path that can be granted: that file, or that directory with everything below it.
#[derive(Debug, Clone)]
pub struct PathScope {
    written: String,
    anchor: Anchor,
    /// Below the anchor; absolute for [`Anchor::Root`]. Without `.` and `..`.
    path: PathBuf,
}

impl PathScope {
    /// What it starts from.
    pub fn anchor(&self) -> Anchor {
        self.anchor
    }

    /// Whether everything that `other` means is meant by this too. Compares what is written: links
    /// on the disk are for the host to resolve.
    pub fn covers(&self, other: &Self) -> bool {
        self.anchor == other.anchor && other.path.starts_with(&self.path)
    }

    /// The anchor's own directory and the path below it; none when there is no such directory.
    /// The path is absolute for [`Anchor::Root`], whose directory is `/`.
    pub fn resolve<'a>(
        &'a self,
        project: Option<&'a Path>,
        home: Option<&'a Path>,
    ) -> Option<(&'a Path, &'a Path)> {
        let base = match self.anchor {
            Anchor::Root => Some(Path::new("/")),
            Anchor::Project => project,
            Anchor::Home => home,
        };
        base.map(|base| (base, self.path.as_path()))
    }
}

impl PartialEq for PathScope {
    fn eq(&self, other: &Self) -> bool {
        (self.anchor, &self.path) == (other.anchor, &other.path)
    }
}

impl Eq for PathScope {}

impl fmt::Display for PathScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.written)
    }
}

impl FromStr for PathScope {
    type Err = ScopeError;

    fn from_str(entry: &str) -> Result<Self, ScopeError> {
        let refuse = |fault, hint: &str| ScopeError::Path {
            entry: entry.escape_debug().to_string(),
            fault,
            hint: hint.to_owned(),
        };
        if entry.trim().is_empty() {
            return Err(refuse("is empty", "write `.` for the whole project"));
        }
        if entry.chars().any(char::is_control) {
            return Err(refuse("has a control character", "remove it"));
        }
        if entry.contains("://") {
            return Err(refuse("is a URL", "write the path alone"));
        }
        if entry.contains('*') {
            let hint = "write the directory: it means everything below it";
            return Err(refuse("has a `*`", hint));
        }
        let (anchor, rest) = match entry.strip_prefix('~') {
            Some("") => (Anchor::Home, ""),
            Some(rest) if rest.starts_with('/') => (Anchor::Home, rest.trim_start_matches('/')),
            Some(_) => {
                let hint = "write the path in full; `~` alone is your home";
                return Err(refuse("names another user's home", hint));
            }
            None if entry.starts_with('/') || Path::new(entry).is_absolute() => {
                (Anchor::Root, entry)
            }
            None => (Anchor::Project, entry),
        };
        let mut path = PathBuf::new();
        for component in Path::new(rest).components() {
            match component {
                Component::CurDir => {}
                Component::ParentDir => {
                    return Err(refuse(
                        "has `..`",
                        "write the path that it leads to: what `..` means depends on links",
                    ));
                }
                other => path.push(other),
            }
        }
        Ok(Self {
            written: entry.to_owned(),
            anchor,
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> PathScope {
        text.parse().unwrap()
    }

    #[test]
    fn a_directory_covers_everything_below_it_and_nothing_beside_it() {
        let pairs = [
            ("/data", "/data/a/b", true),
            ("/data", "/data", true),
            ("/data/", "/data/./a", true),
            ("/data", "/database", false),
            ("/data/a", "/data", false),
            ("/data", "/Data/a", false),
            (".", "rules/x", true),
            ("rules", "rules-of-others", false),
            ("rules", "/rules", false),
            ("~", "~/x", true),
            ("~/x", "~", false),
            ("/", "/etc", true),
            ("/", "etc", false),
        ];
        for (granted, wanted, covered) in pairs {
            assert_eq!(
                scope(granted).covers(&scope(wanted)),
                covered,
                "{granted} {wanted}"
            );
        }
    }

    #[test]
    fn a_path_that_may_lead_elsewhere_is_refused_with_what_to_write() {
        for text in [
            "",
            " ",
            "..",
            "a/../b",
            "/a/..",
            "~root",
            "~root/x",
            "a\0b",
            "data/*",
            "file:///etc",
        ] {
            let error = text.parse::<PathScope>().unwrap_err();
            assert!(!error.hint().is_empty(), "{error}");
        }
        let error = "a/../b".parse::<PathScope>().unwrap_err();
        assert_eq!(error.to_string(), "the path `a/../b` has `..`");
    }

    #[test]
    fn an_entry_prints_as_it_was_written() {
        for text in ["./rules/", "~/x", "/a//b"] {
            assert_eq!(scope(text).to_string(), text);
        }
    }
}
