//! An authorization server: metadata, consent, tokens, and giving them back.

use std::collections::{HashMap, HashSet};
use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use oauth2::url::{Url, form_urlencoded};
use oauth2::{PkceCodeChallenge, PkceCodeVerifier};
use serde_json::{Value, json};
use tiny_http::{Header, Request, Response};
use ureq::Agent;

type Answer = Response<Cursor<Vec<u8>>>;
type Parameters = HashMap<String, String>;

/// How a server behaves.
#[derive(Clone)]
pub struct Policy {
    pub denies: bool,
    pub expires_in: u64,
    pub expires_in_when_refreshed: u64,
    pub refuses_refresh: bool,
    pub openid_only: bool,
    pub claims_issuer: Option<&'static str>,
    pub answers_as: Option<&'static str>,
    pub token_endpoint: Option<&'static str>,
    pub methods: &'static [&'static str],
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            denies: false,
            expires_in: 3600,
            expires_in_when_refreshed: 5,
            refuses_refresh: false,
            openid_only: false,
            claims_issuer: None,
            answers_as: None,
            token_endpoint: None,
            methods: &["S256"],
        }
    }
}

/// What a server has seen.
#[derive(Clone, Default)]
pub struct Seen {
    pub challenges: usize,
    pub refreshes: usize,
    pub revoked: Vec<String>,
}

#[derive(Default)]
struct State {
    seen: Seen,
    /// What was agreed to, by code.
    codes: HashMap<String, Parameters>,
    /// Refresh tokens, each good for one use.
    refreshable: HashSet<String>,
    codes_made: usize,
    tokens_made: usize,
}

/// A running server; it ends with its value.
pub struct Server {
    server: Arc<tiny_http::Server>,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(policy: Policy) -> Self {
        let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
        let address = server.server_addr().to_ip().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let thread = thread::spawn({
            let (server, state) = (Arc::clone(&server), Arc::clone(&state));
            move || {
                let served = Served {
                    issuer: format!("http://{address}"),
                    policy,
                    state,
                };
                for mut request in server.incoming_requests() {
                    let answer = served.answer(&mut request);
                    let _ = request.respond(answer);
                }
            }
        });
        Self {
            server,
            address,
            state,
            thread: Some(thread),
        }
    }

    pub fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Seen {
        self.state.lock().unwrap().seen.clone()
    }

    /// What a user who agrees brings back.
    pub fn code_for(&self, consent: &Url) -> String {
        let back = Url::parse(&location(consent.as_str())).unwrap();
        let code = back.query_pairs().find(|(key, _)| key == "code");
        code.unwrap().1.into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where a consent leads to.
pub fn location(consent: &str) -> String {
    let agent: Agent = Agent::config_builder()
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .into();
    let response = agent.get(consent).call().unwrap();
    let location = response.headers().get("Location").expect("a redirect");
    location.to_str().unwrap().to_owned()
}

struct Served {
    issuer: String,
    policy: Policy,
    state: Arc<Mutex<State>>,
}

impl Served {
    fn answer(&self, request: &mut Request) -> Answer {
        let url = Url::parse(&format!("{}{}", self.issuer, request.url())).unwrap();
        let mut body = String::new();
        request.as_reader().read_to_string(&mut body).unwrap();
        let form: Parameters = form_urlencoded::parse(body.as_bytes())
            .into_owned()
            .collect();
        match url.path() {
            "/.well-known/oauth-authorization-server" if !self.policy.openid_only => {
                self.metadata()
            }
            "/.well-known/openid-configuration" => self.metadata(),
            "/authorize" => self.authorize(url.query_pairs().into_owned().collect()),
            "/token" => self.token(&form),
            "/revoke" => {
                let mut state = self.state.lock().unwrap();
                state.seen.revoked.push(form["token"].clone());
                Response::from_string("")
            }
            _ => Response::from_string("").with_status_code(404),
        }
    }

    fn metadata(&self) -> Answer {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let token_endpoint = self.policy.token_endpoint.map(str::to_owned);
        reply(
            200,
            &json!({
                "issuer": self.policy.claims_issuer.unwrap_or(&self.issuer),
                "authorization_endpoint": at("/authorize"),
                "token_endpoint": token_endpoint.unwrap_or_else(|| at("/token")),
                "revocation_endpoint": at("/revoke"),
                "code_challenge_methods_supported": self.policy.methods,
                "authorization_response_iss_parameter_supported": true,
            }),
        )
    }

    fn authorize(&self, asked: Parameters) -> Answer {
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["code_challenge_method"], "S256");
        assert_eq!(asked["client_id"], "vox");
        let mut back = Url::parse(&asked["redirect_uri"]).unwrap();
        assert_eq!(back.host_str(), Some("127.0.0.1"));
        let mut state = self.state.lock().unwrap();
        {
            let mut answer = back.query_pairs_mut();
            answer.append_pair("state", &asked["state"]);
            answer.append_pair("iss", self.policy.answers_as.unwrap_or(&self.issuer));
            if self.policy.denies {
                answer.append_pair("error", "access_denied");
                answer.append_pair("error_description", "the user said no");
            } else {
                state.codes_made += 1;
                let code = format!("code-{}", state.codes_made);
                answer.append_pair("code", &code);
                state.codes.insert(code, asked);
            }
        }
        let location = Header::from_bytes("Location", back.as_str()).unwrap();
        Response::from_string("")
            .with_status_code(302)
            .with_header(location)
    }

    fn token(&self, form: &Parameters) -> Answer {
        let mut state = self.state.lock().unwrap();
        let expires_in = match form["grant_type"].as_str() {
            "authorization_code" => {
                let Some(asked) = state.codes.remove(&form["code"]) else {
                    return refusal("invalid_grant", "there is no such code");
                };
                let verifier = PkceCodeVerifier::new(form["code_verifier"].clone());
                let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier);
                if challenge.as_str() != asked["code_challenge"] {
                    let why = "the verifier does not fit the challenge";
                    return refusal("invalid_grant", why);
                }
                assert_eq!(form["redirect_uri"], asked["redirect_uri"]);
                assert_eq!(form["client_id"], asked["client_id"]);
                state.seen.challenges += 1;
                self.policy.expires_in
            }
            "refresh_token" => {
                let known = state.refreshable.remove(&form["refresh_token"]);
                if !known || self.policy.refuses_refresh {
                    return refusal("invalid_grant", "the refresh token has expired");
                }
                state.seen.refreshes += 1;
                self.policy.expires_in_when_refreshed
            }
            _ => return refusal("unsupported_grant_type", ""),
        };
        state.tokens_made += 1;
        let refresh = format!("refresh-{}", state.tokens_made);
        state.refreshable.insert(refresh.clone());
        reply(
            200,
            &json!({
                "access_token": format!("access-{}", state.tokens_made),
                "token_type": "Bearer",
                "expires_in": expires_in,
                "refresh_token": refresh,
            }),
        )
    }
}

fn reply(status: u16, body: &Value) -> Answer {
    Response::from_string(body.to_string())
        .with_status_code(status)
        .with_header(Header::from_bytes("Content-Type", "application/json").unwrap())
}

fn refusal(error: &str, why: &str) -> Answer {
    reply(400, &json!({ "error": error, "error_description": why }))
}
