//! The skills that plugins bring: text that teaches an agent to do something.
//!
//! Skills are read when somebody asks for them, never at the start of a host. One that cannot be
//! read is left out and reported; the others are served.

use std::cmp::Reverse;
use std::path::PathBuf;

use semver::Version;
use vox_contract::{PluginId, Skill};

use crate::inventory::Finding;
use crate::resolution::Selection;

/// A skill, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkillEntry {
    /// The plugin that brings it.
    pub plugin: PluginId,
    /// The plugin's version.
    pub version: Version,
    /// The `SKILL.md`.
    pub path: PathBuf,
    /// What it says.
    pub skill: Skill,
}

/// The skills of the selected plugins, by the plugins' ids, and those that cannot be read.
pub fn skills(selection: &Selection) -> (Vec<SkillEntry>, Vec<Finding>) {
    let mut skills = Vec::new();
    let mut findings = Vec::new();
    for plugin in selection.iter() {
        let Some(path) = plugin.skill.clone() else {
            continue;
        };
        let (id, version) = (plugin.id().clone(), plugin.version().clone());
        match Skill::load(&path) {
            Ok(skill) => skills.push(SkillEntry {
                plugin: id,
                version,
                path,
                skill,
            }),
            Err(error) => findings.push(Finding::Skill { plugin: id, error }),
        }
    }
    (skills, findings)
}

/// The skills that all `words` occur in, the best first.
///
/// A word counts most as the skill's name or its plugin's id, then as a part of its name or one of
/// its tools, then in the description, then in the text; case is ignored. With no words, all skills
/// are answered in their order.
pub fn search<'a>(skills: &'a [SkillEntry], words: &str) -> Vec<&'a SkillEntry> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    let mut ranked: Vec<(Reverse<u32>, &SkillEntry)> = skills
        .iter()
        .filter_map(|entry| {
            let weights: Option<Vec<u32>> = words.iter().map(|word| weight(entry, word)).collect();
            Some((Reverse(weights?.iter().sum()), entry))
        })
        .collect();
    ranked.sort_by_key(|(weight, _)| *weight);
    ranked.into_iter().map(|(_, entry)| entry).collect()
}

/// How well one word fits; `None` when it does not.
fn weight(entry: &SkillEntry, word: &str) -> Option<u32> {
    let SkillEntry { plugin, skill, .. } = entry;
    let within = |text: &str| text.to_lowercase().contains(word);
    if skill.name == *word || plugin == word {
        Some(8)
    } else if within(skill.name.as_str()) || skill.tools.iter().any(|tool| within(tool)) {
        Some(4)
    } else if within(&skill.description) || within(plugin.as_str()) {
        Some(2)
    } else {
        within(&skill.body).then_some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(plugin: &str, name: &str, description: &str, body: &str) -> SkillEntry {
        let text = format!("---\nname: {name}\ndescription: {description}\n---\n{body}\n");
        SkillEntry {
            plugin: plugin.parse().unwrap(),
            version: Version::new(0, 1, 0),
            path: "SKILL.md".into(),
            skill: Skill::parse(&text, "SKILL.md".as_ref()).unwrap(),
        }
    }

    #[test]
    fn skills_that_fit_every_word_are_found_best_first() {
        let skills = [
            entry("a", "write-reports", "Writes about what words mean", "…"),
            entry(
                "b",
                "count-words",
                "Counts words in a text",
                "Use wordstat.",
            ),
            entry("c", "mail", "Sends mail", "Mind your words."),
        ];
        let found = |words: &str| -> Vec<&str> {
            search(&skills, words)
                .iter()
                .map(|entry| entry.plugin.as_str())
                .collect()
        };
        assert_eq!(found("words"), ["b", "a", "c"]);
        assert_eq!(found("WORDS counts"), ["b"]);
        assert_eq!(found("nowhere"), [""; 0]);
        assert_eq!(found(""), ["a", "b", "c"]);
    }
}
