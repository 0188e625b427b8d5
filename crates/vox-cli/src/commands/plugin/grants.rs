//! Capabilities as they are typed, shown and agreed to.

use std::fmt;
use std::io::{self, BufRead as _};
use std::str::FromStr;

use vox_contract::{Capability, CapabilityRequest, Grant, Grants, Manifest, Scope, check_entry};

use crate::output::style::{BAD, DIM, LITERAL, WARNING, paint, plain};
use crate::output::{self, Output};

/// What is said of native code wherever it is about to be used.
pub(super) const NATIVE_IS_TRUSTED: &str = "native plugins are trusted code and are not sandboxed: \
                                            they can do whatever you can, whatever is granted";

/// A capability as it is typed: `kv`, `network=api.example.org`, `network=*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    capability: Capability,
    /// None: as far as the plugin asks for it.
    scope: Option<Scope>,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (name, scope) = match word.split_once('=') {
            Some((name, scope)) => (name, Some(scope)),
            None => (word, None),
        };
        let capability: Capability = name
            .parse()
            .map_err(|error: vox_contract::UnknownWord| format!("{error}; {}", error.hint()))?;
        let scope = scope
            .map(|scope| scope_of(word, capability, scope))
            .transpose()?;
        Ok(Self { capability, scope })
    }
}

/// What stands after the `=` of `word`.
fn scope_of(word: &str, capability: Capability, scope: &str) -> Result<Scope, String> {
    match (scope, capability.scope_of()) {
        ("", _) => Err(format!(
            "`{word}` names nothing after the `=`; leave out the `=` for all that is asked for"
        )),
        ("*", _) => Ok(Scope::All),
        (scope, None) => Err(format!(
            "`{capability}` is granted as a whole; leave out `={scope}`"
        )),
        (entry, Some(_)) if let Err(error) = check_entry(capability, entry) => {
            Err(format!("{error}; {}", error.hint()))
        }
        (scope, Some(_)) => Scope::from_words(capability, &[scope.to_owned()]).ok_or_else(|| {
            format!("`{capability}` is granted by number: write for example `{capability}=3`")
        }),
    }
}

impl Wanted {
    /// The grant that is meant. Without a scope it goes as far as the plugin's request, and covers
    /// all where there is no request to go by.
    pub(super) fn grant(&self, manifest: Option<&Manifest>) -> Grant {
        let capability = self.capability;
        let request = manifest.and_then(|manifest| manifest.request(capability));
        match (&self.scope, request) {
            (None, Some(request)) => request.grant(),
            (scope, _) => Grant {
                capability,
                scope: scope.clone().unwrap_or(Scope::All),
            },
        }
    }

    /// The capability.
    pub(super) fn capability(&self) -> Capability {
        self.capability
    }
}

/// What is granted with `--grant`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Granting {
    /// All that the plugin asks for.
    All,
    /// Nothing.
    None,
    /// This.
    One(Wanted),
}

impl FromStr for Granting {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            word => word.parse().map(Self::One),
        }
    }
}

/// The grants that `--grant` means for a plugin.
pub(super) fn granted(granting: &[Granting], manifest: &Manifest) -> Vec<Grant> {
    let grants = granting.iter().flat_map(|granting| match granting {
        Granting::All => all(manifest),
        Granting::None => Vec::new(),
        Granting::One(wanted) => vec![wanted.grant(Some(manifest))],
    });
    grants.collect()
}

/// All that a plugin asks for.
pub(super) fn all(manifest: &Manifest) -> Vec<Grant> {
    manifest
        .capabilities
        .iter()
        .map(CapabilityRequest::grant)
        .collect()
}

/// What a plugin asks for and does not have yet.
pub(super) fn open_requests<'m>(
    manifest: &'m Manifest,
    had: &Grants,
) -> Vec<&'m CapabilityRequest> {
    let is_open = |request: &&CapabilityRequest| {
        let mut with = had.clone();
        with.add(request.grant());
        with != *had
    };
    manifest.capabilities.iter().filter(is_open).collect()
}

/// A capability with how much of it, as the user is shown it.
pub(super) struct Extent<'a>(pub(super) Capability, pub(super) &'a Scope);

