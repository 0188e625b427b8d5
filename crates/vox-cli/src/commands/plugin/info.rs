//! `vox plugin info`: all about one plugin, from its manifest, its grants and its settings.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use semver::Version;
use serde::Serialize;
use vox_contract::{
    Carrier, CpuTime, EffectiveLimits, HookFailure, LimitName, LimitSource, LimitValue, Manifest,
    PayloadKind, WallTime,
};
use vox_host::Host;
use vox_host::inventory::Installed;
use vox_host::signing::{self, Time, TrustStore};

use super::grants::{NATIVE_IS_TRUSTED, Request};
use super::named::IdAndVersion;
use super::view::{Granted, listed};
use crate::context::Context;
use crate::error::Failure;
use crate::exit::Exit;
use crate::output::View;
use crate::output::style::{DIM, GOOD, LITERAL, STRONG, WARNING, paint, plain};

/// Arguments of `vox plugin info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The plugin, or one version of it: redact, redact@0.1.0
    #[arg(value_name = "ID[@VERSION]")]
    plugin: IdAndVersion,
}

/// All about one version of a plugin.
#[derive(Debug, Serialize)]
struct Info {
    /// What the plugin says of itself; the keys are those of Plugin.toml.
    manifest: Manifest,
    /// `environment`, `project`, `user` or `bundled`.
    root: &'static str,
    directory: PathBuf,
    /// The payloads that are there.
    payloads: Vec<Payload>,
    /// Files that the manifest names for this machine and that are not there.
    missing: Vec<PathBuf>,
    /// What carries its code unless somebody asks for another; null for a skill alone.
    carrier: Option<Carrier>,
    /// Whether native code, which nothing confines, is among the payloads.
    trusted_code: bool,
    /// How far it is trusted: `bundled`, `trusted`, `allowed-by-name`, `pinned`, `unknown-key`,
    /// `unsigned`; null when it would not be loaded.
    standing: Option<&'static str>,
    /// That in words, or why it would not be loaded.
    vouched: String,
    granted: Vec<Granted>,
    limits: Vec<Limit>,
    /// Whether this version is the one that is used.
    serves: bool,
    /// Every version that can be used, the highest first.
    versions: Vec<Version>,
    /// Why that version is used, or why not this one.
    why: String,
}

/// A payload that is there.
#[derive(Debug, Serialize)]
struct Payload {
    kind: PayloadKind,
    file: PathBuf,
    bytes: u64,
}

/// A limit, and why it is what it is.
#[derive(Debug, Serialize)]
struct Limit {
    name: LimitName,
    /// What holds.
    value: LimitValue,
    source: LimitSource,
    default: LimitValue,
    /// What the plugin asks for; null where it asks for nothing.
    asked: Option<LimitValue>,
    /// The most that it gets by asking.
    ceiling: LimitValue,
    /// What is bounded.
    bounds: &'static str,
}

impl Limit {
    /// Where the value comes from and how far it could go, for people.
    fn origin(&self) -> String {
        let ceiling = match self.ceiling {
            LimitValue::Cpu(CpuTime::Unlimited) => "no ceiling".to_owned(),
            ceiling => format!("at most {ceiling}"),
        };
        match (self.source, self.asked) {
            (LimitSource::Set, _) => "set in Vox.toml".to_owned(),
            (LimitSource::Cut, Some(asked)) => format!("cut: {asked} asked for"),
            (LimitSource::Asked, _) => format!("asked for; {ceiling}"),
            _ => format!("by default; {ceiling}"),
        }
    }
}

impl View for Info {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        self.identity(out)?;
        self.code(out)?;
        self.provided(out)?;
        self.capabilities(out)?;
        self.bounded(out)
    }
}

impl Info {
    fn new(host: &Host, plugin: &Installed) -> Self {
        let id = plugin.id();
        let versions = host.inventory().versions(id);
        let selected = host.selection().get(id);
        let serves = selected.is_some_and(|selected| selected.directory == plugin.directory);
        let available = |carrier: &Carrier| plugin.payload(*carrier).is_some();
        let preferred = host
            .settings()
            .of(id)
            .and_then(|settings| settings.prefer)
            .filter(available);
        let carrier = preferred.or_else(|| Carrier::ALL.into_iter().find(available));
        let admission = TrustStore::load(host.directories()).and_then(|trust| {
            let carrier = carrier.unwrap_or(Carrier::Component);
            signing::admit(&trust, host.directories(), plugin, carrier, Time::now())
        });
        Self {
            manifest: plugin.manifest.clone(),
            root: plugin.root.name(),
            directory: plugin.directory.clone(),
            payloads: payloads(plugin),
            missing: plugin.missing.clone(),
            carrier,
            trusted_code: plugin.native.is_some(),
            standing: admission
                .as_ref()
                .ok()
                .map(|admission| admission.standing.name()),
            vouched: match &admission {
                Ok(admission) => admission.standing.to_string(),
                Err(error) => format!("would not be loaded: {error}"),
            },
            granted: Granted::all(&host.grants(id)),
            limits: limits(host, plugin),
            serves,
            versions: versions
                .iter()
                .map(|version| version.version().clone())
                .collect(),
            why: why(host, plugin, serves, versions.len()),
        }
    }

