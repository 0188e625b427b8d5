//! From records to examples: token ids, and which of them are learnt.
//!
//! What must stay true: the tokens of an example are those that the tokenizer makes of its whole
//! text, as it would be given at inference; and no example is longer than a row has room for.
//!
//! A row of `columns` tokens holds an example of `columns + 1`: the last is never read, it is only
//! what the one before it is to be followed by.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vox_crypto::Hasher;

use super::record::{Chat, Message, Passage, Record};
use super::template::Template;
use crate::error::{Error, LineError, LineFault, TokenizerError};

/// Makes tokens of text. It stands behind the plugin boundary, beside the model's weights.
pub trait Tokenizer {
    /// The tokens of a text. With `special` those are added that the tokenizer itself puts around a
    /// text, such as a begin token; special tokens that are written in the text become one token
    /// each, always.
    ///
    /// # Errors
    /// Whatever the tokenizer fails with.
    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError>;

    /// Number of tokens that the model has: each token is below.
    fn vocabulary(&self) -> u32;
}

/// A part of the data that is learnt as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Example {
    /// Token ids; at least two.
    pub tokens: Vec<u32>,
    /// For each token, whether it is learnt, which is to say: predicted from those before it. Nothing
    /// stands before the first, so that for it this has no meaning.
    pub learnt: Vec<bool>,
}

impl Example {
    /// The columns of a row that it takes: one less than its tokens.
    pub fn columns(&self) -> usize {
        self.tokens.len().saturating_sub(1)
    }

    /// The first 8 bytes of a BLAKE3 hash over tokens and what is learnt of them: the same for the
    /// same example, wherever it stands.
    pub fn hash(&self) -> u64 {
        let mut hasher = Hasher::new();
        for (token, learnt) in self.tokens.iter().zip(&self.learnt) {
            hasher.update(&token.to_le_bytes());
            hasher.update(&[u8::from(*learnt)]);
        }
        let digest = hasher.finish();
        let head = digest.as_bytes().first_chunk().copied();
        head.map_or(0, u64::from_le_bytes)
    }
}

/// What becomes of a conversation, or of prompt and completion, that is longer than the context.
/// Texts are cut into several examples instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overlong {
    /// It is an error that names the line, as other invalid lines are.
    #[default]
    Refuse,
    /// What does not fit is cut off at its end.
    Cut,
}

/// Makes examples of records.
#[derive(Clone, Copy)]
pub struct Encoder<'a> {
    tokenizer: &'a dyn Tokenizer,
    template: Option<&'a Template>,
    /// The token that ends a text.
    end: Option<u32>,
    columns: usize,
    overlong: Overlong,
}

impl<'a> Encoder<'a> {
    /// An encoder for rows of `columns` tokens. `end` is what the model has after a text, as it is
    /// written; without one, texts simply stop.
    ///
    /// # Errors
    /// [`Error::EndToken`] when the tokenizer doesn't know `end` as one token, [`Error::Tokenizer`].
    pub fn new(
        tokenizer: &'a dyn Tokenizer,
        template: Option<&'a Template>,
        end: Option<&str>,
        columns: usize,
        overlong: Overlong,
    ) -> Result<Self, Error> {
        let end = end.map(|token| end_token(tokenizer, token)).transpose()?;
        Ok(Self {
            tokenizer,
            template,
            end,
            columns,
            overlong,
        })
    }

    /// Adds what `record`, which stands in `file` at `line`, becomes.
    ///
    /// # Errors
    /// [`Error::Line`] for what the record is to blame for; then nothing is added.
    /// [`Error::NoTemplate`], [`Error::Vocabulary`].
    pub fn encode(
        &self,
        record: &Record,
        file: &Path,
        line: u64,
        examples: &mut Vec<Example>,
    ) -> Result<(), Error> {
        let placed = |fault| {
            let file = file.to_owned();
            Error::Line(LineError { file, line, fault })
        };
        let example = match record {
            Record::Text(passage) => {
                let tokens = self.passage(passage).map_err(placed)?;
                self.check(&tokens)?;
                if tokens.len() < 2 {
                    let reason = "its text is a single token, which follows nothing";
                    return Err(placed(LineFault::NothingToLearn { reason }));
                }
                examples.extend(pieces(&tokens, self.columns));
                return Ok(());
            }
            Record::Completion { prompt, completion } => {
                self.completion(prompt, completion).map_err(placed)?
            }
            Record::Chat(chat) => {
                let Some(template) = self.template else {
                    return Err(Error::NoTemplate { path: file.into() });
                };
                self.chat(template, chat).map_err(placed)?
            }
        };
        self.check(&example.tokens)?;
        examples.push(self.fitted(example).map_err(placed)?);
        Ok(())
    }

