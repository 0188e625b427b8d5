//! Version ranges as the solver wants them.
//!
//! Owns [`Choice`] and the conversion from `semver`'s requirements to sets of choices.
//!
//! **A plugin may be absent.** The solver decides on one choice for each plugin that it hears of,
//! and [`Choice::Absent`] is one of them. A dependency allows versions only, so it never allows
//! absence. A conflict and a requirement of `Vox.toml` say which versions are bad, and allow
//! absence beside all others: they restrict a plugin without asking for it.
//!
//! **Pre-releases.** A range has `semver`'s meaning to the letter: `^1.2` does not take `1.3.0-rc.1`,
//! `>=1.3.0-rc.1, <2` does, because a pre-release is taken only by a requirement that names one of
//! the same version. A set of intervals cannot say that, but it need not: the versions that exist
//! are known, so each one on which interval and requirement differ is added or taken out by name.

use std::ops::Bound;

use pubgrub::Ranges;
use semver::{Comparator, Op, Prerelease, Version, VersionReq};

/// What is decided about one plugin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Choice {
    /// It is not used. The least choice, so that a range of versions is bounded away from it.
    Absent,
    /// It is used in this version.
    Version(Version),
}

impl std::fmt::Display for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Version(version) => version.fmt(f),
        }
    }
}

/// A set of choices.
pub(super) type Choices = Ranges<Choice>;

/// Every version, not absence.
pub(super) fn any_version() -> Choices {
    Choices::strictly_higher_than(Choice::Absent)
}

/// The versions that a requirement takes; exact on the versions that are `known`.
pub(super) fn versions_of<'a>(
    requirement: &VersionReq,
    known: impl IntoIterator<Item = &'a Version>,
) -> Choices {
    let intervals = requirement
        .comparators
        .iter()
        .fold(any_version(), |all, comparator| {
            all.intersection(&interval(comparator))
        });
    known.into_iter().fold(intervals, |choices, version| {
        let choice = Choice::Version(version.clone());
        match (choices.contains(&choice), requirement.matches(version)) {
            (true, false) => choices.intersection(&Choices::singleton(choice).complement()),
            (false, true) => choices.union(&Choices::singleton(choice)),
            _ => choices,
        }
    })
}

/// The same versions, or none.
pub(super) fn or_absent(versions: &Choices) -> Choices {
    versions.union(&Choices::singleton(Choice::Absent))
}

/// Everything but these versions: what a conflict leaves.
pub(super) fn all_but(versions: &Choices) -> Choices {
    versions.complement()
}

/// The interval of one comparator (`semver`'s documentation of [`Op`] gives each).
fn interval(comparator: &Comparator) -> Choices {
    let Comparator {
        op,
        major,
        minor,
        patch,
        ..
    } = comparator;
    let (major, minor_or_0, patch_or_0) = (*major, minor.unwrap_or(0), patch.unwrap_or(0));
    let start = version(major, minor_or_0, patch_or_0, comparator.pre.clone());
    let next_major = || release(major.saturating_add(1), 0, 0);
    let next_minor = || release(major, minor_or_0.saturating_add(1), 0);
    let next_patch = || release(major, minor_or_0, patch_or_0.saturating_add(1));
    // The first version that is higher than all that begin with the numbers written.
    let after_written = || match (minor, patch) {
        (None, _) => next_major(),
        (Some(_), None) => next_minor(),
        (Some(_), Some(_)) => next_patch(),
    };
    let complete = patch.is_some();
    match op {
        Op::Exact if complete => Choices::singleton(start),
        Op::Greater if complete => Choices::strictly_higher_than(start),
        Op::Greater => Choices::higher_than(after_written()),
        Op::GreaterEq => Choices::higher_than(start),
        Op::Less => below(start, Bound::Excluded),
        Op::LessEq if complete => below(start, Bound::Included),
        Op::LessEq => below(after_written(), Bound::Excluded),
        Op::Tilde if complete => between(start, next_minor()),
        Op::Caret if major > 0 || minor.is_none() => between(start, next_major()),
        Op::Caret if minor_or_0 > 0 || !complete => between(start, next_minor()),
        Op::Caret => between(start, next_patch()),
        // `Exact`, `Tilde` and `Wildcard` with numbers left out, and what later versions of
        // `semver` may add, until it is known here: the versions that begin with those numbers.
        _ => between(start, after_written()),
    }
}

/// From `start` on, up to but without `end`; empty when that leaves nothing.
fn between(start: Choice, end: Choice) -> Choices {
    Choices::from_range_bounds((Bound::Included(start), Bound::Excluded(end)))
}

fn below(end: Choice, bound: fn(Choice) -> Bound<Choice>) -> Choices {
    Choices::from_range_bounds((Bound::Excluded(Choice::Absent), bound(end)))
}

fn release(major: u64, minor: u64, patch: u64) -> Choice {
    version(major, minor, patch, Prerelease::EMPTY)
}

