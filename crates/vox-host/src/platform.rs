//! What differs between operating systems, in one place.
//!
//! Owns: where the data, the cache and the running executable are, how a native library's file is
//! named and where the dynamic linker looks for it, and the few file operations that have no
//! portable form. Every other module of this crate is free of `cfg(target_os)`; sockets between
//! processes have a module like this one of their own.
//!
//! The environment is read through a function that the caller gives, so that each rule here can be
//! tested without changing the process.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reads one variable of the environment: [`std::env::var_os`], or a table in a test.
pub type Variables<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Where data that the user keeps goes on this system, the application's own name included.
///
/// Linux: `$XDG_DATA_HOME/vox` or `~/.local/share/vox`. macOS: the same when the variable is set,
/// otherwise `~/Library/Application Support/vox`. Windows: `%LOCALAPPDATA%\vox\data`.
/// `None` when the variables that say so are not set.
pub fn data_directory(variables: &Variables<'_>) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(
            absolute(variables, "LOCALAPPDATA")?
                .join("vox")
                .join("data"),
        );
    }
    if let Some(base) = absolute(variables, "XDG_DATA_HOME") {
        return Some(base.join("vox"));
    }
    let below_home = if cfg!(target_vendor = "apple") {
        "Library/Application Support/vox"
    } else {
        ".local/share/vox"
    };
    Some(absolute(variables, "HOME")?.join(below_home))
}

/// Where data that can be made again goes: `$XDG_CACHE_HOME/vox` or `~/.cache/vox` on Linux,
/// `~/Library/Caches/vox` on macOS, `%LOCALAPPDATA%\vox\cache` on Windows.
pub fn cache_directory(variables: &Variables<'_>) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(
            absolute(variables, "LOCALAPPDATA")?
                .join("vox")
                .join("cache"),
        );
    }
    if let Some(base) = absolute(variables, "XDG_CACHE_HOME") {
        return Some(base.join("vox"));
    }
    let below_home = if cfg!(target_vendor = "apple") {
        "Library/Caches/vox"
    } else {
        ".cache/vox"
    };
    Some(absolute(variables, "HOME")?.join(below_home))
}

/// Where sockets of a user's processes go: `$XDG_RUNTIME_DIR/vox`. Below the data where the system
/// says nothing.
pub fn runtime_directory(variables: &Variables<'_>) -> Option<PathBuf> {
    Some(absolute(variables, "XDG_RUNTIME_DIR")?.join("vox"))
}

/// The variables that [`data_directory`] and [`cache_directory`] read, for messages.
pub const HOME_VARIABLES: &str = if cfg!(windows) {
    "LOCALAPPDATA"
} else {
    "HOME"
};

/// The directory that holds the running executable, links resolved: a distribution is found
/// through a link that stands in a directory of the search path.
pub fn executable_directory() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let executable = executable.canonicalize().unwrap_or(executable);
    executable.parent().map(Path::to_path_buf)
}

/// The file name of the host's executable, from its stem.
pub fn executable_name(stem: &str) -> String {
    format!("{stem}{}", std::env::consts::EXE_SUFFIX)
}

/// Whether nobody but this user (and the system's administrator) can have written what is at
/// `path`: it belongs to the user, and neither its group nor others may write to it. A link is
/// nobody's own. Where the system has no such permissions, always.
pub fn is_own(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        path.symlink_metadata().is_ok_and(|metadata| {
            !metadata.is_symlink()
                && metadata.uid() == rustix::process::geteuid().as_raw()
                && metadata.mode() & 0o022 == 0
        })
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        true
    }
}

/// How far [`recent`] may be off, before or behind.
pub const RECENT: Duration = Duration::from_millis(10);

/// The time to within [`RECENT`], where the system tells that for less than the exact time.
#[inline]
pub fn recent() -> std::time::Instant {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::sync::LazyLock;
        use std::time::Instant;
        fn coarse() -> Duration {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
            Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
        }
        static START: LazyLock<(Instant, Duration)> = LazyLock::new(|| (Instant::now(), coarse()));
        let (start, at) = *START;
        start + coarse().saturating_sub(at)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        std::time::Instant::now()
    }
}

/// Processor time that the calling thread has used.
///
/// Where the system has no such clock this is wall time, from an arbitrary moment.
pub fn thread_processor_time() -> Duration {
    #[cfg(unix)]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
    }
    #[cfg(not(unix))]
    {
        static START: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed()
    }
}

