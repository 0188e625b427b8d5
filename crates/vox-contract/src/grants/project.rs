//! Grants that a project's Vox.toml writes, and the user's allowance for them.
//!
//! A Vox.toml comes with a repository that somebody else wrote, so what it grants counts for
//! nothing until the user has seen it and allowed it. The allowance stands in the user's own
//! `grants.toml`, as the project's directory with the digest of what was seen:
//!
//! ```toml
//! [project."/home/ada/work"]
//! grants = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
//! ```
//!
//! What must stay true: two sets of grants that allow different things have different canonical
//! texts, so that whatever is changed is asked for anew; how the file is laid out does not matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use toml::Spanned;

use super::{GrantsFile, Scope};
use crate::document::Table;

/// Opens every canonical text, so that its digest is not that of anything else.
const CANONICAL_HEAD: &str = "vox project grants 1";

/// The directories of projects with the digests of the grants that the user allowed there.
pub(super) type Projects = BTreeMap<String, String>;

/// Keys of a project's table.
const KEYS: &[&str] = &["grants"];

impl GrantsFile {
    /// The digest of the grants that the user allowed the project in `directory`; none when the
    /// user allowed it nothing.
    pub fn project(&self, directory: &str) -> Option<&str> {
        self.projects.get(directory).map(String::as_str)
    }

    /// Allows the project in `directory` the grants with this digest, instead of those before.
    pub fn allow_project(&mut self, directory: &str, digest: &str) {
        self.projects.insert(directory.into(), digest.into());
    }

    /// Takes the allowance of the project in `directory` back; false when there was none.
    pub fn forget_project(&mut self, directory: &str) -> bool {
        self.projects.remove(directory).is_some()
    }

    /// The text that a digest of these grants is made over: the same for grants that allow the
    /// same, however they were written.
    ///
    /// ```
    /// use std::path::Path;
    /// use vox_contract::Settings;
    ///
    /// let text = "[plugin.b.grants]\nnetwork = [\"z\", \"a\", \"z\"]\n[plugin.a.grants]\nkv = true";
    /// let settings = Settings::parse(text, Path::new("Vox.toml"))?;
    /// assert_eq!(
    ///     settings.grants().canonical_text(),
    ///     "vox project grants 1\n[plugin.a]\nkv = true\n[plugin.b]\nnetwork = [\"a\", \"z\"]\n"
    /// );
    /// # Ok::<(), vox_contract::ManifestError>(())
    /// ```
    pub fn canonical_text(&self) -> String {
        let mut text = format!("{CANONICAL_HEAD}\n");
        for (plugin, grants) in self.iter().filter(|(_, grants)| !grants.is_empty()) {
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "[plugin.{}]", plugin.toml_key());
            for (capability, scope) in grants.iter() {
                let _ = writeln!(text, "{capability} = {}", canonical_scope(scope));
            }
        }
        text
    }
}

fn canonical_scope(scope: &Scope) -> String {
    match scope {
        Scope::All => "true".to_owned(),
        Scope::AtMost(count) => count.to_string(),
        Scope::Only(entries) => {
            let entries: BTreeSet<String> =
                entries.iter().map(|entry| basic_string(entry)).collect();
            let entries: Vec<String> = entries.into_iter().collect();
            format!("[{}]", entries.join(", "))
        }
    }
}

/// Reads the tables of projects.
pub(super) fn read(root: &Table<'_, '_>) -> Projects {
    let mut projects = Projects::new();
    for (directory, value) in root.members("project") {
        let Some(table) = root.as_table("project", value, KEYS) else {
            continue;
        };
        let digest = table.required("grants", table.text("grants"), "grants = \"blake3:…\"");
        if let Some(digest) = digest.and_then(|text| digest_of(&table, text)) {
            projects.insert(directory.into_inner().to_owned(), digest);
        }
    }
    projects
}

/// Appends the tables of projects to a file's text.
pub(super) fn write(projects: &Projects, text: &mut String) {
    for (directory, digest) in projects {
        if !text.is_empty() {
            text.push('\n');
        }
        let (directory, digest) = (basic_string(directory), basic_string(digest));
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "[project.{directory}]\ngrants = {digest}");
    }
}

