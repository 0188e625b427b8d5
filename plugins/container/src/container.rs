//! A container that runs: created, attached to, started, and watched until it has ended.
//!
//! One loop waits for what the tasks tell: that the container has ended, that its output is read,
//! that its input is written. What must stay true:
//!
//! - Cancellation is asked for every [`TICK`]; it ends the container with SIGTERM, and with SIGKILL
//!   after [`GRACE`].
//! - All that the container wrote before its end is handed on, however slowly it is taken.
//! - A snapshot is made only when it has succeeded.
//!
//! Whoever lets it [live](Container::live) removes it, whatever comes of that.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error as ApiError;
use bollard::models::{
    ContainerCreateBody, ContainerState, HealthConfig, HostConfig, HostConfigLogConfig,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder,
    WaitContainerOptions,
};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use vox_plugin::step::Invocation;
use vox_plugin::{Error, Result};

use crate::arguments::Arguments;
use crate::engine::{Engine, is_missing, reason};
use crate::files::Files;
use crate::images::{self, Found, Snapshot};
use crate::life::or_cancelled;
use crate::owner;
use crate::record::Record;
use crate::streams::{Input, Outputs, Port, Sink, Streams};

/// How often cancellation is asked for.
pub const TICK: Duration = Duration::from_millis(50);
/// How long a container has to end by itself.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 2000 });
/// How long a container's output may take to arrive after its end, when nothing more comes of it.
const LAST_OUTPUT: Duration = Duration::from_secs(10);
/// How often a record is looked at for more.
const POLL: Duration = Duration::from_millis(20);
/// Bytes of output that may wait in a record before the container is paused.
const HIGH: u64 = if cfg!(test) { 4 << 20 } else { 64 << 20 };
/// Bytes that wait when it goes on.
const LOW: u64 = HIGH / 4;

/// How a container has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its code, as the engine tells it: 128 and the number of a signal that ended it.
    pub code: i64,
    /// Whether it was killed for using too much memory.
    pub out_of_memory: bool,
    /// Whether it was ended because nobody took its output any more.
    pub unwanted: bool,
    /// The last lines that it wrote to `stderr`.
    pub last_words: Vec<String>,
    /// What it was called.
    pub container: String,
    /// Id of the image that it was made of.
    pub image_id: String,
    /// The snapshot that was made of it.
    pub snapshot: Option<Snapshot>,
}

/// A container that is to run.
pub struct Container<'a> {
    /// Where.
    pub engine: &'a Engine,
    /// What it will be called.
    pub name: &'a str,
    /// The step that it carries out.
    pub invocation: &'a Invocation,
    /// What the step asks for.
    pub arguments: &'a Arguments,
    /// What it is made of.
    pub image: &'a Found,
    /// What it reads and makes.
    pub files: &'a Files,
    /// Its streams.
    pub streams: &'a Arc<dyn Streams>,
}

/// What the tasks tell.
enum Notice {
    /// The container has ended, as far as the engine can tell.
    Exited(Result<i64, ApiError>),
    /// All output is read.
    Output(Result<()>),
    /// The input is written.
    Input(Result<()>),
}

/// How a container's output is had.
enum Source {
    Attached(Box<AttachContainerResults>),
    Recorded(PathBuf),
}

