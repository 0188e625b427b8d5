//! What `llama-server` can compute on, as `llama-server --list-devices` tells.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use vox_plugin::compute::{Device, DeviceKind};

/// How long the list may take; a graphics driver may need seconds to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at it.
const NAP: Duration = Duration::from_millis(10);

/// A device, and what llama.cpp calls it.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// As the contract has it.
    pub device: Device,
    /// For `--device`; `none` for the processor.
    pub name: String,
}

/// Finds a program: a path, or a name in `PATH`.
///
/// # Errors
///
/// Where it was looked for, and what to do.
pub fn program(written: &Path) -> Result<PathBuf, String> {
    let shown = written.display();
    if written.components().count() > 1 {
        let path = match (written.strip_prefix("~"), env::home_dir()) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => written.to_owned(),
        };
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!(
                "there is no program {shown}, which `program` names"
            ))
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|directory| directory.join(written))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        format!(
            "there is no `{shown}` in PATH; install llama.cpp, or write where it is as `program` under \
             `[plugin.llama-cpp.config]`"
        )
    })
}

/// Lists the devices, graphics processors first. Where the program does not answer, the processor alone.
pub fn list(program: &Path) -> Vec<Known> {
    let mut devices = parse(&ask(program).unwrap_or_default());
    devices.push(processor());
    devices
}

fn ask(program: &Path) -> io::Result<String> {
    let mut child = Command::new(program)
        .arg("--list-devices")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let begin = Instant::now();
    // The list fits into the pipe, so that it can be read once it is whole.
    while child.try_wait()?.is_none() {
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(NAP);
    }
    match child.stdout.take() {
        Some(mut said) => io::read_to_string(&mut said),
        None => Ok(String::new()),
    }
}

/// Reads lines as `  CUDA0: NVIDIA H200 (143167 MiB, 142636 MiB free)`. What is neither CUDA, Metal nor
/// another machine has no kind in the contract and is left out.
fn parse(list: &str) -> Vec<Known> {
    list.lines().filter_map(known).collect()
}

fn known(line: &str) -> Option<Known> {
    let (name, rest) = line.strip_prefix("  ")?.split_once(": ")?;
    let (maker, memory) = rest.rsplit_once(" (")?;
    let (all, free) = memory.split_once(" MiB, ")?;
    let mebibytes = |text: &str| text.trim().parse::<u64>().ok()?.checked_mul(1 << 20);
    let (kind, id) = if let Some(index) = name.strip_prefix("CUDA") {
        (DeviceKind::Cuda, format!("cuda:{index}"))
    } else if let Some(index) = name.strip_prefix("MTL") {
        (DeviceKind::Metal, format!("metal:{index}"))
    } else if name == "Metal" {
        (DeviceKind::Metal, "metal:0".to_owned())
    } else if name.starts_with("RPC") {
        (DeviceKind::Remote, name.to_owned())
    } else {
        return None;
    };
    Some(Known {
        device: Device {
            id,
            kind,
            name: maker.to_owned(),
            memory: mebibytes(all)?,
            available: mebibytes(free.strip_suffix(" MiB free)")?)?,
        },
        name: name.to_owned(),
    })
}

fn processor() -> Known {
    let told = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
        kibibytes.checked_mul(1024)
    };
    Known {
        device: Device {
            id: "cpu".to_owned(),
            kind: DeviceKind::Cpu,
            name: env::consts::ARCH.to_owned(),
            memory: bytes("MemTotal:").unwrap_or(0),
            available: bytes("MemAvailable:").unwrap_or(0),
        },
        name: "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_llama_server_lists_them() {
        let list = "Available devices:\n  CUDA0: NVIDIA H200 (SXM) (143167 MiB, 142636 MiB free)\n  \
                    BLAS: OpenBLAS (0 MiB, 0 MiB free)\n  MTL0: Apple M2 (100 MiB, 50 MiB free)\n  nonsense\n";
        let devices = parse(list);
        let ids: Vec<_> = devices
            .iter()
            .map(|known| known.device.id.as_str())
            .collect();
        assert_eq!(ids, ["cuda:0", "metal:0"]);
        assert_eq!(devices[0].device.name, "NVIDIA H200 (SXM)");
        assert_eq!(devices[0].device.available, 142_636 << 20);
        assert_eq!(devices[0].name, "CUDA0");
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let why = program(Path::new("no-such-llama-server")).unwrap_err();
        assert!(why.contains("PATH") && why.contains("`program`"), "{why}");
        let why = program(Path::new("/nowhere/llama-server")).unwrap_err();
        assert!(why.contains("/nowhere/llama-server"), "{why}");
        assert!(program(Path::new("sh")).is_ok());
    }
}
