//! `grants.toml`: what the user allowed each plugin.
//!
//! ```toml
//! [plugin.redact]
//! stream_io = true
//! network = ["api.example.org"]
//! ```
//!
//! What is not written is not granted; there is no way to write a refusal. A project's Vox.toml
//! writes grants in the same words, which count once the user has allowed them: `project` has both
//! halves of that.

mod project;
mod schema;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write as _,
    path::Path,
};

use toml::{Spanned, de::DeValue};

use crate::{
    Capability, ManifestError, PluginId, check_entry,
    document::{Document, Table, read_text},
};

/// How much of a capability is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    All,
    /// Only these paths, hosts, plugin ids, topics or programs. Never empty in a [`Grants`].
    Only(Vec<String>),
    /// Up to this many at the same time, of a capability that is counted. Never 0 in a [`Grants`].
    AtMost(u32),
}

impl Scope {
    /// The scope that `words` name, as a manifest lists them and a command line writes one: all
    /// for no words. None when the capability is counted and they are not one number above 0.
    pub fn from_words(capability: Capability, words: &[String]) -> Option<Self> {
        match words {
            [] => Some(Self::All),
            [word] if capability.is_counted() => match word.parse() {
                Ok(0) | Err(_) => None,
                Ok(count) => Some(Self::AtMost(count)),
            },
            _ if capability.is_counted() => None,
            words => Some(Self::Only(words.to_vec())),
        }
    }

    /// The words that name this scope; none for all.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::All => Vec::new(),
            Self::Only(words) => words.clone(),
            Self::AtMost(count) => vec![count.to_string()],
        }
    }

    fn is_nothing(&self) -> bool {
        match self {
            Self::All => false,
            Self::Only(entries) => entries.is_empty(),
            Self::AtMost(count) => *count == 0,
        }
    }
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

    /// Grants more. Scopes add up, of two numbers the larger counts; an empty scope grants nothing.
    pub fn add(&mut self, grant: Grant) {
        let Grant { capability, scope } = grant;
        if scope.is_nothing() {
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
                (Scope::AtMost(had), Scope::AtMost(more)) => *had = more.max(*had),
                // Only one of the two forms fits a capability, and no file is read that has the
                // other.
                (Scope::Only(_), Scope::AtMost(_)) | (Scope::AtMost(_), Scope::Only(_)) => {}
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
    projects: project::Projects,
}

impl GrantsFile {
    const KEYS: &[&str] = &["plugin", "project"];

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
                if let Some(id) = id
                    && !grants.is_empty()
                {
                    plugins.insert(id, grants);
                }
            }
            Some(Self {
                plugins,
                projects: project::read(root),
            })
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

    /// Adds all that `other` grants to plugins. What it allows projects is left out: that counts
    /// in the user's own file alone.
    pub fn merge(&mut self, other: Self) {
        for (plugin, grants) in other.plugins {
            let all = self.plugins.entry(plugin).or_default();
            grants
                .0
                .into_iter()
                .for_each(|(capability, scope)| all.add(Grant { capability, scope }));
        }
    }

    /// Every plugin that is granted something, in the order of the ids; also one that was emptied by
    /// [`of_mut`](Self::of_mut).
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
                    Scope::AtMost(count) => i64::from(*count).into(),
                };
                let _ = writeln!(text, "{capability} = {value}");
            }
        }
        project::write(&self.projects, &mut text);
        text
    }
}

