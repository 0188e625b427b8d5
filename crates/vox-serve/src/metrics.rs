//! What is counted, in Prometheus' text format 0.0.4.
//!
//! Labels have few values: routes that there are, statuses that were answered. So what a client sends
//! makes no series.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::{Backends, Finished};

/// Upper bounds of the histograms, in seconds.
const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
/// What is counted for a request whose client left before there was an answer, as nginx has it.
const CLIENT_LEFT: u16 = 499;

/// Why an answer was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// Its client went away.
    ClientLeft,
    /// Its client read too slowly.
    ClientSlow,
    /// The server ended.
    Shutdown,
}

/// What is counted. Locks guard a map or a histogram each; nothing is called under them.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    durations: Mutex<BTreeMap<&'static str, Histogram>>,
    first_token: Mutex<Histogram>,
    queued: Mutex<Histogram>,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    answer_tokens: AtomicU64,
    cancelled: [AtomicU64; 3],
    connections: AtomicU64,
}

#[derive(Debug, Default)]
struct Histogram {
    /// How many were at most a bound and above the one before; the last are above all.
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

/// Follows one request, and counts it when it is over.
#[derive(Debug)]
pub struct Meter {
    metrics: Arc<Metrics>,
    route: &'static str,
    began: Instant,
    status: u16,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Connection(Arc<Metrics>);

impl Meter {
    /// Begins to follow a request.
    pub fn new(metrics: Arc<Metrics>, route: &'static str) -> Self {
        Self {
            metrics,
            route,
            began: Instant::now(),
            status: CLIENT_LEFT,
        }
    }

    /// Notes what is answered.
    pub fn answer(&mut self, status: u16) {
        self.status = status;
    }

    /// When the request came.
    pub fn began(&self) -> Instant {
        self.began
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        *lock(&self.metrics.requests)
            .entry((self.route, self.status))
            .or_default() += 1;
        lock(&self.metrics.durations)
            .entry(self.route)
            .or_default()
            .add(self.began.elapsed());
    }
}

impl Connection {
    /// Begins to follow a connection.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.counts[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }
}

impl Metrics {
    /// A request waited for its turn for so long.
    pub fn waited(&self, time: Duration) {
        lock(&self.queued).add(time);
    }

    /// The first token came so long after the request.
    pub fn first_token(&self, time: Duration) {
        lock(&self.first_token).add(time);
    }

    /// An answer is there.
    pub fn finished(&self, finished: &Finished) {
        self.prompt_tokens(finished.prompt_tokens);
        self.cached_tokens
            .fetch_add(finished.cached_tokens.into(), Ordering::Relaxed);
        self.answer_tokens
            .fetch_add(finished.answer_tokens.into(), Ordering::Relaxed);
    }

    /// So many tokens were read.
    pub fn prompt_tokens(&self, tokens: u32) {
        self.prompt_tokens
            .fetch_add(tokens.into(), Ordering::Relaxed);
    }

