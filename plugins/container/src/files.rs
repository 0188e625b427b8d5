//! The files that a container reads and makes.
//!
//! Each input is mounted read-only at `/vox/in/<name>`. For the outputs a container gets one fresh
//! directory, `/vox/out`; when it has succeeded, and is gone, each declared output is moved from
//! there to its place.
//!
//! What must stay true:
//!
//! - A container writes to no other directory of the host than this one, which nobody else can
//!   enter meanwhile.
//! - An output is at its place whole or not at all: it is moved there by one rename, and a file of
//!   an earlier try goes by the same.
//! - Nothing that is moved leads or reaches further than it seems: no link out of the output, no
//!   device or socket, no file that would run as somebody else.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, FileType};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use bollard::models::{Mount, MountType};
use vox_plugin::step::Artifact;
use vox_plugin::{Error, Result, serde_json};

use crate::owner;

/// Where inputs are, inside.
const IN: &str = "/vox/in";
/// Where outputs are made, inside.
const OUT: &str = "/vox/out";
/// What says in the directory around that one whose it is.
const OWNER: &str = "owner.json";

/// The files of a step.
pub struct Files {
    inputs: Vec<Artifact>,
    outputs: Vec<Artifact>,
    /// The directory that holds the one which is mounted; none where nothing is made.
    staging: Option<Staging>,
}

/// A directory of this user alone, with one in it that anybody may write to: whoever the program
/// is inside, and nobody outside.
struct Staging {
    private: PathBuf,
    shared: PathBuf,
}

impl Files {
    /// Checks the inputs, and makes the directory for the outputs beside the first of them, so that
    /// they can be moved by a rename. `unique` goes into its name, and `labels` say whose it is, as they do of the
    /// container. Such directories whose owner is gone are removed there.
    ///
    /// # Errors
    ///
    /// An input is not there, a name can be no file's, or the directory cannot be made.
    pub fn new(
        inputs: Vec<Artifact>,
        outputs: Vec<Artifact>,
        unique: &str,
        labels: &HashMap<String, String>,
    ) -> Result<Self> {
        for artifact in inputs.iter().chain(&outputs) {
            check_name(&artifact.name)?;
        }
        for input in &inputs {
            fs::metadata(&input.path).map_err(|error| {
                Error::NotFound(format!(
                    "the input `{}` ({}) cannot be handed to the container: {error}",
                    input.name, input.path
                ))
            })?;
        }
        let staging = match outputs.first() {
            Some(first) => Some(Staging::new(Path::new(&first.path), unique, labels)?),
            None => None,
        };
        Ok(Self {
            inputs,
            outputs,
            staging,
        })
    }

    /// Whether the step makes files.
    pub fn are_made(&self) -> bool {
        self.staging.is_some()
    }

    /// What is mounted into the container.
    pub fn mounts(&self) -> Vec<Mount> {
        let mount = |source: String, target: String, read_only| Mount {
            target: Some(target),
            source: Some(source),
            typ: Some(MountType::BIND),
            read_only: Some(read_only),
            ..Mount::default()
        };
        let inputs = self
            .inputs
            .iter()
            .map(|input| mount(input.path.clone(), format!("{IN}/{}", input.name), true));
        let outputs = self.staging.iter().map(|staging| {
            let shared = staging.shared.to_string_lossy().into_owned();
            mount(shared, OUT.to_owned(), false)
        });
        inputs.chain(outputs).collect()
    }

    /// Variables that tell the program where its files are.
    pub fn variables(&self) -> Vec<(String, String)> {
        let variable = |kind: &str, directory: &str, artifact: &Artifact| {
            let name = artifact
                .name
                .to_uppercase()
                .replace(|c: char| !c.is_ascii_alphanumeric(), "_");
            (
                format!("VOX_{kind}_{name}"),
                format!("{directory}/{}", artifact.name),
            )
        };
        let inputs = self.inputs.iter().map(|one| variable("INPUT", IN, one));
        let outputs = self.outputs.iter().map(|one| variable("OUTPUT", OUT, one));
        inputs.chain(outputs).collect()
    }

    /// Moves the outputs to their places. The container must be gone.
    ///
    /// # Errors
    ///
    /// An output was not made, is nothing that may be handed on, or cannot be moved.
    pub fn deliver(&self) -> Result<()> {
        let Some(staging) = &self.staging else {
            return Ok(());
        };
        // All are looked at before the first is moved.
        for output in &self.outputs {
            check_made(&staging.shared.join(&output.name), &output.name)?;
        }
        for output in &self.outputs {
            let made = staging.shared.join(&output.name);
            deliver(&made, Path::new(&output.path), &staging.private).map_err(|error| {
                Error::Failed(format!(
                    "the output `{}` cannot be moved to {}: {error}",
                    output.name, output.path
                ))
            })?;
        }
        Ok(())
    }
}

