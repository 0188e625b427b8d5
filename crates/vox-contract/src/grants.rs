//! `grants.toml`: what the user allowed each plugin.
//!
//! ```toml
//! [plugin.redact]
//! stream_io = true
//! network = ["api.example.org"]
//! ```
//!
//! What is not written is not granted; there is no way to write a refusal.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write as _,
    path::Path,
};

use toml::{Spanned, de::DeValue};

use crate::{
    Capability, ManifestError, PluginId,
    document::{Document, Table, read_text},
};

/// How much of a capability is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    All,
    /// Only these paths, hosts, plugin ids, topics or programs. Never empty in a [`Grants`].
    Only(Vec<String>),
}

/// One capability that is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Which capability.
    pub capability: Capability,
    /// How much of it.
    pub scope: Scope,
}

/// All that one plugin is granted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants(BTreeMap<Capability, Scope>);

impl Grants {
    /// Nothing granted.
    pub const fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// How much of a capability is granted; none when it is denied.
    pub fn scope(&self, capability: Capability) -> Option<&Scope> {
        self.0.get(&capability)
    }

    /// Grants more. Scopes add up; an empty scope grants nothing.
    pub fn add(&mut self, grant: Grant) {
        let Grant { capability, scope } = grant;
        if scope == Scope::Only(Vec::new()) {
            return;
        }
        match self.0.entry(capability) {
            Entry::Vacant(vacant) => {
                vacant.insert(scope);
            }
            Entry::Occupied(mut occupied) => match (occupied.get_mut(), scope) {
                (Scope::All, _) => {}
                (had, Scope::All) => *had = Scope::All,
                (Scope::Only(had), Scope::Only(more)) => {
                    for entry in more {
                        if !had.contains(&entry) {
                            had.push(entry);
                        }
                    }
                }
            },
        }
    }

    /// Takes a capability away; false when it was not granted.
    pub fn revoke(&mut self, capability: Capability) -> bool {
        self.0.remove(&capability).is_some()
    }

    /// True when nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is granted, in the order of [`Capability::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Capability, &Scope)> {
        self.0
            .iter()
            .map(|(capability, scope)| (*capability, scope))
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        let mut all = Self::none();
        grants.into_iter().for_each(|grant| all.add(grant));
        all
    }
}

/// The content of a `grants.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrantsFile {
    plugins: BTreeMap<PluginId, Grants>,
}

impl GrantsFile {
    const KEYS: &[&str] = &["plugin"];

    /// Reads grants. `file` is named in errors and not opened.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with all that is wrong.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ManifestError> {
        Document::read(text, file, Self::KEYS, |root| {
            let mut plugins = BTreeMap::new();
            for (id, value) in root.members("plugin") {
                let id = root.parse::<PluginId>(id);
                let grants = grants(root, value);
                if let Some(id) = id {
                    plugins.insert(id, grants);
                }
            }
            Some(Self { plugins })
        })
    }

    /// Reads the grants in `file`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and [`ManifestError::Unreadable`], also when there is no file.
    pub fn load(file: &Path) -> Result<Self, ManifestError> {
        Self::parse(&read_text(file)?, file)
    }

    /// What a plugin is granted.
    pub fn of(&self, plugin: &PluginId) -> Option<&Grants> {
        self.plugins.get(plugin)
    }

    /// What a plugin is granted, to be changed.
    pub fn of_mut(&mut self, plugin: &PluginId) -> &mut Grants {
        self.plugins.entry(plugin.clone()).or_default()
    }

    /// Forgets all grants of a plugin; false when it had none.
    pub fn forget(&mut self, plugin: &PluginId) -> bool {
        self.plugins
            .remove(plugin)
            .is_some_and(|grants| !grants.is_empty())
    }

    /// Adds all that `other` grants.
    pub fn merge(&mut self, other: Self) {
        for (plugin, grants) in other.plugins {
            let all = self.plugins.entry(plugin).or_default();
            grants
                .0
                .into_iter()
                .for_each(|(capability, scope)| all.add(Grant { capability, scope }));
        }
    }

    /// Every plugin with a table of its own, in the order of the ids.
    pub fn iter(&self) -> impl Iterator<Item = (&PluginId, &Grants)> {
        self.plugins.iter()
    }

    /// The file's text; plugins without grants are left out.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (plugin, grants) in self.plugins.iter().filter(|(_, grants)| !grants.is_empty()) {
            if !text.is_empty() {
                text.push('\n');
            }
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "[plugin.{}]", plugin.toml_key());
            for (capability, scope) in grants.iter() {
                let value = match scope {
                    Scope::All => toml::Value::Boolean(true),
                    Scope::Only(entries) => entries.clone().into(),
                };
                let _ = writeln!(text, "{capability} = {value}");
            }
        }
        text
    }
}

