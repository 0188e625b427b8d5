//! `vox run`: carries out a pipeline and shows what happens.
//!
//! | module | owns |
//! |---|---|
//! | `environment` | what steps see of the caller's environment |
//! | `request` | which plan, where, and what an earlier run has done of it |
//! | `watch` | who is told of the events: people, programs, a file |
//! | `live` | the part of a terminal that is drawn over and over |
//! | `view` | events as lines |
//! | `failure` | a step that failed |
//! | `summary` | the end of a run |

mod environment;
pub(crate) mod failure;
mod live;
mod request;
pub(crate) mod summary;
pub(crate) mod view;
mod watch;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use vox_contract::Bytes;
use vox_host::Watched;
use vox_run::machine::Machine;
use vox_run::record::{KEPT_BYTES, KEPT_RUNS, Retention};
use vox_run::{
    CacheUse, Engine, EventKind, Plan, Record, RunId, RunOptions, RunOutcome, Surroundings,
};

use self::environment::Variable;
use self::request::{Earlier, Request};
use self::watch::Watcher;
use crate::cli::number_of_bytes;
use crate::commands::cache;
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::interrupt;
use crate::output;

/// The most steps of which it is looked up how long they took the last time.
const MOST_EXPECTED: u64 = 2_000;

/// Arguments of `vox run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Relative paths in a pipeline count from its own directory. Of the environment, \
                        steps see what a\nprogram needs to run (PATH, HOME, the language, the place \
                        for temporary files) and what --env\nnames; those of components and in \
                        containers see the latter alone. Ctrl-C cancels the run\nand cleans up; a \
                        second one ends it at once."
)]
pub struct RunArgs {
    /// The pipeline, TOML or JSON; `-` reads it from standard input [default: pipeline.toml]
    pipeline: Option<PathBuf>,
    #[command(flatten)]
    how: HowToRun,
    /// Go on with a run that did not come to its end: the last one of this directory, or this one
    #[arg(long, value_name = "RUN", num_args = 0..=1, default_missing_value = "")]
    resume: Option<String>,
    /// Print the JSON Schema of a pipeline, and run nothing
    #[arg(long, conflicts_with_all = ["pipeline", "resume", "keep_going", "jobs", "env", "events"])]
    schema: bool,
}

/// How to run, whatever it is.
#[derive(Debug, Clone, Args)]
pub(crate) struct HowToRun {
    /// Go on with steps that do not depend on a failed one
    #[arg(short, long)]
    keep_going: bool,
    /// How many processors the steps may take together [default: all]
    #[arg(short, long, value_name = "NUMBER", value_parser = number_of_jobs)]
    jobs: Option<NonZeroUsize>,
    /// How many graphics processors there are [default: as many as can be seen]
    #[arg(long, value_name = "NUMBER")]
    gpus: Option<u32>,
    /// A variable that steps see: NAME takes it over from here, NAME=VALUE sets it
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<Variable>,
    /// Run every step, whether its result is in the cache or not
    #[arg(long)]
    no_cache: bool,
    /// How much the results in the cache may take; those used longest ago go first
    #[arg(long, value_name = "BYTES", value_parser = number_of_bytes, default_value = "20GiB")]
    cache_budget: Bytes,
    /// Record nothing: the run cannot be resumed, and nothing is cached
    #[arg(long)]
    no_record: bool,
    /// How much of what one step writes is shown and kept
    #[arg(long, value_name = "BYTES", value_parser = number_of_bytes, default_value = "256MiB")]
    log_limit: Bytes,
    /// Of how many runs what they printed is kept; that of the oldest goes first
    #[arg(long, value_name = "NUMBER", default_value_t = KEPT_RUNS)]
    keep_logs: usize,
    /// How much that may take
    #[arg(long, value_name = "BYTES", value_parser = number_of_bytes, default_value_t = Bytes(KEPT_BYTES))]
    logs_budget: Bytes,
    /// A line for each event, also on a terminal
    #[arg(long)]
    plain: bool,
    /// Write every event of the run to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

fn number_of_jobs(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "write a whole number, 1 or more")
}

/// Runs a pipeline.
pub(crate) fn run(context: &Context, arguments: &RunArgs) -> Result<Exit, Failure> {
    if arguments.schema {
        let mut text = Vec::new();
        output::json(&Plan::schema(), &mut text)?;
        output::print(&text)?;
        return Ok(Exit::Success);
    }
    let pipeline = arguments.pipeline.as_deref();
    let Some(wanted) = &arguments.resume else {
        return carry_out(context, Request::read(pipeline)?, None, &arguments.how);
    };
    let record = record(context, &arguments.how)?.ok_or_else(|| {
        Failure::new(
            Exit::InvalidInput,
            "without a record there is nothing to go on with",
        )
        .hint("leave `--no-record` out")
    })?;
    let request = Request::resumed(&record, wanted, pipeline)?;
    carry_out(context, request, Some(record), &arguments.how)
}

/// Runs the plan of an earlier run once more, or what did not succeed of it.
pub(crate) fn rerun(
    context: &Context,
    run: RunId,
    failed_only: bool,
    how: &HowToRun,
) -> Result<Exit, Failure> {
    let Some(record) = record(context, how)? else {
        let message = "what did an earlier run is known from its record alone";
        return Err(Failure::new(Exit::InvalidInput, message).hint("leave `--no-record` out"));
    };
    let request = Request::again(&record, run, failed_only)?;
    carry_out(context, request, Some(record), how)
}