/// Has the calling thread give way to others, where the system can: for work that nobody waits for.
pub fn lower_thread_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10) {
        tracing::debug!(%error, "the thread keeps its priority");
    }
}

/// The memory that this process may have, the limits of its control groups among it. Nothing is known
/// where programs of the system would have to be asked, which takes as long as a second.
pub fn memory() -> vox_probe::Memory {
    #[cfg(target_os = "linux")]
    {
        vox_probe::SystemProbe::memory()
    }
    #[cfg(not(target_os = "linux"))]
    vox_probe::Memory::default()
}

/// The variable in which a user names more directories for the dynamic linker.
pub const LIBRARY_PATH_VARIABLE: &str = if cfg!(windows) {
    "PATH"
} else if cfg!(target_vendor = "apple") {
    "DYLD_LIBRARY_PATH"
} else {
    "LD_LIBRARY_PATH"
};

/// Directories in which the dynamic linker looks for a library by its bare name, in its order.
///
/// Linux: `LD_LIBRARY_PATH`, what `/etc/ld.so.conf` and the files it includes name, then the
/// standard directories. macOS: `DYLD_LIBRARY_PATH`, `/usr/local/lib`, `/opt/homebrew/lib`,
/// `/usr/lib`. Windows: `PATH`. A run path that is baked into a library is not considered.
pub fn library_directories(variables: &Variables<'_>) -> Vec<PathBuf> {
    let standard: Vec<PathBuf> = if cfg!(windows) {
        Vec::new()
    } else if cfg!(target_vendor = "apple") {
        ["/usr/local/lib", "/opt/homebrew/lib", "/usr/lib"]
            .map(PathBuf::from)
            .into()
    } else {
        let mut standard = linker_configuration(Path::new("/etc/ld.so.conf"), 0);
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        standard.extend([
            Path::new("/lib").join(&triplet),
            Path::new("/usr/lib").join(&triplet),
            "/lib64".into(),
            "/usr/lib64".into(),
            "/lib".into(),
            "/usr/lib".into(),
        ]);
        standard
    };
    let mut directories: Vec<PathBuf> = Vec::new();
    let named = variables(LIBRARY_PATH_VARIABLE).unwrap_or_default();
    for directory in std::env::split_paths(&named).chain(standard) {
        if !directory.as_os_str().is_empty() && !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}

/// The version in the file name of a shared library, when the file is one of library `name`:
/// `libcudart.so.12.4` is version `12.4` of `cudart`, `libcudart.so` is `cudart` with no version.
///
/// The outer `None` says that the file is not of this library.
pub fn library_version<'a>(file: &'a str, name: &str) -> Option<Option<&'a str>> {
    if cfg!(windows) {
        let stem = file.strip_suffix(".dll")?;
        return (stem.eq_ignore_ascii_case(name)).then_some(None);
    }
    let rest = file.strip_prefix("lib")?.strip_prefix(name)?;
    let rest = if cfg!(target_vendor = "apple") {
        rest.strip_suffix(".dylib")?
    } else {
        rest.strip_prefix(".so")?
    };
    match rest.strip_prefix('.') {
        Some(version) => Some(Some(version)),
        None => rest.is_empty().then_some(None),
    }
}

/// The format of this system's shared libraries.
pub const BINARY_FORMAT: object::BinaryFormat = if cfg!(windows) {
    object::BinaryFormat::Coff
} else if cfg!(target_vendor = "apple") {
    object::BinaryFormat::MachO
} else {
    object::BinaryFormat::Elf
};

/// Makes a directory, and its parents, that only the user may enter; nothing happens when it is
/// there already.
///
/// # Errors
///
/// When it cannot be made.
pub fn create_private_dir(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(directory)
}

/// Opens an empty file that only the user may read and write; what a file of that name held is gone.
///
/// # Errors
///
/// When it cannot be made, or its permissions not be set.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let file = options.mode(0o600).open(path)?;
        // One that was there keeps its mode.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

