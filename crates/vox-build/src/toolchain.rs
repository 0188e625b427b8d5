//! The guest toolchain: a compiler that makes WebAssembly.
//!
//! Three are looked for, in this order:
//!
//! 1. the active toolchain, when it has the target;
//! 2. Debian's compiler, which has no such target but the source of its standard library, so that
//!    cargo can build that too, and an LLVM linker on the `PATH`;
//! 3. the active toolchain after `rustup target add`, which is tried once and without retries.
//!
//! What is there comes before what must be fetched: a build neither changes the user's toolchain
//! nor needs a network while it can do without.
//!
//! What must stay true: the one that is chosen says which it is and why those before it would not
//! do, so that nobody has to guess what made a component.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::build::Event;
use crate::cargo::scrub;
use crate::{BuildError, debian};

/// The target that components are compiled for. It has no system interface: all that a plugin can
/// reach is what it imports.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// How many seconds `rustup` may spend on one download.
const DOWNLOAD_TIMEOUT: &str = "60";

/// A way to compile for [`TARGET`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    source: Source,
    version: String,
    passed_over: Vec<PassedOver>,
}

/// Where a guest toolchain comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The active toolchain had the target.
    Active,
    /// The active toolchain got the target from `rustup` just now.
    Added,
    /// A compiler that has the source of its standard library, which cargo then builds.
    StandardLibrarySource {
        /// The compiler.
        rustc: PathBuf,
        /// The linker, an `lld` for WebAssembly.
        linker: PathBuf,
    },
}

/// A toolchain that would not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// What was tried: `the active toolchain`, `rustup`, `Debian's toolchain`.
    pub candidate: &'static str,
    /// Why it would not do.
    pub reason: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.candidate, self.reason)
    }
}

impl Toolchain {
    /// Finds a guest toolchain for a crate in `directory`, where the active toolchain is the one
    /// that a `rust-toolchain.toml` there asks for. What is installed comes first; only where there
    /// is nothing does this ask `rustup` for the target, and says so through
    /// [`Event::AddingTarget`] before it does.
    ///
    /// # Errors
    /// [`BuildError::NoGuestToolchain`], which lists what was tried and the commands that help.
    pub fn find(directory: &Path, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Self, BuildError> {
        Search::new(directory).run(Some(on_event))
    }

    /// Finds a guest toolchain that is there already: like [`find`](Self::find), but `rustup` is
    /// not asked to install anything.
    ///
    /// # Errors
    /// [`BuildError::NoGuestToolchain`], which lists what was tried and the commands that help.
    pub fn find_installed(directory: &Path) -> Result<Self, BuildError> {
        Search::new(directory).run(None)
    }

    /// Where it comes from.
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// What `rustc --version` says.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Which toolchains would have come before this one, and why they would not do.
    pub fn passed_over(&self) -> &[PassedOver] {
        &self.passed_over
    }

    /// One line for people on which toolchain this is.
    pub fn describe(&self) -> String {
        let version = &self.version;
        match &self.source {
            Source::Active => format!("{version}, which has {TARGET}"),
            Source::Added => format!("{version}, to which rustup added {TARGET}"),
            Source::StandardLibrarySource { rustc, linker } => format!(
                "{version} at {}, building its standard library from source, with linker {}",
                rustc.display(),
                linker.display()
            ),
        }
    }

    /// Makes a `cargo build` compile for [`TARGET`] with this toolchain. [`build`](crate::build)
    /// does so itself; this is for guests that are no plugins.
    pub fn configure(&self, command: &mut Command) {
        command.args(["--target", TARGET]);
        // Flags that were meant for the host's compiler: another target knows other ones.
        for flags in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
        ] {
            command.env_remove(flags);
        }
        if let Source::StandardLibrarySource { rustc, linker } = &self.source {
            command
                .env("RUSTC", rustc)
                // `-Z` is refused by released compilers without it.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                .args(["-Z", "build-std=std,panic_abort"]);
        }
    }
}

/// What a search looks at, so that a test can show it another machine.
struct Search<'a> {
    directory: &'a Path,
    path: OsString,
    debian_rustc: &'a Path,
}

impl<'a> Search<'a> {
    fn new(directory: &'a Path) -> Self {
        Self {
            directory,
            path: env::var_os("PATH").unwrap_or_default(),
            debian_rustc: Path::new(debian::RUSTC),
        }
    }

