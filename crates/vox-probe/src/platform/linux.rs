//! Linux: what `/proc` and `/sys` tell.
//!
//! Every function takes the root that these stand in, so that the recorded files of other machines can
//! be read in a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::CpuDescription;
use crate::hardware::{Caches, Memory, Search, Subject};

/// Cores of ARM by the numbers in `/proc/cpuinfo`, which has no name for them: implementer, part (the
/// Arm Architecture Reference Manual, MIDR_EL1; each core's Technical Reference Manual).
const ARM_CORES: [(u32, u32, &str); 12] = [
    (0x41, 0xd08, "Arm Cortex-A72"),
    (0x41, 0xd0b, "Arm Cortex-A76"),
    (0x41, 0xd0c, "Arm Neoverse N1"),
    (0x41, 0xd40, "Arm Neoverse V1"),
    (0x41, 0xd49, "Arm Neoverse N2"),
    (0x41, 0xd4f, "Arm Neoverse V2"),
    (0x41, 0xd83, "Arm Neoverse V3"),
    (0x41, 0xd8e, "Arm Neoverse N3"),
    (0x61, 0x022, "Apple M1"),
    (0x61, 0x032, "Apple M2"),
    (0xc0, 0xac3, "Ampere-1"),
    (0xc0, 0xac4, "Ampere-1a"),
];

/// The processor, by `/proc/cpuinfo` and the first core's caches.
pub(super) fn cpu(root: &Path, searches: &mut Vec<Search>) -> CpuDescription {
    let mut described = match read(root, "proc/cpuinfo", Subject::Cpu, searches) {
        Some(text) => cpu_information(&text),
        None => CpuDescription::default(),
    };
    if let Some(model) = &described.model {
        searches.push(Search::found(Subject::Cpu, "/proc/cpuinfo", model));
    }
    described.caches = caches(&root.join("sys/devices/system/cpu/cpu0/cache"));
    if described.caches == Caches::default() {
        searches.push(Search::missed(
            Subject::Cpu,
            "/sys/devices/system/cpu/cpu0/cache",
            "it tells of no caches",
        ));
    }
    described
}

