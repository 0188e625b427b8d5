//! Reads and checks a `Plugin.toml`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use semver::VersionReq;
use toml::{Spanned, de::DeValue};

use super::{
    CommandEntry, HookEntry, LibraryVersion, Manifest, Payloads, Provides, RequiredLibrary,
    Requires, RunnerPorts, StageEntry,
};
use crate::{
    CapabilityRequest, ExtensionPoint, HookFailure, HookPoint, Limits, ManifestError, Modality,
    PluginId, RunnerName, Scope, WallTime, check_entry,
    document::{Document, Table},
    platform,
    points::UnknownWord,
    spdx,
};

pub(super) fn manifest(text: &str, file: &Path) -> Result<Manifest, ManifestError> {
    Document::read(text, file, Manifest::KEYS, |root| {
        let id: Option<PluginId> = root.required("id", root.parsed("id"), "id = \"my-plugin\"");
        let version = root.required("version", root.version("version"), "version = \"0.1.0\"");
        let description = root.required(
            "description",
            root.sentence("description"),
            "description = \"What it is for\"",
        );
        let host = root
            .text("host")
            .and_then(|range| root.version_range(range));
        let host = root.required("host", host, "host = \"^0.1\"");
        let payload = payloads(root);
        let provides = provides(root, Carried::of(root));
        let name = root.sentence("name");
        let dependencies = plugins(root, "dependencies", id.as_ref());
        let conflicts = plugins(root, "conflicts", id.as_ref());
        let authors = root
            .texts("authors")
            .iter()
            .map(|name| name.get_ref().to_string())
            .collect();
        let license = license(root);
        let homepage = homepage(root);
        let requires = requires(root);
        let capabilities = capabilities(root);
        let limits = root
            .table("limits", Limits::KEYS)
            .map_or_else(Limits::default, |table| Limits::read(&table));
        let id = id?;
        Some(Manifest {
            name: name.unwrap_or_else(|| id.to_string()),
            id,
            version: version?,
            description: description?,
            authors,
            license,
            homepage,
            host: host?,
            payload,
            requires,
            provides,
            capabilities,
            dependencies,
            conflicts,
            limits,
        })
    })
}

fn license(root: &Table<'_, '_>) -> Option<String> {
    let text = root.text("license")?;
    if let Err(fault) = spdx::check(text.get_ref()) {
        root.note(
            text.span(),
            format!(
                "`{}` is not a license expression: {fault}",
                text.get_ref().escape_debug()
            ),
            "write SPDX ids joined by AND or OR, such as `Apache-2.0 OR MIT`",
        );
        return None;
    }
    Some(text.get_ref().to_string())
}

fn homepage(root: &Table<'_, '_>) -> Option<String> {
    let text = root.text("homepage")?;
    let address = *text.get_ref();
    let host = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"));
    let valid = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
        && !address.contains(|c: char| c.is_whitespace() || c.is_control());
    if !valid {
        root.note(
            text.span(),
            format!("`{}` is not a web address", address.escape_debug()),
            "write it in full, such as `https://example.org/redact`",
        );
    }
    valid.then(|| address.to_owned())
}

fn payloads(root: &Table<'_, '_>) -> Payloads {
    let Some(table) = root.table("payload", Payloads::KEYS) else {
        root.required(
            "payload",
            None::<()>,
            "[payload]` with `component = \"my_plugin.wasm\"",
        );
        return Payloads::default();
    };
    let mut native = BTreeMap::new();
    for (key, value) in table.members("native") {
        let file = table
            .as_text("native", value)
            .and_then(|text| path(&table, text));
        if let (Some(platform), Some(file)) = (table.parse(key), file) {
            native.insert(platform, file);
        }
    }
    let carried = Carried::of(root);
    if !carried.component && !carried.native && !carried.skill {
        table.note(
            table.span.clone(),
            "there is no payload",
            "name at least one file: `component`, `native` or `skill`",
        );
    }
    let single = |key| table.text(key).and_then(|text| path(&table, text));
    Payloads {
        component: single("component"),
        native,
        skill: single("skill"),
    }
}

