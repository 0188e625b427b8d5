//! What is printed of a measurement.

use std::io::Write;

use serde::Serialize;

/// One figure beside its peer's.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Name of the bench.
    pub name: &'static str,
    /// What was measured of Vox.
    pub value: f64,
    /// Of both figures.
    pub unit: &'static str,
    /// What was measured of the peer in the same run.
    pub peer: f64,
    /// Who the peer is.
    pub peer_name: &'static str,
    /// `value / peer`, or `peer / value` where the goal is to be faster by a factor.
    pub ratio: f64,
    /// The goal in words.
    pub goal: &'static str,
    /// Whether it was met.
    pub met: bool,
    /// What one figure does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Prints rows as they come.
pub struct Report {
    json: bool,
    started: bool,
}

impl Report {
    /// A report as a table, or as one JSON object a line.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            started: false,
        }
    }

    /// Prints a row.
    pub fn print(&mut self, row: &Row) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
            return Ok(());
        }
        if !self.started {
            self.started = true;
            writeln!(
                out,
                "{:26} {:>12} {:>12} {:5} {:>8}  goal",
                "bench", "vox", "peer", "unit", "ratio"
            )?;
        }
        let met = if row.met { "met" } else { "MISSED" };
        writeln!(
            out,
            "{:26} {:>12.2} {:>12.2} {:5} {:>8.3}  {}: {met} (peer: {})",
            row.name, row.value, row.peer, row.unit, row.ratio, row.goal, row.peer_name
        )?;
        if let Some(detail) = &row.detail {
            writeln!(out, "{:26} {detail}", "")?;
        }
        Ok(())
    }
}
