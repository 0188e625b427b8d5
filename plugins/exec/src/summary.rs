//! What a step answers for a program that has ended: its code, the message that people read, and
//! the facts that are recorded.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use vox_plugin::step::Outcome;
use vox_plugin::{Attribute, attribute};

use crate::arguments::Program;
use crate::process::Ended;
use crate::quantity::in_bytes;

/// Signals that end programs, by their names.
const SIGNALS: [(&str, Signal); 17] = [
    ("HUP", Signal::HUP),
    ("INT", Signal::INT),
    ("QUIT", Signal::QUIT),
    ("ILL", Signal::ILL),
    ("TRAP", Signal::TRAP),
    ("ABRT", Signal::ABORT),
    ("BUS", Signal::BUS),
    ("FPE", Signal::FPE),
    ("KILL", Signal::KILL),
    ("USR1", Signal::USR1),
    ("SEGV", Signal::SEGV),
    ("USR2", Signal::USR2),
    ("PIPE", Signal::PIPE),
    ("ALRM", Signal::ALARM),
    ("TERM", Signal::TERM),
    ("XCPU", Signal::XCPU),
    ("XFSZ", Signal::XFSZ),
];

impl Ended {
    /// The code as a shell tells it: 128 and the number of the signal for a program that one ended.
    pub fn code(&self) -> i32 {
        let signalled = || 128 + self.signal().unwrap_or_default();
        self.reaped.status.code().unwrap_or_else(signalled)
    }

    /// The number of the signal that ended the program.
    pub fn signal(&self) -> Option<i32> {
        self.reaped.status.signal()
    }

    /// Whether the program has done what was wanted of it, where `codes` are success. One that went
    /// on writing after its reader had enough ends with SIGPIPE, and has; so has a shell that tells
    /// this of a command.
    pub fn is_success(&self, codes: &[u8]) -> bool {
        let code = self.reaped.status.code();
        let is_good = code.is_some_and(|code| codes.iter().any(|good| i32::from(*good) == code));
        let had_enough = self.unwanted && self.code() == 128 + Signal::PIPE.as_raw();
        !self.excess && (is_good || had_enough)
    }
}

/// What the step answers for a program that has ended.
pub fn outcome(program: &Program, ended: &Ended) -> Outcome {
    let name = &program.name;
    let attributes = facts(ended);
    let strays = match ended.reaped.strays {
        0 => String::new(),
        1 => "; a process that it left running was ended".to_owned(),
        count => format!("; {count} processes that it left running were ended"),
    };
    if ended.is_success(&program.codes) {
        return Outcome {
            code: 0,
            summary: format!("`{name}` succeeded{strays}"),
            attributes,
        };
    }
    let mut lines = vec![format!("`{name}` {}{strays}", manner(program, ended))];
    let (stderr, stdout) = (ended.stderr.lines(), ended.stdout.lines());
    lines.extend(if stderr.is_empty() { stdout } else { stderr });
    Outcome {
        // A program that ended well although it was to fail must not pass for one that succeeded.
        code: if ended.code() == 0 { 1 } else { ended.code() },
        summary: lines.join("\n"),
        attributes,
    }
}

fn facts(ended: &Ended) -> Vec<Attribute> {
    let mut facts = Vec::new();
    if let Some(code) = ended.reaped.status.code() {
        facts.push(attribute("exit-code", code.to_string()));
    }
    if let Some(signal) = ended.signal() {
        facts.push(attribute("signal", signal.to_string()));
    }
    let seconds = format!("{:.6}", ended.reaped.cpu.as_secs_f64());
    facts.push(attribute("cpu-seconds", seconds));
    if let Some(memory) = own_memory(ended.reaped.memory) {
        facts.push(attribute("max-rss", memory.to_string()));
    }
    facts.push(attribute("strays", ended.reaped.strays.to_string()));
    facts
}

/// How a program that failed has ended.
fn manner(program: &Program, ended: &Ended) -> String {
    if ended.excess {
        let limit = in_bytes(program.output_limit);
        return format!(
            "wrote more than {limit} and was ended; raise `output-limit`, or let it write less"
        );
    }
    let Some(signal) = ended.signal() else {
        let code = ended.code();
        return if code == 0 {
            "exited with code 0, which is not among its `codes`".to_owned()
        } else {
            format!("exited with code {code}")
        };
    };
    let name = name_of(signal).map_or(String::new(), |name| format!(" ({name})"));
    let why = why(program, ended, signal);
    format!("was ended by signal {signal}{name}{why}")
}

fn name_of(signal: i32) -> Option<&'static str> {
    let found = SIGNALS.iter().find(|(_, known)| known.as_raw() == signal);
    found.map(|(name, _)| *name)
}

/// What is known of the reason for a signal.
fn why(program: &Program, ended: &Ended, signal: i32) -> String {
    let limits = &program.limits;
    let is = |wanted: Signal| signal == wanted.as_raw();
    let used = ended.reaped.cpu.as_secs();
    if let Some(limit) = limits.cpu
        && (is(Signal::XCPU) || is(Signal::KILL) && used >= limit)
    {
        return format!(": it has used its processor time, `limits.cpu` of {limit}s");
    }
    if let Some(limit) = limits.file_size
        && is(Signal::XFSZ)
    {
        let limit = in_bytes(limit);
        return format!(": a file that it wrote has reached `limits.file-size` of {limit}");
    }
    if is(Signal::KILL) && !ended.killed && memory_has_run_out() {
        return ": the system has run out of memory meanwhile, and ended processes".to_owned();
    }
    String::new()
}

/// The most memory that the program had, if it was the program that had it: a process begins as a
/// copy of this one, and the system counts what it had then. So nothing is known of programs that
/// need less than this process has had.
fn own_memory(most: u64) -> Option<u64> {
    static OURS: AtomicU64 = AtomicU64::new(0);
    if cfg!(not(target_os = "linux")) {
        return Some(most).filter(|most| *most > 0);
    }
    if most > OURS.load(Ordering::Relaxed) {
        OURS.store(
            number("/proc/self/status", "VmHWM:")? * 1024,
            Ordering::Relaxed,
        );
    }
    (most > OURS.load(Ordering::Relaxed)).then_some(most)
}

/// Processes that the system has ended for want of memory, as it was last seen.
static OUT_OF_MEMORY: AtomicU64 = AtomicU64::new(u64::MAX);

/// Remembers how many processes the system has ended for want of memory, the first time.
pub fn note_memory() {
    if OUT_OF_MEMORY.load(Ordering::Relaxed) == u64::MAX {
        OUT_OF_MEMORY.store(out_of_memory(), Ordering::Relaxed);
    }
}

/// Whether the system has ended a process for want of memory since it was last asked.
fn memory_has_run_out() -> bool {
    let now = out_of_memory();
    now > OUT_OF_MEMORY.swap(now, Ordering::Relaxed)
}

fn out_of_memory() -> u64 {
    number("/proc/vmstat", "oom_kill ").unwrap_or_default()
}

/// The number in the line of a file in `/proc` that begins with `name`.
fn number(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
