//! The hook `prometheus`: serves the metrics of runs to Prometheus, while they go on and, as a file,
//! afterwards.
//!
//! ```toml
//! [[hook]]
//! uses = "prometheus"
//! with = { listen = "127.0.0.1:9464", file = "/var/lib/node_exporter/vox.prom" }
//! ```
//!
//! | setting | meaning |
//! |---|---|
//! | `listen` | the address of `GET /metrics`; `127.0.0.1:9464` unless set, port 0 for any, `none` for none |
//! | `file` | a file for node_exporter's textfile collector, written whole at the end of each run |
//! | `max-series` | the most series that are kept; 10,000 unless set |
//!
//! | module | owns |
//! |---|---|
//! | `runs` | which metrics there are, and how events become them |
//! | `registry` | families and series, in bounded number |
//! | `names` | what plugins call things, made fit for the formats |
//! | `text` | the two formats |
//! | `serve` | the server, and what bounds it |
//!
//! The runs of one process that serve at one address share a server, and what was counted; it ends with
//! the last of them, and what was counted is there for the next one.
//!
//! What must stay true: a collector watches. Where it cannot serve or write, the run goes on; it says so
//! in the log, calls itself degraded, and tries again at the next event.

mod config;
mod names;
mod registry;
mod runs;
mod serve;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use vox_plugin::hook::{Event, Outcome};
use vox_plugin::host::log::Level;
use vox_plugin::lifecycle::Condition;
use vox_plugin::serde_json::json;
use vox_plugin::{Hook, Lifecycle, Result, attribute, host, plugin};

use crate::config::Config;
use crate::registry::Registry;
use crate::runs::Run;
use crate::serve::{Server, Shared};
use crate::text::{Format, write};

/// The event that tells where metrics are served.
const LISTENING: &str = "prometheus.listening";

/// What the instances of this process share that serve at one address.
struct Place {
    metrics: Shared,
    server: Weak<Server>,
}

/// By the address that is configured. Port 0 is another place each time, and stands here never.
static PLACES: LazyLock<Mutex<BTreeMap<SocketAddr, Place>>> = LazyLock::new(Mutex::default);

/// The plugin; an instance watches one run.
#[plugin(lifecycle, hook)]
struct Prometheus {
    config: Config,
    metrics: Shared,
    server: Option<Arc<Server>>,
    run: Option<Run>,
    /// Whether the address was told.
    told: bool,
    /// Why it does not serve, and why the last file could not be written.
    trouble: [Option<String>; 2],
}

impl Lifecycle for Prometheus {
    fn init(config: &str) -> Result<Self> {
        let config = Config::read(config)?;
        let metrics = metrics_at(config.listen, config.max_series);
        let mut prometheus = Self {
            config,
            metrics,
            server: None,
            run: None,
            told: false,
            trouble: [None, None],
        };
        prometheus.serve();
        Ok(prometheus)
    }

    fn health(&mut self) -> Condition {
        match self.trouble.iter().flatten().next() {
            None => Condition::Ready,
            Some(trouble) => Condition::Degraded(trouble.clone()),
        }
    }

    fn shutdown(&mut self) -> Result<()> {
        if self.run.is_some() {
            runs::end(&mut lock(&self.metrics), &mut self.run);
            self.write_file();
        }
        self.server = None;
        Ok(())
    }
}

impl Hook for Prometheus {
    fn handle(&mut self, event: Event, _payload: &[u8]) -> Result<Outcome> {
        self.serve();
        self.tell();
        runs::take(&mut lock(&self.metrics), &mut self.run, &event)?;
        if event.point == "post_pipeline" {
            self.write_file();
        }
        Ok(Outcome::Continue)
    }
}

impl Prometheus {
    /// Serves, where that is wanted and it does not.
    fn serve(&mut self) {
        let Some(listen) = self.config.listen.filter(|_| self.server.is_none()) else {
            return;
        };
        match server_at(listen, &self.metrics) {
            Ok(server) => {
                self.server = Some(server);
                self.trouble[0] = None;
            }
            Err(error) => {
                let trouble = format!(
                    "no metrics are served at {listen}: {error}; name another address as `listen`"
                );
                if self.trouble[0].as_ref() != Some(&trouble) {
                    host::log::write(Level::Warn, &trouble, &[]);
                }
                self.trouble[0] = Some(trouble);
            }
        }
    }

    /// Tells where it serves, once.
    fn tell(&mut self) {
        let Some(server) = self.server.as_ref().filter(|_| !self.told) else {
            return;
        };
        self.told = true;
        let address = server.address().to_string();
        let fields = [attribute("address", &address)];
        host::log::write(Level::Info, "metrics are served at /metrics", &fields);
        // Without `events` the log is enough.
        let _ = host::events::emit(LISTENING, &json!({ "address": address }).to_string());
    }

    /// Writes the file, where one is wanted.
    fn write_file(&mut self) {
        let Some(file) = &self.config.file else {
            return;
        };
        let text = write(&lock(&self.metrics), Format::Prometheus);
        self.trouble[1] = write_whole(file, &text).err().map(|error| {
            let trouble = format!("{} cannot be written: {error}", file.display());
            host::log::write(Level::Warn, &trouble, &[]);
            trouble
        });
    }
}

/// The metrics of an address, as they were left.
fn metrics_at(listen: Option<SocketAddr>, max_series: usize) -> Shared {
    let new = || Arc::new(Mutex::new(Registry::new(max_series)));
    let Some(listen) = listen.filter(|listen| listen.port() != 0) else {
        return new();
    };
    let mut places = lock(&PLACES);
    let place = places.entry(listen).or_insert_with(|| Place {
        metrics: new(),
        server: Weak::new(),
    });
    lock(&place.metrics).set_limit(max_series);
    Arc::clone(&place.metrics)
}

/// The server of an address, started where none is there.
fn server_at(listen: SocketAddr, metrics: &Shared) -> io::Result<Arc<Server>> {
    let start = || Server::start(listen, Arc::clone(metrics)).map(Arc::new);
    let mut places = lock(&PLACES);
    let Some(place) = places.get_mut(&listen) else {
        return start();
    };
    if let Some(server) = place.server.upgrade() {
        return Ok(server);
    }
    let server = start()?;
    place.server = Arc::downgrade(&server);
    Ok(server)
}

/// Writes a file that appears whole: node_exporter may read at any moment, and only `*.prom`.
fn write_whole(file: &Path, text: &str) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let aside = file.with_file_name(format!(".{name}.{}", std::process::id()));
    fs::write(&aside, text)
        .and_then(|()| fs::rename(&aside, file))
        .inspect_err(|_| {
            let _ = fs::remove_file(&aside);
        })
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "../../../tests/skipped.rs"]
mod skipped;
#[cfg(test)]
mod tests;
