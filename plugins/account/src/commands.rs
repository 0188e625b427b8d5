//! The subcommands.

use std::time::Duration;

use vox_plugin::{Error, Result};

use crate::Surroundings;
use crate::arguments::{Command, Login, Profile as ProfileCommand, Token};
use crate::client::Client;
use crate::credentials::{Credentials, Tokens};
use crate::login::{Request, login};
use crate::provider::now;

/// How long before its end an access token is replaced, in seconds: it is still to be used.
const MARGIN: u64 = 30;

/// One run of the verb.
pub struct Session<'a> {
    /// Where tokens are kept.
    pub credentials: Credentials,
    /// The configured server.
    pub issuer: Option<String>,
    /// The configured name of this program.
    pub client_id: Option<String>,
    /// The user.
    pub surroundings: &'a dyn Surroundings,
}

impl Session<'_> {
    /// Runs a subcommand.
    ///
    /// # Errors
    ///
    /// What the subcommand could not do, for the user to read.
    pub fn run(&self, command: Command) -> Result<()> {
        match command {
            Command::Login(asked) => self.login(asked),
            Command::Logout { profile } => self.logout(profile.as_deref()),
            Command::Status => self.status(),
            Command::Token(Token::Print) => self.print_token(),
            Command::Token(Token::Refresh) => self.refresh_token(),
            Command::Profile(ProfileCommand::List) => self.list_profiles(),
            Command::Profile(ProfileCommand::Use { name }) => self.use_profile(&name),
            Command::Profile(ProfileCommand::Remove { name }) => self.remove_profile(&name),
        }
    }

    fn login(&self, asked: Login) -> Result<()> {
        check_name(&asked.profile)?;
        // What would make the login worthless is found out before the user takes the trouble.
        self.credentials.read()?;
        let Some(issuer) = asked.issuer.or_else(|| self.issuer.clone()) else {
            return Err(Error::Invalid(
                "name the server with `--issuer https://…`, or set `issuer` in the plugin's \
                 configuration"
                    .to_owned(),
            ));
        };
        let client_id = asked.client_id.or_else(|| self.client_id.clone());
        let request = Request {
            issuer,
            client_id: client_id.unwrap_or_else(|| "vox".to_owned()),
            scopes: asked.scope,
            browser: !asked.no_browser,
            port: asked.port,
            timeout: Duration::from_secs(u64::from(asked.timeout)),
        };
        let profile = login(&request, &Client::new(), self.surroundings)?;
        let told = format!(
            "Signed in at {} as profile `{}`",
            profile.issuer, asked.profile
        );
        self.credentials.change(|profiles| {
            profiles.profiles.insert(asked.profile.clone(), profile);
            profiles.current = Some(asked.profile);
            Ok(())
        })?;
        self.surroundings.tell(&told)
    }

    fn logout(&self, name: Option<&str>) -> Result<()> {
        let (name, profile) = self.credentials.change(|profiles| {
            let (name, profile) = profiles.get(name)?;
            let before = profile.clone();
            profile.tokens = None;
            Ok((name, before))
        })?;
        // They are forgotten here, whatever the server says.
        let told = match profile.revoke(&Client::new()) {
            Ok(true) => "the server has taken the tokens back".to_owned(),
            Ok(false) if profile.tokens.is_none() => "it was signed out before".to_owned(),
            Ok(false) => "the server takes no tokens back: they hold until they expire".to_owned(),
            Err(error) => format!("the server was not told: {error}"),
        };
        self.surroundings
            .tell(&format!("Profile `{name}` is signed out; {told}"))
    }

    fn status(&self) -> Result<()> {
        let mut profiles = self.credentials.read()?;
        let (name, profile) = profiles.get(None)?;
        let state = match &profile.tokens {
            None => "signed out".to_owned(),
            Some(tokens) => state_of(tokens, now()),
        };
        let scopes = if profile.scopes.is_empty() {
            "as the server decides".to_owned()
        } else {
            profile.scopes.join(" ")
        };
        for line in [
            format!("profile  {name}"),
            format!("issuer   {}", profile.issuer),
            format!("client   {}", profile.client_id),
            format!("scopes   {scopes}"),
            format!("state    {state}"),
        ] {
            self.surroundings.print(&line)?;
        }
        Ok(())
    }

    fn print_token(&self) -> Result<()> {
        let mut profiles = self.credentials.read()?;
        let (name, profile) = profiles.get(None)?;
        if let Some(tokens) = profile.tokens.as_ref().filter(|tokens| is_fresh(tokens)) {
            return self.surroundings.print(&tokens.access.0);
        }
        // A refresh token may be good for one use, so only one process at a time asks; and another one
        // may just have asked.
        let access = self.credentials.change(|profiles| {
            let (_, profile) = profiles.get(Some(&name))?;
            match &profile.tokens {
                None => return Err(signed_out(&name)),
                Some(tokens) if is_fresh(tokens) => {}
                Some(_) => profile.refresh(&Client::new())?,
            }
            match &profile.tokens {
                Some(tokens) => Ok(tokens.access.clone()),
                None => Err(signed_out(&name)),
            }
        })?;
        self.surroundings.print(&access.0)
    }

    fn refresh_token(&self) -> Result<()> {
        let told = self.credentials.change(|profiles| {
            let (name, profile) = profiles.get(None)?;
            if profile.tokens.is_none() {
                return Err(signed_out(&name));
            }
            profile.refresh(&Client::new())?;
            let state = profile
                .tokens
                .as_ref()
                .map(|tokens| state_of(tokens, now()));
            Ok(format!("Profile `{name}`: {}", state.unwrap_or_default()))
        })?;
        self.surroundings.tell(&told)
    }

    fn list_profiles(&self) -> Result<()> {
        let profiles = self.credentials.read()?;
        for (name, profile) in &profiles.profiles {
            let mark = if profiles.current.as_ref() == Some(name) {
                '*'
            } else {
                ' '
            };
            self.surroundings
                .print(&format!("{mark} {name}  {}", profile.issuer))?;
        }
        Ok(())
    }

    fn use_profile(&self, name: &str) -> Result<()> {
        self.credentials.change(|profiles| {
            profiles.get(Some(name))?;
            profiles.current = Some(name.to_owned());
            Ok(())
        })?;
        self.surroundings
            .tell(&format!("Profile `{name}` is in use"))
    }

    fn remove_profile(&self, name: &str) -> Result<()> {
        self.credentials.change(|profiles| {
            if profiles.profiles.remove(name).is_none() {
                return Err(profiles.unknown(name));
            }
            if profiles.current.as_deref() == Some(name) {
                profiles.current = None;
            }
            Ok(())
        })?;
        self.surroundings
            .tell(&format!("Profile `{name}` is removed"))
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "`{}` is no name for a profile: write 1 to 64 letters, digits, `-`, `_` and `.`",
        name.escape_debug()
    )))
}

fn signed_out(name: &str) -> Error {
    Error::Denied(format!(
        "profile `{name}` is signed out; sign in with `vox account login --profile {name}`"
    ))
}

fn is_fresh(tokens: &Tokens) -> bool {
    tokens
        .expires
        .is_none_or(|expires| expires > now().saturating_add(MARGIN))
}

fn state_of(tokens: &Tokens, now: u64) -> String {
    let renewed = if tokens.refresh.is_some() {
        ", and is refreshed then"
    } else {
        ""
    };
    match tokens.expires {
        None => "signed in".to_owned(),
        Some(expires) if expires <= now => {
            format!(
                "signed in; the access token has expired{}",
                match renewed {
                    "" => "",
                    _ => ", and is refreshed when it is needed",
                }
            )
        }
        Some(expires) => format!(
            "signed in; the access token expires in {} s{renewed}",
            expires - now
        ),
    }
}