    fn identity(&self, out: &mut dyn Write) -> io::Result<()> {
        let Manifest {
            id,
            version,
            name,
            description,
            authors,
            license,
            homepage,
            host,
            ..
        } = &self.manifest;
        writeln!(
            out,
            "{} {version} {}",
            paint(LITERAL, id),
            paint(DIM, plain(name))
        )?;
        writeln!(out, "  {}", plain(description))?;
        fact(
            out,
            "from",
            format!("{} ({})", self.directory.display(), self.root),
        )?;
        fact(out, "used", &self.why)?;
        fact(out, "trust", &self.vouched)?;
        fact(out, "versions", listed(&self.versions))?;
        fact(out, "host", host)?;
        if !authors.is_empty() {
            fact(out, "authors", listed(authors))?;
        }
        for (label, value) in [("license", license), ("homepage", homepage)] {
            if let Some(value) = value {
                fact(out, label, value)?;
            }
        }
        for (label, plugins) in [
            ("needs", &self.manifest.dependencies),
            ("not with", &self.manifest.conflicts),
        ] {
            if !plugins.is_empty() {
                fact(
                    out,
                    label,
                    listed(plugins.iter().map(|(id, range)| format!("{id} {range}"))),
                )?;
            }
        }
        Ok(())
    }

    fn code(&self, out: &mut dyn Write) -> io::Result<()> {
        section(out, "payloads")?;
        for Payload { kind, file, bytes } in &self.payloads {
            let used = if self
                .carrier
                .is_some_and(|carrier| carrier.name() == kind.name())
            {
                ", used"
            } else {
                ""
            };
            writeln!(out, "  {kind:<10} {} ({bytes} bytes{used})", file.display())?;
        }
        for file in &self.missing {
            writeln!(out, "  {} {}", paint(WARNING, "missing   "), file.display())?;
        }
        if self.trusted_code {
            writeln!(out, "  {} {NATIVE_IS_TRUSTED}", paint(WARNING, "note:"))?;
        }
        Ok(())
    }

    fn provided(&self, out: &mut dyn Write) -> io::Result<()> {
        let provides = &self.manifest.provides;
        if provides.is_empty() {
            return Ok(());
        }
        section(out, "provides")?;
        let points = provides.extension_points.iter();
        fact(
            out,
            "points",
            listed(points.map(|(point, revision)| format!("{point} {revision}"))),
        )?;
        for command in &provides.commands {
            fact(
                out,
                "command",
                format!("vox {}: {}", command.verb, command.summary),
            )?;
        }
        for hook in &provides.hooks {
            fact(
                out,
                "hook",
                format!(
                    "{} at priority {}, for at most {}; {} if it fails",
                    hook.point,
                    hook.priority,
                    WallTime(hook.time_limit()),
                    match hook.failure() {
                        HookFailure::Open => "goes on",
                        HookFailure::Closed => "stops",
                    }
                ),
            )?;
        }
        for (label, words) in [
            ("runners", listed(&provides.runners)),
            ("services", listed(&provides.services)),
            ("topics", listed(&provides.topics)),
        ] {
            if words != "-" {
                fact(out, label, words)?;
            }
        }
        Ok(())
    }

    fn capabilities(&self, out: &mut dyn Write) -> io::Result<()> {
        section(out, "capabilities")?;
        if self.manifest.capabilities.is_empty() && self.granted.is_empty() {
            return writeln!(out, "  it asks for none");
        }
        for request in &self.manifest.capabilities {
            writeln!(out, "{}", Request(request))?;
            match self
                .granted
                .iter()
                .find(|granted| granted.capability == request.name)
            {
                Some(granted) => {
                    let scope = granted
                        .scope
                        .as_ref()
                        .map_or("all of it".to_owned(), |scope| scope.join(", "));
                    writeln!(out, "      {} {}", paint(GOOD, "granted:"), plain(&scope))?;
                }
                None => {
                    let command = format!("vox plugin grant {} {}", self.manifest.id, request.name);
                    writeln!(
                        out,
                        "      {}: {}",
                        paint(WARNING, "not granted"),
                        paint(LITERAL, command)
                    )?;
                }
            }
        }
        let unasked = self
            .granted
            .iter()
            .filter(|granted| self.manifest.request(granted.capability).is_none());
        for granted in unasked {
            writeln!(
                out,
                "  {} - granted, and not asked for",
                plain(&granted.to_string())
            )?;
        }
        Ok(())
    }
}

