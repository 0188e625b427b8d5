//! What Vox's files say: `Plugin.toml`, `Vox.toml`, `grants.toml`, `catalog.toml`, `SKILL.md`.
//!
//! This crate owns the vocabulary that those files share (ids, versions, platforms, extension
//! points, capabilities, limits), reads them, and checks all that can be checked without looking
//! at anything else. It opens a file only in the `load` functions and never executes or loads
//! anything.
//!
//! What must stay true: a file is either read whole or refused with every problem that it has,
//! each with line, column and what to write instead ([`ManifestError`]); a key that is not known is
//! refused, never ignored; and the JSON Schemas list exactly the keys that are read.

mod capability;
mod catalog;
pub mod document;
mod error;
mod grants;
mod limits;
mod manifest;
mod modality;
mod names;
mod nearest;
mod need;
mod platform;
mod points;
mod quantities;
pub mod schema;
mod scope;
mod settings;
mod skill;
mod spdx;

pub use capability::{Capability, CapabilityRequest};
pub use catalog::{Catalog, CatalogPlugin, Distribution};
pub use error::{Finding, Invalid, ManifestError, Problem};
pub use grants::{Grant, Grants, GrantsFile, Scope};
pub use limits::{AboveCeiling, EffectiveLimits, LimitName, LimitSource, LimitValue, Limits};
pub use manifest::{
    CommandEntry, HookEntry, LibraryVersion, MANIFEST_FILE, Manifest, Payloads, Provides,
    RequiredLibrary, Requires, RunnerPorts, StageEntry,
};
pub use modality::{Modality, ModalityError};
pub use names::{
    DistributionName, MAX_NAME_BYTES, NameError, PluginId, RunnerName, ServiceName, SkillName, Verb,
};
pub use nearest::nearest;
pub use need::Need;
pub use platform::{Carrier, PayloadKind, Platform};
pub use points::{ExtensionPoint, HookFailure, HookPoint, UnknownWord};
pub use quantities::{Bytes, CpuTime, QuantityError, WallTime};
pub use scope::{Anchor, Host, HostScope, PathScope, ScopeError, check_entry};
pub use settings::{HostSettings, PluginSettings, SETTINGS_FILE, Settings};
pub use skill::{MAX_DESCRIPTION_CHARS, Skill};
