//! What is to be run: a plan from a file, or one from the record with what was done of it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use vox_host::CancelToken;
use vox_run::record::{Place, RunStarted, RunState, RunSummary};
use vox_run::{Plan, Record, RecordError, Resume, RunId};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::{self, count};
use crate::record::here;

/// The file of a pipeline when none is named.
const PIPELINE: &str = "pipeline.toml";

/// What stands for the file of a plan that came from standard input.
const STDIN: &str = "standard input";
/// The largest file of a pipeline that is read: one of 100,000 steps has some 10 MiB.
const MAX_PLAN_BYTES: u64 = 64 << 20;

/// A plan, and where and how it is to be run.
pub(super) struct Request {
    pub plan: Plan,
    /// Where relative paths start, absolute.
    pub directory: PathBuf,
    pub earlier: Option<Earlier>,
    /// Whether the run that goes on was to go on after failures.
    pub keep_going: bool,
    /// Names of the variables that the run had been given.
    pub variables: Vec<String>,
}

/// The run whose plan it is, where what that has done is not done again.
#[derive(Clone, Copy)]
pub(super) enum Earlier {
    /// It goes on.
    GoesOn(RunId),
    /// Another one begins with what has succeeded in it and depends on nothing that has not.
    Rerun(RunId),
}

impl Earlier {
    /// What it has done by now, whose outputs are seen to be there. Until this process has the [`Place`] others
    /// may go on with it, so nothing that was read before counts.
    ///
    /// # Errors
    ///
    /// Another process has brought it to its end, or an output is not there.
    pub fn resume(self, record: &Record, plan: &Plan, directory: &Path) -> Result<Resume, Failure> {
        let (Self::GoesOn(run) | Self::Rerun(run)) = self;
        let recorded = record.history()?.load(run)?;
        let resume = match self {
            Self::GoesOn(_) => {
                refuse_ended(&recorded.summary)?;
                Resume::of(&recorded, plan)
            }
            Self::Rerun(_) => Resume::rerun(&recorded, plan),
        };
        resume.check(plan, directory, &recorded, record)?;
        Ok(resume)
    }
}

impl Request {
    /// The plan of a file.
    pub fn read(pipeline: Option<&Path>) -> Result<Self, Failure> {
        let (plan, directory) = read(pipeline)?;
        Ok(Self {
            plan,
            directory,
            earlier: None,
            keep_going: false,
            variables: Vec::new(),
        })
    }

    /// The run `wanted`, or where that is empty the last one that was interrupted: of `pipeline` if
    /// one is named, else of this directory.
    pub fn resumed(
        record: &Record,
        wanted: &str,
        pipeline: Option<&Path>,
    ) -> Result<Self, Failure> {
        let history = record.history()?;
        let source = pipeline.map(Source::of).transpose()?;
        let run = if wanted.is_empty() {
            let open = |run: &RunSummary| {
                run.state == RunState::Interrupted
                    && source
                        .as_ref()
                        .is_none_or(|source| source.is_of(&run.started))
            };
            let last = match &source {
                Some(_) => history.list(1, open)?.pop(),
                None => history.last_in(&here()?, open)?,
            };
            let last = last.ok_or_else(|| {
                Failure::new(Exit::NotFound, "no run was interrupted")
                    .hint("`vox runs ls` lists the runs, `vox run <pipeline>` begins one")
            })?;
            last.id
        } else {
            history.find(wanted, &here()?)?
        };
        let summary = summary(record, run)?;
        refuse_running(&summary)?;
        refuse_ended(&summary)?;
        Self::of(record, &summary.started, Some(Earlier::GoesOn(run)))
    }

    /// The plan of an earlier run once more.
    pub fn again(record: &Record, run: RunId, failed_only: bool) -> Result<Self, Failure> {
        let summary = summary(record, run)?;
        refuse_running(&summary)?;
        let earlier = failed_only.then_some(Earlier::Rerun(run));
        Self::of(record, &summary.started, earlier)
    }

    fn of(
        record: &Record,
        started: &RunStarted,
        earlier: Option<Earlier>,
    ) -> Result<Self, Failure> {
        let mut text = String::new();
        record
            .store()
            .get(&started.plan)?
            .read_to_string(&mut text)
            .map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("the plan of the run cannot be read: {error}"),
                )
            })?;
        Ok(Self {
            plan: Plan::parse(&text, &started.file)?,
            directory: PathBuf::from(&started.directory),
            earlier,
            keep_going: started.keep_going,
            variables: started.variables.clone(),
        })
    }
}

/// How a run stands.
fn summary(record: &Record, run: RunId) -> Result<RunSummary, Failure> {
    let unknown = || RecordError::NoRun {
        wanted: run.to_string(),
    };
    let known = record.history()?.summary_of(run)?;
    Ok(known.ok_or_else(unknown)?)
}

/// Refuses a run that has come to its end.
fn refuse_ended(summary: &RunSummary) -> Result<(), Failure> {
    let RunSummary { id: run, state, .. } = summary;
    let RunState::Ended(_) = state else {
        return Ok(());
    };
    let again = format!("`vox runs rerun {run} --failed` runs again what did not succeed");
    let (became, hint) = match state.name() {
        "succeeded" => ("has succeeded", format!("`vox runs show {run}` shows it")),
        "failed" => ("has failed", again),
        "aborted" => ("was aborted", again),
        _ => ("was cancelled", again),
    };
    Err(Failure::new(Exit::InvalidInput, format!("run {run} {became}")).hint(hint))
}

