//! What was found, for people and programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed,
    /// There was no time for it, or what it needs was missing.
    Skipped,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Something that was checked.
#[derive(Debug, Clone)]
pub struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    /// What was found, in a sentence.
    pub found: String,
    /// How long it took.
    pub seconds: f64,
}

/// Something that was measured, beside what others measure.
#[derive(Debug, Clone)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// Who else, and what they take.
    pub peer: Option<(String, f64)>,
}

/// Everything that was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was tried where: names and values.
    pub about: Vec<(&'static str, String)>,
    pub checks: Vec<Check>,
    pub figures: Vec<Figure>,
    pub seconds: f64,
}

impl Report {
    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        let mut outcomes = self.checks.iter().map(|check| check.outcome);
        outcomes.all(|outcome| outcome != Outcome::Failed)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let about: serde_json::Map<String, Value> = self
            .about
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let checks = self.checks.iter().map(|check| {
            json!({
                "name": check.name,
                "outcome": check.outcome.word(),
                "found": check.found,
                "seconds": check.seconds,
            })
        });
        let figures = self.figures.iter().map(|figure| {
            let peer = figure.peer.as_ref();
            json!({
                "name": figure.name,
                "value": figure.value,
                "unit": figure.unit,
                "peer": peer.map(|(name, _)| name),
                "peer-value": peer.map(|(_, value)| value),
                "ratio": peer.map(|(_, value)| figure.value / value),
            })
        });
        json!({
            "about": about,
            "checks": checks.collect::<Vec<_>>(),
            "figures": figures.collect::<Vec<_>>(),
            "seconds": self.seconds,
        })
    }

    /// For people, as a page of the documentation.
    pub fn page(&self) -> String {
        let mut text =
            "# What was found on a GPU\n\nWritten by `cargo xtask gpu-suite`.\n\n| | |\n|---|---|\n"
                .to_owned();
        // Writing to a `String` cannot fail.
        for (name, value) in &self.about {
            let _ = writeln!(text, "| {name} | {} |", cell(value));
        }
        let _ = writeln!(text, "| time | {:.0} s |", self.seconds);
        text.push_str("\n## Checks\n\n| check | | found | s |\n|---|---|---|---|\n");
        for check in &self.checks {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {:.1} |",
                check.name,
                check.outcome.word(),
                cell(&check.found),
                check.seconds
            );
        }
        text.push_str(
            "\n## Figures\n\n| figure | Vox | unit | peer | ratio |\n|---|---|---|---|---|\n",
        );
        for figure in &self.figures {
            let (peer, ratio) = match &figure.peer {
                Some((name, value)) => (
                    format!("{name}: {value:.1}"),
                    format!("{:.2}", figure.value / value),
                ),
                None => (String::new(), String::new()),
            };
            let _ = writeln!(
                text,
                "| `{}` | {:.1} | {} | {peer} | {ratio} |",
                figure.name, figure.value, figure.unit
            );
        }
        text
    }
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_the_same_to_people_and_programs() {
        let report = Report {
            about: vec![("device", "NVIDIA H200".to_owned())],
            checks: vec![Check {
                name: "generate.f32",
                outcome: Outcome::Failed,
                found: "a | b".to_owned(),
                seconds: 1.25,
            }],
            figures: vec![Figure {
                name: "generate.f32".to_owned(),
                value: 200.0,
                unit: "tokens/s",
                peer: Some(("transformers".to_owned(), 100.0)),
            }],
            seconds: 2.0,
        };
        assert!(!report.is_good());
        let json = report.json();
        assert_eq!(json["figures"][0]["ratio"], 2.0);
        assert_eq!(json["checks"][0]["outcome"], "failed");
        let page = report.page();
        assert!(page.contains("| device | NVIDIA H200 |"), "{page}");
        assert!(
            page.contains("| `generate.f32` | failed | a \\| b | 1.2 |"),
            "{page}"
        );
        assert!(page.contains("| transformers: 100.0 | 2.00 |"), "{page}");
    }
}
