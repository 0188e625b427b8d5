//! What the contract wants to hear of a server: devices, verdicts, and the settings that say where it
//! is.

use std::path::PathBuf;
use std::time::Duration;

use vox_plugin::compute::{Device, DeviceKind};
use vox_plugin::host::log::{self, Level};
use vox_plugin::inference_backend::{Model, Options, Verdict};
use vox_plugin::{Error, Result};

use crate::address::Address;
use crate::secret::Secret;
use crate::server::Server;
use crate::transport::Transport;

/// Seconds without a byte, unless they are set: a long prompt on a processor takes minutes.
const DEFAULT_TIMEOUT: u64 = 300;
/// The most that they may be set to: a day.
const LONGEST_TIMEOUT: u64 = 24 * 60 * 60;

/// The settings that say where a server is, and what it takes to ask it.
#[derive(Debug, Default)]
pub struct Access {
    /// Its URL.
    pub url: String,
    /// What follows the host where the URL names no path.
    pub base: &'static str,
    /// The file with its key.
    pub key_file: Option<PathBuf>,
    /// The environment variable with its key.
    pub key_env: Option<String>,
    /// The longest time without a byte, in seconds.
    pub timeout: Option<u64>,
}

impl Access {
    /// The server, for a plugin.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with the setting that makes no sense.
    pub fn open(self, plugin: &str) -> Result<Server> {
        let mut address = Address::parse(&self.url)?;
        if address.base.is_empty() {
            self.base.clone_into(&mut address.base);
        }
        let key = Secret::read(self.key_file.as_deref(), self.key_env.as_deref())?;
        if key.is_some() && !address.is_private() {
            let text =
                format!("the key for {address} goes over the network unencrypted; use `https`");
            log::write(Level::Warn, &text, &[]);
        }
        let timeout = self.timeout.unwrap_or(DEFAULT_TIMEOUT);
        if !(1..=LONGEST_TIMEOUT).contains(&timeout) {
            return Err(Error::Invalid(format!(
                "`timeout` is a number of seconds from 1 to {LONGEST_TIMEOUT}"
            )));
        }
        let transport = Transport::new(address.clone(), plugin);
        Ok(Server::new(
            address,
            transport,
            key,
            Duration::from_secs(timeout),
        ))
    }
}

/// The tier that the configuration gives a server.
///
/// # Errors
///
/// [`Error::Invalid`] where it is none.
pub fn tier(written: Option<u8>) -> Result<Option<u8>> {
    if written.is_some_and(|tier| !(1..=100).contains(&tier)) {
        return Err(Error::Invalid(
            "`tier` is a number from 1 to 100, on the scale of `vox probe`".to_owned(),
        ));
    }
    Ok(written)
}

/// A server as a device: its address, and nothing known of its memory.
pub fn device(address: &Address, name: &str) -> Device {
    Device {
        id: address.to_string(),
        kind: DeviceKind::Remote,
        name: name.to_owned(),
        memory: 0,
        available: 0,
    }
}

/// The verdict that a model is served by a server.
pub fn serves(device: Device, reason: String) -> Verdict {
    Verdict {
        serves: true,
        reason,
        device: Some(device),
        memory: 0,
    }
}

/// The verdict that a model is not served.
pub fn refuses(reason: String) -> Verdict {
    Verdict {
        serves: false,
        reason,
        device: None,
        memory: 0,
    }
}

/// Refuses another device than the server's, and adapters: a server has the model that it has.
///
/// # Errors
///
/// Why the server cannot do what is asked for, for people.
pub fn check(model: &Model, options: &Options, device: &Device) -> Result<(), String> {
    if let Some(wanted) = &options.device
        && wanted.trim_end_matches('/') != device.id
    {
        return Err(format!("its only device is {}", device.id));
    }
    match &model.adapter {
        Some(_) => Err(NO_ADAPTERS.to_owned()),
        None => Ok(()),
    }
}

/// Why an adapter is refused.
pub const NO_ADAPTERS: &str = "it takes no adapters; `vox model merge` makes a model of one";

/// What an error says, for a verdict.
pub fn reason(error: Error) -> String {
    match error {
        Error::Denied(text)
        | Error::Invalid(text)
        | Error::NotFound(text)
        | Error::TimedOut(text)
        | Error::Unavailable(text)
        | Error::Failed(text) => text,
        Error::Exceeded(exceeded) => format!("the limit `{}` is reached", exceeded.limit),
        Error::Cancelled => "the run was cancelled".to_owned(),
    }
}

/// The error of a call that needs a loaded model.
pub fn not_loaded() -> Error {
    Error::Unavailable("no model is loaded; call `load` first".to_owned())
}

/// The error of a second `load`.
pub fn is_loaded() -> Error {
    Error::Invalid("a model is loaded already; call `unload` first".to_owned())
}

/// The error of `forward-layers`.
pub fn whole_models_only() -> Error {
    Error::Invalid(
        "a server computes whole models; a range of layers cannot be asked of it".to_owned(),
    )
}

/// Some of these names, for a message about one that is not among them.
pub fn some_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => "it has none".to_owned(),
        count if count > SHOWN => {
            format!(
                "it has `{}` and {} more",
                names[..SHOWN].join("`, `"),
                count - SHOWN
            )
        }
        _ => format!("it has `{}`", names.join("`, `")),
    }
}
