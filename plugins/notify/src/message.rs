//! What is told: a run as the hooks see it, and the notice made of it.
//!
//! What must stay true: a notice is bounded, however many steps fail and however much they say.

use std::collections::BTreeMap;

use serde::Deserialize;
use vox_plugin::serde_json::{Value, json};

/// The most failed steps that a notice names.
const NAMED_STEPS: usize = 20;
/// The most characters of a step's message, or of a name, that a notice repeats.
const LONGEST_MESSAGE: usize = 500;

/// What a notice may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// A run in which every step succeeded.
    Succeeded,
    /// A run in which a step failed.
    Failed,
    /// A run that was cancelled.
    Cancelled,
    /// A run that a hook ended before its first step.
    Aborted,
    /// A step that failed, as soon as it does.
    StepFailed,
}

impl Occasion {
    /// Every end of a run: what is told of unless it is set.
    pub const ENDS: [Self; 4] = [
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Aborted,
    ];

    /// The end that a run's status means; none that is unknown.
    pub fn of_status(status: &str) -> Option<Self> {
        match status {
            "succeeded" => Some(Self::Succeeded),
            "failed" => Some(Self::Failed),
            "cancelled" => Some(Self::Cancelled),
            "aborted" => Some(Self::Aborted),
            _ => None,
        }
    }
}

/// How a notice is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// All that is known, as a JSON object.
    #[default]
    Json,
    /// `{"text":…}`, which Slack and those that follow it take.
    Slack,
    /// Plain text, which ntfy takes.
    Text,
}

impl Format {
    /// What its bytes are.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Slack => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }
}

/// What is known of a run.
#[derive(Debug, Default)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Name of its pipeline; empty where its beginning was not told.
    pub pipeline: String,
    /// When it began, in nanoseconds since the Unix epoch; none where that was not told.
    pub started: Option<u64>,
    /// The first failed steps, each with its last message.
    failed: Vec<(String, String)>,
    /// How many steps failed besides.
    omitted: usize,
}

