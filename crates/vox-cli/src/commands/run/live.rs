//! The live view: what is done scrolls by, and below it stands what runs.
//!
//! Events only change what is known; a thread draws it ten times a second, in one write, so that a run of
//! ten thousand steps costs the terminal no more than a run of ten. What must stay true: nothing is torn, and
//! whatever happens the last lines of the terminal are whole when the view ends.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use unicode_width::UnicodeWidthStr as _;
use vox_run::{EventKind, RunEvent, StepOutcome};

use super::view::{seconds, text_of};
use crate::error::Failure;
use crate::interrupt::{self, Drawing};
use crate::output::screen::{Screen, Size};
use crate::output::shortened;
use crate::output::style::{BAD, DIM, GOOD, LITERAL, STRONG, WARNING, paint, plain};

/// How often the terminal is drawn.
const EVERY: Duration = Duration::from_millis(100);

/// Columns of a bar.
const BAR: usize = 20;

/// How long a terminal is waited for that takes nothing, before the process ends all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// The view of a run in progress.
pub(super) struct Live {
    shared: Arc<Shared>,
    drawer: Option<JoinHandle<()>>,
}

/// What the view shares with who draws it, and with Ctrl-C.
struct Shared {
    state: Mutex<State>,
    stop: Sender<()>,
    /// Disconnected once nothing is drawn any more.
    drawn: Receiver<()>,
}

