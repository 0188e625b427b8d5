//! The credentials, which the configuration names and never contains.
//!
//! What must stay true: no message, log record or `Debug` text has a secret or a signed address in it.

use std::fs;
use std::path::{Path, PathBuf};

use rusty_s3::Credentials;
use serde::Deserialize;
use vox_plugin::{Error, Result};

use crate::config::below_home;

/// Where the credentials are: in variables of the environment, or in a file as AWS's tools keep it.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    access_key_variable: String,
    secret_key_variable: String,
    session_token_variable: String,
    file: Option<PathBuf>,
    profile: String,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            access_key_variable: "AWS_ACCESS_KEY_ID".to_owned(),
            secret_key_variable: "AWS_SECRET_ACCESS_KEY".to_owned(),
            session_token_variable: "AWS_SESSION_TOKEN".to_owned(),
            file: None,
            profile: "default".to_owned(),
        }
    }
}

impl Source {
    /// Reads the credentials.
    pub fn read(&self) -> Result<Credentials> {
        match &self.file {
            Some(file) => read_file(&below_home(file.clone()), &self.profile),
            None => self.read_environment(|name| std::env::var(name).ok()),
        }
    }

    /// Where they are from, for messages.
    pub fn describe(&self) -> String {
        match &self.file {
            Some(file) => format!("profile `{}` of {}", self.profile, file.display()),
            None => format!(
                "the environment variables {} and {}",
                self.access_key_variable, self.secret_key_variable
            ),
        }
    }

    fn read_environment(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Credentials> {
        let names = [
            ("access-key-variable", &self.access_key_variable),
            ("secret-key-variable", &self.secret_key_variable),
            ("session-token-variable", &self.session_token_variable),
        ];
        for (setting, name) in names {
            if !is_variable(name) {
                // The value may be the secret itself, so it is not repeated.
                return Err(Error::Invalid(format!(
                    "`{setting}` is not the name of an environment variable; write the name, such as \
                     `AWS_ACCESS_KEY_ID`, and put the credential into the variable"
                )));
            }
        }
        let needed = |name: &str| {
            variable(name).filter(|value| !value.is_empty()).ok_or_else(|| {
                Error::Invalid(format!(
                    "there are no credentials: the environment variable {name} is not set; set it, or \
                     name a file with `credentials = {{ file = \"~/.aws/credentials\" }}`"
                ))
            })
        };
        let key = needed(&self.access_key_variable)?;
        let secret = needed(&self.secret_key_variable)?;
        Ok(credentials(
            key,
            secret,
            variable(&self.session_token_variable),
        ))
    }
}

fn credentials(key: String, secret: String, token: Option<String>) -> Credentials {
    match token.filter(|token| !token.is_empty()) {
        Some(token) => Credentials::new_with_token(key, secret, token),
        None => Credentials::new(key, secret),
    }
}

/// Whether this is what a variable is called, as shells have it.
fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_uppercase() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Reads a file in the form of `~/.aws/credentials`.
fn read_file(path: &Path, profile: &str) -> Result<Credentials> {
    let refuse =
        |why: String| Error::Invalid(format!("the credentials in {}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    check_permissions(path).map_err(refuse)?;
    let mut section = "";
    let (mut key, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name.trim();
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if section != profile || line.starts_with(['#', ';']) {
            continue;
        }
        let value = Some(value.trim().to_owned());
        match name.trim() {
            "aws_access_key_id" => key = value,
            "aws_secret_access_key" => secret = value,
            "aws_session_token" => token = value,
            _ => {}
        }
    }
    let (Some(key), Some(secret)) = (key, secret) else {
        return Err(refuse(format!(
            "there is no `[{profile}]` with `aws_access_key_id` and `aws_secret_access_key`; add it, or \
             name another `profile`"
        )));
    };
    Ok(credentials(key, secret, token))
}

/// Refuses a file that others can read.
#[cfg(unix)]
fn check_permissions(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;

    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    let owner = metadata.uid();
    if owner != rustix::process::geteuid().as_raw() && owner != 0 {
        return Err(format!(
            "the file belongs to user {owner}, who can change it; use a file of your own"
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "others may read or change the file (mode {:o}); keep it to yourself with `chmod 600 {}`",
            metadata.mode() & 0o777,
            path.display()
        ));
    }
    Ok(())
}

/// Who may read a file is not asked here: homes are private on Windows.
#[cfg(not(unix))]
fn check_permissions(_path: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn refusal(answer: Result<Credentials>) -> String {
        match answer {
            Err(Error::Invalid(text)) => text,
            _ => panic!("the credentials were not refused"),
        }
    }

    const TWO_PROFILES: &str = "[default]\naws_access_key_id = A\naws_secret_access_key = hunter2\n\
        # aws_session_token = no\n[other]\naws_access_key_id=B\naws_secret_access_key=s=s\n\
        aws_session_token = t\n";

    #[test]
    fn a_file_has_credentials_by_profile() {
        let (_directory, path) = file(TWO_PROFILES, 0o600);
        let default = read_file(&path, "default").unwrap();
        assert_eq!(
            (default.key(), default.secret(), default.token()),
            ("A", "hunter2", None)
        );
        let other = read_file(&path, "other").unwrap();
        assert_eq!(
            (other.key(), other.secret(), other.token()),
            ("B", "s=s", Some("t"))
        );
        assert!(refusal(read_file(&path, "third")).contains("[third]"));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o644, 0o640, 0o602] {
            let (_directory, path) = file(TWO_PROFILES, mode);
            let text = refusal(read_file(&path, "default"));
            assert!(
                text.contains("chmod 600") && !text.contains("hunter2"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_environment_is_asked_for_the_names_that_the_configuration_has() {
        let source = Source {
            access_key_variable: "MY_KEY".to_owned(),
            secret_key_variable: "MY_SECRET".to_owned(),
            ..Source::default()
        };
        let found = source
            .read_environment(|name| Some(format!("value of {name}")))
            .unwrap();
        assert_eq!(found.key(), "value of MY_KEY");
        assert_eq!(found.secret(), "value of MY_SECRET");
        let text =
            refusal(source.read_environment(|name| (name == "MY_KEY").then(|| "k".to_owned())));
        assert!(text.contains("MY_SECRET is not set"), "{text}");
    }

    #[test]
    fn a_secret_in_place_of_a_name_is_not_repeated() {
        let source = Source {
            secret_key_variable: "wJalrXUtnFEMI/hunter2".to_owned(),
            ..Source::default()
        };
        let text = refusal(source.read_environment(|_| None));
        assert!(
            text.contains("secret-key-variable") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
