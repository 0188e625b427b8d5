//! The container engine: where its API is, what it is, and what it means by its errors.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error as ApiError};
use vox_plugin::{Attribute, Error, Result};

/// Seconds that the engine has to begin an answer. Removing, committing and starting may be slow
/// on a busy disk.
const PATIENCE: u64 = 120;
/// The same for an answer that comes when a container ends, which is whenever it likes.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A connection to an engine.
#[derive(Clone)]
pub struct Engine {
    /// Requests whose answer is due.
    pub api: Docker,
    /// Requests whose answer waits for something to happen.
    pub patient: Docker,
    /// The socket of its API.
    pub socket: PathBuf,
    /// Whether it is Podman.
    pub is_podman: bool,
    /// Whether root inside a container is the user who runs the engine.
    pub is_rootless: bool,
}

/// Where to look for the engine: the plugin's own setting wins over the step's `DOCKER_HOST`, and
/// that over the usual places.
///
/// # Errors
///
/// [`Error::Invalid`] for an address that is no Unix socket, [`Error::Unavailable`] when there is
/// no engine in the usual places.
pub fn find(setting: Option<&str>, environment: &[Attribute]) -> Result<PathBuf> {
    let variable = environment.iter().find(|one| one.key == "DOCKER_HOST");
    let named = setting
        .map(|address| (address, "the plugin's setting `socket`"))
        .or(variable.map(|one| (one.value.as_str(), "`DOCKER_HOST`")));
    if let Some((address, place)) = named.filter(|(address, _)| !address.is_empty()) {
        let path = address.strip_prefix("unix://").unwrap_or(address);
        if path.starts_with('/') {
            return Ok(path.into());
        }
        return Err(Error::Invalid(format!(
            "{place} is `{address}`; only an engine on this machine can be used, by the path of \
             its socket or `unix://` and that path"
        )));
    }
    let places = usual_places();
    if let Some(place) = places
        .iter()
        .find(|place| UnixStream::connect(place).is_ok())
    {
        return Ok(place.clone());
    }
    let tried: Vec<String> = places
        .iter()
        .map(|place| match UnixStream::connect(place) {
            Err(error) if place.exists() => format!("  {}: {error}", place.display()),
            _ => format!("  {}: not there", place.display()),
        })
        .collect();
    Err(Error::Unavailable(format!(
        "no container engine answers:\n{}\nstart one with `systemctl start docker` or `systemctl \
         --user start podman.socket`, or say where it is: `socket` in the plugin's configuration, \
         or `DOCKER_HOST` in the step's `env`",
        tried.join("\n")
    )))
}

/// The sockets of Docker and Podman. Whoever is not root is served best by an engine of their own.
fn usual_places() -> Vec<PathBuf> {
    let user = rustix::process::geteuid();
    let mut places = Vec::new();
    if !user.is_root() {
        let runtime = Path::new("/run/user").join(user.as_raw().to_string());
        places.push(runtime.join("docker.sock"));
        places.push(runtime.join("podman/podman.sock"));
    }
    // Docker Desktop and Podman's machine keep theirs below the home directory.
    if let Some(home) = std::env::home_dir() {
        places.push(home.join(".docker/run/docker.sock"));
        places.push(home.join(".local/share/containers/podman/machine/podman.sock"));
    }
    places.push("/var/run/docker.sock".into());
    places.push("/run/podman/podman.sock".into());
    places
}

impl Engine {
    /// Asks the engine at `socket` what it is.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when it does not answer.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let unreachable = |error: String| {
            let mut hint = "is the engine running?";
            if error.to_lowercase().contains("permission denied") {
                hint = "whoever runs Vox must be allowed to use the socket: a member of its group, \
                        or with an engine of their own (rootless Docker or Podman)";
            }
            Error::Unavailable(format!(
                "the container engine at {} cannot be reached: {error}; {hint}",
                socket.display()
            ))
        };
        // Told by the system, which says more than the client does.
        UnixStream::connect(socket).map_err(|error| unreachable(error.to_string()))?;
        let path = socket
            .to_str()
            .ok_or_else(|| Error::Invalid(format!("{} is no name in UTF-8", socket.display())))?;
        let api = Docker::connect_with_unix(path, PATIENCE, API_DEFAULT_VERSION)
            .map_err(|error| unreachable(error.to_string()))?
            .negotiate_version()
            .await
            .map_err(|error| unreachable(reason(&error)))?;
        let version = api
            .version()
            .await
            .map_err(|error| unreachable(reason(&error)))?;
        let is_podman = version
            .components
            .iter()
            .flatten()
            .any(|component| component.name.contains("Podman"));
        // An engine that does not say is taken for one that runs as root.
        let is_rootless = match api.info().await {
            Ok(info) => info
                .security_options
                .iter()
                .flatten()
                .any(|option| option.contains("rootless")),
            Err(_) => false,
        };
        Ok(Self {
            patient: api.clone().with_timeout(FOREVER),
            api,
            socket: socket.to_owned(),
            is_podman,
            is_rootless,
        })
    }

    /// The engine's name, as messages write it.
    pub fn name(&self) -> &'static str {
        if self.is_podman { "Podman" } else { "Docker" }
    }

    /// An error for what the engine refused or could not do.
    pub fn error(&self, what: &str, error: &ApiError) -> Error {
        let text = format!("{what}: {} says: {}", self.name(), reason(error));
        match error {
            ApiError::DockerResponseServerError {
                status_code: 400, ..
            } => Error::Invalid(text),
            ApiError::DockerResponseServerError {
                status_code: 404, ..
            } => Error::NotFound(text),
            ApiError::DockerResponseServerError { .. } | ApiError::DockerStreamError { .. } => {
                Error::Failed(text)
            }
            _ => Error::Unavailable(text),
        }
    }
}

/// What the engine says, without the client's own words around it.
pub fn reason(error: &ApiError) -> String {
    match error {
        ApiError::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        ApiError::DockerStreamError { error } => error.trim().to_owned(),
        ApiError::RequestTimeoutError => format!("no answer within {PATIENCE} s"),
        error => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                let cause_text = cause.to_string();
                if !text.contains(&cause_text) {
                    text = format!("{text}: {cause_text}");
                }
                source = cause.source();
            }
            text
        }
    }
}

/// Whether the engine says that there is no such thing.
pub fn is_missing(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::DockerResponseServerError {
            status_code: 404,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use vox_plugin::attribute;

    #[test]
    fn the_plugins_setting_wins_over_the_environment() {
        let environment = [attribute("DOCKER_HOST", "unix:///b.sock")];
        let found = find(Some("/a.sock"), &environment).unwrap();
        assert_eq!(found, Path::new("/a.sock"));
        assert_eq!(find(None, &environment).unwrap(), Path::new("/b.sock"));
    }

    #[test]
    fn an_engine_elsewhere_is_refused() {
        let environment = [attribute("DOCKER_HOST", "tcp://10.0.0.1:2375")];
        let Err(Error::Invalid(told)) = find(None, &environment) else {
            panic!("it was taken")
        };
        assert!(told.contains("on this machine"), "{told}");
    }
}
