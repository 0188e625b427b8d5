//! The life of a program: started, fed and drained, watched until it has ended, and never left
//! behind.
//!
//! One loop on the caller's thread waits for the program's end and for its output. Streams that are
//! connected to somebody have threads of their own, because these may wait as long as they like.
//! What must stay true:
//!
//! - When [`run`] returns, nothing of the process group lives, and nothing that carries its mark.
//! - Cancellation is asked for every [`TICK`]; it asks the group to end, and kills it after the
//!   grace that the step sets.
//! - A process that can no longer be found, and holds a pipe open, delays the end by no more than
//!   [`LINGER`] and [`GIVEN_UP`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use vox_plugin::{Error, Result};

use crate::arguments::{Program, Stop};
use crate::group::{Group, Reaped};
use crate::last::LastLines;
use crate::pump::{Budget, Drain, Drained, Drawn, Input, Streams, fill};

/// How often cancellation is asked for.
const TICK: Duration = Duration::from_millis(50);
/// How long what a program leaves running may hold its pipes.
const LINGER: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 2000 });
/// How long pipes are waited for when everything that was found has been killed.
const GIVEN_UP: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 1000 });
/// Reads of one stream before the others get their turn.
const TURN: usize = 16;

/// How a program has ended.
#[derive(Debug)]
pub struct Ended {
    /// What the system says.
    pub reaped: Reaped,
    /// Whether a stream of its output was closed because nobody took it any more.
    pub unwanted: bool,
    /// Whether it wrote more than it may.
    pub excess: bool,
    /// Whether it was killed because it did not end by itself.
    pub killed: bool,
    /// The ends of what it wrote.
    pub stdout: LastLines,
    /// As `stdout`.
    pub stderr: LastLines,
}

/// The streams that a plan has connected to a program.
#[derive(Debug, Default, Clone, Copy)]
pub struct Connected {
    /// A stream comes in.
    pub stdin: bool,
    /// Somebody reads the output.
    pub stdout: bool,
    /// Somebody reads what it says besides.
    pub stderr: bool,
}

/// Runs a program to its end.
///
/// # Errors
///
/// The program cannot be started, a stream of it cannot be moved, or [`Error::Cancelled`].
pub fn run(program: &Program, connected: Connected, streams: &Arc<dyn Streams>) -> Result<Ended> {
    let input = match (connected.stdin, &program.stdin) {
        (true, _) => Some(Input::Port),
        (false, Some(text)) => Some(Input::Text(text.clone().into_bytes())),
        (false, None) => None,
    };
    let mut group = Group::start(program, input.is_some())?;
    let mut pumps = Pumps {
        streams: Arc::clone(streams),
        budget: Arc::new(Budget::new(program.output_limit)),
        ended: Arc::default(),
        abandoned: Arc::default(),
        drains: Vec::new(),
        workers: Vec::new(),
    };
    let mut watch = Watch::new(program.stop, group.ending()?);
    if let (Some(pipe), Some(input)) = (group.child.stdin.take(), input) {
        pumps.feed(pipe.into(), input)?;
    }
    if let Some(pipe) = group.child.stdout.take() {
        pumps.drain(pipe.into(), "stdout", connected.stdout)?;
    }
    if let Some(pipe) = group.child.stderr.take() {
        pumps.drain(pipe.into(), "stderr", connected.stderr)?;
    }
    while !(watch.ended_at.is_some() && pumps.are_over() && watch.is_tidy(&group)) {
        watch.wait(&mut pumps);
        if streams.should_cancel() {
            watch.fail(Error::Cancelled);
        }
        watch.act(&group, &mut pumps);
    }
    let mut reaped = group
        .reap(watch.stopped_at.is_some() || watch.killed_at.is_some())
        .map_err(|error| Error::Failed(format!("`{}`: {error}", program.name)))?;
    if let Some(error) = watch.failure {
        return Err(error);
    }
    reaped.strays += watch.strays;
    Ok(Ended {
        reaped,
        unwanted: watch.unwanted,
        excess: watch.excess,
        killed: watch.killed_at.is_some(),
        stdout: watch.stdout,
        stderr: watch.stderr,
    })
}

