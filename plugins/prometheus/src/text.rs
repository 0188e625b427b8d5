//! The two text formats: Prometheus 0.0.4, and OpenMetrics 1.0.
//!
//! They differ in the name of a counter's family, in what is escaped in help texts, in how the bounds
//! of buckets are written, and in the last line. Every text is checked by Prometheus's own `promtool`
//! in the tests, where that is installed.

use std::fmt::Write as _;

use crate::registry::{BOUNDS, Family, Kind, Labels, Registry, Value};

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What `Content-Type` says.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a client wants that sends this as `Accept`: OpenMetrics where it names it and likes
    /// plain text no better.
    pub fn accepted(accept: &str) -> Self {
        let liking = |wanted: &str| {
            let items = accept.split(',').filter_map(|item| {
                let mut parts = item.split(';').map(str::trim);
                let kind = parts.next()?;
                let parameter = |name: &str| {
                    parts
                        .clone()
                        .filter_map(|part| part.split_once('='))
                        .find_map(|(key, value)| {
                            key.trim()
                                .eq_ignore_ascii_case(name)
                                .then(|| value.trim().trim_matches('"'))
                        })
                };
                let known = !parameter("version").is_some_and(|version| {
                    wanted.contains("openmetrics") && version != "1.0.0" && version != "0.0.1"
                });
                let quality = parameter("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
                (known && kind.eq_ignore_ascii_case(wanted)).then_some(quality)
            });
            items.fold(0.0_f32, f32::max)
        };
        let open = liking("application/openmetrics-text");
        if open > 0.0 && open >= liking("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

/// Everything in the registry, and what it left out.
pub fn write(registry: &Registry, format: Format) -> String {
    let mut text = String::new();
    for (name, family) in registry.families() {
        write_family(&mut text, name, family, format);
    }
    let dropped = Family {
        kind: Kind::Counter,
        help: "Measurements that were left out".to_owned(),
        series: registry
            .dropped()
            .iter()
            .map(|(reason, count)| {
                let labels = Labels::from([("reason".to_owned(), reason.name().to_owned())]);
                (labels, Value::Number(*count as f64))
            })
            .collect(),
    };
    write_family(&mut text, "vox_metrics_dropped", &dropped, format);
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn write_family(text: &mut String, name: &str, family: &Family, format: Format) {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let suffix = if family.kind == Kind::Counter {
        "_total"
    } else {
        ""
    };
    let of_family = if format == Format::Prometheus {
        suffix
    } else {
        ""
    };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "# HELP {name}{of_family} {}",
        help(&family.help, format)
    );
    let _ = writeln!(text, "# TYPE {name}{of_family} {kind}");
    for (labels, value) in &family.series {
        match value {
            Value::Number(number) => {
                let _ = writeln!(
                    text,
                    "{name}{suffix}{} {}",
                    braced(labels, None),
                    told(*number)
                );
            }
            Value::Histogram { counts, sum } => {
                let mut below = 0;
                for (at, count) in counts.iter().enumerate() {
                    below += count;
                    let bound = match (BOUNDS.get(at), format) {
                        (None, _) => "+Inf".to_owned(),
                        (Some(bound), Format::Prometheus) => bound.to_string(),
                        (Some(bound), Format::OpenMetrics) => format!("{bound:?}"),
                    };
                    let labels = braced(labels, Some(&bound));
                    let _ = writeln!(text, "{name}_bucket{labels} {below}");
                }
                let labels = braced(labels, None);
                let _ = writeln!(text, "{name}_sum{labels} {}", told(*sum));
                let _ = writeln!(text, "{name}_count{labels} {below}");
            }
        }
    }
}

fn help(help: &str, format: Format) -> String {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    match format {
        Format::Prometheus => help,
        Format::OpenMetrics => help.replace('"', "\\\""),
    }
}

/// Labels in braces, with the bound of a bucket where there is one.
fn braced(labels: &Labels, bound: Option<&str>) -> String {
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    pairs.extend(bound.map(|bound| format!("le=\"{bound}\"")));
    if pairs.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", pairs.join(","))
    }
}

fn told(number: f64) -> String {
    if number == f64::INFINITY {
        "+Inf".to_owned()
    } else if number == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        format!("{number:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Metric;

    fn registry() -> Registry {
        let mut registry = Registry::new(100);
        let words = Metric {
            name: "words",
            kind: Kind::Counter,
            help: "Words \\ \"all\"",
        };
        let labels = Labels::from([("step".to_owned(), "a\"b\\c".to_owned())]);
        registry.add(words, labels, 3.0);
        let wait = Metric {
            name: "wait_seconds",
            kind: Kind::Gauge,
            help: "Wait",
        };
        registry.set(wait, Labels::new(), f64::INFINITY);
        let took = Metric {
            name: "took_seconds",
            kind: Kind::Histogram,
            help: "Took",
        };
        registry.observe(took, Labels::new(), 0.07);
        registry.observe(took, Labels::new(), 1e6);
        registry
    }

    #[test]
    fn the_format_of_prometheus_names_a_counter_with_its_suffix() {
        let text = write(&registry(), Format::Prometheus);
        for line in [
            "# HELP words_total Words \\\\ \"all\"",
            "# TYPE words_total counter",
            "words_total{step=\"a\\\"b\\\\c\"} 3.0",
            "wait_seconds +Inf",
            "took_seconds_bucket{le=\"0.05\"} 0",
            "took_seconds_bucket{le=\"1\"} 1",
            "took_seconds_bucket{le=\"+Inf\"} 2",
            "took_seconds_count 2",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn openmetrics_names_the_family_without_it_and_ends_with_eof() {
        let text = write(&registry(), Format::OpenMetrics);
        for line in [
            "# HELP words Words \\\\ \\\"all\\\"",
            "# TYPE words counter",
            "words_total{step=\"a\\\"b\\\\c\"} 3.0",
            "took_seconds_bucket{le=\"1.0\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_client_gets_the_format_that_it_likes_best() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, expected) in [
            (prometheus, Format::OpenMetrics),
            (
                "application/openmetrics-text; version=1.0.0",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text; version=2.0.0",
                Format::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            (
                "application/openmetrics-text;q=0.3, text/plain;q=0.9",
                Format::Prometheus,
            ),
            ("text/html, */*", Format::Prometheus),
            ("", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }
}
