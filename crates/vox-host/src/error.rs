//! What can go wrong in the host, in words that a user can act on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use vox_contract::{
    Bytes, Carrier, CpuTime, EffectiveLimits, LimitName, LimitValue, ManifestError, PluginId,
};

use crate::contract;
use crate::install::InstallError;
use crate::lifecycle::{State, Step};
use crate::registry::RegistryError;
use crate::requirements::MissingLibrary;
use crate::resolution::ResolutionError;
use crate::signing::SigningError;

/// Why the host cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The project's settings cannot be used.
    #[error(transparent)]
    Settings(#[from] ManifestError),
    /// The grants on disk cannot be read, or a plugin cannot be installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// No version of the plugin can be used.
    #[error(transparent)]
    Resolution(#[from] ResolutionError),
    /// Nobody serves a name, or more than one does.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The plugin is not installed.
    #[error("no plugin `{plugin}` is installed")]
    NotInstalled {
        /// What was asked for.
        plugin: PluginId,
    },
    /// The plugin has no payload that can be used.
    #[error("plugin `{plugin}` has no {} payload for this platform{}", wanted.map_or("usable", Carrier::name), instead(available, missing))]
    NoPayload {
        /// The plugin.
        plugin: PluginId,
        /// The carrier that was asked for.
        wanted: Option<Carrier>,
        /// Carriers that it has payloads for.
        available: Vec<Carrier>,
        /// Payload files that its manifest names and that are not there.
        missing: Vec<PathBuf>,
    },
    /// A native library that the plugin needs is missing.
    #[error("plugin `{plugin}` cannot be used here: {missing}")]
    Library {
        /// The plugin.
        plugin: PluginId,
        /// Which library.
        missing: MissingLibrary,
    },
    /// The payload cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No instance could be made of the payload.
    #[error("plugin `{plugin}` could not be started: {detail}")]
    Instantiate {
        /// The plugin.
        plugin: PluginId,
        /// Why.
        detail: String,
    },
    /// A limit keeps the plugin from being started.
    #[error("plugin `{plugin}` could not be started: {}; {}", exceeded, exceeded.remedy(plugin))]
    Exceeded {
        /// The plugin.
        plugin: PluginId,
        /// Which limit.
        exceeded: LimitExceeded,
    },
    /// The plugin is in a state in which nothing new is made of it.
    #[error("plugin `{plugin}` is in state `{state}`{}; {}", because(reason), way_out(*state, plugin))]
    NotServing {
        /// The plugin.
        plugin: PluginId,
        /// The state.
        state: State,
        /// What led to it.
        reason: Option<String>,
    },
    /// What was asked for is not legal in the plugin's state.
    #[error("plugin `{plugin}` is in state `{state}`, from which there is no step `{step}`")]
    IllegalStep {
        /// The plugin.
        plugin: PluginId,
        /// The state.
        state: State,
        /// What was asked for.
        step: Step,
    },
    /// The new version of a plugin did not do; the old one goes on.
    #[error("plugin `{plugin}` was not reloaded, and version {serving} goes on serving: {reason}")]
    NotReloaded {
        /// The plugin.
        plugin: PluginId,
        /// The version that serves.
        serving: semver::Version,
        /// Why the new one does not.
        reason: String,
    },
    /// The plugin is not what was signed, or nobody whom the user trusts vouches for it.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// Changes on disk cannot be watched.
    #[error(
        "changes of plugins cannot be watched: {detail}; `vox plugin reload` takes them by hand"
    )]
    Watch {
        /// Why.
        detail: String,
    },
    /// The plugin's `init` failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The WebAssembly engine does not start on this machine.
    #[error("the WebAssembly engine does not start: {detail}")]
    Engine {
        /// Why.
        detail: String,
    },
}