fn version(major: u64, minor: u64, patch: u64, pre: Prerelease) -> Choice {
    Choice::Version(Version {
        pre,
        ..Version::new(major, minor, patch)
    })
}

/// Writes a set of versions as a person would: `>=1.2.0, <2.0.0`, `1.2.0 or 1.4.0`. Absence is
/// left out, and every version is the empty text.
pub(super) fn describe(choices: &Choices) -> String {
    let versions = choices.intersection(&any_version());
    if versions == any_version() {
        return String::new();
    }
    let intervals: Vec<String> = versions
        .iter()
        .map(|(start, end)| match (text_of(start), text_of(end)) {
            (Some((_, from)), Some((_, to))) if from == to => from,
            (Some((inclusive, from)), None) => {
                format!("{}{from}", if inclusive { ">=" } else { ">" })
            }
            (None, Some((inclusive, to))) => format!("{}{to}", if inclusive { "<=" } else { "<" }),
            (Some((from_inclusive, from)), Some((to_inclusive, to))) => format!(
                "{}{from}, {}{to}",
                if from_inclusive { ">=" } else { ">" },
                if to_inclusive { "<=" } else { "<" }
            ),
            (None, None) => String::new(),
        })
        .collect();
    if intervals.is_empty() {
        "no version".to_owned()
    } else {
        intervals.join(" or ")
    }
}

/// The version of a bound and whether the bound includes it; `None` where there is no bound.
fn text_of(bound: &Bound<Choice>) -> Option<(bool, String)> {
    match bound {
        Bound::Included(Choice::Version(version)) => Some((true, version.to_string())),
        Bound::Excluded(Choice::Version(version)) => Some((false, version.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(texts: &[&str]) -> Vec<Version> {
        texts
            .iter()
            .map(|text| Version::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn a_range_takes_exactly_the_versions_that_its_requirement_takes() {
        let known = versions(&[
            "0.0.0",
            "0.0.1",
            "0.0.2",
            "0.1.0",
            "0.1.9",
            "0.2.0",
            "1.0.0",
            "1.2.0",
            "1.2.3",
            "1.2.4",
            "1.3.0-rc.1",
            "1.3.0",
            "2.0.0-alpha",
            "2.0.0",
            "2.0.0+build.5",
            "3.1.4",
        ]);
        let requirements = [
            "*",
            "1",
            "1.2",
            "1.2.3",
            "=1",
            "=1.2",
            "=1.2.3",
            "=2.0.0",
            ">1",
            ">1.2",
            ">1.2.3",
            ">=1.2",
            "<1",
            "<1.2",
            "<1.2.3",
            "<=1",
            "<=1.2",
            "<=1.2.3",
            "~1",
            "~1.2",
            "~1.2.3",
            "^0",
            "^0.0",
            "^0.0.1",
            "^0.1",
            "^0.1.2",
            "^1.2.3",
            "1.*",
            "1.2.*",
            ">=1.3.0-rc.1, <2",
            "^2.0.0-alpha",
            ">=1.2, <1.3",
            ">2, <1",
            "=18446744073709551615",
        ];
        for text in requirements {
            let requirement = VersionReq::parse(text).unwrap();
            let choices = versions_of(&requirement, &known);
            for version in &known {
                let choice = Choice::Version(version.clone());
                assert_eq!(
                    choices.contains(&choice),
                    requirement.matches(version),
                    "{version} in {text}"
                );
            }
            assert!(!choices.contains(&Choice::Absent), "{text}");
        }
    }

    #[test]
    fn the_intervals_alone_are_right_for_releases() {
        let known = versions(&[
            "0.0.1", "0.0.2", "0.1.0", "0.2.0", "1.0.0", "1.2.3", "2.0.0",
        ]);
        for text in [
            "^0.0.1", "^0", "^0.1", "~1.2", "<=1", ">1", "=1.2", "1.2.*", "^1.2.3",
        ] {
            let requirement = VersionReq::parse(text).unwrap();
            let choices = versions_of(&requirement, []);
            for version in &known {
                let choice = Choice::Version(version.clone());
                let expected = requirement.matches(version);
                assert_eq!(choices.contains(&choice), expected, "{version} in {text}");
            }
        }
    }

    #[test]
    fn ranges_read_as_a_person_writes_them() {
        let text = |requirement: &str| {
            describe(&versions_of(&VersionReq::parse(requirement).unwrap(), []))
        };
        assert_eq!(text("^1.2"), ">=1.2.0, <2.0.0");
        assert_eq!(text("<2"), "<2.0.0");
        assert_eq!(text("=1.2.3"), "1.2.3");
        assert_eq!(text("*"), "");
        assert_eq!(text(">2, <1"), "no version");
        let conflict = all_but(&versions_of(&VersionReq::parse("^1").unwrap(), []));
        assert_eq!(describe(&conflict), "<1.0.0 or >=2.0.0");
    }
}
