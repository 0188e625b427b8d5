//! What steps read and make: the files of inputs, keys of results, and results kept and taken over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use vox_contract::{Carrier, HookPoint, PluginId};
use vox_host::contract::step;

use super::CacheUse;
use super::built_in::Trouble;
use super::execute::Execution;
use super::facts;
use super::message::Ended;
use super::prepare::Runner;
use crate::cache::artifact::ArtifactError;
use crate::cache::{Artifact, CachedStep, Key, Keyed, Parts, place};
use crate::graph::{Group, StepIndex};
use crate::plan::Transform;
use crate::report::{Cause, Provenance, StepOutcome};

/// The files that steps read, by step.
pub(crate) type Files = BTreeMap<StepIndex, Vec<step::Artifact>>;

impl Execution<'_> {
    /// The files that these steps read.
    pub(super) fn files_of(&self, members: &[StepIndex]) -> Result<Files, (StepIndex, Trouble)> {
        let graph = self.engine.plan.graph();
        let mut files = Files::new();
        for index in members {
            let of_step = files.entry(*index).or_default();
            for (name, input) in self.step(*index).inputs() {
                let paths = match &input.path {
                    Some(pattern) => matching(&self.directory, pattern).map_err(|fault| {
                        let message = format!("input `{name}`: {fault}");
                        (*index, Trouble::new(Cause::Input, message))
                    })?,
                    None => {
                        let made = graph.artifacts_of(*index).find(|made| made.input == *name);
                        let Some(made) = made else { continue };
                        let output = &self.step(made.maker).outputs[&made.output];
                        vec![self.place_of(&output.path)]
                    }
                };
                for path in paths {
                    if !path.exists() {
                        let message = format!("input `{name}`: there is no {}", path.display());
                        return Err((*index, Trouble::new(Cause::Input, message)));
                    }
                    of_step.push(step::Artifact {
                        name: name.clone(),
                        path: path.display().to_string(),
                    });
                }
            }
        }
        Ok(files)
    }

    /// The key of the group's result, with what it is made of; none where it is not to be cached.
    pub(super) fn key_of(
        &self,
        group: &Group,
        files: &Files,
    ) -> Result<Option<Keyed>, (StepIndex, Trouble)> {
        if self.options.cache == CacheUse::Off
            || self.cache.is_none()
            || !group.members.iter().all(|step| self.is_cached(*step))
        {
            return Ok(None);
        }
        let mut all = Vec::with_capacity(group.members.len());
        for index in &group.members {
            match self.parts(*index, group, files) {
                Ok(Some(parts)) => all.push(parts),
                Ok(None) => return Ok(None),
                Err(trouble) => return Err((*index, trouble)),
            }
        }
        let key = Key::of(&all).map_err(|error| {
            (
                group.members[0],
                Trouble::new(Cause::Internal, error.to_string()),
            )
        })?;
        Ok(Some((key, all)))
    }

    /// Whether a hook may change what flows through streams.
    fn hooks_may_change(&self) -> bool {
        let points = [
            HookPoint::PostChunk,
            HookPoint::PreFusion,
            HookPoint::PostFusion,
        ];
        self.hooks()
            .is_some_and(|hooks| points.iter().any(|point| hooks.watch(point)))
    }

    fn is_cached(&self, index: StepIndex) -> bool {
        let cast = &self.engine.cast;
        let step = self.step(index);
        let stages = step.inputs().flat_map(|(_, input)| &input.through);
        let is_pure = |transform: &Transform| {
            let host = &self.engine.host;
            facts::is_pure(host, &transform.stage)
                && cast
                    .facts
                    .carrier(&transform.stage)
                    .is_some_and(|carrier| carrier == Carrier::Component)
        };
        match step.cache {
            Some(cached) => cached,
            None => cast.pure[index] && stages.into_iter().all(is_pure),
        }
    }

    /// What the key of a step is made of; none where something of it cannot be known.
    fn parts(
        &self,
        index: StepIndex,
        group: &Group,
        files: &Files,
    ) -> Result<Option<Parts>, Trouble> {
        let step = self.step(index);
        let facts = &self.engine.cast.facts;
        let mut parts = Parts::new();
        let mut add = |name: String, value: String| {
            parts.insert(name, value);
        };
        add("runner".into(), step.uses.to_string());
        let arguments = Value::Object(step.arguments.clone());
        add("arguments".into(), arguments.to_string());
        if let Runner::Plugin { plugin, .. } = self.runner(index) {
            let Some(fact) = facts.of(plugin) else {
                return Ok(None);
            };
            add("plugin".into(), fact.name);
            add("code".into(), fact.code.to_hex());
            add("config".into(), fact.config);
        } else {
            add("code".into(), env!("CARGO_PKG_VERSION").into());
        }
        if let Runner::BuiltIn(built_in) = self.runner(index) {
            for plugin in built_in.may_call(&self.engine.host) {
                let Some(fact) = facts.of(&plugin) else {
                    return Ok(None);
                };
                add(format!("calls.{plugin}"), fact.text());
            }
        }
        if self.hooks_may_change() {
            // A plan may name one plugin several times, each time with other arguments.
            let mut of_plugins: BTreeMap<&PluginId, Vec<String>> = BTreeMap::new();
            for hook in &self.engine.cast.hooks {
                let Some(fact) = facts.of(&hook.plugin) else {
                    return Ok(None);
                };
                let arguments = Value::Object(hook.arguments.clone());
                let text = format!("{} {arguments}", fact.text());
                of_plugins.entry(&hook.plugin).or_default().push(text);
            }
            for (plugin, texts) in of_plugins {
                add(format!("hook.{plugin}"), texts.join(", "));
            }
        }
        for (name, value) in &self.options.variables {
            // The parts of a key are recorded, and what the user gives a run is not.
            let hash = vox_crypto::hash(value.as_bytes()).to_hex();
            add(format!("env.{name}"), format!("hash {hash}"));
        }
        for (name, value) in &step.environment {
            add(format!("env.{name}"), value.clone());
        }
        for name in &step.secrets {
            add(format!("secret.{name}"), "set".into());
        }
        for (name, output) in &step.outputs {
            let port = output.port.as_ref();
            let port = port.map_or_else(String::new, |port| format!(" from port {port}"));
            add(format!("output.{name}"), format!("{}{port}", output.path));
        }
        for file in files.get(&index).into_iter().flatten() {
            let artifact = Artifact::of(Path::new(&file.path)).map_err(|error| {
                Trouble::new(Cause::Input, format!("input `{}`: {error}", file.name))
            })?;
            // Several files of one pattern are told apart by where they are.
            let relative = Path::new(&file.path).strip_prefix(&self.directory);
            let relative = relative.unwrap_or(Path::new(&file.path)).display();
            add(format!("input.{} {relative}", file.name), artifact.hash());
        }
        let graph = self.engine.plan.graph();
        for stream in group.streams.iter().map(|at| &graph.streams()[*at]) {
            if stream.reader != index {
                continue;
            }
            let writer = group.members.iter().position(|step| *step == stream.writer);
            let mut text = format!("{}.{}", writer.unwrap_or_default(), stream.output);
            let through = step.input(&stream.input).map(|input| &input.through);
            for transform in through.into_iter().flatten() {
                let Some(fact) = facts.of(&transform.stage) else {
                    return Ok(None);
                };
                let arguments = Value::Object(transform.arguments.clone());
                text.push_str(&format!(" through {} {arguments}", fact.text()));
            }
            add(format!("stream.{}", stream.input), text);
        }
        Ok(Some(parts))
    }

    /// Takes a result over, if it is there; what goes wrong is told and is no reason to fail.
    pub(super) fn restore(&self, members: &[StepIndex], key: &Key) -> Option<Vec<Ended>> {
        if self.options.cache != CacheUse::Full {
            return None;
        }
        let cache = self.cache.as_ref()?;
        let result = match cache.get(key) {
            Ok(result) => result?,
            Err(error) => {
                self.warn(format!("the cache cannot be read, the steps run: {error}"));
                return None;
            }
        };
        if result.steps.len() != members.len() {
            return None;
        }
        let mut places: Vec<(PathBuf, &Artifact)> = Vec::new();
        for (step, cached) in members.iter().zip(&result.steps) {
            for (name, output) in &self.step(*step).outputs {
                places.push((self.place_of(&output.path), cached.outputs.get(name)?));
            }
        }
        if let Err(error) = place::restore(&places, cache.store()) {
            let keys: Vec<&str> = result.steps.iter().map(|step| step.step.as_str()).collect();
            self.warn(format!(
                "the result of `{}` cannot be taken from the cache, it runs: {error}",
                keys.join("`, `")
            ));
            return None;
        }
        let ends = members.iter().zip(result.steps).map(|(step, cached)| {
            let outputs = cached.outputs.iter();
            Ended {
                step: *step,
                outcome: StepOutcome::Succeeded {
                    summary: cached.summary,
                    attributes: cached.attributes,
                },
                duration: Duration::ZERO,
                provenance: Provenance {
                    attempts: 0,
                    cached: Some(result.run),
                    earlier: None,
                },
                outputs: outputs
                    .map(|(name, artifact)| (name.clone(), artifact.hash()))
                    .collect(),
            }
        });
        Some(ends.collect())
    }

    /// Looks at what steps that ended well were to make, and keeps it under `key`. What is missing
    /// makes a failure of them.
    pub(super) fn keep(
        &self,
        group: &Group,
        files: &Files,
        ends: &mut [Ended],
        key: Option<&Keyed>,
    ) {
        let whole = ends.iter().all(|end| end.outcome.is_success());
        let store = self
            .cache
            .as_ref()
            .filter(|_| whole && key.is_some())
            .map(|cache| cache.store());
        let mut made: Vec<BTreeMap<String, Artifact>> = Vec::with_capacity(ends.len());
        for end in ends.iter_mut() {
            let mut of_step = BTreeMap::new();
            if end.outcome.is_success() {
                for (name, output) in &self.step(end.step).outputs {
                    let place = self.place_of(&output.path);
                    match self.made(&place, store) {
                        Ok(artifact) => {
                            end.outputs.insert(name.clone(), artifact.hash());
                            of_step.insert(name.clone(), artifact);
                        }
                        Err(fault) => {
                            let message = format!("its output `{name}`: {fault}");
                            end.outcome = StepOutcome::failed(Cause::Output, message);
                            break;
                        }
                    }
                }
            }
            made.push(of_step);
        }
        let (Some((key, _)), Some(cache)) = (key, &self.cache) else {
            return;
        };
        if !ends.iter().all(|end| end.outcome.is_success()) {
            return;
        }
        // What it reads, or the code that carried it out, may have changed since the key was made.
        match self.key_of(group, files) {
            Ok(Some((now, _))) if now == *key => {}
            _ => {
                let keys: Vec<&str> = group
                    .members
                    .iter()
                    .map(|step| self.step(*step).key.as_str())
                    .collect();
                self.warn(format!(
                    "the result of `{}` is not kept in the cache: what it reads changed while it ran",
                    keys.join("`, `")
                ));
                return;
            }
        }
        let mut steps = Vec::with_capacity(ends.len());
        // The order of the group, whichever of them ended first.
        for step in &group.members {
            let Some(at) = ends.iter().position(|end| end.step == *step) else {
                return;
            };
            let StepOutcome::Succeeded {
                summary,
                attributes,
            } = &ends[at].outcome
            else {
                return;
            };
            steps.push(CachedStep {
                step: self.step(*step).key.clone(),
                summary: summary.clone(),
                attributes: attributes.clone(),
                micros: u64::try_from(ends[at].duration.as_micros()).unwrap_or(u64::MAX),
                outputs: std::mem::take(&mut made[at]),
            });
        }
        match cache.put(key, self.options.id, steps) {
            Ok(()) => {
                self.kept.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => self.warn(format!("a result cannot be kept in the cache: {error}")),
        }
    }

    /// What a step has made at `place`.
    fn made(&self, place: &Path, store: Option<&vox_store::Store>) -> Result<Artifact, String> {
        let shown = place.strip_prefix(&self.directory).unwrap_or(place);
        let Ok(real) = place.canonicalize() else {
            return Err(format!(
                "it ended well, and there is no {}",
                shown.display()
            ));
        };
        let inside = self.directory.canonicalize();
        if !inside.is_ok_and(|directory| real.starts_with(directory)) {
            return Err(format!(
                "{} leads out of the run's directory, to {}",
                shown.display(),
                real.display()
            ));
        }
        let artifact = match store {
            Some(store) => match Artifact::store(place, store) {
                Err(error @ (ArtifactError::Store(_) | ArtifactError::Keep { .. })) => {
                    self.warn(format!(
                        "{} cannot be kept in the cache: {error}",
                        shown.display()
                    ));
                    Artifact::of(place)
                }
                stored => stored,
            },
            None => Artifact::of(place),
        };
        artifact.map_err(|error| error.to_string())
    }

    pub(super) fn warn(&self, message: String) {
        self.reporter
            .send(super::message::Message::Warning(message));
    }
}

/// The files and directories that a path or a pattern names, in order.
///
/// # Errors
///
/// It is no pattern, a directory cannot be read, or nothing is there.
pub(crate) fn matching(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let path = directory.join(pattern);
    if !is_pattern(pattern) || path.exists() {
        return if path.exists() {
            Ok(vec![path])
        } else {
            Err(format!("there is no {pattern}"))
        };
    }
    let directory = glob::Pattern::escape(&directory.display().to_string());
    let whole = if Path::new(pattern).is_absolute() {
        pattern.to_owned()
    } else {
        format!("{directory}/{pattern}")
    };
    let found =
        glob::glob(&whole).map_err(|error| format!("`{pattern}` is no pattern: {error}"))?;
    let found: Result<Vec<PathBuf>, _> = found.collect();
    let mut found = found.map_err(|error| error.to_string())?;
    found.sort_unstable();
    if found.is_empty() {
        return Err(format!("nothing matches {pattern}"));
    }
    Ok(found)
}

/// Whether a path names several.
fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}
