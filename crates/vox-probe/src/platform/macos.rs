//! macOS: what its programs print of the machine.

use serde_json::Value;

use super::CpuDescription;
use crate::hardware::{Caches, Memory, MetalDevice, Search, Subject};
use crate::tier;

/// Prints `name: value` lines; the names that a machine does not have are errors beside them.
pub(super) const SYSCTL: [&str; 11] = [
    "/usr/sbin/sysctl",
    "machdep.cpu.brand_string",
    "hw.physicalcpu",
    "hw.logicalcpu",
    "hw.memsize",
    "hw.l1dcachesize",
    "hw.l2cachesize",
    "hw.l3cachesize",
    "hw.perflevel0.l1dcachesize",
    "hw.perflevel0.l2cachesize",
    "iogpu.wired_limit_mb",
];

/// Prints pages of memory by what they are used for.
pub(super) const VM_STAT: [&str; 1] = ["/usr/bin/vm_stat"];

/// Prints graphics devices.
pub(super) const DISPLAYS: [&str; 3] = ["/usr/sbin/system_profiler", "-json", "SPDisplaysDataType"];

/// The value after `key:` at the begin of a line.
fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(str::trim)
}

fn number(text: &str, key: &str) -> Option<u64> {
    value(text, key)?.trim_end_matches('.').parse().ok()
}

/// The processor, by [`SYSCTL`]; of a machine with two kinds of cores the caches are the fast ones'.
pub(super) fn cpu(text: &str) -> CpuDescription {
    let count = |key| usize::try_from(number(text, key)?).ok();
    let cache = |level: &str| {
        number(text, &format!("hw.perflevel0.{level}"))
            .or_else(|| number(text, &format!("hw.{level}")))
    };
    CpuDescription {
        model: value(text, "machdep.cpu.brand_string").map(str::to_owned),
        physical_cores: count("hw.physicalcpu"),
        logical_cores: count("hw.logicalcpu"),
        caches: Caches {
            l1_data: cache("l1dcachesize"),
            l2: cache("l2cachesize"),
            l3: cache("l3cachesize").filter(|size| *size > 0),
        },
    }
}

/// The memory, by [`SYSCTL`] and [`VM_STAT`]: free, inactive and speculative pages are to be had.
pub(super) fn memory(sizes: &str, pages: &str) -> Memory {
    let page = pages
        .split_once("page size of ")
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<u64>().ok());
    let count = |kind: &str| number(pages, &format!("Pages {kind}")).unwrap_or(0);
    let available = page.map(|page| {
        let pages = count("free") + count("inactive") + count("speculative");
        pages.saturating_mul(page)
    });
    Memory {
        total: number(sizes, "hw.memsize"),
        available,
        limit: None,
        limit_source: None,
    }
}

/// The devices with Metal, by [`DISPLAYS`]; `limits` is what [`SYSCTL`] prints.
///
/// Of a unified memory the system lets the device keep `iogpu.wired_limit_mb`, or where that is 0, as it
/// is unless someone set it, two thirds, and three quarters of more than 36 GiB: what
/// `recommendedMaxWorkingSetSize` answers on such machines.
pub(super) fn metal(
    displays: &str,
    limits: &str,
    memory: Option<u64>,
    searches: &mut Vec<Search>,
) -> Vec<MetalDevice> {
    let parsed: Value = serde_json::from_str(displays).unwrap_or_default();
    let listed = parsed["SPDisplaysDataType"].as_array();
    let mut devices = Vec::new();
    for entry in listed.into_iter().flatten() {
        let text = |key: &str| entry[key].as_str();
        let Some(name) = text("sppci_model").or_else(|| text("_name")) else {
            continue;
        };
        let family =
            text("spdisplays_mtlgpufamilysupport").or_else(|| text("spdisplays_metalfamily"));
        let Some(family) = family.or_else(|| text("spdisplays_metal")) else {
            searches.push(Search::missed(Subject::Metal, name, "it knows no Metal"));
            continue;
        };
        let own = ["spdisplays_vram", "_spdisplays_vram"];
        let own = own.into_iter().find_map(|key| bytes(text(key)?));
        let unified = text("sppci_bus") == Some("spdisplays_builtin") && own.is_none();
        let Some(memory_total) = own.or_else(|| Some(working_set(memory?, limits))) else {
            searches.push(Search::missed(
                Subject::Metal,
                name,
                "its memory is unknown",
            ));
            continue;
        };
        searches.push(Search::found(Subject::Metal, name, family));
        devices.push(MetalDevice {
            name: name.to_owned(),
            cores: text("sppci_cores").and_then(|cores| cores.parse().ok()),
            version: family
                .strip_prefix("spdisplays_metal")
                .filter(|version| !version.is_empty())
                .map(|version| format!("Metal {version}")),
            unified,
            memory_total,
            tier: tier::metal(memory_total),
        });
    }
    if devices.is_empty() {
        searches.push(Search::missed(
            Subject::Metal,
            DISPLAYS[0],
            "it lists no device with Metal",
        ));
    }
    devices
}