/// The payloads that are written, be they valid or not: what is judged by them is not to be judged
/// wrongly for a fault that is already noted.
#[derive(Clone, Copy)]
struct Carried {
    component: bool,
    native: bool,
    skill: bool,
}

impl Carried {
    fn of(root: &Table<'_, '_>) -> Self {
        let payload = root
            .value("payload")
            .and_then(|value| value.get_ref().as_table());
        let value = |key| payload.and_then(|payload| payload.get(key));
        Self {
            component: value("component").is_some(),
            native: value("native").is_some_and(|native| !is_empty_table(native)),
            skill: value("skill").is_some(),
        }
    }
}

fn is_empty_table(value: &Spanned<DeValue<'_>>) -> bool {
    value
        .get_ref()
        .as_table()
        .is_some_and(|table| table.is_empty())
}

/// True for `{}` and for a table with nothing but empty tables and arrays in it. What is of
/// another kind is noted elsewhere.
fn names_nothing(provides: &Spanned<DeValue<'_>>) -> bool {
    let empty = |value: &DeValue<'_>| match value {
        DeValue::Table(entries) => entries.is_empty(),
        DeValue::Array(items) => items.is_empty(),
        _ => false,
    };
    match provides.get_ref() {
        DeValue::Table(entries) => entries.values().all(|value| empty(value.get_ref())),
        _ => false,
    }
}

/// A path that stays within the plugin's directory and means the same on every system.
fn path(table: &Table<'_, '_>, text: Spanned<&str>) -> Option<PathBuf> {
    let path = *text.get_ref();
    let fault = if path.is_empty() {
        "is empty"
    } else if path.contains(['\\', ':']) || path.contains(char::is_control) {
        "has a character that not every system allows"
    } else if path.starts_with('/') {
        "is not relative"
    } else if path.split('/').any(|part| part == "..") {
        "leads out of the plugin's directory"
    } else if path.split('/').any(|part| part.is_empty() || part == ".") {
        "has an empty part"
    } else {
        return Some(PathBuf::from(path));
    };
    table.note(
        text.span(),
        format!("the path `{}` {fault}", path.escape_debug()),
        "name a file in the plugin's directory, with `/` between folders",
    );
    None
}

fn requires(root: &Table<'_, '_>) -> Requires {
    let Some(table) = root.table("requires", Requires::KEYS) else {
        return Requires::default();
    };
    let words = |key, known: fn(&str) -> Result<&'static str, UnknownWord>| {
        let mut words = Vec::new();
        for text in table.texts(key) {
            match known(text.get_ref()) {
                Ok(word) => table.push_distinct(&mut words, word.to_owned(), key, text.span()),
                Err(error) => table.note(text.span(), error.to_string(), error.hint()),
            }
        }
        words
    };
    let os = words("os", platform::system);
    let arch = words("arch", platform::architecture);
    let libraries = table.tables("libraries", RequiredLibrary::KEYS);
    Requires {
        os,
        arch,
        libraries: libraries.iter().filter_map(library).collect(),
    }
}

fn library(table: &Table<'_, '_>) -> Option<RequiredLibrary> {
    let name = table.required("name", table.sentence("name"), "name = \"cudart\"");
    let version = table.text("version").and_then(|text| {
        let numbers: Result<Vec<u32>, _> = text.get_ref().split('.').map(str::parse).collect();
        match numbers {
            Ok(numbers) => Some(LibraryVersion::new(&numbers)),
            Err(_) => {
                let shown = text.get_ref().escape_debug();
                let message = format!("`{shown}` is not the version of a library");
                table.note(
                    text.span(),
                    message,
                    "write numbers joined by dots, such as `12.0`",
                );
                None
            }
        }
    });
    Some(RequiredLibrary {
        name: name?,
        version,
    })
}