/// Makes a directory's entries durable: renames in it survive a power cut once this returns.
///
/// Windows keeps directory entries in its journal and has nothing to be called.
///
/// # Errors
///
/// When the directory cannot be opened or the file system cannot write.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Swaps two paths in one step, so that no observer sees either missing.
///
/// `Ok(false)` says that this system or file system cannot; nothing changed then.
///
/// # Errors
///
/// When the swap was tried and failed for another reason.
pub fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    {
        let _ = (one, other);
        Ok(false)
    }
}

/// True when the file may be executed; a distribution keeps that of the files it is given.
pub fn is_executable(metadata: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        metadata.permissions().mode() & 0o111 != 0
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

/// Gives a file the permissions that every file of an installed plugin has: `0644`, or `0755`
/// when it may be executed. Does nothing where permissions are not modes.
///
/// # Errors
///
/// When the permissions cannot be set.
pub fn set_permissions(file: &File, executable: bool) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if executable { 0o755 } else { 0o644 };
        file.set_permissions(std::fs::Permissions::from_mode(mode))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, executable);
        Ok(())
    }
}

/// A variable that holds an absolute path. A relative one is as good as none: what it names would
/// depend on where the command was started (XDG Base Directory Specification, "Environment
/// variables").
fn absolute(variables: &Variables<'_>, name: &str) -> Option<PathBuf> {
    variables(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// The directories that a configuration of the dynamic linker names; `include` is followed with
/// `*` in the last component, to a depth of four.
fn linker_configuration(file: &Path, depth: u8) -> Vec<PathBuf> {
    let Ok(text) = std::fs::read_to_string(file) else {
        return Vec::new();
    };
    let mut directories = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        match line
            .strip_prefix("include")
            .filter(|rest| rest.starts_with([' ', '\t']))
        {
            Some(pattern) if depth < 4 => {
                for included in matching_files(Path::new(pattern.trim())) {
                    directories.extend(linker_configuration(&included, depth + 1));
                }
            }
            Some(_) => {}
            None if line.starts_with('/') => directories.push(line.into()),
            None => {}
        }
    }
    directories
}

/// Files that a path with at most one `*` in its last component names, sorted.
fn matching_files(pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (
        pattern.parent(),
        pattern.file_name().and_then(|name| name.to_str()),
    ) else {
        return Vec::new();
    };
    let Some((before, after)) = name.split_once('*') else {
        return vec![pattern.to_path_buf()];
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= before.len() + after.len()
                && name.starts_with(before)
                && name.ends_with(after)
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_the_xdg_specification_decide_when_they_are_absolute() {
        let set = |name: &str| match name {
            "XDG_DATA_HOME" | "LOCALAPPDATA" => {
                Some(if cfg!(windows) { r"C:\data" } else { "/data" }.into())
            }
            "XDG_CACHE_HOME" => Some("relative".into()),
            "HOME" => Some("/home/ada".into()),
            _ => None,
        };
        let data = data_directory(&set).unwrap();
        assert!(data.starts_with(if cfg!(windows) { r"C:\data" } else { "/data" }));
        if cfg!(target_os = "linux") {
            assert_eq!(
                cache_directory(&set).unwrap(),
                Path::new("/home/ada/.cache/vox")
            );
        }
        assert_eq!(data_directory(&|_| None), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_library_is_known_by_its_whole_name() {
        assert_eq!(
            library_version("libcudart.so.12.4", "cudart"),
            Some(Some("12.4"))
        );
        assert_eq!(library_version("libcudart.so", "cudart"), Some(None));
        assert_eq!(library_version("libcudart_static.a", "cudart"), None);
        assert_eq!(library_version("libcudart2.so.1", "cudart"), None);
        assert_eq!(library_version("libcudart.sox", "cudart"), None);
    }

    #[test]
    fn the_linker_configuration_is_followed_into_its_includes() {
        let directory = tempfile::tempdir().unwrap();
        let included = directory.path().join("conf.d");
        std::fs::create_dir(&included).unwrap();
        std::fs::write(included.join("a.conf"), "/opt/a # why\n").unwrap();
        std::fs::write(included.join("b.txt"), "/opt/b\n").unwrap();
        let main = directory.path().join("ld.so.conf");
        let text = format!("include {}/*.conf\n/opt/c\n", included.display());
        std::fs::write(&main, text).unwrap();
        assert_eq!(
            linker_configuration(&main, 0),
            ["/opt/a", "/opt/c"].map(PathBuf::from)
        );
    }
}
