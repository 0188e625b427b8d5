//! Debian's guest toolchain: a compiler with the source of its standard library, and a linker.
//!
//! Installing packages changes the machine, so nothing here happens unless it is asked for by
//! name: a build only says which command would do it.

use std::fs;
use std::process::Command;

use crate::BuildError;

/// What makes a guest toolchain of a Debian machine. It leaves the compiler that comes first on the
/// `PATH` alone: this one is at [`RUSTC`].
pub(crate) const INSTALL_COMMAND: &str =
    "apt-get install --no-install-recommends rustc-web rust-web-src lld-22";

/// Debian's compiler.
pub(crate) const RUSTC: &str = "/usr/bin/rustc";

/// Installs Debian's guest toolchain with `apt-get`, whose output goes to the terminal. Once it is
/// there [`Toolchain::find`](crate::Toolchain::find) finds it.
///
/// # Errors
/// [`BuildError::Install`] when this is not Debian or a system made from it, when the user is not
/// root, or when `apt-get` fails, twice: before the second time the package lists are fetched anew.
pub fn install_debian_packages() -> Result<(), BuildError> {
    let refused = |reason: &str| {
        Err(BuildError::Install {
            reason: reason.into(),
        })
    };
    if !is_debian(&fs::read_to_string("/etc/os-release").unwrap_or_default()) {
        return refused("this is not Debian or a system made from it");
    }
    if !is_root() {
        return refused("only root may install packages");
    }
    if install().is_ok() {
        return Ok(());
    }
    apt_get(&["update"])?;
    install()
}

fn install() -> Result<(), BuildError> {
    let mut words = INSTALL_COMMAND.split(' ').skip(1).collect::<Vec<_>>();
    words.push("--yes");
    apt_get(&words)
}

fn apt_get(arguments: &[&str]) -> Result<(), BuildError> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status();
    let reason = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("`apt-get {}` failed ({status})", arguments.join(" ")),
        Err(error) => format!("`apt-get` cannot be started: {error}"),
    };
    Err(BuildError::Install { reason })
}

/// Whether an `os-release` file (see os-release(5)) is that of Debian or names it as an ancestor.
fn is_debian(os_release: &str) -> bool {
    os_release
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| matches!(*key, "ID" | "ID_LIKE"))
        .flat_map(|(_, value)| value.trim_matches(['"', '\'']).split(' '))
        .any(|id| id == "debian")
}

/// Whether this process belongs to root.
fn is_root() -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // The kernel gives a process's directory to its effective user.
        fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
    }
    #[cfg(not(unix))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_what_is_made_from_it_are_told_from_others() {
        assert!(is_debian("NAME=\"Debian GNU/Linux\"\nID=debian\n"));
        assert!(is_debian("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=pop\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\nNAME=debian\n"));
        assert!(!is_debian(""));
    }
}
