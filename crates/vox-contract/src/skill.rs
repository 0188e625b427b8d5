//! `SKILL.md`: text that teaches an agent to do something, in the convention of agent skills.
//!
//! The file opens with a front matter between two lines `---`, and the rest is the text. Of YAML
//! the front matter uses a small part: `key: value` with plain or quoted text, and lists either as
//! `[a, b]` or as lines that begin with `-`. What is more than that is refused, so that no reader
//! of the file can understand it differently.

mod front_matter;

use std::path::Path;

use serde::Serialize;

use self::front_matter::FrontMatter;
use crate::{ManifestError, SkillName, document::read_text, error::invalid};

/// The longest description allowed, in characters; agents read the descriptions of all skills.
pub const MAX_DESCRIPTION_CHARS: usize = 1024;

/// A skill for agents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Skill {
    /// The skill's name.
    pub name: SkillName,
    /// What it does and when to use it. Agents choose by this.
    pub description: String,
    /// The tools that the text speaks of: verbs, runners, services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// The text, Markdown.
    pub body: String,
}

impl Skill {
    const KEYS: &[&str] = &["name", "description", "tools"];

    /// Reads a skill. `file` is named in errors and not opened.
    ///
    /// # Errors
    /// [`ManifestError::Invalid`] with all that is wrong.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ManifestError> {
        let mut front = FrontMatter::read(text);
        front.refuse_keys_other_than(Self::KEYS);
        let skill = skill(&mut front);
        match skill {
            Some(skill) if front.findings.is_empty() => Ok(skill),
            _ => Err(invalid(file, text, front.findings)),
        }
    }

    /// Reads the skill in `file`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and [`ManifestError::Unreadable`].
    pub fn load(file: &Path) -> Result<Self, ManifestError> {
        Self::parse(&read_text(file)?, file)
    }
}

/// The skill; none only when the reason is noted.
fn skill(front: &mut FrontMatter<'_>) -> Option<Skill> {
    let name = front.required_text("name").and_then(|name| {
        SkillName::new(&name.value)
            .map_err(|error| front.note(name.span, error.to_string(), error.hint()))
            .ok()
    });
    let description = front.required_text("description");
    if let Some(description) = &description
        && !(1..=MAX_DESCRIPTION_CHARS).contains(&description.value.chars().count())
    {
        let message = "the description is empty or longer than 1024 characters";
        front.note(
            description.span.clone(),
            message,
            "say what it does and when to use it",
        );
    }
    let mut tools: Vec<String> = Vec::new();
    for tool in front.list("tools") {
        if tool.value.is_empty() || tool.value.contains(char::is_whitespace) {
            let message = format!("`{}` is not the name of a tool", tool.value.escape_debug());
            front.note(
                tool.span,
                message,
                "write one name for each item, without white space",
            );
        } else if tools.contains(&tool.value) {
            let message = format!("`{}` stands twice in `tools`", tool.value.escape_debug());
            front.note(tool.span, message, "remove one of them");
        } else {
            tools.push(tool.value);
        }
    }
    Some(Skill {
        name: name?,
        description: description?.value,
        tools,
        body: front.body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Skill, String> {
        Skill::parse(text, Path::new("SKILL.md")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_skill_is_front_matter_and_text() {
        let expected = Skill {
            name: "count-words".parse().unwrap(),
            description: "Counts words: \"how long is this?\"".into(),
            tools: vec!["wordstat".into(), "exec".into()],
            body: "# Counting\n\n---\nUse wordstat.\n".into(),
        };
        let inline = "---\nname: count-words # kebab\n\
                      description: \"Counts words: \\\"how long is this?\\\"\"\n\
                      tools: [wordstat, 'exec']\n---\n\n# Counting\n\n---\nUse wordstat.\n";
        let block = "---\r\n# A comment\r\nname: 'count-words'\r\n\r\ntools:\r\n- wordstat\r\n\
                     - exec # runs\r\n\
                     description: 'Counts words: \"how long is this?\"'\r\n---\r\n\
                     # Counting\n\n---\nUse wordstat.\n";
        assert_eq!(parse(inline), Ok(expected.clone()));
        assert_eq!(parse(block), Ok(expected));
    }

    #[test]
    fn a_file_without_front_matter_is_refused() {
        for text in [
            "",
            "# Title\n",
            "--- \nname: x\n",
            "---\n",
            " ---\nname: x\n---\n",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("front matter"), "{text:?}: {error}");
        }
    }

    #[test]
    fn every_fault_of_a_front_matter_is_refused_with_its_place() {
        let text = "---\nname: Count Words\ndescription: >\n  folded\ntool: [x]\n\
                    tools: [a, \"b c\", a\nname: again\n---\n";
        assert_eq!(
            parse(text).unwrap_err(),
            "SKILL.md:2:7: skill name `Count Words` contains white space\n  \
             hint: write `count-words`: lower-case letters, digits and single `-` between them, \
             starting with a letter\n\
             SKILL.md:3:14: this needs more of YAML than a skill may use\n  \
             hint: put the text in quotes, on one line\n\
             SKILL.md:4:3: this line is neither `key: value` nor `- item`\n  \
             hint: write each value on one line\n\
             SKILL.md:5:1: unknown key `tool`\n  \
             hint: did you mean `tools`?\n\
             SKILL.md:6:8: the list is not closed\n  \
             hint: write it on one line, such as `[one, two]`\n\
             SKILL.md:7:1: `name` stands twice\n  \
             hint: remove one of them"
        );
        assert_eq!(
            parse("---\nname: [a]\ntools: [a b, \"\", c, c]\n---\n").unwrap_err(),
            "SKILL.md:1:1: `description` is missing\n  \
             hint: add `description: …` to the front matter\n\
             SKILL.md:2:7: `name` must be text, not a list\n  \
             hint: write `name: text`\n\
             SKILL.md:3:9: `a b` is not the name of a tool\n  \
             hint: write one name for each item, without white space\n\
             SKILL.md:3:14: `` is not the name of a tool\n  \
             hint: write one name for each item, without white space\n\
             SKILL.md:3:21: `c` stands twice in `tools`\n  \
             hint: remove one of them"
        );
    }

    #[test]
    fn what_yaml_would_read_differently_is_refused() {
        let no_list = "this item belongs to no list";
        let more = "needs more of YAML";
        for (tools, fault) in [
            ("tools: [a]\n- b", no_list),
            ("tools:\n- a\n  - b", no_list),
            ("- a", no_list),
            ("tools:\n\t- a", "neither `key: value` nor `- item`"),
            ("tools: [true]", more),
            ("tools: [1.5]", more),
            ("tools: [a: b]", more),
            ("tools: [[a]]", more),
            ("tools:\n- &x a", more),
            ("tools: \"a\"b\"", more),
            ("tools: \"\\x41\"", more),
        ] {
            let error =
                parse(&format!("---\nname: a\ndescription: d\n{tools}\n---\n")).unwrap_err();
            assert!(error.contains(fault), "{tools:?}: {error}");
        }
    }
}