    /// Goes through the candidates in order. `rustup` is asked to install the target only with
    /// someone to tell about it.
    fn run(&self, on_event: Option<&mut dyn FnMut(Event<'_>)>) -> Result<Toolchain, BuildError> {
        let mut passed_over = Vec::new();
        let mut pass_over = |candidate, reason| passed_over.push(PassedOver { candidate, reason });

        let found = match self.active() {
            Ok(version) => Some((Source::Active, version)),
            Err(reason) => {
                pass_over("the active toolchain", reason);
                None
            }
        };
        let found = found.or_else(|| match self.debian() {
            Ok(found) => Some(found),
            Err(reason) => {
                pass_over("Debian's toolchain", reason);
                None
            }
        });
        let found = found.or_else(|| {
            let added = on_event
                .ok_or_else(|| "not asked to install anything".to_owned())
                .and_then(|on_event| self.added_by_rustup(on_event));
            match added {
                Ok(version) => Some((Source::Added, version)),
                Err(reason) => {
                    pass_over("rustup", reason);
                    None
                }
            }
        });
        match found {
            Some((source, version)) => Ok(Toolchain {
                source,
                version,
                passed_over,
            }),
            None => Err(BuildError::NoGuestToolchain { passed_over }),
        }
    }

    /// The version of the active toolchain, if that has the target.
    fn active(&self) -> Result<String, String> {
        let rustc = self.program("rustc")?;
        let libraries = self.print(&rustc, &["--print=target-libdir", "--target", TARGET])?;
        let version = self.print(&rustc, &["--version"])?;
        if !has_standard_library(Path::new(&libraries)) {
            return Err(format!("{version} has no {TARGET}"));
        }
        Ok(version)
    }

    /// Asks `rustup` for the target; answers the version of the toolchain that then has it.
    fn added_by_rustup(&self, on_event: &mut dyn FnMut(Event<'_>)) -> Result<String, String> {
        let rustup = self.program("rustup")?;
        on_event(Event::AddingTarget);
        let mut command = self.command(&rustup);
        command
            .args(["target", "add", TARGET])
            .env("RUSTUP_MAX_RETRIES", "0")
            .env("RUSTUP_DOWNLOAD_TIMEOUT", DOWNLOAD_TIMEOUT);
        succeed(command)?;
        self.active()
    }

    /// Debian's compiler and a linker to go with it.
    fn debian(&self) -> Result<(Source, String), String> {
        let rustc = self.debian_rustc;
        if !rustc.is_file() {
            return Err(format!("there is no {}", rustc.display()));
        }
        let version = self.print(rustc, &["--version"])?;
        let sysroot = self.print(rustc, &["--print=sysroot"])?;
        let library = Path::new(&sysroot).join("lib/rustlib/src/rust/library");
        if !library.join("std/Cargo.toml").is_file() {
            return Err(format!(
                "{version} at {} has no source of its standard library in {}",
                rustc.display(),
                library.display()
            ));
        }
        let linker = self
            .wasm_linker()
            .ok_or("no wasm-ld is on the PATH, with or without a version")?;
        let source = Source::StandardLibrarySource {
            rustc: rustc.into(),
            linker,
        };
        Ok((source, version))
    }

    /// The newest `wasm-ld-<version>` on the `PATH`, or else a plain `wasm-ld`.
    fn wasm_linker(&self) -> Option<PathBuf> {
        let versioned = env::split_paths(&self.path)
            .filter_map(|directory| fs::read_dir(directory).ok())
            .flat_map(|entries| entries.flatten())
            .filter_map(|entry| Some((linker_version(&entry.file_name())?, entry.path())))
            // Of equal versions the first on the PATH, where `max_by_key` would take the last.
            .reduce(|best, next| if next.0 > best.0 { next } else { best });
        versioned
            .map(|(_, path)| path)
            .or_else(|| self.program("wasm-ld").ok())
    }

    /// The first program of this name on the `PATH`.
    fn program(&self, name: &str) -> Result<PathBuf, String> {
        let file = format!("{name}{}", env::consts::EXE_SUFFIX);
        env::split_paths(&self.path)
            .map(|directory| directory.join(&file))
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| format!("no {name} is on the PATH"))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory).env("PATH", &self.path);
        scrub(&mut command);
        command
    }

