//! Who is told of the events of a run: people on a terminal or line by line, programs, a file.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

use vox_run::{RunEvent, RunReport};

use super::HowToRun;
use super::live::Live;
use super::summary::Summary;
use super::view::{self, EventLine};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output;
use crate::output::screen::Screen;

/// Tells everybody who wants to know.
pub(super) struct Watcher {
    shown: Shown,
    file: Option<(PathBuf, File)>,
    /// Whether what steps write is kept.
    is_kept: bool,
    /// Why somebody could not be told, the first time.
    failure: Option<Failure>,
}

/// How events are shown.
enum Shown {
    /// One JSON object a line.
    Json,
    /// Lines for people.
    Lines(view::Lines),
    /// A terminal that is drawn over and over.
    Live(Live),
}

impl Watcher {
    pub(super) fn new(context: &Context, how: &HowToRun) -> Result<Self, Failure> {
        let file = how.events.as_ref().map(|path| {
            let created =
                File::create(path).map_err(|error| Failure::io("create", path, &error))?;
            Ok::<_, Failure>((path.clone(), created))
        });
        let shown = if !context.output.is_human() {
            Shown::Json
        } else if Screen::is_there() && !how.plain {
            Shown::Live(Live::begin())
        } else {
            Shown::Lines(view::Lines::default())
        };
        Ok(Self {
            shown,
            file: file.transpose()?,
            is_kept: !how.no_record,
            failure: None,
        })
    }

    /// Tells an event. What fails is kept for the end.
    pub(super) fn tell(&mut self, event: &RunEvent) -> Result<(), ()> {
        self.try_tell(event).map_err(|failure| {
            self.failure.get_or_insert(failure);
        })
    }

    fn try_tell(&mut self, event: &RunEvent) -> Result<(), Failure> {
        if let Some((path, file)) = &mut self.file {
            file.write_all(&json_line(event)?)
                .map_err(|error| Failure::io("write", path, &error))?;
        }
        match &mut self.shown {
            Shown::Json => output::print(&json_line(event)?),
            Shown::Lines(lines) => output::print(EventLine { event, lines }.text().as_bytes()),
            Shown::Live(live) => live.tell(event),
        }
    }

    /// Shows the summary; answers what could not be told, if something could not.
    pub(super) fn finish(self, report: RunReport) -> Result<RunReport, Failure> {
        let is_human = !matches!(self.shown, Shown::Json);
        let was_shown = !matches!(self.shown, Shown::Live(_));
        if let Shown::Live(live) = self.shown {
            live.end()?;
        }
        match self.failure {
            // The run did not come to its end, and nobody is there to be told.
            Some(failure) if failure.is_quiet() => return Err(Failure::told(Exit::Interrupted)),
            Some(failure) => return Err(failure),
            None => {}
        }
        if is_human {
            let summary = Summary {
                report: &report,
                is_kept: self.is_kept,
                room: Screen::columns(),
                was_shown,
            };
            output::print(summary.to_string().as_bytes())?;
        }
        Ok(report)
    }
}

fn json_line(event: &RunEvent) -> Result<Vec<u8>, Failure> {
    let mut line = serde_json::to_vec(event).map_err(io::Error::from)?;
    line.push(b'\n');
    Ok(line)
}
