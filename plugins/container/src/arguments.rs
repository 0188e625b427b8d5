//! What a step asks for: its arguments, checked and put into units.
//!
//! What must stay true: nothing here widens what a container may do unless the arguments say so in
//! as many words.

use serde::Deserialize;
use vox_plugin::serde_json::{Value, json};
use vox_plugin::{Error, Result, from_json};

/// A step's arguments as they are written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    image: Option<String>,
    builds_in: Option<String>,
    #[serde(default)]
    pull: Pull,
    command: Option<Vec<String>>,
    shell: Option<String>,
    entrypoint: Option<Vec<String>>,
    directory: Option<String>,
    user: Option<String>,
    #[serde(default)]
    network: NetworkWritten,
    #[serde(default)]
    limits: LimitsWritten,
    #[serde(default, rename = "read-only")]
    read_only: bool,
    tmpfs: Option<Size>,
    #[serde(default)]
    capabilities: Vec<String>,
    commit: Option<String>,
    platform: Option<String>,
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// When the engine has none of that name.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum NetworkWritten {
    Switch(bool),
    Named(String),
}

impl Default for NetworkWritten {
    fn default() -> Self {
        Self::Switch(false)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsWritten {
    cpus: Option<f64>,
    memory: Option<Size>,
    pids: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(i64),
    Written(String),
}

/// Which image a container is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// One that a registry has, by its reference.
    Reference(String),
    /// A snapshot of this run by its name, or any local image by its id.
    Local(String),
}

impl Image {
    /// What the user wrote.
    pub fn written(&self) -> &str {
        match self {
            Self::Reference(name) | Self::Local(name) => name,
        }
    }
}

/// What a container may use up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Processor time, in billionths of a processor.
    pub nano_cpus: Option<i64>,
    /// Memory in bytes; there is no swap beside it.
    pub memory: Option<i64>,
    /// Processes and threads.
    pub pids: Option<i64>,
}

/// What a step asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// What the container is made of.
    pub image: Image,
    /// When that is fetched.
    pub pull: Pull,
    /// The image's entry point where it is none.
    pub entrypoint: Option<Vec<String>>,
    /// The image's command where it is none.
    pub command: Option<Vec<String>>,
    /// Where the program starts, inside; the image's own choice where it is none.
    pub directory: Option<String>,
    /// Who the program is, inside.
    pub user: Option<String>,
    /// The engine's name of the network; `none` for no network.
    pub network: String,
    /// What it may use up.
    pub limits: Limits,
    /// Whether the image's own files cannot be changed.
    pub read_only: bool,
    /// Bytes of a `/tmp` in memory.
    pub tmpfs: Option<i64>,
    /// Linux capabilities that it keeps.
    pub capabilities: Vec<String>,
    /// Name of the snapshot that is made when it has succeeded.
    pub commit: Option<String>,
    /// Operating system and architecture of the image.
    pub platform: Option<String>,
}

