//! `vox run`: carries out a pipeline and shows what happens.

mod environment;
pub(crate) mod view;

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vox_host::Watched;
use vox_run::{Engine, Plan, RunEvent, RunOptions, RunOutcome, RunReport};

use self::environment::Variable;
use self::view::{EventLine, Summary};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output::{self, View};

/// Arguments of `vox run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Relative paths in a pipeline count from its own directory. Of the environment, \
                        steps see what a\nprogram needs to run (PATH, HOME, the language, the place \
                        for temporary files) and what --env\nnames. Ctrl-C cancels the run and \
                        cleans up; a second one ends it at once."
)]
pub struct RunArgs {
    /// The pipeline, TOML or JSON; `-` reads it from standard input
    #[arg(required_unless_present = "schema")]
    pipeline: Option<PathBuf>,
    /// Go on with steps that do not depend on a failed one
    #[arg(short, long)]
    keep_going: bool,
    /// How many steps may run at once [default: as many as there are processors]
    #[arg(short, long, value_name = "NUMBER", value_parser = number_of_jobs)]
    jobs: Option<NonZeroUsize>,
    /// A variable that steps see: NAME takes it over from here, NAME=VALUE sets it
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<Variable>,
    /// Write every event of the run to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Print the JSON Schema of a pipeline, and run nothing
    #[arg(long, conflicts_with_all = ["pipeline", "keep_going", "jobs", "env", "events"])]
    schema: bool,
}

fn number_of_jobs(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "write a whole number, 1 or more")
}

/// The report of a run; its keys are those of the engine's report.
#[derive(Serialize)]
#[serde(transparent)]
struct ReportView<'a>(&'a RunReport);

impl View for ReportView<'_> {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{}", Summary(self.0))
    }
}

/// Runs a pipeline.
pub(crate) fn run(context: &Context, arguments: &RunArgs) -> Result<Exit, Failure> {
    let Some(pipeline) = &arguments.pipeline else {
        let mut text = Vec::new();
        output::json(&Plan::schema(), &mut text)?;
        output::print(&text)?;
        return Ok(Exit::Success);
    };
    let (plan, directory) = read(pipeline)?;
    let host = context.host()?;
    // What is revoked while it runs is gone at the next call. A system that allows no more watches
    // is no reason not to run.
    let _watch = host
        .watch(Watched::Grants)
        .inspect_err(|error| tracing::warn!(%error, "grants stay as they are during this run"))
        .ok();
    let _listening = context.listen(&host, &format!("run {}", pipeline.display()));
    let engine = Engine::prepare(&host, plan, vox_run::Surroundings::default())?;
    let mut options = RunOptions::new(directory);
    options.environment = environment::of_steps(&arguments.env)?;
    options.keep_going = arguments.keep_going;
    options.jobs = arguments.jobs.unwrap_or(options.jobs);
    options.cancel = interrupt::token();

    let mut watcher = Watcher::new(context, arguments.events.as_deref())?;
    let report = engine.run(&options, &mut |event| {
        if let Err(failure) = watcher.tell(event) {
            // Nobody watches any more: there is no use in going on.
            watcher.failure.get_or_insert(failure);
            options.cancel.cancel();
        }
    })?;
    match watcher.failure {
        // The run did not come to its end, and nobody is there to be told.
        Some(failure) if failure.is_quiet() => return Err(Failure::told(Exit::Interrupted)),
        Some(failure) => return Err(failure),
        None => {}
    }
    context.output.show(&ReportView(&report))?;
    Ok(match report.outcome {
        RunOutcome::Succeeded => Exit::Success,
        RunOutcome::Cancelled => Exit::Interrupted,
        RunOutcome::Failed | RunOutcome::Aborted { .. } => Exit::Failed,
    })
}

/// Reads a plan, and says where its relative paths start.
fn read(pipeline: &Path) -> Result<(Plan, PathBuf), Failure> {
    if pipeline == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(|error| {
            Failure::new(
                Exit::InvalidInput,
                format!("cannot read standard input: {error}"),
            )
        })?;
        return Ok((Plan::parse(&text, "standard input")?, ".".into()));
    }
    if pipeline.is_dir() {
        let message = format!("{} is a directory, and no pipeline", pipeline.display());
        let file = pipeline.join("pipeline.toml");
        let hint = format!("name the file of the pipeline, such as {}", file.display());
        return Err(Failure::new(Exit::InvalidInput, message).hint(hint));
    }
    let text = vox_contract::document::read_text(pipeline)?;
    let parent = pipeline
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    Ok((
        Plan::parse(&text, pipeline)?,
        parent.unwrap_or(Path::new(".")).to_owned(),
    ))
}

/// Whoever is told of the events: people line by line, a file all of them.
struct Watcher {
    human: bool,
    lines: view::Lines,
    file: Option<(PathBuf, File)>,
    /// Why nobody could be told, the first time.
    failure: Option<Failure>,
}

impl Watcher {
    fn new(context: &Context, file: Option<&Path>) -> Result<Self, Failure> {
        let file = file.map(|path| {
            let created =
                File::create(path).map_err(|error| Failure::io("create", path, &error))?;
            Ok::<_, Failure>((path.to_owned(), created))
        });
        Ok(Self {
            human: context.output.is_human(),
            lines: view::Lines::default(),
            file: file.transpose()?,
            failure: None,
        })
    }

    fn tell(&mut self, event: &RunEvent) -> Result<(), Failure> {
        if let Some((path, file)) = &mut self.file {
            let mut line = serde_json::to_vec(event).map_err(io::Error::from)?;
            line.push(b'\n');
            file.write_all(&line)
                .map_err(|error| Failure::io("write", path, &error))?;
        }
        if self.human {
            let line = EventLine {
                event,
                lines: &mut self.lines,
            }
            .text();
            output::print(line.as_bytes())?;
        }
        Ok(())
    }
}