    /// An answer was cancelled.
    pub fn cancelled(&self, why: Cancelled) {
        self.cancelled[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All of it, with how many requests wait and are answered now, and what befell the backends.
    pub fn text(&self, waiting: usize, running: usize, backends: Backends) -> String {
        let mut text = Text::default();
        text.family(
            "requests_total",
            "counter",
            "Requests, by route and status.",
        );
        for ((route, status), count) in lock(&self.requests).iter() {
            let labels = format!("route=\"{route}\",status=\"{status}\"");
            text.sample("requests_total", &labels, *count);
        }
        text.family(
            "request_duration_seconds",
            "histogram",
            "Time from a request's head to the end of its answer.",
        );
        for (route, histogram) in lock(&self.durations).iter() {
            let labels = format!("route=\"{route}\"");
            text.histogram("request_duration_seconds", &labels, histogram);
        }
        for (name, help, histogram) in [
            (
                "first_token_seconds",
                "Time from a request's head to the first token of its answer.",
                &self.first_token,
            ),
            (
                "queue_seconds",
                "Time that a request waited for its turn.",
                &self.queued,
            ),
        ] {
            text.family(name, "histogram", help);
            text.histogram(name, "", &lock(histogram));
        }
        let connections = self.connections.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("queue_length", "Requests that wait.", waiting as u64),
            ("running", "Requests that are answered.", running as u64),
            ("connections", "Connections that are open.", connections),
        ] {
            text.family(name, "gauge", help);
            text.sample(name, "", value);
        }
        for (name, help, value) in [
            (
                "prompt_tokens_total",
                "Tokens of prompts.",
                &self.prompt_tokens,
            ),
            (
                "cached_tokens_total",
                "Those of them that were known from the request before.",
                &self.cached_tokens,
            ),
            (
                "answer_tokens_total",
                "Tokens of answers.",
                &self.answer_tokens,
            ),
        ] {
            text.family(name, "counter", help);
            text.sample(name, "", value.load(Ordering::Relaxed));
        }
        for (name, help, value) in [
            ("backends_died_total", "Backends that died.", backends.died),
            (
                "backends_replaced_total",
                "Those of them in whose place there was another again.",
                backends.replaced,
            ),
        ] {
            text.family(name, "counter", help);
            text.sample(name, "", value);
        }
        text.family(
            "cancelled_total",
            "counter",
            "Answers that were cancelled, by reason.",
        );
        for why in [
            Cancelled::ClientLeft,
            Cancelled::ClientSlow,
            Cancelled::Shutdown,
        ] {
            let reason = match why {
                Cancelled::ClientLeft => "reason=\"client-left\"",
                Cancelled::ClientSlow => "reason=\"client-slow\"",
                Cancelled::Shutdown => "reason=\"shutdown\"",
            };
            let count = self.cancelled[why as usize].load(Ordering::Relaxed);
            text.sample("cancelled_total", reason, count);
        }
        text.0
    }
}

/// The text as it grows. Writing to a string does not fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP vox_serve_{name} {help}");
        let _ = writeln!(self.0, "# TYPE vox_serve_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.0, "vox_serve_{name} {value}"),
            labels => writeln!(self.0, "vox_serve_{name}{{{labels}}} {value}"),
        };
    }

    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(histogram.counts) {
            below += count;
            self.sample(&bucket, &format!("{labels}{comma}le=\"{bound}\""), below);
        }
        let all: u64 = histogram.counts.iter().sum();
        self.sample(&bucket, &format!("{labels}{comma}le=\"+Inf\""), all);
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, all);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_is_at_most_each_bound() {
        let metrics = Arc::new(Metrics::default());
        for millis in [5, 6, 400_000] {
            metrics.first_token(Duration::from_millis(millis));
        }
        let text = metrics.text(2, 1, Backends::default());
        for line in [
            "vox_serve_first_token_seconds_bucket{le=\"0.005\"} 1",
            "vox_serve_first_token_seconds_bucket{le=\"0.01\"} 2",
            "vox_serve_first_token_seconds_bucket{le=\"300\"} 2",
            "vox_serve_first_token_seconds_bucket{le=\"+Inf\"} 3",
            "vox_serve_first_token_seconds_sum 400.011",
            "vox_serve_first_token_seconds_count 3",
            "vox_serve_queue_length 2",
            "vox_serve_running 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_request_without_an_answer_is_counted_as_left() {
        let metrics = Arc::new(Metrics::default());
        drop(Meter::new(Arc::clone(&metrics), "chat"));
        let mut meter = Meter::new(Arc::clone(&metrics), "chat");
        meter.answer(200);
        drop(meter);
        let text = metrics.text(0, 0, Backends::default());
        assert!(text.contains("requests_total{route=\"chat\",status=\"200\"} 1"));
        assert!(text.contains("requests_total{route=\"chat\",status=\"499\"} 1"));
        assert!(text.contains("request_duration_seconds_count{route=\"chat\"} 2"));
    }
}