/// The JSON Schema of the arguments.
pub fn schema() -> Value {
    let words = |description: &str| {
        json!({
            "description": description,
            "type": "array",
            "items": { "type": "string" }
        })
    };
    let text =
        |description: &str| json!({ "description": description, "type": "string", "minLength": 1 });
    let size = |description: &str| {
        json!({
            "description": format!("{description} Bytes, or a number with a unit: `512MiB`, `1.5GiB`."),
            "oneOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "minLength": 1 }]
        })
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "container",
        "description": "Runs a container.",
        "type": "object",
        "properties": {
            "image": text("Reference of the image, such as `docker.io/library/alpine:3.20`."),
            "builds_in": text("Name of a snapshot that an earlier step of the run has made with `commit`, or an image's id. It is never pulled."),
            "pull": {
                "description": "When the image is pulled.",
                "enum": ["missing", "always", "never"],
                "default": "missing"
            },
            "command": words("The program and its arguments, handed to the image's entry point if it has one. No shell reads them."),
            "shell": text("A script, run by the image's `/bin/sh -c`."),
            "entrypoint": words("In place of the image's entry point; `[]` for none."),
            "directory": {
                "description": "Where the program starts: an absolute path inside.",
                "type": "string",
                "pattern": "^/"
            },
            "user": text("Who the program is, inside: `name`, `uid` or `uid:gid`."),
            "network": {
                "description": "Whether there is a network, or the name of the engine's network to use.",
                "oneOf": [{ "type": "boolean" }, { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$" }],
                "default": false
            },
            "limits": {
                "description": "What the container may use up.",
                "type": "object",
                "properties": {
                    "cpus": { "description": "Processors.", "type": "number", "exclusiveMinimum": 0 },
                    "memory": size("Memory, without swap beside it."),
                    "pids": { "description": "Processes and threads.", "type": "integer", "minimum": 1 }
                },
                "additionalProperties": false
            },
            "read-only": {
                "description": "Whether the image's own files cannot be changed.",
                "type": "boolean",
                "default": false
            },
            "tmpfs": size("A `/tmp` in memory of this size."),
            "capabilities": words("Linux capabilities that the container keeps, such as `CHOWN`. It has none otherwise."),
            "commit": {
                "description": "Name of a snapshot, made of the container's files when it has succeeded.",
                "type": "string",
                "pattern": SNAPSHOT_PATTERN
            },
            "platform": text("Operating system and architecture of the image: `linux/arm64`.")
        },
        "additionalProperties": false,
        "allOf": [
            { "oneOf": [{ "required": ["image"] }, { "required": ["builds_in"] }] },
            { "not": { "required": ["command", "shell"] } },
            { "not": { "required": ["entrypoint", "shell"] } }
        ]
    })
}

/// What the name of a snapshot looks like: what an engine takes for a part of a repository's name.
const SNAPSHOT_PATTERN: &str = "^[a-z0-9]+([._-][a-z0-9]+)*$";

impl Arguments {
    /// Reads a step's arguments.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when they make no sense.
    pub fn new(arguments: &str) -> Result<Self> {
        let written: Written = from_json(arguments)?;
        let image = match (written.image, written.builds_in) {
            (Some(image), None) => Image::Reference(checked_reference(image)?),
            (None, Some(name)) => Image::Local(checked_reference(name)?),
            _ => {
                return Err(invalid(
                    "give the step either `image`, the reference of an image, or `builds_in`, a \
                     snapshot of this run",
                ));
            }
        };
        let (entrypoint, command) = words(written.entrypoint, written.command, written.shell)?;
        if let Some(directory) = &written.directory
            && !directory.starts_with('/')
        {
            return Err(invalid(&format!(
                "`directory` is a path inside the container and begins with `/`, unlike `{directory}`"
            )));
        }
        let network = match written.network {
            NetworkWritten::Switch(false) => "none".to_owned(),
            NetworkWritten::Switch(true) => "default".to_owned(),
            NetworkWritten::Named(name) if is_plain_name(&name) => name,
            NetworkWritten::Named(name) => {
                return Err(invalid(&format!("`{name}` is no name of a network")));
            }
        };
        if let Some(name) = &written.commit
            && !is_snapshot_name(name)
        {
            return Err(invalid(&format!(
                "`{name}` is no name for a snapshot; use small letters and digits, with single \
                 `.`, `_` or `-` between them"
            )));
        }
        Ok(Self {
            image,
            pull: written.pull,
            entrypoint,
            command,
            directory: written.directory,
            user: written.user.filter(|user| !user.is_empty()),
            network,
            limits: limits(written.limits)?,
            read_only: written.read_only,
            tmpfs: written.tmpfs.map(|size| bytes("tmpfs", size)).transpose()?,
            capabilities: written.capabilities,
            commit: written.commit,
            platform: written.platform,
        })
    }
}

type Words = Option<Vec<String>>;

/// What becomes of the image's entry point and command. An entry point of no words is expressed by
/// the command's own first word, which both engines understand alike.
fn words(entrypoint: Words, command: Words, shell: Option<String>) -> Result<(Words, Words)> {
    if command.as_ref().is_some_and(|words| words.is_empty()) {
        return Err(invalid("`command` names no program"));
    }
    match (entrypoint, command, shell) {
        (None, None, Some(script)) => Ok((
            Some(vec!["/bin/sh".to_owned(), "-c".to_owned()]),
            Some(vec![script]),
        )),
        (_, _, Some(_)) => Err(invalid(
            "`shell` stands alone: leave `command` and `entrypoint` out beside it",
        )),
        (Some(none), Some(mut command), None) if none.is_empty() => {
            let rest = command.split_off(1);
            Ok((Some(command), Some(rest)))
        }
        (Some(none), None, None) if none.is_empty() => Err(invalid(
            "without an entry point there has to be a `command`",
        )),
        (entrypoint, command, None) => Ok((entrypoint, command)),
    }
}

fn limits(written: LimitsWritten) -> Result<Limits> {
    let nano_cpus = match written.cpus {
        None => None,
        Some(cpus) if (0.01..1e6).contains(&cpus) => Some((cpus * 1e9).round() as i64),
        Some(cpus) => {
            return Err(invalid(&format!(
                "`limits.cpus` is a number of processors, 0.01 at least, not {cpus}"
            )));
        }
    };
    if let Some(pids) = written.pids.filter(|pids| *pids < 1) {
        return Err(invalid(&format!("`limits.pids` is 1 at least, not {pids}")));
    }
    let memory = written
        .memory
        .map(|size| bytes("limits.memory", size))
        .transpose()?;
    Ok(Limits {
        nano_cpus,
        memory,
        pids: written.pids,
    })
}

const UNITS: [(&str, f64); 10] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("B", 1.0),
];

