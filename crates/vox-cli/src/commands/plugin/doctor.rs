//! `vox plugin doctor`: everything that was passed over, or does not work, with the reason and the
//! way out.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use vox_contract::{Carrier, PluginId, Problem};
use vox_host::inventory::{Finding, Installed, Reason, Severity};
use vox_host::{Error, Host, requirements, skills};

use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::excerpt::Excerpt;
use crate::output::report;
use crate::output::style::{BAD, DIM, GOOD, HINT, WARNING, paint, plain};
use crate::output::{View, count};

/// Arguments of `vox plugin doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Ends with code 1 when something is wrong; notes alone are not. Loading the \
                        payloads runs the\ncode that native libraries run when they are loaded."
)]
pub struct DoctorArgs {
    /// Look at manifests only: load no payload
    #[arg(long)]
    quick: bool,
}

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
struct Diagnosis {
    /// How many plugins can be used, as far as manifests tell.
    plugins: usize,
    /// How many payloads were loaded; none with `--quick`.
    payloads_loaded: usize,
    findings: Vec<Entry>,
}

/// Something that was found.
#[derive(Debug, Serialize)]
struct Entry {
    /// `error`, `warning` or `note`.
    severity: &'static str,
    plugin: Option<PluginId>,
    path: Option<PathBuf>,
    message: String,
    hint: String,
    /// What is wrong with a file, where it is one that is at fault.
    #[serde(flatten)]
    source: Option<Source>,
}

/// A file that is refused.
#[derive(Debug, Serialize)]
struct Source {
    file: PathBuf,
    #[serde(skip)]
    text: String,
    #[serde(serialize_with = "report::serialize_problems")]
    problems: Vec<Problem>,
}

impl View for Diagnosis {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        for entry in &self.findings {
            entry.human(out)?;
        }
        let looked = count(self.plugins, "plugin");
        let loaded = match self.payloads_loaded {
            0 => String::new(),
            number => format!(", {} loaded", count(number, "payload")),
        };
        let worse = self
            .findings
            .iter()
            .filter(|entry| entry.severity != Severity::Note.name())
            .count();
        match worse {
            0 => writeln!(
                out,
                "{} {looked}{loaded}, nothing wrong",
                paint(GOOD, "ok:")
            ),
            _ => writeln!(
                out,
                "{looked}{loaded}, {}",
                paint(BAD, count(self.findings.len(), "finding"))
            ),
        }
    }
}

impl Entry {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(Source {
            file,
            text,
            problems,
        }) = &self.source
        {
            for problem in problems {
                write!(
                    out,
                    "{}",
                    Excerpt {
                        file,
                        text,
                        problem
                    }
                )?;
            }
            // Each problem came with its own hint.
            return writeln!(out);
        }
        let style = match self.severity {
            "error" => BAD,
            "warning" => WARNING,
            _ => DIM,
        };
        let label = format!("{}:", self.severity);
        let mut lines = self.message.lines().map(plain);
        writeln!(
            out,
            "{} {}",
            paint(style, label),
            lines.next().unwrap_or_default()
        )?;
        for line in lines {
            writeln!(out, "    {line}")?;
        }
        writeln!(out, "  {} {}\n", paint(HINT, "hint:"), plain(&self.hint))
    }
}

impl From<&Finding> for Entry {
    fn from(finding: &Finding) -> Self {
        let manifest_error = match finding {
            Finding::PassedOver(passed_over) => match &passed_over.reason {
                Reason::BadManifest(error) => Some(error),
                _ => None,
            },
            Finding::Skill { error, .. } => Some(error),
            _ => None,
        };
        let source = manifest_error
            .filter(|error| !error.problems().is_empty())
            .map(|error| Source {
                file: error.file().to_owned(),
                text: error.source_text().to_owned(),
                problems: error.problems().to_vec(),
            });
        Self {
            severity: finding.severity().name(),
            plugin: finding.plugin().cloned(),
            path: finding.path().map(Path::to_owned),
            message: match &source {
                Some(source) => format!("{} is refused", source.file.display()),
                None => finding.to_string(),
            },
            hint: finding.hint(),
            source,
        }
    }
}

pub(super) fn run(context: &Context, arguments: &DoctorArgs) -> Result<Exit, Failure> {
    let host = context.host()?;
    let (_, unreadable_skills) = skills::skills(host.selection());
    let missing_libraries = requirements::missing_libraries(host.selection());
    let found = host
        .findings()
        .iter()
        .chain(&unreadable_skills)
        .chain(&missing_libraries);
    let mut findings: Vec<Entry> = found.map(Entry::from).collect();
    let mut payloads_loaded = 0;
    if !arguments.quick {
        for plugin in host.inventory().found() {
            for carrier in Carrier::ALL
                .into_iter()
                .filter(|carrier| plugin.payload(*carrier).is_some())
            {
                // What a library is missing was found above, and is no fault of the file.
                let blocked = carrier == Carrier::Native
                    && requirements::check_libraries(&plugin.manifest).is_err();
                if blocked {
                    continue;
                }
                payloads_loaded += 1;
                findings.extend(load(&host, plugin, carrier));
            }
        }
    }
    let wrong = findings
        .iter()
        .any(|entry| entry.severity != Severity::Note.name());
    let plugins = host.inventory().found().len();
    context.output.show(&Diagnosis {
        plugins,
        payloads_loaded,
        findings,
    })?;
    Ok(if wrong { Exit::Failed } else { Exit::Success })
}

/// What keeps a payload from being loaded, if anything does.
fn load(host: &Host, plugin: &Installed, carrier: Carrier) -> Option<Entry> {
    let error = host.check(plugin, carrier).err()?;
    Some(Entry {
        severity: Severity::Error.name(),
        plugin: Some(plugin.id().clone()),
        path: plugin.payload(carrier).map(Path::to_owned),
        message: format!(
            "the {carrier} payload of {} {} does not load: {error}",
            plugin.id(),
            plugin.version()
        ),
        hint: hint(&error, plugin.id()),
        source: None,
    })
}

fn hint(error: &Error, plugin: &impl Display) -> String {
    error.hint().unwrap_or_else(|| {
        format!("build the plugin again and install it, or remove it: `vox plugin remove {plugin}`")
    })
}
