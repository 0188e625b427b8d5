//! What the user may have meant.

/// The candidate nearest to `word`, when one is near enough to be worth suggesting: at most one
/// edit for each three characters.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Far more than any key or name; keeps the quadratic comparison from being fed a novel.
    if word.len() > 128 {
        return None;
    }
    let fold = |text: &str| text.to_lowercase().replace('_', "-");
    let wanted = fold(word);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&wanted, &fold(candidate)),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint for `word`, which is none of `known`: the nearest of them, else all of them.
pub(crate) fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "nothing is allowed here".to_owned(),
        None => {
            let quoted: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
            format!("use one of {}", quoted.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let known = ["version", "description", "kv"];
        assert_eq!(nearest("verison", known), Some("version"));
        assert_eq!(nearest("Version", known), Some("version"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("xx", known), None);
    }
}
