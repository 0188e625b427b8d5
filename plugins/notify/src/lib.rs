//! The hook `notify`: tells a webhook how a run ends, and if wanted at once which step fails.
//!
//! ```toml
//! [[hook]]
//! uses = "notify"
//! with = { url = "https://hooks.example.org/services/…", format = "slack", on = ["failed"] }
//! ```
//!
//! | setting | meaning |
//! |---|---|
//! | `url` | where notices are sent, by POST |
//! | `format` | `json` (all that is known; the default), `slack` (`{"text":…}`), `text` (as ntfy takes it) |
//! | `on` | of `succeeded`, `failed`, `cancelled`, `aborted` and `step-failed`; every end when left out |
//! | `headers` | what is sent besides, such as `Authorization`, or `Title` and `Priority` for ntfy |
//! | `timeout` | seconds for connecting, and again for the answer; 10 unless set, 25 at most |
//!
//! What must stay true: a notifier watches. What becomes of a notice changes nothing in the run; one
//! that is not taken is logged, and the instance calls itself degraded until one is taken. The path of
//! the URL and the headers, which are secrets, are not logged.

mod config;
mod message;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use vox_plugin::hook::{Event, Outcome};
use vox_plugin::host::log::Level;
use vox_plugin::http::{Failure, Request, send};
use vox_plugin::lifecycle::Condition;
use vox_plugin::{Hook, Lifecycle, Result, attribute, from_json, host, plugin};

use crate::config::Config;
use crate::message::{Occasion, Run};

/// The plugin; an instance watches one run.
#[plugin(lifecycle, hook)]
struct Notify {
    config: Config,
    run: Run,
    /// Why the last notice was not taken.
    trouble: Option<String>,
}

/// What the hook points tell, as far as it is wanted.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Detail {
    pipeline: String,
    message: String,
    status: String,
    steps: Steps,
}

/// Keys before the run, statuses by key after it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Steps {
    Ended(BTreeMap<String, String>),
    Named(IgnoredAny),
}

impl Default for Steps {
    fn default() -> Self {
        Self::Named(IgnoredAny)
    }
}

impl Lifecycle for Notify {
    fn init(config: &str) -> Result<Self> {
        Ok(Self {
            config: Config::read(config)?,
            run: Run::default(),
            trouble: None,
        })
    }

    fn health(&mut self) -> Condition {
        match &self.trouble {
            None => Condition::Ready,
            Some(trouble) => Condition::Degraded(format!("the last notice is lost: {trouble}")),
        }
    }
}

impl Hook for Notify {
    fn handle(&mut self, event: Event, _payload: &[u8]) -> Result<Outcome> {
        self.take(event, post)?;
        Ok(Outcome::Continue)
    }
}

impl Notify {
    /// Takes an event, and sends what it calls for with `post`, which answers the status.
    fn take(
        &mut self,
        event: Event,
        post: impl FnOnce(&Request) -> std::result::Result<u16, Failure>,
    ) -> Result<()> {
        let detail: Detail = from_json(&event.detail)?;
        if self.run.id != event.run {
            self.run = Run::of(&event.run);
        }
        let (wanted, format) = (&self.config.on, self.config.format);
        let body = match event.point.as_str() {
            "pre_pipeline" => {
                self.run.pipeline = detail.pipeline;
                self.run.started = Some(event.timestamp);
                return Ok(());
            }
            "on_error" => {
                self.run.fail(&event.step, &detail.message);
                if !wanted.contains(&Occasion::StepFailed) {
                    return Ok(());
                }
                self.run.step_failed(&event.step, &detail.message, format)
            }
            "post_pipeline" => {
                let told = Occasion::of_status(&detail.status);
                if told.is_some_and(|occasion| !wanted.contains(&occasion)) {
                    return Ok(());
                }
                let steps = match detail.steps {
                    Steps::Ended(steps) => steps,
                    Steps::Named(_) => BTreeMap::new(),
                };
                self.run
                    .ended(&detail.status, &steps, event.timestamp, format)
            }
            _ => return Ok(()),
        };
        let request = Request {
            body: Some(body),
            ..self.config.request.clone()
        };
        self.trouble = trouble(post(&request), &self.config.scope);
        if let Some(trouble) = &self.trouble {
            let fields = [attribute("reason", trouble)];
            host::log::write(Level::Warn, "a notice was not taken", &fields);
        }
        Ok(())
    }
}

/// Sends a request; answers the status.
fn post(request: &Request) -> std::result::Result<u16, Failure> {
    send(request).map(|answer| answer.status)
}

/// What is wrong with how a notice was taken, if anything.
fn trouble(answer: std::result::Result<u16, Failure>, scope: &str) -> Option<String> {
    match answer {
        Ok(200..300) => None,
        Ok(status @ 300..400) => Some(format!(
            "{scope} answered {status}, a redirect, which is not followed; write where it leads as \
             `url`"
        )),
        Ok(status) => Some(format!("{scope} answered {status}")),
        Err(Failure::Denied) => Some(format!(
            "`network={scope}` is not granted; grant it with `vox plugin grant notify \
             network={scope}`, or where it is, trust the plugin with `vox plugin trust allow notify`"
        )),
        Err(failure) => Some(format!("{scope}: {failure}")),
    }
}

#[cfg(test)]
mod tests;