impl Error {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Resolution(error) => Some(error.hint()),
            Self::Registry(error) => Some(error.hint()),
            Self::Library { missing, .. } => Some(missing.hint()),
            Self::NotInstalled { plugin } => {
                Some(format!("`vox plugin install {plugin}` installs it"))
            }
            Self::NoPayload {
                plugin, available, ..
            } if available.is_empty() => Some(format!(
                "install `{plugin}` again, or a version of it for this platform"
            )),
            Self::NoPayload { available, .. } => Some(format!(
                "use the {} payload: `prefer = \"{}\"` in Vox.toml",
                available[0].name(),
                available[0].name()
            )),
            _ => None,
        }
    }
}

/// What a plugin has in place of the payload that was asked for.
fn instead(available: &[Carrier], missing: &[PathBuf]) -> String {
    let mut text = String::new();
    if !available.is_empty() {
        let names = available
            .iter()
            .map(|carrier| carrier.name())
            .collect::<Vec<_>>();
        text.push_str(&format!("; it has {}", names.join(" and ")));
    }
    for file in missing {
        text.push_str(&format!("; {} is missing", file.display()));
    }
    text
}

/// Why a payload could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Unreadable {
        /// The payload.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The manifest was replaced while the host runs.
    #[error(
        "{} has changed since it was read; `vox plugin reload` takes the new one",
        file.display()
    )]
    ManifestChanged {
        /// The manifest.
        file: PathBuf,
    },
    /// The component payload is something else.
    #[error("{} is {found}, not a component; `vox plugin build --component` makes one", file.display())]
    NotAComponent {
        /// The payload.
        file: PathBuf,
        /// What it is instead.
        found: &'static str,
    },
    /// The component is cut off or invalid.
    #[error("{} is not a valid component: {detail}; install the plugin again", file.display())]
    Malformed {
        /// The payload.
        file: PathBuf,
        /// Where and why.
        detail: String,
    },
    /// The component wants something that this host does not have.
    #[error("{} imports `{import}`, which this host does not offer; it offers the interfaces of vox:plugin@{} and of WASI 0.2", file.display(), contract::CONTRACT_VERSION)]
    UnknownImport {
        /// The payload.
        file: PathBuf,
        /// The import.
        import: String,
    },
    /// The plugin was made for another major version of the contract.
    #[error("{} exports `{found}`, but this host speaks `{wanted}`; install a version of the plugin for this host", file.display())]
    ContractVersion {
        /// The payload.
        file: PathBuf,
        /// What it exports.
        found: String,
        /// What the host calls.
        wanted: &'static str,
    },
    /// A function has another type than the contract's.
    #[error("{} does not keep to the contract: {detail}", file.display())]
    Signature {
        /// The payload.
        file: PathBuf,
        /// Which function, and how.
        detail: String,
    },
    /// The payload serves no extension point.
    #[error("{} exports no extension point; a plugin exports `lifecycle` and at least one of the interfaces of vox:plugin@{}", file.display(), contract::CONTRACT_VERSION)]
    NothingExported {
        /// The payload.
        file: PathBuf,
    },
    /// The manifest promises what the payload does not have.
    #[error("the manifest of `{plugin}` says that it provides {}, but {} does not export it", names(missing), file.display())]
    NotProvided {
        /// The plugin.
        plugin: PluginId,
        /// The payload.
        file: PathBuf,
        /// Extension points that are promised and missing.
        missing: Vec<&'static str>,
    },
    /// The file is not a shared library.
    #[error("{} is not a shared library: {detail}; install the plugin again", file.display())]
    NotALibrary {
        /// The payload.
        file: PathBuf,
        /// Why not.
        detail: String,
    },
    /// The library was built for another machine.
    #[error("{} is {found}; this host needs {wanted}", file.display())]
    OtherMachine {
        /// The payload.
        file: PathBuf,
        /// What it is built for.
        found: String,
        /// What it would have to be.
        wanted: String,
    },
    /// The system's loader refuses the library.
    #[error("{} cannot be loaded: {detail}", file.display())]
    Unloadable {
        /// The payload.
        file: PathBuf,
        /// What the loader says.
        detail: String,
    },
    /// The library is not a Vox plugin.
    #[error("{} is no Vox plugin: it has no symbol `VOX_PLUGIN`; does its type carry `#[vox_plugin::plugin(…)]`?", file.display())]
    NoEntrySymbol {
        /// The payload.
        file: PathBuf,
    },
    /// The library was built with an SDK of another ABI version.
    #[error("{} has plugin ABI version {found}, this host has version {wanted}; build the plugin with the SDK of this host", file.display())]
    AbiVersion {
        /// The payload.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The host's.
        wanted: u32,
    },
    /// The library's table is shorter than its ABI version has it.
    #[error("{} has a plugin table of {found} bytes where ABI version {} has {wanted}; build the plugin again", file.display(), vox_abi::ABI_VERSION)]
    VtableSize {
        /// The payload.
        file: PathBuf,
        /// Its size in bytes.
        found: u32,
        /// The least size in bytes.
        wanted: u32,
    },
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The plugin answered an error.
    #[error("{plugin}: {function}: {}", explain(error))]
    Refused {
        /// The plugin.
        plugin: PluginId,
        /// `interface.function`.
        function: &'static str,
        /// What it answered.
        error: contract::Error,
    },
    /// The plugin trapped or panicked. This instance is not entered again; a new one can be made.
    #[error("{plugin}: {function} crashed: {message}")]
    Crashed {
        /// The plugin.
        plugin: PluginId,
        /// `interface.function`.
        function: &'static str,
        /// The trap, or the panic with its place.
        message: String,
    },
    /// The call reached a limit and was ended. The next call gets a fresh instance.
    #[error("{plugin}: {function} was stopped: {}; {}", exceeded, exceeded.remedy(plugin))]
    Exceeded {
        /// The plugin.
        plugin: PluginId,
        /// `interface.function`.
        function: &'static str,
        /// Which limit.
        exceeded: LimitExceeded,
    },
    /// The call took longer than its caller waits. The next call gets a fresh instance.
    #[error("{plugin}: {function} was stopped: it took longer than its caller waits")]
    TimedOut {
        /// The plugin.
        plugin: PluginId,
        /// `interface.function`.
        function: &'static str,
    },
    /// The plugin failed several times in a row and rests before it is started again.
    #[error(
        "{plugin}: {function} was not called: after {failures} failures in a row the plugin is started again in {} ms at the earliest; the last one: {reason}",
        wait.as_millis()
    )]
    BackingOff {
        /// The plugin.
        plugin: PluginId,
        /// `interface.function`.
        function: &'static str,
        /// Failures without a success between them.
        failures: u32,
        /// How long it still rests.
        wait: Duration,
        /// The last failure.
        reason: String,
    },
    /// The plugin is in a state in which it takes no calls.
    #[error("{plugin}: {function} was not called: the plugin is in state `{state}`{}; {}", because(reason), way_out(*state, plugin))]
    NotServing {
        /// The plugin.
        plugin: PluginId,
        /// `interface.function`.
        function: &'static str,
        /// The state.
        state: State,
        /// What led to it.
        reason: Option<String>,
    },
    /// The crashed instance could not be replaced.
    #[error("{plugin}: {function} was not called: no new instance could be made: {reason}")]
    NotRestarted {
        /// The plugin.
        plugin: PluginId,
        /// `interface.function`.
        function: &'static str,
        /// Why.
        reason: String,
    },
    /// The run was cancelled while the plugin was computing.
    #[error("{plugin}: {function} was cancelled")]
    Cancelled {
        /// The plugin.
        plugin: PluginId,
        /// `interface.function`.
        function: &'static str,
    },
    /// The plugin has no such export.
    #[error("{plugin} does not export `{function}`")]
    NotExported {
        /// The plugin.
        plugin: PluginId,
        /// `interface` or `interface.function`.
        function: &'static str,
    },
    /// Host and plugin disagree about the contract.
    #[error(
        "{plugin}: {function}: host and plugin disagree about the contract: {detail}; build the plugin with the SDK of this host"
    )]
    Protocol {
        /// The plugin.
        plugin: PluginId,
        /// `interface.function`.
        function: &'static str,
        /// How.
        detail: String,
    },
}

