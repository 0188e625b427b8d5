//! `Plugin.toml`: what a plugin is, what it provides, and what it asks for.
//!
//! The types here are the file: their fields are its keys in kebab case, their doc comments become
//! the descriptions of its JSON Schema, and serialising a [`Manifest`] writes the file again. A
//! manifest that exists has passed every check of `manifest/read.rs`, as long as its fields are
//! left as they were read.

mod read;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use semver::{Version, VersionReq};
use serde::{Serialize, Serializer};

use crate::{
    Capability, CapabilityRequest, Carrier, ExtensionPoint, HookFailure, HookPoint, Limits,
    ManifestError, Modality, Need, PayloadKind, Platform, PluginId, RunnerName, ServiceName, Verb,
    WallTime, document::read_text,
};

/// The name of the file in a plugin's directory.
pub const MANIFEST_FILE: &str = "Plugin.toml";

/// What a plugin says of itself in its Plugin.toml.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "Plugin.toml")]
pub struct Manifest {
    /// The plugin's id: lower-case words joined by hyphens, such parts joined by dots.
    pub id: PluginId,
    /// The plugin's name as people read it. The id when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub name: String,
    /// The plugin's semantic version.
    pub version: Version,
    /// One line that says what the plugin is for.
    pub description: String,
    /// Who made it, each as `Name <address>` or a name alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// An SPDX license expression, such as `Apache-2.0 OR MIT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// An http or https address with more about the plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// The versions of the host that the plugin works with.
    #[schemars(with = "String")]
    pub host: VersionReq,
    /// The files that the plugin ships. At least one.
    pub payload: Payloads,
    /// What the machine must offer.
    #[serde(default, skip_serializing_if = "Requires::is_empty")]
    pub requires: Requires,
    /// What the plugin serves. May be left out only by a plugin whose sole payload is a skill.
    #[serde(default, skip_serializing_if = "Provides::is_empty")]
    pub provides: Provides,
    /// What the plugin asks the user for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<CapabilityRequest>,
    /// Other plugins that it needs, each with a range of versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<PluginId, String>")]
    pub dependencies: BTreeMap<PluginId, VersionReq>,
    /// Other plugins that it cannot be loaded beside, each with a range of versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<PluginId, String>")]
    pub conflicts: BTreeMap<PluginId, VersionReq>,
    /// The limits that the plugin asks for; the host's defaults apply to what is left out.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
}

/// The files that a plugin ships, as paths within its directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Payloads {
    /// The WebAssembly component.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<PathBuf>,
    /// The native library for each platform, as `os-arch = "file"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub native: BTreeMap<Platform, PathBuf>,
    /// The SKILL.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skill: Option<PathBuf>,
}

/// What the machine must offer. An empty list allows any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Requires {
    /// Operating systems, one of which it must be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub os: Vec<String>,
    /// Processor architectures, one of which it must be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arch: Vec<String>,
    /// Native libraries, all of which must be installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub libraries: Vec<RequiredLibrary>,
}

/// A native library that must be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RequiredLibrary {
    /// Its name without prefix and suffix: `cudart` for `libcudart.so` and `cudart.dll`.
    pub name: String,
    /// The lowest version that will do. Any when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<LibraryVersion>,
}

/// The version of a native library: numbers joined by dots, such as `12.0`. Numbers that are left
/// out count as 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LibraryVersion(Vec<u32>);

/// What a plugin serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Provides {
    /// The extension points that its code exports, each with its revision.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extension_points: BTreeMap<ExtensionPoint, u32>,
    /// Names for a step to write after `uses`. Needs the extension point `step`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runners: Vec<RunnerName>,
    /// The streams of a runner, by its name, so that a plan that connects them wrongly is refused
    /// before it runs. A runner that is left out may have any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<RunnerName, RunnerPorts>,
    /// Runners whose steps see of the environment only what the plan and `vox run --env` declare, as those
    /// of a component always do. Other native runners also get what programs need in order to run here,
    /// such as `PATH`, which means nothing where theirs run elsewhere, as in a container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declared_environment: Vec<RunnerName>,
    /// What its stage takes and makes. Anything, unchanged in kind, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageEntry>,
    /// Verbs of the command line. Needs the extension point `command`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<CommandEntry>,
    /// The moments of a run that it is called at. Needs the extension point `hook`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookEntry>,
    /// The topics that it publishes to: names, or prefixes that end in `.*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
    /// Services for other plugins to call. Needs the extension point `service`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceName>,
}

/// The streams of a runner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunnerPorts {
    /// The ports that it reads, each with the modalities that it takes there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reads: BTreeMap<String, Vec<Modality>>,
    /// The ports that it writes, each with the modality of its chunks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub writes: BTreeMap<String, Modality>,
}

/// What a stage takes and makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StageEntry {
    /// The modalities that it takes. Any when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepts: Vec<Modality>,
    /// The modality that it makes. That of what came in when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emits: Option<Modality>,
}

/// A verb of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CommandEntry {
    /// The word after `vox`.
    pub verb: Verb,
    /// One line for the list of commands, shown without loading the plugin.
    pub summary: String,
}

