//! One look at all running processes, and what is worked out from two.

use std::collections::HashMap;
use std::thread;

use serde::Serialize;
use vox_contract::PluginId;
use vox_host::Usage;
use vox_host::control::{self, ControlError, PluginReport, Process, ProcessReport};
use vox_host::directories::Directories;

use crate::error::Failure;

/// Version of the JSON form of a look.
const LOOK_VERSION: u32 = 1;

/// What all running processes' plugins cost. Its serialised form is documented in the guide
/// `how-to/watch-plugins.md`.
#[derive(Debug, Serialize)]
pub(super) struct Look {
    version: u32,
    /// The processes that answered, by id.
    pub(super) processes: Vec<ProcessLook>,
    /// All plugins of all processes together.
    pub(super) total: Total,
    /// Processes that listen and did not answer.
    pub(super) unreachable: Vec<Unreachable>,
}

/// A process.
#[derive(Debug, Serialize)]
pub(super) struct ProcessLook {
    pub(super) pid: u32,
    pub(super) command: String,
    pub(super) uptime_seconds: f64,
    pub(super) memory_budget: u64,
    pub(super) retained_bytes: u64,
    pub(super) plugins: Vec<PluginLook>,
    /// All plugins of the process together.
    pub(super) total: Total,
}

/// A plugin in a process.
#[derive(Debug, Serialize)]
pub(super) struct PluginLook {
    #[serde(flatten)]
    pub(super) report: PluginReport,
    #[serde(flatten)]
    pub(super) rates: Rates,
}

/// Several plugins together.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Total {
    #[serde(flatten)]
    pub(super) usage: Usage,
    #[serde(flatten)]
    pub(super) rates: Rates,
}

/// What a plugin did since the last look, or since its process began where there was none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(super) struct Rates {
    /// Time inside its code, in percent of one processor.
    pub(super) cpu_percent: f64,
    /// Calls made to it.
    pub(super) calls_per_second: f64,
}

/// A process that did not answer.
#[derive(Debug, Serialize)]
pub(super) struct Unreachable {
    pub(super) pid: u32,
    pub(super) message: String,
}

impl Look {
    /// Whether nothing runs.
    pub(super) fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.unreachable.is_empty()
    }
}

impl Total {
    fn add(&mut self, usage: &Usage, rates: Rates) {
        self.usage.add(usage);
        self.rates.cpu_percent += rates.cpu_percent;
        self.rates.calls_per_second += rates.calls_per_second;
    }
}

/// Remembers the last look.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    /// What a plugin had cost when its process had been up for so many seconds.
    last: HashMap<(u32, PluginId), (f64, Usage)>,
}

impl Watcher {
    /// Looks at all processes at once, so that one that does not answer delays none.
    ///
    /// # Errors
    ///
    /// It cannot be told which processes there are.
    pub(super) fn look(&mut self, directories: &Directories) -> Result<Look, Failure> {
        let processes = control::processes(directories)?;
        let answers = ask_all(&processes, Process::status);
        let mut look = Look {
            version: LOOK_VERSION,
            processes: Vec::new(),
            total: Total::default(),
            unreachable: Vec::new(),
        };
        let mut seen = HashMap::new();
        for (process, answer) in processes.iter().zip(answers) {
            match answer {
                Ok(report) => {
                    let process = self.compare(report, &mut seen);
                    look.total.add(&process.total.usage, process.total.rates);
                    look.processes.push(process);
                }
                Err(ControlError::Gone { .. }) => {}
                Err(error) => look.unreachable.push(Unreachable {
                    pid: process.pid(),
                    message: error.to_string(),
                }),
            }
        }
        self.last = seen;
        Ok(look)
    }

    fn compare(
        &self,
        report: ProcessReport,
        seen: &mut HashMap<(u32, PluginId), (f64, Usage)>,
    ) -> ProcessLook {
        let ProcessReport {
            pid,
            uptime_seconds: up,
            ..
        } = report;
        let mut total = Total::default();
        let plugins = report.plugins.into_iter().map(|report| {
            let key = (pid, report.plugin.clone());
            let rates = rates(self.last.get(&key), up, &report.usage);
            seen.insert(key, (up, report.usage));
            total.add(&report.usage, rates);
            PluginLook { report, rates }
        });
        let plugins = plugins.collect();
        ProcessLook {
            pid,
            command: report.command,
            uptime_seconds: up,
            memory_budget: report.memory_budget,
            retained_bytes: report.retained_bytes,
            plugins,
            total,
        }
    }
}

/// What was done between two looks. One of a process that is up longer than this one was of
/// another process, which had the same id.
fn rates(last: Option<&(f64, Usage)>, up: f64, usage: &Usage) -> Rates {
    let start = (0.0, Usage::default());
    let (since, before) = last.filter(|(last, _)| *last < up).unwrap_or(&start);
    let seconds = up - since;
    if seconds <= 0.0 {
        return Rates::default();
    }
    let busy = usage.guest_time.saturating_sub(before.guest_time);
    let calls = usage.calls.saturating_sub(before.calls);
    Rates {
        cpu_percent: 100.0 * busy.as_secs_f64() / seconds,
        calls_per_second: calls as f64 / seconds,
    }
}

/// Asks every process, all at the same time; answers come in the order of the processes.
pub(in super::super) fn ask_all<A: Send>(
    processes: &[Process],
    ask: impl Fn(&Process) -> A + Sync,
) -> Vec<A> {
    thread::scope(|scope| {
        let asked: Vec<_> = processes
            .iter()
            .map(|process| scope.spawn(|| ask(process)))
            .collect();
        let answers = asked.into_iter().map(|answer| match answer.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        answers.collect()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn usage(calls: u64, busy: u64) -> Usage {
        let mut usage = Usage::default();
        usage.calls = calls;
        usage.guest_time = Duration::from_millis(busy);
        usage
    }

    #[test]
    fn rates_count_from_the_last_look_and_from_the_beginning_without_one() {
        let now = usage(30, 1_500);
        let first = rates(None, 10.0, &now);
        assert_eq!((first.cpu_percent, first.calls_per_second), (15.0, 3.0));
        let next = rates(Some(&(8.0, usage(20, 500))), 10.0, &now);
        assert_eq!((next.cpu_percent, next.calls_per_second), (50.0, 5.0));
    }

    #[test]
    fn another_process_of_the_same_id_is_not_compared_with_the_one_before() {
        let earlier = (1_000.0, usage(1_000_000, 900_000));
        let now = rates(Some(&earlier), 2.0, &usage(4, 100));
        assert_eq!((now.cpu_percent, now.calls_per_second), (5.0, 2.0));
    }
}
