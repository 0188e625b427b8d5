//! Where the file of a program is found, and what is said when there is none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use vox_plugin::{Error, Result};

/// The file of a program: relative to `directory` when its name has a slash, otherwise from `path`.
///
/// # Errors
///
/// [`Error::NotFound`] when there is none, [`Error::Invalid`] when it may not be executed.
pub fn find(name: &str, path: &str, directory: &Path) -> Result<PathBuf> {
    let places = || path.split(':').map(|place| directory.join(place));
    if name.contains('/') {
        let program = directory.join(name);
        return match fs::metadata(&program) {
            Ok(_) if is_program(&program) => Ok(program),
            Ok(_) => Err(Error::Invalid(format!(
                "{} is no program; allow it to be executed with `chmod +x`, or name the program \
                 that reads it",
                program.display()
            ))),
            Err(error) => Err(Error::NotFound(format!(
                "there is no program {}: {error}",
                program.display()
            ))),
        };
    }
    if let Some(program) = places()
        .map(|place| place.join(name))
        .find(|file| is_program(file))
    {
        return Ok(program);
    }
    Err(Error::NotFound(match nearest(name, places()) {
        Some(near) => format!("there is no program `{name}`; did you mean `{near}`?"),
        None => format!(
            "there is no program `{name}` in {path}; install it, or set PATH in the step's `env`"
        ),
    }))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The program whose name is most like `name`, if one is like it at all.
fn nearest(name: &str, places: impl Iterator<Item = PathBuf>) -> Option<String> {
    let allowed = name.chars().count().div_ceil(3);
    places
        .filter_map(|place| fs::read_dir(place).ok())
        .flat_map(|entries| entries.flatten())
        .filter_map(|entry| {
            let known = entry.file_name().to_str()?.to_owned();
            let distance = strsim::damerau_levenshtein(name, &known);
            (distance <= allowed && is_program(&entry.path())).then_some((distance, known))
        })
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_answered_with_the_nearest() {
        let directory = tempfile::tempdir().unwrap();
        for (name, mode) in [("frobnicate", 0o755), ("frobnicated", 0o644)] {
            let file = directory.path().join(name);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = directory.path().to_str().unwrap();
        let Err(Error::NotFound(told)) = find("frobnicte", path, Path::new("/")) else {
            panic!("it was found")
        };
        assert_eq!(
            told,
            "there is no program `frobnicte`; did you mean `frobnicate`?"
        );
        let Err(Error::NotFound(told)) = find("something-else", path, Path::new("/")) else {
            panic!("it was found")
        };
        assert!(told.contains("set PATH in the step's `env`"), "{told}");
    }
}