impl Container<'_> {
    /// Creates the container, and lets it run to its end. The caller removes it.
    ///
    /// # Errors
    ///
    /// The container cannot be had, it vanished, a stream of it cannot be moved, or
    /// [`Error::Cancelled`].
    pub async fn live(&self) -> Result<Ended> {
        let has_input = !self.invocation.inputs.is_empty();
        let variables = self.variables();
        self.create(has_input, &variables).await?;
        let (source, input) = self.attach(has_input).await?;
        if self.streams.should_cancel() {
            return Err(Error::Cancelled);
        }
        self.engine
            .api
            .start_container(self.name, None)
            .await
            .map_err(|error| self.start_error(&error))?;

        let (notices, told) = mpsc::channel(4);
        let mut tasks = Tasks(Vec::new());
        let (sink, outputs) = Outputs::new(self.streams)?;
        let exited = Arc::new(AtomicBool::new(false));
        let mut lag = None;
        match source {
            Source::Attached(attached) => tasks.spawn(&notices, async move {
                Notice::Output(read_attached(*attached, sink).await)
            }),
            Source::Recorded(path) => {
                let record = open_record(&path).await?;
                let behind = Arc::new(AtomicU64::new(0));
                lag = Some((path, Arc::clone(&behind)));
                let exited = Arc::clone(&exited);
                tasks.spawn(&notices, async move {
                    Notice::Output(read_record(record, sink, &exited, &behind).await)
                });
            }
        }
        if let Some(attached) = input {
            let input = Input::new(self.streams)?;
            tasks.spawn(&notices, async move {
                Notice::Input(write_input(*attached, input).await)
            });
        }
        let (engine, name) = (self.engine.clone(), self.name.to_owned());
        tasks.spawn(&notices, async move {
            Notice::Exited(wait(&engine, &name).await)
        });
        drop(notices);

        let watched = self.watch(told, &outputs, &exited, lag).await;
        drop(tasks);
        let (code, unwanted) = watched?;
        let last_words = outputs.finish().await?;
        let state = self.state().await?;
        let code = state.exit_code.unwrap_or(code);
        let ended = Ended {
            // 128 and SIGKILL.
            code: if unwanted && code == 137 { 0 } else { code },
            out_of_memory: state.oom_killed.unwrap_or_default(),
            unwanted,
            last_words,
            container: self.name.to_owned(),
            image_id: self.image.id.clone(),
            snapshot: None,
        };
        let snapshot = match &self.arguments.commit {
            Some(name) if ended.code == 0 => Some(self.commit(name, &variables).await?),
            _ => None,
        };
        Ok(Ended { snapshot, ..ended })
    }

    /// The container's environment: the step's, and what the container is told of itself.
    fn variables(&self) -> Vec<String> {
        let step = self.invocation;
        let own = [
            ("VOX_RUN", step.run.clone()),
            ("VOX_STEP", step.step.clone()),
            ("VOX_ATTEMPT", step.attempt.to_string()),
            ("VOX_IDEMPOTENCY_KEY", step.idempotency_key.clone()),
        ];
        let own = own.map(|(key, value)| format!("{key}={value}"));
        let files = self.files.variables();
        let files = files.iter().map(|(key, value)| format!("{key}={value}"));
        let given = step.environment.iter();
        let given = given.map(|one| format!("{}={}", one.key, one.value));
        given.chain(own).chain(files).collect()
    }

    async fn create(&self, has_input: bool, variables: &[String]) -> Result<()> {
        let arguments = self.arguments;
        let limits = &arguments.limits;
        let mut create = CreateContainerOptionsBuilder::new().name(self.name);
        if let Some(platform) = &arguments.platform {
            create = create.platform(platform);
        }
        // Docker hands everything on to whoever is attached, and needs no record.
        let record = if self.engine.is_podman {
            "k8s-file"
        } else {
            "none"
        };
        let tmpfs = arguments.tmpfs.map(|bytes| {
            let options = format!("rw,nosuid,nodev,size={bytes},mode=1777");
            HashMap::from([("/tmp".to_owned(), options)])
        });
        let host_config = HostConfig {
            mounts: Some(self.files.mounts()),
            network_mode: Some(arguments.network.clone()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(arguments.capabilities.clone()),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(arguments.read_only),
            tmpfs,
            memory: limits.memory,
            // The sum of memory and swap.
            memory_swap: limits.memory,
            nano_cpus: limits.nano_cpus,
            pids_limit: limits.pids,
            log_config: Some(HostConfigLogConfig {
                typ: Some(record.to_owned()),
                config: None,
            }),
            ..HostConfig::default()
        };
        let body = ContainerCreateBody {
            image: Some(self.image.id.clone()),
            entrypoint: arguments.entrypoint.clone(),
            cmd: arguments.command.clone(),
            working_dir: arguments.directory.clone(),
            user: arguments.user.clone().or_else(|| self.default_user()),
            env: Some(variables.to_vec()),
            labels: Some(owner::labels(self.invocation)),
            attach_stdin: Some(has_input),
            open_stdin: Some(has_input),
            stdin_once: Some(has_input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            // What the guard's removal may wait for.
            stop_timeout: Some(1),
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_owned()]),
                ..HealthConfig::default()
            }),
            host_config: Some(host_config),
            ..ContainerCreateBody::default()
        };
        self.engine
            .api
            .create_container(Some(create.build()), body)
            .await
            .map_err(|error| {
                let what = format!(
                    "no container of `{}` can be made",
                    arguments.image.written()
                );
                self.engine.error(&what, &error)
            })?;
        Ok(())
    }

    /// Files that are made belong to whoever runs Vox, where the engine could make them root's.
    fn default_user(&self) -> Option<String> {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let needed = self.files.are_made() && !self.engine.is_rootless && !user.is_root();
        needed.then(|| format!("{}:{}", user.as_raw(), group.as_raw()))
    }

    /// Attaches to the container before it starts, so that nothing is missed: to its output unless
    /// that is recorded, and to its input if there is any.
    async fn attach(
        &self,
        has_input: bool,
    ) -> Result<(Source, Option<Box<AttachContainerResults>>)> {
        let attach = async |input: bool, output: bool| {
            let options = AttachContainerOptionsBuilder::new()
                .stream(true)
                .stdin(input)
                .stdout(output)
                .stderr(output)
                .build();
            let attached = self
                .engine
                .patient
                .attach_container(self.name, Some(options));
            attached.await.map(Box::new).map_err(|error| {
                self.engine
                    .error("no way to the container's streams", &error)
            })
        };
        let source = match self.record().await? {
            Some(path) => Source::Recorded(path),
            None => Source::Attached(attach(false, true).await?),
        };
        let input = match has_input {
            true => Some(attach(true, false).await?),
            false => None,
        };
        Ok((source, input))
    }

    /// Where Podman records the output, if this user can read that.
    async fn record(&self) -> Result<Option<PathBuf>> {
        if !self.engine.is_podman {
            return Ok(None);
        }
        let container = self.engine.api.inspect_container(self.name, None).await;
        let container =
            container.map_err(|error| self.engine.error("the new container", &error))?;
        let path = container.log_path.map(PathBuf::from);
        let readable = path.filter(|path| {
            path.parent()
                .is_some_and(|place| fs::read_dir(place).is_ok())
        });
        if readable.is_none() {
            self.streams.warn(
                "Podman's record of the container's output cannot be read by this user; output \
                 that comes faster than it is taken may be incomplete",
            );
        }
        Ok(readable)
    }

    fn start_error(&self, error: &ApiError) -> Error {
        let text = reason(error);
        let image = self.arguments.image.written();
        let is_program_missing = text.contains("executable file not found")
            || text.contains("no such file or directory") && text.contains("exec");
        if is_program_missing {
            return Error::NotFound(format!(
                "the image `{image}` has no such program: {} says: {text}",
                self.engine.name()
            ));
        }
        self.engine.error(
            &format!("a container of `{image}` cannot be started"),
            error,
        )
    }

    /// Waits until the container has ended and its output is read. Answers its code, and whether it
    /// was ended because nobody took its output.
    async fn watch(
        &self,
        mut told: mpsc::Receiver<Notice>,
        outputs: &Outputs,
        exited: &AtomicBool,
        lag: Option<(PathBuf, Arc<AtomicU64>)>,
    ) -> Result<(i64, bool)> {
        let keeps_output = self.files.are_made() || self.arguments.commit.is_some();
        let mut failure = None;
        let (mut code, mut exited_at, mut has_output) = (None, None, true);
        let mut unwanted = false;
        let (mut terminated_at, mut killed) = (None::<Instant>, false);
        let mut paused = false;
        while exited_at.is_none() || has_output {
            match timeout(TICK, told.recv()).await {
                Ok(Some(Notice::Exited(ended))) => {
                    match ended {
                        Ok(number) => code = Some(number),
                        Err(error) if is_missing(&error) => {
                            failure.get_or_insert(self.vanished());
                        }
                        Err(error) => {
                            let lost = self.engine.error("the container is lost sight of", &error);
                            failure.get_or_insert(lost);
                        }
                    }
                    exited.store(true, Ordering::Release);
                    exited_at = Some(Instant::now());
                }
                Ok(Some(Notice::Output(result))) => {
                    has_output = false;
                    if let Err(error) = result {
                        failure.get_or_insert(error);
                    }
                }
                Ok(Some(Notice::Input(Err(error)))) => {
                    failure.get_or_insert(error);
                }
                Ok(Some(Notice::Input(Ok(())))) | Err(_) => {}
                Ok(None) => break,
            }
            if self.streams.should_cancel() {
                failure.get_or_insert(Error::Cancelled);
            }
            if let Some(error) = outputs.failure() {
                failure.get_or_insert(error);
            }
            let ends = failure.is_some() || outputs.is_unwanted() && !keeps_output;
            if exited_at.is_none() && ends && !killed {
                if std::mem::take(&mut paused) {
                    let _ = self.engine.api.unpause_container(self.name).await;
                }
                // A container is told in no other way that nobody listens.
                unwanted = failure.is_none();
                if unwanted || terminated_at.is_some_and(|at| at.elapsed() > GRACE) {
                    killed = true;
                    signal(self.engine, self.name, "KILL").await;
                } else if terminated_at.is_none() {
                    terminated_at = Some(Instant::now());
                    signal(self.engine, self.name, "TERM").await;
                }
            }
            let is_running = exited_at.is_none() && !ends;
            if let Some((path, read)) = lag.as_ref().filter(|_| is_running) {
                let written = fs::metadata(path).map_or(0, |meta| meta.len());
                let behind = written.saturating_sub(read.load(Ordering::Acquire));
                if !paused && behind > HIGH {
                    // Where containers cannot be paused, the record grows.
                    paused = self.engine.api.pause_container(self.name).await.is_ok();
                } else if paused && behind < LOW {
                    paused = self.engine.api.unpause_container(self.name).await.is_err();
                }
            }
            // Whoever gives up has no use for the rest; and a stream that the engine does not close
            // keeps nobody.
            let rest = if ends { GRACE } else { LAST_OUTPUT };
            if exited_at.is_some_and(|at: Instant| at.elapsed() > rest)
                && (ends || lag.is_none() && outputs.is_idle())
            {
                break;
            }
        }
        match (failure, code) {
            (Some(error), _) => Err(error),
            (None, Some(code)) => Ok((code, unwanted)),
            (None, None) => Err(self.vanished()),
        }
    }

    /// What the engine knows of the container at its end.
    async fn state(&self) -> Result<ContainerState> {
        let mut tries = 0;
        loop {
            match self.engine.api.inspect_container(self.name, None).await {
                Ok(container) => return Ok(container.state.unwrap_or_default()),
                Err(error) if is_missing(&error) => return Err(self.vanished()),
                // Podman has states, which soon pass, that Docker's API has no word for.
                Err(ApiError::JsonDataError { .. }) if tries < 40 => tries += 1,
                Err(error) => return Err(self.engine.error("the ended container", &error)),
            }
            sleep(TICK).await;
        }
    }

    fn vanished(&self) -> Error {
        Error::Failed(format!(
            "the container `{}` vanished while it ran: somebody else removed it, or {} was reset; \
             how far it had come is not known",
            self.name,
            self.engine.name()
        ))
    }

    async fn commit(&self, name: &str, variables: &[String]) -> Result<Snapshot> {
        let commit = images::commit(
            self.engine,
            self.name,
            &self.invocation.run,
            name,
            &self.image.config,
            variables,
        );
        or_cancelled(self.streams, commit).await
    }
}

