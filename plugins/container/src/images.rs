//! Images: had locally or pulled, and made of a container as a snapshot.
//!
//! A snapshot is called `localhost/vox/<run>/<name>:latest`. The run's id keeps the snapshots of
//! different runs apart, and no registry is asked for what is at `localhost`. Its label
//! `dev.vox.run` is the run's id. It has the files of the container, and the settings of the image
//! that the container was made of: the step's own environment, which may hold secrets, is not kept.

use std::collections::BTreeSet;

use bollard::models::{ContainerConfig, ImageConfig, ImageInspect};
use bollard::query_parameters::{CommitContainerOptionsBuilder, CreateImageOptionsBuilder};
use futures_util::StreamExt;
use vox_plugin::serde_json;
use vox_plugin::{Error, Result};

use crate::arguments::{Arguments, Image, Pull, is_snapshot_name};
use crate::engine::{Engine, is_missing, reason};
use crate::owner;

/// An image that the engine has.
pub struct Found {
    /// Its id, with the algorithm.
    pub id: String,
    /// What containers of it begin with.
    pub config: ImageConfig,
}

/// A snapshot that was made.
#[derive(Debug)]
pub struct Snapshot {
    /// What it is called.
    pub name: String,
    /// Its id.
    pub id: String,
}

/// Finds the image of a step, and pulls it where that is asked for.
///
/// # Errors
///
/// [`Error::NotFound`] where there is no such image, [`Error::Unavailable`] where it cannot be
/// pulled.
pub async fn find(engine: &Engine, arguments: &Arguments, run: &str) -> Result<Found> {
    match &arguments.image {
        Image::Local(name) => find_local(engine, name, run).await,
        Image::Reference(reference) => {
            let reference = with_tag(reference);
            if arguments.pull == Pull::Always {
                pull(engine, &reference, arguments.platform.as_deref()).await?;
            }
            match inspect(engine, &reference).await? {
                Some(found) => Ok(found),
                None if arguments.pull == Pull::Never => Err(Error::NotFound(format!(
                    "{} has no image `{reference}`, and `pull = \"never\"` keeps it from being \
                     fetched; leave `pull` out, or fetch it with `{} pull {reference}`",
                    engine.name(),
                    engine.name().to_lowercase(),
                ))),
                None => {
                    pull(engine, &reference, arguments.platform.as_deref()).await?;
                    inspect(engine, &reference).await?.ok_or_else(|| {
                        Error::NotFound(format!(
                            "{} pulled `{reference}` and has no such image now; was it removed?",
                            engine.name()
                        ))
                    })
                }
            }
        }
    }
}

async fn find_local(engine: &Engine, name: &str, run: &str) -> Result<Found> {
    if is_snapshot_name(name)
        && let Some(found) = inspect(engine, &snapshot_name(run, name)).await?
    {
        return Ok(found);
    }
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let is_id = digits.len() >= 12 && digits.chars().all(|c| c.is_ascii_hexdigit());
    if is_id && let Some(found) = inspect(engine, name).await? {
        return Ok(found);
    }
    Err(Error::NotFound(format!(
        "this run has no snapshot `{name}`; let an earlier step, which this one `needs`, make it \
         with `commit = \"{name}\"`, or write `image` for an image of a registry"
    )))
}