fn grants(root: &Table<'_, '_>, value: &Spanned<DeValue<'_>>) -> Grants {
    let mut grants = Grants::none();
    let DeValue::Table(entries) = value.get_ref() else {
        root.note(
            value.span(),
            "the grants of a plugin must be a table",
            "write `[plugin.<id>]` and below it `kv = true`",
        );
        return grants;
    };
    for (key, value) in entries {
        if value.get_ref().is_table() {
            root.note(
                key.span(),
                format!("`{}` is a table, not a grant", key.get_ref().escape_debug()),
                "put an id that contains dots in quotes: `[plugin.\"acme.redact\"]`",
            );
            continue;
        }
        let capability = root.parse(Spanned::new(key.span(), &**key.get_ref()));
        let scope = scope(root, value);
        if let (Some(capability), Some(scope)) = (capability, scope) {
            check_scope(root, capability, &scope, value);
            grants.add(Grant { capability, scope });
        }
    }
    grants
}

fn scope(root: &Table<'_, '_>, value: &Spanned<DeValue<'_>>) -> Option<Scope> {
    let hint = "write `true` for all of it, or a list such as `[\"api.example.org\"]`";
    match value.get_ref() {
        DeValue::Boolean(true) => Some(Scope::All),
        DeValue::Boolean(false) => {
            let message = "a grant cannot be `false`";
            root.note(
                value.span(),
                message,
                "remove the line: what is not granted is denied",
            );
            None
        }
        DeValue::Array(items) if !items.is_empty() => {
            let entries = items.iter().filter_map(|item| root.as_text("scope", item));
            Some(Scope::Only(
                entries.map(|entry| entry.get_ref().to_string()).collect(),
            ))
        }
        DeValue::Array(_) => {
            root.note(
                value.span(),
                "an empty list grants nothing",
                "remove the line",
            );
            None
        }
        _ => {
            root.note(value.span(), "a grant is `true` or a list of strings", hint);
            None
        }
    }
}

fn check_scope(
    root: &Table<'_, '_>,
    capability: Capability,
    scope: &Scope,
    value: &Spanned<DeValue<'_>>,
) {
    if capability.scope_of().is_none() && matches!(scope, Scope::Only(_)) {
        root.note(
            value.span(),
            format!("the capability `{capability}` has no scope"),
            format!("write `{capability} = true`"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[plugin.\"acme.fetch\"]\nnetwork = [\"api.example.org\", 'a\"b']\n\n\
                        [plugin.redact]\nstream_io = true\nkv = true\n";

    fn parse(text: &str) -> Result<GrantsFile, ManifestError> {
        GrantsFile::parse(text, Path::new("grants.toml"))
    }

    #[test]
    fn grants_are_written_as_they_are_read() {
        let grants = parse(TEXT).unwrap();
        assert_eq!(grants.to_toml(), TEXT);
    }

    #[test]
    fn scopes_of_two_files_add_up() {
        let mut grants = parse(TEXT).unwrap();
        grants
            .merge(parse("[plugin]\n\"acme.fetch\".network = [\"b\"]\nredact.kv = true").unwrap());
        let fetch = grants.of(&"acme.fetch".parse().unwrap()).unwrap();
        let expected = ["api.example.org", "a\"b", "b"].map(str::to_owned).to_vec();
        assert_eq!(
            fetch.scope(Capability::Network),
            Some(&Scope::Only(expected))
        );
        assert_eq!(fetch.scope(Capability::Kv), None);
    }

    #[test]
    fn what_is_no_grant_is_refused_with_its_place() {
        let error = parse(
            "[plugin.a]\nkv = false\nevents = [\"x\"]\nnetwrk = true\nprocess = 1\nblob = []\n\
             [plugin.b.c]\nkv = true\n",
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "grants.toml:2:6: a grant cannot be `false`\n  \
             hint: remove the line: what is not granted is denied\n\
             grants.toml:3:10: the capability `events` has no scope\n  \
             hint: write `events = true`\n\
             grants.toml:4:1: unknown capability `netwrk`\n  \
             hint: did you mean `network`?\n\
             grants.toml:5:11: a grant is `true` or a list of strings\n  \
             hint: write `true` for all of it, or a list such as `[\"api.example.org\"]`\n\
             grants.toml:6:8: an empty list grants nothing\n  \
             hint: remove the line\n\
             grants.toml:7:11: `c` is a table, not a grant\n  \
             hint: put an id that contains dots in quotes: `[plugin.\"acme.redact\"]`"
        );
    }
}