    fn passage(&self, passage: &Passage) -> Result<Vec<u32>, LineFault> {
        let mut tokens = self.tokens(&passage.text, passage.begins)?;
        if passage.ends {
            self.end(&mut tokens);
        }
        Ok(tokens)
    }

    /// Adds the token that ends a text, unless the tokenizer has done so.
    fn end(&self, tokens: &mut Vec<u32>) {
        if tokens.last() != self.end.as_ref() {
            tokens.extend(self.end);
        }
    }

    fn completion(&self, prompt: &str, completion: &str) -> Result<Example, LineFault> {
        let mut tokens = self.tokens(&format!("{prompt}{completion}"), true)?;
        let start = common(&tokens, &self.tokens(prompt, true)?);
        self.end(&mut tokens);
        let learnt = (0..tokens.len()).map(|at| at >= start).collect();
        Ok(Example { tokens, learnt })
    }

    /// The tokens of a conversation's text. Which of them are an answer's is found by the tokens of
    /// the text before its begin and before its end, since a tokenizer does not say from which
    /// bytes a token came: a token that lies across the begin is learnt, one across the end is not.
    fn chat(&self, template: &Template, chat: &Chat) -> Result<Example, LineFault> {
        for (message, role) in (1..).zip(chat.messages.iter().map(Message::role)) {
            if !template.knows_role(&role) {
                return Err(LineFault::Role { message, role });
            }
        }
        let rendered = template.render_with_answers(chat)?;
        let text = rendered.text.as_str();
        let tokens = self.tokens(text, false)?;
        let upto = |end: usize| match text.get(..end) {
            Some(part) if part.len() < text.len() => {
                Ok(common(&tokens, &self.tokens(part, false)?))
            }
            _ => Ok(tokens.len()),
        };
        let mut learnt = vec![false; tokens.len()];
        for answer in &rendered.answers {
            let (start, end) = (upto(answer.start)?, upto(answer.end)?);
            if let Some(answer) = learnt.get_mut(start..end) {
                answer.fill(true);
            }
        }
        Ok(Example { tokens, learnt })
    }

    /// The example as it fits into a row.
    fn fitted(&self, mut example: Example) -> Result<Example, LineFault> {
        let (tokens, room) = (example.tokens.len(), self.columns + 1);
        if tokens > room {
            match self.overlong {
                Overlong::Refuse => return Err(LineFault::Overlong { tokens, room }),
                Overlong::Cut => {
                    example.tokens.truncate(room);
                    example.learnt.truncate(room);
                }
            }
        }
        if example.learnt.iter().skip(1).any(|learnt| *learnt) {
            return Ok(example);
        }
        let reason = if tokens > room {
            "its answers stand after what the context has room for"
        } else {
            "no token of it is part of an answer"
        };
        Err(LineFault::NothingToLearn { reason })
    }

    fn tokens(&self, text: &str, special: bool) -> Result<Vec<u32>, LineFault> {
        let tokens = self.tokenizer.encode(text, special);
        tokens.map_err(|error| LineFault::Tokenizer {
            message: error.to_string(),
        })
    }

    fn check(&self, tokens: &[u32]) -> Result<(), Error> {
        let vocabulary = self.tokenizer.vocabulary();
        match tokens.iter().find(|token| **token >= vocabulary) {
            Some(token) => Err(Error::Vocabulary {
                token: *token,
                vocabulary,
            }),
            None => Ok(()),
        }
    }
}

/// The one token that `token` is.
fn end_token(tokenizer: &dyn Tokenizer, token: &str) -> Result<u32, Error> {
    let tokens = tokenizer
        .encode(token, false)
        .map_err(|source| Error::Tokenizer { source })?;
    match tokens.as_slice() {
        [end] => Ok(*end),
        tokens => Err(Error::EndToken {
            token: token.into(),
            found: tokens.len(),
        }),
    }
}

