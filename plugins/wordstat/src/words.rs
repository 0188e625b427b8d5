//! Words of a text that arrives in pieces.
//!
//! A word is a run of letters and digits of any script, in lower case; an apostrophe between two of
//! them belongs to it (`don't`), anything else ends it. Bytes that are no UTF-8 end a word too.
//! What must stay true: the words are the same however the text is cut into pieces, also within a
//! character.

/// Bytes of a word that are kept. Longer words count, as what they begin with.
pub const LONGEST_WORD: usize = 128;

/// Cuts a text into words.
#[derive(Debug, Default)]
pub struct Words {
    /// The word that has begun.
    word: String,
    /// Whether an apostrophe stands behind it.
    apostrophe: bool,
    /// The beginning of a character that is not complete.
    partial: Vec<u8>,
}

impl Words {
    /// Takes the next piece and hands out the words that end in it.
    pub fn feed(&mut self, mut piece: &[u8], found: &mut impl FnMut(&str)) {
        while !self.partial.is_empty()
            && let Some((byte, rest)) = piece.split_first()
        {
            let mut partial = std::mem::take(&mut self.partial);
            partial.push(*byte);
            match std::str::from_utf8(&partial) {
                Ok(character) => {
                    self.take_text(character, found);
                    piece = rest;
                }
                Err(error) if error.error_len().is_none() => {
                    self.partial = partial;
                    piece = rest;
                }
                // The byte begins something else.
                Err(_) => self.end_word(found),
            }
        }
        for chunk in piece.utf8_chunks() {
            self.take_text(chunk.valid(), found);
            let invalid = chunk.invalid();
            if invalid.is_empty() {
                continue;
            }
            let is_last = invalid.as_ptr_range().end == piece.as_ptr_range().end;
            let is_begun =
                matches!(std::str::from_utf8(invalid), Err(error) if error.error_len().is_none());
            if is_last && is_begun {
                self.partial.extend_from_slice(invalid);
            } else {
                self.end_word(found);
            }
        }
    }

    /// Ends the text, and with it the last word.
    pub fn finish(&mut self, found: &mut impl FnMut(&str)) {
        self.partial.clear();
        self.end_word(found);
    }

    fn take_text(&mut self, text: &str, found: &mut impl FnMut(&str)) {
        for character in text.chars() {
            self.take(character, found);
        }
    }

    #[inline]
    fn take(&mut self, character: char, found: &mut impl FnMut(&str)) {
        if character.is_alphanumeric() {
            if std::mem::take(&mut self.apostrophe) {
                self.keep('\'');
            }
            if character.is_ascii() {
                self.keep(character.to_ascii_lowercase());
            } else {
                character
                    .to_lowercase()
                    .for_each(|character| self.keep(character));
            }
        } else if matches!(character, '\'' | '\u{2019}')
            && !self.word.is_empty()
            && !self.apostrophe
        {
            self.apostrophe = true;
        } else {
            self.end_word(found);
        }
    }

    #[inline]
    fn keep(&mut self, character: char) {
        if self.word.len() + character.len_utf8() <= LONGEST_WORD {
            self.word.push(character);
        }
    }

    #[inline]
    fn end_word(&mut self, found: &mut impl FnMut(&str)) {
        self.apostrophe = false;
        if !self.word.is_empty() {
            found(&self.word);
            self.word.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn words<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut words = Words::default();
        let mut all = Vec::new();
        let mut found = |word: &str| all.push(word.to_owned());
        pieces
            .into_iter()
            .for_each(|piece| words.feed(piece, &mut found));
        words.finish(&mut found);
        all
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_in_lower_case() {
        for (text, expected) in [
            (
                "Emma Woodhouse,--handsome _clever_",
                &["emma", "woodhouse", "handsome", "clever"][..],
            ),
            (
                "'Tis Don't O’Brien's dogs' a''b",
                &["tis", "don't", "o'brien's", "dogs", "a", "b"],
            ),
            ("ÀÉ 42 Straße—Привет", &["àé", "42", "straße", "привет"]),
            ("", &[]),
        ] {
            assert_eq!(words([text.as_bytes()]), expected, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_end_a_word() {
        assert_eq!(words([&b"ab\xffcd\xe2\x80ef\xc3"[..]]), ["ab", "cd", "ef"]);
        assert_eq!(words([&b"ab\xc3"[..], b"cd"]), ["ab", "cd"]);
    }

    #[test]
    fn of_a_very_long_word_the_beginning_is_kept() {
        let long = "é".repeat(LONGEST_WORD);
        assert_eq!(
            words([long.as_bytes(), b" b"]),
            ["é".repeat(LONGEST_WORD / 2), "b".into()]
        );
    }

    proptest! {
        #[test]
        fn a_word_counts_once_however_the_text_is_cut(
            text in prop_oneof![
                "[a-cé’' \u{20ac}\u{1d400}\n-]{0,60}".prop_map(String::into_bytes),
                vec(any::<u8>(), 0..60),
            ],
            size in 1..8usize,
        ) {
            let whole = words([&text[..]]);
            prop_assert_eq!(words(text.chunks(size)), whole.clone());
            prop_assert_eq!(words(text.chunks(1)), whole);
        }
    }
}
