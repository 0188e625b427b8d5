//! An authorization server: what it says of itself, and the tokens that it gives.

use std::time::{SystemTime, UNIX_EPOCH};

use oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse};
use oauth2::url::{Url, form_urlencoded};
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, CsrfToken, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RefreshToken, RequestTokenError, Scope, TokenResponse, TokenUrl,
};
use serde::Deserialize;
use vox_plugin::{Error, Result, failed, serde_json};

use crate::client::{Client, address, unreachable};
use crate::credentials::{Profile, Secret, Tokens};

/// What a server says of itself (RFC 8414).
#[derive(Debug, Deserialize)]
pub struct Provider {
    /// Its name, which is an address.
    pub issuer: String,
    authorization_endpoint: String,
    /// Where tokens are had.
    pub token_endpoint: String,
    /// Where they are given back.
    pub revocation_endpoint: Option<String>,
    code_challenge_methods_supported: Option<Vec<String>>,
    /// Whether it says who it is when the browser comes back (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

/// A request for the user's consent.
pub struct Consent {
    /// The address that asks the user.
    pub address: Url,
    /// What the answer must carry.
    pub state: CsrfToken,
    /// What proves that the one who asked is the one who takes the code.
    pub verifier: PkceCodeVerifier,
}

impl Provider {
    /// Asks the server of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when it does not answer, [`Error::Invalid`] when what it answers does not
    /// fit.
    pub fn discover(client: &Client, issuer: &str) -> Result<Self> {
        let base = address("issuer", issuer)?;
        let path = base.path().trim_end_matches('/').to_owned();
        // RFC 8414 puts the path behind the well-known part, OpenID Connect Discovery before it.
        let places = [
            format!("/.well-known/oauth-authorization-server{path}"),
            format!("{path}/.well-known/openid-configuration"),
        ];
        for place in &places {
            let mut at = base.clone();
            at.set_path(place);
            let Some(bytes) = client.get(&at)? else {
                continue;
            };
            let provider: Self = serde_json::from_slice(&bytes).map_err(|error| {
                Error::Invalid(format!(
                    "{at} does not describe an authorization server: {error}"
                ))
            })?;
            provider.check(issuer)?;
            return Ok(provider);
        }
        Err(Error::NotFound(format!(
            "{issuer} is no authorization server that says what it offers: there is neither {} nor {} \
             there",
            places[0], places[1]
        )))
    }

    fn check(&self, issuer: &str) -> Result<()> {
        if self.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
            return Err(Error::Invalid(format!(
                "the server at {issuer} says that it is `{}`; give that as the issuer if you trust it",
                self.issuer.escape_debug()
            )));
        }
        address("authorization endpoint", &self.authorization_endpoint)?;
        address("token endpoint", &self.token_endpoint)?;
        if let Some(endpoint) = &self.revocation_endpoint {
            address("revocation endpoint", endpoint)?;
        }
        match &self.code_challenge_methods_supported {
            Some(methods) if !methods.iter().any(|method| method == "S256") => {
                Err(Error::Unavailable(format!(
                    "{issuer} does not offer PKCE with S256, without which a login is not safe"
                )))
            }
            _ => Ok(()),
        }
    }