/// How many tokens two texts begin with alike.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A text in pieces that each fit into a row. Neighbours share a token, which the first is to learn
/// and the second begins with, so that each but the very first is learnt once.
fn pieces(tokens: &[u32], columns: usize) -> impl Iterator<Item = Example> + '_ {
    let columns = columns.max(1);
    let starts = (0..tokens.len().saturating_sub(1)).step_by(columns);
    starts.map(move |start| {
        let end = tokens.len().min(start + columns + 1);
        let piece = tokens[start..end].to_vec();
        Example {
            learnt: vec![true; piece.len()],
            tokens: piece,
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::template::TemplateSource;

    /// A token for each byte, words of two letters `ab` as one, `</s>` as one, and 1 before a text.
    pub(crate) struct Bytes;

    pub(crate) const BEGIN: u32 = 256;
    pub(crate) const END: u32 = 257;
    pub(crate) const AB: u32 = 258;

    impl Tokenizer for Bytes {
        fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
            if text.contains('☠') {
                return Err("a skull".into());
            }
            let mut tokens: Vec<u32> = special.then_some(BEGIN).into_iter().collect();
            let mut rest = text.as_bytes();
            while let Some((byte, after)) = rest.split_first() {
                if let Some(after) = rest.strip_prefix(b"</s>") {
                    tokens.push(END);
                    rest = after;
                } else if let Some(after) = rest.strip_prefix(b"ab") {
                    tokens.push(AB);
                    rest = after;
                } else {
                    tokens.push((*byte).into());
                    rest = after;
                }
            }
            Ok(tokens)
        }

        fn vocabulary(&self) -> u32 {
            259
        }
    }

    fn encode(record: &Record, columns: usize, overlong: Overlong) -> Result<Vec<Example>, Error> {
        let source = TemplateSource::of_text(
            "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}</s>{% endfor %}\
             {% if add_generation_prompt %}a:{% endif %}",
            &[("eos_token", "</s>")],
        );
        let template = Template::new(&source, 0)?;
        let encoder = Encoder::new(&Bytes, Some(&template), Some("</s>"), columns, overlong)?;
        let mut examples = Vec::new();
        encoder.encode(record, Path::new("a.jsonl"), 7, &mut examples)?;
        Ok(examples)
    }

    fn completion(prompt: &str, completion: &str) -> Record {
        Record::Completion {
            prompt: prompt.into(),
            completion: completion.into(),
        }
    }

    /// What is learnt, with `.` for what is not.
    fn shown(example: &Example) -> String {
        let shown = example.tokens.iter().zip(&example.learnt);
        let shown = shown.map(|(token, learnt)| match token {
            _ if !learnt => ".".to_owned(),
            &END => "$".into(),
            &AB => "ab".into(),
            token => char::from_u32(*token).unwrap().to_string(),
        });
        shown.collect()
    }

    #[test]
    fn a_text_begins_and_ends_with_its_tokens_and_all_of_it_is_learnt() {
        let record = Record::Text(Passage::whole("xyz"));
        let [example] = encode(&record, 8, Overlong::Refuse)
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!(example.tokens, [BEGIN, 120, 121, 122, END]);
        assert!(example.learnt.iter().all(|learnt| *learnt));
    }

    #[test]
    fn a_part_of_a_text_has_no_tokens_where_it_was_cut() {
        let record = Record::Text(Passage {
            text: "xyz".into(),
            begins: false,
            ends: false,
        });
        let [example] = encode(&record, 8, Overlong::Refuse)
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!(example.tokens, [120, 121, 122]);
    }

    #[test]
    fn a_completion_is_learnt_and_its_prompt_is_not() {
        let made = encode(&completion("12", "34"), 8, Overlong::Refuse).unwrap();
        assert_eq!(shown(&made[0]), "...34$");
    }

    #[test]
    fn a_token_across_prompt_and_completion_is_learnt() {
        let made = encode(&completion("1a", "b2"), 8, Overlong::Refuse).unwrap();
        assert_eq!(shown(&made[0]), "..ab2$");
    }

    #[test]
    fn a_role_that_the_template_does_not_name_is_an_error() {
        let said = [("user", "q"), ("wizard", "w"), ("assistant", "x")];
        let said = said.map(|(role, text)| Message::new(role, text));
        let chat = Chat {
            messages: said.to_vec(),
            ..Chat::default()
        };
        let error = encode(&Record::Chat(chat.clone()), 64, Overlong::Refuse).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.jsonl:7: message 2 has the role `wizard`, which the chat template does not name: \
             expected `system`, `user`, `assistant` or `tool`"
        );
        // A template may have roles of its own.
        let text = "{% for m in messages %}{% if m.role == \"wizard\" %}*{% endif %}{{ m.content }}\
                    {% endfor %}";
        let template = Template::new(&TemplateSource::of_text(text, &[]), 0).unwrap();
        let encoder = Encoder::new(&Bytes, Some(&template), None, 64, Overlong::Refuse).unwrap();
        let mut examples = Vec::new();
        let record = Record::Chat(chat);
        encoder
            .encode(&record, Path::new("a.jsonl"), 7, &mut examples)
            .unwrap();
        assert_eq!(shown(&examples[0]), "...x");
    }

    #[test]
    fn answers_are_learnt_with_their_end_and_questions_are_not() {
        let said = [
            ("user", "q"),
            ("assistant", "xy"),
            ("user", "r"),
            ("assistant", "z"),
        ];
        let chat = Chat {
            messages: said
                .iter()
                .map(|(role, text)| Message::new(role, text))
                .collect(),
            ..Chat::default()
        };
        let made = encode(&Record::Chat(chat), 64, Overlong::Refuse).unwrap();
        assert_eq!(shown(&made[0]), "......xy$......z$");
    }

    #[test]
    fn an_example_over_the_context_is_an_error_with_file_line_and_figures() {
        let error = encode(&completion("12", "3456789"), 8, Overlong::Refuse).unwrap_err();
        assert!(
            error.to_string().starts_with(
                "a.jsonl:7: the example has 11 tokens, and the context has room for 9"
            ),
            "{error}"
        );
        let cut = encode(&completion("12", "3456789"), 8, Overlong::Cut).unwrap();
        assert_eq!(shown(&cut[0]), "...345678");
    }

    #[test]
    fn an_example_whose_answers_are_cut_off_is_an_error() {
        let error = encode(&completion("123456789", "x"), 8, Overlong::Cut).unwrap_err();
        assert!(error.to_string().contains("nothing to learn"), "{error}");
    }

    #[test]
    fn what_the_tokenizer_says_is_told_with_the_line() {
        let error = encode(&completion("☠", "x"), 8, Overlong::Cut).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a.jsonl:7: the tokenizer refuses this text: a skull"
        );
    }

    #[test]
    fn a_token_that_the_model_does_not_have_is_an_error() {
        struct Wrong;
        impl Tokenizer for Wrong {
            fn encode(&self, _: &str, _: bool) -> Result<Vec<u32>, TokenizerError> {
                Ok(vec![1, 9])
            }
            fn vocabulary(&self) -> u32 {
                9
            }
        }
        let encoder = Encoder::new(&Wrong, None, None, 8, Overlong::Refuse).unwrap();
        let record = Record::Text(Passage::whole("x"));
        let error = encoder.encode(&record, Path::new("a"), 1, &mut Vec::new());
        assert!(matches!(error, Err(Error::Vocabulary { token: 9, .. })));
        assert!(matches!(
            Encoder::new(&Wrong, None, Some("</s>"), 8, Overlong::Refuse).err(),
            Some(Error::EndToken { found: 2, .. })
        ));
    }

    #[test]
    fn conversations_need_a_template() {
        let encoder = Encoder::new(&Bytes, None, None, 8, Overlong::Refuse).unwrap();
        let record = Record::Chat(Chat::default());
        let error = encoder.encode(&record, Path::new("a"), 1, &mut Vec::new());
        assert!(matches!(error, Err(Error::NoTemplate { .. })));
    }

    proptest! {
        #[test]
        fn each_token_of_a_cut_text_is_learnt_once(
            length in 2_u32..200,
            columns in 1_usize..20,
        ) {
            let tokens: Vec<u32> = (0..length).collect();
            let learnt: Vec<u32> = pieces(&tokens, columns)
                .inspect(|piece| assert!((1..=columns).contains(&piece.columns())))
                .flat_map(|piece| piece.tokens.into_iter().skip(1))
                .collect();
            prop_assert_eq!(&learnt, &tokens[1..]);
        }
    }
}
