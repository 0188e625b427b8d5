//! What follows for a plugin from its signature and from what the user trusts.
//!
//! | plugin | standing |
//! |---|---|
//! | beside the executable | [`Bundled`](Standing::Bundled): trusted as the executable is |
//! | signed by a trusted key | [`Trusted`](Standing::Trusted) |
//! | allowed by name in its root | [`AllowedByName`](Standing::AllowedByName) |
//! | signed by the key it was first installed with | [`Pinned`](Standing::Pinned) |
//! | signed by any other key, never installed | [`Unknown`](Standing::Unknown) |
//! | not signed, never installed signed | [`Unsigned`](Standing::Unsigned) |
//!
//! The first three run as either carrier with all that they are granted. The others run as a
//! component with low-risk capabilities only. Everything else is a [`Refusal`]; a pin comes before
//! trust and allowances, so that nothing replaces a signed plugin but what its signer signed.

use std::fs;
use std::path::{Path, PathBuf};

use semver::Version;
use vox_contract::{Capability, Carrier, PluginId};
use vox_crypto::{KeyId, PublicKey};

use super::{SignedFiles, SigningError, Time, TrustStore, directory};
use crate::directories::{Directories, RootKind};
use crate::inventory::Installed;

/// What is asked about: a plugin, where it lies, and what its signature says.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Its id.
    pub plugin: &'a PluginId,
    /// Its version.
    pub version: &'a Version,
    /// The kind of root that it is found in.
    pub root: RootKind,
    /// The directory of that root, absolute, links resolved.
    pub place: PathBuf,
    /// Whether its native code is to run.
    pub native: bool,
    /// Its signature, if it has one.
    pub signature: Option<&'a SignedFiles>,
}

impl<'a> Facts<'a> {
    /// The facts about a plugin that was found in one of the roots of `directories`.
    pub fn of(
        plugin: &'a Installed,
        directories: &Directories,
        native: bool,
        signature: Option<&'a SignedFiles>,
    ) -> Self {
        // Roots may lie in each other; the innermost of its kind is where it was found.
        let roots = directories
            .roots
            .iter()
            .filter(|root| root.kind == plugin.root && plugin.directory.starts_with(&root.path));
        let root = roots.max_by_key(|root| root.path.components().count());
        let place = root.map_or(plugin.directory.as_path(), |root| &root.path);
        Self {
            plugin: plugin.id(),
            version: plugin.version(),
            root: plugin.root,
            place: resolved(place),
            native,
            signature,
        }
    }
}

/// A root as allowances name it: absolute, links resolved where they can be.
pub fn resolved(root: &Path) -> PathBuf {
    let absolute = || std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
    fs::canonicalize(root).unwrap_or_else(|_| absolute())
}

/// How far a plugin is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It came with the executable and is trusted as that is.
    Bundled,
    /// Signed by a key that the user trusts.
    Trusted {
        /// The key.
        key: PublicKey,
        /// Whose it is, in the user's words.
        name: String,
    },
    /// Allowed by name in the root where it is found.
    AllowedByName,
    /// Signed by the key that it was first installed with, which is not trusted.
    Pinned {
        /// The key.
        key: PublicKey,
    },
    /// Signed by a key of which nothing is known.
    Unknown {
        /// The key.
        key: PublicKey,
    },
    /// Not signed.
    Unsigned,
}

impl Standing {
    /// Whether it may run native code, and have any capability that it is granted.
    pub fn is_trusted(&self) -> bool {
        matches!(
            self,
            Self::Bundled | Self::Trusted { .. } | Self::AllowedByName
        )
    }

    /// Whether it may have this capability, if it is granted.
    pub fn may_have(&self, capability: Capability) -> bool {
        self.is_trusted() || capability.is_low_risk()
    }

