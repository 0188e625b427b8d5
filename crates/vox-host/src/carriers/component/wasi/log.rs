//! What is said of a guest: its standard output and error, line by line, and what it was refused.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use vox_contract::{Capability, PluginId};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::contract::log::{Level, Log as _};
use crate::services::Services;

/// A line of a guest's output is logged before its end once it is this long, in bytes.
const LONGEST_LINE: usize = 16 * 1024;

/// Refusals that are told of one instance; the ones after that are not.
const MAX_TOLD: usize = 64;

/// Characters of a path or host that are told; a guest may ask for very long ones.
const MAX_TOLD_CHARS: usize = 256;

/// A standard stream whose lines go to the plugin's log, under its limits. Clones continue each
/// other's line.
#[derive(Clone)]
pub(super) struct Lines(Arc<Mutex<Line>>);

/// The line that has begun; what is left of it is logged when the stream ends.
struct Line {
    services: Arc<Services>,
    level: Level,
    text: Text,
}

impl Lines {
    pub(super) fn new(services: Arc<Services>, level: Level) -> Self {
        Self(Arc::new(Mutex::new(Line {
            services,
            level,
            text: Text::default(),
        })))
    }
}

impl Line {
    fn add(&mut self, bytes: &[u8]) {
        let (services, level) = (&self.services, self.level);
        self.text
            .add(bytes, |line| services.write(level, line, Vec::new()));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.text.0.is_empty() {
            self.add(b"\n");
        }
    }
}

/// Bytes that are not yet a line; never more than [`LONGEST_LINE`].
#[derive(Debug, Default)]
struct Text(Vec<u8>);

impl Text {
    /// Adds bytes, and gives `log` each line that ends.
    fn add(&mut self, bytes: &[u8], mut log: impl FnMut(&str)) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = line.ends_with(b"\n");
            for piece in line
                .strip_suffix(b"\n")
                .unwrap_or(line)
                .chunks(LONGEST_LINE)
            {
                if self.0.len() + piece.len() > LONGEST_LINE {
                    self.end(&mut log);
                }
                self.0.extend_from_slice(piece);
            }
            if ends {
                self.end(&mut log);
            }
        }
    }

    fn end(&mut self, log: &mut impl FnMut(&str)) {
        log(String::from_utf8_lossy(&self.0).trim_end_matches('\r'));
        self.0.clear();
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LONGEST_LINE)
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    /// For WASI 0.3, which is not offered.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

/// What an instance was refused: each capability and scope is told once.
#[derive(Debug)]
pub(super) struct Refusals {
    plugin: PluginId,
    /// What it is granted and does not get, for nobody vouches for it.
    withheld: Vec<Capability>,
    told: Mutex<HashSet<(Capability, String)>>,
}

impl Refusals {
    pub(super) fn new(plugin: PluginId, withheld: Vec<Capability>) -> Self {
        Self {
            plugin,
            withheld,
            told: Mutex::default(),
        }
    }

    /// Says, once, that the capability is not granted for `scope` (empty where it has none), or that its
    /// grant does not count, and what to do about it. False when that was said before.
    pub(super) fn tell(&self, capability: Capability, scope: &str) -> bool {
        let scope = scope.chars().take(MAX_TOLD_CHARS).collect::<String>();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() == MAX_TOLD || !told.insert((capability, scope.clone())) {
            return false;
        }
        let last = told.len() == MAX_TOLD;
        drop(told);
        let plugin = &self.plugin;
        if self.withheld.contains(&capability) {
            tracing::warn!(
                %plugin, %capability, scope,
                "a plugin was refused what counts for trusted plugins alone, and no key you trust has signed \
                 it: trust its signer with `vox plugin trust add`, or the plugin with `vox plugin trust allow \
                 {plugin}`"
            );
        } else {
            let remedy = remedy(plugin, capability, &scope);
            tracing::warn!(%plugin, %capability, scope, "a plugin was refused what it is not granted; {remedy}");
        }
        if last {
            tracing::warn!(%plugin, "further refusals of this instance are not told");
        }
        true
    }
}

/// The command that grants what was refused, safe to be pasted into a shell whatever the guest
/// asked for.
fn remedy(plugin: &PluginId, capability: Capability, scope: &str) -> String {
    if scope.is_empty() {
        return format!("grant it with `vox plugin grant {plugin} {capability}`");
    }
    let scope = scope.escape_debug().to_string();
    let plain = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '/' | '.' | '-' | '_' | ':' | ',')
    };
    let scope = if scope.chars().all(plain) {
        scope
    } else {
        format!("'{}'", scope.replace('\'', r"'\''"))
    };
    format!("grant it with `vox plugin grant {plugin} {capability}={scope}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> PluginId {
        "a".parse().unwrap()
    }

    #[test]
    fn a_refusal_is_told_once_and_not_without_end() {
        let refusals = Refusals::new(id(), Vec::new());
        assert!(refusals.tell(Capability::Clocks, ""));
        assert!(!refusals.tell(Capability::Clocks, ""));
        let told =
            (0..1000).filter(|number| refusals.tell(Capability::Network, &number.to_string()));
        assert_eq!(told.count(), MAX_TOLD - 1);
    }

    #[test]
    fn the_remedy_runs_nothing_else_when_it_is_pasted() {
        let remedy = |scope| remedy(&id(), Capability::FileRead, scope);
        assert_eq!(
            remedy("/tmp/x"),
            "grant it with `vox plugin grant a file_read=/tmp/x`"
        );
        assert_eq!(
            remedy("/tmp/$(rm -r ~)'\n"),
            r"grant it with `vox plugin grant a file_read='/tmp/$(rm -r ~)\'\''\n'`"
        );
    }

    #[test]
    fn a_line_without_an_end_does_not_grow_without_end() {
        let mut text = Text::default();
        let mut lines = Vec::new();
        text.add(&vec![b'x'; 5 * LONGEST_LINE + 3], |line| {
            lines.push(line.len())
        });
        assert!(text.0.len() <= LONGEST_LINE);
        text.add(b"\nleft", |line| lines.push(line.len()));
        assert_eq!(text.0, b"left");
        assert_eq!(lines, [vec![LONGEST_LINE; 5], vec![3]].concat());
    }
}