impl fmt::Display for Extent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(capability, scope) = self;
        let summary = capability.summary();
        write!(f, "{} - {summary}", paint(LITERAL, capability))?;
        match scope {
            Scope::All if capability.scope_of().is_none() => Ok(()),
            Scope::All => write!(f, ", {}", paint(WARNING, "without restriction")),
            Scope::Only(entries) => write!(f, ", only {}", plain(&entries.join(", "))),
            Scope::AtMost(count) => write!(f, ", at most {count}"),
        }
    }
}

/// A request as the user is shown it.
pub(super) struct Request<'a>(pub(super) &'a CapabilityRequest);

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grant = self.0.grant();
        let reason = plain(&self.0.reason);
        writeln!(f, "  {}", Extent(grant.capability, &grant.scope))?;
        write!(f, "      {} {reason}", paint(DIM, "because it"))
    }
}

/// Asks the user which of these a plugin shall have; none when the user wants none of it all.
pub(super) fn ask(output: Output, requests: &[&CapabilityRequest]) -> Option<Vec<Grant>> {
    debug_assert!(output.can_ask());
    loop {
        match question("Grant this and install? [y]es, [s]elect, [N]o:").as_str() {
            "y" | "yes" => return Some(requests.iter().map(|request| request.grant()).collect()),
            "s" | "select" => {
                let chosen = requests
                    .iter()
                    .filter(|request| agreed(output, &format!("  grant {}?", request.name)));
                return Some(chosen.map(|request| request.grant()).collect());
            }
            "" | "n" | "no" => return None,
            other => output.note(format_args!(
                "{}",
                paint(BAD, format!("`{}` is no answer", plain(other)))
            )),
        }
    }
}

/// Asks the user a question whose answer is yes or no; silence is a no.
pub(super) fn agreed(output: Output, text: &str) -> bool {
    debug_assert!(output.can_ask());
    matches!(question(&format!("{text} [y/N]:")).as_str(), "y" | "yes")
}

/// The answer to a question; empty when there is none.
fn question(text: &str) -> String {
    output::complain(format_args!("{text} "));
    let mut answer = String::new();
    // An error is no answer, and no answer is a no.
    let _ = io::stdin().lock().read_line(&mut answer);
    answer.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn manifest() -> Manifest {
        let text = r#"
            id = "x"
            version = "0.1.0"
            description = "x"
            host = "*"
            payload = { component = "x.wasm" }
            provides = { extension-points = { stage = 1 } }
            [[capabilities]]
            name = "network"
            scope = ["a.example", "b.example"]
            reason = "asks"
            [[capabilities]]
            name = "kv"
            reason = "keeps"
        "#;
        Manifest::parse(text, Path::new("Plugin.toml")).unwrap()
    }

    #[test]
    fn a_capability_without_scope_is_granted_as_far_as_it_is_asked_for() {
        let manifest = manifest();
        let grant = |word: &str| word.parse::<Wanted>().unwrap().grant(Some(&manifest)).scope;
        assert_eq!(
            grant("network"),
            Scope::Only(vec!["a.example".into(), "b.example".into()])
        );
        assert_eq!(
            grant("network=c.example"),
            Scope::Only(vec!["c.example".into()])
        );
        assert_eq!(grant("network=*"), Scope::All);
        assert_eq!(grant("file_read"), Scope::All);
        assert_eq!(grant("agent_spawn=3"), Scope::AtMost(3));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_write() {
        let refusal = |word: &str| word.parse::<Wanted>().unwrap_err();
        assert!(refusal("kvv").contains("did you mean `kv`?"));
        assert!(refusal("kv=x").contains("leave out"));
        assert!(refusal("network=").contains("leave out"));
        for wrong in ["agent_spawn=0", "agent_spawn=-1", "agent_spawn=acme"] {
            assert!(refusal(wrong).contains("`agent_spawn=3`"), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_not_granted_yet_is_asked_for() {
        let manifest = manifest();
        let mut had = Grants::none();
        had.add("kv".parse::<Wanted>().unwrap().grant(None));
        had.add("network=a.example".parse::<Wanted>().unwrap().grant(None));
        let open = open_requests(&manifest, &had);
        assert_eq!(
            open.iter().map(|request| request.name).collect::<Vec<_>>(),
            [Capability::Network]
        );
        had.add("network=*".parse::<Wanted>().unwrap().grant(None));
        assert!(open_requests(&manifest, &had).is_empty());
    }
}
