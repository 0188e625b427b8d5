//! Secrets in what a step writes.

/// What stands in the place of a secret.
pub(crate) const MASKED: &str = "[secret]";

/// The shortest text that is masked, in bytes: shorter ones would be found everywhere.
pub(crate) const SHORTEST_SECRET: usize = 4;

/// The secrets of a step.
#[derive(Clone, Default)]
pub(crate) struct Mask(Vec<String>);

impl Mask {
    /// Masks these values, and each line of one that has several.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = values.into_iter().flat_map(|value| value.lines());
        let mut masked: Vec<String> = lines
            .map(str::trim)
            .filter(|line| line.len() >= SHORTEST_SECRET)
            .map(str::to_owned)
            .collect();
        // A secret that is a part of another one must not leave the rest of it.
        masked.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        masked.dedup();
        Self(masked)
    }

    /// The text without the secrets.
    pub fn apply(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) {
                text.replace(secret.as_str(), MASKED)
            } else {
                text
            }
        })
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_with_all_of_their_lines() {
        let mask = Mask::new(["hunter22", "-----\nline one\nhunter22-long\n", "x"]);
        let masked = mask.apply("a hunter22-long b line one, x hunter22.".to_owned());
        assert_eq!(masked, "a [secret] b [secret], x [secret].");
        assert_eq!(format!("{mask:?}"), "Mask(4)");
    }
}