    /// The word for it in output for programs: `bundled`, `trusted`, `allowed-by-name`, `pinned`,
    /// `unknown-key`, `unsigned`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bundled => "bundled",
            Self::Trusted { .. } => "trusted",
            Self::AllowedByName => "allowed-by-name",
            Self::Pinned { .. } => "pinned",
            Self::Unknown { .. } => "unknown-key",
            Self::Unsigned => "unsigned",
        }
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bundled => f.write_str("came with vox and is trusted as vox is"),
            Self::Trusted { key, name } => {
                write!(
                    f,
                    "signed by {} (key {}), who is trusted",
                    name.escape_debug(),
                    key.id()
                )
            }
            Self::AllowedByName => f.write_str("allowed by name"),
            Self::Pinned { key } => {
                write!(
                    f,
                    "signed by key {}, as when it was first installed; the key is not trusted",
                    key.id()
                )
            }
            Self::Unknown { key } => write!(f, "signed by key {}, which is not trusted", key.id()),
            Self::Unsigned => f.write_str("not signed"),
        }
    }
}

/// Why a plugin is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The signature was made for another plugin or version.
    #[error(
        "{plugin} {version} is refused: its signature was made for {signed}; get the plugin again \
         from where it comes from"
    )]
    SignedAsOther {
        /// The plugin.
        plugin: PluginId,
        /// Its version.
        version: Version,
        /// What was signed, with its version.
        signed: String,
    },
    /// The signature does not hold any more.
    #[error(
        "{plugin} {version} is refused: its signature expired on {expired}; get a version that was \
         signed again"
    )]
    SignatureExpired {
        /// The plugin.
        plugin: PluginId,
        /// Its version.
        version: Version,
        /// When it expired.
        expired: Time,
    },
    /// The key is trusted no longer.
    #[error(
        "{plugin} is refused: the key {key} of {} that signed it expired on {expired}; if you trust \
         it still: `vox plugin trust add {key_text} --expires <time>`", name.escape_debug(),
        key_text = public
    )]
    KeyExpired {
        /// The plugin.
        plugin: PluginId,
        /// The key's short form.
        key: KeyId,
        /// The key.
        public: Box<PublicKey>,
        /// Whose it is.
        name: String,
        /// When it expired.
        expired: Time,
    },
    /// Another key signed earlier versions.
    #[error(
        "{plugin} is refused: it is signed by key {found}, and it was first installed with key \
         {pinned}; if its author says that the key has changed: `vox plugin trust unpin {plugin}`"
    )]
    OtherKey {
        /// The plugin.
        plugin: PluginId,
        /// The key that it is bound to.
        pinned: KeyId,
        /// The key that signed.
        found: KeyId,
    },
    /// Earlier versions were signed, and this one is not.
    #[error(
        "{plugin} is refused: it is not signed, and it was first installed with the signature of \
         key {pinned}; if you want it unsigned: `vox plugin trust unpin {plugin}`"
    )]
    SignatureMissing {
        /// The plugin.
        plugin: PluginId,
        /// The key that it is bound to.
        pinned: KeyId,
    },
    /// Native code that nobody whom the user trusts signed.
    #[error(
        "the native code of {plugin} is refused: it is {}; trust the key that signs it with `vox \
         plugin trust add`, or allow the plugin as it is found in {}: `vox plugin trust allow \
         {plugin}`", signer(*key), root.display()
    )]
    NativeNotTrusted {
        /// The plugin.
        plugin: PluginId,
        /// The key that signed it, if one did.
        key: Option<KeyId>,
        /// The root that it is found in.
        root: PathBuf,
    },
    /// A lower version than one that was installed already.
    #[error(
        "{plugin} {version} is refused: {highest} was installed before, and an older version may \
         have faults that are mended since; if you want it: `--allow-downgrade`"
    )]
    Downgrade {
        /// The plugin.
        plugin: PluginId,
        /// Its version.
        version: Version,
        /// The highest version that was installed.
        highest: Version,
    },
}

fn signer(key: Option<KeyId>) -> String {
    key.map_or("not signed".to_owned(), |key| {
        format!("signed by key {key}, which is not trusted")
    })
}

