//! What a plan's author is told to write instead.

/// A hint for `word`, which is none of `known`: the nearest of them, or some of them.
pub(crate) fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, what: &str) -> String {
    const SHOWN: usize = 12;
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(near) = vox_contract::nearest(word, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    let shown: Vec<String> = known
        .iter()
        .take(SHOWN)
        .map(|word| format!("`{word}`"))
        .collect();
    let more = if known.len() > SHOWN { ", …" } else { "" };
    format!("the {what} are {}{more}", shown.join(", "))
}
