//! When a plugin's files have come to rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The shortest quiet time before a plugin is reloaded.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest.
const LONGEST: Duration = Duration::from_secs(2);
/// Files of a plugin that are looked at; a plugin has a handful.
const MOST_FILES: usize = 1000;

/// Waits until a plugin's files stop changing.
///
/// The quiet time is twice as long as the plugin took to load, within bounds: what loads in a
/// moment may be tried soon, and what takes a second is not loaded over and over while a build
/// writes it. Files have to look the same at the beginning and at the end of a quiet time, since
/// not every change is told of (a writer may have mapped the file).
#[derive(Debug)]
pub(super) struct Debounce {
    quiet: Duration,
    due: Instant,
    print: Option<Print>,
}

impl Debounce {
    /// For a plugin that took so long to load.
    pub(super) fn new(load: Duration, now: Instant) -> Self {
        let quiet = (load * 2).clamp(SHORTEST, LONGEST);
        Self {
            quiet,
            due: now + quiet,
            print: None,
        }
    }

    /// A file changed.
    pub(super) fn changed(&mut self, now: Instant) {
        self.due = now + self.quiet;
        self.print = None;
    }

    /// When to look at the files.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether the files, which look like this now, are at rest.
    pub(super) fn at_rest(&mut self, print: Print, now: Instant) -> bool {
        let before = self.print.replace(print);
        let same = before.is_some() && before == self.print;
        self.due = now + self.quiet;
        same
    }

    /// Looks again at a later time.
    pub(super) fn put_off(&mut self, until: Instant) {
        self.due = until;
    }
}

/// What files look like without being read: names, sizes and times.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Print(Vec<(PathBuf, u64, Option<SystemTime>)>);

impl Print {
    /// The files below these directories.
    pub(super) fn of(directories: &[PathBuf]) -> Self {
        let mut files = Vec::new();
        for directory in directories {
            add(directory, &mut files);
        }
        files.sort();
        Self(files)
    }
}

fn add(directory: &Path, files: &mut Vec<(PathBuf, u64, Option<SystemTime>)>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if files.len() >= MOST_FILES {
            return;
        }
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => add(&entry.path(), files),
            Ok(metadata) => files.push((entry.path(), metadata.len(), metadata.modified().ok())),
            Err(_) => files.push((entry.path(), 0, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_to_load_is_left_alone_for_longer_within_bounds() {
        let now = Instant::now();
        let quiet = |load| Debounce::new(load, now).due() - now;
        assert_eq!(quiet(Duration::from_millis(1)), SHORTEST);
        assert_eq!(
            quiet(Duration::from_millis(400)),
            Duration::from_millis(800)
        );
        assert_eq!(quiet(Duration::from_secs(60)), LONGEST);
    }

    #[test]
    fn files_are_at_rest_when_they_look_the_same_twice_with_no_change_between() {
        let now = Instant::now();
        let print = |size| Print(vec![("a".into(), size, None)]);
        let mut debounce = Debounce::new(Duration::ZERO, now);
        assert!(!debounce.at_rest(print(1), now));
        assert!(!debounce.at_rest(print(2), now), "it still grows");
        debounce.changed(now);
        assert!(!debounce.at_rest(print(2), now), "a change begins anew");
        assert!(debounce.at_rest(print(2), now));
    }
}