async fn inspect(engine: &Engine, name: &str) -> Result<Option<Found>> {
    match engine.api.inspect_image(name).await {
        Ok(ImageInspect {
            id: Some(id),
            config,
            ..
        }) => Ok(Some(Found {
            id,
            config: config.unwrap_or_default(),
        })),
        Ok(_) => Err(Error::Failed(format!(
            "{} tells no id of image `{name}`",
            engine.name()
        ))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(engine.error(&format!("image `{name}`"), &error)),
    }
}

/// Pulls an image. Dropping the future ends the pull.
async fn pull(engine: &Engine, reference: &str, platform: Option<&str>) -> Result<()> {
    let mut options = CreateImageOptionsBuilder::new().from_image(reference);
    if let Some(platform) = platform {
        options = options.platform(platform);
    }
    let mut progress = engine
        .patient
        .create_image(Some(options.build()), None, None)
        .boxed();
    while let Some(step) = progress.next().await {
        step.map_err(|error| {
            Error::Unavailable(format!(
                "`{reference}` cannot be pulled: {} says: {}; check its name, that the registry \
                 can be reached, and that the engine may use it (`{} login`), or have the image \
                 here already",
                engine.name(),
                reason(&error),
                engine.name().to_lowercase()
            ))
        })?;
    }
    Ok(())
}

/// Makes a snapshot of a container that has ended.
///
/// # Errors
///
/// The engine cannot.
pub async fn commit(
    engine: &Engine,
    container: &str,
    run: &str,
    name: &str,
    image: &ImageConfig,
    variables: &[String],
) -> Result<Snapshot> {
    let snapshot = snapshot_name(run, name);
    let repository = snapshot.trim_end_matches(":latest");
    let options = CommitContainerOptionsBuilder::new()
        .container(container)
        .repo(repository)
        .tag("latest")
        .pause(false)
        .changes(&changes(run, name, image, variables))
        .build();
    let made = engine
        .api
        .commit_container(options, ContainerConfig::default())
        .await
        .map_err(|error| engine.error(&format!("the snapshot `{name}` cannot be made"), &error))?;
    let id = match made.id.contains(':') {
        true => made.id,
        false => format!("sha256:{}", made.id),
    };
    Ok(Snapshot { name: snapshot, id })
}

/// What is to be written over the container's settings, in the words of a Dockerfile: the image's,
/// and nothing for a variable that the image does not have.
fn changes(run: &str, name: &str, image: &ImageConfig, variables: &[String]) -> String {
    let words = |words: &Option<Vec<String>>| {
        serde_json::to_string(words.as_deref().unwrap_or_default()).unwrap_or_default()
    };
    let mut changes = vec![
        format!("LABEL {}={run}", owner::RUN),
        format!("LABEL dev.vox.snapshot={name}"),
        format!("ENTRYPOINT {}", words(&image.entrypoint)),
        format!("CMD {}", words(&image.cmd)),
    ];
    if let Some(directory) = image.working_dir.as_deref().filter(|d| !d.is_empty()) {
        changes.push(format!("WORKDIR {directory}"));
    }
    let key = |variable: &String| variable.split('=').next().unwrap_or_default().to_owned();
    let keys: BTreeSet<String> = variables.iter().map(key).collect();
    for name in keys {
        let kept = image.env.iter().flatten().find(|one| key(one) == name);
        let value = kept.map_or("", |one| &one[name.len() + 1..]);
        changes.push(format!("ENV {name}={}", quoted(value)));
    }
    changes.join("\n")
}

/// A value as a Dockerfile writes it, where it has to be quoted.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:._-+,=@%".contains(c);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    let escaped = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('$', "\\$");
    format!("\"{escaped}\"")
}

/// What a snapshot of a run is called.
pub fn snapshot_name(run: &str, name: &str) -> String {
    let run = run
        .to_lowercase()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let run = run.trim_matches('-');
    format!("localhost/vox/{run}/{name}:latest")
}

/// A reference of one image: an engine takes one without a tag for all that a repository has.
fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains([':', '@']) {
        return reference.to_owned();
    }
    format!("{reference}:latest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_a_tag_means_the_latest() {
        assert_eq!(with_tag("alpine"), "alpine:latest");
        assert_eq!(with_tag("host:5000/alpine"), "host:5000/alpine:latest");
        assert_eq!(with_tag("host/alpine:3"), "host/alpine:3");
        assert_eq!(with_tag("alpine@sha256:00"), "alpine@sha256:00");
    }

    #[test]
    fn snapshots_of_different_runs_have_different_names() {
        assert_ne!(snapshot_name("a", "s"), snapshot_name("b", "s"));
        assert_eq!(
            snapshot_name("0192-AB", "deps"),
            "localhost/vox/0192-ab/deps:latest"
        );
    }

    #[test]
    fn a_snapshot_keeps_the_images_settings_and_none_of_the_steps() {
        let image = ImageConfig {
            env: Some(vec![
                "PATH=/bin:/usr/bin".to_owned(),
                "A=x \"y\"".to_owned(),
            ]),
            cmd: Some(vec!["/bin/sh".to_owned()]),
            ..ImageConfig::default()
        };
        let variables = ["TOKEN=secret", "PATH=/other", "A=1"].map(str::to_owned);
        let changes = changes("r", "s", &image, &variables);
        assert!(changes.contains("ENV TOKEN=\n") || changes.ends_with("ENV TOKEN="));
        assert!(changes.contains("ENV PATH=/bin:/usr/bin"));
        assert!(changes.contains(r#"ENV A="x \"y\"""#));
        assert!(changes.contains(r#"CMD ["/bin/sh"]"#));
        assert!(changes.contains("ENTRYPOINT []"));
        assert!(!changes.contains("secret"));
    }
}
