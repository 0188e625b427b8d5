//! A look as people see it: a line for each process, a row for each plugin, and what is wrong.

use std::cmp::Reverse;
use std::fmt;
use std::io::{self, Write};

use anstyle::Style;
use vox_host::lifecycle::State;

use super::Sort;
use super::look::{Look, PluginLook, ProcessLook, Rates};
use crate::output::screen::Size;
use crate::output::style::{BAD, DIM, GOOD, LITERAL, STRONG, WARNING, paint, plain};
use crate::output::table::{Cell, Table};
use crate::output::{bytes, count};

const HEAD: [&str; 16] = [
    "PLUGIN", "PID", "STATE", "INST", "MEMORY", "PEAK", "CPU%", "CPU", "HOST", "CALLS", "CALLS/S",
    "ERRORS", "TRAPS", "IN", "OUT", "DROPPED",
];

/// Columns in the order in which they are given up when there is no room: what remains to the last
/// is the plugin, its state, its memory and its share of the processor.
const GIVEN_UP: [&str; 12] = [
    "DROPPED", "HOST", "OUT", "IN", "PEAK", "TRAPS", "CALLS", "INST", "CPU", "ERRORS", "PID",
    "CALLS/S",
];

/// A look in the room that there is; without bounds where none is given.
pub(super) struct Shown<'a> {
    pub(super) look: &'a Look,
    pub(super) sort: Sort,
    pub(super) room: Option<Size>,
}

impl Shown<'_> {
    /// Writes it.
    pub(super) fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{self}")
    }

    /// Every plugin with its process, in the order that was asked for.
    fn rows(&self) -> Vec<(&ProcessLook, &PluginLook)> {
        let processes = self.look.processes.iter();
        let mut rows: Vec<_> = processes
            .flat_map(|process| process.plugins.iter().map(move |plugin| (process, plugin)))
            .collect();
        // What is equal stays in the order of the names.
        rows.sort_by(|(a_process, a), (b_process, b)| {
            let by_name =
                || (&a.report.plugin, a_process.pid).cmp(&(&b.report.plugin, b_process.pid));
            let by_number = |key: fn(&PluginLook) -> f64| key(b).total_cmp(&key(a));
            let order = match self.sort {
                Sort::Cpu => by_number(|row| row.rates.cpu_percent).then_with(|| {
                    Reverse(a.report.usage.guest_time).cmp(&Reverse(b.report.usage.guest_time))
                }),
                Sort::Memory => by_number(|row| row.report.usage.memory as f64),
                Sort::Calls => by_number(|row| row.rates.calls_per_second).then_with(|| {
                    Reverse(a.report.usage.calls).cmp(&Reverse(b.report.usage.calls))
                }),
                Sort::Name => std::cmp::Ordering::Equal,
            };
            order.then_with(by_name)
        });
        rows
    }

    /// The rows that fit, the sum of all of them, and how many did not fit.
    fn table(&self, lines: usize) -> (Table, usize) {
        let mut table = Table::new(HEAD);
        for column in 3..HEAD.len() {
            table = table.right(column);
        }
        table = table.right(1);
        let rows = self.rows();
        let shown = rows.len().min(lines);
        for (process, PluginLook { report, rates }) in &rows[..shown] {
            let name = Cell::styled(LITERAL, &report.plugin);
            let state = Cell::styled(style_of(report.state), report.state);
            table.row(cells(
                name,
                process.pid.into(),
                state,
                &report.usage,
                *rates,
            ));
        }
        let total = &self.look.total;
        let name = Cell::styled(STRONG, "total");
        table.row(cells(name, "".into(), "".into(), &total.usage, total.rates));
        if let Some(room) = self.room {
            table.fit(room.columns, &GIVEN_UP);
        }
        (table, rows.len() - shown)
    }

    /// What deserves a look: why a plugin does not serve, and reloads that brought nothing.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (process, PluginLook { report, .. }) in self.rows() {
            let who = format!("{} ({})", paint(LITERAL, &report.plugin), process.pid);
            if let Some(reason) = &report.reason {
                let state = paint(style_of(report.state), report.state);
                remarks.push(format!("{who} {state}: {}", plain(reason)));
            }
            if let Some(last) = report.reloads.last()
                && let Some(why) = &last.kept_old
            {
                remarks.push(format!(
                    "{who} {}: {} goes on, as {} {}",
                    paint(WARNING, "not reloaded"),
                    last.from,
                    last.to,
                    paint(DIM, format!("does not do: {}", plain(why)))
                ));
            }
        }
        for process in &self.look.unreachable {
            let warning = paint(WARNING, "warning:");
            remarks.push(format!("{warning} {}", plain(&process.message)));
        }
        remarks
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.look.processes.is_empty() && self.look.unreachable.is_empty() {
            return writeln!(f, "nothing is running any more");
        }
        for process in &self.look.processes {
            let line = head(process);
            writeln!(f, "{}", self.cut(&line))?;
        }
        let remarks = self.remarks();
        // The processes, two empty lines, the titles, the sum, what does not fit, and the remarks.
        let others = self.look.processes.len() + 5 + remarks.len();
        let lines = self
            .room
            .map_or(usize::MAX, |room| room.lines.saturating_sub(others).max(1));
        let (table, left_out) = self.table(lines);
        write!(f, "\n{table}")?;
        if left_out > 0 {
            let more = format!("and {} more", count(left_out, "plugin"));
            writeln!(f, "{}", paint(DIM, more))?;
        }
        if !remarks.is_empty() {
            writeln!(f)?;
        }
        remarks
            .iter()
            .try_for_each(|remark| writeln!(f, "{remark}"))
    }
}

