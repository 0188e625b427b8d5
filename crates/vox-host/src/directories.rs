//! Where Vox keeps things and where it finds plugins.
//!
//! Owns the order of precedence among the roots. From first to last:
//!
//! | kind | where | who put it there |
//! |---|---|---|
//! | [`Environment`](RootKind::Environment) | entries of `VOX_PLUGIN_PATH` | whoever started the command |
//! | [`Project`](RootKind::Project) | `.vox/plugins` of the project | the project |
//! | [`User`](RootKind::User) | `<data>/plugins` | `vox plugin install` |
//! | [`Bundled`](RootKind::Bundled) | `plugins` beside the executable | the distribution |
//!
//! **Invariant.** Everything that reads a place on disk gets it from a [`Directories`] that it was
//! given; only [`Directories::from_environment`] looks at the process. A root that does not exist
//! is no error: nobody has put a plugin there yet.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::platform;

/// Why the directories could not be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoriesError {
    /// Neither Vox's own variable nor the system's says where a directory is.
    #[error(
        "no place for Vox's {purpose}: {own} is not set and neither is {system}; \
         set {own} to a directory that Vox may write to"
    )]
    NoHome {
        /// What the directory is for: `data` or `cache`.
        purpose: &'static str,
        /// Vox's own variable.
        own: &'static str,
        /// The system's variable.
        system: &'static str,
    },
    /// The current directory cannot be determined: it was deleted, or may not be read.
    #[error("the current directory cannot be determined: {0}; change to one that exists")]
    NoCurrentDirectory(#[source] std::io::Error),
}

/// Who placed the plugins of a root. The order is the order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RootKind {
    /// Named in `VOX_PLUGIN_PATH`.
    Environment,
    /// The project's `.vox/plugins`.
    Project,
    /// The user's data directory: where `vox plugin install` puts plugins.
    User,
    /// Beside the executable: the plugins of a distribution.
    Bundled,
}

impl RootKind {
    /// The name that is shown to a user: `environment`, `project`, `user` or `bundled`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Project => "project",
            Self::User => "user",
            Self::Bundled => "bundled",
        }
    }
}

impl std::fmt::Display for RootKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A directory in which plugins are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The directory; it need not exist.
    pub path: PathBuf,
    /// Who placed what is in it.
    pub kind: RootKind,
}

/// The places that one host works with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Directories {
    /// What the user keeps: installed plugins, grants, trust, `kv` of the plugins.
    pub data: PathBuf,
    /// What can be made again: compiled components.
    pub cache: PathBuf,
    /// Where processes that are at work can be reached: sockets of this user alone, made anew by
    /// each process ([`crate::control`]).
    pub runtime: PathBuf,
    /// Where plugins are found, in order of precedence.
    pub roots: Vec<Root>,
    /// The project's directory: the nearest that holds `.vox` or `Vox.toml`.
    pub project: Option<PathBuf>,
    /// The directory of the running distribution: the one that holds the executable.
    pub bundle: Option<PathBuf>,
}

impl Directories {
    /// A host that knows its data and its cache, and finds plugins in `<data>/plugins` only.
    pub fn new(data: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        let data = data.into();
        let roots = vec![Root {
            path: data.join("plugins"),
            kind: RootKind::User,
        }];
        Self {
            runtime: data.join("run"),
            data,
            cache: cache.into(),
            roots,
            project: None,
            bundle: None,
        }
    }

    /// Adds a root as an entry of `VOX_PLUGIN_PATH` does; of several the first added wins.
    #[must_use]
    pub fn with_search_path(self, path: impl Into<PathBuf>) -> Self {
        self.with_root(path.into(), RootKind::Environment)
    }

    /// Names the project, and its `.vox/plugins` as a root.
    #[must_use]
    pub fn with_project(self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let mut with = self.with_root(directory.join(".vox").join("plugins"), RootKind::Project);
        with.project = Some(directory);
        with
    }

    /// Names the distribution, and the `plugins` in it as a root.
    #[must_use]
    pub fn with_bundle(self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        let mut with = self.with_root(directory.join("plugins"), RootKind::Bundled);
        with.bundle = Some(directory);
        with
    }

    /// The directories of this process: from its environment, its current directory and the place
    /// of its executable.
    ///
    /// # Errors
    ///
    /// [`DirectoriesError::NoHome`] when no variable says where data or cache go, and
    /// [`DirectoriesError::NoCurrentDirectory`].
    pub fn from_environment() -> Result<Self, DirectoriesError> {
        let current = std::env::current_dir().map_err(DirectoriesError::NoCurrentDirectory)?;
        let executable = platform::executable_directory();
        Self::locate(
            &|name| std::env::var_os(name),
            &current,
            executable.as_deref(),
        )
    }

