//! The hooks of one run: what they are told at which point, and what they stop.
//!
//! The order, the time and the failures of hooks are [`HookChain`]'s; here is what belongs to a
//! run: the payloads, and who hears of what hooks do wrong.
//!
//! | point | step | `detail` | payload | may |
//! |---|---|---|---|---|
//! | `pre_pipeline` | | `pipeline`, `steps` (keys) | | abort: nothing runs |
//! | `pre_step` | the step | `runner`, `label`, `arguments` | | abort: the step fails unstarted |
//! | `post_step` | the step | its outcome: `status`, and `summary`, `message` or `reason` with what belongs to it; `seconds`, `cached` | | abort: the step counts as failed |
//! | `post_chunk` | the reader | `from`, `to`, `modality`, `sequence`, `timestamp` | the chunk | replace the bytes; drop the chunk; abort: the stream breaks |
//! | `pre_fusion` | the `fuse` step | `sequence`, `inputs` (`modality`, `sequence`, `timestamp`, `bytes` of each) | the set in canonical CBOR | replace it by another set; abort: the step fails |
//! | `post_fusion` | the `fuse` step | `sequence`, `modality`, `timestamp` | the set or the vector that is about to leave | replace the bytes; abort: the step fails |
//! | `on_error` | the step | `message` | | |
//! | `on_metrics` | the step; none at the end, where what the plugins cost is told | `plugin`, `port`, `samples` | | |
//! | `post_pipeline` | | the run's outcome: `status`, with `by` and `reason` where it was aborted; `steps` (key to status) | | |
//! | `custom:<name>` | the emitter's | `plugin` | the event's JSON | replace the event; abort: it is not emitted |
//!
//! A custom point is fired by an event of its name, from a step, a stage, a hook, or a plugin that
//! one of them called. The emitter waits for the hooks, and is answered an error where they abort.
//!
//! What must stay true: the hooks reach the run through the reporter alone, which does not keep
//! them alive; so a hook that calls the run that called it is a hook within a hook, and ends where
//! the limit `hook-depth` says.

use std::sync::{Arc, OnceLock, Weak};

use serde_json::{Value, json};
use vox_contract::HookPoint;
pub(crate) use vox_host::hooks::{Abort, Answer};
use vox_host::hooks::{HookChain, HookOptions, HookSource, HookSwitches, Nesting, Occasion};
use vox_host::{Emitter, Host, contract};

use super::message::{Message, Reporter};
use crate::ports::measure;
use crate::report::PluginMetrics;

/// The hooks of a run.
#[derive(Debug)]
pub(crate) struct Hooks {
    chain: HookChain,
    /// Keys of the steps, by their index.
    steps: Vec<String>,
    reporter: Reporter,
}

/// Where a reporter finds the hooks, once they were opened.
pub(crate) type HooksCell = Arc<OnceLock<Weak<Hooks>>>;

impl Hooks {
    /// Starts the hooks, and has `reporter` and all that are made of it fire custom points at
    /// them.
    ///
    /// # Errors
    ///
    /// A hook cannot be started, and its failure stops the run.
    pub fn open(
        host: &Host,
        run: String,
        sources: &[HookSource],
        switches: HookSwitches,
        steps: Vec<String>,
        reporter: Reporter,
    ) -> Result<Arc<Self>, Abort> {
        let mut options = HookOptions::default();
        options.run = run;
        options.events = Arc::new(reporter.clone());
        options.switches = switches;
        let chain = HookChain::open(host, sources.iter().cloned(), &options)?;
        let hooks = Arc::new(Self {
            chain,
            steps,
            reporter,
        });
        // A reporter serves one run, whose hooks are opened once.
        let _ = hooks.reporter.hooks().set(Arc::downgrade(&hooks));
        Ok(hooks)
    }

    /// Whether anyone watches this point.
    pub fn watch(&self, point: &HookPoint) -> bool {
        self.chain.watches(point)
    }

    /// Asks the hooks of a point, one after the other, until one aborts. `step` is empty when the
    /// point concerns the whole run.
    pub fn ask(&self, point: &HookPoint, step: &str, detail: &Value, payload: &[u8]) -> Answer {
        if !self.watch(point) {
            return Answer::Continue;
        }
        self.ask_within(point, step, detail, payload, Nesting::default())
    }

    fn ask_within(
        &self,
        point: &HookPoint,
        step: &str,
        detail: &Value,
        payload: &[u8],
        nesting: Nesting,
    ) -> Answer {
        let occasion = Occasion {
            step,
            detail: &detail.to_string(),
            payload,
            nesting,
        };
        self.chain.ask(point, &occasion, &mut |notice| {
            self.reporter.send(Message::Warning(notice.to_string()));
        })
    }

    /// Tells the hooks of a point at which nothing can be stopped.
    pub fn tell(&self, point: &HookPoint, step: &str, detail: &Value) {
        let _ = self.ask(point, step, detail, &[]);
    }

    /// Asks the hooks about an event that fires a point; answers the payload that they leave in
    /// its place, if any.
    ///
    /// # Errors
    ///
    /// What the emitter is answered: too many hooks are inside each other, a hook aborts, or what
    /// they leave is no JSON.
    pub fn fire(
        &self,
        emitter: Emitter<'_>,
        point: &HookPoint,
        step: Option<usize>,
        payload: &str,
    ) -> Result<Option<String>, contract::Error> {
        if !self.watch(point) {
            return Ok(None);
        }
        let nesting = emitter.nesting()?;
        let step = step.and_then(|step| self.steps.get(step));
        let step = step.map(String::as_str).unwrap_or_default();
        let detail = json!({ "plugin": emitter.plugin() });
        match self.ask_within(point, step, &detail, payload.as_bytes(), nesting) {
            Answer::Continue | Answer::Drop => Ok(None),
            Answer::Abort(abort) => Err(contract::Error::Failed(abort.to_string())),
            Answer::Replace(bytes) => match serde_json::from_slice::<Value>(&bytes) {
                Ok(value) => Ok(Some(value.to_string())),
                Err(error) => Err(contract::Error::Failed(format!(
                    "what the hooks of `{point}` put in the place of the event is no JSON: {error}"
                ))),
            },
        }
    }

    /// What the hooks themselves have measured.
    pub fn measure(&self) -> Vec<PluginMetrics> {
        let mut measured = Vec::new();
        self.chain.visit(|instance| {
            let plugin = instance.plugin().clone();
            if let Some(samples) = measure(instance) {
                measured.push(PluginMetrics {
                    plugin,
                    step: None,
                    port: None,
                    samples,
                });
            }
        });
        measured
    }
}
