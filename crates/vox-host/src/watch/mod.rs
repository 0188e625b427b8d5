//! Notices that plugins and grants change on disk, and acts upon it.
//!
//! A [`Watch`] owns one thread. It is told of every change below the roots of plugins and of the
//! files of grants; a plugin is reloaded when its files have come to rest ([`Debounce`]), and only
//! if code of it is loaded. Whether anything is replaced is decided by content, in
//! [`Host::reload`]; what is half written either is still changing, or does not load and leaves the
//! old version serving.

mod debounce;

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use notify::{RecursiveMode, Watcher};
use vox_contract::PluginId;

use self::debounce::{Debounce, Print};
use crate::error::Error;
use crate::host::{Host, Reloaded};
use crate::platform;

/// How long grants have to be at rest: they appear whole, by a rename.
const GRANTS_REST: Duration = Duration::from_millis(20);
/// When a plugin whose state allows no reload is looked at again.
const AGAIN: Duration = Duration::from_millis(500);

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Grants alone: for a run, whose plugins are to stay what they were when it began.
    Grants,
    /// Grants and plugins: for a process that serves on and on.
    All,
}

/// What a watch did.
#[derive(Debug)]
#[non_exhaustive]
pub enum Noticed {
    /// A plugin's files changed and came to rest.
    Plugin(PluginId, Result<Reloaded, Error>),
    /// Grants were given or taken away.
    Grants(Result<(), Error>),
}

/// Keeps a host's plugins and grants up to date until it is dropped.
#[derive(Debug)]
pub struct Watch {
    /// Dropped to end the thread.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
    noticed: Receiver<Noticed>,
}

impl Watch {
    /// What was noticed and done, in order. What nobody takes is dropped when a hundred wait.
    pub fn noticed(&self) -> &Receiver<Noticed> {
        &self.noticed
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Host {
    /// Begins to watch the files of grants, and where it is asked for the directories of plugins.
    ///
    /// # Errors
    ///
    /// The system allows no more watches.
    pub fn watch(&self, watched: Watched) -> Result<Watch, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Watch {
            detail: error.to_string(),
        };
        let (sender, changes) = crossbeam_channel::unbounded();
        let mut watcher = notify::recommended_watcher(move |event| {
            // Nobody listens any more when the watch is being dropped.
            let _ = sender.send(event);
        })
        .map_err(|error| failed(&error))?;
        let roots = match watched {
            Watched::Grants => Vec::new(),
            Watched::All => self.roots(),
        };
        for root in &roots {
            watcher
                .watch(root, RecursiveMode::Recursive)
                .map_err(|error| failed(&error))?;
        }
        let grants: Vec<PathBuf> = self.directories().grants().collect();
        for directory in grants.iter().filter_map(|file| file.parent()) {
            if directory.is_dir() && !roots.iter().any(|root| directory.starts_with(root)) {
                watcher
                    .watch(directory, RecursiveMode::NonRecursive)
                    .map_err(|error| failed(&error))?;
            }
        }
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let (report, noticed) = crossbeam_channel::bounded(100);
        let watching = Watching {
            host: self.clone(),
            roots,
            grants,
            report,
            pending: HashMap::new(),
            grants_due: None,
        };
        let thread = thread::Builder::new()
            .name("vox-watch".to_owned())
            .spawn(move || {
                platform::lower_thread_priority();
                watching.run(&changes, &stopped);
                drop(watcher);
            })
            .map_err(|error| failed(&error))?;
        Ok(Watch {
            stop: Some(stop),
            thread: Some(thread),
            noticed,
        })
    }

    /// Directories in which plugins are found, links resolved, as changes are told of those.
    fn roots(&self) -> Vec<PathBuf> {
        self.directories()
            .roots
            .iter()
            .filter_map(|root| root.path.canonicalize().ok())
            .collect()
    }
}

/// The thread's own state.
struct Watching {
    host: Host,
    roots: Vec<PathBuf>,
    grants: Vec<PathBuf>,
    report: Sender<Noticed>,
    pending: HashMap<PluginId, Debounce>,
    grants_due: Option<Instant>,
}

impl Watching {
    fn run(
        mut self,
        changes: &Receiver<notify::Result<notify::Event>>,
        stopped: &Receiver<Infallible>,
    ) {
        loop {
            let timer = match self.next_due() {
                Some(due) => crossbeam_channel::at(due),
                None => crossbeam_channel::never(),
            };
            crossbeam_channel::select! {
                recv(stopped) -> _ => return,
                recv(changes) -> change => match change {
                    Ok(Ok(event)) if !event.kind.is_access() => self.changed(&event.paths),
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "changes of plugins may have been missed"),
                    Err(_) => return,
                },
                recv(timer) -> _ => self.act(Instant::now()),
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let plugins = self.pending.values().map(Debounce::due);
        plugins.chain(self.grants_due).min()
    }

    /// Something at these paths changed.
    fn changed(&mut self, paths: &[PathBuf]) {
        let now = Instant::now();
        for path in paths {
            if self.grants.contains(path) {
                self.grants_due = Some(now + GRANTS_REST);
            }
            let Some(plugin) = self.plugin_at(path) else {
                continue;
            };
            let Some(took) = self.host.load_time(&plugin) else {
                // No code of it is loaded; the next use takes what is there.
                continue;
            };
            self.pending
                .entry(plugin)
                .or_insert_with(|| Debounce::new(took, now))
                .changed(now);
        }
    }

    /// The plugin whose directory holds a path.
    fn plugin_at(&self, path: &Path) -> Option<PluginId> {
        self.roots.iter().find_map(|root| {
            let below = path.strip_prefix(root).ok()?;
            let id = match below.components().next() {
                Some(first) => first.as_os_str().to_str()?.parse().ok(),
                None => None,
            };
            // A root may itself be a plugin's directory.
            id.filter(|id| self.host.load_time(id).is_some())
                .or_else(|| self.host.plugin_in(root))
        })
    }

    /// Does what is due.
    fn act(&mut self, now: Instant) {
        if self.grants_due.is_some_and(|due| due <= now) {
            self.grants_due = None;
            let result = self.host.refresh_grants();
            if let Err(error) = &result {
                tracing::warn!(%error, "grants were changed and cannot be read; those before stand");
            }
            let _ = self.report.try_send(Noticed::Grants(result));
        }
        let due: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, debounce)| debounce.due() <= now)
            .map(|(plugin, _)| plugin.clone())
            .collect();
        for plugin in due {
            let print = Print::of(&self.directories_of(&plugin));
            let Some(debounce) = self.pending.get_mut(&plugin) else {
                continue;
            };
            if !debounce.at_rest(print, now) {
                continue;
            }
            let result = self.host.reload(&plugin);
            if matches!(result, Err(Error::IllegalStep { .. })) {
                debounce.put_off(now + AGAIN);
                continue;
            }
            self.pending.remove(&plugin);
            let _ = self.report.try_send(Noticed::Plugin(plugin, result));
        }
    }

    fn directories_of(&self, plugin: &PluginId) -> Vec<PathBuf> {
        self.roots
            .iter()
            .flat_map(|root| [root.join(plugin.as_str()), root.clone()])
            .filter(|directory| {
                directory.ends_with(plugin.as_str())
                    || self.host.plugin_in(directory).as_ref() == Some(plugin)
            })
            .collect()
    }
}