    /// A request for the user's consent, who then comes back to `redirect`.
    ///
    /// # Errors
    ///
    /// None that [`Provider::discover`] has not found before.
    pub fn consent(&self, client_id: &str, scopes: &[String], redirect: &str) -> Result<Consent> {
        let client = BasicClient::new(ClientId::new(client_id.to_owned()))
            .set_auth_uri(AuthUrl::new(self.authorization_endpoint.clone()).map_err(failed)?)
            .set_redirect_uri(RedirectUrl::new(redirect.to_owned()).map_err(failed)?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (address, state) = client
            .authorize_url(CsrfToken::new_random)
            .add_scopes(scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(challenge)
            .url();
        Ok(Consent {
            address,
            state,
            verifier,
        })
    }

    /// Takes the tokens for a code.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when the server refuses.
    pub fn exchange(
        &self,
        client: &Client,
        client_id: &str,
        code: String,
        verifier: PkceCodeVerifier,
        redirect: &str,
    ) -> Result<(Tokens, Option<Vec<String>>)> {
        let endpoint = TokenUrl::new(self.token_endpoint.clone()).map_err(failed)?;
        let answer = BasicClient::new(ClientId::new(client_id.to_owned()))
            .set_redirect_uri(RedirectUrl::new(redirect.to_owned()).map_err(failed)?)
            .set_token_uri(endpoint.clone())
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(verifier)
            .request(client)
            .map_err(|error| refused("the login", &endpoint, error))?;
        let scopes = answer
            .scopes()
            .map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect());
        Ok((tokens(&answer), scopes))
    }
}

impl Profile {
    /// Gets new tokens for the refresh token, and keeps them.
    ///
    /// # Errors
    ///
    /// [`Error::Denied`] when the server refuses or there is no refresh token.
    pub fn refresh(&mut self, client: &Client) -> Result<()> {
        let refresh = self
            .tokens
            .as_ref()
            .and_then(|tokens| tokens.refresh.clone());
        let Some(refresh) = refresh else {
            return Err(Error::Denied(
                "there is no refresh token to get a new access token for; sign in again with `vox \
                 account login`"
                    .to_owned(),
            ));
        };
        address("token endpoint", &self.token_endpoint)?;
        let endpoint = TokenUrl::new(self.token_endpoint.clone()).map_err(failed)?;
        let answer = BasicClient::new(ClientId::new(self.client_id.clone()))
            .set_token_uri(endpoint.clone())
            .exchange_refresh_token(&RefreshToken::new(refresh.0.clone()))
            .request(client)
            .map_err(|error| refused("the refresh", &endpoint, error))?;
        let mut tokens = tokens(&answer);
        // A server that gives no new one lets the old one be used again.
        tokens.refresh = tokens.refresh.or(Some(refresh));
        self.tokens = Some(tokens);
        Ok(())
    }

    /// Gives the tokens back (RFC 7009); false when the server has no place for that or refuses.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when it does not answer.
    pub fn revoke(&self, client: &Client) -> Result<bool> {
        let (Some(endpoint), Some(tokens)) = (&self.revocation_endpoint, &self.tokens) else {
            return Ok(false);
        };
        let endpoint = address("revocation endpoint", endpoint)?;
        let (token, hint) = match &tokens.refresh {
            Some(refresh) => (refresh, "refresh_token"),
            None => (&tokens.access, "access_token"),
        };
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", &token.0)
            .append_pair("token_type_hint", hint)
            .append_pair("client_id", &self.client_id)
            .finish();
        Ok(client.post(&endpoint, form)? == 200)
    }
}

/// Seconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn tokens(answer: &BasicTokenResponse) -> Tokens {
    Tokens {
        access: Secret(answer.access_token().secret().clone()),
        refresh: answer
            .refresh_token()
            .map(|token| Secret(token.secret().clone())),
        expires: answer
            .expires_in()
            .map(|period| now().saturating_add(period.as_secs())),
    }
}

/// Why there are no tokens. Nothing of what the server answered is shown but the error that it names,
/// since tokens may stand in the rest.
fn refused(
    what: &str,
    endpoint: &TokenUrl,
    error: RequestTokenError<ureq::Error, BasicErrorResponse>,
) -> Error {
    match error {
        RequestTokenError::ServerResponse(response) => {
            let why = response
                .error_description()
                .map(|text| format!(" ({})", text.escape_debug()))
                .unwrap_or_default();
            Error::Denied(format!(
                "the server has refused {what}: {}{why}; sign in again with `vox account login`",
                response.error().as_ref().escape_debug()
            ))
        }
        RequestTokenError::Request(error) => unreachable(endpoint.url(), &error),
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => Error::Unavailable(format!(
            "{} does not answer {what} as an authorization server does",
            endpoint.url()
        )),
    }
}