/// What a pump has come to.
enum Done {
    /// The input is written.
    Input(Result<()>),
    /// A stream of output has ended.
    Output(&'static str, Result<Drained>, LastLines),
}

/// A pump with a thread of its own. Its pipe is hung up when the thread ends, however it does.
struct Worker {
    ending: OwnedFd,
    thread: JoinHandle<Done>,
}

/// The pumps of a program.
struct Pumps {
    streams: Arc<dyn Streams>,
    budget: Arc<Budget>,
    /// Set when the program has ended: it reads no more.
    ended: Arc<AtomicBool>,
    /// Set when nothing is waited for any more.
    abandoned: Arc<AtomicBool>,
    /// Those that the loop calls itself.
    drains: Vec<(&'static str, Drain)>,
    workers: Vec<Worker>,
}

impl Pumps {
    fn feed(&mut self, pipe: OwnedFd, input: Input) -> Result<()> {
        let (streams, ended) = (Arc::clone(&self.streams), Arc::clone(&self.ended));
        self.spawn(move || Done::Input(fill(pipe, input, &*streams, &ended)))
    }

    fn drain(&mut self, pipe: OwnedFd, port: &'static str, is_read: bool) -> Result<()> {
        let mut drain = Drain::new(pipe, port)?;
        if !is_read {
            self.drains.push((port, drain));
            return Ok(());
        }
        let (streams, budget) = (Arc::clone(&self.streams), Arc::clone(&self.budget));
        let abandoned = Arc::clone(&self.abandoned);
        self.spawn(move || {
            let drained = drain.run(&*streams, &budget, &abandoned);
            Done::Output(port, drained, drain.into_last_lines())
        })
    }

    fn spawn(&mut self, work: impl FnOnce() -> Done + Send + 'static) -> Result<()> {
        let unavailable =
            |error: io::Error| Error::Unavailable(format!("no thread can be started: {error}"));
        let (ending, held) = io::pipe().map_err(unavailable)?;
        let body = move || {
            let _held = held;
            work()
        };
        let thread = thread::Builder::new()
            .name("exec".to_owned())
            .spawn(body)
            .map_err(unavailable)?;
        let ending = ending.into();
        self.workers.push(Worker { ending, thread });
        Ok(())
    }

    fn are_over(&self) -> bool {
        self.drains.is_empty() && self.workers.is_empty()
    }

    /// Draws from the pump at `place`; what it has come to, if it is over.
    fn draw(&mut self, place: usize) -> Option<Done> {
        let (port, drain) = &mut self.drains[place];
        let mut drawn = Ok(Drawn::More);
        for _ in 0..TURN {
            drawn = drain.draw(&*self.streams, &self.budget);
            if drawn != Ok(Drawn::More) {
                break;
            }
        }
        let how = match drawn {
            Ok(Drawn::End(how)) => Ok(how),
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        let port = *port;
        let (_, drain) = self.drains.swap_remove(place);
        Some(Done::Output(port, how, drain.into_last_lines()))
    }

    /// Takes no more from pipes that something holds open.
    fn abandon(&mut self) -> Vec<Done> {
        self.abandoned.store(true, Ordering::Release);
        let over = self.drains.drain(..).map(|(port, drain)| {
            Done::Output(port, Ok(Drained::Abandoned), drain.into_last_lines())
        });
        over.collect()
    }
}

/// What is known of the program, and what is to be done about it.
struct Watch {
    stop: Stop,
    /// Readable when the program has ended.
    ending: OwnedFd,
    ended_at: Option<Instant>,
    unwanted: bool,
    excess: bool,
    /// Why the step cannot be carried out.
    failure: Option<Error>,
    /// When the program was asked to end, and when it was killed.
    stopped_at: Option<Instant>,
    killed_at: Option<Instant>,
    /// Processes besides its own that were killed with it.
    strays: usize,
    stdout: LastLines,
    stderr: LastLines,
}

impl Watch {
    fn new(stop: Stop, ending: OwnedFd) -> Self {
        Self {
            stop,
            ending,
            ended_at: None,
            unwanted: false,
            excess: false,
            failure: None,
            stopped_at: None,
            killed_at: None,
            strays: 0,
            stdout: LastLines::default(),
            stderr: LastLines::default(),
        }
    }

    fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// Waits for something to happen, at most a [`TICK`], and takes note of it.
    fn wait(&mut self, pumps: &mut Pumps) {
        let drains = pumps.drains.iter().map(|(_, drain)| drain.pipe().as_fd());
        let workers = pumps.workers.iter().map(|worker| worker.ending.as_fd());
        let program = self.ended_at.is_none().then(|| self.ending.as_fd());
        let mut polled: Vec<PollFd<'_>> = drains
            .chain(workers)
            .chain(program)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let tick = Timespec::try_from(TICK).ok();
        if poll(&mut polled, tick.as_ref()).is_err() {
            return;
        }
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        let (drains, rest) = ready.split_at(pumps.drains.len());
        let (workers, program) = rest.split_at(pumps.workers.len());
        // From the last to the first, because those that are over are taken out.
        let drains = (0..drains.len()).rev().filter(|place| drains[*place]);
        for place in drains.collect::<Vec<_>>() {
            if let Some(done) = pumps.draw(place) {
                self.take(done);
            }
        }
        let workers = (0..workers.len()).rev().filter(|place| workers[*place]);
        for place in workers.collect::<Vec<_>>() {
            match pumps.workers.swap_remove(place).thread.join() {
                Ok(done) => self.take(done),
                Err(_) => self.fail(Error::Failed(
                    "a stream of the program could not be moved; the log says why".to_owned(),
                )),
            }
        }
        if program == [true] {
            pumps.ended.store(true, Ordering::Release);
            self.ended_at = Some(Instant::now());
        }
    }

    fn take(&mut self, done: Done) {
        let failure = match done {
            Done::Input(result) => result.err(),
            Done::Output(port, result, last) => {
                self.unwanted |= result == Ok(Drained::Unwanted);
                self.excess |= result == Ok(Drained::Excess);
                match port {
                    "stdout" => self.stdout = last,
                    _ => self.stderr = last,
                }
                result.err()
            }
        };
        if let Some(error) = failure {
            self.fail(error);
        }
    }

    /// Whether nothing is left of the group that was asked to end and is still about it.
    fn is_tidy(&self, group: &Group) -> bool {
        self.stopped_at.is_none() || self.killed_at.is_some() || !group.has_members()
    }

    /// Does what is due: asks the program to end, kills it, gives up waiting.
    fn act(&mut self, group: &Group, pumps: &mut Pumps) {
        let now = Instant::now();
        if (self.failure.is_some() || self.excess) && self.stopped_at.is_none() {
            self.stopped_at = Some(now);
            group.signal(self.stop.signal);
        }
        let grace = match self.stop.signal {
            Signal::KILL => Duration::ZERO,
            _ => self.stop.grace,
        };
        // What was asked to end has its grace, also when the program itself was quicker.
        let is_due = match self.stopped_at {
            Some(_) => has_passed(self.stopped_at, grace, now),
            None => has_passed(self.ended_at, LINGER, now),
        };
        if is_due && self.killed_at.is_none() {
            self.strays += group.kill();
            self.killed_at = Some(Instant::now());
        }
        if self.ended_at.is_some() && has_passed(self.killed_at, GIVEN_UP, now) {
            for done in pumps.abandon() {
                self.take(done);
            }
        }
    }
}

fn has_passed(since: Option<Instant>, time: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) >= time)
}
