//! Text cut into the words within which tokens are merged, as GPT-2 cuts it.
//!
//! The expression is `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//! (`tokenizers`, `pre_tokenizers/byte_level.rs`). Letters and digits are those of the standard
//! library, whose letters are a few marks more than `\p{L}`: a word that the expression would cut
//! there is counted whole, which changes what is learnt and nothing of how it is applied.

/// The words of a text, in order; together they are the text.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (word, after) = rest.split_at_checked(length_of_first(rest))?;
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Class {
    Letter,
    Digit,
    Space,
    Other,
}

fn class(character: char) -> Class {
    if character.is_whitespace() {
        Class::Space
    } else if character.is_alphabetic() {
        Class::Letter
    } else if character.is_numeric() {
        Class::Digit
    } else {
        Class::Other
    }
}

/// Bytes of the first word.
fn length_of_first(text: &str) -> usize {
    const ENDINGS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];
    if let Some(ending) = ENDINGS.iter().find(|ending| text.starts_with(**ending)) {
        return ending.len();
    }
    let run = |text: &str, wanted: Class| {
        let end = text.find(|character| class(character) != wanted);
        end.unwrap_or(text.len())
    };
    let after_space = text.strip_prefix(' ').unwrap_or(text);
    match after_space.chars().next().map(class) {
        Some(found) if found != Class::Space => {
            text.len() - after_space.len() + run(after_space, found)
        }
        // A run of white space leaves its last character to the word after it.
        _ => {
            let spaces = run(text, Class::Space);
            let last = text[..spaces].chars().next_back().map_or(0, char::len_utf8);
            if spaces == text.len() || spaces == last {
                spaces
            } else {
                spaces - last
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_cut_as_gpt2_cuts_it() {
        // By `pre_tokenizers.ByteLevel(add_prefix_space=False)` of tokenizers 0.22.
        let cut: Vec<&str> = words("I'll say 123abc  it's\n\n  fine!! \t x  ").collect();
        assert_eq!(
            cut,
            [
                "I", "'ll", " say", " 123", "abc", " ", " it", "'s", "\n\n ", " fine", "!!", " \t",
                " x", "  "
            ]
        );
    }

    proptest! {
        #[test]
        fn words_together_are_the_text(text in ".{0,60}") {
            prop_assert_eq!(words(&text).collect::<String>(), text);
        }
    }
}