/// `<algorithm>:<hex>`; that it is the digest of anything is found out when it is compared.
fn digest_of(table: &Table<'_, '_>, text: Spanned<&str>) -> Option<String> {
    let written = *text.get_ref();
    let valid = written.split_once(':').is_some_and(|(algorithm, hex)| {
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        !algorithm.is_empty()
            && algorithm.bytes().all(lower)
            && hex.len() >= 32
            && hex
                .bytes()
                .all(|byte| lower(byte) && byte.is_ascii_hexdigit())
    });
    if !valid {
        table.note(
            text.span(),
            format!("`{}` is not a digest", written.escape_debug()),
            "remove this table, and allow the project's grants anew: `vox plugin grant --project`",
        );
        return None;
    }
    Some(written.to_owned())
}

/// Text as a TOML string of one line between double quotes.
fn basic_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a `String` cannot fail.
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{ManifestError, Settings};

    const DIGEST: &str = "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";

    fn parse(text: &str) -> Result<GrantsFile, ManifestError> {
        GrantsFile::parse(text, Path::new("grants.toml"))
    }

    fn canonical(text: &str) -> String {
        let settings = Settings::parse(text, Path::new("Vox.toml")).unwrap();
        settings.grants().canonical_text()
    }

    #[test]
    fn allowances_are_written_as_they_are_read_whatever_the_directory_is_called() {
        let mut grants = GrantsFile::default();
        let directories = ["/work", "C:\\work", "/a \"b\"", "/a\nb\u{7f}", "/é.d/'x'"];
        for directory in directories {
            grants.allow_project(directory, DIGEST);
        }
        let read = parse(&grants.to_toml()).unwrap();
        assert_eq!(read, grants, "{}", grants.to_toml());
        assert_eq!(read.project("C:\\work"), Some(DIGEST));
        assert!(grants.forget_project("/work") && !grants.forget_project("/work"));
        assert_eq!(grants.project("/work"), None);
    }

    #[test]
    fn another_files_allowances_are_not_merged() {
        let mut grants = GrantsFile::default();
        let mut other = GrantsFile::default();
        other.allow_project("/work", DIGEST);
        grants.merge(other);
        assert_eq!(grants.project("/work"), None);
    }

    #[test]
    fn the_canonical_text_does_not_depend_on_how_the_grants_are_written() {
        let one = "[plugin.a.grants]\nnetwork = [\"x\", \"y\"]\nkv = true\n[plugin.b]\nweight = 2";
        let other = "[plugin]\na = { grants = { kv = true, network = [\"y\", 'x', \"x\"] } }";
        assert_eq!(canonical(one), canonical(other));
    }

    #[test]
    fn the_canonical_text_changes_with_whatever_is_granted() {
        let texts = [
            "",
            "[plugin.a.grants]\nkv = true",
            "[plugin.b.grants]\nkv = true",
            "[plugin.a.grants]\nblob = true",
            "[plugin.a.grants]\nnetwork = true",
            "[plugin.a.grants]\nnetwork = [\"a\"]",
            "[plugin.a.grants]\nnetwork = [\"a\", \"b\"]",
            "[plugin.a.grants]\nfile_read = [\"/a\"]",
            "[plugin.a.grants]\nfile_read = [\"/a\", \"/b\"]",
            "[plugin.a.grants]\nfile_read = [\"/a\\\", \\\"/b\"]",
            "[plugin.a.grants]\nfile_read = [\"/a\\\"], kv = true #\"]",
            "[plugin.a.grants]\nagent_spawn = 1",
            "[plugin.a.grants]\nagent_spawn = 2",
            "[plugin.\"a.b\".grants]\nkv = true",
        ];
        let all: BTreeSet<String> = texts.map(canonical).into();
        assert_eq!(all.len(), texts.len(), "{all:#?}");
    }

    #[test]
    fn what_is_no_allowance_is_refused_with_its_place() {
        let error = parse("[project.\"/a\"]\n[project.\"/b\"]\ngrants = \"yes\"\nkv = true\n");
        assert_eq!(
            error.unwrap_err().to_string(),
            "grants.toml:1:1: `grants` is missing in `project`\n  \
             hint: add `grants = \"blake3:…\"`\n\
             grants.toml:3:10: `yes` is not a digest\n  \
             hint: remove this table, and allow the project's grants anew: \
             `vox plugin grant --project`\n\
             grants.toml:4:1: unknown key `kv` in `project`\n  hint: use one of `grants`"
        );
    }
}
