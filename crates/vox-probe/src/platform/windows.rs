//! Windows: what its management instrumentation tells, asked through PowerShell.

use super::CpuDescription;
use crate::hardware::{Caches, Memory};

/// Prints `key=value` lines of all processors together.
pub(super) const CPU: [&str; 5] = [
    "powershell.exe",
    "-NoProfile",
    "-NonInteractive",
    "-Command",
    "$c = @(Get-CimInstance Win32_Processor); \
     \"model=$($c[0].Name)\"; \
     \"physical=$(($c | Measure-Object NumberOfCores -Sum).Sum)\"; \
     \"logical=$(($c | Measure-Object NumberOfLogicalProcessors -Sum).Sum)\"",
];

/// Prints `key=value` lines, in kibibytes.
pub(super) const MEMORY: [&str; 5] = [
    "powershell.exe",
    "-NoProfile",
    "-NonInteractive",
    "-Command",
    "$o = Get-CimInstance Win32_OperatingSystem; \
     \"total=$($o.TotalVisibleMemorySize)\"; \"free=$($o.FreePhysicalMemory)\"",
];

fn value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// The processor, by [`CPU`]. The instrumentation knows the caches of all cores together alone, which
/// says nothing of one.
pub(super) fn cpu(text: &str) -> CpuDescription {
    let count = |key| value(text, key)?.parse().ok();
    CpuDescription {
        model: value(text, "model").map(str::to_owned),
        physical_cores: count("physical"),
        logical_cores: count("logical"),
        caches: Caches::default(),
    }
}

/// The memory, by [`MEMORY`].
pub(super) fn memory(text: &str) -> Memory {
    let size = |key| value(text, key)?.parse::<u64>().ok()?.checked_mul(1024);
    Memory {
        total: size("total"),
        available: size("free"),
        limit: None,
        limit_source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_windows_machine_is_described_by_what_powershell_prints() {
        let text =
            "model=Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz \r\nphysical=6\r\nlogical=12\r\n";
        let described = cpu(text);
        let model = "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz";
        assert_eq!(described.model.as_deref(), Some(model));
        assert_eq!(described.physical_cores, Some(6));
        assert_eq!(described.logical_cores, Some(12));
        let memory = memory("total=16605212\r\nfree=8312345\r\n");
        assert_eq!(memory.total, Some(16_605_212 * 1024));
        assert_eq!(memory.available, Some(8_312_345 * 1024));
    }

    #[test]
    fn an_empty_answer_describes_nothing() {
        assert_eq!(cpu("model=\r\nphysical=\r\n"), CpuDescription::default());
        assert_eq!(memory(""), Memory::default());
    }
}
