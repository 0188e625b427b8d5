//! Names and labels as both formats allow them. Plugins are strangers: what they call their
//! measurements becomes what the grammar has room for.
//!
//! | | grammar | longest |
//! |---|---|---|
//! | a metric's name | `[a-zA-Z_][a-zA-Z0-9_]*`, without the suffixes that the formats add | 128 |
//! | a label's name | `[a-zA-Z_][a-zA-Z0-9_]*`, not beginning with `__` | 128 |
//! | a label's value, a help text | anything but control characters | 256 |

/// The longest name.
const LONGEST_NAME: usize = 128;
/// The longest value or help text, in characters.
const LONGEST_TEXT: usize = 256;
/// Suffixes by which the formats tell the parts of a metric apart.
const SUFFIXES: [&str; 4] = ["_total", "_created", "_bucket", "_info"];
/// Labels that the formats give a meaning of their own, or that say where a measurement comes from.
const TAKEN: [&str; 5] = ["le", "quantile", "plugin", "step", "port"];

/// The name of a metric family: a counter's is told with `_total` behind it.
pub fn family(name: &str) -> String {
    let mut name = identifier(name);
    while let Some(stem) = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)) {
        name = stem.to_owned();
    }
    if name.is_empty() {
        "unnamed".to_owned()
    } else {
        name
    }
}

/// The name of a label that a plugin chose.
pub fn label(name: &str) -> String {
    let name = identifier(name);
    let name = name.trim_start_matches('_');
    if name.is_empty() || TAKEN.contains(&name) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("exported_{name}");
    }
    name.to_owned()
}

/// A label's value, or a help text.
pub fn text(text: &str) -> String {
    let characters = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = characters.take(LONGEST_TEXT).collect();
    text.trim().to_owned()
}

fn identifier(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(allowed).take(LONGEST_NAME).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_what_the_grammar_has_room_for() {
        for (name, expected) in [
            ("words_total", "words"),
            ("wait_seconds", "wait_seconds"),
            ("a-b c:d", "a_b_c_d"),
            ("9lives", "_9lives"),
            ("x_total_created", "x"),
            ("_total", "unnamed"),
            ("", "unnamed"),
            ("größe", "gr__e"),
        ] {
            assert_eq!(family(name), expected, "{name}");
        }
        assert_eq!(family(&"x".repeat(1000)).len(), LONGEST_NAME);
    }

    #[test]
    fn labels_that_mean_something_already_are_renamed() {
        for (name, expected) in [
            ("kind", "kind"),
            ("__name__", "name__"),
            ("le", "exported_le"),
            ("plugin", "exported_plugin"),
            ("0", "exported_0"),
            ("", "exported_"),
        ] {
            assert_eq!(label(name), expected, "{name}");
        }
    }

    #[test]
    fn texts_are_short_and_of_one_line() {
        assert_eq!(text(" a\nb\u{1b} "), "a b");
        assert_eq!(text(&"ü".repeat(1000)).chars().count(), LONGEST_TEXT);
    }
}