impl TrustStore {
    /// How far a plugin is trusted at the time `now`. That its files are those that were signed is
    /// for [`verify`](super::verify) to say.
    ///
    /// # Errors
    /// [`Refusal`] when it is not to be used at all, or not as native code when that is asked.
    pub fn judge(&self, facts: &Facts<'_>, now: Time) -> Result<Standing, Refusal> {
        let plugin = facts.plugin.clone();
        if let Some(signature) = facts.signature {
            check_subject(facts, signature)?;
        }
        if facts.root == RootKind::Bundled {
            return Ok(Standing::Bundled);
        }
        if let Some(signature) = facts.signature {
            check_expiry(facts, signature, now)?;
        }
        let key = facts.signature.map(SignedFiles::key);
        let pin = self.pinned(facts.plugin);
        match (pin.map(|pin| pin.key), key) {
            (Some(pinned), Some(found)) if pinned != found => {
                let (pinned, found) = (pinned.id(), found.id());
                return Err(Refusal::OtherKey {
                    plugin,
                    pinned,
                    found,
                });
            }
            (Some(pinned), None) => {
                let pinned = pinned.id();
                return Err(Refusal::SignatureMissing { plugin, pinned });
            }
            _ => {}
        }
        if let Some(key) = key
            && let Some(trusted) = self.key(&key)
        {
            let name = trusted.name.clone();
            return match trusted.expires {
                Some(expired) if expired <= now => Err(Refusal::KeyExpired {
                    plugin,
                    key: key.id(),
                    public: Box::new(key),
                    name,
                    expired,
                }),
                _ => Ok(Standing::Trusted { key, name }),
            };
        }
        if self.allows(facts.plugin, &facts.place) {
            return Ok(Standing::AllowedByName);
        }
        if facts.native {
            return Err(Refusal::NativeNotTrusted {
                plugin,
                key: key.map(|key| key.id()),
                root: facts.place.clone(),
            });
        }
        Ok(match key {
            Some(key) if pin.is_some() => Standing::Pinned { key },
            Some(key) => Standing::Unknown { key },
            None => Standing::Unsigned,
        })
    }

    /// Whether a version may be installed over those that were installed before. Unsigned plugins
    /// have no history that could be relied on.
    ///
    /// # Errors
    /// [`Refusal::Downgrade`] when a higher version was installed from the plugin's key.
    pub fn check_downgrade(&self, plugin: &PluginId, version: &Version) -> Result<(), Refusal> {
        match self.pinned(plugin) {
            Some(pin) if version.cmp_precedence(&pin.highest).is_lt() => Err(Refusal::Downgrade {
                plugin: plugin.clone(),
                version: version.clone(),
                highest: pin.highest.clone(),
            }),
            _ => Ok(()),
        }
    }
}

fn check_subject(facts: &Facts<'_>, signature: &SignedFiles) -> Result<(), Refusal> {
    if signature.plugin() == facts.plugin && signature.version() == facts.version {
        return Ok(());
    }
    Err(Refusal::SignedAsOther {
        plugin: facts.plugin.clone(),
        version: facts.version.clone(),
        signed: format!("{} {}", signature.plugin(), signature.version()),
    })
}

fn check_expiry(facts: &Facts<'_>, signature: &SignedFiles, now: Time) -> Result<(), Refusal> {
    match signature.expires() {
        Some(expired) if expired <= now => Err(Refusal::SignatureExpired {
            plugin: facts.plugin.clone(),
            version: facts.version.clone(),
            expired,
        }),
        _ => Ok(()),
    }
}

/// A plugin that may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admission {
    /// How far it is trusted.
    pub standing: Standing,
    /// What its files are to be, if it is signed; whoever loads one of them asks
    /// [`SignedFiles::check`] with the bytes that it loads.
    pub signed: Option<SignedFiles>,
}

/// Decides whether the code of a plugin may be loaded by a carrier: verifies its files when it has
/// a signature, and judges it.
///
/// # Errors
/// The signature is broken, the files are not those that were signed, or [`Refusal`].
pub fn admit(
    trust: &TrustStore,
    directories: &Directories,
    plugin: &Installed,
    carrier: Carrier,
    now: Time,
) -> Result<Admission, SigningError> {
    let signed = directory::verify_if_signed(&plugin.directory)?;
    let native = carrier == Carrier::Native;
    let facts = Facts::of(plugin, directories, native, signed.as_ref());
    let standing = trust.judge(&facts, now)?;
    Ok(Admission { standing, signed })
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
