//! The directories that a guest finds opened, from what `file_read` and `file_write` grant.
//!
//! A granted directory is opened once, when the store first uses WASI, and everything below it is
//! reached from that handle. Below the project, the home or the root, the way to it may hold no
//! link: a plugin that may write to a directory could otherwise put a link in the place of one that
//! is granted below it, and would have the link's target the next time. `vox plugin grant` is the
//! place to resolve links, once, before the user's eyes.
//!
//! What must stay true: a directory has the rights of every grant that covers it, and none more;
//! `/proc` is never opened, as it leads into this process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vox_contract::{Anchor, Capability, Grants, PathScope, PluginId, Scope};

/// One opened directory.
pub(super) struct Directory {
    pub(super) handle: Arc<File>,
    /// Where it is, without links.
    pub(super) path: PathBuf,
    /// The names under which the guest finds it.
    pub(super) names: Vec<String>,
    pub(super) read: bool,
    pub(super) write: bool,
}

/// Opens what is granted; what cannot be opened is said in the log and left out.
pub(super) fn open(
    grants: &Grants,
    project: Option<&Path>,
    home: Option<&Path>,
    plugin: &PluginId,
) -> Vec<Directory> {
    let mut opened = BTreeMap::<PathBuf, Directory>::new();
    for capability in [Capability::FileRead, Capability::FileWrite] {
        for entry in entries(grants.scope(capability)) {
            let Some((base, below)) = entry.resolve(project, home) else {
                tracing::warn!(%plugin, %capability, %entry, "a granted path counts from a directory that there is not: there is no project, or no home");
                continue;
            };
            let found = base
                .canonicalize()
                .and_then(|base| open_below(&base, below).map(|file| (base.join(below), file)));
            let (path, handle) = match found {
                Ok(found) => found,
                Err(error) => {
                    let reason = reason(&error, &base.join(below));
                    tracing::warn!(%plugin, %capability, %entry, "a granted path is left out: {reason}");
                    continue;
                }
            };
            let directory = opened.entry(path.clone()).or_insert_with(|| Directory {
                names: vec![path.to_string_lossy().into_owned()],
                handle: Arc::new(handle),
                path,
                read: false,
                write: false,
            });
            if entry.anchor() == Anchor::Project {
                let name = match below.to_str() {
                    Some("") | None => ".",
                    Some(name) => name,
                };
                if !directory.names.iter().any(|known| known == name) {
                    directory.names.push(name.to_owned());
                }
            }
            match capability {
                Capability::FileRead => directory.read = true,
                _ => directory.write = true,
            }
        }
    }
    inherit(opened.into_values().collect())
}

/// The paths of a scope; all of it is the root.
fn entries(scope: Option<&Scope>) -> Vec<PathScope> {
    match scope {
        None | Some(Scope::AtMost(_)) => Vec::new(),
        Some(Scope::All) => "/".parse().into_iter().collect(),
        // Every file of grants was checked when it was read.
        Some(Scope::Only(entries)) => entries
            .iter()
            .filter_map(|entry| entry.parse().ok())
            .collect(),
    }
}

/// Gives each directory the rights of those that it lies in.
fn inherit(mut directories: Vec<Directory>) -> Vec<Directory> {
    let granted = directories
        .iter()
        .map(|directory| (directory.path.clone(), directory.read, directory.write))
        .collect::<Vec<_>>();
    for directory in &mut directories {
        for (path, read, write) in &granted {
            if directory.path.starts_with(path) {
                directory.read |= read;
                directory.write |= write;
            }
        }
    }
    directories
}

/// Whether a directory that may only be written holds one that may be read.
pub(super) fn nested(directories: &[Directory]) -> bool {
    directories.iter().filter(|outer| !outer.read).any(|outer| {
        directories
            .iter()
            .any(|inner| inner.read && inner.path.starts_with(&outer.path))
    })
}

/// Says why a directory was not opened, and what to do.
fn reason(error: &io::Error, path: &Path) -> String {
    let is_file = path.metadata().is_ok_and(|found| !found.is_dir());
    match path.canonicalize() {
        Ok(_) if is_file => format!(
            "`{}` is no directory; components are given directories, so grant the one that it is in",
            path.display()
        ),
        Ok(real) if real != path => format!(
            "there is a link on the way to it; grant what it leads to: `{}`",
            real.display()
        ),
        _ => error.to_string(),
    }
}

/// Opens the directory `below` another, following no link.
#[cfg(unix)]
fn open_below(base: &Path, below: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, openat};

    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // On the way nothing is read, and a directory on the way may forbid it.
    #[cfg(target_os = "linux")]
    let on_the_way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let on_the_way = flags;

    let mut at = File::from(rustix::fs::open(base, on_the_way, Mode::empty())?);
    for component in below.components() {
        if let std::path::Component::Normal(name) = component {
            at = File::from(openat(&at, name, on_the_way, Mode::empty())?);
        }
    }
    let opened = File::from(openat(&at, ".", flags, Mode::empty())?);
    if is_process_directory(&opened) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it leads into this process, and is never opened to a component",
        ));
    }
    Ok(opened)
}

/// Opens the directory `below` another if no link was followed on the way.
#[cfg(not(unix))]
fn open_below(base: &Path, below: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt as _;

    /// Without it a directory cannot be opened (`FILE_FLAG_BACKUP_SEMANTICS`).
    const OPEN_DIRECTORY: u32 = 0x0200_0000;

    let path = base.join(below);
    let opened = File::options()
        .read(true)
        .custom_flags(OPEN_DIRECTORY)
        .open(&path)?;
    if path.canonicalize()? != path {
        return Err(io::Error::other("there is a link on the way to it"));
    }
    Ok(opened)
}

/// Whether a file belongs to `/proc`, through which a process reaches its own memory.
#[cfg(target_os = "linux")]
pub(super) fn is_process_directory(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|found| found.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// Whether a file belongs to `/proc`, which this system does not have.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_process_directory(_: &File) -> bool {
    false
}