impl Shown<'_> {
    /// A line without escapes in the width that there is.
    fn cut(&self, line: &str) -> String {
        match self.room {
            Some(room) => crate::output::shortened(line.to_owned(), room.columns),
            None => line.to_owned(),
        }
    }
}

/// A process in one line.
fn head(process: &ProcessLook) -> String {
    let ProcessLook {
        pid,
        command,
        uptime_seconds,
        memory_budget,
        retained_bytes,
        total,
        ..
    } = process;
    let mut line = format!(
        "{pid} {}: up {}, memory {} of {}",
        plain(command),
        seconds(*uptime_seconds),
        bytes(total.usage.memory),
        bytes(*memory_budget),
    );
    if *retained_bytes > 0 {
        line.push_str(&format!(", {} left by reloads", bytes(*retained_bytes)));
    }
    line
}

fn cells(
    name: Cell,
    pid: Cell,
    state: Cell,
    usage: &vox_host::Usage,
    rates: Rates,
) -> [Cell; HEAD.len()] {
    let alarming = |number: u64| match number {
        0 => Cell::from(0),
        some => Cell::styled(BAD, some),
    };
    [
        name,
        pid,
        state,
        usage.instances.into(),
        bytes(usage.memory).into(),
        bytes(usage.memory_peak).into(),
        format!("{:.1}", rates.cpu_percent).into(),
        seconds(usage.guest_time.as_secs_f64()).into(),
        seconds(usage.host_time.as_secs_f64()).into(),
        usage.calls.into(),
        format!("{:.0}", rates.calls_per_second).into(),
        alarming(usage.errors),
        alarming(usage.traps),
        bytes(usage.bytes_in).into(),
        bytes(usage.bytes_out).into(),
        alarming(usage.dropped_records),
    ]
}

fn style_of(state: State) -> Style {
    match state {
        State::Active => GOOD,
        State::Error => BAD,
        State::Unloaded => DIM,
        _ => WARNING,
    }
}

/// Seconds in a few letters: `0.52s`, `12.3s`, `5m02s`, `3h20m`.
fn seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{seconds:.2}s"),
        10..60 => format!("{seconds:.1}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_at_every_length() {
        let shown = [0.0, 0.517, 12.34, 302.0, 12_000.0].map(seconds);
        assert_eq!(shown, ["0.00s", "0.52s", "12.3s", "5m02s", "3h20m"]);
    }

    #[test]
    fn every_column_that_is_given_up_is_one_of_the_table() {
        assert!(GIVEN_UP.iter().all(|title| HEAD.contains(title)));
    }
}