impl CallError {
    /// The error that the plugin answered, if that is what happened.
    pub fn refusal(&self) -> Option<&contract::Error> {
        match self {
            Self::Refused { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A limit that a call ran into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the limit `{name}` of {value} was reached")]
pub struct LimitExceeded {
    /// The limit's name.
    name: &'static str,
    value: LimitValue,
    limit: Option<LimitName>,
}

impl LimitExceeded {
    /// A plugin's own limit.
    pub(crate) fn new(limit: LimitName, limits: &EffectiveLimits) -> Self {
        Self {
            name: limit.name(),
            value: limits.get(limit),
            limit: Some(limit),
        }
    }

    /// The memory that all plugins share.
    pub(crate) fn budget(value: u64) -> Self {
        Self {
            name: "host.memory",
            value: LimitValue::Bytes(Bytes(value)),
            limit: None,
        }
    }

    /// The limit; none for the memory that all plugins share.
    pub fn limit(&self) -> Option<LimitName> {
        self.limit
    }

    /// Whether code ran into it, not whoever wanted one more instance or the last of the memory
    /// that is shared.
    pub(crate) fn is_of_code(&self) -> bool {
        !matches!(
            self.limit,
            None | Some(LimitName::Instances | LimitName::Dependencies)
        )
    }

    /// The limit's name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Its value.
    pub(crate) fn value(&self) -> LimitValue {
        self.value
    }

    /// Where it can be raised.
    pub fn remedy(&self, plugin: &PluginId) -> String {
        match self.limit {
            Some(limit) => limit.remedy(plugin),
            None => {
                "raise it with `memory` under `[host]` in Vox.toml, or run fewer plugins at once"
                    .to_owned()
            }
        }
    }
}

/// A limit's value as the contract has it: bytes, nanoseconds, or a number.
pub(crate) fn plain(value: LimitValue) -> u64 {
    match value {
        LimitValue::Bytes(bytes) => bytes.get(),
        LimitValue::Cpu(CpuTime::Limited(time)) => {
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
        }
        LimitValue::Cpu(CpuTime::Unlimited) => u64::MAX,
        LimitValue::Count(count) => count.into(),
    }
}

fn because(reason: &Option<String>) -> String {
    reason
        .as_ref()
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default()
}

/// What leads out of a state in which no calls are taken.
fn way_out(state: State, plugin: &PluginId) -> String {
    match state {
        State::Error => format!("`vox plugin reload {plugin}` tries it again"),
        State::Paused => format!("`vox plugin resume {plugin}` lets it go on"),
        State::Draining | State::Unloaded => "it is being unloaded".to_owned(),
        State::Loading | State::Active | State::Reloading => "try again".to_owned(),
    }
}

/// The longest text of a plugin that stands in a message, in bytes.
const LONGEST_TEXT: usize = 4096;

/// A plugin's words, fit to be shown: of bounded length, and without characters that do something
/// to a terminal.
pub(crate) fn readable(text: &str) -> String {
    let mut readable = String::new();
    for character in text.chars() {
        if readable.len() >= LONGEST_TEXT {
            readable.push('…');
            break;
        }
        match character {
            '\n' | '\t' => readable.push(character),
            _ if character.is_control() => readable.extend(character.escape_default()),
            _ => readable.push(character),
        }
    }
    readable
}

/// An error of the contract in words that can be shown.
pub(crate) fn explain(error: &contract::Error) -> String {
    readable(&plainly(error))
}

fn plainly(error: &contract::Error) -> String {
    match error {
        contract::Error::Invalid(text) => format!("invalid: {text}"),
        contract::Error::NotFound(text) => format!("not found: {text}"),
        contract::Error::Exceeded(exceeded) => format!(
            "the limit `{}` of {} was reached; {}",
            exceeded.limit, exceeded.value, exceeded.remedy
        ),
        contract::Error::TimedOut(text) => format!("timed out: {text}"),
        contract::Error::Cancelled => "cancelled".to_owned(),
        contract::Error::Unavailable(text) => format!("unavailable: {text}"),
        contract::Error::Denied(text) | contract::Error::Failed(text) => text.clone(),
    }
}

/// Names in a sentence.
fn names(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