/// Tasks that end with the container's life.
struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    fn spawn(
        &mut self,
        notices: &mpsc::Sender<Notice>,
        work: impl Future<Output = Notice> + Send + 'static,
    ) {
        let notices = notices.clone();
        self.0.push(tokio::spawn(async move {
            // Nobody listens once the step has given up.
            let _ = notices.send(work.await).await;
        }));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Waits for a container's end.
async fn wait(engine: &Engine, name: &str) -> Result<i64, ApiError> {
    let mut answers = Box::pin(
        engine
            .patient
            .wait_container(name, None::<WaitContainerOptions>),
    );
    match answers.next().await {
        Some(Ok(answer)) => Ok(answer.status_code),
        // Any code but 0.
        Some(Err(ApiError::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(error),
        None => Err(ApiError::DockerStreamError {
            error: "the engine hung up".to_owned(),
        }),
    }
}

async fn read_attached(attached: AttachContainerResults, sink: Sink) -> Result<()> {
    let mut output = attached.output;
    while let Some(piece) = output.next().await {
        let (port, bytes) = match piece {
            Ok(LogOutput::StdErr { message }) => (Port::Err, message),
            Ok(LogOutput::StdOut { message } | LogOutput::Console { message }) => {
                (Port::Out, message)
            }
            Ok(LogOutput::StdIn { .. }) => continue,
            Err(error) => {
                return Err(Error::Failed(format!(
                    "the container's output cannot be read: {}",
                    reason(&error)
                )));
            }
        };
        sink.take(port, bytes.to_vec()).await;
    }
    Ok(())
}

/// Opens a record, which is made about when the container starts.
async fn open_record(path: &Path) -> Result<Record> {
    let mut tries = 0;
    loop {
        match Record::open(path) {
            Ok(record) => return Ok(record),
            Err(_) if tries < 100 => tries += 1,
            Err(error) => {
                return Err(Error::Failed(format!(
                    "the container's output cannot be read from {}: {error}",
                    path.display()
                )));
            }
        }
        sleep(POLL).await;
    }
}

async fn read_record(
    mut record: Record,
    sink: Sink,
    exited: &AtomicBool,
    position: &AtomicU64,
) -> Result<()> {
    loop {
        // Asked before reading: what was written before the end is there to be read.
        let is_last = exited.load(Ordering::Acquire);
        let pieces = record.read().map_err(|error| {
            Error::Failed(format!("the container's output cannot be read: {error}"))
        })?;
        if pieces.is_empty() && record.is_read() {
            if is_last {
                return Ok(());
            }
            sleep(POLL).await;
        }
        for (port, piece) in pieces {
            sink.take(port, piece).await;
        }
        position.store(record.position(), Ordering::Release);
    }
}

/// Writes what comes from the port, until it ends or the container reads no more.
async fn write_input(attached: AttachContainerResults, mut input: Input) -> Result<()> {
    let AttachContainerResults {
        input: mut pipe,
        mut output,
    } = attached;
    while let Some(chunk) = input.chunks.recv().await {
        if pipe.write_all(&chunk?).await.is_err() {
            return Ok(());
        }
    }
    let _ = pipe.flush().await;
    let _ = pipe.shutdown().await;
    // The engine takes a connection that is closed altogether for one that broke.
    while let Some(Ok(_)) = output.next().await {}
    Ok(())
}

/// Sends a signal to a container. One that has ended is no error.
pub async fn signal(engine: &Engine, name: &str, signal: &str) {
    let options = KillContainerOptionsBuilder::new().signal(signal).build();
    let _ = engine.api.kill_container(name, Some(options)).await;
}
