//! Putting what a step makes in its place.
//!
//! Before a step runs, what is in the place of an output is put aside, so that what is there afterwards
//! is the step's; when the step makes nothing, it is put back. Results from the cache are fetched beside
//! their places, all of them, and then renamed into them.
//!
//! What must stay true: at no moment is there neither the old nor the new of an output on disk; a crash
//! leaves at most something beside it, which the next run clears away or puts back.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use vox_store::Store;

use super::artifact::{Artifact, ArtifactError};

/// What the name of something that was put aside ends with.
const ASIDE: &str = ".vox-aside";
/// What the name of something that is being fetched, or written from a stream, ends with.
const COMING: &str = ".vox-part";

/// The places of a step's outputs while it runs. What it does not replace is put back when this is
/// dropped.
#[derive(Debug, Default)]
pub(crate) struct Places {
    places: Vec<PathBuf>,
}

impl Places {
    /// Puts aside what is in these places, and makes the directories that they are in.
    ///
    /// # Errors
    ///
    /// Something cannot be moved or made; nothing is lost.
    pub fn clear(places: impl IntoIterator<Item = PathBuf>) -> Result<Self, ArtifactError> {
        let mut cleared = Self::default();
        for place in places {
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent).map_err(failed("create", parent))?;
            }
            let aside = beside(&place, ASIDE);
            if exists(&place) {
                // What an earlier run put aside and has since been replaced.
                remove(&aside).map_err(failed("remove", &aside))?;
                fs::rename(&place, &aside).map_err(failed("move", &place))?;
            }
            remove(&beside(&place, COMING)).map_err(failed("remove", &place))?;
            cleared.places.push(place);
        }
        Ok(cleared)
    }

    /// The step is done: what was put aside is no longer needed where something has come in its
    /// place.
    pub fn settle(&mut self) {
        for place in std::mem::take(&mut self.places) {
            let aside = beside(&place, ASIDE);
            let settled = if exists(&place) {
                remove(&aside)
            } else if exists(&aside) {
                fs::rename(&aside, &place)
            } else {
                Ok(())
            };
            // A file that never became whole.
            let settled = settled.and(remove(&beside(&place, COMING)));
            if let Err(error) = settled {
                tracing::warn!(place = %aside.display(), %error, "what was put aside stays there");
            }
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.settle();
    }
}

/// Where the file is written whose chunks come from a stream, until it is whole.
pub(crate) fn coming(place: &Path) -> PathBuf {
    beside(place, COMING)
}

/// Puts artefacts of the store in their places: fetches all of them first, then swaps each in. What is
/// in a place already is left alone.
///
/// # Errors
///
/// One of them cannot be fetched or put there. Unless that was the last step, nothing has changed.
pub(crate) fn restore(
    artifacts: &[(PathBuf, &Artifact)],
    store: &Store,
) -> Result<(), ArtifactError> {
    let mut fetched: Vec<(&Path, PathBuf)> = Vec::with_capacity(artifacts.len());
    for (place, artifact) in artifacts {
        if exists(place) && Artifact::of(place).is_ok_and(|found| found == **artifact) {
            continue;
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(failed("create", parent))?;
        }
        let coming = beside(place, COMING);
        remove(&coming).map_err(failed("remove", &coming))?;
        if let Err(error) = artifact.fetch(&coming, store) {
            for (_, coming) in &fetched {
                let _ = remove(coming);
            }
            let _ = remove(&coming);
            return Err(error);
        }
        fetched.push((place.as_path(), coming));
    }
    for (place, coming) in fetched {
        swap(&coming, place).map_err(failed("replace", place))?;
    }
    Ok(())
}

/// Puts `coming` in the place of what is at `place`.
pub(crate) fn swap(coming: &Path, place: &Path) -> io::Result<()> {
    let both_files = fs::symlink_metadata(place).is_ok_and(|meta| !meta.is_dir())
        && fs::symlink_metadata(coming).is_ok_and(|meta| !meta.is_dir());
    if !exists(place) || both_files {
        return fs::rename(coming, place);
    }
    // A directory cannot be renamed over another one.
    let aside = beside(place, ASIDE);
    remove(&aside)?;
    fs::rename(place, &aside)?;
    match fs::rename(coming, place) {
        Ok(()) => remove(&aside),
        Err(error) => {
            fs::rename(&aside, place)?;
            Err(error)
        }
    }
}

fn beside(place: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(ending);
    place.with_file_name(name)
}

/// Whether anything is there, a link that leads nowhere included.
fn exists(place: &Path) -> bool {
    fs::symlink_metadata(place).is_ok()
}

/// Removes whatever is there, if anything is.
fn remove(place: &Path) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(place),
        Ok(_) => fs::remove_file(place),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vox_store::Options;

    #[test]
    fn what_a_step_does_not_replace_is_put_back() {
        let world = tempfile::tempdir().unwrap();
        let place = world.path().join("out/report.txt");
        fs::create_dir(world.path().join("out")).unwrap();
        fs::write(&place, "old").unwrap();
        let places = Places::clear([place.clone()]).unwrap();
        assert!(!place.exists());
        drop(places);
        assert_eq!(fs::read_to_string(&place).unwrap(), "old");
        let mut places = Places::clear([place.clone()]).unwrap();
        fs::write(&place, "new").unwrap();
        places.settle();
        assert_eq!(fs::read_to_string(&place).unwrap(), "new");
        assert_eq!(fs::read_dir(world.path().join("out")).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_comes_back_out_of_the_store_as_it_went_in() {
        let world = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(world.path().join("store"), Options::default()).unwrap();
        let made = world.path().join("made");
        fs::create_dir_all(made.join("sub/empty")).unwrap();
        fs::write(made.join("sub/a b\"\n"), "text").unwrap();
        fs::write(made.join("tool"), "#!/bin/sh\n").unwrap();
        make_executable_at(&made.join("tool"));
        let stored = Artifact::store(&made, &store).unwrap();
        assert_eq!(stored, Artifact::of(&made).unwrap());
        assert_eq!(stored.bytes, 14);
        let place = world.path().join("place");
        restore(&[(place.clone(), &stored)], &store).unwrap();
        assert_eq!(Artifact::of(&place).unwrap(), stored);
        // Once more over something else.
        fs::write(place.join("sub/more"), "more").unwrap();
        restore(&[(place.clone(), &stored)], &store).unwrap();
        assert_eq!(Artifact::of(&place).unwrap(), stored);
    }

    #[test]
    fn a_result_of_which_a_part_is_missing_changes_nothing() {
        let world = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(world.path().join("store"), Options::default()).unwrap();
        let (one, two) = (world.path().join("one"), world.path().join("two"));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        let here = Artifact::store(&one, &store).unwrap();
        let missing = Artifact::of(&two).unwrap();
        fs::write(&one, "changed").unwrap();
        fs::write(&two, "changed").unwrap();
        restore(&[(one.clone(), &here), (two, &missing)], &store).unwrap_err();
        assert_eq!(fs::read_to_string(&one).unwrap(), "changed");
        assert_eq!(fs::read_dir(world.path()).unwrap().count(), 3);
    }

    fn make_executable_at(path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}