impl Staging {
    fn new(first: &Path, unique: &str, labels: &HashMap<String, String>) -> Result<Self> {
        let parent = first.parent().unwrap_or(Path::new("/"));
        let private = parent.join(format!(".{unique}"));
        let shared = private.join("out");
        remove_left_over(parent, labels);
        let make = || {
            fs::create_dir_all(parent)?;
            DirBuilder::new().mode(0o700).create(&private)?;
            fs::write(private.join(OWNER), serde_json::to_vec(labels)?)?;
            fs::create_dir(&shared)?;
            // After its making, so that the process's mask takes nothing away.
            fs::set_permissions(&shared, fs::Permissions::from_mode(0o777))
        };
        make().map_err(|error| {
            Error::Failed(format!(
                "no directory for the outputs can be made in {}: {error}",
                parent.display()
            ))
        })?;
        Ok(Self { private, shared })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What a container made that runs as somebody else may be more than this process can remove.
        let _ = fs::remove_dir_all(&self.private);
    }
}

/// Removes the directories that earlier tries of the step of these labels, and hosts that are gone, have left in
/// one for outputs. Their containers are gone already.
fn remove_left_over(parent: &Path, labels: &HashMap<String, String>) {
    let key = labels.get(owner::KEY).map_or("", String::as_str);
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_named_so = entry.file_name().to_string_lossy().starts_with(".vox-");
        let is_ours = |meta: fs::Metadata| meta.is_dir() && meta.uid() == user;
        if !is_named_so || !entry.metadata().is_ok_and(is_ours) {
            continue;
        }
        let private = entry.path();
        let text = fs::read(private.join(OWNER)).unwrap_or_default();
        let labels: HashMap<String, String> = serde_json::from_slice(&text).unwrap_or_default();
        if owner::is_left_over(&labels, key) {
            let _ = fs::remove_dir_all(private);
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_file_name = !name.is_empty() && name != "." && name != ".." && name.len() <= 255;
    if is_file_name && !name.contains(['/', '\0']) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "`{name}` can be no file's name inside a container"
    )))
}

/// Sees to it that an output is there and may be handed on.
fn check_made(made: &Path, name: &str) -> Result<()> {
    match fs::symlink_metadata(made) {
        Ok(meta) if meta.file_type().is_symlink() => Err(refused(name, Path::new(""), "a link")),
        Ok(_) => check_tree(made, made, name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Failed(format!(
            "the container succeeded without making the output `{name}`; it is to write it to \
             {OUT}/{name}"
        ))),
        Err(error) => Err(Error::Failed(format!(
            "the output `{name}` cannot be looked at: {error}"
        ))),
    }
}

fn check_tree(root: &Path, path: &Path, name: &str) -> Result<()> {
    let inside = path.strip_prefix(root).unwrap_or(path);
    let failed = |error: io::Error| {
        Error::Failed(format!(
            "the output `{name}` cannot be looked at: {}: {error}",
            path.display()
        ))
    };
    let meta = fs::symlink_metadata(path).map_err(failed)?;
    let kind = meta.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(failed)?;
        if !stays_inside(inside, &target) {
            return Err(refused(name, inside, "a link that leads out of it"));
        }
    } else if kind.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            check_tree(root, &entry.map_err(failed)?.path(), name)?;
        }
    } else if !kind.is_file() {
        return Err(refused(name, inside, special(kind)));
    } else if meta.permissions().mode() & 0o6000 != 0 {
        let what = "a program that would run as another user (set-user-ID)";
        return Err(refused(name, inside, what));
    }
    Ok(())
}

fn special(kind: FileType) -> &'static str {
    if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn refused(name: &str, inside: &Path, what: &str) -> Error {
    let which = match inside.as_os_str().is_empty() {
        true => "it is".to_owned(),
        false => format!("its `{}` is", inside.display()),
    };
    Error::Failed(format!(
        "the output `{name}` is not handed on: {which} {what}"
    ))
}