/// The section on limits.
impl Info {
    fn bounded(&self, out: &mut dyn Write) -> io::Result<()> {
        section(out, "limits")?;
        let origins: Vec<String> = self.limits.iter().map(Limit::origin).collect();
        let width = origins.iter().map(String::len).max().unwrap_or_default();
        for (limit, origin) in self.limits.iter().zip(origins) {
            let Limit {
                name,
                value,
                bounds,
                ..
            } = limit;
            let bounds = paint(DIM, bounds);
            writeln!(out, "  {name:<12} {value:<9} {origin:<width$}  {bounds}")?;
        }
        let table = format!("[plugin.{}.limits]", self.manifest.id.toml_key());
        writeln!(
            out,
            "  set others under {} in Vox.toml",
            paint(LITERAL, table)
        )
    }
}

pub(super) fn run(context: &Context, arguments: &InfoArgs) -> Result<Exit, Failure> {
    let host = context.host()?;
    let plugin = find(&host, &arguments.plugin)?;
    context.output.show(&Info::new(&host, &plugin))?;
    Ok(Exit::Success)
}

/// The version that is named, or the one that is used.
fn find(host: &Host, plugin: &IdAndVersion) -> Result<Arc<Installed>, Failure> {
    let IdAndVersion { id, version } = plugin;
    match version {
        None => Ok(host.plugin(id).or_else(|error| {
            // Also one that cannot be resolved has something to show.
            host.inventory().versions(id).first().cloned().ok_or(error)
        })?),
        Some(version) => host.inventory().get(id, version).cloned().ok_or_else(|| {
            let there = listed(
                host.inventory()
                    .versions(id)
                    .iter()
                    .map(|plugin| plugin.version().clone()),
            );
            Failure::new(
                Exit::NotFound,
                format!("{id} {version} is not installed; its versions here: {there}"),
            )
            .hint("`vox plugin doctor` lists what is there and cannot be used")
        }),
    }
}

fn payloads(plugin: &Installed) -> Vec<Payload> {
    let files = [
        (PayloadKind::Component, &plugin.component),
        (PayloadKind::Native, &plugin.native),
        (PayloadKind::Skill, &plugin.skill),
    ];
    let payloads = files.into_iter().filter_map(|(kind, file)| {
        let file = file.clone()?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        Some(Payload { kind, file, bytes })
    });
    payloads.collect()
}

fn limits(host: &Host, plugin: &Installed) -> Vec<Limit> {
    let asked = plugin.manifest.limits;
    let set = host.settings().of(plugin.id()).map(|own| own.limits);
    let set = set.unwrap_or_default();
    let effective = EffectiveLimits::of(&asked, &set);
    let limits = LimitName::ALL.into_iter().map(|name| Limit {
        name,
        value: effective.get(name),
        source: LimitSource::of(name, &asked, &set),
        default: name.default(),
        asked: asked.get(name),
        ceiling: name.ceiling(),
        bounds: name.bounds(),
    });
    limits.collect()
}

/// Why this version is used, or why not.
fn why(host: &Host, plugin: &Installed, serves: bool, versions: usize) -> String {
    let id = plugin.id();
    let range = host
        .settings()
        .of(id)
        .and_then(|settings| settings.version.as_ref());
    match (serves, range) {
        (true, Some(range)) => format!("yes: the highest version that Vox.toml allows ({range})"),
        (true, None) if versions > 1 => "yes: the highest version".to_owned(),
        (true, None) => "yes: the only version".to_owned(),
        (false, Some(range)) if !range.matches(plugin.version()) => {
            format!("no: Vox.toml wants {range}")
        }
        (false, _) => match host.selection().get(id) {
            Some(selected) => format!("no: {} is", selected.version()),
            None => "no: what it needs cannot be had; `vox plugin doctor` says why".to_owned(),
        },
    }
}

fn section(out: &mut dyn Write, title: &str) -> io::Result<()> {
    writeln!(out, "\n{}", paint(STRONG, title))
}

fn fact(out: &mut dyn Write, label: &str, value: impl std::fmt::Display) -> io::Result<()> {
    writeln!(
        out,
        "  {} {}",
        paint(DIM, format!("{label:<10}")),
        plain(&value.to_string())
    )
}