fn provides(root: &Table<'_, '_>, carried: Carried) -> Provides {
    let table = root.table("provides", Provides::KEYS);
    let provides = table
        .as_ref()
        .map(|table| provided(table, carried))
        .unwrap_or_default();
    let only_skill = carried.skill && !carried.component && !carried.native;
    let written = root
        .value("provides")
        .is_some_and(|value| !names_nothing(value));
    if !written && !only_skill && root.has("payload") {
        root.note(
            root.key_span("provides"),
            "the plugin provides nothing",
            "say what it serves: `[provides]` with `extension-points = { stage = 1 }`",
        );
    }
    if written && only_skill {
        root.note(
            root.key_span("provides"),
            "a skill serves no extension point, runner, verb, hook, topic or service",
            "remove `[provides]`, or add a `component` or `native` payload",
        );
    }
    provides
}

fn provided(table: &Table<'_, '_>, carried: Carried) -> Provides {
    let provides = Provides {
        extension_points: extension_points(table, carried),
        runners: table.distinct("runners"),
        ports: ports(table),
        declared_environment: table.distinct("declared-environment"),
        stage: stage(table),
        commands: commands(table),
        hooks: hooks(table),
        topics: topics(table),
        services: table.distinct("services"),
    };
    let of_ports = provides.ports.keys().map(|name| ("ports", name));
    let declared = provides.declared_environment.iter();
    let declared = declared.map(|name| ("declared-environment", name));
    for (key, name) in of_ports
        .chain(declared)
        .filter(|(_, name)| !provides.runners.contains(name))
    {
        let message = format!("`{key}` names `{name}`, which is not among `runners`");
        table.note(
            table.key_span(key),
            message,
            "add it there, or remove it here",
        );
    }
    if provides.stage.is_some()
        && !provides
            .extension_points
            .contains_key(&ExtensionPoint::Stage)
    {
        let message = "`stage` needs the extension point `stage`";
        table.note(
            table.key_span("stage"),
            message,
            "add `stage = 1` to `extension-points`",
        );
    }
    for (point, key) in [
        (ExtensionPoint::Step, "runners"),
        (ExtensionPoint::Command, "commands"),
        (ExtensionPoint::Hook, "hooks"),
        (ExtensionPoint::Service, "services"),
    ] {
        let served = provides.extension_points.contains_key(&point);
        let listed = table.items_count(key) > 0;
        if listed && !served {
            table.note(
                table.key_span(key),
                format!("`{key}` needs the extension point `{point}`"),
                format!(
                    "add `{point} = {}` to `extension-points`",
                    point.current_revision()
                ),
            );
        }
        if served && !listed {
            table.note(
                table.key_span("extension-points"),
                format!("the extension point `{point}` is served, and `{key}` names nothing"),
                format!("add `{key} = [...]`, or remove `{point}`: nothing could reach it"),
            );
        }
    }
    provides
}

fn extension_points(table: &Table<'_, '_>, carried: Carried) -> BTreeMap<ExtensionPoint, u32> {
    let mut points = BTreeMap::new();
    for (key, value) in table.members("extension-points") {
        let span = key.span();
        let point: Option<ExtensionPoint> = table.parse(key);
        let revision: Option<u32> = table.integer("revision", value);
        let (Some(point), Some(revision)) = (point, revision) else {
            continue;
        };
        if revision == 0 {
            table.note(
                value.span(),
                "revisions are counted from 1",
                format!("write `{point} = 1`"),
            );
        }
        if point.is_native_only() && !carried.native {
            table.note(
                span,
                format!("the extension point `{point}` can only be served by a native library"),
                "add a `native` payload, or remove the extension point",
            );
        }
        points.insert(point, revision);
    }
    points
}