    /// What a program prints, without the end of line.
    fn print(&self, program: &Path, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.command(program);
        command.args(arguments);
        let output = succeed(command)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Runs a command to its end; the error is one line that says what failed, and how.
fn succeed(mut command: Command) -> Result<Output, String> {
    let line = command_line(&command);
    let output = command
        .output()
        .map_err(|error| format!("`{line}` cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let cause = stderr
        .lines()
        .find(|line| line.starts_with("error"))
        .or(stderr.lines().last())
        .unwrap_or("it printed nothing");
    Err(format!("`{line}` failed ({}): {cause}", output.status))
}

/// A command as a user would type it.
fn command_line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The number in `wasm-ld-<number>`.
fn linker_version(file_name: &OsStr) -> Option<u32> {
    let version = file_name.to_str()?.strip_prefix("wasm-ld-")?;
    version.parse().ok()
}

/// Whether a target's library directory holds a standard library. A directory alone says little:
/// compilers print where it would be.
fn has_standard_library(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| {
        entries.any(|entry| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
        })
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// A machine of scripts: a `PATH` with one directory, and a root for Debian's compiler.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(machine.at("bin")).unwrap();
            machine
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn install(&self, path: &str, script: &str) {
            let path = self.at(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }

        /// A compiler of this name and version whose sysroot is `sysroot`.
        fn install_rustc(&self, path: &str, version: &str, sysroot: &str) {
            let sysroot = self.at(sysroot);
            let sysroot = sysroot.display();
            self.install(
                path,
                &format!(
                    "case \"$1\" in
                       --version) echo 'rustc {version}' ;;
                       --print=sysroot) echo '{sysroot}' ;;
                       --print=target-libdir) echo '{sysroot}/wasm' ;;
                     esac"
                ),
            );
        }

        fn install_debian(&self) {
            self.install_rustc("debian/rustc", "1.96.0", "usr");
            self.install("usr/lib/rustlib/src/rust/library/std/Cargo.toml", "");
        }

        fn search(&self, events: Option<&mut dyn FnMut(Event<'_>)>) -> Result<Toolchain, String> {
            let search = Search {
                directory: self.0.path(),
                path: env::join_paths([self.at("bin"), "/bin".into()]).unwrap(),
                debian_rustc: &self.at("debian/rustc"),
            };
            // Only programs of the machine itself count as found.
            assert!(search.program("sh").is_ok());
            search.run(events).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn an_active_toolchain_that_has_the_target_comes_first() {
        let machine = Machine::new();
        machine.install_rustc("bin/rustc", "1.95.0", "active");
        machine.install("active/wasm/libstd-0.rlib", "");
        machine.install_debian();
        let toolchain = machine.search(None).unwrap();
        assert_eq!(toolchain.source(), &Source::Active);
        assert_eq!(toolchain.passed_over(), []);
        assert_eq!(
            toolchain.describe(),
            "rustc 1.95.0, which has wasm32-unknown-unknown"
        );
    }

    #[test]
    fn rustup_adds_a_missing_target_and_is_announced() {
        let machine = Machine::new();
        machine.install_rustc("bin/rustc", "1.95.0", "active");
        let library = machine.at("active/wasm");
        let script = format!(
            "mkdir -p '{0}' && : > '{0}/libstd-0.rlib'",
            library.display()
        );
        machine.install("bin/rustup", &script);
        let mut announced = 0;
        let toolchain = machine
            .search(Some(&mut |event| {
                assert!(matches!(event, Event::AddingTarget));
                announced += 1;
            }))
            .unwrap();
        assert_eq!(toolchain.source(), &Source::Added);
        assert_eq!(announced, 1);
        assert!(
            toolchain.passed_over()[0]
                .reason
                .contains("1.95.0 has no wasm32")
        );
    }

    #[test]
    fn debian_with_its_newest_linker_comes_before_what_rustup_would_fetch() {
        let machine = Machine::new();
        machine.install_rustc("bin/rustc", "1.95.0", "active");
        let mark = machine.at("was-run");
        machine.install("bin/rustup", &format!(": > '{}'", mark.display()));
        machine.install_debian();
        for linker in ["wasm-ld", "wasm-ld-9", "wasm-ld-9022", "wasm-ld-x"] {
            machine.install(&format!("bin/{linker}"), "");
        }
        let toolchain = machine.search(Some(&mut |_| ())).unwrap();
        let Source::StandardLibrarySource { linker, .. } = toolchain.source() else {
            panic!("{toolchain:?}");
        };
        assert_eq!(linker, &machine.at("bin/wasm-ld-9022"));
        assert_eq!(toolchain.passed_over().len(), 1);
        assert!(!mark.exists());
    }

    #[test]
    fn a_rustup_that_fails_is_reported_with_its_own_words() {
        let machine = Machine::new();
        machine.install_rustc("bin/rustc", "1.95.0", "active");
        machine.install("bin/rustup", "echo 'error: no network' >&2; exit 1");
        let message = machine.search(Some(&mut |_| ())).unwrap_err();
        assert!(message.contains("rustup: `rustup target add"), "{message}");
        assert!(message.contains("error: no network"), "{message}");
    }

    #[test]
    fn nothing_is_installed_when_only_what_is_there_counts() {
        let machine = Machine::new();
        machine.install_rustc("bin/rustc", "1.95.0", "active");
        let mark = machine.at("was-run");
        machine.install("bin/rustup", &format!(": > '{}'", mark.display()));
        assert!(machine.search(None).is_err());
        assert!(!mark.exists());
    }

    #[test]
    fn with_nothing_found_the_error_lists_what_was_tried_and_what_to_install() {
        let machine = Machine::new();
        machine.install_rustc("bin/rustc", "1.95.0", "active");
        machine.install_rustc("debian/rustc", "1.96.0", "usr");
        let message = machine.search(None).unwrap_err();
        for part in [
            "  - the active toolchain: rustc 1.95.0 has no wasm32-unknown-unknown\n",
            "  - rustup: not asked to install anything\n",
            "has no source of its standard library",
            "rustup target add wasm32-unknown-unknown",
            "apt-get install --no-install-recommends rustc-web rust-web-src lld-22",
        ] {
            assert!(message.contains(part), "{part} in {message}");
        }
    }
}
