//! What the key of a result is made of.
//!
//! | part | is |
//! |---|---|
//! | `runner`, `plugin` | the name that the step writes, and the plugin that serves it |
//! | `code` | the hash of the payload that carries it out |
//! | `arguments` | the step's arguments |
//! | `config` | the hash of the plugin's configuration |
//! | `calls.PLUGIN` | a plugin that a runner of Vox's own calls, with its code |
//! | `env.NAME` | a variable of the step, or the hash of one that the user gave the run |
//! | `secret.NAME` | only that there is one: its value makes no difference |
//! | `input.NAME` | the hash of a file, or of a directory with all below it |
//! | `stream.NAME` | the port that it comes from, and the stages on its way with their code |
//! | `output.NAME` | where it is made |
//! | `hook.PLUGIN` | a hook with its code, where hooks may change what flows through streams |
//!
//! The step's own key and label are not among them: a step that is only called otherwise has the same
//! result. Nor is what native runners inherit of the machine, such as `PATH`: a result of theirs is kept
//! only by the plan's word. A component inherits nothing.

use std::collections::BTreeMap;
use std::fmt;

use vox_crypto::canonical;

use super::VERSION;

/// The parts of a step's key, by name.
pub type Parts = BTreeMap<String, String>;

/// The key of a result: the BLAKE3 hash of its parts, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// A key with the parts of each step of its group.
pub(crate) type Keyed = (Key, Vec<Parts>);

impl Key {
    /// The key of a group whose steps have these parts.
    ///
    /// # Errors
    ///
    /// The parts cannot be encoded.
    pub fn of(parts: &[Parts]) -> Result<Self, canonical::Error> {
        let encoded = canonical::encode(&("vox.run.result", VERSION, parts))?;
        Ok(Self(vox_crypto::hash(&encoded).to_hex()))
    }

    /// In hexadecimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part in which two keys differ.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Its name.
    pub part: String,
    /// What it was; none when it was not there.
    pub before: Option<String>,
    /// What it is; none when it is gone.
    pub now: Option<String>,
}

/// The parts in which `now` differs from `before`.
pub fn differences(before: &Parts, now: &Parts) -> Vec<Difference> {
    let mut names: Vec<&String> = before.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| before.get(*name) != now.get(*name))
        .map(|name| Difference {
            part: name.clone(),
            before: before.get(name).cloned(),
            now: now.get(name).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(list: &[(&str, &str)]) -> Parts {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        list.iter().map(pair).collect()
    }

    #[test]
    fn a_key_follows_from_its_parts_alone() {
        let one = [parts(&[("a", "1"), ("b", "2")])];
        let same = [parts(&[("b", "2"), ("a", "1")])];
        assert_eq!(Key::of(&one).unwrap(), Key::of(&same).unwrap());
        let other = [parts(&[("a", "12"), ("b", "")])];
        assert_ne!(Key::of(&one).unwrap(), Key::of(&other).unwrap());
        assert_eq!(Key::of(&one).unwrap().as_str().len(), 64);
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let told = differences(
            &parts(&[("a", "1"), ("b", "2"), ("c", "3")]),
            &parts(&[("a", "1"), ("b", "x"), ("d", "4")]),
        );
        let told: Vec<_> = told
            .iter()
            .map(|d| (d.part.as_str(), d.before.as_deref(), d.now.as_deref()))
            .collect();
        assert_eq!(
            told,
            [
                ("b", Some("2"), Some("x")),
                ("c", Some("3"), None),
                ("d", None, Some("4"))
            ]
        );
    }
}