    /// What [`from_environment`](Self::from_environment) answers in a process with these
    /// `variables`, started in `current`, with its executable in `executable`.
    ///
    /// Read are `VOX_DATA`, `VOX_CACHE`, `VOX_PLUGIN_PATH` (a list as `PATH` is one; relative
    /// entries count from `current`) and what the system says about a user's directories.
    ///
    /// # Errors
    ///
    /// [`DirectoriesError::NoHome`] when no variable says where data or cache go.
    pub fn locate(
        variables: &dyn Fn(&str) -> Option<OsString>,
        current: &Path,
        executable: Option<&Path>,
    ) -> Result<Self, DirectoriesError> {
        let own = |name| {
            variables(name)
                .filter(|value| !value.is_empty())
                .map(|value| current.join(value))
        };
        let data = own("VOX_DATA").or_else(|| platform::data_directory(variables));
        let data = data.ok_or(DirectoriesError::NoHome {
            purpose: "data",
            own: "VOX_DATA",
            system: platform::HOME_VARIABLES,
        })?;
        let cache = own("VOX_CACHE").or_else(|| platform::cache_directory(variables));
        let cache = cache.ok_or(DirectoriesError::NoHome {
            purpose: "cache",
            own: "VOX_CACHE",
            system: platform::HOME_VARIABLES,
        })?;

        let mut directories = Self::new(data, cache);
        if let Some(runtime) = platform::runtime_directory(variables) {
            directories.runtime = runtime;
        }
        let named = variables("VOX_PLUGIN_PATH").unwrap_or_default();
        for entry in std::env::split_paths(&named).filter(|entry| !entry.as_os_str().is_empty()) {
            directories = directories.with_search_path(current.join(entry));
        }
        if let Some(project) = project_of(current) {
            directories = directories.with_project(project);
        }
        if let Some(executable) = executable {
            directories = directories.with_bundle(executable);
        }
        Ok(directories)
    }

    /// Where `vox plugin install` puts plugins: the root of kind [`RootKind::User`].
    pub fn installed(&self) -> PathBuf {
        self.data.join("plugins")
    }

    /// The grants that count: the user's, and those that come with the distribution. A project has
    /// no such file, or a stranger's repository could grant itself what it likes; what its Vox.toml
    /// grants counts once the user has allowed it.
    pub fn grants(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let bundle = self.bundle.iter().map(|bundle| bundle.join("grants.toml"));
        std::iter::once(self.data.join("grants.toml")).chain(bundle)
    }

    /// What the user trusts, where that counts: as with grants, the user's file and the one that
    /// comes with the distribution. A project says nothing about its own plugins.
    pub fn trust(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let bundle = self.bundle.iter().map(|bundle| bundle.join("trust.toml"));
        std::iter::once(self.data.join("trust.toml")).chain(bundle)
    }

    fn with_root(mut self, path: PathBuf, kind: RootKind) -> Self {
        let place = self.roots.partition_point(|root| root.kind <= kind);
        self.roots.insert(place, Root { path, kind });
        self
    }
}

/// The nearest of `start` and the directories above it that holds `.vox` or `Vox.toml`.
fn project_of(start: &Path) -> Option<PathBuf> {
    let is_project =
        |directory: &&Path| directory.join("Vox.toml").is_file() || directory.join(".vox").is_dir();
    start.ancestors().find(is_project).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_come_in_the_order_of_precedence_however_they_were_added() {
        let directories = Directories::new("/data", "/cache")
            .with_bundle("/opt/vox")
            .with_project("/work")
            .with_search_path("/first")
            .with_search_path("/second");
        let paths: Vec<_> = directories
            .roots
            .iter()
            .map(|root| root.path.as_path())
            .collect();
        let expected = [
            "/first",
            "/second",
            "/work/.vox/plugins",
            "/data/plugins",
            "/opt/vox/plugins",
        ];
        assert_eq!(paths, expected.map(Path::new));
    }

    #[test]
    fn the_project_is_the_nearest_directory_above_that_says_so() {
        let top = tempfile::tempdir().unwrap();
        let inner = top.path().join("a");
        let deep = inner.join("b").join("c");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(top.path().join("Vox.toml"), "").unwrap();
        assert_eq!(project_of(&deep).as_deref(), Some(top.path()));
        std::fs::create_dir(inner.join(".vox")).unwrap();
        assert_eq!(project_of(&deep), Some(inner));
    }

    #[test]
    fn own_variables_win_and_search_paths_keep_their_order() {
        let place = tempfile::tempdir().unwrap();
        let variables = |name: &str| match name {
            "VOX_DATA" => Some("state".into()),
            "VOX_CACHE" => Some(place.path().join("cache").into_os_string()),
            "VOX_PLUGIN_PATH" => std::env::join_paths(["one", "/two"]).ok(),
            _ => None,
        };
        let found = Directories::locate(&variables, place.path(), None).unwrap();
        assert_eq!(found.data, place.path().join("state"));
        assert_eq!(found.cache, place.path().join("cache"));
        assert_eq!(found.roots[0].path, place.path().join("one"));
        assert_eq!(found.roots[1].path, Path::new("/two"));
        assert_eq!(found.roots[2].kind, RootKind::User);
    }

    #[test]
    fn without_a_home_the_error_names_the_variable_to_set() {
        let error = Directories::locate(&|_| None, Path::new("/"), None).unwrap_err();
        assert!(error.to_string().contains("VOX_DATA"), "{error}");
    }
}
