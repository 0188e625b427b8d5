//! What was measured: families of series, in bounded number.
//!
//! `prometheus-client` and `prometheus` are made for metrics that a program knows when it is written,
//! and each writes one of the two formats. These come from plugins while a run goes on, so the
//! families are kept here and written by `text`.
//!
//! What must stay true: a family has one kind, a series stands once, and there are never more series
//! than allowed. What is left out is counted by its reason, and told as `vox_metrics_dropped_total`.

use std::collections::BTreeMap;

/// The upper bounds of the buckets of a histogram, in seconds: from a moment to hours.
pub const BOUNDS: [f64; 14] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0,
];

/// Labels in the order of their names, each name once.
pub type Labels = BTreeMap<String, String>;

/// What a family's numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The name and the meaning of a family.
#[derive(Debug, Clone, Copy)]
pub struct Metric<'m> {
    /// Its name as [`names::family`](crate::names::family) makes it.
    pub name: &'m str,
    pub kind: Kind,
    /// One line on what is measured.
    pub help: &'m str,
}

/// Series of one name.
#[derive(Debug)]
pub struct Family {
    pub kind: Kind,
    pub help: String,
    pub series: BTreeMap<Labels, Value>,
}

/// What a series has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    Histogram {
        /// Observations in each bucket alone; the last is for what is above all bounds.
        counts: [u64; BOUNDS.len() + 1],
        sum: f64,
    },
}

/// Why a measurement was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// There is no room for another series.
    Limit,
    /// Another kind of metric has the name.
    Conflict,
    /// It is no number, or a counter that is negative.
    Value,
}

impl Reason {
    /// As a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Conflict => "conflict",
            Self::Value => "value",
        }
    }
}

/// All that was measured.
#[derive(Debug)]
pub struct Registry {
    families: BTreeMap<String, Family>,
    series: usize,
    limit: usize,
    dropped: BTreeMap<Reason, u64>,
}

impl Registry {
    /// A registry with room for so many series, each bucket of a histogram being one.
    pub fn new(limit: usize) -> Self {
        Self {
            families: BTreeMap::new(),
            series: 0,
            limit,
            dropped: BTreeMap::new(),
        }
    }

    /// Changes how many series there is room for; those that are there stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The families by name.
    pub fn families(&self) -> &BTreeMap<String, Family> {
        &self.families
    }

    /// How many measurements were left out, by reason.
    pub fn dropped(&self) -> &BTreeMap<Reason, u64> {
        &self.dropped
    }

    /// Adds to a counter or a gauge.
    pub fn add(&mut self, metric: Metric<'_>, labels: Labels, by: f64) {
        self.change(metric, labels, by, |number| number + by);
    }

    /// Sets a counter or a gauge.
    pub fn set(&mut self, metric: Metric<'_>, labels: Labels, to: f64) {
        self.change(metric, labels, to, |_| to);
    }

    fn change(
        &mut self,
        metric: Metric<'_>,
        labels: Labels,
        value: f64,
        change: impl FnOnce(f64) -> f64,
    ) {
        let counts = metric.kind == Kind::Counter;
        if value.is_nan() || counts && !(value.is_finite() && value >= 0.0) {
            return self.drop_one(Reason::Value);
        }
        if let Some(Value::Number(number)) = self.series(metric, labels, Value::Number(0.0)) {
            *number = change(*number);
        }
    }

    /// Adds an observation to a histogram.
    pub fn observe(&mut self, metric: Metric<'_>, labels: Labels, seconds: f64) {
        if !(seconds.is_finite() && seconds >= 0.0) {
            return self.drop_one(Reason::Value);
        }
        let empty = Value::Histogram {
            counts: [0; BOUNDS.len() + 1],
            sum: 0.0,
        };
        if let Some(Value::Histogram { counts, sum }) = self.series(metric, labels, empty) {
            counts[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
            *sum += seconds;
        }
    }

    /// Counts a measurement that is left out.
    pub fn drop_one(&mut self, reason: Reason) {
        *self.dropped.entry(reason).or_default() += 1;
    }

    /// The series of these labels, made where it is new and there is room.
    fn series(&mut self, metric: Metric<'_>, labels: Labels, empty: Value) -> Option<&mut Value> {
        let known = self.families.get(metric.name);
        if known.is_some_and(|family| family.kind != metric.kind) {
            self.drop_one(Reason::Conflict);
            return None;
        }
        if known.is_none_or(|family| !family.series.contains_key(&labels)) {
            let weight = match empty {
                Value::Number(_) => 1,
                // The buckets, the sum and the count.
                Value::Histogram { .. } => BOUNDS.len() + 3,
            };
            if self.series + weight > self.limit {
                self.drop_one(Reason::Limit);
                return None;
            }
            self.series += weight;
        }
        let family = self
            .families
            .entry(metric.name.to_owned())
            .or_insert_with(|| Family {
                kind: metric.kind,
                help: metric.help.to_owned(),
                series: BTreeMap::new(),
            });
        Some(family.series.entry(labels).or_insert(empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: Metric<'_> = Metric {
        name: "words",
        kind: Kind::Counter,
        help: "Words",
    };
    const GAUGE: Metric<'_> = Metric {
        name: "words",
        kind: Kind::Gauge,
        help: "Words",
    };

    fn labels(value: usize) -> Labels {
        Labels::from([("n".to_owned(), value.to_string())])
    }

    #[test]
    fn series_beyond_the_limit_are_left_out_and_counted_and_known_ones_go_on() {
        let mut registry = Registry::new(10);
        for n in 0..25 {
            registry.add(COUNTER, labels(n), 1.0);
        }
        registry.add(COUNTER, labels(3), 2.0);
        let series = &registry.families()["words"].series;
        assert_eq!(series.len(), 10);
        assert_eq!(series[&labels(3)], Value::Number(3.0));
        assert_eq!(registry.dropped()[&Reason::Limit], 15);
    }

    #[test]
    fn a_histogram_takes_the_room_of_all_its_series() {
        let mut registry = Registry::new(20);
        let seconds = Metric {
            name: "s",
            kind: Kind::Histogram,
            help: "",
        };
        registry.observe(seconds, labels(0), 1.0);
        registry.observe(seconds, labels(1), 1.0);
        assert_eq!(registry.families()["s"].series.len(), 1);
        let Value::Histogram { counts, sum } = &registry.families()["s"].series[&labels(0)] else {
            panic!("it is a histogram");
        };
        assert_eq!((counts[4], *sum), (1, 1.0), "a bound belongs to its bucket");
    }

    #[test]
    fn a_name_has_one_kind_and_a_counter_never_falls() {
        let mut registry = Registry::new(10);
        registry.add(COUNTER, labels(0), 1.0);
        registry.set(GAUGE, labels(1), 1.0);
        for value in [-1.0, f64::NAN, f64::INFINITY] {
            registry.add(COUNTER, labels(0), value);
        }
        assert_eq!(registry.dropped()[&Reason::Conflict], 1);
        assert_eq!(registry.dropped()[&Reason::Value], 3);
        assert_eq!(
            registry.families()["words"].series[&labels(0)],
            Value::Number(1.0)
        );
    }
}