fn ports(table: &Table<'_, '_>) -> BTreeMap<RunnerName, RunnerPorts> {
    let mut ports = BTreeMap::new();
    for (key, value) in table.members("ports") {
        let Some(runner) = table.parse::<RunnerName>(key) else {
            continue;
        };
        let Some(entry) = table.as_table("ports", value, RunnerPorts::KEYS) else {
            continue;
        };
        let mut of_runner = RunnerPorts::default();
        for (port, value) in entry.members("reads") {
            let accepted = entry.texts_in("reads", value);
            let accepted = accepted.into_iter().filter_map(|text| entry.parse(text));
            of_runner
                .reads
                .insert(port.get_ref().to_string(), accepted.collect());
        }
        for (port, value) in entry.members("writes") {
            let modality = entry.as_text("writes", value);
            if let Some(modality) = modality.and_then(|text| concrete(&entry, text)) {
                of_runner
                    .writes
                    .insert(port.get_ref().to_string(), modality);
            }
        }
        ports.insert(runner, of_runner);
    }
    ports
}

fn stage(table: &Table<'_, '_>) -> Option<StageEntry> {
    let entry = table.table("stage", StageEntry::KEYS)?;
    let emits = entry.text("emits");
    Some(StageEntry {
        accepts: entry.distinct("accepts"),
        emits: emits.and_then(|text| concrete(&entry, text)),
    })
}

/// A modality that something has, and not one that stands for several.
fn concrete(table: &Table<'_, '_>, text: Spanned<&str>) -> Option<Modality> {
    let span = text.span();
    let modality: Modality = table.parse(text)?;
    if modality.is_pattern() {
        let message =
            format!("what is made is of one modality, and `{modality}` stands for several");
        table.note(span, message, "name it, or leave it out where it differs");
        return None;
    }
    Some(modality)
}

fn commands(table: &Table<'_, '_>) -> Vec<CommandEntry> {
    let mut commands: Vec<CommandEntry> = Vec::new();
    for entry in table.tables("commands", CommandEntry::KEYS) {
        let verb = entry.required("verb", entry.parsed("verb"), "verb = \"hello\"");
        let summary = entry.sentence("summary");
        let summary = entry.required("summary", summary, "summary = \"Greets someone\"");
        let (Some(verb), Some(summary)) = (verb, summary) else {
            continue;
        };
        if commands.iter().any(|other| other.verb == verb) {
            let message = format!("the verb `{verb}` stands twice in `commands`");
            entry.note(entry.value_span("verb"), message, "remove one of them");
        } else {
            commands.push(CommandEntry { verb, summary });
        }
    }
    commands
}

fn hooks(table: &Table<'_, '_>) -> Vec<HookEntry> {
    let mut hooks: Vec<HookEntry> = Vec::new();
    for entry in table.tables("hooks", HookEntry::KEYS) {
        let point = entry.required("point", entry.parsed("point"), "point = \"pre_step\"");
        let priority = match entry.value("priority") {
            Some(value) => entry.integer("priority", value),
            None => Some(HookEntry::DEFAULT_PRIORITY),
        };
        let timeout = timeout(&entry);
        let on_failure = on_failure(&entry, point.as_ref());
        let (Some(point), Some(priority)) = (point, priority) else {
            continue;
        };
        if hooks.iter().any(|other| other.point == point) {
            let message = format!("the hook point `{point}` stands twice in `hooks`");
            entry.note(entry.value_span("point"), message, "remove one of them");
        } else {
            hooks.push(HookEntry {
                point,
                priority,
                timeout,
                on_failure,
            });
        }
    }
    hooks
}

fn timeout(entry: &Table<'_, '_>) -> Option<WallTime> {
    let timeout: WallTime = entry.parsed("timeout")?;
    let fault = if timeout.0.is_zero() {
        "cannot be nothing".to_owned()
    } else if timeout > HookEntry::MAX_TIMEOUT {
        format!("cannot be longer than {}", HookEntry::MAX_TIMEOUT)
    } else {
        return Some(timeout);
    };
    let hint = format!("leave it out for {}", HookEntry::DEFAULT_TIMEOUT);
    entry.note(
        entry.value_span("timeout"),
        format!("`timeout` {fault}"),
        hint,
    );
    None
}

