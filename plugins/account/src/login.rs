//! The login: from the name of a server to tokens.

use std::time::Duration;

use vox_plugin::Result;

use crate::Surroundings;
use crate::callback::{Callback, Expected};
use crate::client::Client;
use crate::credentials::Profile;
use crate::provider::Provider;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The server.
    pub issuer: String,
    /// The name under which it knows this program.
    pub client_id: String,
    /// What the token shall allow.
    pub scopes: Vec<String>,
    /// Whether a browser is opened.
    pub browser: bool,
    /// The port that it comes back to.
    pub port: u16,
    /// How long that may take.
    pub timeout: Duration,
}

/// Signs in.
///
/// # Errors
///
/// See [`Provider::discover`], [`Callback::wait`] and [`Provider::exchange`].
pub fn login(
    request: &Request,
    client: &Client,
    surroundings: &dyn Surroundings,
) -> Result<Profile> {
    let provider = Provider::discover(client, &request.issuer)?;
    let callback = Callback::bind(request.port)?;
    let redirect = callback.address();
    let consent = provider.consent(&request.client_id, &request.scopes, &redirect)?;
    surroundings.tell(&format!("Sign in at\n\n  {}\n", consent.address))?;
    if request.browser && !surroundings.open(consent.address.as_str()) {
        surroundings.tell("No browser could be opened; open the address yourself.")?;
    }
    let expected = Expected {
        state: consent.state.secret(),
        issuer: &provider.issuer,
        names_issuer: provider.authorization_response_iss_parameter_supported,
    };
    let code = callback.wait(&expected, request.timeout, || surroundings.should_cancel())?;
    let (tokens, scopes) = provider.exchange(
        client,
        &request.client_id,
        code,
        consent.verifier,
        &redirect,
    )?;
    Ok(Profile {
        issuer: provider.issuer,
        client_id: request.client_id.clone(),
        token_endpoint: provider.token_endpoint,
        revocation_endpoint: provider.revocation_endpoint,
        // A server that does not say what it granted has granted what was asked for.
        scopes: scopes.unwrap_or_else(|| request.scopes.clone()),
        tokens: Some(tokens),
    })
}