impl Live {
    /// Begins to draw.
    pub fn begin() -> Self {
        let (stop, stopped) = bounded::<()>(0);
        let (drawing, drawn) = bounded::<()>(0);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(Instant::now())),
            stop,
            drawn,
        });
        let drawer = thread::Builder::new().name("vox-live".to_owned());
        let drawer = drawer.spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.draw_until(&stopped);
                drop(drawing);
            }
        });
        let drawer = drawer.ok();
        if drawer.is_some() {
            interrupt::show_above(Some(Arc::clone(&shared) as Arc<dyn Drawing>));
        }
        Self { shared, drawer }
    }

    /// Takes an event in.
    pub fn tell(&mut self, event: &RunEvent) -> Result<(), Failure> {
        let mut state = self.shared.state();
        state.take(event, Instant::now());
        match state.trouble.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Draws what is left, without what runs.
    pub fn end(mut self) -> Result<(), Failure> {
        self.stop();
        match self.shared.state().trouble.take() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn stop(&mut self) {
        interrupt::show_above(None);
        let _ = self.shared.stop.send(());
        if let Some(drawer) = self.drawer.take() {
            // A drawer that panicked has drawn all that it will.
            let _ = drawer.join();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.drawer.is_some() {
            self.stop();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw_until(&self, stopped: &Receiver<()>) {
        let mut lines = 0;
        loop {
            let over = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
            let size = Screen::size();
            let frame = self.state().draw(Instant::now(), size, !over, &mut lines);
            if let Some(frame) = frame
                && let Err(error) = write(&frame)
            {
                self.state().trouble.get_or_insert(error);
            }
            if over {
                return;
            }
        }
    }
}

impl Drawing for Shared {
    fn say(&self, line: &str) {
        self.state().above.push_back(line.to_owned());
    }

    fn end(&self) {
        // Who has ended the view already has nothing to be waited for.
        let _ = self.stop.send_timeout((), PATIENCE);
        let _ = self.drawn.recv_timeout(PATIENCE);
    }
}

/// What is known of the run.
struct State {
    begun: Instant,
    pipeline: String,
    steps: usize,
    /// Width of the longest key.
    width: usize,
    running: BTreeMap<String, Running>,
    succeeded: usize,
    cached: usize,
    failed: usize,
    skipped: usize,
    /// Whole lines that are to be shown above.
    above: VecDeque<String>,
    trouble: Option<io::Error>,
}

/// A step that runs.
struct Running {
    since: Instant,
    attempt: u32,
    progress: Option<(f64, Option<f64>)>,
    last: String,
}

impl State {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            pipeline: String::new(),
            steps: 0,
            width: 0,
            running: BTreeMap::new(),
            succeeded: 0,
            cached: 0,
            failed: 0,
            skipped: 0,
            above: VecDeque::new(),
            trouble: None,
        }
    }

    fn take(&mut self, event: &RunEvent, now: Instant) {
        match &event.kind {
            EventKind::RunStarted {
                pipeline,
                steps,
                resumed,
                ..
            } => {
                self.pipeline = plain(pipeline);
                self.steps = steps.len();
                let widths = steps.iter().map(|step| plain(&step.key).width());
                self.width = widths.max().unwrap_or(0).min(40);
                let verb = if *resumed { "resuming" } else { "run" };
                self.above.push_back(format!(
                    "{} {} {}",
                    paint(DIM, verb),
                    paint(STRONG, &self.pipeline),
                    paint(DIM, event.run)
                ));
            }
            EventKind::StepStarted { step, attempt } => {
                let running = Running {
                    since: now,
                    attempt: *attempt,
                    progress: None,
                    last: String::new(),
                };
                self.running.insert(step.clone(), running);
            }
            EventKind::StepProgress {
                step,
                done,
                total,
                message,
            } => {
                if let Some(running) = self.running.get_mut(step) {
                    running.progress = Some((*done, *total));
                    if let Some(message) = message {
                        running.last = plain(message);
                    }
                }
            }
            EventKind::StepOutput { step, text, .. } => {
                if let Some(running) = self.running.get_mut(step)
                    && let Some(line) = text.lines().rfind(|line| !line.trim().is_empty())
                {
                    running.last = plain(line);
                }
            }
            EventKind::StepRetried {
                step,
                attempt,
                outcome,
                wait,
            } => {
                self.running.remove(step);
                self.above.push_back(format!(
                    "{} {} try {attempt} failed, again in {}: {}",
                    paint(WARNING, "↻"),
                    self.key(step),
                    seconds(*wait),
                    text_of(outcome)
                ));
            }
            EventKind::StepEnded {
                step,
                outcome,
                provenance,
                duration,
            } => {
                self.running.remove(step);
                let key = self.key(step);
                let (mark, rest) = match outcome {
                    StepOutcome::Succeeded { .. } => {
                        self.succeeded += 1;
                        let how = if provenance.cached.is_some() {
                            self.cached += 1;
                            paint(DIM, "cached".to_owned()).to_string()
                        } else if provenance.earlier.is_some() {
                            paint(DIM, "done before".to_owned()).to_string()
                        } else {
                            seconds(*duration)
                        };
                        let text = paint(DIM, text_of(outcome));
                        (paint(GOOD, "✓").to_string(), format!("{how} {text}"))
                    }
                    StepOutcome::Failed { .. } => {
                        self.failed += 1;
                        let text = format!("{} {}", seconds(*duration), text_of(outcome));
                        (paint(BAD, "✗").to_string(), text)
                    }
                    StepOutcome::Cancelled { .. } | StepOutcome::Skipped { .. } => {
                        self.skipped += 1;
                        let text = paint(DIM, text_of(outcome)).to_string();
                        (paint(WARNING, "-").to_string(), text)
                    }
                };
                self.above.push_back(format!("{mark} {key} {rest}"));
            }
            EventKind::Warning { message } => {
                let warning = paint(WARNING, "warning:");
                self.above
                    .push_back(format!("{warning} {}", plain(message)));
            }
            _ => {}
        }
    }

    fn key(&self, step: &str) -> String {
        let step = plain(step);
        let room = self.width.saturating_sub(step.width());
        format!("{}{:room$}", paint(LITERAL, step), "")
    }

    /// One write that takes the view away, shows what is new above it, and draws it again if it is
    /// to stand. `lines` is how many lines of it stand on the terminal.
    fn draw(
        &mut self,
        now: Instant,
        size: Size,
        stands: bool,
        lines: &mut usize,
    ) -> Option<String> {
        let mut frame = String::new();
        if *lines > 0 {
            // Writing to a `String` cannot fail.
            let _ = write!(frame, "\x1b[{lines}A\r\x1b[J");
        }
        let whole = std::mem::take(&mut self.above);
        for line in whole {
            frame.push_str(&cut(&line, size.columns.max(40)));
            frame.push('\n');
        }
        *lines = 0;
        if stands && self.steps > 0 {
            for line in self.frame(now, size) {
                frame.push_str(&line);
                frame.push('\n');
                *lines += 1;
            }
        }
        (!frame.is_empty()).then_some(frame)
    }

    /// The view: a line for the run, and one for each step that runs, as far as there is room.
    fn frame(&self, now: Instant, size: Size) -> Vec<String> {
        let ended = self.succeeded + self.failed + self.skipped;
        let mut parts = vec![format!("{ended}/{} done", self.steps)];
        if self.cached > 0 {
            parts.push(format!("{} cached", self.cached));
        }
        if self.failed > 0 {
            parts.push(paint(BAD, format!("{} failed", self.failed)).to_string());
        }
        if self.skipped > 0 {
            parts.push(format!("{} skipped", self.skipped));
        }
        parts.push(format!("{} running", self.running.len()));
        let head = format!(
            "{} {} {} {}",
            bar(ended as f64, self.steps as f64),
            paint(STRONG, &self.pipeline),
            parts.join(", "),
            paint(DIM, seconds(whole_tenths(now.duration_since(self.begun))))
        );
        let mut lines = vec![cut(&head, size.columns)];
        // Half of the terminal stays for what is done.
        let most = (size.lines / 2).saturating_sub(2).max(1);
        let mut running: Vec<_> = self.running.iter().collect();
        running.sort_by_key(|(_, step)| step.since);
        for (key, step) in running.iter().take(most) {
            let mut line = format!(
                "  {} {}",
                self.key(key),
                seconds(whole_tenths(now.duration_since(step.since)))
            );
            if step.attempt > 1 {
                let _ = write!(line, " {}", paint(WARNING, format!("try {}", step.attempt)));
            }
            match step.progress {
                Some((done, Some(total))) if total > 0.0 => {
                    let percent = (done / total * 100.0).clamp(0.0, 100.0);
                    let _ = write!(line, " {} {percent:.0}%", bar(done, total));
                }
                Some((done, _)) => {
                    let _ = write!(line, " {done}");
                }
                None => {}
            }
            if !step.last.is_empty() {
                let _ = write!(line, " {} {}", paint(DIM, "|"), paint(DIM, &step.last));
            }
            lines.push(cut(&line, size.columns));
        }
        if running.len() > most {
            let more = format!("  and {} more", running.len() - most);
            lines.push(paint(DIM, more).to_string());
        }
        lines
    }
}

/// Durations that do not flicker.
fn whole_tenths(duration: Duration) -> Duration {
    let tenths = u64::try_from(duration.as_millis() / 100).unwrap_or(u64::MAX);
    Duration::from_millis(tenths.saturating_mul(100))
}

fn bar(done: f64, total: f64) -> String {
    let share = if total > 0.0 { done / total } else { 0.0 };
    let filled = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    let (full, empty) = ("━".repeat(filled), "━".repeat(BAR - filled));
    format!("{}{}", paint(GOOD, full), paint(DIM, empty))
}

/// A line with escapes in at most so many columns; one that is too long loses its colours.
fn cut(line: &str, columns: usize) -> String {
    let bare = anstream::adapter::strip_str(line).to_string();
    if bare.width() < columns {
        line.to_owned()
    } else {
        shortened(bare, columns.saturating_sub(1))
    }
}

/// Writes a frame; colours are left out where they are not wanted, the movements stay.
fn write(frame: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if anstream::AutoStream::choice(&io::stdout()) == anstream::ColorChoice::Never {
        // The only escape that moves stands at the beginning.
        let body = frame.find("\x1b[J").map_or(0, |at| at + "\x1b[J".len());
        stdout.write_all(&frame.as_bytes()[..body])?;
        let plain = anstream::adapter::strip_str(&frame[body..]).to_string();
        stdout.write_all(plain.as_bytes())?;
    } else {
        stdout.write_all(frame.as_bytes())?;
    }
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use vox_run::RunId;

    /// What stands on a terminal of 80 columns after these events, each at its second.
    fn shown(events: serde_json::Value, at: u64) -> String {
        let begun = Instant::now();
        let mut state = State::new(begun);
        let run = RunId::generate();
        for event in events.as_array().unwrap() {
            let mut event = event.clone();
            let second = event["at"].take().as_u64().unwrap_or(0);
            event["version"] = 1.into();
            event["run"] = json!(run);
            event["timestamp"] = 0.into();
            let event: RunEvent = serde_json::from_value(event).unwrap();
            state.take(&event, begun + Duration::from_secs(second));
        }
        let size = Size {
            columns: 80,
            lines: 24,
        };
        let mut lines = 0;
        let frame = state.draw(begun + Duration::from_secs(at), size, true, &mut lines);
        let frame = anstream::adapter::strip_str(&frame.unwrap()).to_string();
        frame.replace(&run.to_string(), "<run>")
    }

    fn head(key: &str) -> serde_json::Value {
        json!({ "key": key, "uses": "exec", "plugin": "exec" })
    }

    #[test]
    fn what_is_done_stands_above_what_runs() {
        let screen = shown(
            json!([
                { "event": "run-started", "pipeline": "build", "file": "p.toml", "resumed": false,
                  "steps": [head("fetch"), head("compile"), head("test"), head("lint")] },
                { "event": "step-ended", "step": "fetch", "status": "succeeded", "summary": "12 files",
                  "attributes": [], "cached": RunId::generate(), "attempts": 0, "seconds": 0.0 },
                { "event": "step-started", "step": "compile", "attempt": 1, "at": 1 },
                { "event": "step-progress", "step": "compile", "done": 3.0, "total": 4.0, "at": 2 },
                { "event": "step-output", "step": "compile", "port": "stderr",
                  "text": "warning: unused\n\n", "at": 2 },
                { "event": "step-started", "step": "lint", "attempt": 2, "at": 3 },
                { "event": "step-ended", "step": "test", "status": "failed", "cause": "code",
                  "code": 2, "message": "`cargo` exited with code 2\nlast words", "attempts": 1,
                  "seconds": 1.5 },
            ]),
            5,
        );
        assert_eq!(
            screen,
            "run build <run>\n\
             ✓ fetch   cached 12 files\n\
             ✗ test    1.50 s `cargo` exited with code 2\n\
             ━━━━━━━━━━━━━━━━━━━━ build 2/4 done, 1 cached, 1 failed, 2 running 5.00 s\n\
             \u{20}\u{20}compile 4.00 s ━━━━━━━━━━━━━━━━━━━━ 75% | warning: unused\n\
             \u{20}\u{20}lint    2.00 s try 2\n"
        );
    }
}
