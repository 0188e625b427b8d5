//! The mark that the processes of one invocation carry, and the search for those that are left.
//!
//! Every program gets the variable [`NAME`] with a value that no other invocation has, and what it
//! starts inherits it, whatever group or session that goes to. Orphans become children of this
//! process (`PR_SET_CHILD_SUBREAPER`), so that a look at its children tells whether anything is
//! left, and only then is all of `/proc` read. What must stay true:
//!
//! - Only processes with the mark are ended: those of other steps, and of the rest of the host, are
//!   never hit. A signal goes through a pidfd that was opened before the mark was read, so that it
//!   cannot reach another process that has got the same id since.
//! - The mark of a Vox that runs in a step of another Vox begins with that step's mark, so that the
//!   outer one finds the inner one's processes too.
//!
//! A process that has left its group *and* changed its environment is not found. Where there is no
//! `/proc` (macOS), processes that have left their group are not.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The variable that holds the mark.
pub const NAME: &str = "VOX_STEP_ID";

/// The mark of one invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// A mark that no other invocation has.
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let own = format!("{}{:x}", host(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(match std::env::var(NAME) {
            Ok(outer) if !outer.is_empty() => format!("{outer}/{own}"),
            _ => own,
        })
    }

    /// The value of [`NAME`].
    pub fn value(&self) -> &str {
        &self.0
    }

    /// Whether an environment, as `/proc` shows it, has this mark or one that begins with it.
    #[cfg(target_os = "linux")]
    fn is_in(&self, environment: &[u8]) -> bool {
        let mut variables = environment.split(|byte| *byte == 0);
        variables.any(|variable| {
            let rest = variable
                .strip_prefix(NAME.as_bytes())
                .and_then(|rest| rest.strip_prefix(b"="))
                .and_then(|rest| rest.strip_prefix(self.0.as_bytes()));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        })
    }
}

/// What every mark of this process contains, and none of another: its id, when it began to run
/// programs, and a full stop.
pub fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_nanos();
        format!("vox-{:x}-{now:x}.", std::process::id())
    })
}

#[cfg(target_os = "linux")]
pub use linux::{adopt_orphans, end_strays, has_members};