fn working_set(memory: u64, limits: &str) -> u64 {
    match number(limits, "iogpu.wired_limit_mb") {
        Some(megabytes) if megabytes > 0 => (megabytes << 20).min(memory),
        _ if memory > 36 << 30 => memory / 4 * 3,
        _ => memory / 3 * 2,
    }
}

/// `8 GB` or `1536 MB` in bytes.
fn bytes(size: &str) -> Option<u64> {
    let (number, unit) = size.split_once(' ')?;
    let unit = match unit {
        "GB" => 1 << 30,
        "MB" => 1 << 20,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const M3_MAX: &str = "machdep.cpu.brand_string: Apple M3 Max
hw.physicalcpu: 16
hw.logicalcpu: 16
hw.memsize: 68719476736
hw.l1dcachesize: 65536
hw.l2cachesize: 4194304
hw.perflevel0.l1dcachesize: 131072
hw.perflevel0.l2cachesize: 16777216
iogpu.wired_limit_mb: 0
";

    const PAGES: &str = "Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               100000.
Pages active:                             900000.
Pages inactive:                           800000.
Pages speculative:                         50000.
Pages wired down:                         200000.
";

    const DISPLAYS_M3: &str = r#"{"SPDisplaysDataType": [{"_name": "Apple M3 Max",
        "spdisplays_mtlgpufamilysupport": "spdisplays_metal3", "spdisplays_vendor": "sppci_vendor_Apple",
        "sppci_bus": "spdisplays_builtin", "sppci_cores": "40", "sppci_device_type": "spdisplays_gpu",
        "sppci_model": "Apple M3 Max"}]}"#;

    const DISPLAYS_INTEL: &str = r#"{"SPDisplaysDataType": [
        {"_name": "kHW_AMDRadeonPro5500MItem", "spdisplays_mtlgpufamilysupport": "spdisplays_metal3",
         "spdisplays_vram": "8 GB", "sppci_bus": "spdisplays_pcie_device", "sppci_model": "AMD Radeon Pro 5500M"},
        {"_name": "old", "sppci_model": "GeForce 9400", "spdisplays_vram": "256 MB"}]}"#;

    #[test]
    fn a_mac_is_described_by_what_its_programs_print() {
        let described = cpu(M3_MAX);
        assert_eq!(described.model.as_deref(), Some("Apple M3 Max"));
        assert_eq!(described.physical_cores, Some(16));
        assert_eq!(described.caches.l1_data, Some(128 << 10));
        assert_eq!(described.caches.l3, None);
        let memory = memory(M3_MAX, PAGES);
        assert_eq!(memory.total, Some(64 << 30));
        assert_eq!(memory.available, Some(950_000 * 16_384));
    }

    #[test]
    fn a_metal_device_may_keep_a_part_of_the_unified_memory() {
        let mut searches = Vec::new();
        let devices = metal(DISPLAYS_M3, M3_MAX, Some(64 << 30), &mut searches);
        let [device] = devices.as_slice() else {
            panic!("{devices:?}");
        };
        assert_eq!(device.name, "Apple M3 Max");
        assert_eq!(device.cores, Some(40));
        assert_eq!(device.version.as_deref(), Some("Metal 3"));
        assert!(device.unified);
        assert_eq!(device.memory_total, 48 << 30);
        assert_eq!(device.tier, 52);
        let raised = "iogpu.wired_limit_mb: 57344\n";
        let devices = metal(DISPLAYS_M3, raised, Some(64 << 30), &mut searches);
        assert_eq!(devices[0].memory_total, 56 << 30);
    }

    #[test]
    fn a_device_with_memory_of_its_own_is_not_unified_and_one_without_metal_is_named() {
        let mut searches = Vec::new();
        let devices = metal(DISPLAYS_INTEL, "", Some(16 << 30), &mut searches);
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].memory_total, 8 << 30);
        assert!(!devices[0].unified);
        let missed: Vec<_> = searches.iter().filter(|search| !search.found).collect();
        assert_eq!(missed[0].looked_for, "GeForce 9400");
        assert_eq!(missed[0].detail, "it knows no Metal");
    }

    #[test]
    fn an_answer_that_is_no_json_is_no_device() {
        let mut searches = Vec::new();
        assert!(metal("Killed", "", Some(1 << 34), &mut searches).is_empty());
        assert_eq!(searches[0].detail, "it lists no device with Metal");
    }
}
