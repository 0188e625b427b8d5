//! A Podman for the tests: its own storage, its own service, one image made of Debian's
//! `busybox-static`. It is started once for a test process, and a shell that waits for the end of
//! that process ends it and removes what it has stored.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::skipped;

/// The image that tests use.
pub const IMAGE: &str = "localhost/busybox:latest";

/// Programs by the Debian packages that have them.
const PACKAGES: [(&str, &str); 3] = [
    ("podman", "podman"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
];

/// What `$1`, the directory, holds is removed when the pipe at the standard input closes.
const KEEPER: &str = r#"
trap '' HUP INT TERM
cd "$1" || exit
podman system service --time=0 "unix://$1/api.sock" >"$1/service.log" 2>&1 </dev/null &
service=$!
while read -r word; do :; done
podman rm -f -a -t 0
kill "$service"
wait "$service"
for at in $(grep -o " $1/[^ ]*" /proc/mounts); do umount -l "$at"; done
cd /
rm -rf "$1"
"#;

/// An engine that belongs to this process.
pub struct Podman {
    directory: PathBuf,
    /// The keeper has this pipe for its standard input.
    _keeper: Child,
    /// Tests that look at what is left over have the engine for themselves.
    turns: RwLock<()>,
    /// Where a registry may be. The engine was told that it is not encrypted, which it reads once.
    registry: TcpListener,
}

/// The engine, or none with a printed reason where it cannot be had.
pub fn podman() -> Option<&'static Podman> {
    static PODMAN: LazyLock<Result<Podman, String>> = LazyLock::new(Podman::start);
    match &*PODMAN {
        Ok(podman) => Some(podman),
        Err(reason) => {
            skipped::because(format_args!("no Podman can be had here: {reason}"));
            None
        }
    }
}

impl Podman {
    fn start() -> Result<Self, String> {
        if !cfg!(target_os = "linux") || !geteuid().is_root() {
            return Err("it takes root, on Linux".to_owned());
        }
        install()?;
        let directory = tempfile::Builder::new()
            .prefix("vox-podman-")
            .tempdir()
            .map_err(|error| error.to_string())?
            .keep();
        let registry = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        configure(&directory, &registry).map_err(|error| error.to_string())?;
        let mut keeper = Command::new("/bin/sh");
        keeper
            .args(["-c", KEEPER, "vox-test-podman"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let keeper = environment(&mut keeper, &directory)
            .spawn()
            .map_err(|error| error.to_string())?;
        let podman = Self {
            directory,
            _keeper: keeper,
            turns: RwLock::new(()),
            registry,
        };
        let archive = podman.archive();
        image(&archive).map_err(|error| error.to_string())?;
        podman.call(&["import", &archive.to_string_lossy(), IMAGE])?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = UnixStream::connect(podman.socket()) {
            if Instant::now() > deadline {
                let log = fs::read_to_string(podman.directory.join("service.log"));
                return Err(format!("{error}: {}", log.unwrap_or_default()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        // One container shows whether any can be run.
        podman.call(&["run", "--rm", "--network=none", IMAGE, "/bin/true"])?;
        Ok(podman)
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("api.sock")
    }

    /// The files of [`IMAGE`], of which others can be imported.
    pub fn archive(&self) -> PathBuf {
        self.directory.join("busybox.tar")
    }

    /// Where everything of it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a registry may listen.
    pub fn registry(&self) -> &TcpListener {
        &self.registry
    }

    /// A turn beside other tests.
    pub fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.turns.read().unwrap_or_else(|lock| lock.into_inner())
    }

    /// A turn alone.
    pub fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.turns.write().unwrap_or_else(|lock| lock.into_inner())
    }

    /// What `podman` prints.
    pub fn call(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("podman");
        let output = environment(&mut command, &self.directory)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("podman {}: {told}", arguments.join(" ")))
    }

    /// The names of the containers that a run has.
    pub fn containers(&self, run: &str) -> Vec<String> {
        let filter = format!("label=dev.vox.run={run}");
        let names = self
            .call(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"])
            .unwrap();
        names.lines().map(str::to_owned).collect()
    }

    /// Waits until a run has no container.
    pub fn wait_until_gone(&self, run: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.containers(run).is_empty() {
            assert!(Instant::now() < deadline, "a container of {run} is left");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Kills the guard of a container.
pub fn kill_guard(name: &str) {
    let guards: Vec<i32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("vox-container-guard") && line.contains(name)
        })
        .collect();
    assert_eq!(guards.len(), 1);
    kill_process(Pid::from_raw(guards[0]).unwrap(), Signal::KILL).unwrap();
}

fn environment<'a>(command: &'a mut Command, directory: &Path) -> &'a mut Command {
    let file = |name: &str| directory.join(name);
    // The monitor of a container that runs out of memory leaves a file where it was started.
    command
        .current_dir(directory)
        .env("CONTAINERS_CONF", file("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", file("storage.conf"))
        .env("CONTAINERS_REGISTRIES_CONF", file("registries.conf"))
        .env("TMPDIR", file("tmp"))
}

/// Installs what is missing, by Debian's package manager.
fn install() -> Result<(), String> {
    let is_there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|place| place.join(program).exists())
    };
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing {}", missing.join(", "));
    let apt = |arguments: &[&str]| {
        let output = Command::new("apt-get")
            .args(["-qq", "-y", "-o", "DPkg::Lock::Timeout=300"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("apt-get: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "apt-get: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    };
    let install = [&["install", "--no-install-recommends"][..], &missing].concat();
    apt(&install).or_else(|_| apt(&["update"]).and_then(|()| apt(&install)))
}

fn configure(directory: &Path, registry: &TcpListener) -> io::Result<()> {
    let place = directory.display();
    fs::create_dir(directory.join("tmp"))?;
    // runc and cgroupfs need neither systemd nor a cgroup of the second kind.
    fs::write(
        directory.join("containers.conf"),
        format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\n\
             [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \
             \"file\"\ntmp_dir = \"{place}/engine\"\n"
        ),
    )?;
    fs::write(
        directory.join("storage.conf"),
        format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{place}/storage\"\nrunroot = \
             \"{place}/state\"\n"
        ),
    )?;
    fs::write(
        directory.join("registries.conf"),
        format!(
            "unqualified-search-registries = []\n\n[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
            registry.local_addr()?
        ),
    )
}

/// Writes an image's files: busybox, and a link to it for each of its commands.
fn image(archive: &Path) -> io::Result<()> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|file| Path::new(file).exists())
        .unwrap_or("/bin/busybox");
    let commands = Command::new(busybox).arg("--list").output()?.stdout;
    let mut tar = tar::Builder::new(fs::File::create(archive)?);
    let header = |kind, mode| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(0);
        header
    };
    // Without capabilities root cannot write to a directory whose mode forbids it.
    let directories = [
        ("./", 0o755),
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("tmp/", 0o1777),
    ];
    for (name, mode) in directories {
        let mut header = header(tar::EntryType::Directory, mode);
        tar.append_data(&mut header, name, io::empty())?;
    }
    let mut program = fs::File::open(busybox)?;
    tar.append_file("bin/busybox", &mut program)?;
    for command in String::from_utf8_lossy(&commands).lines() {
        if command != "busybox" {
            let mut header = header(tar::EntryType::Symlink, 0o777);
            tar.append_link(&mut header, format!("bin/{command}"), "busybox")?;
        }
    }
    let users = b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n";
    let mut header = header(tar::EntryType::Regular, 0o644);
    header.set_size(users.len() as u64);
    tar.append_data(&mut header, "etc/passwd", &users[..])?;
    tar.finish()
}
