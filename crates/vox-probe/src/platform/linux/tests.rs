//! Recorded machines, and control groups as they come.

use std::fs;

use super::*;

/// A root with these files.
fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// A machine whose files are in `tests/machines`.
fn recorded(name: &str) -> PathBuf {
    let machines = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines");
    machines.join(name)
}

const MEMORY: &str = "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:   12582912 kB\n";
const GIB: u64 = 1 << 30;

#[test]
fn a_recorded_epyc_in_a_version_1_group_without_a_limit() {
    let root = recorded("amd-epyc-cgroup-v1");
    let mut searches = Vec::new();
    let described = cpu(&root, &mut searches);
    assert_eq!(described.model.as_deref(), Some("AMD EPYC"));
    assert_eq!(described.physical_cores, Some(2));
    assert_eq!(described.logical_cores, Some(2));
    let caches = Caches {
        l1_data: Some(32 << 10),
        l2: Some(512 << 10),
        l3: Some(8 << 20),
    };
    assert_eq!(described.caches, caches);
    let memory = memory(&root, &mut searches);
    assert_eq!(memory.total, Some(24_683_656 * 1024));
    assert_eq!(memory.available, Some(20_501_396 * 1024));
    assert_eq!(memory.limit, None);
    let last = searches.last().unwrap();
    assert_eq!(last.detail, "no control group limits this process's memory");
}

#[test]
fn an_arm_machine_has_the_name_of_its_core() {
    let mut searches = Vec::new();
    let described = cpu(&recorded("arm-neoverse"), &mut searches);
    assert_eq!(described.model.as_deref(), Some("Arm Neoverse N1"));
    assert_eq!(described.physical_cores, None);
    assert_eq!(described.logical_cores, Some(2));
    assert_eq!(searches[0].detail, "Arm Neoverse N1");
}

#[test]
fn an_arm_core_that_nobody_named_has_its_numbers() {
    let text = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xfff\n";
    let described = cpu_information(text);
    assert_eq!(described.model.as_deref(), Some("Arm core 0x41:0xfff"));
}

#[test]
fn the_least_limit_of_the_groups_above_counts_in_version_2() {
    let root = root(&[
        ("proc/meminfo", MEMORY),
        ("proc/self/cgroup", "0::/user/session/job\n"),
        ("sys/fs/cgroup/user/session/job/memory.max", "max\n"),
        ("sys/fs/cgroup/user/session/job/memory.current", "1000\n"),
        ("sys/fs/cgroup/user/session/memory.max", "8589934592\n"),
        ("sys/fs/cgroup/user/session/memory.current", "7516192768\n"),
        (
            "sys/fs/cgroup/user/session/memory.stat",
            "anon 5\ninactive_file 2147483648\nactive_file 1\n",
        ),
        ("sys/fs/cgroup/user/memory.max", "10737418240\n"),
        ("sys/fs/cgroup/user/memory.current", "0\n"),
    ]);
    let memory = memory(root.path(), &mut Vec::new());
    assert_eq!(memory.total, Some(16 * GIB));
    assert_eq!(memory.limit, Some(8 * GIB));
    assert_eq!(memory.most(), Some(8 * GIB));
    // 8 GiB less the 7 that are used, of which 2 are given back on demand.
    assert_eq!(memory.available, Some(3 * GIB));
    let source = "/sys/fs/cgroup/user/session/memory.max";
    assert_eq!(memory.limit_source.as_deref(), Some(source));
}

#[test]
fn in_a_container_the_root_of_the_mount_is_its_own_group() {
    let root = root(&[
        ("proc/meminfo", MEMORY),
        ("proc/self/cgroup", "0::/docker/0123456789abcdef\n"),
        ("sys/fs/cgroup/memory.max", "2147483648\n"),
        ("sys/fs/cgroup/memory.current", "1073741824\n"),
    ]);
    let memory = memory(root.path(), &mut Vec::new());
    assert_eq!(memory.limit, Some(2 * GIB));
    assert_eq!(memory.available, Some(GIB));
}

#[test]
fn a_group_of_version_1_limits_too_and_may_be_used_up() {
    let root = root(&[
        ("proc/meminfo", MEMORY),
        ("proc/self/cgroup", "5:cpu,memory:/job\n0::/\n"),
        (
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes",
            "1073741824\n",
        ),
        (
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes",
            "1073745920\n",
        ),
    ]);
    let memory = memory(root.path(), &mut Vec::new());
    assert_eq!(memory.limit, Some(GIB));
    assert_eq!(memory.available, Some(0));
}

#[test]
fn a_limit_above_the_machines_memory_is_none() {
    let root = root(&[
        ("proc/meminfo", MEMORY),
        ("proc/self/cgroup", "0::/\n"),
        ("sys/fs/cgroup/memory.max", "107374182400\n"),
        ("sys/fs/cgroup/memory.current", "1073741824\n"),
    ]);
    let memory = memory(root.path(), &mut Vec::new());
    assert_eq!(memory.limit, None);
    assert_eq!(memory.available, Some(12 * GIB));
}

#[test]
fn what_cannot_be_read_is_named() {
    let root = root(&[]);
    let mut searches = Vec::new();
    assert_eq!(cpu(root.path(), &mut searches), CpuDescription::default());
    assert_eq!(memory(root.path(), &mut searches), Memory::default());
    let missed: Vec<_> = searches
        .iter()
        .filter(|search| !search.found)
        .map(|search| search.looked_for.as_str())
        .collect();
    let files = [
        "/proc/cpuinfo",
        "/sys/devices/system/cpu/cpu0/cache",
        "/proc/meminfo",
    ];
    assert_eq!(missed, files);
}

#[test]
fn the_linkers_configuration_is_followed_into_what_it_includes() {
    let root = root(&[
        (
            "etc/ld.so.conf",
            "# libraries\ninclude /etc/ld.so.conf.d/*.conf\n/opt/last\n",
        ),
        ("etc/ld.so.conf.d/b.conf", "/opt/b\n"),
        (
            "etc/ld.so.conf.d/a.conf",
            "/opt/a # no comment here\n/opt/a2\n",
        ),
        ("etc/ld.so.conf.d/c.txt", "/opt/c\n"),
        ("etc/loop.conf", "include /etc/loop.conf\n"),
    ]);
    let directories = library_directories(root.path());
    let named: Vec<_> = directories
        .iter()
        .take(4)
        .map(|path| path.to_str().unwrap())
        .collect();
    assert_eq!(named, ["/opt/a", "/opt/a2", "/opt/b", "/opt/last"]);
    let file = root.path().join("etc/loop.conf");
    assert!(linker_configuration(root.path(), &file, 0).is_empty());
}