/// A moment of a run at which a plugin is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HookEntry {
    /// The hook point.
    pub point: HookPoint,
    /// Lower numbers are called first.
    #[serde(default = "HookEntry::default_priority")]
    pub priority: i32,
    /// How long one call may take by the clock, up to 60s: a whole number and ns, us, ms or s. 1s
    /// when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<WallTime>,
    /// What follows when it fails or takes too long. When left out `closed` where the point can
    /// abort, and `open` elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<HookFailure>,
}

impl Manifest {
    pub(crate) const KEYS: &[&str] = &[
        "id",
        "name",
        "version",
        "description",
        "authors",
        "license",
        "homepage",
        "host",
        "payload",
        "requires",
        "provides",
        "capabilities",
        "dependencies",
        "conflicts",
        "limits",
    ];

    /// Reads a manifest. `file` is named in errors and not opened.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with all that is wrong; after a syntax error nothing else is
    /// looked at.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ManifestError> {
        read::manifest(text, file)
    }

    /// Reads the manifest in `file`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and [`ManifestError::Unreadable`].
    pub fn load(file: &Path) -> Result<Self, ManifestError> {
        Self::parse(&read_text(file)?, file)
    }

    /// The request for a capability; none when the plugin does not ask for it.
    pub fn request(&self, capability: Capability) -> Option<&CapabilityRequest> {
        self.capabilities
            .iter()
            .find(|request| request.name == capability)
    }
}

impl Payloads {
    pub(crate) const KEYS: &[&str] = &["component", "native", "skill"];

    /// The kinds of payload that there are.
    pub fn kinds(&self) -> impl Iterator<Item = PayloadKind> + use<> {
        let there = [
            self.component.is_some(),
            !self.native.is_empty(),
            self.skill.is_some(),
        ];
        PayloadKind::ALL
            .into_iter()
            .zip(there)
            .filter_map(|(kind, there)| there.then_some(kind))
    }

    /// True when there is code for at least one carrier on at least one platform.
    pub fn has_code(&self) -> bool {
        self.component.is_some() || !self.native.is_empty()
    }

    /// The file that `carrier` would load on this platform.
    pub fn file_for(&self, carrier: Carrier) -> Option<&Path> {
        match carrier {
            Carrier::Component => self.component.as_deref(),
            Carrier::Native => self.native.get(&Platform::current()).map(PathBuf::as_path),
        }
    }
}

impl Requires {
    pub(crate) const KEYS: &[&str] = &["os", "arch", "libraries"];

    /// True when any machine will do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl RequiredLibrary {
    pub(crate) const KEYS: &[&str] = &["name", "version"];
}

impl LibraryVersion {
    /// The numbers, most significant first; without trailing zeros beyond the first two.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }

    /// The version with these numbers.
    pub fn new(numbers: &[u32]) -> Self {
        let significant = numbers
            .iter()
            .rposition(|number| *number != 0)
            .map_or(0, |at| at + 1);
        let mut numbers = numbers[..significant].to_vec();
        numbers.resize(significant.max(2), 0);
        Self(numbers)
    }
}

impl fmt::Display for LibraryVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.pad(&numbers.join("."))
    }
}

impl Serialize for LibraryVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for LibraryVersion {
    fn schema_name() -> Cow<'static, str> {
        "LibraryVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)*$" })
    }
}

impl Provides {
    pub(crate) const KEYS: &[&str] = &[
        "extension-points",
        "runners",
        "ports",
        "declared-environment",
        "stage",
        "commands",
        "hooks",
        "topics",
        "services",
    ];

    /// True when `need` is served.
    pub fn serves(&self, need: Need<'_>) -> bool {
        match need {
            Need::ExtensionPoint(point) => self.extension_points.contains_key(&point),
            Need::Runner(name) => self.runners.iter().any(|runner| runner == name),
            Need::Verb(name) => self.commands.iter().any(|command| command.verb == *name),
            Need::Service(name) => self.services.iter().any(|service| service == name),
        }
    }

    /// True when nothing is served.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl RunnerPorts {
    pub(crate) const KEYS: &[&str] = &["reads", "writes"];
}

impl StageEntry {
    pub(crate) const KEYS: &[&str] = &["accepts", "emits"];

    /// Whether it takes content of kind `modality`.
    pub fn takes(&self, modality: &str) -> bool {
        self.accepts.is_empty() || self.accepts.iter().any(|accepted| accepted.takes(modality))
    }
}

impl CommandEntry {
    pub(crate) const KEYS: &[&str] = &["verb", "summary"];
}

impl HookEntry {
    pub(crate) const KEYS: &[&str] = &["point", "priority", "timeout", "on-failure"];

    /// The priority of a hook that states none.
    pub const DEFAULT_PRIORITY: i32 = 100;

    /// How long one call of a hook that states no time-out may take.
    pub const DEFAULT_TIMEOUT: WallTime = WallTime(Duration::from_secs(1));

    /// The longest time-out that a hook may state.
    pub const MAX_TIMEOUT: WallTime = WallTime(Duration::from_secs(60));

    /// How long one call may take.
    pub fn time_limit(&self) -> Duration {
        self.timeout.unwrap_or(Self::DEFAULT_TIMEOUT).0
    }

    /// What follows when it fails or takes too long.
    pub fn failure(&self) -> HookFailure {
        self.on_failure
            .unwrap_or_else(|| HookFailure::default_at(&self.point))
    }

    const fn default_priority() -> i32 {
        Self::DEFAULT_PRIORITY
    }
}