/// Blocks of `key : value` lines, one for each logical core.
fn cpu_information(text: &str) -> CpuDescription {
    let field = |block: &str, key: &str| {
        block.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    let cores: Vec<&str> = text
        .split("\n\n")
        .filter(|block| field(block, "processor").is_some())
        .collect();
    let physical: BTreeSet<(String, String)> = cores
        .iter()
        .filter_map(|block| Some((field(block, "physical id")?, field(block, "core id")?)))
        .collect();
    let number = |block: &str, key: &str| {
        let text = field(block, key)?;
        u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    let arm = || {
        let first = cores.first()?;
        let implementer = number(first, "CPU implementer")?;
        let part = number(first, "CPU part")?;
        let known = |core: &&(u32, u32, &str)| (core.0, core.1) == (implementer, part);
        let name = ARM_CORES.iter().find(known).map(|core| core.2.to_owned());
        Some(name.unwrap_or_else(|| format!("Arm core {implementer:#04x}:{part:#05x}")))
    };
    CpuDescription {
        model: cores
            .first()
            .and_then(|block| field(block, "model name"))
            .or_else(arm),
        physical_cores: (!physical.is_empty()).then_some(physical.len()),
        logical_cores: (!cores.is_empty()).then_some(cores.len()),
        caches: Caches::default(),
    }
}

/// The caches in a core's directory, each in a directory `index*`.
fn caches(directory: &Path) -> Caches {
    let mut caches = Caches::default();
    let entries = fs::read_dir(directory).into_iter().flatten();
    for index in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let value = |name: &str| fs::read_to_string(index.join(name)).unwrap_or_default();
        let size = cache_size(value("size").trim());
        match (value("level").trim(), value("type").trim()) {
            ("1", "Data" | "Unified") => caches.l1_data = size,
            ("2", "Data" | "Unified") => caches.l2 = size,
            ("3", "Data" | "Unified") => caches.l3 = size,
            _ => {}
        }
    }
    caches
}

/// `512K` or `8M` in bytes.
fn cache_size(size: &str) -> Option<u64> {
    let (digits, unit) = if let Some(digits) = size.strip_suffix('K') {
        (digits, 1 << 10)
    } else if let Some(digits) = size.strip_suffix('M') {
        (digits, 1 << 20)
    } else {
        (size, 1)
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// The memory, by `/proc/meminfo` and the control groups of this process.
pub(super) fn memory(root: &Path, searches: &mut Vec<Search>) -> Memory {
    let Some(text) = read(root, "proc/meminfo", Subject::Memory, searches) else {
        return Memory::default();
    };
    let field = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        kibibytes.checked_mul(1024)
    };
    let mut memory = Memory {
        total: field("MemTotal:"),
        available: field("MemAvailable:"),
        limit: None,
        limit_source: None,
    };
    searches.push(Search::found(
        Subject::Memory,
        "/proc/meminfo",
        "MemTotal, MemAvailable",
    ));
    for group in groups(root) {
        if memory.total.is_some_and(|total| group.limit >= total) {
            continue;
        }
        if memory.limit.is_none_or(|limit| group.limit < limit) {
            memory.limit = Some(group.limit);
            memory.limit_source = Some(group.source.clone());
        }
        let left = group.limit.saturating_sub(group.used);
        memory.available = Some(memory.available.map_or(left, |free| free.min(left)));
    }
    match (memory.limit, &memory.limit_source) {
        (Some(limit), Some(source)) => {
            let detail = format!("at most {limit} bytes");
            searches.push(Search::found(Subject::Memory, source, detail));
        }
        _ => searches.push(Search::missed(
            Subject::Memory,
            "/proc/self/cgroup",
            "no control group limits this process's memory",
        )),
    }
    memory
}

/// A control group that limits memory.
struct Group {
    limit: u64,
    /// What is used below the limit and not given back on demand, as files that were read are.
    used: u64,
    source: String,
}

/// The control groups that this process is in, of both versions, with those above each.
///
/// In a container the path may be the host's; what is not there is passed over, and the mount's own root
/// is then the container's group.
fn groups(root: &Path) -> Vec<Group> {
    let Ok(text) = fs::read_to_string(root.join("proc/self/cgroup")) else {
        return Vec::new();
    };
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (mounts, files): (&[&str], _) = if controllers.is_empty() {
            (&["sys/fs/cgroup", "sys/fs/cgroup/unified"], &VERSION_2)
        } else if controllers.split(',').any(|name| name == "memory") {
            (&["sys/fs/cgroup/memory"], &VERSION_1)
        } else {
            continue;
        };
        for mount in mounts {
            let below = Path::new(path.trim_start_matches('/'));
            let above = below.ancestors().filter_map(|group| {
                let directory = Path::new(mount).join(group);
                files.read(root, &directory)
            });
            groups.extend(above);
        }
    }
    groups
}

/// How the files of a control group are called (Linux, `Documentation/admin-guide/cgroup-v1/memory.rst`
/// and `cgroup-v2.rst`).
struct GroupFiles {
    limit: &'static str,
    used: &'static str,
    inactive: &'static str,
}

const VERSION_1: GroupFiles = GroupFiles {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    inactive: "total_inactive_file",
};

const VERSION_2: GroupFiles = GroupFiles {
    limit: "memory.max",
    used: "memory.current",
    inactive: "inactive_file",
};

impl GroupFiles {
    /// The group in a directory; `None` where it sets no limit.
    fn read(&self, root: &Path, directory: &Path) -> Option<Group> {
        let text = |name: &str| fs::read_to_string(root.join(directory).join(name)).ok();
        let limit = text(self.limit)?.trim().parse().ok()?;
        let used: u64 = text(self.used)?.trim().parse().ok()?;
        let inactive = text("memory.stat").and_then(|statistics| {
            statistics.lines().find_map(|line| {
                let value = line.strip_prefix(self.inactive)?.strip_prefix(' ')?;
                value.parse::<u64>().ok()
            })
        });
        Some(Group {
            limit,
            used: used.saturating_sub(inactive.unwrap_or(0)),
            source: format!("/{}", directory.join(self.limit).display()),
        })
    }
}

/// What `/etc/ld.so.conf` and the files that it includes name, then the standard directories.
pub(super) fn library_directories(root: &Path) -> Vec<PathBuf> {
    let mut directories = linker_configuration(root, &root.join("etc/ld.so.conf"), 0);
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let standard = [
        PathBuf::from("/lib").join(&triplet),
        PathBuf::from("/usr/lib").join(&triplet),
        "/lib64".into(),
        "/usr/lib64".into(),
        "/lib".into(),
        "/usr/lib".into(),
        // Where Windows puts the driver's libraries for Linux programs.
        "/usr/lib/wsl/lib".into(),
    ];
    directories.extend(standard);
    directories
}

/// Directories of one configuration file of the linker; `include` takes a pattern whose last part may
/// hold one `*`. Includes nest four deep at most.
fn linker_configuration(root: &Path, file: &Path, depth: usize) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let text = fs::read_to_string(file).unwrap_or_default();
    for line in text.lines().map(str::trim) {
        if let Some(pattern) = line.strip_prefix("include ") {
            if depth < 4 {
                for included in matching(&root.join(pattern.trim().trim_start_matches('/'))) {
                    directories.extend(linker_configuration(root, &included, depth + 1));
                }
            }
        } else if let Some(directory) = line.split(['#', ' ', '\t']).next()
            && directory.starts_with('/')
        {
            directories.push(PathBuf::from(directory));
        }
    }
    directories
}

/// The files that a pattern names, sorted.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let Some((begin, end)) = name.split_once('*') else {
        return vec![pattern.to_owned()];
    };
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
        })
        .collect();
    files.sort();
    files
}

/// A file's text; where it cannot be read, a search that says so.
fn read(root: &Path, name: &str, subject: Subject, searches: &mut Vec<Search>) -> Option<String> {
    match fs::read_to_string(root.join(name)) {
        Ok(text) => Some(text),
        Err(error) => {
            searches.push(Search::missed(subject, &format!("/{name}"), error));
            None
        }
    }
}

#[cfg(test)]
mod tests;
