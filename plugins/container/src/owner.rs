//! Whose a container is: labels that say which run, step and host process it belongs to, and
//! whether that process still lives.
//!
//! What must stay true: a container is called left over only when its owner certainly is gone. Of
//! an owner on another machine, or in another namespace of processes, nothing is known.

use std::collections::HashMap;
use std::fs;

use vox_plugin::step::Invocation;

/// The run.
pub const RUN: &str = "dev.vox.run";
/// The step's key.
const STEP: &str = "dev.vox.step";
/// The idempotency key: the same for every try of the step.
pub const KEY: &str = "dev.vox.key";
/// The machine, and the namespace that its process ids are of.
const HOST: &str = "dev.vox.host";
/// The machine's boot.
const BOOT: &str = "dev.vox.boot";
/// The host process: its id, and when it started.
const PROCESS: &str = "dev.vox.process";

/// The labels of a container that this process makes for a step.
pub fn labels(invocation: &Invocation) -> HashMap<String, String> {
    let me = Process::this();
    [
        (RUN, invocation.run.clone()),
        (STEP, invocation.step.clone()),
        (KEY, invocation.idempotency_key.clone()),
        (HOST, me.host),
        (BOOT, me.boot),
        (PROCESS, me.process),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Whether a container with these labels is left over from an earlier try of the step with `key`,
/// or from a host process that is gone.
pub fn is_left_over(labels: &HashMap<String, String>, key: &str) -> bool {
    let label = |name| labels.get(name).map(String::as_str).unwrap_or_default();
    if label(KEY) == key && !key.is_empty() {
        return true;
    }
    let me = Process::this();
    if me.host.is_empty() || label(HOST) != me.host {
        return false;
    }
    if label(BOOT) != me.boot {
        return !label(BOOT).is_empty() && !me.boot.is_empty();
    }
    is_gone(label(PROCESS))
}

struct Process {
    host: String,
    boot: String,
    process: String,
}

impl Process {
    fn this() -> Self {
        let name = rustix::system::uname();
        let name = name.nodename().to_string_lossy().into_owned();
        // Where there are namespaces, a process id means nothing outside its own.
        let namespace = fs::read_link("/proc/self/ns/pid")
            .map(|link| link.to_string_lossy().into_owned())
            .unwrap_or_default();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let pid = std::process::id();
        Self {
            host: format!("{name} {namespace}").trim().to_owned(),
            boot: boot.trim().to_owned(),
            process: match start_time(pid) {
                Some(start) => format!("{pid}:{start}"),
                None => pid.to_string(),
            },
        }
    }
}

/// Whether the process of a label has ended. One whose id another process has now ended too, where
/// the time of its start can be told.
fn is_gone(process: &str) -> bool {
    let (id, start) = match process.split_once(':') {
        Some((id, start)) => (id, Some(start)),
        None => (process, None),
    };
    let Some(pid) = id.parse().ok().and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return true;
    }
    let now = start_time(pid.as_raw_nonzero().get().unsigned_abs());
    matches!((start, now), (Some(start), Some(now)) if start != now)
}

/// When a process started, in ticks since the boot; none where there is no `/proc`.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; field 22 of the line is the 20th after it.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine(change: &[(&str, &str)]) -> HashMap<String, String> {
        let me = Process::this();
        let mut labels: HashMap<String, String> = [
            (KEY, "another".to_owned()),
            (HOST, me.host),
            (BOOT, me.boot),
            (PROCESS, me.process),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        for (key, value) in change {
            labels.insert((*key).to_owned(), (*value).to_owned());
        }
        labels
    }

    #[test]
    fn what_a_living_process_owns_is_not_left_over() {
        assert!(!is_left_over(&mine(&[]), "key"));
    }

    #[test]
    fn an_earlier_try_of_the_step_is_left_over() {
        assert!(is_left_over(&mine(&[]), "another"));
    }

    #[test]
    fn what_a_process_that_has_ended_owns_is_left_over() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().to_string();
        child.wait().unwrap();
        assert!(is_left_over(&mine(&[(PROCESS, &pid)]), "key"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_id_that_another_process_has_now_does_not_keep_a_container() {
        let reused = format!("{}:1", std::process::id());
        assert!(is_left_over(&mine(&[(PROCESS, &reused)]), "key"));
    }

    #[test]
    fn of_another_machine_nothing_is_known() {
        let labels = mine(&[(HOST, "elsewhere"), (PROCESS, "999999999")]);
        assert!(!is_left_over(&labels, "key"));
        assert!(!is_left_over(&HashMap::new(), ""));
    }
}
