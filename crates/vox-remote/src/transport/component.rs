//! The network as the host grants it to a component.

use vox_plugin::http::{self, Failure, Response};

use super::{Answer, Body, Fault, Request};
use crate::address::Address;

/// The way to a server.
#[derive(Debug, Clone)]
pub struct Transport {
    address: Address,
    plugin: String,
}

impl Transport {
    /// The way to the server at an address, for a plugin.
    pub fn new(address: Address, plugin: &str) -> Self {
        Self {
            address,
            plugin: plugin.to_owned(),
        }
    }

    /// Sends a request; answers once the headers of its answer are there.
    ///
    /// # Errors
    ///
    /// See [`Fault`]. A status that tells of an error is an answer.
    pub fn send(&self, request: &Request) -> Result<Answer, Fault> {
        let method = if request.body.is_some() {
            "POST"
        } else {
            "GET"
        };
        let mut outgoing = http::Request::new(
            method,
            self.address.encrypted,
            &self.address.authority,
            format!("{}{}", self.address.base, request.path),
        );
        let headers = request.headers.iter();
        outgoing.headers = headers
            .map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes()))
            .collect();
        let agent = format!("vox-{}/{}", self.plugin, env!("CARGO_PKG_VERSION"));
        outgoing
            .headers
            .push(("user-agent".to_owned(), agent.into_bytes()));
        outgoing.body.clone_from(&request.body);
        outgoing.timeout = Some(request.silence);
        let response =
            http::send(&outgoing).map_err(|failure| self.fault(failure, request.silence))?;
        let kind = response
            .headers
            .iter()
            .find(|(name, _)| name == "content-type");
        let kind = kind.map_or_else(Vec::new, |(_, value)| value.clone());
        Ok(Answer::new(
            response.status,
            &kind,
            Box::new(Reading(response)),
        ))
    }

    fn fault(&self, failure: Failure, silence: std::time::Duration) -> Fault {
        let scope = self.address.scope();
        let plugin = &self.plugin;
        match failure {
            Failure::Denied => Fault::Denied(format!(
                "`network={scope}` is not granted; grant it with `vox plugin grant {plugin} \
                 network={scope}`, or where it is, trust the plugin with `vox plugin trust allow {plugin}`"
            )),
            Failure::AddressDenied => Fault::Denied(format!(
                "`{scope}` is granted by name, and stands for an address of this machine or its \
                 network; grant that address too, with `vox plugin grant {plugin} network=<address>`"
            )),
            Failure::TimedOut => Fault::Silent(silence),
            other => Fault::Broken(other.to_string()),
        }
    }
}

struct Reading(Response);

impl Body for Reading {
    fn read(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        self.0
            .read()
            .map_err(|failure| Fault::Broken(failure.to_string()))
    }
}