/// Whether a link at `inside`, a path in a tree, leads to something in the tree, whatever links
/// there are on the way: no step of it may go up further than it has come down by names.
fn stays_inside(inside: &Path, target: &Path) -> bool {
    let mut depth = inside.components().count() as isize - 1;
    let mut has_named = false;
    for component in target.components() {
        match component {
            Component::Normal(_) => {
                depth += 1;
                has_named = true;
            }
            // Up after a name could be up from wherever a link of that name leads.
            Component::ParentDir if !has_named => depth -= 1,
            Component::CurDir => {}
            _ => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

/// Moves a file or directory to its place by a rename, in place of what is there.
fn deliver(made: &Path, place: &Path, private: &Path) -> io::Result<()> {
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    // A directory cannot be renamed over one that holds something, so that one goes first.
    if fs::symlink_metadata(place).is_ok_and(|meta| meta.is_dir() || made.is_dir()) {
        let aside = private.join(format!(
            "replaced-{}",
            place.file_name().unwrap_or_default().to_string_lossy()
        ));
        fs::rename(place, &aside).or_else(|_| remove(place))?;
    }
    match fs::rename(made, place) {
        // Another file system, or a directory of another user's, which only they may move.
        Err(error)
            if error.kind() == io::ErrorKind::CrossesDevices
                || error.kind() == io::ErrorKind::PermissionDenied =>
        {
            let name = place.file_name().unwrap_or_default().to_string_lossy();
            let unique = private.file_name().unwrap_or_default().to_string_lossy();
            let near = place.with_file_name(format!("{unique}-{name}"));
            let copied = copy(made, &near).and_then(|()| fs::rename(&near, place));
            if copied.is_err() {
                let _ = remove(&near);
            }
            copied
        }
        renamed => renamed,
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if !kind.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What says that a step has this key, and nothing of its host.
    fn labels(key: &str) -> HashMap<String, String> {
        HashMap::from([(owner::KEY.to_owned(), key.to_owned())])
    }

    /// Files of a step whose one output is `name` in `directory`.
    fn files(directory: &Path, name: &str) -> Files {
        let output = Artifact {
            name: name.to_owned(),
            path: directory.join(name).to_string_lossy().into_owned(),
        };
        Files::new(Vec::new(), vec![output], "vox-test", &labels("key")).unwrap()
    }

    fn made(files: &Files) -> &Path {
        &files.staging.as_ref().unwrap().shared
    }

    fn refusal(make: impl FnOnce(&Path)) -> String {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path(), "result");
        make(&made(&files).join("result"));
        let told = files.deliver().unwrap_err().to_string();
        assert!(!directory.path().join("result").exists(), "{told}");
        told
    }

    #[test]
    fn an_output_is_moved_and_its_directory_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path(), "result");
        fs::write(made(&files).join("result"), "new").unwrap();
        fs::write(made(&files).join("scratch"), "").unwrap();
        fs::write(directory.path().join("result"), "old").unwrap();
        files.deliver().unwrap();
        drop(files);
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(fs::read(directory.path().join("result")).unwrap(), b"new");
    }

    #[test]
    fn a_directory_takes_the_place_of_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path(), "result");
        fs::create_dir(made(&files).join("result")).unwrap();
        fs::write(made(&files).join("result/new"), "").unwrap();
        symlink("new", made(&files).join("result/latest")).unwrap();
        fs::create_dir(directory.path().join("result")).unwrap();
        fs::write(directory.path().join("result/old"), "").unwrap();
        files.deliver().unwrap();
        assert!(directory.path().join("result/latest").exists());
        assert!(!directory.path().join("result/old").exists());
    }

    #[test]
    fn a_directory_that_an_earlier_try_has_left_is_removed_before_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let left = |name: &str, key: &str| {
            let private = directory.path().join(name);
            fs::create_dir_all(private.join("out")).unwrap();
            fs::write(private.join("out/half"), "").unwrap();
            fs::write(
                private.join(OWNER),
                serde_json::to_vec(&labels(key)).unwrap(),
            )
            .unwrap();
            private
        };
        let earlier = left(".vox-step-1", "key");
        let (another, foreign) = (left(".vox-step-2", "another"), left("vox-step", "key"));
        let _files = files(directory.path(), "result");
        assert!(!earlier.exists());
        assert!(another.exists() && foreign.exists());
    }

    #[test]
    fn an_output_that_was_not_made_is_told_with_its_place() {
        let told = refusal(|_| {});
        assert!(told.contains("/vox/out/result"), "{told}");
    }

    #[test]
    fn links_that_lead_out_are_refused() {
        let told = refusal(|path| symlink("/etc/passwd", path).unwrap());
        assert!(told.contains("it is a link"), "{told}");
        for target in ["/etc/passwd", "../x", "a/../../x", "sub/../.."] {
            let told = refusal(|path| {
                fs::create_dir(path).unwrap();
                symlink(target, path.join("way")).unwrap();
            });
            assert!(told.contains("its `way` is a link"), "{told}");
        }
    }

    #[test]
    fn what_is_more_than_a_file_is_refused() {
        let told = refusal(|path| drop(UnixListener::bind(path).unwrap()));
        assert!(told.contains("a socket"), "{told}");
        let told = refusal(|path| {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap();
        });
        assert!(told.contains("set-user-ID"), "{told}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "..", "a/b"] {
            let output = Artifact {
                name: name.to_owned(),
                path: "/nowhere".to_owned(),
            };
            assert!(Files::new(Vec::new(), vec![output], "vox-test", &labels("key")).is_err());
        }
    }

    #[test]
    fn only_its_owner_can_enter_what_a_container_may_write_to() {
        let directory = tempfile::tempdir().unwrap();
        let files = files(directory.path(), "result");
        let private = &files.staging.as_ref().unwrap().private;
        let mode = fs::metadata(private).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