/// Refuses a run that a process carries out.
fn refuse_running(summary: &RunSummary) -> Result<(), Failure> {
    let RunState::Running(process) = summary.state else {
        return Ok(());
    };
    let run = summary.id;
    let by = match process {
        0 => String::new(),
        process => format!(", in process {process}"),
    };
    let message = format!("run {run} is still going on{by}");
    let hint = format!(
        "`vox runs logs {run} --follow` shows what it prints, `vox runs cancel {run}` ends it"
    );
    Err(Failure::new(Exit::InvalidInput, message).hint(hint))
}

/// Where a plan comes from, however its file was written on the command line.
struct Source<'a> {
    file: &'a Path,
    /// Where its relative paths start.
    directory: PathBuf,
}

impl<'a> Source<'a> {
    /// That of a file, or with `-` of standard input.
    fn of(pipeline: &'a Path) -> Result<Self, Failure> {
        let file = if pipeline == Path::new("-") {
            Path::new(STDIN)
        } else {
            pipeline
        };
        let parent = file.parent().filter(|parent| *parent != Path::new(""));
        let directory = match parent {
            Some(parent) => std::path::absolute(parent),
            None => std::env::current_dir(),
        };
        let directory = directory
            .map_err(|error| Failure::io("find", parent.unwrap_or(Path::new(".")), &error))?;
        Ok(Self { file, directory })
    }

    /// Whether a run has its plan from there.
    fn is_of(&self, started: &RunStarted) -> bool {
        self.file.file_name() == Path::new(&started.file).file_name()
            && self.directory.display().to_string() == started.directory
    }
}

/// Asks whether to go on with the last run of this pipeline here, where that was interrupted. Its plan may be
/// another one by now: then it is asked for that, and nothing that was edited is passed over unseen.
pub(super) fn offered(
    context: &Context,
    record: &Record,
    plan: &Plan,
    directory: &Path,
) -> Result<Option<Request>, Failure> {
    let history = record.history()?;
    let Some(interrupted) = history.interrupted(&plan.pipeline.name, directory)? else {
        return Ok(None);
    };
    let is_same = interrupted.started.plan == vox_crypto::hash(plan.text().as_bytes());
    let run = interrupted.id;
    let recorded = history.load(run)?;
    let done = recorded.ends.values();
    let done = done.filter(|end| end.outcome.is_success()).count();
    let steps = usize::try_from(interrupted.started.steps).unwrap_or(usize::MAX);
    let mut what = format!(
        "the last run of this pipeline was interrupted after {done} of {}",
        count(steps, "step")
    );
    if !is_same {
        what.push_str(", and the plan has changed since");
    }
    if context.output.can_ask() {
        let question = if is_same {
            "Go on with it? [Y/n]"
        } else {
            "Go on with the plan as it was? [y/N]"
        };
        output::complain(format_args!("{what}. {question} "));
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        let goes_on = match answer.trim().to_lowercase().as_str() {
            "" => is_same,
            answer => matches!(answer, "y" | "yes"),
        };
        if goes_on {
            let earlier = Some(Earlier::GoesOn(run));
            return Request::of(record, &interrupted.started, earlier).map(Some);
        }
        return Ok(None);
    }
    let as_it_was = if is_same { "" } else { " as it was" };
    context.output.note(format_args!(
        "{what}; this is a new one, `vox run --resume {run}` goes on with that{as_it_was}"
    ));
    Ok(None)
}

/// Reads a plan, and says where its relative paths start.
fn read(pipeline: Option<&Path>) -> Result<(Plan, PathBuf), Failure> {
    let pipeline = match pipeline {
        Some(pipeline) => pipeline,
        None if Path::new(PIPELINE).is_file() => Path::new(PIPELINE),
        None => {
            return Err(
                Failure::new(Exit::NotFound, format!("there is no {PIPELINE} here"))
                    .hint("name the file of a pipeline: `vox run <file>`"),
            );
        }
    };
    let source = Source::of(pipeline)?;
    if pipeline == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(|error| {
            Failure::new(
                Exit::InvalidInput,
                format!("cannot read standard input: {error}"),
            )
        })?;
        return Ok((Plan::parse(&text, STDIN)?, source.directory));
    }
    if pipeline.is_dir() {
        let message = format!("{} is a directory, and no pipeline", pipeline.display());
        let file = pipeline.join(PIPELINE);
        let hint = format!("name the file of the pipeline, such as {}", file.display());
        return Err(Failure::new(Exit::InvalidInput, message).hint(hint));
    }
    let text = vox_contract::document::read_text_within(pipeline, MAX_PLAN_BYTES)?;
    Ok((Plan::parse(&text, pipeline)?, source.directory))
}

/// Waits until no other run of this pipeline goes on in this directory: they would make the same
/// files.
pub(super) fn wait_for_place(
    context: &Context,
    record: &Record,
    plan: &Plan,
    directory: &Path,
    cancel: &CancelToken,
) -> Result<Place, Failure> {
    const EVERY: Duration = Duration::from_millis(100);
    let mut told = false;
    loop {
        match record.place(&plan.pipeline.name, directory)? {
            Ok(place) => return Ok(place),
            Err(process) => {
                if !told {
                    context.output.note(format_args!(
                        "process {process} runs this pipeline here; waiting until it is done"
                    ));
                    told = true;
                }
            }
        }
        if cancel.is_cancelled() {
            return Err(Failure::told(Exit::Interrupted));
        }
        thread::sleep(EVERY);
    }
}
