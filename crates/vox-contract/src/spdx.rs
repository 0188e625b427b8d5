//! The grammar of SPDX license expressions (SPDX specification 2.3, annex D).
//!
//! Whether an id is on SPDX's list is not checked: the list grows, and a host does not age with it.

/// Checks the grammar; the error completes "is not a license expression: ".
pub(crate) fn check(expression: &str) -> Result<(), String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ");
    let mut depth = 0_usize;
    let mut wants_operand = true;
    let mut last = "";
    for word in spaced.split_whitespace() {
        match word {
            "(" if wants_operand => depth += 1,
            ")" if !wants_operand && depth > 0 => depth -= 1,
            "AND" | "OR" | "WITH" if !wants_operand => wants_operand = true,
            "(" | ")" | "AND" | "OR" | "WITH" => return Err(format!("`{word}` is out of place")),
            id if wants_operand && is_id(id) => wants_operand = false,
            id if wants_operand => return Err(format!("`{}` is no license id", id.escape_debug())),
            id => {
                return Err(format!(
                    "AND or OR is missing between `{last}` and `{}`",
                    id.escape_debug()
                ));
            }
        }
        last = word;
    }
    match (wants_operand, depth) {
        (false, 0) => Ok(()),
        (false, _) => Err("a parenthesis is not closed".into()),
        (true, _) if last.is_empty() => Err("it is empty".into()),
        (true, _) => Err(format!("nothing follows `{last}`")),
    }
}

fn is_id(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_the_specification_are_accepted() {
        for text in [
            "MIT",
            "Apache-2.0 OR MIT",
            "LGPL-2.1-only AND (MIT OR BSD-3-Clause)",
            "GPL-2.0-or-later WITH Bison-exception-2.2",
            "LicenseRef-23",
            "GPL-2.0+",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let fault = |text| check(text).unwrap_err();
        assert_eq!(fault(""), "it is empty");
        assert_eq!(fault("MIT/Apache-2.0"), "`MIT/Apache-2.0` is no license id");
        assert_eq!(
            fault("MIT Apache-2.0"),
            "AND or OR is missing between `MIT` and `Apache-2.0`"
        );
        assert_eq!(fault("MIT OR"), "nothing follows `OR`");
        assert_eq!(fault("(MIT"), "a parenthesis is not closed");
        assert_eq!(fault("MIT)"), "`)` is out of place");
        assert_eq!(fault("OR MIT"), "`OR` is out of place");
    }
}