/// Nothing is adopted here, and nothing is found.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    pub fn adopt_orphans() {}

    pub fn end_strays(_: &super::Mark, _: rustix::process::Pid, _: bool) -> usize {
        0
    }

    pub fn has_members(_: &super::Mark, _: rustix::process::Pid) -> bool {
        false
    }
}
#[cfg(not(target_os = "linux"))]
pub use elsewhere::{adopt_orphans, end_strays, has_members};

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashSet;
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::sync::Once;
    use std::time::{Duration, Instant};
    use std::{io, thread};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpgid, getpid, getsid, pidfd_open,
        pidfd_send_signal, set_child_subreaper, waitid,
    };

    use super::Mark;
    use crate::guard;

    /// How often `/proc` is read at most, for processes that start others faster than they are ended.
    const PASSES: usize = 100;
    /// How long a process that was killed may take to end.
    const KILLED: Duration = Duration::from_secs(1);
    /// How long a process may take to become another program.
    const STARTED: Duration = Duration::from_millis(100);

    /// Makes orphans of this process's descendants its own children.
    pub fn adopt_orphans() {
        static ONCE: Once = Once::new();
        // A system that does not know this leaves orphans to its first process; `end_strays` finds
        // them there when it reads all of `/proc`.
        ONCE.call_once(|| {
            let _ = set_child_subreaper(Some(getpid()));
        });
    }

    /// Ends what carries the mark outside of `group`, and answers how many processes that were. All
    /// of `/proc` is read where `thorough`, and where a child has the mark.
    pub fn end_strays(mark: &Mark, group: Pid, mut thorough: bool) -> usize {
        let mut seen = HashSet::new();
        for _ in 0..PASSES {
            let Some(children) = adopted() else {
                // Children are not told here (a kernel without CONFIG_PROC_CHILDREN).
                thorough = true;
                break;
            };
            let fresh: Vec<Pid> = children
                .into_iter()
                .filter(|pid| seen.insert(*pid))
                .collect();
            if fresh.is_empty() {
                break;
            }
            for child in fresh {
                match look(child, mark) {
                    Child::Stray => thorough = true,
                    Child::Dead => reap(child),
                    Child::Other => {}
                }
            }
            if thorough {
                break;
            }
        }
        let mut ended = 0;
        for _ in 0..PASSES {
            if !thorough {
                break;
            }
            let found = end_marked(mark, group);
            if found == 0 {
                break;
            }
            ended += found;
        }
        ended
    }

    /// Whether a process of `group` carries the mark and has not ended.
    pub fn has_members(mark: &Mark, group: Pid) -> bool {
        processes().any(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ"));
            environment.is_ok_and(|environment| mark.is_in(&environment))
                && getpgid(Some(pid)) == Ok(group)
        })
    }

    /// Every process that there is.
    fn processes() -> impl Iterator<Item = Pid> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| pid(entry.file_name().to_str()?))
    }

    /// What a child of this process is.
    enum Child {
        /// It carries the mark.
        Stray,
        /// An orphan that has ended and waits to be reaped.
        Dead,
        /// Somebody else's.
        Other,
    }

    /// The children of the first thread: those that it started, and every orphan. Programs of steps
    /// that run meanwhile are with the threads that wait for them.
    fn adopted() -> Option<Vec<Pid>> {
        let own = std::process::id();
        let children = fs::read_to_string(format!("/proc/self/task/{own}/children")).ok()?;
        let guard = guard::id();
        let pids = children.split_ascii_whitespace().filter_map(pid);
        Some(pids.filter(|pid| Some(*pid) != guard).collect())
    }

    fn pid(text: &str) -> Option<Pid> {
        Pid::from_raw(text.parse().ok()?)
    }

    fn look(child: Pid, mark: &Mark) -> Child {
        match environment(child) {
            Ok(environment) if mark.is_in(&environment) => Child::Stray,
            Ok(environment) if !environment.is_empty() => Child::Other,
            _ if is_dead_orphan(child) => Child::Dead,
            _ => Child::Other,
        }
    }

    /// The environment of a process. One that is becoming another program has none for a moment, and would pass
    /// for somebody else's; that is waited for.
    fn environment(process: Pid) -> io::Result<Vec<u8>> {
        let until = Instant::now() + STARTED;
        loop {
            let environment = fs::read(format!("/proc/{process}/environ"))?;
            let is_whole = !environment.is_empty() || !is_between_programs(process);
            if is_whole || Instant::now() >= until {
                return Ok(environment);
            }
            thread::yield_now();
        }
    }

    /// Whether a process has left one program and not begun the next: `/proc` says that its environment ends at
    /// 0, which an empty one does not.
    pub(super) fn is_between_programs(process: Pid) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
            return false;
        };
        let Some((_, fields)) = stat.rsplit_once(')') else {
            return false;
        };
        // After the name, the state is the third field of all, and the end of the environment the 51st.
        let mut fields = fields.split_ascii_whitespace();
        let is_alive = fields
            .next()
            .is_some_and(|state| state != "Z" && state != "X");
        is_alive && fields.nth(47) == Some("0")
    }

    /// Whether a child has ended that nobody else can be waiting for. One in the host's own session
    /// may have been started by any part of the host, which will want to know how it ended.
    fn is_dead_orphan(child: Pid) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{child}/stat")) else {
            return false;
        };
        // After the name in parentheses: state, parent, group, session.
        let Some((_, fields)) = stat.rsplit_once(')') else {
            return false;
        };
        let mut fields = fields.split_ascii_whitespace();
        let is_dead = fields.next() == Some("Z");
        let session = fields.nth(2).and_then(pid);
        is_dead && session.is_some() && session != getsid(None).ok()
    }

    fn reap(child: Pid) {
        let _ = waitid(
            WaitId::Pid(child),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
    }

    /// Kills every process that carries the mark, and waits until they have ended. The group is left
    /// to whoever waits for its leader.
    fn end_marked(mark: &Mark, group: Pid) -> usize {
        let marked: Vec<(Pid, OwnedFd)> = processes()
            .filter_map(|pid| Some((pid, kill_marked(pid, mark, group)?)))
            .collect();
        for (pid, process) in &marked {
            let patience = Timespec::try_from(KILLED).ok();
            let _ = poll(
                &mut [PollFd::new(process, PollFlags::IN)],
                patience.as_ref(),
            );
            reap(*pid);
        }
        marked.len()
    }

    /// Kills a process that carries the mark.
    fn kill_marked(pid: Pid, mark: &Mark, group: Pid) -> Option<OwnedFd> {
        let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
        if !mark.is_in(&environ) || getpgid(Some(pid)) == Ok(group) {
            return None;
        }
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Read again: now it is the process behind the pidfd, which nobody else can become.
        let is_marked = mark.is_in(&environment(pid).ok()?);
        (is_marked && pidfd_send_signal(&process, Signal::KILL).is_ok()).then_some(process)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::process::{Command, Stdio};

    use rustix::process::Pid;

    use super::*;

    #[test]
    fn a_mark_is_found_whole_or_as_the_beginning_of_an_inner_one() {
        let mark = Mark("a.1".to_owned());
        for environment in [
            &b"VOX_STEP_ID=a.1\0"[..],
            b"A=b\0VOX_STEP_ID=a.1\0C=d\0",
            b"VOX_STEP_ID=a.1/b.7\0",
        ] {
            assert!(mark.is_in(environment));
        }
        for environment in [
            &b""[..],
            b"VOX_STEP_ID=a.12\0",
            b"XVOX_STEP_ID=a.1\0",
            b"A=VOX_STEP_ID=a.1\0",
            b"VOX_STEP_ID=b/a.1\0",
        ] {
            assert!(!mark.is_in(environment));
        }
    }

    #[test]
    fn a_program_with_an_empty_environment_has_begun() {
        let mut cat = Command::new("/bin/cat")
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, mut output) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
        input.write_all(b"x").unwrap();
        output.read_exact(&mut [0]).unwrap();
        let environment = fs::read(format!("/proc/{}/environ", cat.id())).unwrap();
        assert_eq!(environment, b"");
        assert!(!linux::is_between_programs(Pid::from_child(&cat)));
        drop(input);
        assert!(cat.wait().unwrap().success());
    }

    #[test]
    fn no_two_invocations_have_one_mark() {
        assert_ne!(Mark::new(), Mark::new());
        assert!(Mark::new().value().contains(host()));
    }
}