fn on_failure(entry: &Table<'_, '_>, point: Option<&HookPoint>) -> Option<HookFailure> {
    let on_failure: HookFailure = entry.parsed("on-failure")?;
    if let (HookFailure::Closed, Some(point)) = (on_failure, point)
        && !point.may_abort()
    {
        entry.note(
            entry.value_span("on-failure"),
            format!("at `{point}` nothing can be stopped"),
            "leave `on-failure` out",
        );
    }
    Some(on_failure)
}

fn topics(table: &Table<'_, '_>) -> Vec<String> {
    let mut topics = Vec::new();
    for text in table.texts("topics") {
        let topic = *text.get_ref();
        let name = topic.strip_suffix(".*").unwrap_or(topic);
        let valid = name.split('.').all(|part| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        });
        if valid {
            table.push_distinct(&mut topics, topic.to_owned(), "topics", text.span());
        } else {
            table.note(
                text.span(),
                format!("`{}` is not a topic", topic.escape_debug()),
                "write words of letters, digits, `-` and `_` joined by dots, such as \
                 `wordstat.counts`, or `wordstat.*` for all below one",
            );
        }
    }
    topics
}

fn capabilities(root: &Table<'_, '_>) -> Vec<CapabilityRequest> {
    let mut requests: Vec<CapabilityRequest> = Vec::new();
    for entry in root.tables("capabilities", CapabilityRequest::KEYS) {
        if let Some(request) = capability(&entry) {
            if requests.iter().any(|other| other.name == request.name) {
                entry.note(
                    entry.value_span("name"),
                    format!("the capability `{}` is asked for twice", request.name),
                    "ask once, with all that is wanted in its `scope`",
                );
            }
            requests.push(request);
        }
    }
    requests
}

fn capability(entry: &Table<'_, '_>) -> Option<CapabilityRequest> {
    let name: Option<crate::Capability> =
        entry.required("name", entry.parsed("name"), "name = \"stream_io\"");
    let reason = entry.sentence("reason");
    let reason = entry.required(
        "reason",
        reason,
        "reason = \"why the user should grant it\"",
    );
    let mut scope = Vec::new();
    for text in entry.texts("scope") {
        if text.get_ref().trim().is_empty() {
            entry.note(text.span(), "an entry of `scope` is empty", "remove it");
            continue;
        }
        if let Some(error) = name.and_then(|name| check_entry(name, text.get_ref()).err()) {
            entry.note(text.span(), error.to_string(), error.hint());
        }
        entry.push_distinct(
            &mut scope,
            (*text.get_ref()).to_owned(),
            "scope",
            text.span(),
        );
    }
    if let Some(name) = name
        && name.scope_of().is_none()
        && !scope.is_empty()
    {
        entry.note(
            entry.key_span("scope"),
            format!("the capability `{name}` has no scope"),
            "remove `scope`: it is granted as a whole",
        );
    } else if let Some(name) = name
        && Scope::from_words(name, &scope).is_none()
    {
        entry.note(
            entry.value_span("scope"),
            format!("the scope of `{name}` is one number above 0"),
            "write `scope = [\"3\"]`, or leave it out for any number",
        );
    }
    Some(CapabilityRequest {
        name: name?,
        scope,
        reason: reason?,
    })
}

fn plugins(
    root: &Table<'_, '_>,
    key: &'static str,
    own: Option<&PluginId>,
) -> BTreeMap<PluginId, VersionReq> {
    let mut plugins = BTreeMap::new();
    for (id, range) in root.members(key) {
        let span = id.span();
        let range = root
            .as_text(id.get_ref(), range)
            .and_then(|text| root.version_range(text));
        let Some(id) = root.parse::<PluginId>(id) else {
            continue;
        };
        if Some(&id) == own {
            root.note(span, format!("`{id}` names itself in `{key}`"), "remove it");
            continue;
        }
        if let Some(range) = range {
            plugins.insert(id, range);
        }
    }
    plugins
}
