//! Secrets in what plugins say of a run.

use serde_json::Value;

use crate::report::{PluginMetrics, StepOutcome};

/// What stands in the place of a secret.
pub(crate) const MASKED: &str = "[secret]";

/// The shortest text that is masked, in bytes: shorter ones would be found everywhere.
pub(crate) const SHORTEST_SECRET: usize = 4;

/// The secrets of a run.
#[derive(Clone, Default)]
pub(crate) struct Mask(Vec<String>);

impl Mask {
    /// Masks these values, and each line of one that has several; also as they are written in JSON, as what
    /// events carry is.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = values.into_iter().flat_map(|value| value.lines());
        let mut masked: Vec<String> = lines
            .map(str::trim)
            .filter(|line| line.len() >= SHORTEST_SECRET)
            .flat_map(|line| [line.to_owned(), in_json(line)])
            .collect();
        // A secret that is a part of another one must not leave the rest of it.
        masked.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        masked.dedup();
        Self(masked)
    }

    /// Takes the secrets out of a text.
    pub fn text(&self, text: &mut String) {
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                *text = text.replace(secret.as_str(), MASKED);
            }
        }
    }

    /// Takes the secrets out of how a step has ended.
    pub fn outcome(&self, outcome: &mut StepOutcome) {
        match outcome {
            StepOutcome::Succeeded {
                summary,
                attributes,
            } => {
                self.text(summary);
                for attribute in attributes {
                    self.text(&mut attribute.value);
                }
            }
            StepOutcome::Failed { message: text, .. }
            | StepOutcome::Cancelled { reason: text }
            | StepOutcome::Skipped { reason: text, .. } => self.text(text),
        }
    }

    /// Takes the secrets out of what a plugin has measured.
    pub fn metrics(&self, metrics: &mut PluginMetrics) {
        for sample in &mut metrics.samples {
            self.text(&mut sample.help);
            for label in &mut sample.labels {
                self.text(&mut label.value);
            }
        }
    }
}

/// A text as it stands between the quotation marks of JSON.
fn in_json(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(mask: &Mask, text: &str) -> String {
        let mut text = text.to_owned();
        mask.text(&mut text);
        text
    }

    #[test]
    fn secrets_are_masked_with_all_of_their_lines() {
        let mask = Mask::new(["hunter22", "-----\nline one\nhunter22-long\n", "x"]);
        let masked = masked(&mask, "a hunter22-long b line one, x hunter22.");
        assert_eq!(masked, "a [secret] b [secret], x [secret].");
        assert_eq!(format!("{mask:?}"), "Mask(4)");
    }

    #[test]
    fn a_secret_with_a_quotation_mark_is_found_in_json_too() {
        let mask = Mask::new(["say \"frien\\d\""]);
        let event = serde_json::json!({ "value": "say \"frien\\d\" and enter" }).to_string();
        assert_eq!(masked(&mask, &event), r#"{"value":"[secret] and enter"}"#);
        assert_eq!(masked(&mask, "say \"frien\\d\""), "[secret]");
    }
}
