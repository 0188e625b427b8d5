//! What the host counted, in the form in which plugins give their measurements.

use crate::account::Usage;
use crate::contract::Attribute;
use crate::contract::metrics::{Kind, Sample};

use super::{Host, PluginStatus};

/// How to read one number off what a plugin has cost.
type Measure = fn(&Usage) -> f64;

/// How the names of all samples begin that come from the host.
pub const HOST_SAMPLES: &str = "vox_";

/// Every number that is given for a plugin. The names are relied upon and do not change.
const MEASURES: [(&str, Kind, &str, Measure); 12] = [
    (
        "vox_plugin_calls_total",
        Kind::Counter,
        "Calls made to the plugin",
        |usage| usage.calls as f64,
    ),
    (
        "vox_plugin_errors_total",
        Kind::Counter,
        "Calls that the plugin answered with an error",
        |usage| usage.errors as f64,
    ),
    (
        "vox_plugin_traps_total",
        Kind::Counter,
        "Calls that ended in a trap, a panic or at a limit",
        |usage| usage.traps as f64,
    ),
    (
        "vox_plugin_host_calls_total",
        Kind::Counter,
        "Calls that the plugin made to the host",
        |usage| usage.host_calls as f64,
    ),
    (
        "vox_plugin_guest_seconds_total",
        Kind::Counter,
        "Time inside the plugin's code",
        |usage| usage.guest_time.as_secs_f64(),
    ),
    (
        "vox_plugin_host_seconds_total",
        Kind::Counter,
        "Time inside host functions that the plugin called",
        |usage| usage.host_time.as_secs_f64(),
    ),
    (
        "vox_plugin_in_bytes_total",
        Kind::Counter,
        "Text and data handed to the plugin",
        |usage| usage.bytes_in as f64,
    ),
    (
        "vox_plugin_out_bytes_total",
        Kind::Counter,
        "Text and data that the plugin handed out",
        |usage| usage.bytes_out as f64,
    ),
    (
        "vox_plugin_dropped_records_total",
        Kind::Counter,
        "Log records dropped because the plugin wrote too many",
        |usage| usage.dropped_records as f64,
    ),
    (
        "vox_plugin_memory_bytes",
        Kind::Gauge,
        "Memory that the plugin's component instances hold",
        |usage| usage.memory as f64,
    ),
    (
        "vox_plugin_memory_peak_bytes",
        Kind::Gauge,
        "The most memory that they held at one moment",
        |usage| usage.memory_peak as f64,
    ),
    (
        "vox_plugin_instances",
        Kind::Gauge,
        "Live instances of the plugin",
        |usage| usage.instances as f64,
    ),
];

impl Host {
    /// What every plugin has cost in this host, as measurements with the label `plugin`.
    pub fn samples(&self) -> Vec<Sample> {
        self.plugins()
            .iter()
            .flat_map(PluginStatus::samples)
            .collect()
    }
}

impl PluginStatus {
    /// What the plugin has cost, as measurements with the label `plugin`.
    pub fn samples(&self) -> Vec<Sample> {
        let sample = |(name, kind, help, measure): (&str, Kind, &str, Measure)| Sample {
            name: name.to_owned(),
            kind,
            help: help.to_owned(),
            value: measure(&self.usage),
            labels: vec![Attribute {
                key: "plugin".to_owned(),
                value: self.plugin.to_string(),
            }],
        };
        MEASURES.into_iter().map(sample).collect()
    }
}