fn bytes(key: &str, size: Size) -> Result<i64> {
    let (text, bytes) = match size {
        Size::Bytes(bytes) => (bytes.to_string(), Some(bytes as f64)),
        Size::Written(text) => {
            let parsed = UNITS
                .iter()
                .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
                .and_then(|(number, factor)| Some(number.trim().parse::<f64>().ok()? * factor));
            (text, parsed)
        }
    };
    match bytes {
        Some(bytes) if (1.0..9e18).contains(&bytes) => Ok(bytes as i64),
        _ => Err(invalid(&format!(
            "`{key}` is a number of bytes with its unit, such as `512MiB` or `1.5GiB`, not `{text}`"
        ))),
    }
}

/// Whether a name is of letters, digits, `_`, `.` and `-`, and begins with one of the first two.
pub fn is_plain_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether a snapshot can have this name.
pub fn is_snapshot_name(name: &str) -> bool {
    let is_joint = |c: char| "._-".contains(c);
    name.len() <= 128
        && name.split(is_joint).all(|part| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        })
}

/// A reference goes into the path of a request, so it holds nothing that would lead elsewhere.
fn checked_reference(reference: String) -> Result<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
    if reference.starts_with(|first: char| first.is_ascii_alphanumeric())
        && reference.chars().all(allowed)
        && !reference.contains("..")
        && !reference.contains("//")
    {
        return Ok(reference);
    }
    Err(invalid(&format!(
        "`{reference}` is no reference of an image; write it as `registry/repository:tag`, \
         `docker.io/library/alpine:3.20` for instance"
    )))
}

fn invalid(text: &str) -> Error {
    Error::Invalid(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: Value) -> Result<Arguments> {
        Arguments::new(&arguments.to_string())
    }

    #[test]
    fn by_default_a_container_has_no_network_and_no_capabilities() {
        let arguments = read(json!({ "image": "alpine" })).unwrap();
        assert_eq!(arguments.network, "none");
        assert!(arguments.capabilities.is_empty());
        assert_eq!(arguments.limits, Limits::default());
        assert_eq!(arguments.pull, Pull::Missing);
    }

    #[test]
    fn a_network_is_had_for_the_asking() {
        let network = |value| read(json!({ "image": "a", "network": value })).map(|a| a.network);
        assert_eq!(network(json!(true)).unwrap(), "default");
        assert_eq!(network(json!("backend")).unwrap(), "backend");
        assert!(network(json!("container:other")).is_err());
    }

    #[test]
    fn limits_are_read_with_their_units() {
        let limits = read(json!({
            "image": "a",
            "limits": { "cpus": 1.5, "memory": "1.5GiB", "pids": 256 }
        }))
        .unwrap()
        .limits;
        assert_eq!(limits.nano_cpus, Some(1_500_000_000));
        assert_eq!(limits.memory, Some(1_610_612_736));
        assert_eq!(limits.pids, Some(256));
        for memory in [
            json!("1"),
            json!("GiB"),
            json!("-1MiB"),
            json!(0),
            json!("1 Gi"),
        ] {
            let told = read(json!({ "image": "a", "limits": { "memory": memory } }));
            assert!(told.unwrap_err().to_string().contains("limits.memory"));
        }
    }

    #[test]
    fn a_script_takes_the_place_of_the_entry_point() {
        let arguments = read(json!({ "image": "a", "shell": "a | b" })).unwrap();
        assert_eq!(arguments.entrypoint.unwrap(), ["/bin/sh", "-c"]);
        assert_eq!(arguments.command.unwrap(), ["a | b"]);
    }

    #[test]
    fn no_entry_point_means_the_commands_own() {
        let arguments =
            read(json!({ "image": "a", "entrypoint": [], "command": ["b", "c"] })).unwrap();
        assert_eq!(arguments.entrypoint.unwrap(), ["b"]);
        assert_eq!(arguments.command.unwrap(), ["c"]);
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused() {
        for arguments in [
            json!({}),
            json!({ "image": "a", "builds_in": "b" }),
            json!({ "image": "a", "command": [] }),
            json!({ "image": "a", "command": ["b"], "shell": "c" }),
            json!({ "image": "a", "entrypoint": [] }),
            json!({ "image": "a", "imge": "a" }),
            json!({ "image": "a", "limits": { "cpu": 1 } }),
            json!({ "image": "a", "limits": { "cpus": 0 } }),
            json!({ "image": "a", "limits": { "pids": 0 } }),
            json!({ "image": "../secrets" }),
            json!({ "image": "a?b=c" }),
            json!({ "image": "a", "directory": "b" }),
            json!({ "image": "a", "commit": "A/b" }),
            json!({ "image": "a", "pull": "sometimes" }),
        ] {
            assert!(
                matches!(read(arguments.clone()), Err(Error::Invalid(_))),
                "{arguments}"
            );
        }
    }
}