/// Where the run is recorded.
fn record(context: &Context, how: &HowToRun) -> Result<Option<Record>, Failure> {
    if how.no_record {
        return Ok(None);
    }
    let opened = context
        .log()
        .and_then(|log| Ok((log, context.store()?)))
        .map_err(|failure| failure.hint("`--no-record` runs without a record"))?;
    let (log, store) = opened;
    let data = context.directories.data.clone();
    Ok(Some(Record::new(log.into(), store, data)))
}

/// Carries a request out. Without a record one is opened once the plan is known to be one that can be
/// run, and where it says that the last run of the plan was interrupted, going on with that is offered.
fn carry_out(
    context: &Context,
    request: Request,
    record: Option<Record>,
    how: &HowToRun,
) -> Result<Exit, Failure> {
    let Request {
        plan,
        directory,
        earlier,
        keep_going,
        variables,
    } = request;
    let host = context.host()?;
    // What is revoked while it runs is gone at the next call. A system that allows no more watches
    // is no reason not to run.
    let watch = host
        .watch(Watched::Grants)
        .inspect_err(|error| tracing::warn!(%error, "grants stay as they are during this run"))
        .ok();
    let listening = context.listen(&host, &format!("run {}", plan.file().display()));
    let asked = environment::asked(&how.env)?;
    if let Some(missing) = variables.iter().find(|name| !asked.contains_key(*name)) {
        let message =
            format!("the run was given the variable `{missing}`, whose value is not recorded");
        let hint = format!("give it once more: `--env {missing}`");
        return Err(Failure::new(Exit::InvalidInput, message).hint(hint));
    }
    let mut surroundings = Surroundings::default();
    surroundings.machine = Machine::detect();
    if let Some(gpus) = how.gpus {
        surroundings.machine = surroundings.machine.with_gpus(gpus);
    }
    surroundings.directory = Some(directory.clone());
    surroundings.secrets = secrets(&plan);
    let engine = Engine::prepare(&host, plan, surroundings)?;
    let record = match record {
        Some(record) => Some(record),
        None => match self::record(context, how)? {
            None => None,
            Some(record) => {
                let offered = request::offered(context, &record, engine.plan(), &directory)?;
                if let Some(resumed) = offered {
                    drop((engine, listening, watch, host));
                    return carry_out(context, resumed, Some(record), how);
                }
                Some(record)
            }
        },
    };
    let cancel = interrupt::token();
    let _place = match &record {
        Some(record) => Some(request::wait_for_place(
            context,
            record,
            engine.plan(),
            &directory,
            &cancel,
        )?),
        None => None,
    };
    let resume = match (earlier, &record) {
        (Some(earlier), Some(record)) => Some(earlier.resume(record, engine.plan(), &directory)?),
        _ => None,
    };

    let mut options = RunOptions::new(&directory);
    if let Some(Earlier::GoesOn(run)) = earlier {
        options.id = run;
    }
    options.environment = environment::of_steps();
    options.variables = asked;
    options.keep_going = how.keep_going || keep_going;
    options.jobs = how.jobs.unwrap_or(options.jobs);
    options.cancel = cancel;
    options.log_limit = how.log_limit.get();
    options.retention = Retention {
        runs: how.keep_logs,
        bytes: how.logs_budget.get(),
    };
    options.resume = resume;
    options.cache = if how.no_cache {
        CacheUse::Refresh
    } else {
        CacheUse::Full
    };
    options.expected = expected(record.as_ref(), engine.plan(), &directory);
    options.record = record;

    let mut watcher = Watcher::new(context, how)?;
    let report = engine.run(&options, &mut |event| {
        if options.record.is_some() && matches!(event.kind, EventKind::RunStarted { .. }) {
            let command = format!("go on with it: vox run --resume {}", event.run);
            interrupt::tell_way_on(Some(command));
        }
        if watcher.tell(event).is_err() {
            // Nobody watches any more: there is no use in going on.
            options.cancel.cancel();
        }
    });
    interrupt::tell_way_on(None);
    let report = watcher.finish(report?)?;
    if let Some(record) = options.record.as_ref().filter(|_| report.results_kept > 0)
        && let Err(failure) = cache::gc::keep_within(context, record.store(), how.cache_budget)
    {
        let text = format!("the cache stays as large as it is: {}", failure.message());
        context.output.warn(&text, &json!({ "message": text }));
    }
    Ok(match report.outcome {
        RunOutcome::Succeeded => Exit::Success,
        RunOutcome::Cancelled => Exit::Interrupted,
        RunOutcome::Failed | RunOutcome::Aborted { .. } => Exit::Failed,
    })
}

/// The secrets that a plan names and that are set here.
fn secrets(plan: &Plan) -> BTreeMap<String, String> {
    let names = plan.steps.iter().flat_map(|step| &step.secrets);
    names
        .filter_map(|name| Some((name.clone(), std::env::var(name).ok()?)))
        .collect()
}

/// How long the steps took when the pipeline ran the last time, as far as that is known.
fn expected(
    record: Option<&Record>,
    plan: &Plan,
    directory: &std::path::Path,
) -> BTreeMap<String, Duration> {
    let look_up = || {
        let history = record?.history().ok()?;
        let last = history.last_of(&plan.pipeline.name, directory).ok()??;
        if last.started.steps > MOST_EXPECTED {
            return None;
        }
        let ends = history.load(last.id).ok()?.ends;
        let ran = ends.into_iter().filter(|(_, end)| end.micros > 0);
        Some(ran.map(|(key, end)| (key, end.duration())).collect())
    };
    look_up().unwrap_or_default()
}
