//! The life of a container: made, run, and always removed.
//!
//! What must stay true:
//!
//! - When [`run`] returns, the container is gone: after success, failure and cancellation here, after
//!   a panic and when the host is killed by the [`Guard`], and when that was killed too, before the
//!   next step that a container runs on this machine.
//! - An output is delivered only when the container has succeeded and is gone.
//! - What a killed host has left beside the outputs' places goes before the next container makes something there.

use std::collections::HashMap;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::errors::Error as ApiError;
use bollard::query_parameters::{ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use serde::Deserialize;
use tokio::time::{sleep, timeout};
use vox_plugin::step::Invocation;
use vox_plugin::{Error, Result};

use crate::arguments::Arguments;
use crate::container::{Container, Ended, TICK, signal};
use crate::engine::{Engine, is_missing, reason};
use crate::files::Files;
use crate::guard::Guard;
use crate::images;
use crate::owner;
use crate::streams::Streams;

/// Runs a container to its end. It reads port `stdin` where the invocation has it.
///
/// # Errors
///
/// The container cannot be had, it vanished, a file or stream of it cannot be moved, or
/// [`Error::Cancelled`].
pub fn run(
    invocation: &Invocation,
    arguments: &Arguments,
    socket: &Path,
    streams: &Arc<dyn Streams>,
) -> Result<Ended> {
    block_on(async {
        let engine = or_cancelled(streams, Engine::connect(socket)).await?;
        carry_out(&engine, invocation, arguments, streams).await
    })
}

/// Waits for what only this thread does.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| Error::Unavailable(format!("nothing can be waited for: {error}")))?
        .block_on(work)
}

async fn carry_out(
    engine: &Engine,
    invocation: &Invocation,
    arguments: &Arguments,
    streams: &Arc<dyn Streams>,
) -> Result<Ended> {
    or_cancelled(streams, remove_left_over(engine, invocation, streams)).await?;
    let image = images::find(engine, arguments, &invocation.run);
    let image = or_cancelled(streams, image).await?;
    let name = unique_name(&invocation.step);
    let files = Files::new(
        invocation.input_files.clone(),
        invocation.output_files.clone(),
        &name,
        &owner::labels(invocation),
    )?;
    let guard = Guard::new(&engine.socket, &name)?;
    let container = Container {
        engine,
        name: &name,
        invocation,
        arguments,
        image: &image,
        files: &files,
        streams,
    };
    let ended = container.live().await;
    match remove(engine, &name).await {
        Ok(()) => guard.dismiss(),
        // The guard tries by its own connection.
        Err(error) => {
            drop(guard);
            if !matches!(engine.api.inspect_container(&name, None).await, Err(error) if is_missing(&error))
            {
                streams.warn(&format!(
                    "the container `{name}` cannot be removed: {}; the next container step on \
                     this machine tries again, or remove it with `{} rm -f {name}`",
                    reason(&error),
                    engine.name().to_lowercase(),
                ));
            }
        }
    }
    let ended = ended?;
    if ended.code == 0 {
        files.deliver()?;
    }
    Ok(ended)
}

/// Waits for `work` unless the step is cancelled; then the work is dropped.
pub async fn or_cancelled<T>(
    streams: &Arc<dyn Streams>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut work = pin!(work);
    loop {
        if streams.should_cancel() {
            return Err(Error::Cancelled);
        }
        if let Ok(done) = timeout(TICK, work.as_mut()).await {
            return done;
        }
    }
}

/// A name that no other container has, and that people recognise.
fn unique_name(step: &str) -> String {
    let step: String = step
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '-')
        .take(40)
        .collect();
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    format!("vox-{step}-{}-{time:x}", std::process::id())
}

/// Removes what earlier tries of the step, and hosts that are gone, have left.
async fn remove_left_over(
    engine: &Engine,
    invocation: &Invocation,
    streams: &Arc<dyn Streams>,
) -> Result<()> {
    for Listed { id, labels } in ours(engine).await? {
        if owner::is_left_over(&labels, &invocation.idempotency_key)
            && let Err(error) = remove(engine, &id).await
        {
            streams.warn(&format!(
                "the container `{id}`, left over from an earlier run, cannot be removed: {}",
                reason(&error)
            ));
        }
    }
    Ok(())
}

/// What is looked at of a container in a list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    labels: HashMap<String, String>,
}

/// All containers that carry our label, in whichever state.
async fn ours(engine: &Engine) -> Result<Vec<Listed>> {
    let filters = HashMap::from([("label", vec![owner::KEY])]);
    let options = ListContainersOptionsBuilder::new()
        .all(true)
        .filters(&filters)
        .build();
    let failed = |error: &ApiError| engine.error("containers cannot be listed", error);
    match engine.api.list_containers(Some(options)).await {
        Ok(all) => Ok(all
            .into_iter()
            .filter_map(|container| {
                Some(Listed {
                    id: container.id?,
                    labels: container.labels?,
                })
            })
            .collect()),
        // Podman knows the state `stopped`, for which Docker's API has no word; it may last. States
        // do not matter here.
        Err(error) => match &error {
            ApiError::JsonDataError { contents, .. } => {
                vox_plugin::serde_json::from_str(contents).map_err(|_| failed(&error))
            }
            _ => Err(failed(&error)),
        },
    }
}

/// Removes a container with its anonymous volumes, whether it runs or not. One that is not there is
/// no error.
async fn remove(engine: &Engine, name: &str) -> Result<(), ApiError> {
    let mut tries = 0;
    loop {
        // Podman's removal by force first asks politely, and waits.
        signal(engine, name, "KILL").await;
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        match engine.api.remove_container(name, Some(options)).await {
            Ok(()) => return Ok(()),
            Err(error) if is_missing(&error) => return Ok(()),
            // Somebody else removes it just now.
            Err(error) if tries == 5 => return Err(error),
            Err(_) => tries += 1,
        }
        sleep(4 * TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{IMAGE, Memory, podman};
    use crate::tests::shell;

    #[test]
    fn output_is_read_from_an_engine_that_hands_everything_on() {
        let Some(podman) = podman() else { return };
        let _turn = podman.shared();
        let streams = Arc::new(Memory::with_input(vec![b"some words\n".to_vec()]));
        let mut step = shell("cat; echo oops >&2; printf end; exit 4");
        step.inputs = vec!["stdin".to_owned()];
        let arguments = Arguments::new(&step.arguments).unwrap();
        assert_eq!(arguments.image.written(), IMAGE);
        let ended = block_on(async {
            // Docker's way, which Podman can go as well while there is little to say.
            let engine = Engine {
                is_podman: false,
                ..Engine::connect(&podman.socket()).await?
            };
            carry_out(&engine, &step, &arguments, &(Arc::clone(&streams) as _)).await
        })
        .unwrap();
        assert_eq!(ended.code, 4);
        assert_eq!(ended.last_words, ["oops"]);
        assert_eq!(streams.text("stdout"), "some words\nend");
        assert!(podman.containers(&step.run).is_empty());
    }
}