impl Run {
    /// A run of which nothing but the id is known.
    pub fn of(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// Notes that a step failed.
    pub fn fail(&mut self, step: &str, message: &str) {
        let message = shortened(message);
        if let Some(known) = self.failed.iter_mut().find(|(other, _)| other == step) {
            known.1 = message;
        } else if self.failed.len() < NAMED_STEPS {
            self.failed.push((shortened(step), message));
        } else {
            self.omitted += 1;
        }
    }

    /// The notice that a step failed.
    pub fn step_failed(&self, step: &str, message: &str, format: Format) -> Vec<u8> {
        let (step, message) = (shortened(step), shortened(message));
        let text = format!("{}: step {step} failed: {message}", self.name());
        let all = json!({
            "event": "step-failed",
            "run": self.id,
            "pipeline": shortened(&self.pipeline),
            "step": step,
            "message": message,
            "text": text,
        });
        written(format, text, all)
    }

    /// The notice that the run has ended at `now`, with the status of each step.
    pub fn ended(
        &self,
        status: &str,
        steps: &BTreeMap<String, String>,
        now: u64,
        format: Format,
    ) -> Vec<u8> {
        // A step that failed at first and succeeded at a later try is no failure of the run.
        let failed: Vec<&(String, String)> = self
            .failed
            .iter()
            .filter(|(step, _)| steps.get(step).is_none_or(|status| status != "succeeded"))
            .collect();
        let seconds = self
            .started
            .map(|started| now.saturating_sub(started) as f64 / 1e9);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for status in steps.values() {
            *counts.entry(status).or_default() += 1;
        }

        let mut text = format!("{} {status}", self.name());
        if let Some(seconds) = seconds {
            text.push_str(&format!(" after {}", duration(seconds)));
        }
        let counted: Vec<String> = counts
            .iter()
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        if !counted.is_empty() {
            text.push_str(&format!(" (steps: {})", counted.join(", ")));
        }
        for (step, message) in &failed {
            text.push_str(&format!("\n- {step}: {message}"));
        }
        if self.omitted > 0 {
            text.push_str(&format!("\n- and {} more", self.omitted));
        }
        let failures: Vec<Value> = failed
            .iter()
            .map(|(step, message)| json!({ "step": step, "message": message }))
            .collect();
        let all = json!({
            "event": "run-ended",
            "run": self.id,
            "pipeline": shortened(&self.pipeline),
            "status": status,
            "seconds": seconds,
            "steps": counts,
            "failed": failures,
            "failed-omitted": self.omitted,
            "text": text,
        });
        written(format, text, all)
    }

    /// What people know the run by.
    fn name(&self) -> String {
        match self.pipeline.as_str() {
            "" => format!("run {}", self.id),
            pipeline => format!("{} (run {})", shortened(pipeline), self.id),
        }
    }
}

fn written(format: Format, text: String, all: Value) -> Vec<u8> {
    match format {
        Format::Json => all.to_string().into_bytes(),
        // What Slack wants escaped, so that nobody's message mentions everybody.
        Format::Slack => {
            let text = text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;");
            json!({ "text": text }).to_string().into_bytes()
        }
        Format::Text => text.into_bytes(),
    }
}

/// A text without control characters except line breaks, cut where it is too long.
fn shortened(text: &str) -> String {
    let mut characters = text
        .trim()
        .chars()
        .filter(|character| *character == '\n' || !character.is_control());
    let mut short: String = characters.by_ref().take(LONGEST_MESSAGE).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

/// A length of time as people read it.
fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match hours {
        0 => format!("{minutes} min {seconds} s"),
        _ => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vox_plugin::serde_json;

    fn run() -> Run {
        let mut run = Run {
            id: "r1".into(),
            pipeline: "nightly".into(),
            started: Some(1_000_000_000),
            ..Run::default()
        };
        run.fail("train", "out of <memory> & time");
        run
    }

    fn steps(of: &[(&str, &str)]) -> BTreeMap<String, String> {
        of.iter()
            .map(|(step, status)| ((*step).to_owned(), (*status).to_owned()))
            .collect()
    }

    #[test]
    fn an_end_is_told_with_status_duration_and_what_failed() {
        let steps = steps(&[
            ("read", "succeeded"),
            ("train", "failed"),
            ("test", "skipped"),
        ]);
        let text = run().ended("failed", &steps, 62_500_000_000, Format::Text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "nightly (run r1) failed after 1 min 1 s (steps: 1 failed, 1 skipped, 1 succeeded)\n\
             - train: out of <memory> & time"
        );
        let json = run().ended("failed", &steps, 62_500_000_000, Format::Json);
        let json: Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["event"], "run-ended");
        assert_eq!(json["status"], "failed");
        assert_eq!(json["seconds"], 61.5);
        assert_eq!(json["failed"][0]["step"], "train");
        assert_eq!(json["steps"]["succeeded"], 1);
    }

    #[test]
    fn slack_gets_a_text_in_which_nobody_is_mentioned() {
        let slack = run().ended("failed", &steps(&[]), 0, Format::Slack);
        let slack: Value = serde_json::from_slice(&slack).unwrap();
        let text = slack["text"].as_str().unwrap();
        assert!(text.contains("out of &lt;memory&gt; &amp; time"), "{text}");
        assert_eq!(slack.as_object().unwrap().len(), 1);
    }

    #[test]
    fn a_step_that_succeeded_at_a_later_try_did_not_fail() {
        let text = run().ended(
            "succeeded",
            &steps(&[("train", "succeeded")]),
            0,
            Format::Text,
        );
        assert!(!String::from_utf8(text).unwrap().contains("memory"));
    }

    #[test]
    fn a_run_whose_beginning_was_not_told_is_known_by_its_id() {
        let run = Run {
            id: "r1".into(),
            ..Run::default()
        };
        let text = run.ended("succeeded", &steps(&[]), 5, Format::Text);
        assert_eq!(String::from_utf8(text).unwrap(), "run r1 succeeded");
    }

    #[test]
    fn a_notice_is_bounded_however_much_fails() {
        let mut run = run();
        for step in 0..1000 {
            run.fail(&format!("{step}"), &"x".repeat(10_000));
        }
        let text = run.ended("failed", &steps(&[]), 0, Format::Json);
        assert!(text.len() < 100_000, "{}", text.len());
        let text = run.ended("failed", &steps(&[]), 0, Format::Text);
        assert!(String::from_utf8(text).unwrap().ends_with("- and 981 more"));
    }
}