impl FromIterator<(PluginId, Grants)> for GrantsFile {
    fn from_iter<I: IntoIterator<Item = (PluginId, Grants)>>(grants: I) -> Self {
        Self {
            plugins: grants.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// Reads the grants of one plugin.
pub(crate) fn grants(root: &Table<'_, '_>, value: &Spanned<DeValue<'_>>) -> Grants {
    let mut grants = Grants::none();
    let DeValue::Table(entries) = value.get_ref() else {
        root.note(
            value.span(),
            "the grants of a plugin must be a table",
            "write a table with `kv = true` in it",
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
        DeValue::Integer(_) => match root.integer("grant", value)? {
            0 => {
                root.note(value.span(), "0 grants nothing", "remove the line");
                None
            }
            count => Some(Scope::AtMost(count)),
        },
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
    if let Scope::Only(entries) = scope {
        for error in entries
            .iter()
            .filter_map(|entry| check_entry(capability, entry).err())
        {
            root.note(value.span(), error.to_string(), error.hint());
        }
    }
    let (fault, instead) = match (capability.scope_of(), scope) {
        (_, Scope::All) => return,
        (None, _) => ("has no scope".to_owned(), "true"),
        (Some(_), Scope::Only(_)) if capability.is_counted() => {
            ("is granted by number".to_owned(), "3")
        }
        (Some(of), Scope::AtMost(_)) if !capability.is_counted() => (
            format!("is not granted by number: an entry of its scope is {of}"),
            "[\"…\"]",
        ),
        _ => return,
    };
    root.note(
        value.span(),
        format!("the capability `{capability}` {fault}"),
        format!("write `{capability} = {instead}`"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[plugin.\"acme.fetch\"]\ntopics = [\"api.example.org\", 'a\"b']\n\n\
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
    fn a_table_that_grants_nothing_is_as_good_as_none() {
        let grants = parse("[plugin.redact]\n").unwrap();
        assert_eq!(grants, GrantsFile::default());
        assert_eq!(parse(&grants.to_toml()).unwrap(), grants);
    }

    #[test]
    fn scopes_of_two_files_add_up() {
        let mut grants = parse(TEXT).unwrap();
        grants.merge(parse("[plugin]\n\"acme.fetch\".topics = [\"b\"]\nredact.kv = true").unwrap());
        let fetch = grants.of(&"acme.fetch".parse().unwrap()).unwrap();
        let expected = ["api.example.org", "a\"b", "b"].map(str::to_owned).to_vec();
        assert_eq!(
            fetch.scope(Capability::Topics),
            Some(&Scope::Only(expected))
        );
        assert_eq!(fetch.scope(Capability::Kv), None);
    }

    #[test]
    fn what_is_no_grant_is_refused_with_its_place() {
        let error = parse(
            "[plugin.a]\nkv = false\nevents = [\"x\"]\nnetwrk = true\nprocess = 1.5\nblob = []\n\
             [plugin.b.c]\nkv = true\n[plugin.d]\nnetwork = [\"a.org\", \"127.1\"]\n",
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
             hint: put an id that contains dots in quotes: `[plugin.\"acme.redact\"]`\n\
             grants.toml:10:11: the host `127.1` is an address in an odd notation\n  \
             hint: write all four numbers in decimal, such as `127.0.0.1`"
        );
    }

    #[test]
    fn agents_are_granted_by_number_of_which_the_larger_counts() {
        let mut grants = parse("[plugin.a]\nagent_spawn = 3\n").unwrap();
        assert_eq!(grants.to_toml(), "[plugin.a]\nagent_spawn = 3\n");
        for (more, counts) in [(2, 3), (7, 7), (0, 7)] {
            grants.of_mut(&"a".parse().unwrap()).add(Grant {
                capability: Capability::AgentSpawn,
                scope: Scope::AtMost(more),
            });
            let all = grants.of(&"a".parse().unwrap()).unwrap();
            let scope = all.scope(Capability::AgentSpawn);
            assert_eq!(scope, Some(&Scope::AtMost(counts)), "{more}");
        }
        let words = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Scope::from_words(Capability::AgentSpawn, &words)
        };
        assert_eq!(words(&["3"]), Some(Scope::AtMost(3)));
        assert_eq!(words(&[]), Some(Scope::All));
        for wrong in [
            &["0"][..],
            &["-1"],
            &["three"],
            &["1", "2"],
            &["4294967296"],
        ] {
            assert_eq!(words(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_number_stands_only_where_something_is_counted() {
        let error = parse(
            "[plugin.a]\nagent_spawn = [\"b\"]\nnetwork = 3\nkv = 1\n[plugin.b]\n\
             agent_spawn = 0\n[plugin.c]\nagent_spawn = -1\n",
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "grants.toml:2:15: the capability `agent_spawn` is granted by number\n  \
             hint: write `agent_spawn = 3`\n\
             grants.toml:3:11: the capability `network` is not granted by number: an entry of its \
             scope is a host, with a port where only one is meant\n  \
             hint: write `network = [\"…\"]`\n\
             grants.toml:4:6: the capability `kv` has no scope\n  \
             hint: write `kv = true`\n\
             grants.toml:6:15: 0 grants nothing\n  hint: remove the line\n\
             grants.toml:8:15: `grant` cannot be -1: it is out of range"
        );
    }
}
